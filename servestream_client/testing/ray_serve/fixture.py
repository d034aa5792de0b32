"""A real Ray Serve in a process of its own, for tests and for the demo."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

import psutil

from servestream_client.testing.faults import Fault
from servestream_client.testing.ray_serve.cluster import (
    MARK,
    SLOW_START,
    Ingress,
    end,
    free_ports,
    members,
    new_directory,
)

__all__ = ["FixtureError", "Replica", "ServeFixture"]

# Each is for a busy machine; where all is well nobody waits that long.
START_SECONDS = 400.0
REPLY_SECONDS = 60.0
DEPLOY_SECONDS = 240.0  # the answer comes when every replica has started
REPLICAS_SECONDS = 180.0
STOP_SECONDS = 30.0
DEATH_SECONDS = 10.0
_LOG_LINES = 25


class FixtureError(Exception):
    """The fixture cannot do what it was asked for, or its process has died."""


class Replica(NamedTuple):
    """One replica that serves, or served.

    Attributes:
        name: as `StreamStatistics.replica` has it.
        pid: its process.
        application: which application it belongs to.
    """

    name: str
    pid: int
    application: str


class ServeFixture:
    """Ray Serve on this machine, with replicas that can be killed and faults by plan.

    Use it as a context manager, or call `start` and `stop`. Its methods may be called from any
    thread, one call at a time goes through.

    Args:
        applications: import paths, as for `servestream_client.testing.ray_serve.cluster.deploy`.
        ingress: how requests reach the replicas.
        replicas: of each application that is a function.
        servicers: import paths of servicer functions of other gRPC services that the applications
            speak.
        faulty: whether services that know nothing of faults shall fail by plan, too.
        port: of the gRPC ingress; None: a free one.
        request_timeout: Serve's `request_timeout_s`, in seconds, for whole streams; None: none.
        on_phase: called with what is being waited for while Serve starts.
    """

    def __init__(
        self,
        applications: Sequence[str],
        ingress: Ingress = Ingress.PROXY,
        *,
        replicas: int = 2,
        servicers: Sequence[str] = (),
        faulty: bool = False,
        port: int | None = None,
        request_timeout: float | None = None,
        on_phase: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.ingress = ingress
        self.applications: list[str] = list(applications)
        self.replicas = replicas
        self.faulty = faulty
        self.request_timeout = request_timeout
        self.servicers: list[str] = list(servicers)
        self.port: int = port if port is not None else free_ports(1)[0]
        self.id: str = uuid.uuid4().hex
        self._on_phase = on_phase
        self._lock = threading.Lock()
        self._requests = 0
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._directory: Path | None = None
        self._deployed: dict[str, int] = {}

    @property
    def target(self) -> str:
        """``host:port`` of the gRPC ingress."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process that started Ray.

        Raises:
            FixtureError: it is not running.
        """
        if self._process is None:
            raise FixtureError("the fixture is not running")
        return self._process.pid

    # ---------------------------------------------------------------- life

    def start(self) -> None:
        """Start Ray and Serve, and return when every application is ready (about 30 s).

        Raises:
            FixtureError: it died, or was not ready in time; with the end of its log.
        """
        if self._process is not None:
            raise FixtureError("the fixture runs already")
        try:
            self._start()
        except FixtureError as error:
            if SLOW_START not in str(error):
                raise
            self._on_phase("starting Ray once more, since it was too slow")
            self._start()

    def _start(self) -> None:
        self._directory = Path(new_directory())
        self._messages = queue.SimpleQueue()
        try:
            self._process = self._spawn(self._directory)
            self._reader = threading.Thread(
                target=_read, args=(self._process.stdout, self._messages), daemon=True
            )
            self._reader.start()
            deadline = time.monotonic() + START_SECONDS
            while "ready" not in (message := self._receive(deadline, "ready")):
                self._on_phase(message.get("phase", ""))
            self._count_replicas()
        except BaseException:  # Ctrl-C as well: nothing of it may stay
            self.stop()
            raise

    def _spawn(self, directory: Path) -> subprocess.Popen[str]:
        # What can be imported here can be imported there, and in the replicas.
        path = os.pathsep.join(filter(None, dict.fromkeys([*map(os.path.abspath, sys.path)])))
        options = {
            "applications": self.applications,
            "ingress": self.ingress,
            "port": self.port,
            "replicas": self.replicas,
            "servicers": self.servicers,
            "directory": str(directory),
            "faulty": self.faulty,
            "request_timeout": self.request_timeout,
        }
        package = "servestream_client.testing.ray_serve"
        command = [sys.executable, "-m", package, json.dumps(options)]
        with (directory / "stderr.log").open("wb") as log:
            return subprocess.Popen(  # noqa: S603 — our own module, our own arguments
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, MARK: self.id, "PYTHONPATH": path},
                # A Ctrl-C at the terminal is for the parent, which then stops the fixture.
                start_new_session=True,
            )

    def stop(self) -> None:
        """End everything that was started. Bounded in time; harmless twice."""
        process, self._process = self._process, None
        if process is not None:
            _close(process.stdin)  # which tells it to end
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        end(self.id)
        if self._reader is not None:
            self._reader.join()
            self._reader = None
        if process is not None:
            _close(process.stdout)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def processes(self) -> list[psutil.Process]:
        """Every process that belongs to it: the one that started Ray, Ray's, and HAProxy."""
        return list(members(self.id))

    # ---------------------------------------------------------------- replicas

    def enrolled(self) -> list[Replica]:
        """Every replica that ever served here.

        Raises:
            FixtureError: the fixture's process does not answer.
        """
        return [
            Replica(name, each["pid"], each["application"])
            for name, each in self._ask("enrolled").items()
        ]

    def pids(self) -> dict[str, int]:
        """Every replica that ever served here, and its process.

        Raises:
            FixtureError: the fixture's process does not answer.
        """
        return {replica.name: replica.pid for replica in self.enrolled()}

    def replicas_alive(self, application: str | None = None) -> list[Replica]:
        """The replicas whose processes live; of one application, or of all.

        Raises:
            FixtureError: the fixture's process does not answer.
        """
        return [
            replica
            for replica in self.enrolled()
            if application in (None, replica.application) and self._lives(replica.pid)
        ]

    def kill_replica(self, replica: str) -> int:
        """SIGKILL a replica's process, and return its id once it is dead.

        Raises:
            FixtureError: no such replica served here, it is dead already, or it does not die.
        """
        pid = self.pids().get(replica)
        if pid is None:
            raise FixtureError(f"no replica {replica!r} ever served here")
        dead = FixtureError(f"replica {replica!r} (process {pid}) is dead already")
        if not self._lives(pid):
            raise dead
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            raise dead from None
        self._wait_for_death(replica, pid)
        return pid

    def _wait_for_death(self, replica: str, pid: int) -> None:
        # A process with much memory outlives the signal for a while, and until then whoever looks
        # for replicas finds this one among those alive.
        deadline = time.monotonic() + DEATH_SECONDS
        while self._lives(pid):
            if time.monotonic() > deadline:
                raise FixtureError(f"replica {replica!r} (process {pid}) outlives SIGKILL")
            time.sleep(0.005)

    def wait_for_replicas(
        self,
        count: int | None = None,
        application: str | None = None,
        *,
        timeout: float = REPLICAS_SECONDS,
    ) -> None:
        """Wait until so many replicas live and can serve.

        Args:
            count: how many; None: as many as enrolled when the application was deployed.
            application: which one's; None: each one's that enrols.
            timeout: seconds. A replica that was killed may take long to be replaced where many
                start at once.

        Raises:
            FixtureError: it took too long, or the fixture's process does not answer.
        """
        names = list(self._deployed) if application is None else [application]
        wanted = {name: self._deployed[name] if count is None else count for name in names}
        deadline = time.monotonic() + timeout
        while True:
            alive = [replica.application for replica in self.replicas_alive()]
            if all(alive.count(name) >= number for name, number in wanted.items()):
                return
            if time.monotonic() > deadline:
                raise FixtureError(f"there should be replicas {wanted}, and there are {alive}")
            time.sleep(0.1)

    def _count_replicas(self) -> None:
        names = [replica.application for replica in self.replicas_alive()]
        self._deployed |= {name: names.count(name) for name in names if name not in self._deployed}

    def _lives(self, pid: int) -> bool:
        try:
            return psutil.Process(pid).environ().get(MARK) == self.id
        except psutil.Error:  # gone, a zombie, or somebody else's by now
            return False

    # ---------------------------------------------------------------- the rest

    def deploy(self, application: str) -> None:
        """Deploy another application beside those that are there.

        Args:
            application: as for the class.

        Raises:
            FixtureError: it cannot be deployed.
        """
        self._ask("deploy", application, seconds=DEPLOY_SECONDS)
        self.applications.append(application)
        self._count_replicas()

    def metrics(self) -> str:
        """The page that Prometheus reads of this node.

        Raises:
            FixtureError: it cannot be read.
        """
        page: str = self._ask("metrics")
        return page

    def add_faults(self, *faults: Fault) -> None:
        """Plan faults, for streams that open from now on.

        Raises:
            FixtureError: the fixture's process does not answer.
        """
        self._ask("add", *(fault.to_json() for fault in faults))

    def clear_faults(self) -> None:
        """Forget all faults: those to come, and those that have fired.

        Raises:
            FixtureError: the fixture's process does not answer.
        """
        self._ask("clear")

    def fired(self) -> list[Fault]:
        """The faults that have fired since they were last cleared, in that order.

        Raises:
            FixtureError: the fixture's process does not answer.
        """
        return [Fault.from_json(each) for each in self._ask("fired")]

    # ---------------------------------------------------------------- the subprocess

    def _ask(self, command: str, *arguments: object, seconds: float = REPLY_SECONDS) -> Any:  # noqa: ANN401 — JSON
        with self._lock:
            process = self._process
            if process is None or process.stdin is None:
                raise FixtureError("the fixture is not running")
            self._requests += 1
            request = {"id": self._requests, "do": command, "arguments": arguments}
            try:
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
            except OSError as error:
                raise self._died() from error
            deadline = time.monotonic() + seconds
            while (reply := self._receive(deadline, command)).get("id") != self._requests:
                pass  # a late answer to a request that was given up
            if "error" in reply:
                raise FixtureError(f"{command}: {reply['error']}")
            return reply["result"]

    def _receive(self, deadline: float, what: str) -> dict[str, Any]:
        try:
            message = self._messages.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise FixtureError(
                f"no answer to {what!r} in time; the end of the fixture's log:\n{self._log()}"
            ) from None
        if message is None:
            raise self._died()
        return message

    def _died(self) -> FixtureError:
        self._messages.put(None)  # for the next that asks
        code: int | None = None
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._process.wait(5)
        return FixtureError(
            f"the fixture's process died (exit code {code}); the end of its log:\n{self._log()}"
        )

    def _log(self) -> str:
        if self._directory is None:
            return "(none)"
        text = (self._directory / "stderr.log").read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-_LOG_LINES:]) or "(empty)"


def _read(replies: IO[str], messages: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    for line in replies:
        messages.put(json.loads(line))
    messages.put(None)


def _close(stream: IO[str] | None) -> None:
    if stream is not None:
        with contextlib.suppress(OSError):  # what was still to be written has no reader
            stream.close()
