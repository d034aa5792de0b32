"""A folder in which a reader tries what the pages show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servestream_client.testing.ray_serve.cluster import (
    Ingress,
    end,
    environment,
    free_ports,
    new_directory,
)


class Folder:
    """A reader's folder, for a free port instead of 9000."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (self.port,) = free_ports(1)
        self.mark, self.directory = uuid.uuid4().hex, new_directory()

    def write(self, name: str, text: str) -> None:
        """A file, which names the port."""
        assert "9000" in text
        (self.path / name).write_text(text.replace("9000", str(self.port)))

    @contextmanager
    def serving(self, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        """The process of a Python command; whatever it starts ends."""
        settings = {**os.environ, **environment(Ingress.PROXY, self.directory, self.mark)}
        settings["RAY_TMPDIR"] = self.directory
        log = self.path / "server.log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.path,
                env=settings,
                stdout=output,
                stderr=output,
            )
        try:
            yield server
            assert server.poll() is None, log.read_text()
            server.terminate()
            server.wait(30)
        finally:
            end(self.mark)
            server.wait()

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
