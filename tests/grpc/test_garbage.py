"""Calls die by reference count: what the garbage collector must find dies anywhere, in the midst of
logging, for example, where gRPC's own lock may be held.
"""

import asyncio
import gc
import logging
import weakref
from collections import Counter

import grpc.aio
import pytest
from faulty import streams_running
from helpers import numbered, until
from surroundings import intercepting

from servestream_client import Hooks, RetryPolicy, StreamClient, SyncStreamClient
from servestream_client.server import StreamService
from servestream_client.testing import Echo, Fault, FaultKind, StreamServer
from servestream_client.usercode import type_name

KINDS = ("StreamStreamCall", "_AioCall", "GrpcLink", "_Exchange")
TIMES = 12
QUICK = RetryPolicy(initial=0.001, maximum=0.002, attempts=100)


@pytest.fixture
def server():
    with StreamServer(Echo) as server:
        yield server


@pytest.fixture(autouse=True)
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive() -> Counter:
    """What there is of our calls; those of the server's end are of other kinds."""
    names = map(type_name, gc.get_objects())
    return Counter(name for name in names if name in KINDS)


async def none_left(before: Counter) -> None:
    await until(lambda: not streams_running())
    async with asyncio.timeout(20):
        while left := alive() - before:  # gRPC's own tasks have a step or two to go
            assert left
            await asyncio.sleep(0.01)


FAULTS = [None, FaultKind.CLOSE, FaultKind.GARBAGE]


@pytest.mark.parametrize("kind", FAULTS, ids=["cut", "closed", "garbage"])
async def test_a_resume_leaves_no_call(server, kind, monkeypatch):
    # What pytest keeps of the log would hold the frames in which it was written.
    monkeypatch.setattr(logging.getLogger("grpc"), "propagate", False)
    before = alive()
    if kind is not None:
        # Late ones in streams of their own, since a stream that breaks too often isolates inputs.
        server.add_faults(*(Fault(kind, at=500) for _ in range(TIMES)))
    attempts = 0
    async with StreamClient(server.target, retry=QUICK) as client:
        for _ in range(TIMES):
            stream, seen = client.stream(numbered(6000)), 0  # more than there is room for
            async for _output in stream:
                seen += 1
                if seen == 500 and kind is None:
                    server.proxy.cut()
            attempts += stream.statistics().attempts
            assert seen == 6000
        assert attempts > TIMES
        await none_left(before)


@pytest.mark.parametrize("kind", [None, FaultKind.GARBAGE], ids=["cut", "garbage"])
@pytest.mark.parametrize("iterates", [False, True], ids=["call", "iterator"])
async def test_nor_under_an_interceptor(server, iterates, kind, monkeypatch):
    monkeypatch.setattr(grpc.aio, "insecure_channel", grpc.aio.insecure_channel)
    monkeypatch.setattr(grpc.aio, "secure_channel", grpc.aio.secure_channel)
    intercepting.install(intercepting.Interceptor(iterates=iterates))
    await test_a_resume_leaves_no_call(server, kind, monkeypatch)


async def test_moving_on_leaves_no_call(server):
    before = alive()
    retry = RetryPolicy(initial=0.001, maximum=0.002, max_attempt_age=0.02)

    async def inputs():
        for item in numbered(200):
            yield item
            await asyncio.sleep(0.002)

    async with StreamClient(server.target, retry=retry) as client:
        stream = client.stream(inputs())
        assert [output async for output in stream] == numbered(200)
        assert stream.statistics().attempts > 2
        await none_left(before)


async def test_ends_of_all_kinds_leave_no_call(server):
    before = alive()
    async with StreamClient(server.target) as client:
        for _ in range(TIMES):
            assert [output async for output in client.stream(numbered(10))] == numbered(10)
            async for _output in client.stream(numbered(100)):
                break
            async with client.stream(numbered(100)) as stream:
                await anext(stream)
            assert await client.predict(b"x") == b"x"
        del stream, _output
    await none_left(before)


async def test_nor_do_refusals(server):
    before = alive()
    server.add_faults(*(Fault(FaultKind.REFUSE, at=n, seconds=0.001) for n in range(1, TIMES)))
    async with StreamClient(server.target, retry=QUICK) as client:
        stream = client.stream(numbered(10))
        assert [output async for output in stream] == numbered(10)
        assert stream.statistics().attempts == TIMES
        await none_left(before)


def test_nor_does_the_blocking_client(server):
    before = alive()
    with SyncStreamClient(server.target, retry=QUICK) as client:
        for seen, _ in enumerate(client.stream(numbered(TIMES * 1000))):
            if seen % 1000 == 500:
                server.proxy.cut()
    assert not alive() - before


class Knowing(Hooks):
    """Knows the client that it is told of."""

    client: object = None


@pytest.mark.parametrize("call", ["predict", "generate"])
async def test_a_client_that_is_closed_is_kept_by_nobody(call):
    class Both(StreamService):
        async def generate(self, item, resume):
            yield item

    hooks = Knowing()
    with StreamServer(Echo() if call == "predict" else Both()) as server:
        async with StreamClient(server.target, hooks=[hooks]) as client:
            hooks.client = client
            if call == "predict":
                assert await client.predict(b"x") == b"x"
            else:
                assert [output async for output in client.generate(b"x")] == [b"x"]
    known = weakref.ref(client)
    del client, hooks
    gc.collect()
    assert known() is None
