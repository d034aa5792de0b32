"""Whose context things run in: a stream's is its caller's, and what is shared belongs to nobody."""

import asyncio
import contextvars
import gc
import weakref

import pytest
from faulty import streams_running
from helpers import until
from noting import Noting

from servestream_client import ItemError, RetryPolicy, StreamClient, StreamTimeoutError
from servestream_client.events import (
    AttemptStarted,
    CallEnded,
    Event,
    ItemFailed,
    StreamKind,
    StreamStarted,
)
from servestream_client.server import StreamService

QUICK = RetryPolicy(initial=0.001, maximum=0.01)

REQUEST: contextvars.ContextVar[object] = contextvars.ContextVar("REQUEST", default=None)
BROKEN: contextvars.ContextVar[asyncio.Event] = contextvars.ContextVar("BROKEN")


class Request:
    """What a web framework keeps for one request, until nothing refers to it."""


class Whose(Noting):
    """Notes as well in whose context it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[Event, object]] = []

    def on_event(self, event: Event, /) -> None:
        if not isinstance(event, CallEnded):  # which is told in its caller's, and has its error
            super().on_event(event)
            self.heard.append((event, REQUEST.get()))

    def metadata(self, attempt: AttemptStarted, /):
        self.heard.append((attempt, REQUEST.get()))
        return ()


class Service(StreamService[bytes, bytes]):
    """Fails, waits or breaks the whole call, as its input says."""

    max_concurrency = 100

    async def predict(self, item: bytes) -> bytes:
        if item.startswith(b"bad"):
            raise ValueError("no")
        if item.startswith(b"poison"):
            BROKEN.get().set()
        if item.startswith((b"slow", b"poison")):
            await asyncio.Event().wait()
        return item

    async def Stream(self, request_stream, grpc_context=None):
        broken = asyncio.Event()
        BROKEN.set(broken)
        frames = super().Stream(request_stream, grpc_context)
        ended = asyncio.ensure_future(broken.wait())
        try:
            while True:
                frame = asyncio.ensure_future(anext(frames))
                await asyncio.wait({frame, ended}, return_when=asyncio.FIRST_COMPLETED)
                if not frame.done():
                    raise RuntimeError("the replica breaks")
                try:
                    yield frame.result()
                except StopAsyncIteration:
                    return
        finally:
            ended.cancel()
            frame.cancel()
            await asyncio.gather(frame, return_exceptions=True)
            await frames.aclose()


@pytest.fixture
def whose() -> Whose:
    return Whose()


@pytest.fixture
async def client(serve, whose):
    async with StreamClient(
        await serve(Service()), retry=QUICK, hooks=[whose], predict_streams=1
    ) as connected:
        yield connected


async def within_request(code) -> "weakref.ref[Request]":
    """Run something as a request's own task, and let go of the request."""

    async def handle() -> "weakref.ref[Request]":
        request = Request()
        REQUEST.set(request)
        await code()
        return weakref.ref(request)

    return await asyncio.get_running_loop().create_task(handle())


def gone(request: "weakref.ref[Request]") -> bool:
    gc.collect()
    return request() is None


async def test_a_lane_keeps_no_callers_context_alive(client):
    async def succeed():
        assert await client.predict(b"one") == b"one"

    async def fail():
        with pytest.raises(ItemError):
            await client.predict(b"bad")

    async def time_out():
        with pytest.raises(StreamTimeoutError):
            await client.predict(b"slow", timeout=0.01)

    for code in (succeed, fail, time_out, succeed):
        request = await within_request(code)
        assert streams_running()  # the lane goes on
        await until(lambda request=request: gone(request))
        assert streams_running()  # still


async def test_hooks_hear_of_a_lane_in_nobodys_context(client, whose):
    async def several():
        calls = [b"one", b"bad 1", b"bad 2"]
        await asyncio.gather(*map(client.predict, calls), return_exceptions=True)
        with pytest.raises(StreamTimeoutError):
            await client.predict(b"slow", timeout=0.01)
        await asyncio.gather(
            client.predict(b"two"), client.predict(b"bad 3"), return_exceptions=True
        )

    await within_request(several)
    await until(lambda: len(whose.of(ItemFailed)) == 4)  # the one that timed out was cancelled
    assert {request for _, request in whose.heard} == {None}


async def test_hooks_hear_of_a_stream_in_its_callers_context_until_it_ends(client, whose):
    async def stream():
        results = [r async for r in client.stream([b"one", b"bad"], return_exceptions=True)]
        assert len(results) == 2
        await until(lambda: whose.ended)
        assert {request for _, request in whose.heard} == {REQUEST.get()}

    request = await within_request(stream)
    whose.heard.clear()
    whose.events.clear()  # the first of them refers to the stream
    await until(lambda: gone(request))  # though its stream opened the connection


async def test_an_isolated_stream_runs_in_nobodys_context(client, whose):
    async def stream():
        items = [b"%d" % n for n in range(20)] + [b"poison"] + [b"%d" % n for n in range(20)]
        results = [r async for r in client.stream(items, return_exceptions=True)]
        assert sum(isinstance(result, ItemError) for result in results) == 1

    await within_request(stream)
    isolated = {
        event.stream_id for event in whose.of(StreamStarted) if event.kind is StreamKind.ISOLATED
    }
    assert isolated
    of_isolated = {r for event, r in whose.heard if event.stream_id in isolated}
    of_others = {type(r) for event, r in whose.heard if event.stream_id not in isolated}
    assert of_isolated == {None}
    assert of_others == {Request}
