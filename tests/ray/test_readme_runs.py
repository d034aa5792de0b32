"""What README and the pages show of Ray Serve, run as a reader would run it."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import psutil
import pytest
import yaml
from folder import Folder

from servestream_client.testing.ray_serve.cluster import free_ports, members

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]


def blocks(page: str, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_the_ten_line_deployment_serves_the_ten_line_client(tmp_path: Path) -> None:
    (app,) = [block for block in blocks("README.md") if "serve.run" in block]
    (client,) = [block for block in blocks("README.md") if "asyncio.run" in block]
    for block in (app, client):
        assert len([line for line in block.splitlines() if line.strip()]) <= 10
    folder = Folder(tmp_path)
    folder.write("app.py", app)
    folder.write("client.py", client)
    with folder.serving("app.py") as server:
        done = folder.until_served(server, "client.py")
    assert done.stdout.splitlines() == ["b'HELLO'", "b'WORLD'"]


def test_the_tutorial(tmp_path: Path) -> None:
    page = "docs/tutorial.md"
    (service,) = [block for block in blocks(page) if "serve.run" in block]
    (client,) = [block for block in blocks(page) if "async for" in block]
    (types,) = [block for block in blocks(page) if "JsonCodec(" in block]
    (shell,) = [block for block in blocks(page, "console") if "servestream call" in block]
    (kill,) = [block for block in blocks(page, "console") if "pkill" in block]
    folder = Folder(tmp_path)
    (tmp_path / "words.py").write_text(types)
    folder.write("service.py", service)
    folder.write("client.py", client)
    item = re.search(r"echo '(.*?)'", shell)
    assert item
    call = re.sub(r".*servestream call", "call", shell.strip()).replace("9000", str(folder.port))
    with folder.serving("service.py") as server:
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


def test_deployments_that_were_there_before(tmp_path: Path) -> None:
    """The page's, all of them by the config file that it has for the first."""
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
    for application in config["applications"]:  # five replicas, on however few cores
        names = re.findall(r"^class (\w+)", modules[application["name"]], re.MULTILINE)
        free = {"num_cpus": 0}
        application["deployments"] = [{"name": name, "ray_actor_options": free} for name in names]
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
        # And HTTP goes on.
        url = f"http://127.0.0.1:{http}"
        assert httpx.post(f"{url}/", json={"text": "so so"}).json() == {"positive": False}
        assert httpx.post(f"{url}/plain", content=b"one").text == "ONE!"
        assert httpx.get(f"{url}/fastapi_ingress/upper/one").json() == "ONE"


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
