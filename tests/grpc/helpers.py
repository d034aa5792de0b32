"""What several tests need."""

import asyncio
from collections.abc import AsyncIterable, Callable

from faces import BlockingGeneration, BlockingStream

from servestream_client import ItemError


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(1, count + 1)]


async def collect(stream: AsyncIterable) -> list:
    if isinstance(stream, (BlockingGeneration, BlockingStream)):
        return await stream.rest()
    return [output async for output in stream]


def outputs(results: list) -> list[bytes]:
    return [result for result in results if not isinstance(result, ItemError)]


def failures(results: list) -> list[ItemError]:
    return [result for result in results if isinstance(result, ItemError)]


async def until(condition: Callable[[], bool]) -> None:
    """Let others run until something holds; a vain wait ends with an error."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)
