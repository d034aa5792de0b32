"""What readers of single generations do with a client in a run, and what they note about it."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

from servestream_client import ClientClosedError, ItemError, StreamClient, StreamError
from servestream_client.outputs import Seam
from simulation.items import Items

__all__ = ["GeneratePlan", "GenerationRecord", "Manner", "ReaderPlan", "read_all"]


class Manner(enum.Enum):
    """How a reader iterates a generation."""

    FAST = "as fast as it comes"
    SLOW = "a sleep after each output"
    STOPS = "stops until faults have long ended, and reads on"
    PAUSES = "stops for a moment, and reads on"
    BREAKS = "leaves the loop early, and drops the generation"
    CLOSES = "closes the generation early"
    CANCELLED = "its task is cancelled in the middle"
    IMPATIENT = "has a short timeout"


LEAVING = frozenset({Manner.BREAKS, Manner.CLOSES, Manner.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderPlan:
    """One generation.

    Attributes:
        number: of its input.
        manner: how it is read.
        point: after how many outputs its reader stops or leaves.
        pause: seconds.
        starts: when, in virtual seconds.
        goes_on: when a reader goes on that has stopped.
    """

    number: int
    manner: Manner
    point: int
    pause: float
    starts: float
    goes_on: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratePlan:
    """Generations, all at once.

    Attributes:
        items: their inputs.
        readers: one for each.
    """

    items: Items
    readers: Sequence[ReaderPlan]


@dataclass(slots=True)
class GenerationRecord:
    """What one reader saw.

    Attributes:
        plan: what was to be done.
        got: the outputs.
        delivered: how many, by the generation's own word.
        seams: likewise.
        complete: whether the iterator ended in good order.
        left: whether the reader went away early.
        error: what it raised instead.
        ended: when, in virtual seconds; None: not yet.
    """

    plan: ReaderPlan
    got: list[bytes] = field(default_factory=list)
    delivered: int = 0
    seams: Sequence[Seam] = ()
    complete: bool = False
    left: bool = False
    error: BaseException | None = None
    ended: float | None = None


async def read_all(
    client: StreamClient[bytes, bytes], items: Items, records: Sequence[GenerationRecord]
) -> None:
    """Read all generations."""
    loop = asyncio.get_running_loop()
    tasks = [
        loop.create_task(_read(client, items, record), name=f"sim reader {record.plan.number}")
        for record in records
    ]
    for each in tasks:
        await each


async def _read(client: StreamClient[bytes, bytes], items: Items, record: GenerationRecord) -> None:
    plan, loop = record.plan, asyncio.get_running_loop()
    await asyncio.sleep(plan.starts)
    if plan.manner is Manner.CANCELLED:
        task = loop.create_task(
            _settled(client, items, record), name=f"sim reader's own {plan.number}"
        )
        await asyncio.wait({task}, timeout=plan.point * 0.02)
        if task.cancel():
            record.left = True
            await asyncio.wait({task})
        if not task.cancelled():
            task.result()
    else:
        await _settled(client, items, record)
    record.ended = loop.time()


async def _settled(
    client: StreamClient[bytes, bytes], items: Items, record: GenerationRecord
) -> None:
    try:
        await _iterate(client, items, record)
    except (StreamError, ItemError, ClientClosedError) as error:
        record.error = error


async def _iterate(
    client: StreamClient[bytes, bytes], items: Items, record: GenerationRecord
) -> None:
    plan = record.plan
    timeout = plan.pause + 0.01 if plan.manner is Manner.IMPATIENT else None
    generation = client.generate(items.item(plan.number), timeout=timeout)  # type: ignore[arg-type]
    try:
        if plan.manner in LEAVING and plan.point == 0:
            record.left = True
            return
        async for output in generation:
            record.got.append(output)
            if len(record.got) == plan.point:
                if plan.manner in (Manner.BREAKS, Manner.CLOSES):
                    record.left = True
                    return
                if plan.manner is Manner.PAUSES:
                    await asyncio.sleep(plan.pause * 30)
                elif plan.manner is Manner.STOPS:
                    await asyncio.sleep(max(0.0, plan.goes_on - asyncio.get_running_loop().time()))
            if plan.manner is Manner.SLOW:
                await asyncio.sleep(plan.pause * 0.1)
        record.complete = True
    finally:
        record.delivered, record.seams = generation.delivered, generation.seams
        if plan.manner is Manner.CLOSES:
            await generation.aclose()
