"""A folder in which a reader tries what the pages show."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from chaos.processes import gcs_address
from servestream_client.testing.ray_serve.cluster import (
    SLOW_START,
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
        self._settings: dict[str, str] = {}

    def write(self, name: str, text: str) -> None:
        """A file, which names the port."""
        assert "9000" in text
        (self.path / name).write_text(text.replace("9000", str(self.port)))

    @contextmanager
    def serving(self, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        """The process of a Python command, with a Ray of its own; whatever it starts ends."""
        self._settings = {**os.environ, **environment(Ingress.PROXY, self.directory, self.mark)}
        self._settings["RAY_TMPDIR"] = self.directory
        try:
            with self._process(*command) as server:
                yield server
        finally:
            end(self.mark)

    @contextmanager
    def serving_instead(self, application: str, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        """The process of another Python command, on the same Ray, when that application is gone."""
        # Who starts a Ray is known to it, and who comes later must show the token.
        self._settings |= {"RAY_ADDRESS": gcs_address(self.mark), "RAY_AUTH_MODE": "token"}
        delete = f"import ray; from ray import serve; ray.init(); serve.delete({application!r})"
        deleted = subprocess.run(
            [sys.executable, "-c", delete],
            env=self._settings,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert deleted.returncode == 0, deleted.stderr
        with self._process(*command) as server:
            yield server

    @contextmanager
    def _process(self, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        log = self.path / f"{command[0]}.log"
        with ExitStack() as stack:
            server = stack.enter_context(self._started(log, *command))
            if server.poll() is not None and SLOW_START in log.read_text():
                server = stack.enter_context(self._started(log, *command))
            yield server
            assert server.poll() is None, log.read_text()

    @contextmanager
    def _started(self, log: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        """It listens, or has ended."""
        with log.open("wb") as output:
            server = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.path,
                env=self._settings,
                stdout=output,
                stderr=output,
            )
        try:
            while server.poll() is None and not self._listens():
                time.sleep(0.5)
            yield server
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def run(self, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command],
            cwd=self.path,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=300,
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
            time.sleep(0.5)
