"""What the clients of one target share: one event loop, its streams, and one end."""

import asyncio
import weakref
from collections.abc import Awaitable, Callable

import pytest
from pools import pool_of
from test_endpoints import Transports

from servestream_client.errors import ClientClosedError, WrongEventLoopError
from servestream_client.session.connection import Connection


class Driver:
    """Stands for a stream's, which ends when it is closed."""

    def __init__(self, closing: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0)) -> None:
        self.context = None
        self.closed_with: list[BaseException] = []
        self._closing = closing
        self._end = asyncio.Event()

    def start(self) -> asyncio.Task:
        return asyncio.ensure_future(self._end.wait())

    async def aclose(self, error: BaseException) -> None:
        self.closed_with.append(error)
        self._end.set()
        await self._closing()


class Shared:
    def __init__(self) -> None:
        self.transports = Transports()
        self.connection = Connection(pool_of(self.transports))

    def start(self, driver: Driver) -> Driver:
        self.connection.start(driver)
        self.connection.endpoints.endpoints[0].open()
        return driver

    @property
    def closed(self) -> int:
        (transport,) = self.transports.made
        return transport.closed


async def test_its_end_is_that_of_all_its_streams_and_of_its_transport():
    shared = Shared()
    drivers = [shared.start(Driver()) for _ in range(3)]
    await shared.connection.aclose()
    await shared.connection.aclose()
    for driver in drivers:
        (error,) = driver.closed_with
        assert isinstance(error, ClientClosedError)
    assert shared.closed == 1
    assert not shared.connection.drivers
    with pytest.raises(ClientClosedError):
        shared.connection.start(Driver())


async def test_a_stream_that_has_ended_is_not_kept():
    shared = Shared()
    driver = shared.start(Driver())
    assert list(shared.connection.drivers) == [driver]
    await driver.aclose(ClientClosedError("no"))
    await asyncio.sleep(0)
    assert not shared.connection.drivers
    await shared.connection.aclose()
    assert len(driver.closed_with) == 1


async def test_one_stream_that_fails_to_close_keeps_nothing_open(caplog):
    async def fails() -> None:
        raise ZeroDivisionError("a bug")

    shared = Shared()
    drivers = [shared.start(Driver(fails)), shared.start(Driver())]
    await shared.connection.aclose()
    assert [len(driver.closed_with) for driver in drivers] == [1, 1]
    assert shared.closed == 1
    assert [record.message for record in caplog.records] == ["closing a stream failed"]


async def test_who_waits_for_the_end_may_be_cancelled_and_the_closing_goes_on():
    go = asyncio.Event()
    shared = Shared()
    shared.start(Driver(go.wait))
    waiting = asyncio.ensure_future(shared.connection.aclose())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled()
    assert shared.closed == 0
    go.set()
    await shared.connection.aclose()
    assert shared.closed == 1


def test_it_belongs_to_the_event_loop_that_used_it_first():
    shared = Shared()
    with pytest.raises(WrongEventLoopError, match="running"):
        shared.connection.check()  # there is none

    async def use() -> None:
        shared.connection.check()

    async def close() -> None:
        await shared.connection.aclose()

    asyncio.run(use())
    for later in (use, close):
        with pytest.raises(WrongEventLoopError):
            asyncio.run(later())
    assert not shared.connection.closed


class Client:
    """Who may be dropped."""


async def test_who_is_dropped_is_told_of_in_the_event_loop():
    shared, told = Shared(), asyncio.Event()
    client = Client()
    shared.connection.when_dropped(client, told.set)
    await asyncio.sleep(0)
    assert not told.is_set()
    del client
    assert not told.is_set()  # whatever thread that was in
    await told.wait()
    await shared.connection.aclose()


async def test_once_all_is_closed_nobody_is_kept_nor_told_of():
    shared, told = Shared(), []

    class Telling(Client):
        def tell(self):
            told.append(self)

    client = Telling()
    shared.connection.when_dropped(client, client.tell)
    shared.connection.when_dropped(Client(), client.tell)  # which has gone
    await asyncio.sleep(0)
    assert told.pop() is client
    await shared.connection.aclose()
    known = weakref.ref(client)
    del client
    assert known() is None
    await asyncio.sleep(0)
    assert not told
