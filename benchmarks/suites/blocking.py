"""The blocking client beside the async one, on inputs that a generator makes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from benchmarks.bench import Bench, Suite
from benchmarks.measure import Contender, MeasurementError
from servestream_client import StreamClient, SyncStreamClient

ITEM = bytes(range(100))
APPLICATION = "echo"


def _inputs(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield ITEM


def _check(returned: int, items: int) -> None:
    if returned != items:
        raise MeasurementError(f"{returned} of {items} items came back")


def asynchronous(client: StreamClient[bytes, bytes]) -> Contender:
    """One stream in this event loop."""

    async def run(items: int) -> None:
        returned = 0
        async for _ in client.stream(_inputs(items)):
            returned += 1
        _check(returned, items)

    return Contender("StreamClient", run)


def blocking(client: SyncStreamClient[bytes, bytes]) -> Contender:
    """One stream in a thread, while this event loop waits."""

    def iterate(items: int) -> None:
        _check(sum(1 for _ in client.stream(_inputs(items))), items)

    async def run(items: int) -> None:
        await asyncio.to_thread(iterate, items)

    return Contender("SyncStreamClient", run)


async def run(bench: Bench) -> None:
    """One stream of 100-byte items, either way."""
    async with bench.servers.client(APPLICATION) as client:
        with bench.servers.blocking_client(APPLICATION) as blocking_client:
            rates = await bench.rates([asynchronous(client), blocking(blocking_client)])
    bench.compare("blocking over async", rates["SyncStreamClient"], rates["StreamClient"])


SUITE = Suite(
    name="blocking",
    about="one stream of the blocking client against one of the async client",
    run=run,
)
