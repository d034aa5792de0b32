"""Where tasks run as soon as they are made: nothing is set after that which they rely on."""

import asyncio

import pytest
from attempts import FakeAttempt, until, workers_running
from eager import eager_task_factory

from servestream_client import BytesCodec
from servestream_client.server.batch_workers import BatchWorkers
from servestream_client.server.handlers import batch_handler, item_handler
from servestream_client.server.item_workers import ItemWorkers


@pytest.fixture(autouse=True)
async def eager():
    loop = asyncio.get_running_loop()
    loop.set_task_factory(eager_task_factory)
    yield
    loop.set_task_factory(None)


async def test_a_task_runs_as_soon_as_it_is_made():
    seen = []

    async def code():
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        return 1

    task = asyncio.get_running_loop().create_task(code())
    assert seen == [task]
    assert await task == 1


def waits(batch):
    async def predict(value):
        await asyncio.sleep(0)
        return value

    return predict


def waits_not(batch):
    async def predict(value):
        return value

    return predict


def in_thread(batch):
    return lambda value: value


@pytest.mark.parametrize("places", [1, 3])
@pytest.mark.parametrize("kind", ["items", "batches"])
@pytest.mark.parametrize("code", [waits, waits_not, in_thread])
async def test_every_stream_is_served_again_and_again(kind, places, code):
    workers = (
        ItemWorkers(item_handler(code(False), BytesCodec(), places), places=places)
        if kind == "items"
        else BatchWorkers(
            batch_handler(code(True), BytesCodec(), places),
            places=places,
            max_batch=4,
            batch_wait=0.0,
        )
    )
    streams = [FakeAttempt(workers, name) for name in "abc"]
    for _ in range(5):
        for stream in streams:
            stream.send_many(7)
        await until(lambda: all(stream.done for stream in streams))
        await until(lambda: not workers_running())
    await until(lambda: workers._free == places)
    assert [stream.outputs for stream in streams] == [
        [b"%s%d" % (name, n) for n in range(1, 36)] for name in (b"a", b"b", b"c")
    ]


async def test_many_places_are_no_deep_stack():
    """A handler that waits lets the next worker begin, which must not run within the first."""
    go, places = asyncio.Event(), 500

    async def predict_batch(items):
        await go.wait()
        return items

    handler = batch_handler(predict_batch, BytesCodec(), places)
    workers = BatchWorkers(handler, places=places, max_batch=1, batch_wait=0.0)
    stream = FakeAttempt(workers, "a")
    stream.send_many(places)
    await until(lambda: not workers._free)
    go.set()
    await until(lambda: stream.done)
    assert len(set(stream.outputs)) == places


async def test_a_worker_that_is_never_made_costs_no_place():
    def refuses(loop, coro, **_):
        raise ZeroDivisionError

    async def predict(item):
        return item

    workers = ItemWorkers(item_handler(predict, BytesCodec(), 1), places=1)
    stream = FakeAttempt(workers, "a")
    loop = asyncio.get_running_loop()
    loop.set_task_factory(refuses)
    with pytest.raises(ZeroDivisionError):
        stream.send_many(1)
    loop.set_task_factory(eager_task_factory)
    stream.send_many(1)
    await until(lambda: stream.done)
