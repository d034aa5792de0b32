"""Timing: warm up, calibrate, then rounds in which the contenders take turns."""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import psutil

from benchmarks.cpu import CpuMeter

T = TypeVar("T")

Way = Callable[[], Awaitable[float]]
"""Does something once, and returns what was measured."""

MOST_ITEMS = 5_000_000
"""A measurement takes no more, however fast a contender is."""


class MeasurementError(Exception):
    """A contender did not do what it was measured for."""


class Contender(NamedTuple):
    """One way to do the work.

    Attributes:
        name: of the way.
        run: does the work for so many items, and returns when all are through.
        least: items that it can be asked for.
        clients: the processes of its client; none: this one is.
    """

    name: str
    run: Callable[[int], Awaitable[None]]
    least: int = 1
    clients: Sequence[psutil.Process] = ()


def in_turn(ways: Sequence[T], number: int) -> Sequence[T]:
    """The order of a round. Every other one goes backwards, so that none is always first."""
    return ways if number % 2 == 0 else ways[::-1]


async def alternate(
    ways: Mapping[str, Way], *, rounds: int, say: Callable[[str], None] = lambda _: None
) -> dict[str, list[float]]:
    """What each way measures, by round. They take turns."""
    values: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in in_turn(list(ways), number):
            say(f"round {number + 1} of {rounds}: {name}")
            gc.collect()
            values[name].append(await ways[name]())
    return values


async def seconds(contender: Contender, items: int) -> float:
    """How long a contender needs for so many items."""
    gc.collect()
    start = time.perf_counter()
    await contender.run(items)
    return time.perf_counter() - start


async def calibrate(contender: Contender, aim: float) -> int:
    """Warm a contender up, and find how many items keep it busy for about `aim` seconds."""
    items = max(contender.least, 16)
    while True:
        taken = await seconds(contender, items)
        if taken >= aim / 4 or items >= MOST_ITEMS:
            return max(contender.least, min(MOST_ITEMS, round(items * aim / taken)))
        # Half of what would be enough, since what is short is mostly overhead; tenfold at most.
        items = min(MOST_ITEMS, max(2 * items, min(10 * items, round(items * aim / taken / 2))))


async def take_turns(
    contenders: Sequence[Contender],
    *,
    aim: float,
    rounds: int,
    meter: CpuMeter,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, list[float]]:
    """Items in a second, by contender and round; as many items as last for `aim` seconds."""
    ways: dict[str, Way] = {}
    for contender in contenders:
        say(f"warming up {contender.name}")
        ways[contender.name] = _rate(contender, await calibrate(contender, aim), meter)
    return await alternate(ways, rounds=rounds, say=say)


def _rate(contender: Contender, items: int, meter: CpuMeter) -> Way:
    async def once() -> float:
        with meter.over(contender.name, items, contender.clients):
            return items / await seconds(contender, items)

    return once
