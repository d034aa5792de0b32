"""The three kinds of servers that are measured, started and ended."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Self

import grpc.aio
import psutil

from benchmarks import other_build
from benchmarks.wire import raw_pb2, raw_pb2_grpc
from server_fixture.fixture import FixtureError, ServeFixture
from servestream_client import FlowControl, StreamClient, SyncStreamClient
from servestream_client.codecs import Codec
from servestream_client.testing.ray_serve.cluster import Ingress

SERVICERS = ("benchmarks.wire.raw_pb2_grpc.add_RawServiceServicer_to_server",)
START_SECONDS = 60.0
STOP_SECONDS = 5.0

CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # As the client's: a channel is a connection.
    ("grpc.use_local_subchannel_pool", 1),
]


class Mode(StrEnum):
    """How requests reach the service."""

    PROXY = "proxy"
    """Ray Serve with its own proxy in Python, the default."""
    HAPROXY = "haproxy"
    """Ray Serve with HAProxy."""
    PLAIN = "plain"
    """A `grpc.aio` server in another process, no Ray."""


class ServerError(Exception):
    """A server did not start, or has died."""


class Servers(ABC):
    """The services of one mode, running.

    Attributes:
        mode: which one.
    """

    mode: Mode

    @abstractmethod
    def require(self, application: str) -> str:
        """The target of an application, which is started if it does not run yet."""

    @abstractmethod
    def carriers(self) -> list[psutil.Process]:
        """The processes that items pass through: the ingress, and those of the services."""

    def client(
        self,
        application: str,
        *,
        flow: FlowControl | None = None,
        codec: Codec[Any, Any] | None = None,
    ) -> StreamClient[Any, Any]:
        """A client of an application."""
        target = self.require(application)
        if codec is None:
            return StreamClient(target, application=application, flow=flow)
        return StreamClient(target, application=application, flow=flow, codec=codec)

    def blocking_client(self, application: str) -> SyncStreamClient[bytes, bytes]:
        """A blocking client of an application."""
        return SyncStreamClient(self.require(application), application=application)

    def raw(self, application: str) -> RawConnection:
        """A channel and a generated stub for an application."""
        return RawConnection(self.require(application), application)


class RawConnection:
    """A channel with a generated stub, and the metadata that Ray Serve routes by.

    Attributes:
        stub: the generated one.
        metadata: for every call.
    """

    def __init__(self, target: str, application: str) -> None:
        self._channel = grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
        self.stub: raw_pb2_grpc.RawServiceAsyncStub = raw_pb2_grpc.RawServiceStub(  # type: ignore[assignment]
            self._channel
        )
        self.metadata = (("application", application),)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close(grace=None)


@contextmanager
def running(
    mode: Mode,
    applications: Sequence[str],
    *,
    replicas: int = 1,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Servers]:
    """Services of a mode, ended in the end.

    Raises:
        ServerError: they do not start.
    """
    servers: ServeServers | PlainServers
    if mode is Mode.PLAIN:
        servers = PlainServers()
    else:
        servers = ServeServers(mode, applications, replicas=replicas, say=say)
    try:
        servers.start()
        for application in applications:
            servers.require(application)
        yield servers
    except FixtureError as error:
        raise ServerError(str(error)) from error
    finally:
        say("ending the servers")
        servers.stop()


class ServeServers(Servers):
    """Ray Serve, by `server_fixture`.

    Attributes:
        fixture: the fixture itself, to kill replicas with.
    """

    def __init__(
        self, mode: Mode, applications: Sequence[str], *, replicas: int, say: Callable[[str], None]
    ) -> None:
        self.mode = mode
        self.fixture = ServeFixture(
            [_builder(name) for name in applications],
            Ingress(mode.value),
            replicas=replicas,
            servicers=SERVICERS,
            on_phase=say,
        )
        self._direct: set[str] = set()

    def start(self) -> None:
        self.fixture.start()

    def stop(self) -> None:
        self.fixture.stop()

    def require(self, application: str) -> str:
        if _builder(application) not in self.fixture.applications:
            self.fixture.deploy(_builder(application))
        if self.mode is Mode.HAPROXY and application not in self._direct:
            self._wait_until_direct(application)
            self._direct.add(application)
        return self.fixture.target

    def _wait_until_direct(self, application: str) -> None:
        """Until HAProxy leads to a replica. Before, it leads to the default proxy, which streams
        opened then would keep.
        """
        deadline = time.monotonic() + START_SECONDS
        with grpc.insecure_channel(self.fixture.target) as channel:
            stub = raw_pb2_grpc.RawServiceStub(channel)
            metadata = (("application", application),)
            while True:
                stub.Single(raw_pb2.SingleRequest(), metadata=metadata, timeout=START_SECONDS)
                replicas = [p for p in self.carriers() if f":{application}:" in p.name()]
                if any(map(_is_reached, replicas)):
                    return
                if time.monotonic() > deadline:
                    raise ServerError("HAProxy does not lead to the replicas")
                time.sleep(0.2)

    def carriers(self) -> list[psutil.Process]:
        return [each for each in self.fixture.processes() if _carries(each)]


_CARRIERS = ("ray::ProxyActor", "ray::HAProxyManager", "ray::ServeReplica", "haproxy")


def _carries(process: psutil.Process) -> bool:
    try:
        command = process.cmdline()
    except psutil.Error:  # gone
        return False
    return bool(command) and Path(command[0]).name.startswith(_CARRIERS)


def _is_reached(replica: psutil.Process) -> bool:
    """Whether somebody is connected to a replica's own gRPC port."""
    environment = replica.environ()
    first = int(environment["RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT"])
    last = int(environment["RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT"])
    return any(
        first <= connection.laddr.port <= last and connection.status == psutil.CONN_ESTABLISHED
        for connection in replica.net_connections("tcp")
    )


