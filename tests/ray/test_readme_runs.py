"""What README and the tutorial show of Ray Serve, run as a reader would run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from servestream_client.testing.ray_serve.cluster import (
    Ingress,
    end,
    environment,
    free_ports,
    members,
    new_directory,
)

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]


def blocks(page: str, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


class Folder:
    """A reader's folder, for a free port instead of 9000."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (self.port,) = free_ports(1)
        self.mark, self.directory = uuid.uuid4().hex, new_directory()

    def write(self, name: str, text: str) -> None:
        assert "9000" in text
        (self.path / name).write_text(text.replace("9000", str(self.port)))

    @contextmanager
    def serving(self, script: str) -> Iterator[subprocess.Popen[bytes]]:
        """The script's process; whatever it starts ends."""
        settings = {**os.environ, **environment(Ingress.PROXY, self.directory, self.mark)}
        settings["RAY_TMPDIR"] = self.directory
        log = self.path / "server.log"
        try:
            with log.open("wb") as output:
                server = subprocess.Popen(
                    [sys.executable, script],
                    cwd=self.path,
                    env=settings,
                    stdout=output,
                    stderr=output,
                )
            yield server
            assert server.poll() is None, log.read_text()
            server.terminate()
            server.wait(30)
        finally:
            end(self.mark)

    def run(self, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command],
            cwd=self.path,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def until_served(
        self, server: subprocess.Popen[bytes], *command: str, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """The same, once the server is up; the test's own limit ends a vain wait."""
        while True:
            done = self.run(*command, stdin=stdin)
            if done.returncode == 0 or server.poll() is not None:
                return done
            assert re.search(r"servestream_client\.errors\.|^error: ", done.stderr, re.MULTILINE)


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
    (client,) = [block for block in blocks(page) if "from service import" in block]
    (shell,) = [block for block in blocks(page, "console") if "servestream call" in block]
    (kill,) = [block for block in blocks(page, "console") if "pkill" in block]
    folder = Folder(tmp_path)
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


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
