"""What the clients of one target share: a transport on one event loop, and the streams on it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from servestream_client.errors import ClientClosedError, WrongEventLoopError
from servestream_client.greenlets import check_threads
from servestream_client.metadata import Metadata
from servestream_client.session.driver import StreamDriver, Target
from servestream_client.transport.base import Link, Transport
from servestream_client.transport.grpc_link import check_process
from servestream_client.transport.proxies import proxy_of

__all__ = ["Apart", "Connection"]


class Apart:
    """Opens a connection's calls apart from those that may carry large items."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def open(self, metadata: Metadata = (), *, apart: bool = True) -> Link:
        return self._connection.open(metadata, apart=apart)

    async def aclose(self) -> None:
        await self._connection.aclose()


logger: logging.Logger = logging.getLogger(__name__)


class Connection:
    """What the clients made by `with_options` share: one transport, on one event loop.

    Args:
        target: for people.
        make_transport: called when the first stream opens, in whose event loop it then lives.
    """

    def __init__(self, target: str, make_transport: Callable[[], Transport]) -> None:
        self.target: Target = Target(target)
        self.closed: bool = False
        self.drivers: dict[StreamDriver, None] = {}  # whose order is that of the streams
        self.make_transport: Callable[[], Transport] = make_transport
        self._loop: asyncio.AbstractEventLoop | None = None
        self._transport: Transport | None = None
        self._closing: asyncio.Task[None] | None = None

    def check_open(self) -> None:
        """
        Raises:
            ClientClosedError: too late.
        """
        if self.closed:
            raise ClientClosedError(f"the client of {self.target.name} is closed; make a new one")

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
                f"the client of {self.target.name} was first used in another event loop; make"
                " one client for each"
            )
        return loop

    def open(self, metadata: Metadata = (), *, apart: bool = False) -> Link:
        if self._transport is None:
            self._transport = self.make_transport()
            self.target.proxy = proxy_of(self.target.name)
        return self._transport.open(metadata, apart=apart)

    def start(self, driver: StreamDriver) -> None:
        self.check()
        task = driver.start()
        self.drivers[driver] = None
        task.add_done_callback(lambda _: self.drivers.pop(driver, None), context=driver.context)

    async def aclose(self) -> None:
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            raise WrongEventLoopError("close the client in the event loop that used it")
        if self._closing is None:
            self.closed = True
            self._closing = asyncio.ensure_future(self._close())
        # Whoever waits for it may be cancelled; the closing goes on.
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        error = ClientClosedError(f"the client of {self.target.name} was closed")
        closing = [driver.aclose(error) for driver in list(self.drivers)]
        for problem in await asyncio.gather(*closing, return_exceptions=True):
            if problem is not None:
                logger.error("closing a stream failed", exc_info=problem)
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.aclose()
