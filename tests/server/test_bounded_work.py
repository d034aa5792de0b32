"""The work of an event is bounded by the event, however many calls and streams there are besides.

What is counted is executed bytecode of the package.
"""

import asyncio
from collections.abc import Sequence

import pytest
from attempts import FakeAttempt, echo, for_a_while, until
from steps import steps

from servestream_client.server.batch_workers import BatchWorkers
from servestream_client.server.calls import Call, Part
from servestream_client.server.item_workers import ItemWorkers
from servestream_client.server.workers import Workers

FEW, MANY, MORE = 10, 1000, 10_000


class Held:
    """Holds each call until it is let go; then it echoes."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.running = 0

    async def handle(self, call: Call, parts: Sequence[Part]) -> None:
        self.running += 1
        await call.run(self.go.wait(), parts)
        echo(parts)


async def busy(workers: Workers, handler: Held, *streams: FakeAttempt) -> None:
    """Every place is taken."""
    for stream in streams:
        workers.offer(stream)
    await until(lambda: handler.running == workers._places)
    await for_a_while()


async def one_stream(count: int, **options) -> tuple[Workers, Held, FakeAttempt]:
    """So many handlers run, all for one stream."""
    handler = Held()
    workers = ItemWorkers(handler, places=count)
    stream = FakeAttempt(workers, "a", window=count + 1, **options)
    stream.may_take(3600)
    stream.send_many(count)
    await busy(workers, handler)
    return workers, handler, stream


async def many_streams(count: int) -> tuple[Workers, Held, list[FakeAttempt]]:
    """So many handlers run, each for a stream of its own."""
    handler = Held()
    workers = ItemWorkers(handler, places=count)
    streams = [FakeAttempt(workers) for _ in range(count)]
    for stream in streams:
        stream.may_take(3600)
        stream.send(b"x")
    await busy(workers, handler)
    return workers, handler, streams


async def waiting_streams(kind: str, count: int, **options):
    """So many streams wait for the only place, which another one keeps."""
    handler = Held()
    workers = (
        ItemWorkers(handler, places=1)
        if kind == "items"
        else BatchWorkers(handler, places=1, max_batch=8, batch_wait=options.pop("wait", 0.0))
    )
    holder = FakeAttempt(workers, "holder")
    holder.send_many(1 if kind == "items" else 8)
    await busy(workers, handler)
    streams = [FakeAttempt(workers) for _ in range(count)]
    for number, stream in enumerate(streams):
        stream.may_take(3600 + number % options.get("limits", 1))
        stream.send(b"x", b"y")
    return workers, handler, streams


async def ended(handler: Held, *streams: FakeAttempt) -> None:
    handler.go.set()
    await until(lambda: all(stream.done or stream.session.over for stream in streams))


async def tick(count: int) -> int:
    workers, handler, stream = await one_stream(count)
    taken = steps(lambda: workers.running(stream))
    assert workers.running(stream).count == count
    assert workers.running(stream).oldest_number == 1
    await ended(handler, stream)
    return taken


async def tick_beside_others(count: int) -> int:
    workers, handler, streams = await many_streams(count)
    taken = steps(lambda: workers.running(streams[-1]))
    assert workers.running(streams[-1]).count == 1
    await ended(handler, *streams)
    return taken


async def offer_where_all_places_are_taken(count: int) -> int:
    workers, handler, stream = await one_stream(count)
    stream.send(b"another")
    taken = steps(lambda: workers.offer(stream))
    await ended(handler, stream)
    return taken


@pytest.mark.parametrize("kind", ["items", "batches", "waiting batches"])
async def test_an_offer_costs_the_same_however_many_streams_wait(kind):
    found = []
    for count in (FEW, MANY):
        options = {"wait": 3600.0} if kind == "waiting batches" else {}
        workers, handler, streams = await waiting_streams(kind, count, **options)
        new = FakeAttempt(workers)
        taken = steps(lambda: new.send(b"x"))  # noqa: B023
        found.append(taken + steps(lambda: workers.offer(streams[0])))  # noqa: B023
        for stream in [*streams, new]:
            stream.go()
        await ended(handler)
    assert found[1] <= found[0] + 50


async def cancelling_one_input(count: int) -> int:
    workers, handler, stream = await one_stream(count)
    taken = steps(lambda: workers.cancel(stream, [count // 2]))
    await until(lambda: workers._free == 1)
    await ended(handler, stream)
    return taken


async def cancelling_one_stream(count: int) -> int:
    workers, handler, streams = await many_streams(count)
    taken = steps(lambda: workers.cancel(streams[count // 2]))
    await until(lambda: workers._free == 1)
    await ended(handler, *streams)
    return taken


async def a_stream_that_waits_leaves(count: int) -> int:
    _, handler, streams = await waiting_streams("items", count)
    taken = steps(streams[count // 2].go)
    for stream in streams[8:]:
        stream.go()
    await ended(handler, *streams[:8])
    return taken


async def one_of_many_takes_too_long(count: int) -> int:
    workers, handler, streams = await many_streams(count - 1)
    workers._free += 1
    hasty = FakeAttempt(workers)
    hasty.may_take(0.5)  # more than passes before it is looked for, and less than seems to
    hasty.send(b"x")
    await for_a_while()
    now = asyncio.get_running_loop().time() + 1
    loop = asyncio.get_running_loop()
    time, loop.time = loop.time, lambda: now  # type: ignore[method-assign]
    try:
        taken = steps(workers._limits._look)
    finally:
        loop.time = time  # type: ignore[method-assign]
    await until(lambda: hasty.done)
    await ended(handler, *streams)
    return taken


async def a_call_comes_to_wait_and_goes_on(count: int) -> int:
    workers, handler, stream = await one_stream(count)
    other = FakeAttempt(workers)
    call = Call(workers)
    part = Part(other, type("Run", (), {"first": 1, "last": 1})())
    running = call.run(asyncio.sleep(0), [part])

    def finish() -> None:
        with pytest.raises(StopIteration):
            running.send(None)

    taken = steps(lambda: running.send(None)) + steps(finish)
    await ended(handler, stream)
    return taken


@pytest.mark.parametrize(
    "event",
    [
        tick,
        tick_beside_others,
        offer_where_all_places_are_taken,
        cancelling_one_input,
        cancelling_one_stream,
        a_stream_that_waits_leaves,
        one_of_many_takes_too_long,
        a_call_comes_to_wait_and_goes_on,
    ],
    ids=lambda event: event.__name__,
)
async def test_an_event_costs_the_same_however_much_there_is_besides(event):
    few, many = await event(FEW), await event(MANY)
    assert few > 0
    assert many <= few + 50


@pytest.mark.parametrize(
    "event",
    [tick, cancelling_one_input, a_call_comes_to_wait_and_goes_on],
    ids=lambda event: event.__name__,
)
async def test_ten_thousand_handlers_of_one_stream_cost_no_more(event):
    assert await event(MORE) <= await event(FEW) + 50


async def test_the_next_turn_costs_the_same_however_many_wait():
    found = []
    for count in (FEW, MANY):
        workers, handler, streams = await waiting_streams("items", count)
        call = next(iter(workers._tasks))
        found.append(steps(lambda: workers._goes_on(call, streams[0])))  # noqa: B023
        workers._free += 1
        found[-1] += steps(workers._start_workers)
        for stream in streams:
            stream.go()
        await ended(handler)
    assert found[1] <= found[0] + 50


@pytest.mark.parametrize("limits", [1, 7])
async def test_a_batch_costs_what_it_takes_however_many_wait(limits):
    found = []
    for count in (100, MANY):
        workers, handler, streams = await waiting_streams("batches", count, limits=limits)
        batch = []
        found.append(steps(lambda: batch.extend(workers._gather())))  # noqa: B023
        assert sum(len(part.run.payloads) for part in batch) == 8
        assert len({part.attempt.session.item_timeout for part in batch}) == 1
        for stream in streams:
            stream.go()
        await ended(handler)
    assert found[1] <= found[0] + 50


async def test_a_frame_of_cancellations_costs_by_what_it_names():
    found = []
    for named in (10, 100):
        workers, handler, stream = await one_stream(1000)
        found.append(steps(lambda: workers.cancel(stream, range(1, 10 * named, 10))))  # noqa: B023
        await ended(handler, stream)
    assert found[1] <= 11 * found[0]
