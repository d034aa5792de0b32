"""One stream, and many calls, over the replicas of a deployment.

Handlers wait for most of their time, as those of a model on another machine do: then the cores of
the machine that measures are no limit to the number of replicas.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from benchmarks.bench import Bench, Suite
from benchmarks.measure import MeasurementError, Way
from benchmarks.servers import Mode
from benchmarks.suites.latency import median_of, ours_open
from servestream_client import StreamClient

ITEM = bytes(range(100))
SETTLING_SECONDS = 4.0
"""For a stream to have its lanes."""
SECONDS = 6.0
"""Of a rate."""
CALLS = (1_000, 10_000, 100_000)
REPLICAS = {4: "waiting_4", 8: "waiting_8"}


async def run(bench: Bench) -> None:
    """Replicas, a slow one among them, a single one, and calls at one time."""
    await _replicas(bench)
    await _uneven(bench)
    await _single(bench)
    await _calls(bench)


async def _replicas(bench: Bench) -> None:
    async with bench.servers.client("waiting") as one:
        for replicas, application in REPLICAS.items():
            async with bench.servers.client(application) as many:
                ways = {"1 replica": stream_rate(one), f"{replicas} replicas": stream_rate(many)}
                where = f"one stream, {replicas} replicas"
                rates = await bench.alternate(ways, unit="items/s", where=where)
            bench.compare(
                f"one stream, {replicas} replicas over 1",
                rates[f"{replicas} replicas"],
                rates["1 replica"],
            )


async def _uneven(bench: Bench) -> None:
    async with bench.servers.client("uneven_4") as client:
        ways = {
            "ordered": stream_rate(client),
            "unordered": stream_rate(client, ordered=False),
        }
        rates = await bench.alternate(ways, unit="items/s", where="one of 4 replicas is slow")
    name = "one of 4 replicas ten times slower, ordered over unordered"
    bench.compare(name, rates["ordered"], rates["unordered"])


async def _single(bench: Bench) -> None:
    async with bench.servers.client("echo") as client:
        ways = {
            "one lane": stream_rate(client, lanes=1),
            "as it is": stream_rate(client),
        }
        rates = await bench.alternate(ways, unit="items/s", where="a single replica")
        name = "one replica, throughput over that with lanes=1"
        bench.compare(name, rates["as it is"], rates["one lane"])
        async with ours_open(client, lanes=1) as (one, _), ours_open(client) as (mine, _):
            ways = {
                "one lane": median_of(one, seconds=bench.settings.seconds),
                "as it is": median_of(mine, seconds=bench.settings.seconds),
            }
            medians = await bench.alternate(ways, unit="s", where="one replica, lone item")
    name = "one replica, lone item over that with lanes=1"
    bench.compare(name, medians["as it is"], medians["one lane"])


async def _calls(bench: Bench) -> None:
    async with bench.servers.client("echo") as client:
        ways = {f"{count:,} calls": _cost(client, count) for count in CALLS}
        costs = await bench.alternate(ways, unit="s/call", where="calls at one time")
    least = costs[f"{CALLS[0]:,} calls"]
    for count in CALLS[1:]:
        name = f"cost of a call, {count:,} at one time over {CALLS[0]:,}"
        bench.compare(name, costs[f"{count:,} calls"], least)


def _cost(client: StreamClient[bytes, bytes], count: int) -> Way:
    """Seconds for each of so many calls at one time."""

    async def once() -> float:
        repeats = max(1, 10_000 // count)
        begun = time.perf_counter()
        for _ in range(repeats):
            outputs = await asyncio.gather(*(client.predict(ITEM) for _ in range(count)))
            if outputs.count(ITEM) != count:
                raise MeasurementError("a call got another answer")
        return (time.perf_counter() - begun) / (repeats * count)

    return once


def stream_rate(
    client: StreamClient[bytes, bytes], *, ordered: bool = True, lanes: int | None = None
) -> Way:
    """Outputs in a second of a stream that has been going on for a while."""

    async def once() -> float:
        async with client.stream(_endless(), ordered=ordered, lanes=lanes) as stream:
            await _count(stream, SETTLING_SECONDS)
            begun = time.perf_counter()
            count = await _count(stream, SECONDS)
            return count / (time.perf_counter() - begun)

    return once


async def _count(outputs: AsyncIterator[bytes], seconds: float) -> int:
    count, until = 0, time.perf_counter() + seconds
    async for output in outputs:
        if output != ITEM:
            raise MeasurementError("an output is another item's")
        count += 1
        if time.perf_counter() >= until:
            return count
    raise MeasurementError("the stream has ended")


async def _endless() -> AsyncIterator[bytes]:
    while True:
        yield ITEM


SUITE = Suite(
    name="lanes",
    about="one stream over many replicas, and 100,000 calls at one time",
    run=run,
    modes=(Mode.PROXY, Mode.HAPROXY),
    applications=("echo", "waiting", "waiting_4", "waiting_8", "uneven_4"),
)
