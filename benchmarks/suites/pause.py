"""The pause when a replica dies by SIGKILL, beyond what reconnecting by hand takes.

Items go through an open stream one at a time, and the replica that serves it is killed in the
middle. The pause is the longest time between two outputs. A raw stub notices that its call broke,
opens another one at once, and sends the item again: as fast as it can be done, and without knowing
what was lost.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc.aio

from benchmarks.bench import Bench, Suite
from benchmarks.measure import MeasurementError
from benchmarks.results import Measurement, Unit
from benchmarks.servers import Mode, RawConnection, ServeServers
from benchmarks.suites.latency import ours_open
from benchmarks.wire import raw_pb2 as pb
from server_fixture.fixture import ServeFixture
from servestream_client import StreamClient

ITEM = bytes(range(100))
APPLICATION = "echo"
REPLICAS = 2
BEFORE = 50
"""Items before the kill."""
AFTER = 50
SETTLING_SECONDS = 4.0
"""From both replicas being back until the next kill: routers must have heard of it."""
PAUSE_SECONDS = 60.0

Once = Callable[[], Awaitable[None]]


async def run(bench: Bench) -> None:
    """Kill by kill, ours and the raw stub in turns.

    Raises:
        MeasurementError: there are no replicas.
    """
    servers = bench.servers
    if not isinstance(servers, ServeServers):
        raise MeasurementError("only replicas of Ray Serve can be killed")
    fixture = servers.fixture
    async with servers.client(APPLICATION) as client, servers.raw(APPLICATION) as raw:

        async def mine() -> float:
            await settle(fixture, APPLICATION)
            return await _ours(fixture, client)

        async def theirs() -> float:
            await settle(fixture, APPLICATION)
            return await _raw(raw)

        pauses = await bench.alternate({"raw": theirs, "ours": mine}, unit="s")
    beyond = [1000 * (ours - raw) for ours, raw in zip(pauses["ours"], pauses["raw"], strict=True)]
    bench.measured(Measurement(name="beyond the raw stub", unit=Unit.MILLISECONDS, values=beyond))
    bench.compare("over the raw stub", pauses["ours"], pauses["raw"])


async def settle(fixture: ServeFixture, application: str) -> None:
    """Wait until an application has all its replicas again, and Serve's routers know it."""
    await asyncio.to_thread(fixture.wait_for_replicas, REPLICAS, application)
    await asyncio.sleep(SETTLING_SECONDS)


async def _ours(fixture: ServeFixture, client: StreamClient[bytes, bytes]) -> float:
    async with ours_open(client) as (once, stream):
        await once()
        name = stream.statistics().replica
        pid = (await asyncio.to_thread(fixture.pids)).get(name or "")
        if pid is None:
            raise MeasurementError(f"nobody knows the replica {name!r}")
        longest = await _longest(once, pid)
        if not stream.statistics().resumes:
            raise MeasurementError("a replica was killed, and the stream did not notice")
        return longest


async def _raw(raw: RawConnection) -> float:
    async with _reconnecting(raw) as (once, pids):
        longest = await _longest(once, pids[0])
        if len(pids) < 2:
            raise MeasurementError("a replica was killed, and the raw stream did not notice")
        return longest


async def _longest(once: Once, pid: int) -> float:
    """The longest time that an item takes, while a process is killed."""
    for _ in range(BEFORE):
        await once()
    os.kill(pid, signal.SIGKILL)
    longest, last = 0.0, time.perf_counter()
    for _ in range(AFTER):
        await asyncio.wait_for(once(), PAUSE_SECONDS)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return longest


@asynccontextmanager
async def _reconnecting(raw: RawConnection) -> AsyncIterator[tuple[Once, list[int]]]:
    """A raw stream that is opened anew, at once, whenever it breaks; and the processes it had."""
    pids: list[int] = []
    call = raw.stub.Items(metadata=raw.metadata)
    replies = aiter(call)

    async def once() -> None:
        nonlocal call, replies
        while not await _exchanged():
            call = raw.stub.Items(metadata=raw.metadata)
            replies = aiter(call)

    async def _exchanged() -> bool:
        try:
            await call.write(pb.ItemsRequest(payload=ITEM))
            reply = await anext(replies)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, StopAsyncIteration):
            return False
        except asyncio.CancelledError:
            # HAProxy resets the call, which grpc.aio reports as if somebody had cancelled it.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return False
        if reply.pid:
            pids.append(reply.pid)
        return True

    try:
        await once()
        yield once, pids
    finally:
        call.cancel()


SUITE = Suite(
    name="pause",
    about="the pause when a replica is killed, beyond a raw stub that reconnects at once",
    run=run,
    modes=(Mode.PROXY, Mode.HAPROXY),
    replicas=REPLICAS,
)
