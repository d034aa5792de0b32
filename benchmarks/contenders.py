"""The ways to get items through a service: the client's, and those written by hand."""

from __future__ import annotations

import asyncio
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


def batches(raw: RawConnection, size: int) -> Call:
    """A raw stream, batched by hand."""

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
