"""Calls: what ends them, and what does not."""

import asyncio

import pytest
from attempts import (
    FakeAttempt,
    for_a_while,
    until,
)
from stand_ins import CANCELLED, Held, Running, Thread, attempts, batches

from servestream_client.server.item_workers import ItemWorkers

pytestmark = pytest.mark.usefixtures("clock", "no_worker_stays")


async def started(handler: Held, *streams: FakeAttempt) -> None:
    """A batch of three inputs from each stream runs."""
    for stream in streams:
        stream.send_many(3)
    await until(lambda: handler.running == 1)
    assert len(handler.calls[-1]) == 3 * len(streams)


async def test_a_call_goes_on_while_one_of_its_inputs_is_wanted():
    handler = Held()
    (stream,) = attempts(batches(handler), "a")
    await started(handler, stream)
    stream.cancel(2)
    stream.cancel(3)
    await for_a_while()
    assert handler.running == 1
    handler.go.set()
    await until(lambda: stream.done)
    assert stream.outputs == [b"a1", b"a2", b"a3"]


@pytest.mark.parametrize("steps", [[(1, 3)], [(2, 2), (1, 3)], [(3, 3), (1, 1), (2, 2)]])
async def test_a_call_none_of_whose_inputs_is_wanted_is_cancelled(steps):
    handler = Held()
    (stream,) = attempts(batches(handler), "a")
    await started(handler, stream)
    for first, last in steps:
        assert handler.running == 1
        stream.cancel(first, last)
        await for_a_while()
    assert handler.running == 0
    assert stream.outputs == [CANCELLED] * 3


async def test_a_call_for_several_streams_goes_on_while_one_of_them_wants_it():
    handler = Held()
    one, other = attempts(batches(handler), "ab")
    await started(handler, one, other)
    one.go()
    await for_a_while()
    assert handler.running == 1
    handler.go.set()
    await until(lambda: other.done)
    assert other.outputs == [b"b1", b"b2", b"b3"]
    assert one.answers == []


async def test_a_call_ends_when_all_its_streams_have_left():
    handler = Held()
    one, other = attempts(batches(handler), "ab")
    await started(handler, one, other)
    one.go()
    other.cancel(1, 3)
    await until(lambda: handler.running == 0)
    await until(lambda: other.done)
    assert other.outputs == [CANCELLED] * 3
    assert one.answers == []


async def test_a_stream_that_leaves_takes_only_its_own_calls_along():
    handler = Held()
    workers = ItemWorkers(handler, places=8)
    one, other = attempts(workers, "ab")
    one.send_many(3)
    other.send_many(2)
    await until(lambda: handler.running == 5)
    one.go()
    await until(lambda: handler.running == 2)
    handler.go.set()
    await until(lambda: other.done)
    assert other.outputs == [b"b1", b"b2"]


async def test_a_call_that_cannot_be_interrupted_runs_to_its_end():
    handler = Held(Thread())
    one, other = attempts(batches(handler), "ab")
    await started(handler, one, other)
    one.go()
    other.cancel(1, 3)
    await for_a_while()
    assert handler.running == 1
    handler.go.set()
    await until(lambda: other.done)
    assert other.outputs == [b"b1", b"b2", b"b3"]


async def test_a_place_comes_back_however_its_call_ended():
    handler = Held()
    workers = ItemWorkers(handler, places=2)
    for _ in range(5):
        leaving, cancelling = attempts(workers, "ab")
        for stream in (leaving, cancelling):
            stream.send_many(1)
        await until(lambda: handler.running == 2)
        leaving.go()
        cancelling.cancel(1)
        await until(lambda: handler.running == 0)
    (stream,) = attempts(workers, "c")
    stream.send_many(4)
    await until(lambda: handler.running == 2)
    handler.go.set()
    await until(lambda: stream.done)
    assert handler.most == 2


async def test_what_waits_for_a_place_is_not_started_once_its_stream_has_left():
    handler = Held()
    workers = ItemWorkers(handler, places=1)
    one, other = attempts(workers, "ab")
    one.send_many(1)
    other.send_many(2)
    await until(lambda: handler.running == 1)
    other.go()
    handler.go.set()
    await until(lambda: one.done)
    await for_a_while()
    assert handler.calls == [[b"a1"]]


async def test_user_code_is_cancelled_once_and_has_its_time_to_clean_up():
    cleaned = []

    async def code():
        try:
            await asyncio.Event().wait()
        finally:
            for step in range(5):
                await asyncio.sleep(0)
                cleaned.append(step)

    handler = Running(code)
    (stream,) = attempts(ItemWorkers(handler, places=1), "a")
    stream.send_many(1)
    await until(lambda: handler.running == 1)
    stream.cancel(1)
    await until(lambda: cleaned == [0])
    stream.go()
    await until(lambda: handler.running == 0)
    assert cleaned == [0, 1, 2, 3, 4]


async def test_user_code_that_will_not_be_cancelled_answers():
    async def code():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)

    handler = Running(code)
    (stream,) = attempts(ItemWorkers(handler, places=1), "a")
    stream.send_many(2)
    await until(lambda: handler.running == 1)
    stream.cancel(1)
    await until(lambda: handler.running == 1 and len(handler.calls) == 2)
    assert stream.outputs == [b"a1"]
    stream.cancel(2)
    await until(lambda: stream.done)


async def test_the_call_after_a_cancelled_one_is_not_cancelled():
    handler = Held()
    seen = []

    async def handle(call, parts):
        seen.append(asyncio.current_task().cancelling())
        await Held.handle(handler, call, parts)

    handler.handle = handle
    (stream,) = attempts(ItemWorkers(handler, places=1), "a")
    stream.send_many(3)
    for number in (1, 2):
        await until(lambda: len(seen) == number and handler.running == 1)  # noqa: B023
        stream.cancel(number)
    await until(lambda: len(seen) == 3)
    handler.go.set()
    await until(lambda: stream.done)
    assert stream.outputs == [CANCELLED, CANCELLED, b"a3"]
    assert seen == [0, 0, 0]


async def test_a_call_may_be_cancelled_after_one_that_was_answered():
    handler = Running(lambda: asyncio.sleep(0) if len(handler.calls) == 1 else handler.go.wait())
    (stream,) = attempts(ItemWorkers(handler, places=1), "a")
    stream.send_many(2)
    await until(lambda: len(handler.calls) == 2 and len(stream.answers) == 1)
    stream.cancel(2)
    await until(lambda: stream.done)
    assert stream.outputs == [b"a1", CANCELLED]
