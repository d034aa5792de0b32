"""How long a server waits for a client that still reads what was sent, in virtual time."""

import asyncio
import random
from contextlib import closing

from servestream_client.protocol.coming import LOWEST_RATE
from servestream_client.protocol.frames import (
    ClientEnd,
    ClientFrame,
    CodecId,
    Credit,
    HandlerKind,
    InputRun,
    Open,
)
from servestream_client.server import StreamService
from servestream_client.server.kit import Interceptor, Kit
from servestream_client.server.runner import LINGER_SECONDS
from servestream_client.wire.convert import client_frame_to_wire
from simulation.loop import VirtualLoop, isolated

CREDIT = Credit(10, 100 * LOWEST_RATE)
OPEN = ClientFrame(open=Open(stream_id=bytes(16), attempt=1, codec=CodecId("bytes")), credit=CREDIT)


class Answers(StreamService[bytes, bytes]):
    """Answers of a size that takes ten seconds at the lowest rate."""

    async def predict(self, item: bytes) -> bytes:
        return bytes(10 * LOWEST_RATE) if item == b"large" else b""


def served(item: bytes, *, end: bool, drain: float | None = None) -> float:
    """Seconds until a server gives up a client that says nothing after its input."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        kit = Kit(Answers(), HandlerKind.ONE_TO_ONE, Interceptor(), replica="r")

        async def requests():
            yield client_frame_to_wire(OPEN)
            last = ClientEnd(1) if end else None
            yield client_frame_to_wire(ClientFrame(inputs=[InputRun(1, [item])], end=last))
            await asyncio.Event().wait()

        begin = loop.time()
        async for frame in kit.frames(requests()):
            if drain is not None and frame.outputs:
                kit.drain(drain)
        return loop.time() - begin

    with closing(VirtualLoop(random.Random(1))) as loop, isolated(loop, random.Random(1)):
        return loop.run_until_complete(main())


def test_after_the_last_frame_it_waits_for_what_is_on_its_way():
    assert LINGER_SECONDS <= served(b"small", end=True) < LINGER_SECONDS + 1
    assert LINGER_SECONDS + 10 <= served(b"large", end=True) < LINGER_SECONDS + 11


def test_the_grace_of_a_drain_is_longer_by_what_is_on_its_way():
    small = served(b"small", end=False, drain=5.0)
    large = served(b"large", end=False, drain=5.0)
    assert 5 + LINGER_SECONDS <= small < 5 + LINGER_SECONDS + 1
    # Once before the grace is over, and once after the last word.
    assert small + 10 <= large < small + 21
