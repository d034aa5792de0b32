"""Large items on slow links: they arrive, and what waits beside them comes to no harm.

The line is a real one, slowed down by the fault proxy. Heartbeats are short, so little is much.
"""

import asyncio

import pytest
from helpers import until

from servestream_client import (
    RetriesExhaustedError,
    RetryPolicy,
    StreamClient,
    Watchdog,
)
from servestream_client.server import StreamService, runner
from servestream_client.testing import Direction, FaultProxy, StreamServer, Throttle

RATE = 60_000
SIZE = 100_000
"""Of an item that takes 1.7 s, while 0.6 s of silence are the end."""

QUICK = Watchdog(heartbeat_interval=0.2)
HASTY = RetryPolicy(open_timeout=0.6)


class Sizes(StreamService[bytes, bytes]):
    """Answers with as many bytes as it is asked for."""

    async def predict(self, item: bytes) -> bytes:
        return bytes(int(item[:10]))


def large(direction: Direction, size: int = SIZE) -> bytes:
    """An input that is large in one direction, and small in the other."""
    up = direction is Direction.UP
    return b"%010d" % (1 if up else size) + bytes(size if up else 0)


SMALL = b"%010d" % 1

BOTH_WAYS = pytest.mark.parametrize("direction", [Direction.UP, Direction.DOWN])


@pytest.fixture
def server():
    with StreamServer(Sizes()) as running:
        yield running


@BOTH_WAYS
async def test_a_large_item_arrives_and_predictions_beside_it_do_not_wait(server, direction):
    async with StreamClient(server.target, watchdog=QUICK, retry=HASTY) as client:
        await client.predict(SMALL)
        server.add_faults(Throttle(RATE, direction))
        stream = client.stream([large(direction)])
        arriving = asyncio.ensure_future(anext(stream))
        for _ in range(5):
            await asyncio.gather(*(client.predict(SMALL) for _ in range(10)))
        assert not arriving.done()
        await arriving
        assert [output async for output in stream] == []
        assert stream.statistics().attempts == 1


@BOTH_WAYS
async def test_streams_on_the_same_connection_wait_and_do_not_fail(server, direction):
    """One that is idle, one with items of its own, one that opens meanwhile, and large ones."""
    gate = asyncio.Event()

    async def idle_inputs():
        yield SMALL
        await gate.wait()
        yield SMALL

    async with StreamClient(server.target, watchdog=QUICK, retry=HASTY) as client:
        idle = client.stream(idle_inputs())
        await anext(idle)
        server.add_faults(Throttle(RATE, direction))
        streams = [
            client.stream([large(direction), large(direction, 20_000)]),
            client.stream([large(direction, 5000)] * 10),
            client.stream([SMALL]),
            client.stream([large(direction)]),
        ]

        async def read(stream):
            return [output async for output in stream]

        outputs = await asyncio.gather(*map(read, streams))
        assert [len(each) for each in outputs] == [2, 10, 1, 1]
        gate.set()
        assert len(await read(idle)) == 1
        streams.append(idle)
        assert [stream.statistics().attempts for stream in streams] == [1] * 5


@BOTH_WAYS
async def test_large_and_small_predictions_at_once(server, direction):
    async with StreamClient(server.target, watchdog=QUICK, retry=HASTY) as client:
        server.add_faults(Throttle(RATE, direction))
        items = [large(direction), SMALL] * 3
        outputs = await asyncio.gather(*map(client.predict, items))
        assert [len(output) for output in outputs] == [int(item[:10]) for item in items]


async def test_the_last_answer_may_take_longer_than_a_server_lingers(server, monkeypatch):
    monkeypatch.setattr(runner, "LINGER_SECONDS", 0.05)
    async with StreamClient(server.target, watchdog=QUICK) as client:
        server.add_faults(Throttle(RATE, Direction.DOWN))
        stream = client.stream([large(Direction.DOWN)])
        assert [len(output) async for output in stream] == [SIZE]
        assert stream.statistics().attempts == 1


@pytest.mark.parametrize("watchdog", [QUICK, Watchdog()], ids=["whole", "in chunks"])
async def test_a_drain_waits_for_the_answers_on_their_way(serve, watchdog):
    service = Sizes()
    with FaultProxy(await serve(service)) as proxy:
        proxy.add(Throttle(RATE, Direction.DOWN))
        async with StreamClient(proxy.target, watchdog=watchdog, close_timeout=0.05) as client:
            stream = client.stream([large(Direction.DOWN)])
            arriving = asyncio.ensure_future(anext(stream))
            await until(lambda: proxy.fired)  # the answer is on its way
            service.drain(0.05)
            assert len(await arriving) == SIZE
            assert [output async for output in stream] == []
            assert stream.statistics().replayed == 0


@BOTH_WAYS
async def test_a_link_that_is_too_slow_is_named_with_the_item_and_the_rate(server, direction):
    retry = RetryPolicy(attempts=1, connect_attempts=1, connect_timeout=0)
    async with StreamClient(server.target, watchdog=QUICK, retry=retry) as client:
        await client.predict(SMALL)
        server.add_faults(Throttle(8000, direction))
        stream = client.stream([SMALL, large(direction, 70_000)])
        with pytest.raises(RetriesExhaustedError) as caught:
            assert [len(output) async for output in stream] == []
        text = str(caught.value)
        assert "input 2" in text
        assert "32 KiB/s" in text
        assert "700" in text  # bytes, the payload's or with what is around it
        assert "loop" not in text
