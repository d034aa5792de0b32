"""The pytest plugin of servestream_client (entry point ``pytest11``).

It stands beside the package and not in it, so that a test run which uses none of its fixtures
imports nothing of the package, and with it no gRPC.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from servestream_client import StreamClient, SyncStreamClient
    from servestream_client.server import StreamService
    from servestream_client.session.base import ClientOptions
    from servestream_client.testing.ray_serve import RayStreamServer
    from servestream_client.testing.server import StreamServer
    from servestream_client.testing.trial import Trial

MARKER = "stream_faults"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{MARKER}(*faults): faults of servestream_client.testing for the servers of this test;"
        " one that never fires fails it",
    )


# ------------------------------------------------------------------ around a test

_TRIAL = pytest.StashKey["Trial"]()
_CLUSTER = pytest.StashKey["RayStreamServer"]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Close async clients in the test's own event loop, and see to it that faults fired."""
    cluster = item.config.stash.get(_CLUSTER, None)
    if cluster is not None and "ray_stream_server" in getattr(item, "fixturenames", ()):
        _trial(item).adopt(cluster)
    trial = item.stash.get(_TRIAL, None)
    if trial is None:
        result = yield
        if item.get_closest_marker(MARKER) is not None:
            pytest.fail(f"marked {MARKER}, but uses no server of servestream_client", pytrace=False)
        return result
    with trial.closing_clients(item):
        result = yield
    trial.check()
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show beside a failure what clients and servers did."""
    report = yield
    trial = item.stash.get(_TRIAL, None)
    if trial is not None and report.failed:
        report.sections.append(("servestream: what happened", trial.report()))
    return report


# ------------------------------------------------------------------ fixtures


@pytest.fixture
def _stream_trial(request: pytest.FixtureRequest) -> Trial:
    return _trial(request.node)


def _trial(item: pytest.Item) -> Trial:
    """The test's, made when first asked for."""
    from servestream_client.testing.trial import Trial

    trial = item.stash.get(_TRIAL, None)
    if trial is None:
        markers = reversed(list(item.iter_markers(MARKER)))  # a class's before its function's
        trial = Trial([fault for marker in markers for fault in marker.args])
        item.stash[_TRIAL] = trial
        item.addfinalizer(lambda: _end(item))
    return trial


def _end(item: pytest.Item) -> None:
    """Leave nothing for a test that is run again."""
    trial = item.stash[_TRIAL]
    del item.stash[_TRIAL]
    trial.close()


@pytest.fixture
def stream_service() -> StreamService[Any, Any]:
    """What `stream_server` serves: an echo of bytes. Override it with a service of your own."""
    from servestream_client.testing.server import Echo

    return Echo()


@pytest.fixture
def make_stream_server(_stream_trial: Trial) -> Callable[..., StreamServer]:
    """``make_stream_server(service)`` serves a `StreamService` in this process for the test.

    The service is an instance, or a class or function that makes one for each life of the server.
    """
    return _stream_trial.serve


@pytest.fixture
def stream_server(
    make_stream_server: Callable[..., StreamServer], stream_service: StreamService[Any, Any]
) -> StreamServer:
    """A server in this process that serves `stream_service`; no Ray."""
    return make_stream_server(stream_service)


@pytest.fixture
def stream_client_options() -> ClientOptions:
    """Options of `stream_client` and `sync_stream_client`. Override it with your own."""
    return {}


def _check_backend(request: pytest.FixtureRequest) -> None:
    """Fail a test that anyio's plugin is to run on another event loop than asyncio's.

    Raises:
        pytest.fail.Exception: it is.
    """
    if "anyio_backend" not in request.fixturenames:
        return
    backend = request.getfixturevalue("anyio_backend")
    name = backend if isinstance(backend, str) else next(iter(backend), "")
    if name != "asyncio":
        pytest.fail(
            "a StreamClient needs asyncio (grpc.aio has no other event loop), and anyio_backend is"
            f" {name!r}: let the fixture say 'asyncio' for tests with stream_client",
            pytrace=False,
        )


@pytest.fixture
def stream_client(
    request: pytest.FixtureRequest,
    _stream_trial: Trial,
    stream_server: StreamServer,
    stream_client_options: ClientOptions,
) -> StreamClient[Any, Any]:
    """A `StreamClient` of `stream_server`, with its service's codec. Closed as the test returns."""
    _check_backend(request)
    return _stream_trial.client(stream_server, stream_client_options)


@pytest.fixture
def sync_stream_client(
    _stream_trial: Trial, stream_server: StreamServer, stream_client_options: ClientOptions
) -> SyncStreamClient[Any, Any]:
    """A `SyncStreamClient` of `stream_server`, with its service's codec. Closed with the test."""
    return _stream_trial.sync_client(stream_server, stream_client_options)


# ------------------------------------------------------------------ a real Ray Serve


@pytest.fixture(scope="session")
def ray_stream_application() -> str:
    """What `ray_stream_server` serves: ``module:name`` of an application, as for `serve run`.

    An echo of bytes; override it with an application of your own.
    """
    return "servestream_client.testing.ray_serve.echo:echo"


@pytest.fixture(scope="session")
def ray_stream_ingress() -> str:
    """How requests reach the replicas: ``proxy``, Serve's default, or ``haproxy``. Override it."""
    return "proxy"


@pytest.fixture(scope="session")
def ray_stream_server(
    request: pytest.FixtureRequest, ray_stream_application: str, ray_stream_ingress: str
) -> Iterator[RayStreamServer]:
    """A real Ray Serve with `ray_stream_application` on it, for the whole session.

    Each test that uses it begins with all replicas alive, and with its own faults only. Needs the
    extra ``ray-testing``; starting takes half a minute.
    """
    from servestream_client.testing.ray_serve import Ingress, RayStreamServer

    with RayStreamServer(ray_stream_application, Ingress(ray_stream_ingress)) as server:
        request.config.stash[_CLUSTER] = server
        yield server
    del request.config.stash[_CLUSTER]
