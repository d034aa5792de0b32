"""The ways to get items through a service: the client's, and those written by hand."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

from benchmarks.measure import Contender, MeasurementError
from benchmarks.servers import RawConnection
from benchmarks.wire import raw_pb2 as pb
from servestream_client import StreamClient

Call = Callable[[Sequence[bytes]], Awaitable[int]]
"""Brings items through one stream, and returns how many came back."""


def contender(name: str, call: Call, item: bytes, *, least: int = 1) -> Contender:
    """A contender that sends the same item again and again."""

    async def run(items: int) -> None:
        returned = await call([item] * items)
        if returned != items:
            raise MeasurementError(f"{name}: {returned} of {items} items came back")

    return Contender(name, run, least)


def ours(client: StreamClient[bytes, bytes]) -> Call:
    """One stream of the client."""

    async def call(items: Sequence[bytes]) -> int:
        returned = 0
        async for _ in client.stream(items):
            returned += 1
        return returned

    return call


def by_hand(raw: RawConnection, size: int, item: bytes) -> list[Contender]:
    """Raw streams that are batched by hand, in the ways that one would write them."""
    return [
        contender(f"{size} by hand, written", batches(raw, size), item, least=size),
        contender(f"{size} by hand, pulled", batches_pulled(raw, size), item, least=size),
    ]


def best_by_hand(rates: dict[str, list[float]], size: int) -> list[float]:
    """Of the ways of `by_hand` the one that is faster by its median: what an expert would take."""
    ways = (rates[f"{size} by hand, written"], rates[f"{size} by hand, pulled"])
    return max(ways, key=statistics.median)


def one_message(raw: RawConnection) -> Call:
    """A raw stream, one item a message: a task that writes, beside a loop that reads."""

    async def call(items: Sequence[bytes]) -> int:
        stream = raw.stub.Items(metadata=raw.metadata)

        async def write() -> None:
            for item in items:
                await stream.write(pb.ItemsRequest(payload=item))
            await stream.done_writing()

        returned = 0
        async with beside(write()):
            async for reply in stream:
                _ = reply.payload  # which is what a caller wants of it
                returned += 1
        return returned

    return call


def batches_pulled(raw: RawConnection, size: int) -> Call:
    """A raw stream, batched by hand; gRPC pulls the requests out of an iterator, which costs less
    than to write each.
    """

    async def call(items: Sequence[bytes]) -> int:
        async def requests() -> AsyncIterator[pb.BatchesRequest]:
            for batch in _split(items, size):
                yield pb.BatchesRequest(payloads=batch)

        returned = 0
        async for reply in raw.stub.Batches(requests(), metadata=raw.metadata):
            for _ in reply.payloads:
                returned += 1
        return returned

    return call


def batches(raw: RawConnection, size: int) -> Call:
    """A raw stream, batched by hand; each batch is written."""

    async def call(items: Sequence[bytes]) -> int:
        stream = raw.stub.Batches(metadata=raw.metadata)

        async def write() -> None:
            for batch in _split(items, size):
                await stream.write(pb.BatchesRequest(payloads=batch))
            await stream.done_writing()

        returned = 0
        async with beside(write()):
            async for reply in stream:
                for _ in reply.payloads:
                    returned += 1
        return returned

    return call


def _split(items: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    return (items[start : start + size] for start in range(0, len(items), size))


@asynccontextmanager
async def beside(writing: Awaitable[None]) -> AsyncIterator[None]:
    """Write while something else is done, and to the end."""
    task = asyncio.ensure_future(writing)
    try:
        yield
        await task
    finally:
        task.cancel()
