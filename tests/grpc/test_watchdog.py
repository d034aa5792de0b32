"""Dead and slow peers, told apart: silence, hung handlers, stopped consumers."""

import asyncio
import threading

import pytest
from faces import only_async
from faulty import FaultyEcho
from helpers import collect, failures, numbered, outputs, until

from servestream_client import (
    ConfigurationError,
    FlowControl,
    ItemErrorKind,
    RetryPolicy,
    StreamClient,
    Watchdog,
)
from servestream_client.protocol.client import ClientSession
from servestream_client.server import StreamService, item_workers, stuck
from servestream_client.testing import Deaf, Direction, StreamServer
from servestream_client.testing.faults import Fault, FaultKind

ITEMS = numbered(400)
QUICK = Watchdog(heartbeat_interval=0.1)
HASTY = Watchdog(item_timeout=1.0)
TIMEOUT = ItemErrorKind.TIMEOUT


@pytest.mark.parametrize("direction", list(Direction))
async def test_a_half_open_link_is_left(direction):
    retry = RetryPolicy(open_timeout=0.3)
    with StreamServer() as server:
        async with StreamClient(server.target, watchdog=QUICK, retry=retry) as client:
            stream = client.stream(b"%d" % n for n in range(100_000))
            assert await anext(stream) == b"0"
            deaf = Deaf(direction)
            server.add_faults(deaf)
            # Nobody reads meanwhile: the watchdog needs no consumer.
            await until(lambda: stream.statistics().attempts > 1)
            server.proxy.remove(deaf)
            assert [output async for output in stream] == [b"%d" % n for n in range(1, 100_000)]
            assert stream.statistics().resumes > 0


async def test_a_server_that_hears_nothing_frees_its_place():
    with StreamServer() as server:
        async with StreamClient(server.target, watchdog=QUICK) as client:
            stream = client.stream(b"%d" % n for n in range(100_000))
            assert await anext(stream) == b"0"
            deaf = Deaf()
            server.add_faults(deaf)
            await until(lambda: "broken off" in str(server.history))
            server.proxy.remove(deaf)
            await stream.aclose()


@only_async
async def test_a_stopped_consumer_and_an_idle_input_are_no_dead_peers(echo, connect, monkeypatch):
    beats = []
    receive = ClientSession.receive

    def counting(self, attempt, frame):
        if frame.heartbeat is not None:
            beats.append(frame)
        receive(self, attempt, frame)

    monkeypatch.setattr(ClientSession, "receive", counting)
    gate = asyncio.Event()

    async def slow_inputs():
        for item in ITEMS:
            yield item
        await gate.wait()

    flow = FlowControl(output_items=4)
    watchdog = Watchdog(heartbeat_interval=0.1, item_timeout=0.1)
    async with connect(echo, watchdog=watchdog, flow=flow) as client:
        stopped = client.stream(ITEMS)
        assert await anext(stopped) == b"1"
        idle = client.stream(slow_inputs())
        results = [await anext(idle) for _ in ITEMS]
        await until(lambda: len(beats) > 30)
        assert [frame.running.blocked_on.name for frame in beats[-2:]].count("CREDIT") <= 2
        assert {frame.running.blocked_on.name for frame in beats} >= {"CREDIT", "INPUT"}
        gate.set()
        assert [output async for output in idle] == []
        assert results == ITEMS
        assert [output async for output in stopped] == ITEMS[1:]
        assert stopped.statistics().attempts == idle.statistics().attempts == 1


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_hung_input_is_that_inputs_error(echo, plan, connect, ordered):
    plan.add(*(Fault(FaultKind.HANG, at) for at in (1, 7, 8, 400)))
    async with connect(echo, watchdog=HASTY) as client:
        stream = client.stream(ITEMS, return_exceptions=True, ordered=ordered)
        results = await collect(stream)
    assert {failure.number for failure in failures(results)} == {1, 7, 8, 400}
    assert {failure.kind for failure in failures(results)} == {TIMEOUT}
    assert "1 s" in str(failures(results)[0])
    assert sorted(outputs(results)) == sorted(i for i in ITEMS if int(i) not in (1, 7, 8, 400))
    assert stream.statistics().attempts == 1


