"""Clients and services where tasks run as soon as they are made."""

import asyncio

import pytest
from eager import eager_task_factory
from helpers import collect, numbered, outputs, until

from servestream_client import RetryPolicy, StreamClient, Watchdog
from servestream_client.server import StreamService
from servestream_client.testing import StreamServer
from servestream_client.testing.faults import Fault, FaultKind

ITEMS = numbered(500)


@pytest.fixture(autouse=True)
async def eager():
    loop = asyncio.get_running_loop()
    loop.set_task_factory(eager_task_factory)
    yield
    loop.set_task_factory(None)


class Batches(StreamService[bytes, bytes]):
    async def predict_batch(self, items):
        await asyncio.sleep(0)
        return [item.upper() for item in items]


class Threads(StreamService[bytes, bytes]):
    def predict(self, item):
        return item.upper()


async def test_streams_and_predictions_of_an_echo(echo):
    async with StreamClient(echo) as client:
        assert await collect(client.stream(ITEMS)) == ITEMS
        assert sorted(await collect(client.stream(ITEMS, ordered=False))) == sorted(ITEMS)
        assert await asyncio.gather(*map(client.predict, ITEMS)) == ITEMS
        stream = client.stream(ITEMS)
        assert await anext(stream) == b"1"
        await stream.aclose()


@pytest.mark.parametrize("kind", [Batches, Threads])
async def test_services_of_all_kinds(serve, kind):
    async with StreamClient(await serve(kind())) as client:
        for _ in range(3):
            streams = (collect(client.stream(ITEMS)) for _ in range(3))
            assert await asyncio.gather(*streams) == [ITEMS] * 3
            assert await asyncio.gather(*map(client.predict, ITEMS)) == ITEMS


async def test_replicas_that_die(echo, plan):
    plan.add(Fault(FaultKind.CLOSE, 50), Fault(FaultKind.GARBAGE, 200))
    retry = RetryPolicy(initial=0.001, maximum=0.01)
    async with StreamClient(echo, retry=retry) as client:
        assert await collect(client.stream(ITEMS)) == ITEMS


async def test_an_input_that_hangs(echo, plan):
    plan.add(Fault(FaultKind.HANG, 300))
    async with StreamClient(echo, watchdog=Watchdog(item_timeout=0.3)) as client:
        results = await collect(client.stream(ITEMS, return_exceptions=True))
    assert outputs(results) == [item for item in ITEMS if item != b"300"]


async def test_a_server_that_drains(serve):
    service, gate = Threads(), asyncio.Event()

    async def trickle():
        yield b"1"
        await gate.wait()

    async with StreamClient(await serve(service)) as client:
        stream = client.stream(trickle())
        assert await anext(stream) == b"1"
        service.drain(5)
        await until(lambda: stream.statistics().attempts > 1)
        gate.set()
        await stream.aclose()


async def test_the_server_for_tests():
    with StreamServer() as server:
        async with StreamClient(server.target) as client:
            stream = client.stream(ITEMS)
            assert await anext(stream) == b"1"
            server.kill()
            assert await collect(stream) == ITEMS[1:]
