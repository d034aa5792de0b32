"""What README, the pages and the examples show of Ray Serve, run as a reader would run it: all that
a script serves on one Ray, one script after the other, and all that `serve run` serves on another.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import httpx
import psutil
import pytest
import yaml
from folder import Folder

from servestream_client.testing.ray_serve.cluster import free_ports, members

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def blocks(page: str, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_scripts(tmp_path: Path) -> None:
    """Of README, of the tutorial and of the example with batches."""
    folder = Folder(tmp_path)
    client = _write_ten_lines(folder)
    with folder.serving("app.py") as server:
        done = folder.until_served(server, client)
        assert done.stdout.splitlines() == ["b'HELLO'", "b'WORLD'"]
        _tutorial(folder)
        _batches(folder)


def _write_ten_lines(folder: Folder) -> str:
    (app,) = [block for block in blocks("README.md") if "serve.run" in block]
    (client,) = [block for block in blocks("README.md") if "asyncio.run" in block]
    for block in (app, client):
        assert len([line for line in block.splitlines() if line.strip()]) <= 10
    folder.write("app.py", app)
    folder.write("client.py", client)
    return "client.py"


def _tutorial(folder: Folder) -> None:
    page = "docs/tutorial.md"
    (service,) = [block for block in blocks(page) if "serve.run" in block]
    (client,) = [block for block in blocks(page) if "async for" in block]
    (types,) = [block for block in blocks(page) if "JsonCodec(" in block]
    (shell,) = [block for block in blocks(page, "console") if "servestream call" in block]
    (kill,) = [block for block in blocks(page, "console") if "pkill" in block]
    (folder.path / "words.py").write_text(types)
    folder.write("service.py", service)
    folder.write("client.py", client)
    item = re.search(r"echo '(.*?)'", shell)
    assert item
    call = re.sub(r".*servestream call", "call", shell.strip()).replace("9000", str(folder.port))
    with folder.serving_instead("upper", "service.py") as server:
        command = ("-m", "servestream_client.cli", *call.split())
        done = folder.until_served(server, *command, stdin=item[1])
        assert '"words":4' in done.stdout
        done = folder.run("client.py")
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert [int(line.split()[0]) for line in lines[:-1]] == list(range(10_000, 100_001, 10_000))
        assert "received=100000" in lines[-1]
        title = re.search(r'"(ray::.*?)"', kill)
        assert title
        assert len([each for each in members(folder.mark) if title[1] in _title(each)]) == 2


def _batches(folder: Folder) -> None:
    for name in ("service.py", "client.py"):
        folder.write(name, (EXAMPLES / "batching" / name).read_text())
    with folder.serving_instead("words", "service.py") as server:
        done = folder.until_served(server, "client.py")
    assert done.stdout.endswith("of 1797 are right\n"), done.stderr
    assert int(done.stdout.split()[0]) > 1600


@pytest.mark.long
def test_deployments_that_were_there_before(tmp_path: Path) -> None:
    """The page's, all by the config file that it has for the first, and beside them what the
    example's config file deploys on a cluster.
    """
    page = "docs/how-to/existing-cluster.md"
    config = yaml.safe_load(blocks(page, "yaml")[0])
    (shell,) = [block for block in blocks(page, "console") if "serve run" in block]
    shown = [block for block in blocks(page) if "bind(" in block]
    modules = dict(zip(("sentiment", "plain", "fastapi_ingress", "composed"), shown, strict=True))
    for name, block in modules.items():
        (tmp_path / f"{name}.py").write_text(block)
    (http,) = free_ports(1)
    config["http_options"]["port"] = http
    config["applications"] += [
        {"name": name, "route_prefix": f"/{name}", "import_path": f"{name}:app"}
        for name in list(modules)[1:]
    ]
    free = {"ray_actor_options": {"num_cpus": 0}}  # seven replicas, on however few cores
    for application in config["applications"]:
        names = re.findall(r"^class (\w+)", modules[application["name"]], re.MULTILINE)
        application["deployments"] = [{"name": name, **free} for name in names]
    shutil.copy(EXAMPLES / "cluster" / "model.py", tmp_path)
    example = yaml.safe_load((EXAMPLES / "cluster" / "serve.yaml").read_text())
    assert example["grpc_options"] == config["grpc_options"]
    (model,) = example["applications"]
    (deployment,) = model["deployments"]
    deployment |= free
    config["applications"].append(model)
    folder = Folder(tmp_path)
    folder.write("serve.yaml", yaml.safe_dump(config))
    serve, call, answer = shell.splitlines()
    item = re.search(r"echo '(.*?)'", call)
    assert item
    assert serve == "$ serve run serve.yaml"
    command = re.sub(r".*servestream call", "call", call).replace("9000", str(folder.port))
    with folder.serving("-m", "ray.serve.scripts", "run", "serve.yaml") as server:
        run = ("-m", "servestream_client.cli")
        done = folder.until_served(server, *run, *command.split(), stdin=item[1])
        assert done.stdout.strip() == answer
        run = (*run, "call", f"127.0.0.1:{folder.port}", "--application")
        assert folder.until_served(server, *run, "plain", stdin="one").stdout == '"ONE!"\n'
        done = folder.until_served(server, *run, "fastapi_ingress", stdin="one")
        assert done.stdout == '"ONE"\n'
        done = folder.until_served(server, *run, "composed", stdin="one\ntwo")
        assert done.stdout.splitlines() == ['"ONE"', '"TWO"']
        folder.until_served(server, *run, "model", "--codec", "json", stdin='{"image": 0}\n')
        _looks_at_images(folder, *run, "model", "--codec", "json", "--keep-going")
        # And HTTP goes on.
        url = f"http://127.0.0.1:{http}"
        assert httpx.post(f"{url}/", json={"text": "so so"}).json() == {"positive": False}
        assert httpx.post(f"{url}/plain", content=b"one").text == "ONE!"
        assert httpx.get(f"{url}/fastapi_ingress/upper/one").json() == "ONE"


def _looks_at_images(folder: Folder, *command: str) -> None:
    items = '{"image": 7}\n{"image": 99999}\n{"image": 8}\n'
    done = folder.run(*command, stdin=items)
    first, failed, last = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 1
    assert (first["digit"], last["digit"]) == (7, 8)
    assert failed["error"]["kind"] == "handler"


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
