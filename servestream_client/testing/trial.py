"""What the pytest plugin keeps for one test: servers, clients, and the faults of its marker."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pytest

from servestream_client import StreamClient, SyncStreamClient, WrongEventLoopError
from servestream_client.server import StreamService
from servestream_client.session.base import ClientOptions
from servestream_client.testing.faults import Fault
from servestream_client.testing.handle import AnyFault, FaultHandle
from servestream_client.testing.history import History
from servestream_client.testing.server import Service, StreamServer

if TYPE_CHECKING:  # it needs an extra
    from servestream_client.testing.ray_serve.handle import RayStreamServer

__all__ = ["Trial"]


class _Item(Protocol):
    """A test as pytest has it."""

    obj: Any


class Trial:
    """One test's servers and clients, ended with it.

    Args:
        faults: that the test is marked with; for every server of the test.
    """

    def __init__(self, faults: Sequence[AnyFault]) -> None:
        self.history: History = History()
        self._faults = list(faults)
        self._plan = self.history.plan()
        self._plan.add(*(fault for fault in faults if isinstance(fault, Fault)))
        self._servers: list[FaultHandle] = []
        self._clients: list[StreamClient[Any, Any]] = []
        self._stack = ExitStack()

    def close(self) -> None:
        """End them."""
        self._stack.close()

    # ---------------------------------------------------------------- servers

    def serve(self, service: Service, *, seed: int | None = None) -> StreamServer:
        """Start a server."""
        server = StreamServer(service, plan=self._plan, history=self.history, seed=seed)
        self._stack.enter_context(server)
        server.add_faults(*(fault for fault in self._faults if not isinstance(fault, Fault)))
        self._servers.append(server)
        return server

    def adopt(self, server: RayStreamServer) -> None:
        """Take over a server that outlives the test: as new, and with the test's faults.

        Raises:
            FixtureError: it cannot be renewed.
        """
        server.renew()
        self._stack.callback(server.clear_faults)
        server.add_faults(*self._faults)
        self._servers.append(server)

    def check(self) -> None:
        """
        Raises:
            pytest.fail.Exception: a fault that the test was marked with has not fired.
        """
        fired = [fault for server in self._servers for fault in server.fired]
        missing = [fault for fault in self._faults if fault not in fired]
        if missing:
            whose = "" if self._servers else "; the test started no server"
            pytest.fail(f"never fired: {', '.join(map(str, missing))}{whose}", pytrace=False)

    def report(self) -> str:
        """What happened, for people."""
        for server in self._servers:
            with suppress(Exception):  # it may be what failed
                _ = server.fired  # a Ray Serve's are seen when they are asked for
        histories = dict.fromkeys([self.history, *(server.history for server in self._servers)])
        return "\n".join(filter(None, map(str, histories))) or "(nothing)"

    # ---------------------------------------------------------------- clients

    def client(self, server: StreamServer, options: ClientOptions) -> StreamClient[Any, Any]:
        """A client of a server, for the test's own event loop."""
        client = StreamClient(server.target, codec=_codec(server.service), **options)
        self._clients.append(client)
        return client

    def sync_client(
        self, server: StreamServer, options: ClientOptions
    ) -> SyncStreamClient[Any, Any]:
        """A blocking client of a server."""
        client = SyncStreamClient(server.target, codec=_codec(server.service), **options)
        return self._stack.enter_context(client)

    @contextmanager
    def closing_clients(self, item: object) -> Iterator[None]:
        """Have an async test close its clients as it returns.

        Only there is its event loop at hand, whichever plugin runs it.
        """
        test: _Item = item  # type: ignore[assignment]  # whatever is not a function has no `obj`
        function = getattr(test, "obj", None)
        if not self._clients or not inspect.iscoroutinefunction(function):
            yield
            return
        test.obj = _then(function, self._aclose)
        try:
            yield
        finally:
            test.obj = function

    async def _aclose(self) -> None:
        for client in self._clients:
            with suppress(WrongEventLoopError):  # it was used in one of the test's own making
                await client.aclose()


def _codec(service: StreamService[Any, Any]) -> Any:  # noqa: ANN401 — a codec of anything
    return service.codec


T = TypeVar("T")


def _then(
    function: Callable[..., Coroutine[Any, Any, T]], last: Callable[[], Coroutine[Any, Any, None]]
) -> Callable[..., Coroutine[Any, Any, T]]:
    @wraps(function)
    async def both(*args: object, **kwargs: object) -> T:
        try:
            return await function(*args, **kwargs)
        finally:
            await last()

    return both
