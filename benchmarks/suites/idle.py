"""What an open stream costs its client in memory while nothing happens on it."""

from __future__ import annotations

import asyncio

from benchmarks.bench import Bench, Suite
from benchmarks.children import child, memory
from benchmarks.results import Measurement, Unit
from benchmarks.servers import Mode

APPLICATION = "echo"
STREAMS = 10_000
QUICK_STREAMS = 1_000
MOST_ROUNDS = 3
OPEN_SECONDS = 300.0
SETTLE_SECONDS = 2.0
"""Until what opening took is given back."""


async def run(bench: Bench) -> None:
    """Both in turn, each time in a process of its own."""
    count = QUICK_STREAMS if bench.settings.quick else STREAMS
    taken: dict[str, list[float]] = {"ours": [], "raw": []}
    for number in range(min(bench.settings.rounds, MOST_ROUNDS)):
        for kind in taken if number % 2 == 0 else reversed(taken):
            bench.say(f"round {number + 1}: {kind}")
            taken[kind].append(await _run(bench, kind, count))
    for kind, values in taken.items():
        bench.measured(Measurement(name=f"each stream, {kind}", unit=Unit.KIBIBYTES, values=values))
    beyond = [ours - raw for ours, raw in zip(taken["ours"], taken["raw"], strict=True)]
    bench.measured(Measurement(name="each stream, beyond raw", unit=Unit.KIBIBYTES, values=beyond))


async def _run(bench: Bench, kind: str, count: int) -> float:
    target = bench.servers.require(APPLICATION)
    async with child("benchmarks.idle_client", (kind, target, APPLICATION, str(count))) as client:
        await client.hear("ready", OPEN_SECONDS)
        before = memory([client.process])
        client.say("go")
        await client.hear("open", OPEN_SECONDS)
        await asyncio.sleep(SETTLE_SECONDS)
        return (memory([client.process]) - before) * 1024 / count


SUITE = Suite(
    name="idle",
    about="memory of a client with 10,000 streams that are open and idle",
    run=run,
    modes=(Mode.PLAIN,),
    fresh=True,
)
