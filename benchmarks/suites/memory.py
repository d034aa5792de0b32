"""Memory behind a consumer that stops reading: the client's, the ingress's and the replica's.

A client in a process of its own streams items of 10 kB, stops reading in the middle, and reads on
after half a minute. The memory is the sum of the processes' proportional set sizes (PSS), less
what it was before; the growth is its peak.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import NamedTuple

from benchmarks.bench import Bench, Suite
from benchmarks.children import Child, child, memory
from benchmarks.measure import MeasurementError
from benchmarks.results import Measurement, Unit

APPLICATION = "echo"
ITEMS = 20_000
ITEM_BYTES = 10_000
STOP_SECONDS = 30.0
QUICK_STOP_SECONDS = 5.0
MOST_ROUNDS = 3
INTERVAL_SECONDS = 0.1
BASELINE_SAMPLES = 10
STREAM_SECONDS = 120.0
"""For each half of the stream."""
POINTS = 300
"""On a line of the plot."""


class Run(NamedTuple):
    """Memory over time: seconds since the stream began, MiB above what there was before."""

    seconds: list[float]
    growth: list[float]
    stopped: float
    resumed: float
    finished: bool

    @property
    def peak(self) -> float:
        """The most that it grew."""
        return max(self.growth)


async def run(bench: Bench) -> None:
    """Ours first, since the memory that a raw stream takes does not all come back."""
    stop = QUICK_STOP_SECONDS if bench.settings.quick else STOP_SECONDS
    rounds = min(bench.settings.rounds, MOST_ROUNDS)
    runs: dict[str, list[Run]] = {"ours": [], "raw": []}
    for number in range(rounds):
        bench.say(f"round {number + 1} of {rounds}: ours")
        runs["ours"].append(await _run(bench, "ours", stop))
    bench.say("raw")
    runs["raw"].append(await _run(bench, "raw", stop))
    if not all(one.finished for one in runs["ours"]):
        raise MeasurementError(f"the stream did not end within {STREAM_SECONDS:.0f} s")
    if not runs["raw"][0].finished:
        bench.note(
            f"the raw stream did not come to its end within {STREAM_SECONDS:.0f} s after its"
            " consumer had resumed"
        )
    for kind, each in runs.items():
        peaks = [one.peak for one in each]
        bench.measured(Measurement(name=f"growth, {kind}", unit=Unit.MEBIBYTES, values=peaks))
        middle = sorted(each, key=lambda one: one.peak)[len(each) // 2]
        thin = slice(None, None, -(-len(middle.seconds) // POINTS))
        bench.line(kind, middle.seconds[thin], middle.growth[thin])
        bench.line(f"{kind}, stopped", [middle.stopped, middle.resumed], [0.0, 0.0])
    ratios = [one.peak / runs["raw"][0].peak for one in runs["ours"]]
    bench.measured(Measurement(name="ours over raw", values=ratios))


async def _run(bench: Bench, kind: str, stop: float) -> Run:
    target = bench.servers.require(APPLICATION)
    command = (kind, target, APPLICATION, str(ITEMS), str(ITEM_BYTES), str(stop))
    async with child("benchmarks.stopping_client", command) as client:
        await client.hear("ready", STREAM_SECONDS)
        processes = [*bench.servers.carriers(), client.process]
        before: list[float] = []
        for _ in range(BASELINE_SAMPLES):
            before.append(memory(processes))
            await asyncio.sleep(INTERVAL_SECONDS)
        baseline = statistics.median(before)
        seconds: list[float] = []
        growth: list[float] = []
        start = time.perf_counter()

        async def sample() -> None:
            while True:
                growth.append(memory(processes) - baseline)
                seconds.append(time.perf_counter() - start)
                await asyncio.sleep(INTERVAL_SECONDS)

        sampling = asyncio.create_task(sample())
        try:
            client.say("go")
            await client.hear("stopped", STREAM_SECONDS)
            stopped = time.perf_counter() - start
            await client.hear("resumed", STREAM_SECONDS)
            resumed = time.perf_counter() - start
            finished = await _done(client)
        finally:
            sampling.cancel()
        return Run(seconds, growth, stopped, resumed, finished)


async def _done(client: Child) -> bool:
    try:
        await client.hear("done", STREAM_SECONDS)
    except TimeoutError:
        return False
    return True


SUITE = Suite(
    name="memory",
    about="memory behind a consumer that stops reading for half a minute",
    run=run,
    fresh=True,
)
