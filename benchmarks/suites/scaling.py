"""After a scale-up under load: how long until a stream that was there has what the new replicas do.

One stream brings its deployment from one replica to four. Time counts from the moment in which the
last of them runs, until for a second the stream is at 90 % of what a fresh client's gets then.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import AsyncIterator

from benchmarks.bench import Bench, Suite
from benchmarks.measure import MeasurementError
from benchmarks.results import Measurement, Unit
from benchmarks.servers import Mode, ServeServers
from benchmarks.suites.lanes import SETTLING_SECONDS
from server_fixture.waiting import MOST
from servestream_client import StreamClient

APPLICATION = "growing"
SECONDS = 6.0
"""Of a rate, and of what is seen of the stream once all replicas run."""
WINDOW = 1.0
SHARE = 0.9
LOOK = 0.1
PATIENCE = 180.0
"""Seconds for replicas to come, or to go."""


async def run(bench: Bench) -> None:
    """Round by round, each from one replica.

    Raises:
        MeasurementError: there is no Ray Serve, or its replicas do not come and go.
    """
    servers = bench.servers
    if not isinstance(servers, ServeServers):
        raise MeasurementError("only Ray Serve scales")
    servers.require(APPLICATION)
    seen: list[float] = []
    for number in range(bench.settings.rounds):
        bench.say(f"one stream, from one replica to {MOST}, round {number + 1}")
        await _replicas(servers, 1)
        async with servers.client(APPLICATION) as client:
            came, running = await _grown(servers, client)
            fresh = await _fresh(servers)
        seen.append(1000 * _until(came, running, SHARE * fresh))
    bench.measured(
        Measurement(name="until 90 % of a fresh client's", unit=Unit.MILLISECONDS, values=seen)
    )


async def _replicas(servers: ServeServers, count: int) -> None:
    """Wait until there are so many."""
    until = time.monotonic() + PATIENCE
    while len(await asyncio.to_thread(servers.fixture.replicas_alive, APPLICATION)) != count:
        if time.monotonic() > until:
            raise MeasurementError(f"there are not {count} replicas after {PATIENCE:g} s")
        await asyncio.sleep(LOOK)


async def _grown(
    servers: ServeServers, client: StreamClient[bytes, bytes]
) -> tuple[list[float], float]:
    """When each output of a stream came, and when the last replica ran."""
    came: list[float] = []
    async with client.stream(_endless()) as stream:

        async def read() -> None:
            async for _ in stream:
                came.append(time.monotonic())  # noqa: PERF401 — to be seen if it is cancelled

        reading = asyncio.create_task(read())
        await _replicas(servers, MOST)
        running = time.monotonic()
        await asyncio.sleep(SETTLING_SECONDS + SECONDS + 10 * WINDOW)
        reading.cancel()
        await asyncio.wait({reading})
    return came, running


async def _fresh(servers: ServeServers) -> float:
    """Outputs in a second of a stream of a client that is new, once it has its lanes."""
    async with servers.client(APPLICATION) as client, client.stream(_endless()) as stream:
        begin, count = time.monotonic() + SETTLING_SECONDS, 0
        async for _ in stream:
            now = time.monotonic()
            count += now >= begin
            if now >= begin + SECONDS:
                return count / (now - begin)
    raise MeasurementError("the stream has ended")


def _until(came: list[float], running: float, rate: float) -> float:
    """Seconds from when the replicas ran until a window begins that has such a rate.

    Raises:
        MeasurementError: there was none.
    """
    begin = running
    while begin + WINDOW <= came[-1]:
        if bisect_left(came, begin + WINDOW) - bisect_left(came, begin) >= rate * WINDOW:
            return begin - running
        begin += LOOK
    raise MeasurementError(f"the stream has not come to {rate:.0f} outputs in a second")


async def _endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x"


SUITE = Suite(
    name="scaling",
    about="one stream while its deployment grows from one replica to four",
    run=run,
    modes=(Mode.PROXY, Mode.HAPROXY),
    applications=(APPLICATION,),
)