def _builder(application: str) -> str:
    return f"benchmarks.applications:{application}"


class PlainServers(Servers):
    """A process with a `grpc.aio` server for each application."""

    mode = Mode.PLAIN

    def __init__(self) -> None:
        self._processes: dict[str, _PlainServer] = {}

    def start(self) -> None:
        """Each starts when it is required."""

    def stop(self) -> None:
        while self._processes:
            _, process = self._processes.popitem()
            process.stop()

    def require(self, application: str) -> str:
        if application not in self._processes:
            self._processes[application] = _PlainServer(application)
        return self._processes[application].target

    def pid(self, application: str) -> int:
        """The process of an application that runs."""
        return self._processes[application].pid

    def release(self, application: str) -> None:
        """End the process of an application that is not needed any more."""
        self._processes.pop(application).stop()

    def carriers(self) -> list[psutil.Process]:
        return [psutil.Process(server.pid) for server in self._processes.values()]


def child_environment() -> dict[str, str]:
    """For a process that imports this package, wherever it is started."""
    root = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


def _environment(application: str) -> dict[str, str]:
    """The same for a server, of whichever build."""
    there = application.endswith(other_build.SUFFIX)
    return {**child_environment(), **(other_build.environment() if there else {})}


class _PlainServer:
    def __init__(self, application: str) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 — it lives as long as the process
        self._process = subprocess.Popen(  # noqa: S603 — our own module, our own arguments
            [sys.executable, "-P", "-m", "benchmarks.plain_server", application],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=_environment(application),
            # A Ctrl-C at the terminal is for the parent, which then ends it.
            start_new_session=True,
        )
        self.pid = self._process.pid
        try:
            self.target = f"127.0.0.1:{self._port()}"
        except BaseException:  # Ctrl-C as well: nothing of it may stay
            self.stop()
            raise

    def _port(self) -> int:
        lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        assert self._process.stdout is not None  # noqa: S101 — it is a pipe
        threading.Thread(
            target=_first_line, args=(self._process.stdout, lines), daemon=True
        ).start()
        try:
            line = lines.get(timeout=START_SECONDS)
        except queue.Empty:
            line = b""
        if not line.strip().isdigit():
            self._log.seek(0)
            log = self._log.read().decode(errors="replace")
            raise ServerError(f"the plain server did not start; the end of its log:\n{log[-2000:]}")
        return int(line)

    def stop(self) -> None:
        assert self._process.stdin is not None  # noqa: S101 — it is a pipe
        self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()


def _first_line(output: IO[bytes], lines: queue.SimpleQueue[bytes]) -> None:
    lines.put(output.readline())
