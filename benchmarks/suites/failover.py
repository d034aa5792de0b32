"""The pause when one of two endpoints dies by SIGKILL, beyond what going over by hand takes.

Items go through an open stream one at a time. The raw stub has a connection to either endpoint
that was used before; when its call breaks, it opens another at the other one at once, and sends the
item again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import grpc.aio

from benchmarks.bench import Bench, Suite
from benchmarks.measure import MeasurementError
from benchmarks.results import Measurement, Unit
from benchmarks.servers import Mode, PlainServers, RawConnection
from benchmarks.suites.latency import ours_open
from benchmarks.wire import raw_pb2 as pb
from servestream_client import StreamClient

ITEM = bytes(range(100))
ENDPOINTS = ("echo:first", "echo:second")
ITEMS = 50
"""Before the kill, and after it."""
PAUSE_SECONDS = 60.0

Once = Callable[[], Awaitable[None]]


async def run(bench: Bench) -> None:
    """Kill by kill, ours and the raw stub in turns.

    Raises:
        MeasurementError: these are no servers of our own.
    """
    servers = bench.servers
    if not isinstance(servers, PlainServers):
        raise MeasurementError("only servers without Ray Serve can be killed here")

    async def mine() -> float:
        async with (
            StreamClient([servers.require(each) for each in ENDPOINTS]) as client,
            ours_open(client) as (once, stream),
        ):
            await once()
            pause = await longest(servers, ENDPOINTS, stream.statistics().endpoint, once)
            if stream.statistics().resumes != 1:
                raise MeasurementError("an endpoint was killed, and the stream did not notice")
            return pause

    async def theirs() -> float:
        async with _going_over(servers) as once:
            await once()
            return await longest(servers, ENDPOINTS, servers.require(ENDPOINTS[0]), once)

    pauses = await bench.alternate({"raw": theirs, "ours": mine}, unit="s")
    beyond = [1000 * (ours - raw) for ours, raw in zip(pauses["ours"], pauses["raw"], strict=True)]
    bench.measured(Measurement(name="beyond the raw stub", unit=Unit.MILLISECONDS, values=beyond))


async def longest(
    servers: PlainServers, endpoints: Sequence[str], target: str, once: Once
) -> float:
    """The longest time that an item takes, while one of the endpoints is killed, at this target."""
    for _ in range(ITEMS):
        await once()
    name = next(each for each in endpoints if servers.require(each) == target)
    os.kill(servers.pid(name), signal.SIGKILL)
    pause = 0.0
    for _ in range(ITEMS):
        begun = time.perf_counter()
        await asyncio.wait_for(once(), PAUSE_SECONDS)
        pause = max(pause, time.perf_counter() - begun)
    servers.release(name)
    return pause


@asynccontextmanager
async def _going_over(servers: PlainServers) -> AsyncIterator[Once]:
    """A raw stream at the first endpoint that goes on at the second."""
    targets = [servers.require(each) for each in ENDPOINTS]
    async with RawConnection(targets[0], "") as first, RawConnection(targets[1], "") as second:
        await second.stub.Single(pb.SingleRequest(payload=ITEM))
        call = first.stub.Items()
        replies = aiter(call)

        async def once() -> None:
            nonlocal call, replies
            try:
                await call.write(pb.ItemsRequest(payload=ITEM))
                await anext(replies)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError, StopAsyncIteration):
                call = second.stub.Items()
                replies = aiter(call)
                await once()

        try:
            yield once
        finally:
            call.cancel()


SUITE = Suite(
    name="failover",
    about="the pause when one of two endpoints is killed, beyond a raw stub that has the other",
    run=run,
    modes=(Mode.PLAIN,),
    applications=ENDPOINTS,
)
