"""What README and the tutorial show of Ray Serve, run as a reader would run it."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import psutil
import pytest
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
    folder.write("client.py", client.replace("100_000", "5_000").replace("10_000", "1_000"))
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
        assert [int(line.split()[0]) for line in lines[:-1]] == [0, 1000, 2000, 3000, 4000]
        assert "received=5000" in lines[-1]
        title = re.search(r'"(ray::.*?)"', kill)
        assert title
        assert len([each for each in members(folder.mark) if title[1] in _title(each)]) == 2


_ALL = """
import ray, composed, fastapi_ingress, plain
from ray import serve
from ray.serve.config import HTTPOptions, gRPCOptions
from servestream_client.server import GRPC_SERVICER_FUNCTIONS

serve.start(
    http_options=HTTPOptions(port=HTTP),
    grpc_options=gRPCOptions(port=9000, grpc_servicer_functions=GRPC_SERVICER_FUNCTIONS),
)
for module in (plain, fastapi_ingress, composed):
    serve.run(module.app, name=module.__name__, route_prefix=f"/{module.__name__}")
print("up", flush=True)
import signal
signal.pause()
"""


def test_deployments_that_were_there_before(tmp_path: Path) -> None:
    shown = [block for block in blocks("docs/how-to/existing-cluster.md") if "bind(" in block]
    (http,) = free_ports(1)
    folder = Folder(tmp_path)
    for name, block in zip(("plain", "fastapi_ingress", "composed"), shown, strict=True):
        (tmp_path / f"{name}.py").write_text(block)
    folder.write("serving.py", _ALL.replace("HTTP)", f"{http})"))
    call = ("-m", "servestream_client.cli", "call", f"127.0.0.1:{folder.port}", "--application")
    with folder.serving("serving.py") as server:
        done = folder.until_served(server, *call, "composed", stdin="one\ntwo")
        assert done.stdout.splitlines() == ['"ONE"', '"TWO"']
        assert folder.run(*call, "plain", stdin="one").stdout == '"ONE!"\n'
        assert folder.run(*call, "fastapi_ingress", stdin="one").stdout == '"ONE"\n'
        # And HTTP goes on.
        url = f"http://127.0.0.1:{http}"
        assert httpx.post(f"{url}/plain", content=b"one").text == "ONE!"
        assert httpx.get(f"{url}/fastapi_ingress/upper/one").json() == "ONE"


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
