"""Whether an item costs more in a long stream than in a short one."""

from __future__ import annotations

from benchmarks.bench import Bench, Suite
from benchmarks.contenders import contender, ours
from benchmarks.measure import Way, seconds
from benchmarks.results import Measurement
from benchmarks.servers import Mode
from benchmarks.statistics import ratios

ITEM = bytes(range(100))
REFERENCE = 100_000
LENGTHS = (1_000, 10_000, REFERENCE, 1_000_000)
QUICK_LENGTHS = LENGTHS[:3]
TOGETHER = 50_000
"""Short streams are repeated until they have so many items together."""


async def run(bench: Bench) -> None:
    """The time of an item in streams of several lengths, over that in a stream of `REFERENCE`."""
    async with bench.servers.client("echo") as client:
        stream = contender("ours", ours(client), ITEM)

        def time_of_an_item(length: int) -> Way:
            repeats = max(1, TOGETHER // length)

            async def once() -> float:
                total = sum([await seconds(stream, length) for _ in range(repeats)])
                return total / (repeats * length)

            return once

        await seconds(stream, REFERENCE)
        lengths = QUICK_LENGTHS if bench.settings.quick else LENGTHS
        ways = {f"{length:,} items": time_of_an_item(length) for length in lengths}
        times = await bench.alternate(ways, unit="s an item")
    for length, (name, values) in zip(lengths, times.items(), strict=True):
        if length != REFERENCE:
            reference = times[f"{REFERENCE:,} items"]
            bench.measured(Measurement(name=name, values=ratios(values, reference), at=length))


SUITE = Suite(
    name="growth",
    about="the time of an item in streams of 10^3 to 10^6 items",
    run=run,
    modes=(Mode.PLAIN,),
)
