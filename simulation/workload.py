"""What users do with a client in a run, and what they note about it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from servestream_client import (
    ClientClosedError,
    Cursor,
    ItemError,
    OutputDecodeError,
    PredictionStream,
    StreamClient,
    StreamError,
)
from servestream_client.outputs import Numbered
from simulation.schedule import RAISING, Consumption, InputStyle, PredictPlan, StreamPlan

__all__ = ["InputsFailed", "PredictRecord", "StreamRecord", "consume", "predict_all"]


class InputsFailed(Exception):  # noqa: N818 — the user's own
    """What a user's inputs raise."""


@dataclass(slots=True)
class StreamRecord:
    """What the user of one stream saw.

    Attributes:
        plan: what was to be done.
        window: places in the client's window.
        pulled: inputs that were pulled from it.
        got: outputs and item errors, in order.
        answered: inputs that have had their last answer, as far as that can be seen.
        left: whether the user went away early.
        complete: whether the iterator ended in good order.
        error: what it raised instead.
        open_inputs: whether the inputs' generator is open.
        stream_id: of the stream.
        names: the ids of its streams, of which there may be several if its user dies, each as often
            as it was used.
        on_lanes: whether some of its inputs were answered under other numbers.
        apart: of its inputs with many outputs, how many were answered on another stream.
        dies_at: after so many answers the user's process dies, and comes back with its cursor.
        deaths: how often it has.
        states: how many states came of a stateful stream.
        violations: promises that were broken on the way.
    """

    plan: StreamPlan
    window: int
    dies_at: tuple[int, ...] = ()
    deaths: int = 0
    pulled: int = 0
    got: list[object] = field(default_factory=list)
    answered: int = 0
    left: bool = False
    complete: bool = False
    error: BaseException | None = None
    open_inputs: bool = False
    stream_id: bytes = b""
    names: Counter[bytes] = field(default_factory=Counter)
    on_lanes: bool = False
    apart: int = 0
    states: int = 0
    violations: list[str] = field(default_factory=list)

    def pull(self) -> None:
        """An input is taken from the user."""
        self.pulled += 1
        # An item error that is about to be raised has given its place up already.
        raising = 0 if self.plan.return_exceptions else 1
        if self.plan.many and not self.plan.numbered:
            return  # nobody can tell
        if self.pulled - self.answered > self.window + raising:
            self.violations.append(
                f"{self.pulled} inputs pulled and {self.answered} answered, in a window of"
                f" {self.window}"
            )

    def take(self, answer: object) -> None:
        """An answer came."""
        self.got.append(answer)
        if isinstance(answer, Numbered):
            self.answered += answer.last
        elif not (self.plan.many and isinstance(answer, OutputDecodeError)):
            self.answered += 1


@dataclass(slots=True)
class PredictRecord:
    """What the callers of `predict` saw.

    Attributes:
        plan: what was to be done.
        results: outputs or errors, by number.
        gave_up: numbers that were cancelled, or had a timeout.
    """

    plan: PredictPlan
    results: dict[int, object] = field(default_factory=dict)
    gave_up: set[int] = field(default_factory=set)


async def consume(
    client: StreamClient[bytes, bytes], record: StreamRecord, rng: random.Random
) -> None:
    """Iterate a stream as its plan says."""
    plan = record.plan
    await asyncio.sleep(plan.starts)
    if plan.consumption is not Consumption.CANCELLED:
        await _settled(client, record, rng)
        return
    task = asyncio.get_running_loop().create_task(
        _settled(client, record, rng), name=f"sim consumer {plan.items.key}"
    )
    await asyncio.wait({task}, timeout=plan.point * 0.02)
    if task.cancel():
        record.left = True
        await asyncio.wait({task})
    if not task.cancelled():
        task.result()


async def _settled(
    client: StreamClient[bytes, bytes], record: StreamRecord, rng: random.Random
) -> None:
    """Iterate, and note how it ends."""
    try:
        await _iterate(client, record, rng)
    except (StreamError, ItemError, ClientClosedError, InputsFailed) as error:
        record.error = error


async def _iterate(
    client: StreamClient[bytes, bytes], record: StreamRecord, rng: random.Random
) -> None:
    cursor = Cursor() if record.dies_at else None
    while cursor is not None and record.deaths < len(record.dies_at):
        stream = _open(client, record, rng, cursor)
        if not await _take_until(stream, record, record.dies_at[record.deaths]):
            return
        cursor = Cursor.from_bytes(bytes(stream.cursor()))
        record.states += stream.statistics().tokens
        await stream.aclose()
        record.deaths += 1
        record.pulled = 0  # all are pulled once more, and those that are done with passed over
    await _iterate_last(_open(client, record, rng, cursor), record, rng)


