"""A file of any size through a stream, in constant memory.

    make serve APPLICATIONS=echo                   # in another terminal
    python examples/large_file.py in.txt out.txt   # and perhaps another host:port

Lines are read as there is room for them, and results are written as they come: no more than
`FlowControl` allows is ever held, at either end and between them.
"""

import asyncio
import resource
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio

from servestream_client import FlowControl, StreamClient


async def lines(path: Path) -> AsyncIterator[bytes]:
    """The file's lines, without their ends."""
    async with await anyio.open_file(path, "rb") as file:
        async for line in file:
            yield line.rstrip(b"\n")


async def main(source: str, destination: str, target: str = "127.0.0.1:9000") -> None:
    """Send each line, and write each result in its place."""
    count = 0
    flow = FlowControl(window_items=1024)
    async with (
        StreamClient(target, application="echo", flow=flow) as client,
        await anyio.open_file(destination, "wb") as file,
    ):
        async for output in client.stream(lines(Path(source))):
            await file.write(output + b"\n")
            count += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{count:,} lines, {peak:.0f} MiB at the most")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
