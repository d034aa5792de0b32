"""A local Ray cluster with Serve on it, started and ended in this process.

Import this before Ray: the ingress mode is decided by Ray's environment at import.
"""

from __future__ import annotations

import importlib
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

_INJECT = "servestream_client.testing.ray_serve.ledger.inject"

MARK = "SERVESTREAM_FIXTURE"
"""Every process of a cluster has this variable in its environment, with the cluster's id."""

SLOW_START = "timed out during startup"
"""What Ray says of a node that was not up within 30 s, which a busy machine may exceed."""


class Ingress(StrEnum):
    """How requests reach the replicas."""

    PROXY = "proxy"
    """Serve's own proxy in Python, the default."""
    HAPROXY = "haproxy"
    """HAProxy, and a gRPC server in every replica."""


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens.

    They lie below those that the system hands out by itself, of which any process may get one
    before the port's user has bound it.
    """
    found: list[int] = []
    while len(found) < count:
        port = 30_000 + secrets.randbelow(2_000)
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def new_directory() -> str:
    """A temporary directory with a path that is short enough for the sockets in it.

    Not where TMPDIR points to, which may lie deep.
    """
    return tempfile.mkdtemp(prefix="servestream-", dir="/tmp")


def environment(ingress: Ingress, directory: str, cluster_id: str) -> dict[str, str]:
    """What the process that starts Ray needs in its environment."""
    settings = {
        MARK: cluster_id,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        # A token of its own, so that Ray does not leave one in the home directory.
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # Ray then binds to loopback; it turns any other wish for 127.0.0.1 into the machine's
        # address. The name is of the systems where that is the default.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "GRPC_VERBOSITY": "ERROR",
        # Serve logs into the session's directory, and not to the terminal besides.
        "RAY_SERVE_LOG_TO_STDERR": "0",
        # Serve ends a proxy that is not up after its 5 s, which a busy machine may exceed.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        # One thread a library: there are as many processes as cores already.
        "OMP_NUM_THREADS": "1",
    }
    if ingress is Ingress.HAPROXY:
        metrics, stats = free_ports(2)
        # Replicas listen on ports of a fixed range. With one range for each cluster, the HAProxy
        # of one never finds a replica of another behind a port it still remembers.
        ports = 20_000 + 200 * secrets.randbelow(50)
        settings |= {
            "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ports),
            "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(ports + 99),
            "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(ports + 100),
            "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(ports + 199),
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{directory}/haproxy.cfg",
            "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{directory}/admin.sock",
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": directory,
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{directory}/server-state",
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        }
    return settings


def members(cluster_id: str) -> Iterator[psutil.Process]:
    """The processes of a cluster, this one left out."""
    mark = f"{MARK}={cluster_id}".encode()
    for process in psutil.process_iter():
        try:
            # Not `Process.environ()`: some of Ray's processes write their title over the start of
            # it, and psutil then finds nothing.
            marked = mark in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
        except OSError:  # gone, or somebody else's
            continue
        if marked and process.pid != os.getpid():
            yield process


def end(cluster_id: str, *, grace: float = 3.0) -> list[int]:
    """End every process of a cluster that is left, and return their ids.

    `ray stop` knows neither one cluster from another nor HAProxy, which it leaves running.
    """
    ended: list[int] = []
    while left := list(members(cluster_id)):
        for process in left:
            ended.append(process.pid)
            try:
                process.terminate()
            except psutil.Error:
                continue
        _, alive = psutil.wait_procs(left, timeout=grace)
        for process in alive:
            try:
                process.kill()
            except psutil.Error:
                continue
        psutil.wait_procs(alive, timeout=grace)
    return ended


def application_name(application: str) -> str:
    """The name that an application is deployed under: without the module that builds it."""
    return application.rpartition(":")[2]


class Ended(BaseException):
    """The process was told to end."""


@contextmanager
def until_told() -> Iterator[None]:
    """SIGINT and SIGTERM raise `Ended`, the first of them only: what follows is cleaning up."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        raise Ended

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, handle)
    yield


