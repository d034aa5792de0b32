"""A client of whatever build it imports, in a process of its own.

Each line of its standard input is a way to work and a number of items; it answers ``done`` when
these are through. It imports nothing but the package's public names: other builds have them, too.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import servestream_client
from servestream_client import StreamClient

__all__ = ["LEAST", "WAYS"]

Client = StreamClient[bytes, bytes]
Way = Callable[[Client, int], Awaitable[int]]
"""Does its work for so many items, and returns how many came back."""

BUILD = Path(servestream_client.__file__).resolve().parents[1]
"""The checkout whose package it is."""

SMALL = bytes(range(100))


def _stream(size: int) -> Way:
    async def way(client: Client, items: int) -> int:
        returned = 0
        async for _ in client.stream([bytes(size)] * items):
            returned += 1
        return returned

    return way


async def _lone_items(client: Client, items: int) -> int:
    given: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def inputs() -> AsyncIterator[bytes]:
        while (item := await given.get()) is not None:
            yield item

    returned = 0
    given.put_nowait(SMALL)
    async for _ in client.stream(inputs()):
        returned += 1
        given.put_nowait(SMALL if returned < items else None)
    return returned


async def _streams_of_one(client: Client, items: int) -> int:
    returned = 0
    for _ in range(items):
        async for _ in client.stream([SMALL]):
            returned += 1
    return returned


def _streams(count: int) -> Way:
    async def way(client: Client, items: int) -> int:
        each = [items // count + (number < items % count) for number in range(count)]
        one = _stream(len(SMALL))
        return sum(await asyncio.gather(*(one(client, size) for size in each)))

    return way


LEAST = {"100 streams, 100 B": 500_000}
"""Items that some ways take at the least: with fewer, opening the streams is all there is."""


def _predict(callers: int) -> Way:
    async def way(client: Client, items: int) -> int:
        left, returned = items, 0

        async def call() -> None:
            nonlocal left, returned
            while left > 0:
                left -= 1
                await client.predict(SMALL)
                returned += 1

        await asyncio.gather(*(call() for _ in range(callers)))
        return returned

    return way


WAYS: dict[str, Way] = {
    "one stream, 10 B": _stream(10),
    "one stream, 100 B": _stream(100),
    "one stream, 1 kB": _stream(1_000),
    "one stream, 10 kB": _stream(10_000),
    "one stream, 100 kB": _stream(100_000),
    "100 streams, 100 B": _streams(100),
    "lone items on an open stream": _lone_items,
    "streams of one item": _streams_of_one,
    "predict, 1 caller": _predict(1),
    "predict, 1,000 callers": _predict(1000),
}


async def main(target: str, application: str) -> None:
    """Say which build this is and which one serves; then do what standard input says."""
    async with StreamClient(target, application=application) as client:
        stream = client.stream([SMALL])
        async for _ in stream:
            pass
        print(BUILD, stream.statistics().code_version, sep="\t", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            name, _, items = line.strip().rpartition(" ")
            returned = await WAYS[name](client, int(items))
            print("done" if returned == int(items) else f"{returned} came back", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
