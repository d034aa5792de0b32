"""Two builds side by side, client and server of each: what a change has cost or brought."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks import other_build
from benchmarks.bench import Bench, Suite
from benchmarks.build_client import LEAST, WAYS
from benchmarks.children import Child, child
from benchmarks.measure import Contender, MeasurementError

APPLICATION = "echo"
SECONDS = 120.0
"""For one measurement, before it counts as one that hangs."""

HERE, THERE = "this build", "the other"


def _contender(name: str, way: str, client: Child) -> Contender:
    async def run(items: int) -> None:
        client.say(f"{way} {items}")
        await client.hear("done", SECONDS)

    return Contender(name, run, least=LEAST.get(way, 1), clients=(client.process,))


async def _started(stack: AsyncExitStack, bench: Bench, build: Path, *, there: bool) -> Child:
    """A client of a build, and that it is of that one."""
    application = APPLICATION + (other_build.SUFFIX if there else "")
    target = bench.servers.require(application)
    environment = other_build.environment() if there else {}
    client = await stack.enter_async_context(
        child("benchmarks.build_client", [target, application], environment=environment)
    )
    found = (await client.line(SECONDS)).split("\t")
    if found != [str(build)] * 2:
        raise MeasurementError(f"client and server were to import {build}, and have {found}")
    return client


def suite(checkout: Path) -> Suite:
    """Everything that a client does in a few seconds, on both builds in turn."""
    builds = Path(__file__).resolve().parents[2], checkout.resolve()

    async def run(bench: Bench) -> None:
        async with AsyncExitStack() as stack:
            here = await _started(stack, bench, builds[0], there=False)
            there = await _started(stack, bench, builds[1], there=True)
            for way in WAYS:
                contenders = [_contender(HERE, way, here), _contender(THERE, way, there)]
                rates = await bench.rates(contenders, where=way)
                bench.compare(way, rates[HERE], rates[THERE])

    return Suite(
        name="against",
        about=f"this build over that of {checkout}, client and server",
        run=run,
        applications=(APPLICATION, APPLICATION + other_build.SUFFIX),
    )
