"""A consumer that stops reading stops everything behind it, and loses nothing by it."""

import asyncio

import pytest
from faces import only_async
from helpers import collect, numbered

from servestream_client import FlowControl
from servestream_client.server import StreamService

KIB = 1024
ITEM = 10 * KIB
FLOW = FlowControl(
    window_items=200, window_bytes=400 * KIB, output_items=100, output_bytes=300 * KIB
)


class Counting(StreamService[bytes, bytes]):
    """An echo that knows how often it was called."""

    flow = FLOW
    calls = 0

    async def predict(self, item: bytes) -> bytes:
        if len(item) == ITEM:
            self.calls += 1
        return item


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_stopped_consumer_bounds_inputs_handlers_and_outputs(serve, ordered, connect):
    service = Counting()
    pulled = 0

    def inputs():
        nonlocal pulled
        for number in range(2000):
            pulled += 1
            yield b"%d " % number + bytes(ITEM - len(b"%d " % number))

    async with connect(await serve(service), flow=FLOW) as client:
        stream = client.stream(inputs(), ordered=ordered)
        seen = [await anext(stream)]
        # Others are served meanwhile, for long enough to have moved the whole stream.
        for _ in range(20):
            assert await collect(client.stream(numbered(500))) == numbered(500)
        # At most: what the client may have unanswered, what it holds unread, and what the server
        # has finished beyond the credit; each with the one that may exceed its limit.
        unanswered = FLOW.window_bytes // ITEM + 1
        unread = FLOW.output_bytes // ITEM + 1
        ahead = FLOW.output_bytes // ITEM + 1
        assert pulled <= 1 + unread + unanswered + 1
        # Besides, one in the handler, and a few that left it while credit was on its way.
        assert service.calls <= 1 + unread + ahead + 6
        assert stream.statistics().taken_through == 1
        seen += await collect(stream)
    assert [int(item.split()[0]) for item in sorted(seen, key=lambda i: int(i.split()[0]))] == [
        *range(2000)
    ]
    assert not ordered or [int(item.split()[0]) for item in seen] == [*range(2000)]
    assert service.calls == 2000


@only_async
@pytest.mark.parametrize("places", [1, 2, 3, 4096])
async def test_a_conversation_never_stalls_for_a_fuller_frame(serve, places, connect):
    flow = FlowControl(window_items=places, output_items=places)
    answered = asyncio.Queue()

    async def inputs():
        for number in range(100):
            yield b"%d" % number
            assert await answered.get() == b"%d" % number

    async with connect(await serve(Counting()), flow=flow) as client:
        async for answer in client.stream(inputs()):
            answered.put_nowait(answer)


@pytest.mark.parametrize("places", [1, 2, 3])
async def test_small_windows_are_enough(serve, places, connect):
    flow = FlowControl(window_items=places, output_items=places)
    async with connect(await serve(Counting()), flow=flow) as client:
        assert await collect(client.stream(numbered(300))) == numbered(300)
