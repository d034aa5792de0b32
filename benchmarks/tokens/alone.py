"""One generation alone: the time to its first token, and the gap between two of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from benchmarks.measure import MeasurementError
from benchmarks.tokens.plan import Plan
from benchmarks.tokens.readers import Read


class Alone(NamedTuple):
    """Medians over a few generations, one after the other.

    Attributes:
        first: seconds to the first token.
        gap: seconds between two tokens.
    """

    first: float
    gap: float


async def alone(read: Read, plan: Plan, generations: int) -> Alone:
    """
    Raises:
        MeasurementError: tokens were lost.
    """
    runs = [await _times(read, plan) for _ in range(generations)]
    return Alone(
        statistics.median(times[1] - times[0] for times in runs),
        statistics.median(
            after - before for times in runs for before, after in pairwise(times[1:])
        ),
    )


async def _times(read: Read, plan: Plan) -> Sequence[float]:
    """When a generation began, and when each token came."""
    times = [time.perf_counter()]
    await read(plan, lambda _: times.append(time.perf_counter()))
    if len(times) != plan.length + 1:
        raise MeasurementError(f"{len(times) - 1} of {plan.length} tokens came")
    return times
