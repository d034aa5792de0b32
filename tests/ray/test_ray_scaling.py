"""A deployment that scales by items: calls, streams and generations reach every replica."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from server_fixture.fixture import ServeFixture
from server_fixture.waiting import MOST, replica_of
from servestream_client import FlowControl, StreamClient
from servestream_client.testing.ray_serve import Ingress

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(600),
    pytest.mark.application("echo"),
    pytest.mark.once_in(str(Ingress.PROXY)),
]

CALLERS = 32
WINDOW = 200
"""Inputs under way: more than all places take, and few when the last replica is reached."""


@pytest.fixture
def scaling(serve: ServeFixture) -> ServeFixture:
    """With the application that scales, at one replica."""
    if not any(each.endswith(":waiting") for each in serve.applications):
        serve.deploy("server_fixture.builders:waiting")
    return serve


def item_of(output: bytes) -> bytes:
    return output.rpartition(b" ")[0]


async def test_calls_and_then_a_stream_reach_all_replicas(scaling):
    """Serve counts streams, of which there are few: by these it would stay at one replica."""
    flow = FlowControl(window_items=WINDOW)
    async with StreamClient(scaling.target, application="waiting", flow=flow) as client:
        replicas: set[int] = set()
        numbers = itertools.count()

        async def call() -> None:
            while len(replicas) < MOST:
                item = b"%d" % next(numbers)
                output = await client.predict(item)
                assert item_of(output) == item
                replicas.add(replica_of(output))

        await asyncio.gather(*(call() for _ in range(CALLERS)))
        reached: set[int] = set()
        sent = came = 0

        async def inputs():
            nonlocal sent
            while len(reached) < MOST:
                yield b"%d" % sent
                sent += 1

        async for output in client.stream(inputs()):
            assert item_of(output) == b"%d" % came
            reached.add(replica_of(output))
            came += 1
        assert came == sent
        assert len(reached) >= MOST  # more, if Serve has replaced one meanwhile


@pytest.mark.long
async def test_a_stream_scales_up_by_itself_and_loses_nothing_when_replicas_go(scaling):
    async with StreamClient(scaling.target, application="waiting") as client:
        reached: set[int] = set()
        sent = 0

        async def inputs():
            nonlocal sent
            while len(reached) < MOST:
                yield b"%d" % sent
                sent += 1
            while len(scaling.replicas_alive("waiting")) > 1:  # now and then one, so they go
                yield b"%d" % sent
                sent += 1
                await asyncio.sleep(0.5)

        came = 0
        async for output in client.stream(inputs()):
            assert item_of(output) == b"%d" % came
            reached.add(replica_of(output))
            came += 1
        assert came == sent
