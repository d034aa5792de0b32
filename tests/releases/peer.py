"""One end, of whatever release is on the path: only what the release before has, too.

python peer.py serve        prints its target, and serves until standard input ends; it dies once,
                            as a process that is killed does, at an item of a stream
python peer.py serve-many   likewise, without dying, a service that the release before cannot make
python peer.py call TARGET  calls the first in each way there is; what it found, as JSON
python peer.py call-many TARGET
                            the outputs of one input of the second
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator

import servestream_client
from servestream_client import ItemError, StreamClient, SyncStreamClient
from servestream_client.server import StreamService
from servestream_client.testing import Fault, FaultKind, StreamServer

ITEMS = [b"%d" % number for number in range(3000)]
KILLED_AT = 1500
LARGE = [b"%d" % number + bytes(1000) for number in range(30_000)]
"""Enough for frames to grow as far as they do."""
HUGE = [b"%d" % number + bytes(2_000_000) for number in range(3)]
"""Each is more than a frame gathers."""


class Upper(StreamService[bytes, bytes]):
    """Fails on one item."""

    async def predict(self, item: bytes) -> bytes:
        if item == b"bad":
            raise ValueError("a bad item")
        return item.upper()


class Many(StreamService[bytes, bytes]):
    """What the release before does not have: as many outputs as the input says."""

    async def generate(self, item: bytes, resume: object) -> AsyncIterator[bytes]:
        for number in range(int(item)):
            yield b"%d" % number


def serve(service: type[StreamService[bytes, bytes]], *faults: Fault) -> None:
    with StreamServer(service) as server:
        server.add_faults(*faults)
        print(server.target, flush=True)
        sys.stdin.read()


async def call(target: str) -> dict[str, object]:
    found: dict[str, object] = {"from": servestream_client.__file__}
    async with StreamClient(target) as client:
        stream = client.stream(ITEMS)
        found["ordered"] = [output async for output in stream] == ITEMS
        found["resumes"] = stream.statistics().resumes
        found["large"] = [output async for output in client.stream(LARGE)] == LARGE
        found["huge"] = [output async for output in client.stream(HUGE)] == HUGE
        outputs = [output async for output in client.stream(iter(ITEMS), ordered=False)]
        found["unordered"] = sorted(outputs) == sorted(ITEMS)
        predicted = await asyncio.gather(*(client.predict(b"item %d" % n) for n in range(200)))
        found["predict"] = predicted == [b"ITEM %d" % n for n in range(200)]
        mixed = client.stream([b"a", b"bad", b"c"], return_exceptions=True)
        results = [each async for each in mixed]
        found["errors"] = [
            each.text if isinstance(each, ItemError) else each.decode() for each in results
        ]
        if hasattr(client, "generate"):
            found["generate"] = [output async for output in client.generate(b"a")] == [b"A"]
    with SyncStreamClient(target) as client:
        found["blocking"] = list(client.stream(ITEMS)) == ITEMS
    return found


async def call_many(target: str) -> list[str]:
    async with StreamClient(target) as client:
        return [output.decode() async for output in client.stream([b"500"])]


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve"]:
            serve(Upper, Fault(FaultKind.KILL, at=KILLED_AT))
        case ["serve-many"]:
            serve(Many)
        case ["call", target]:
            print(json.dumps(asyncio.run(call(target))))
        case ["call-many", target]:
            print(json.dumps(asyncio.run(call_many(target))))
