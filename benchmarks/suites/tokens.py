"""Inputs with many outputs: `StreamClient.generate` against a raw server-streaming RPC.

The handler is the same function for both. It makes tokens as fast as it can, or at a rate.
"""

from __future__ import annotations

import math
from contextlib import AsyncExitStack
from dataclasses import dataclass

from benchmarks.bench import Bench, Suite
from benchmarks.measure import Contender, MeasurementError, Way, calibrate, seconds
from benchmarks.results import Measurement, Unit
from benchmarks.tokens.alone import alone
from benchmarks.tokens.crowd import ENDLESS, Watched, finite, watch
from benchmarks.tokens.plan import Plan
from benchmarks.tokens.quiet import quiet
from benchmarks.tokens.readers import APPLICATION, Connect, Read, contenders
from benchmarks.tokens.stopped import Stopped, bounds, stopped
from servestream_client import FlowControl

WATCHED = 5
"""Times the seconds of a measurement: tokens at a rate are watched for so long."""
MOST_RAW = 200
"""Readers: more than so many raw ones are tried once, and may fail."""
STOPPED = 40
"""Likewise: so long readers stop."""
MOST_STOPS = 2
ALONE_RATE = 100.0


@dataclass(frozen=True, slots=True)
class Pace:
    """Generations at a rate.

    Attributes:
        readers: at once.
        rate: tokens in a second of each.
        name: of its figures.
    """

    readers: int
    rate: float

    @property
    def name(self) -> str:
        return f"{self.readers:,} generations of {self.rate:g} a second"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the crowds are.

    Attributes:
        readers: of handlers that are as fast as they can.
        paces: at which others read.
        generations: one after the other in a round.
        tokens: of each of these.
        stopping: readers, of which half stop.
    """

    readers: int = 100
    paces: tuple[Pace, ...] = (Pace(100, 50.0), Pace(1000, 20.0))
    generations: int = 10
    tokens: int = 30
    stopping: int = 200


SIZES = Sizes()


async def run(bench: Bench) -> None:
    """Part by part."""
    await _alone(bench)
    await _fast(bench, "as fast as they can", 0.0)
    await _fast(bench, "giving way after each token", math.inf)
    for pace in SIZES.paces:
        await _paced(bench, pace)
    await _stopped(bench)


async def _fast(bench: Bench, about: str, rate: float) -> None:
    """Handlers as fast as they can."""
    readers = SIZES.readers
    name = f"{readers} generations, {about}"
    async with AsyncExitStack() as stack:
        ways: dict[str, Way] = {}
        for way, connect in contenders(bench.servers, readers).items():
            bench.say(f"{name}: warming up {way}")
            contender = finite(way, await connect(stack), readers, rate)
            items = await calibrate(contender, bench.settings.seconds)
            ways[way] = _quietly(bench, _rate(contender, items))
        rates = await bench.alternate(ways, unit="tokens/s", where=name)
    bench.compare(name, rates["ours"], rates["raw"])


def _rate(contender: Contender, items: int) -> Way:
    async def once() -> float:
        return items / await seconds(contender, items)

    return once


def _quietly(bench: Bench, way: Way) -> Way:
    """Measured once the servers have nothing left to do of what was measured before."""

    async def once() -> float:
        await quiet(bench.servers)
        return await way()

    return once


async def _paced(bench: Bench, pace: Pace) -> None:
    """Handlers at a rate: the share of that which comes, and how evenly it does."""
    plan, lasts = Plan(ENDLESS, rate=pace.rate), WATCHED * bench.settings.seconds
    seen: dict[str, list[Watched]] = {"raw": [], "ours": []}

    def watching(way: str, connect: Connect) -> Way:
        async def once() -> float:
            watched = await watch(connect, pace.readers, plan, lasts)
            seen[way].append(watched)
            return watched.tokens

        return once

    ways = {
        way: _quietly(bench, watching(way, connect))
        for way, connect in contenders(bench.servers, pace.readers).items()
    }
    alone = ways.pop("raw") if pace.readers > MOST_RAW else None
    rates = await bench.alternate(ways, unit="tokens/s", where=pace.name)
    if alone is not None:
        bench.say(f"{pace.name}: raw, once")
        rates["raw"] = await _once(bench, alone, f"{pace.name}, raw")
    for way, each in seen.items():
        if not each:
            continue
        gaps = {"p99 gap": [one.gap for one in each], "p99 gap made": [one.own_gap for one in each]}
        for name, values in gaps.items():
            bench.sampled({f"{way}, {name}": values}, unit="s", where=pace.name)
        share = [100 * rate / (pace.readers * pace.rate) for rate in rates[way]]
        _measured(bench, f"{pace.name}, share that comes, {way}", share, Unit.PERCENT)
        times = [one.gap / max(one.own_gap, 1 / pace.rate) for one in each]
        _measured(bench, f"{pace.name}, p99 gap over the handlers', {way}", times, Unit.TIMES)


async def _once(bench: Bench, way: Way, what: str) -> list[float]:
    """Of a crowd that may be too large for it; what fails is noted."""
    try:
        values = [await way()]
    except MeasurementError as error:
        bench.note(f"{what}: {error}")
        return []
    bench.sampled({what: values}, unit="tokens/s")
    return values


async def _alone(bench: Bench) -> None:
    """One generation after the other."""
    plan = Plan(SIZES.tokens, rate=ALONE_RATE)
    gaps: dict[str, list[float]] = {"raw": [], "ours": []}

    def timing(way: str, read: Read) -> Way:
        async def once() -> float:
            times = await alone(read, plan, SIZES.generations)
            gaps[way].append(times.gap)
            return times.first

        return once

    async with AsyncExitStack() as stack:
        ways: dict[str, Way] = {}
        for way, connect in contenders(bench.servers, 1).items():
            (read,) = await connect(stack)
            await alone(read, plan, 1)  # warms it up
            ways[way] = _quietly(bench, timing(way, read))
        first = await bench.alternate(ways, unit="s to the first token", where="alone")
    bench.sampled(gaps, unit="s between tokens", where="alone")
    bench.compare("one generation, time to the first token", first["ours"], first["raw"])
    bench.compare("one generation, gap between tokens", gaps["ours"], gaps["raw"])


async def _stopped(bench: Bench) -> None:
    """Ours alone: half of the readers stop."""
    readers, unit = SIZES.stopping, bench.settings.seconds
    seen: list[Stopped] = []
    for number in range(min(bench.settings.rounds, MOST_STOPS)):
        bench.say(f"{readers} readers of which half stop, round {number + 1}")
        await quiet(bench.servers)
        seen.append(await stopped(bench.servers, readers, 2 * unit, STOPPED * unit))
    name = f"{readers // 2} of {readers} readers stop"
    bench.compare(
        f"{name}, rate of the others over before",
        [each.during for each in seen],
        [each.before for each in seen],
    )
    growth = [each.growth for each in seen]
    _measured(bench, f"{name}, growth of memory", growth, Unit.MEBIBYTES)
    bound = bounds(readers // 2, FlowControl())
    bench.compare(f"{name}, growth over the sum of the bounds", growth, [bound] * len(growth))


def _measured(bench: Bench, name: str, values: list[float], unit: Unit) -> None:
    bench.measured(Measurement(name=name, unit=unit, values=values))


SUITE = Suite(
    name="tokens",
    about="inputs with many outputs, against a raw server-streaming RPC",
    run=run,
    applications=(APPLICATION,),
)
