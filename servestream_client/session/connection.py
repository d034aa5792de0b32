"""What the clients of one target share: a transport on one event loop, and the streams on it."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable
from contextlib import suppress

from servestream_client.errors import ClientClosedError, WrongEventLoopError
from servestream_client.greenlets import check_threads
from servestream_client.session.driver import StreamDriver
from servestream_client.session.endpoint_pool import EndpointPool
from servestream_client.transport.grpc_link import check_process

__all__ = ["Connection"]

logger: logging.Logger = logging.getLogger(__name__)


class Connection:
    """What the clients made by `with_options` share: their endpoints, on one event loop.

    Args:
        endpoints: where its streams go. What reaches them is made when the first stream opens, in
            whose event loop it then lives.
    """

    def __init__(self, endpoints: EndpointPool) -> None:
        self.endpoints: EndpointPool = endpoints
        self.closed: bool = False
        self.drivers: dict[StreamDriver, None] = {}  # whose order is that of the streams
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Task[None] | None = None
        self._dropped: list[weakref.finalize[..., object]] = []

    def check_open(self) -> None:
        """
        Raises:
            ClientClosedError: too late.
        """
        if self.closed:
            raise ClientClosedError(
                f"the client of {self.endpoints.name} is closed; make a new one"
            )

    def check(self) -> asyncio.AbstractEventLoop:
        """
        Raises:
            ClientClosedError: too late.
            WrongEventLoopError: the wrong place.
            ConfigurationError: the wrong process, or one without threads.
        """
        self.check_open()
        check_process()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise WrongEventLoopError(
                "StreamClient needs a running asyncio event loop (grpc.aio has no other); for plain"
                " code there is SyncStreamClient"
            ) from None
        if self._loop is None:
            check_threads()
            self._loop = loop
        elif self._loop is not loop:
            raise WrongEventLoopError(
                f"the client of {self.endpoints.name} was first used in another event loop; make"
                " one client for each"
            )
        return loop

    def start(self, driver: StreamDriver) -> None:
        self.check()
        task = driver.start()
        self.drivers[driver] = None
        task.add_done_callback(lambda _: self.drivers.pop(driver, None), context=driver.context)

    def when_dropped(self, client: object, tell: Callable[[], object]) -> None:
        """Have this called in the event loop once a client is dropped, in whatever thread: one that
        `with_options` made for a single call leaves no stream behind. Unless all is closed by then.
        """
        loop = asyncio.get_running_loop()
        self._dropped = [other for other in self._dropped if other.alive]
        finalizer = weakref.finalize(client, _tell, loop, tell)
        finalizer.atexit = False
        self._dropped.append(finalizer)

    async def aclose(self) -> None:
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            raise WrongEventLoopError("close the client in the event loop that used it")
        if self._closing is None:
            self.closed = True
            self._closing = asyncio.ensure_future(self._close())
        # A task that waits for it may be cancelled; the closing goes on.
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        error = ClientClosedError(f"the client of {self.endpoints.name} was closed")
        closing = [driver.aclose(error) for driver in list(self.drivers)]
        for problem in await asyncio.gather(*closing, return_exceptions=True):
            if problem is not None:
                logger.error("closing a stream failed", exc_info=problem)
        await self.endpoints.aclose()
        for finalizer in self._dropped:
            # What it would tell may refer to the client, by a hook, and keep it for ever.
            finalizer.detach()
        self._dropped.clear()


def _tell(loop: asyncio.AbstractEventLoop, tell: Callable[[], object]) -> None:
    with suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(tell)
