"""A client with many streams that are open and idle, in a process of its own.

Started by `benchmarks.suites.idle`. Each stream has had one output. Says ``ready`` when the first
few are there, waits for a line on standard input, opens the others, and says ``open``.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

from benchmarks.servers import RawConnection
from benchmarks.stopping_client import go
from benchmarks.wire import raw_pb2 as pb
from servestream_client import StreamClient

ITEM = bytes(100)
FIRST = 20
"""Streams that are there before memory is looked at, with what all have in common."""
AT_ONCE = 100


async def ours(target: str, application: str, count: int) -> None:
    """The client, with its defaults."""
    never = asyncio.get_running_loop().create_future()

    async def inputs() -> AsyncIterator[bytes]:
        yield ITEM
        await never

    async with (
        StreamClient(target, application=application) as client,
        contextlib.AsyncExitStack() as open_streams,
    ):

        async def open_stream() -> object:
            stream = await open_streams.enter_async_context(client.stream(inputs()))
            await anext(stream)
            return stream

        await _open(open_stream, count)


async def raw(target: str, application: str, count: int) -> None:
    """Calls of the raw stub."""
    async with RawConnection(target, application) as connection:

        async def open_call() -> object:
            call = connection.stub.Items(metadata=connection.metadata)
            await call.write(pb.ItemsRequest(payload=ITEM))
            await call.read()
            return call

        await _open(open_call, count)


async def _open(open_one: Callable[[], Awaitable[object]], count: int) -> None:
    opened = [await open_one() for _ in range(FIRST)]
    await go()
    for begun in range(0, count, AT_ONCE):
        several = range(min(AT_ONCE, count - begun))
        opened += await asyncio.gather(*(open_one() for _ in several))
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.readline)


def main() -> None:
    """Its arguments: ours or raw, target, application, streams."""
    kind, target, application, count = sys.argv[1:]
    asyncio.run({"ours": ours, "raw": raw}[kind](target, application, int(count)))


if __name__ == "__main__":
    main()