def _open(
    client: StreamClient[bytes, bytes],
    record: StreamRecord,
    rng: random.Random,
    cursor: Cursor | None,
) -> PredictionStream[Any]:
    plan = record.plan
    stream: PredictionStream[Any] = client.stream(
        _inputs(record, rng),  # type: ignore[arg-type]  # some are no bytes, which is the point
        ordered=plan.ordered,
        return_exceptions=plan.return_exceptions,
        timeout=plan.timeout,
        parameters={"fault-key": str(plan.items.key)},
        numbered=plan.numbered,
        cursor=cursor,
    )
    record.stream_id = stream._driver.session.stream_id
    record.names[record.stream_id] += 1
    return stream


async def _take_until(stream: PredictionStream[Any], record: StreamRecord, count: int) -> bool:
    """Whether it came so far, and did not end before."""
    async for output in stream:
        record.take(output)
        if len(record.got) >= count:
            return True
    record.complete = True
    return False


async def _iterate_last(
    stream: PredictionStream[Any], record: StreamRecord, rng: random.Random
) -> None:
    plan = record.plan
    if plan.consumption is Consumption.CLOSES:
        async with stream:
            await _take(stream, record, rng)
        return
    await _take(stream, record, rng)


async def _take(
    stream: PredictionStream[bytes | ItemError], record: StreamRecord, rng: random.Random
) -> None:
    plan = record.plan
    leaves = plan.consumption in (Consumption.BREAKS, Consumption.CLOSES)
    if leaves and plan.point == 0:
        record.left = True
        return
    try:
        await _take_all(stream, record, rng)
    finally:
        counters = stream._driver.session.counters
        record.states += counters.tokens
        record.apart = counters.isolated if plan.many else 0
        beside = plan.many and stream._driver.attempts > counters.attempts
        record.on_lanes = counters.by_lanes > 0 or beside


async def _take_all(
    stream: PredictionStream[bytes | ItemError], record: StreamRecord, rng: random.Random
) -> None:
    plan = record.plan
    leaves = plan.consumption in (Consumption.BREAKS, Consumption.CLOSES)
    async for output in stream:
        record.take(output)
        count = len(record.got)
        if leaves and count == plan.point:
            record.left = True
            return
        if plan.consumption is Consumption.SLOW:
            await asyncio.sleep(plan.pause * rng.random())
        elif plan.consumption is Consumption.PAUSES and count == plan.point:
            await asyncio.sleep(plan.pause * 100)
    record.complete = True


def _inputs(record: StreamRecord, rng: random.Random) -> Iterable[object] | AsyncIterable[object]:
    style = record.plan.inputs
    if style is InputStyle.LIST:
        items = record.plan.items
        return [items.item(number) for number in range(1, items.count + 1)]
    if style in (InputStyle.GENERATOR, InputStyle.RAISES):
        return _generated(record)
    return _generated_slowly(record, rng)


def _generated(record: StreamRecord) -> Iterator[object]:
    items = record.plan.items
    record.open_inputs = True
    try:
        for number in range(1, items.count + 1):
            record.pull()
            yield items.item(number)
        if record.plan.inputs in RAISING:
            raise InputsFailed
    finally:
        record.open_inputs = False


async def _generated_slowly(record: StreamRecord, rng: random.Random) -> AsyncIterator[object]:
    items = record.plan.items
    slow = record.plan.inputs is InputStyle.ASYNC_SLOW
    record.open_inputs = True
    try:
        for number in range(1, items.count + 1):
            if slow and rng.random() < 0.2:
                await asyncio.sleep(rng.random() * 0.1)
            record.pull()
            yield items.item(number)
        if record.plan.inputs in RAISING:
            raise InputsFailed
    finally:
        record.open_inputs = False


async def predict_all(
    client: StreamClient[bytes, bytes], record: PredictRecord, rng: random.Random
) -> None:
    """Make the planned calls, so many at a time."""
    numbers = iter(range(1, record.plan.items.count + 1))

    async def caller() -> None:
        for number in numbers:
            await _predict(client, record, number, rng)

    loop = asyncio.get_running_loop()
    callers = [
        loop.create_task(caller(), name=f"sim caller {index}")
        for index in range(min(record.plan.at_once, record.plan.items.count))
    ]
    for each in callers:
        await each


async def _predict(
    client: StreamClient[bytes, bytes], record: PredictRecord, number: int, rng: random.Random
) -> None:
    item = record.plan.items.item(number)
    timeout: float | None = None
    if rng.random() < record.plan.impatient:
        record.gave_up.add(number)
        timeout = rng.random() * 0.5 + 0.001
    try:
        if timeout is not None and rng.random() < 0.5:
            async with asyncio.timeout(timeout):  # cancels the call
                result: object = await client.predict(item)  # type: ignore[arg-type]
        else:
            result = await client.predict(item, timeout=timeout)  # type: ignore[arg-type]
    except (StreamError, ItemError, ClientClosedError, TimeoutError) as error:
        result = error
    if number in record.results:
        raise RuntimeError(f"call {number} returned twice")
    record.results[number] = result