@contextmanager
def cluster(
    applications: Sequence[str],
    *,
    ingress: Ingress,
    port: int,
    replicas: int,
    servicers: Sequence[str] = (),
    directory: str | None = None,
    faulty: bool = False,
    request_timeout: float | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[None]:
    """Ray on loopback with Serve on it, and these applications on it.

    Args:
        applications: as for `deploy`.
        ingress: how requests reach the replicas.
        port: of the gRPC ingress.
        replicas: of each deployment.
        servicers: import paths of servicer functions of other gRPC services that the applications
            speak.
        directory: where Ray and HAProxy keep their files; its path must be short, since sockets
            lie in it. None: a temporary one, removed in the end.
        faulty: whether every `StreamService` shall enrol and fail by plan, as it is.
        request_timeout: Serve's `request_timeout_s`, in seconds, for whole streams; None: none.
        say: called with what is being waited for.
    """
    cluster_id = os.environ.get(MARK) or uuid.uuid4().hex
    temporary = None if directory else new_directory()
    where = directory or temporary or ""
    os.environ.update(environment(ingress, where, cluster_id))
    try:
        for application in applications:
            _found(application)  # before half a minute passes
        _start(port, where, servicers, faulty=faulty, request_timeout=request_timeout, say=say)
        names = ", ".join(map(application_name, applications))
        say(f"deploying {names}: {replicas} replicas{' each' * (len(applications) > 1)}")
        deploy(*applications, replicas=replicas)
        yield
    finally:
        say("ending Ray")
        _stop()
        end(cluster_id)
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)


def deploy(*applications: str, replicas: int) -> None:
    """Deploy applications on the running cluster, and wait until they are ready.

    All of them at once, since each takes its time to start and little of the machine meanwhile.

    Args:
        applications: ``module:name`` of an application, as for `serve run`, or of a function that
            is called with `replicas`, a keyword, and returns one. It is deployed under that name.
        replicas: of each one's deployment, if it is a function.

    Raises:
        ValueError: there is no such application.
    """
    from ray import serve

    targets: list[serve.RunTarget] = []
    for application in applications:
        name, found = application_name(application), _found(application)
        built = found if isinstance(found, serve.Application) else found(replicas=replicas)
        targets.append(serve.RunTarget(built, name=name, route_prefix=f"/{name}"))
    if targets:
        serve.run_many(targets)


def _found(application: str) -> Any:  # noqa: ANN401 — whatever stands under that name
    module, _, name = application.rpartition(":")
    if not module:
        raise ValueError(f"{application!r} is no import path, such as 'module:name'")
    found = getattr(importlib.import_module(module), name, None)
    if found is None:
        raise ValueError(f"there is no application {name!r} in the module {module!r}")
    return found


def _start(
    port: int,
    directory: str,
    servicers: Sequence[str],
    *,
    faulty: bool,
    request_timeout: float | None,
    say: Callable[[str], None],
) -> None:
    say("starting Ray")
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions, gRPCOptions

    from servestream_client.server import GRPC_SERVICER_FUNCTIONS
    from servestream_client.testing.ray_serve.ledger import ledger

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    on_sigterm = signal.getsignal(signal.SIGTERM)
    ray.init(
        address="local",
        _temp_dir=directory,
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=200 * 1024 * 1024,
        runtime_env={"worker_process_setup_hook": _INJECT} if faulty else None,
    )
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray has put its own in its place
    say("starting Serve")
    (http_port,) = free_ports(1)
    serve.start(
        http_options=HTTPOptions(host="127.0.0.1", port=http_port),
        grpc_options=gRPCOptions(
            port=port,
            grpc_servicer_functions=[*GRPC_SERVICER_FUNCTIONS, *servicers],
            request_timeout_s=request_timeout,
        ),
    )
    ray.get(ledger().pending.remote())


def _stop() -> None:
    # Not serve.shutdown(): behind HAProxy it waits for a controller that never ends (30 s).
    import ray

    if ray.is_initialized():
        ray.shutdown()
