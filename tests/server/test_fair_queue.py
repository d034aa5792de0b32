"""Whatever happens in whatever order: no stream that has something to start is left alone."""

import asyncio
import random
from collections.abc import Sequence

import pytest
from attempts import FakeAttempt, echo, payloads_in, until, workers_running

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.frames import Credit, StreamErrorKind
from servestream_client.server.batch_workers import BatchWorkers
from servestream_client.server.calls import Call, Part
from servestream_client.server.item_workers import ItemWorkers
from servestream_client.server.workers import Workers


class Whimsical:
    """Does with its inputs what chance says, and answers all of them in the end."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.gates: list[asyncio.Event] = []
        self.quiet = False
        """Whether it does nothing but answer."""

    async def handle(self, call: Call, parts: Sequence[Part]) -> None:
        whim = 0.0 if self.quiet else self.rng.random()
        if whim > 0.95:
            asyncio.current_task().cancel()
            await asyncio.sleep(0)
        elif whim > 0.9:
            raise KeyError
        elif whim > 0.75:
            await asyncio.sleep(0)  # without a word to the workers
        elif whim > 0.3:
            for part in parts:
                if whim > 0.5 and len(part.run.payloads) > 1:
                    call.requeue(Part(part.attempt, part.run.split(1)))
            for _ in range(self.rng.randrange(1, 3)):
                gate = asyncio.Event()
                self.gates.append(gate)
                await call.run(gate.wait(), parts)
        echo(parts)

    def open_gate(self) -> None:
        if self.gates:
            self.gates.pop(self.rng.randrange(len(self.gates))).set()

    def calm_down(self) -> None:
        self.quiet = True
        while self.gates:
            self.open_gate()


def check(workers: Workers, streams: list[FakeAttempt]) -> None:
    """The invariant at the head of workers.py."""
    served: set = set()
    if isinstance(workers, ItemWorkers):
        served = set(workers._served)
        assert {call: stream for stream, call in workers._served.items()} == workers._serves
        assert not any(stream in workers._waiting for stream in served)
        assert not any(call.held for call in workers._serves), "a suspended call serves nobody"
    if workers._waiting and workers._free:
        gathering = isinstance(workers, BatchWorkers) and workers._gatherer is not None
        assert gathering or any(task.done() for task in workers._tasks)
    for stream in streams:
        if workers._has_work(stream):
            assert stream in served or stream in workers._waiting, stream
    assert 0 <= workers._free == workers._places - len(workers._tasks)


def happen(rng: random.Random, handler: Whimsical, stream: FakeAttempt) -> None:
    """Something happens to a stream, or to a call."""
    event = rng.randrange(18)
    if event < 8:
        stream.send_many(rng.randrange(1, 6))
    elif event < 12:
        handler.open_gate()
    elif event < 14 and stream._sent:
        first = rng.randrange(1, stream._sent + 1)
        stream.cancel(first, min(stream._sent, first + rng.randrange(3)))
    elif event == 15:
        stream.grant(rng.randrange(1, 1000))


def leave(rng: random.Random, workers: Workers, stream: FakeAttempt) -> None:
    if rng.random() < 0.5:
        stream.go()
    else:
        stream.session.give_up(StreamErrorKind.SUPERSEDED, "another came")
        workers.cancel(stream)


def made(kind: str, rng: random.Random, handler: Whimsical) -> Workers:
    places = rng.randrange(1, 4)
    if kind == "items":
        workers = ItemWorkers(handler, places=places)
        workers._run_length = 4
        return workers
    return BatchWorkers(handler, places=places, max_batch=rng.randrange(1, 6), batch_wait=0.0)


@pytest.mark.parametrize("kind", ["items", "batches"])
@pytest.mark.parametrize("seed", range(60))
async def test_no_stream_is_left_alone(kind, seed):
    rng = random.Random(f"{kind} {seed}")
    handler = Whimsical(rng)
    workers = made(kind, rng, handler)
    streams = [
        FakeAttempt(
            workers,
            name,
            ordered=rng.random() < 0.7,
            credit=rng.choice([Credit(1000, 1_000_000), Credit(3, 1_000_000)]),
            ahead_bytes=rng.choice([8, 1_000_000]),
        )
        for name in "abcde"
    ]
    gone: list[FakeAttempt] = []
    for _ in range(150):
        stream = rng.choice(streams)
        happen(rng, handler, stream)
        if rng.random() < 0.05 and len(streams) > 2:
            leave(rng, workers, stream)
            streams.remove(stream)
            gone.append(stream)
        for _ in range(rng.randrange(4)):
            check(workers, streams)
            await asyncio.sleep(0)
        check(workers, streams)
    for stream in streams:
        stream.grant(100_000)
    for _ in range(1000):
        handler.calm_down()
        check(workers, streams)
        await asyncio.sleep(0)
    assert all(stream.done for stream in streams)
    assert not workers_running()
    assert not workers._waiting
    assert not workers._given_back
    for stream in [*gone, *streams]:
        workers.cancel(stream)
    assert not workers._in_flight


async def test_inputs_that_a_hung_call_gave_back_leave_no_other_stream_unserved():
    """They are their own stream's to start, and no worker of another one takes them."""
    go = asyncio.Event()

    class GivesBack:
        async def handle(self, call: Call, parts: Sequence[Part]) -> None:
            (part,) = parts
            if payloads_in(parts)[0] == b"a1":
                call.requeue(Part(part.attempt, part.run.split(1)))
                await call.run(go.wait(), parts)
            else:
                await call.run(asyncio.sleep(0), parts)
            echo(parts)

    workers = ItemWorkers(GivesBack(), places=2)
    workers._run_length = 4
    one, other = (FakeAttempt(workers, name) for name in "ab")
    one.send_many(4)
    other.send_many(6)
    await until(lambda: other.done)
    one.send_many(2)  # comes later, while nothing else of it runs
    other.send_many(1)
    await until(lambda: other.done)
    go.set()
    await until(lambda: one.done)
    assert one.outputs == [b"a%d" % n for n in range(1, 7)]


@pytest.mark.parametrize("kind", ["items", "batches"])
async def test_an_input_that_was_given_back_and_is_cancelled_is_not_computed(kind):
    go, computed = asyncio.Event(), []

    class GivesBack:
        async def handle(self, call: Call, parts: Sequence[Part]) -> None:
            if payloads_in(parts)[0] == b"a1":
                call.requeue(Part(parts[0].attempt, parts[0].run.split(1)))
                await call.run(go.wait(), parts)
            computed.extend(payloads_in(parts))
            echo(parts)

    workers = (
        ItemWorkers(GivesBack(), places=1)
        if kind == "items"
        else BatchWorkers(GivesBack(), places=1, max_batch=8, batch_wait=0.0)
    )
    workers._run_length = 8
    stream = FakeAttempt(workers, "a", ordered=False)
    stream.send_many(5)
    await until(lambda: bool(workers._given_back))
    stream.cancel(3, 4)
    await until(lambda: len(stream.answers) == 2)
    go.set()
    await until(lambda: stream.done)
    assert computed == [b"a1", b"a2", b"a5"]
    assert [number for number, answer in stream.answers if answer is ItemErrorKind.CANCELLED] == [
        3,
        4,
    ]
