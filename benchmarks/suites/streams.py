"""Many streams at once: the outputs of all of them in a second.

The streams are endless, and their outputs are counted for a while once every stream has had one:
opening hundreds of streams is no part of it. A raw stream's writer waits while some of its messages
are unanswered, which is faster than to write on and on, and keeps the servers' memory bounded.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import grpc.aio

from benchmarks.background import Beginning, in_background
from benchmarks.bench import Bench, Suite
from benchmarks.measure import Way
from benchmarks.servers import RawConnection, Servers
from benchmarks.wire import raw_pb2 as pb
from servestream_client import StreamClient

Request = TypeVar("Request")
Reply = TypeVar("Reply")

ITEM = bytes(range(100))
APPLICATION = "echo"
COUNTS = (1, 10, 100, 500)
ON_A_CONNECTION = 50
"""Raw streams; HAProxy lets no more than 100 through, and may serve none any more on a connection
on which so many were cancelled. A client opens further connections by itself."""
UNANSWERED = 128
"""Raw messages, over all streams; but at least `LEAST_UNANSWERED` of each."""
LEAST_UNANSWERED = 4
BY_HAND = 256
MANY = 100
"""From so many streams on, outputs come in bursts, and are counted for twice as long."""
SETTLING_SECONDS = 0.3


class Tally(Beginning):
    """Counts the outputs of some streams.

    Attributes:
        outputs: that have come.
    """

    def __init__(self, streams: int) -> None:
        super().__init__(streams)
        self.outputs = 0


Consume = Callable[[Tally], Coroutine[None, None, None]]
"""Opens an endless stream, and consumes it until cancelled."""

Connect = Callable[[AsyncExitStack], Awaitable[Sequence[Consume]]]
"""Opens connections that the stack closes; streams are spread over them."""


def ours(client: StreamClient[bytes, bytes]) -> Consume:
    """A stream of the client's."""

    async def consume(tally: Tally) -> None:
        stream = client.stream(itertools.repeat(ITEM))
        try:
            await anext(stream)
            tally.has_begun()
            async for _ in stream:
                tally.outputs += 1
        finally:
            await stream.aclose()

    return consume


def one_message(raw: RawConnection) -> Consume:
    """A raw stream, one item a message."""

    async def consume(tally: Tally) -> None:
        call = raw.stub.Items(metadata=raw.metadata)
        pace = Pace(tally.workers)
        async with _endless(call, lambda: pb.ItemsRequest(payload=ITEM), pace):
            async for _ in _paced(call, pace, tally):
                tally.outputs += 1

    return consume


def by_hand(raw: RawConnection) -> Consume:
    """A raw stream, batched by hand."""
    items = [ITEM] * BY_HAND

    async def consume(tally: Tally) -> None:
        call = raw.stub.Batches(metadata=raw.metadata)
        pace = Pace(tally.workers)
        async with _endless(call, lambda: pb.BatchesRequest(payloads=items), pace):
            async for reply in _paced(call, pace, tally):
                for _ in reply.payloads:
                    tally.outputs += 1

    return consume


class Pace:
    """Holds a writer back while too many of its messages are unanswered."""

    def __init__(self, streams: int) -> None:
        self._room = asyncio.Semaphore(max(LEAST_UNANSWERED, UNANSWERED // streams))

    async def wait(self) -> None:
        """For room for a message."""
        await self._room.acquire()

    def answered(self) -> None:
        """A message has been."""
        self._room.release()


@asynccontextmanager
async def _endless(
    call: grpc.aio.StreamStreamCall[Request, Any], message: Callable[[], Request], pace: Pace
) -> AsyncIterator[None]:
    """Write such messages for ever, and cancel the call in the end."""

    async def write() -> None:
        while True:
            await pace.wait()
            await call.write(message())

    writing = asyncio.create_task(write())
    try:
        yield
    finally:
        writing.cancel()
        call.cancel()


async def _paced(
    call: grpc.aio.StreamStreamCall[Any, Reply], pace: Pace, tally: Tally
) -> AsyncIterator[Reply]:
    """A call's messages, each making room for another; the first says that it has begun."""
    first = True
    async for reply in call:
        pace.answered()
        yield reply
        if first:
            tally.has_begun()
            first = False


def counting(connect: Connect, streams: int, seconds: float) -> Way:
    """Outputs in a second of so many streams.

    Each time on connections of its own: one on which hundreds of busy streams were cancelled may
    serve no others, behind HAProxy.
    """

    async def once() -> float:
        tally = Tally(streams)
        async with AsyncExitStack() as stack:
            consume = await connect(stack)
            work = [consume[number % len(consume)](tally) for number in range(streams)]
            await stack.enter_async_context(in_background(work, tally, "streams"))
            await asyncio.sleep(SETTLING_SECONDS)
            start, before = time.perf_counter(), tally.outputs
            await asyncio.sleep(seconds)
            return (tally.outputs - before) / (time.perf_counter() - start)

    return once


async def run(bench: Bench) -> None:
    """Count by count."""
    servers = bench.servers
    for count in COUNTS:
        name = "1 stream" if count == 1 else f"{count} streams"
        raws = -(-count // ON_A_CONNECTION)
        ways: dict[str, Connect] = {
            "one item a message": _raw(servers, raws, one_message),
            "ours": _ours(servers),
            "256 by hand": _raw(servers, raws, by_hand),
        }
        seconds = bench.settings.seconds * (2 if count >= MANY else 1)
        rates = await bench.alternate(
            {way: counting(connect, count, seconds) for way, connect in ways.items()},
            unit="items/s",
            where=name,
        )
        bench.compare(name, rates["ours"], rates["one item a message"], at=count)
        bench.compare(f"{name}, over 256 by hand", rates["ours"], rates["256 by hand"], at=count)


def _ours(servers: Servers) -> Connect:
    async def connect(stack: AsyncExitStack) -> list[Consume]:
        return [ours(await stack.enter_async_context(servers.client(APPLICATION)))]

    return connect


def _raw(servers: Servers, connections: int, kind: Callable[[RawConnection], Consume]) -> Connect:
    async def connect(stack: AsyncExitStack) -> list[Consume]:
        return [
            kind(await stack.enter_async_context(servers.raw(APPLICATION)))
            for _ in range(connections)
        ]

    return connect


SUITE = Suite(
    name="streams",
    about="1, 10, 100 and 500 streams at once, what they bring together",
    run=run,
)
