"""The examples that bring a deployment of their own, on a real Ray Serve."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from folder import Folder

from servestream_client.testing.ray_serve.cluster import free_ports

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_a_batch_handler(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("service.py", (EXAMPLES / "batching" / "service.py").read_text())
    folder.write("client.py", (EXAMPLES / "batching" / "client.py").read_text())
    with folder.serving("service.py") as server:
        done = folder.until_served(server, "client.py")
    assert done.stdout.endswith("of 1797 are right\n"), done.stderr
    assert int(done.stdout.split()[0]) > 1600


def test_a_config_file_and_the_command_line(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    shutil.copy(EXAMPLES / "cluster" / "model.py", tmp_path)
    (http,) = free_ports(1)
    config = (EXAMPLES / "cluster" / "serve.yaml").read_text()
    folder.write("serve.yaml", f"{config}http_options:\n  host: 127.0.0.1\n  port: {http}\n")
    items = '{"image": 7}\n{"image": 99999}\n{"image": 8}\n'
    target = f"127.0.0.1:{folder.port}"
    command = ("-m", "servestream_client.cli", "call", target, "--codec", "json")
    with folder.serving("-m", "ray.serve.scripts", "run", "serve.yaml") as server:
        folder.until_served(server, *command, stdin='{"image": 0}\n')
        done = folder.run(*command, "--keep-going", stdin=items)
    first, failed, last = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 1
    assert (first["digit"], last["digit"]) == (7, 8)
    assert failed["error"]["kind"] == "handler"
