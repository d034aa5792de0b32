"""One item at a time: how long until its output is there."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from benchmarks.bench import Bench, Suite
from benchmarks.contenders import one_message, ours
from benchmarks.measure import MeasurementError, Way
from benchmarks.servers import RawConnection
from benchmarks.wire import raw_pb2 as pb
from servestream_client import PredictionStream, StreamClient

ITEM = bytes(range(100))
WARM_UPS = 20
FRESH = 5
"""First streams in a round: each takes a connection of its own."""

Once = Callable[[], Awaitable[None]]
"""Sends an item, and returns when its output is there."""


async def run(bench: Bench) -> None:
    """On an open stream, for a whole stream, and for the first stream to a target.

    The samples are medians of a round.
    """
    first = await _first_stream(bench)  # while nobody else is connected
    async with bench.servers.client("echo") as client, bench.servers.raw("echo") as raw:
        await _open_stream(bench, client, raw)
        known = await _whole_stream(bench, client, raw)
    bench.compare("first stream of a fresh client", first["ours"], first["raw"])
    bench.compare("first stream over later ones", first["ours"], known["ours"])


async def _first_stream(bench: Bench) -> dict[str, list[float]]:
    async def mine() -> None:
        async with bench.servers.client("echo") as client:
            _expect(1, await ours(client)([ITEM]))

    async def theirs() -> None:
        async with bench.servers.raw("echo") as raw:
            _expect(1, await one_message(raw)([ITEM]))

    ways = {"raw": median_of(theirs, times=FRESH), "ours": median_of(mine, times=FRESH)}
    return await bench.alternate(ways, unit="s", where="first stream")


async def _open_stream(
    bench: Bench, client: StreamClient[bytes, bytes], raw: RawConnection
) -> None:
    async with raw_open(raw) as theirs, ours_open(client) as (mine, _):
        medians = await _compare(bench, mine, theirs, "open stream")
    bench.compare("lone item on an open stream", medians["ours"], medians["raw"])


async def _whole_stream(
    bench: Bench, client: StreamClient[bytes, bytes], raw: RawConnection
) -> dict[str, list[float]]:
    async def mine() -> None:
        _expect(1, await ours(client)([ITEM]))

    async def theirs() -> None:
        _expect(1, await one_message(raw)([ITEM]))

    medians = await _compare(bench, mine, theirs, "whole stream")
    bench.compare("stream of one item", medians["ours"], medians["raw"])
    return medians


async def _compare(bench: Bench, mine: Once, theirs: Once, where: str) -> dict[str, list[float]]:
    for once in (mine, theirs):
        for _ in range(WARM_UPS):
            await once()
    ways = {
        "raw": median_of(theirs, seconds=bench.settings.seconds),
        "ours": median_of(mine, seconds=bench.settings.seconds),
    }
    return await bench.alternate(ways, unit="s", where=where)


def median_of(once: Once, *, times: int = 1, seconds: float = 0.0) -> Way:
    """Of how long it takes, in so many times and for so long at the least."""

    async def measure() -> float:
        taken: list[float] = []
        end = time.perf_counter() + seconds
        while len(taken) < times or time.perf_counter() < end:
            start = time.perf_counter()
            await once()
            taken.append(time.perf_counter() - start)
        return statistics.median(taken)

    return measure


@asynccontextmanager
async def ours_open(
    client: StreamClient[bytes, bytes], *, lanes: int | None = None
) -> AsyncIterator[tuple[Once, PredictionStream[bytes]]]:
    """A stream of ours that waits for items, and itself."""
    items: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def inputs() -> AsyncIterator[bytes]:
        while (item := await items.get()) is not None:
            yield item

    async def once() -> None:
        items.put_nowait(ITEM)
        await anext(stream)

    stream = client.stream(inputs(), lanes=lanes)
    try:
        yield once, stream
        items.put_nowait(None)
        _expect(0, len([output async for output in stream]))
    finally:
        await stream.aclose()


@asynccontextmanager
async def raw_open(raw: RawConnection) -> AsyncIterator[Once]:
    """A raw stream that waits for items."""
    call = raw.stub.Items(metadata=raw.metadata)
    replies = aiter(call)

    async def once() -> None:
        await call.write(pb.ItemsRequest(payload=ITEM))
        await anext(replies)

    try:
        yield once
        await call.done_writing()
        _expect(0, len([reply async for reply in replies]))
    finally:
        call.cancel()


def _expect(wanted: int, returned: int) -> None:
    if returned != wanted:
        raise MeasurementError(f"{returned} outputs came, and not {wanted}")


SUITE = Suite(
    name="latency",
    about="a lone item on an open stream, a stream of one item, the first stream to a target",
    run=run,
)
