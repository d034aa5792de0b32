"""Workers for the inputs of one stream: how long their runs are."""

import pytest
from attempts import (
    payloads_in,
    until,
)
from stand_ins import Clock, Echo, attempts

from servestream_client.server.item_workers import ItemWorkers

pytestmark = pytest.mark.usefixtures("clock", "no_worker_stays")


class Timed(Echo):
    """Takes so many seconds an input, on the workers' clock."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__()
        self.clock = clock
        clock.step = 0.0
        self.seconds = seconds

    async def handle(self, call, parts):
        self.clock.now += len(payloads_in(parts)) * self.seconds
        await super().handle(call, parts)

    @property
    def lengths(self) -> list[int]:
        return [len(payloads) for payloads in self.calls]


async def test_runs_grow_while_inputs_are_fast(clock):
    handler = Timed(clock, 0.0)
    (stream,) = attempts(ItemWorkers(handler, places=1), "a")
    stream.send_many(2100)
    await until(lambda: stream.done)
    assert handler.lengths == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 53]


async def test_runs_grow_only_as_long_as_they_take_well_below_a_millisecond(clock):
    handler = Timed(clock, 0.0001)
    (stream,) = attempts(ItemWorkers(handler, places=1), "a")
    stream.send_many(30)
    await until(lambda: stream.done)
    assert handler.lengths == [1, 2, 4, 8, 8, 7]


async def test_runs_shrink_where_inputs_are_slow(clock):
    handler = Timed(clock, 0.0001)
    (stream,) = attempts(ItemWorkers(handler, places=1), "a")
    stream.send_many(15)
    await until(lambda: stream.done)
    handler.seconds = 0.001
    stream.send_many(18)
    await until(lambda: stream.done)
    assert handler.lengths == [1, 2, 4, 8, *[8, 4, 2, 1, 1, 1, 1]]


async def test_inputs_that_come_alone_let_no_run_grow(clock):
    handler = Timed(clock, 0.0)
    (stream,) = attempts(ItemWorkers(handler, places=1), "a")
    for _ in range(5):
        stream.send_many(1)
        await until(lambda: stream.done)
    stream.send_many(10)
    await until(lambda: stream.done)
    assert handler.lengths[5:7] == [2, 4]


class Away(Timed):
    """In a thread, to which the way there and back takes so many seconds."""

    def __init__(self, clock: Clock, seconds: float, way: float) -> None:
        super().__init__(clock, seconds)
        self.way = way

    async def handle(self, call, parts):
        await super().handle(call, parts)
        call.hop_seconds += self.way
        self.clock.now += self.way


async def test_the_way_to_a_thread_is_not_what_an_input_takes(clock):
    """A run of one would pay it for each."""
    handler = Away(clock, 0.0001, way=0.005)
    workers = ItemWorkers(handler, places=1)
    (stream,) = attempts(workers, "a")
    stream.send_many(200)
    await until(lambda: stream.done)
    assert handler.lengths == [1, 2, 4, 8, 16, 32, 32, 32, 32, 32, 9]
    assert workers.item_time.value == pytest.approx(0.0001)


async def test_it_is_told_when_each_call_began_and_ended(clock):
    told = []

    class Told:
        def took(self, seconds, *, began, ended):
            told.append((seconds, began, ended))

    workers = ItemWorkers(Timed(clock, 0.5), places=1)
    workers.item_time = Told()
    (stream,) = attempts(workers, "a")
    at = clock.now
    for _ in range(2):
        stream.send_many(1)
        await until(lambda: stream.done)
    assert told == [(0.5, at, at + 0.5), (0.5, at + 0.5, at + 1.0)]


async def test_in_a_thread_runs_shrink_where_inputs_are_slower_than_the_way_there(clock):
    handler = Away(clock, 0.0, way=0.0025)
    (stream,) = attempts(ItemWorkers(handler, places=1), "a")
    stream.send_many(15)
    await until(lambda: stream.done)
    handler.seconds = 0.001
    stream.send_many(34)
    await until(lambda: stream.done)
    assert handler.lengths == [1, 2, 4, 8, *[16, 8, 4, 2, 2, 2]]
