"""Stateful streams on a real Serve: killed, redeployed, and what comes is one undisturbed fold."""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from server_fixture.fixture import ServeFixture
from server_fixture.folding import folded
from servestream_client import Cursor, FlowControl, RetryPolicy, StreamClient, StreamStatistics
from servestream_client.testing.ray_serve import Ingress

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600), pytest.mark.application("echo")]

PATIENT = RetryPolicy(attempts=200, give_up_after=200.0)
STREAMS = 50
INPUTS = 300
FEW = FlowControl(window_items=128)
"""Under way at a time: inputs come faster than the default proxy carries them, and all that were
pulled are to be computed.
"""


class Streams:
    """Several streams at once, and how many outputs came of all.

    Args:
        until: each goes on until it has had outputs of this version of the code; empty: until it
            has had as many as there are inputs.
    """

    def __init__(self, until: str = "") -> None:
        self.came = 0
        self._until = until
        self._changed = asyncio.Event()

    async def reach(self, outputs: int) -> None:
        """Return once so many came."""
        while self.came < outputs:
            self._changed.clear()
            await self._changed.wait()

    async def read(self, client: StreamClient[bytes, bytes], number: int) -> StreamStatistics:
        """One of them, compared with what it must be."""
        found: list[bytes] = []
        cursor, enough, resumes = Cursor(), asyncio.Event(), 0
        breaks = () if self._until else (INPUTS // 3, INPUTS // 2)
        for most in (*breaks, None):  # each time as another process would
            parameters = {"start": str(number)}
            stream = client.stream(_inputs(enough), parameters=parameters, cursor=cursor)
            async with stream:
                async for output in stream:
                    found.append(output)
                    self.came += 1
                    self._changed.set()
                    if len(found) == most:
                        break
                    version = stream.statistics().code_version
                    if self._until in ("", version) and len(found) >= INPUTS:
                        enough.set()
                cursor = Cursor.from_bytes(bytes(stream.cursor()))
                statistics = stream.statistics()
                resumes += statistics.resumes
        inputs = (b"%d" % item for item in range(len(found)))
        assert found == list(folded(inputs, str(number).encode()))
        assert cursor.position == len(found) >= INPUTS
        return replace(statistics, resumes=resumes)

    async def read_all(self, client: StreamClient[bytes, bytes]) -> list[StreamStatistics]:
        return await asyncio.gather(*(self.read(client, number) for number in range(STREAMS)))


async def _inputs(enough: asyncio.Event) -> AsyncIterator[bytes]:
    for item in itertools.count():
        if enough.is_set():
            return
        yield b"%d" % item
        await asyncio.sleep(0.001)


def deployed(serve: ServeFixture) -> None:
    if not any(each.endswith(":folding") for each in serve.applications):
        serve.deploy("server_fixture.builders:folding")


async def test_replicas_that_are_killed_change_nothing(serve: ServeFixture) -> None:
    deployed(serve)
    seed = secrets.randbelow(1_000_000)
    print(f"seed {seed}")
    rng = random.Random(seed)
    total = STREAMS * INPUTS
    places = sorted(rng.sample(range(total // 20, int(total * 0.7)), 3))
    streams = Streams()

    async def kill() -> None:
        for place in places:
            await streams.reach(place)
            await asyncio.to_thread(serve.wait_for_replicas, 1, "folding")
            alive = await asyncio.to_thread(serve.replicas_alive, "folding")
            await asyncio.to_thread(serve.kill_replica, rng.choice(alive).name)

    async with StreamClient(serve.target, application="folding", retry=PATIENT, flow=FEW) as client:
        killing = asyncio.create_task(kill())
        statistics = await streams.read_all(client)
        await killing
    assert sum(each.resumes for each in statistics) > 0
    assert all(each.tokens for each in statistics)


@pytest.mark.once_in(Ingress.PROXY)
async def test_a_redeploy_upgrades_the_states_of_streams_that_go_on(serve: ServeFixture) -> None:
    deployed(serve)
    await asyncio.to_thread(serve.wait_for_replicas, 2, "folding")
    streams = Streams(until="2")

    async def redeploy() -> None:
        await streams.reach(STREAMS * 20)
        await asyncio.to_thread(serve.deploy, "server_fixture.newer:folding")

    async with StreamClient(serve.target, application="folding", retry=PATIENT, flow=FEW) as client:
        redeploying = asyncio.create_task(redeploy())
        statistics = await streams.read_all(client)
        await redeploying
    assert all(each.resumes and each.code_version == "2" for each in statistics)
