"""A client that stops reading in the middle of a stream, in a process of its own.

Started by `benchmarks.suites.memory`, which looks at everybody's memory meanwhile. Says ``ready``
when it has connected, waits for a line on standard input, and then says ``stopped``, ``resumed``
and ``done``.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterable, Iterator
from contextlib import aclosing

from benchmarks.contenders import beside
from benchmarks.servers import RawConnection
from benchmarks.wire import raw_pb2 as pb
from servestream_client import StreamClient

WARM_UP = 200


def items(count: int, size: int) -> Iterator[bytes]:
    """Items that share no memory."""
    return (number.to_bytes(8, "big") + bytes(size - 8) for number in range(count))


async def read(outputs: AsyncIterable[object], count: int, stop: float = 0.0) -> None:
    """Read half of the outputs, none for `stop` seconds, and then the rest."""
    returned = 0
    async for _ in outputs:
        returned += 1
        if stop and returned == count // 2:
            print("stopped", flush=True)
            # The event loop runs on, as if the consumer waited for a slow database.
            await asyncio.sleep(stop)
            print("resumed", flush=True)
    if returned != count:
        raise SystemExit(f"{returned} of {count} items came back")


async def ours(target: str, application: str, count: int, size: int, stop: float) -> None:
    """The client, with its defaults."""
    async with StreamClient(target, application=application) as client:
        await read(client.stream(items(WARM_UP, size)), WARM_UP)
        await go()
        async with aclosing(client.stream(items(count, size))) as stream:
            await read(stream, count, stop)


async def raw(target: str, application: str, count: int, size: int, stop: float) -> None:
    """A raw stream, one item a message. Its writer goes on while nobody reads."""
    async with RawConnection(target, application) as connection:
        await _raw_stream(connection, WARM_UP, size)
        await go()
        await _raw_stream(connection, count, size, stop)


async def _raw_stream(connection: RawConnection, count: int, size: int, stop: float = 0.0) -> None:
    call = connection.stub.Items(metadata=connection.metadata)

    async def write() -> None:
        for item in items(count, size):
            await call.write(pb.ItemsRequest(payload=item))
        await call.done_writing()

    async with beside(write()):
        await read(call, count, stop)


async def go() -> None:
    """Wait for the word."""
    gc.collect()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)


def main() -> None:
    """Its arguments: ours or raw, target, application, items, their size, seconds to stop for."""
    kind, target, application, count, size, stop = sys.argv[1:]
    stream = {"ours": ours, "raw": raw}[kind]
    asyncio.run(stream(target, application, int(count), int(size), float(stop)))
    print("done", flush=True)


if __name__ == "__main__":
    main()
