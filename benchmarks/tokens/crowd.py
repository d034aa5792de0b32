"""Many generations at once: what they bring together, and how evenly."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import NamedTuple

from benchmarks.background import Beginning, in_background
from benchmarks.measure import Contender, MeasurementError
from benchmarks.tokens.plan import Plan, Token
from benchmarks.tokens.readers import Connect, Read

ENDLESS = 1 << 40
"""Tokens; more than are ever read."""

LEAST_TOKENS = 50
"""Of a generation that comes to its end: beginning it should not be what is measured."""

SETTLING_SECONDS = 2.0
"""From the last one's beginning until they are looked at, at the most; handlers that fell behind
while others began have caught up by then."""


class Watched(NamedTuple):
    """What was seen of a crowd for a while.

    Attributes:
        tokens: in a second, of all together.
        gap: the 99th percentile of the seconds between two tokens of a generation.
        own_gap: likewise, as the handlers made them.
    """

    tokens: float
    gap: float
    own_gap: float


class _Crowd(Beginning):
    """Generations at once.

    Attributes:
        watched: whether their tokens are kept.
    """

    watched = False


class _Reader:
    """Takes the tokens of one generation, and keeps those of the time that is looked at."""

    def __init__(self, crowd: _Crowd) -> None:
        self._crowd = crowd
        self._first = True
        self.times: list[float] = []
        self.tokens: list[bytes] = []

    def take(self, token: bytes) -> None:
        if self._crowd.watched:
            self.times.append(time.monotonic())
            self.tokens.append(token)
        elif self._first:
            self._first = False
            self._crowd.has_begun()


def finite(name: str, ways: Sequence[Read], readers: int, rate: float) -> Contender:
    """So many generations at once to their ends, which have the items between them."""

    async def run(items: int) -> None:
        plan, count = Plan(items // readers, rate=rate), 0

        def taken(_: bytes) -> None:
            nonlocal count
            count += 1

        await asyncio.gather(*(ways[number % len(ways)](plan, taken) for number in range(readers)))
        if count != readers * plan.length:
            raise MeasurementError(f"{name}: {count} of {readers * plan.length} tokens came")

    return Contender(name, run, readers * LEAST_TOKENS)


async def watch(connect: Connect, readers: int, plan: Plan, seconds: float) -> Watched:
    """What comes of so many generations at a rate.

    Raises:
        MeasurementError: some did not begin, or ended.
    """
    crowd = _Crowd(readers)
    all_readers = [_Reader(crowd) for _ in range(readers)]
    async with AsyncExitStack() as stack:
        ways = await connect(stack)
        work = [
            ways[number % len(ways)](plan, reader.take) for number, reader in enumerate(all_readers)
        ]
        await stack.enter_async_context(in_background(work, crowd, "generations"))
        await asyncio.sleep(min(SETTLING_SECONDS, seconds))
        start, crowd.watched = time.monotonic(), True
        await asyncio.sleep(seconds)
        end, crowd.watched = time.monotonic(), False
    gaps: list[float] = []
    own_gaps: list[float] = []
    for reader in all_readers:
        # Up to both ends: a generation of which nothing came has had a gap as well.
        gaps += _gaps([start, *reader.times, end])
        own_gaps += _gaps([Token.unpack(token).made for token in reader.tokens])
    total = sum(len(reader.tokens) for reader in all_readers)
    return Watched(total / (end - start), _percentile(gaps), _percentile(own_gaps))


def _gaps(times: Sequence[float]) -> list[float]:
    return [after - before for before, after in pairwise(times)]


def _percentile(values: Sequence[float]) -> float:
    """The 99th."""
    return statistics.quantiles(values, n=100)[-1] if len(values) > 1 else sum(values)
