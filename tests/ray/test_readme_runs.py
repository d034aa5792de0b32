"""README's deployment and its client, run as a reader would run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from servestream_client.testing.ray_serve.cluster import (
    Ingress,
    end,
    environment,
    free_ports,
    new_directory,
)

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

README = Path(__file__).resolve().parents[2] / "README.md"


def blocks(port: int) -> tuple[str, str]:
    """The deployment's code and the client's, for a free port instead of 9000."""
    found = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (app,) = [block for block in found if "serve.run" in block]
    (client,) = [block for block in found if "asyncio.run" in block]
    for block in (app, client):
        assert "9000" in block
        assert len([line for line in block.splitlines() if line.strip()]) <= 10
    return app.replace("9000", str(port)), client.replace("9000", str(port))


def test_the_ten_line_deployment_serves_the_ten_line_client(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    app, client = blocks(port)
    (tmp_path / "app.py").write_text(app)
    (tmp_path / "client.py").write_text(client)
    mark, directory = uuid.uuid4().hex, new_directory()
    settings = {**os.environ, **environment(Ingress.PROXY, directory, mark)}
    settings["RAY_TMPDIR"] = directory
    log = tmp_path / "app.log"
    try:
        with log.open("wb") as output:
            server = subprocess.Popen(
                [sys.executable, "app.py"], cwd=tmp_path, env=settings, stdout=output, stderr=output
            )
        while server.poll() is None:  # until it is up; the test's own limit ends a vain wait
            run = subprocess.run(
                [sys.executable, "client.py"],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            if run.returncode == 0:
                break
            assert "servestream_client.errors." in run.stderr, run.stderr
        assert server.poll() is None, log.read_text()
        assert run.stdout.splitlines() == ["b'HELLO'", "b'WORLD'"]
        server.terminate()
        server.wait(30)
    finally:
        end(mark)