async def test_a_hung_prediction_is_its_callers_error(echo, plan, connect):
    plan.add(Fault(FaultKind.HANG, 3))
    async with connect(echo, watchdog=HASTY) as client:
        calls = [client.predict(item) for item in ITEMS]
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert [failure.kind for failure in failures(results)] == [TIMEOUT]
    assert len(outputs(results)) == 399


class Stubborn(StreamService[bytes, bytes]):
    """Some inputs do not end until they are let go, whatever one does to them."""

    max_concurrency = 4

    def __init__(self, kept: set[bytes]) -> None:
        self.kept = kept
        self.go = asyncio.Event()
        self.calls: list[bytes] = []

    async def predict(self, item: bytes) -> bytes:
        self.calls.append(item)
        while item in self.kept and not self.go.is_set():
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                continue
        return item


async def test_a_handler_that_will_not_be_cancelled_costs_its_place_and_no_more(serve, connect):
    service = Stubborn({b"3", b"100"})
    async with connect(await serve(service), watchdog=HASTY) as client:
        stream = client.stream(ITEMS, return_exceptions=True)
        try:
            results = await collect(stream)
        finally:
            service.go.set()  # or else not even the test's event loop would end it
    assert [failure.number for failure in failures(results)] == [3, 100]
    assert len(outputs(results)) == 398
    assert stream.statistics().attempts == 1


class Plain(StreamService[bytes, bytes]):
    """The same in threads, which cannot be cancelled at all."""

    def __init__(self, kept: set[bytes], places: int) -> None:
        self.kept = kept
        self.max_concurrency = places
        self.go = threading.Event()

    def predict(self, item: bytes) -> bytes:
        if item in self.kept:
            self.go.wait(30)
        return item


async def test_a_thread_that_hangs_costs_its_place_and_no_more(serve, connect):
    service = Plain({b"3", b"100", b"101"}, 4)
    async with connect(await serve(service), watchdog=HASTY) as client:
        stream = client.stream(ITEMS, return_exceptions=True)
        results = await collect(stream)
        service.go.set()
        assert [failure.number for failure in failures(results)] == [3, 100, 101]
        assert len(outputs(results)) == 397
        assert stream.statistics().attempts == 1


async def test_where_every_place_is_kept_the_stream_leaves_and_comes_back(
    serve, connect, monkeypatch
):
    monkeypatch.setattr(stuck, "STUCK_SECONDS", 0.1)
    monkeypatch.setattr(
        item_workers, "_LONGEST_RUN", 1
    )  # one that waits behind 3 holds up 5's answer
    service = Plain({b"3", b"5"}, 2)
    async with connect(await serve(service), watchdog=HASTY) as client:
        stream = client.stream(ITEMS, return_exceptions=True)
        collecting = asyncio.ensure_future(collect(stream))
        await until(lambda: stream.statistics().attempts > 2)
        assert not collecting.done()
        service.go.set()
        results = await collecting
        assert [failure.number for failure in failures(results)] == [3, 5]
        assert len(outputs(results)) == 398


class Batched(StreamService[bytes, bytes]):
    """One input hangs whatever it is batched with."""

    async def predict_batch(self, items: list[bytes]) -> list[bytes]:
        if b"7" in items:
            await asyncio.Event().wait()
        return items


async def test_of_a_batch_that_hangs_the_one_to_blame_is_found(serve, connect):
    async with connect(await serve(Batched()), watchdog=HASTY) as client:
        stream = client.stream(numbered(50), return_exceptions=True)
        results = await collect(stream)
        assert [(f.number, f.kind) for f in failures(results)] == [(7, TIMEOUT)]
        assert len(outputs(results)) == 49
        assert stream.statistics().attempts == 1


async def test_without_limits_nothing_is_promised(serve, plan, connect):
    seen = []

    class Watched(FaultyEcho):
        async def admit(self, request):
            seen.append(request)

    target = await serve(Watched(plan))
    off = Watchdog(heartbeat_interval=None, item_timeout=None)
    async with connect(target, watchdog=off) as client:
        assert await collect(client.stream(ITEMS)) == ITEMS
        assert await collect(client.with_options(watchdog=QUICK).stream(ITEMS)) == ITEMS


@pytest.mark.parametrize(
    "options",
    [{"heartbeat_interval": 0}, {"heartbeat_interval": -1.0}, {"item_timeout": 0.001}],
)
def test_limits_that_cannot_be(options):
    with pytest.raises(ConfigurationError, match=rf"Watchdog\.{next(iter(options))}"):
        Watchdog(**options)
