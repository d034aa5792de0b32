"""Generations whose replicas are killed at random outputs: none lost, duplicated, spliced."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from server_fixture.fixture import ServeFixture
from server_fixture.generating import OUTPUTS, Made, made
from servestream_client import ItemError, ItemErrorKind, RetryPolicy, Seam, SeamKind, StreamClient
from servestream_client.testing.ray_serve import Ingress

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600), pytest.mark.application("echo")]

GENERATIONS = 100
KILLS = 3
OUTPUTS_BETWEEN = 60
"""From one input of a stream to the next, of all its inputs. In that time the number of servers is
asked again, which is every 2 s, and a replica that has enrolled is one that Serve leads to.
"""
PATIENT = RetryPolicy(attempts=200, give_up_after=200.0)


@dataclass
class Read:
    """One generation, as its reader had it."""

    item: bytes
    outputs: list[Made] = field(default_factory=list)
    seams: tuple[Seam, ...] = ()
    error: ItemError | None = None


class Trial:
    """Generations of one application, while its replicas are killed at places counted in outputs
    of all.
    """

    def __init__(self, serve: ServeFixture, application: str, seed: int) -> None:
        self._serve = serve
        self._application = application
        self._random = random.Random(seed)
        last = int(GENERATIONS * OUTPUTS * 0.7)
        self._places = sorted(self._random.sample(range(1, last), KILLS))
        self._came = 0
        self.kills = 0
        self._passed = asyncio.Event()
        self._over = False
        self.reads = [Read(b"%d" % number) for number in range(GENERATIONS)]

    async def run(self) -> None:
        async with StreamClient(
            self._serve.target, application=self._application, retry=PATIENT
        ) as client:
            killing = asyncio.create_task(self._kill())
            await asyncio.gather(*(self._read(client, read) for read in self.reads))
            await self._end(killing)

    async def _read(self, client: StreamClient[bytes, bytes], read: Read) -> None:
        async with client.generate(read.item) as generation:
            try:
                async for output in generation:
                    read.outputs.append(Made.unpack(output))
                    self._came += 1
                    self._passed.set()
            except ItemError as error:
                read.error = error
            read.seams = generation.seams

    async def _kill(self) -> None:
        for place in self._places:
            while self._came < place:
                if self._over:
                    return
                self._passed.clear()
                await self._passed.wait()
            await asyncio.to_thread(self._kill_one)
            self.kills += 1

    async def _end(self, killing: asyncio.Task[None]) -> None:
        """Wait for the kills: also for one under way, and where generations failed, not for those
        whose place nobody reaches any more.
        """
        self._over = True
        self._passed.set()
        await killing

    def _kill_one(self) -> None:
        self._serve.wait_for_replicas(1, self._application)
        alive = self._serve.replicas_alive(self._application)
        self._serve.kill_replica(self._random.choice(alive).name)


class StreamTrial(Trial):
    """The same inputs in one stream."""

    async def run(self) -> None:
        async with StreamClient(
            self._serve.target, application=self._application, retry=PATIENT
        ) as client:
            killing = asyncio.create_task(self._kill())
            async for each in client.stream(self._inputs(), ordered=False, numbered=True):
                if each.output is not None:
                    outputs = self.reads[each.number - 1].outputs
                    assert each.index == len(outputs)
                    outputs.append(Made.unpack(each.output))
                    self._came += 1
                    self._passed.set()
            await self._end(killing)

    async def _inputs(self) -> AsyncIterator[bytes]:
        """Each when some outputs more have come, so that there are still some when the router has
        heard of the last replica.
        """
        for number, read in enumerate(self.reads):
            while self._came < number * OUTPUTS_BETWEEN:
                self._passed.clear()
                await self._passed.wait()
            yield read.item


async def run(
    serve: ServeFixture,
    application: str,
    *,
    kills: int = KILLS,
    of_what: type[Trial] = Trial,
) -> list[Read]:
    seed = secrets.randbelow(1_000_000)
    print(f"{application}: seed {seed}")
    if not any(each.endswith(f":{application}") for each in serve.applications):
        serve.deploy(f"server_fixture.builders:{application}")
    # All of them: those that the test before has killed are on their way.
    await asyncio.to_thread(serve.wait_for_replicas, application=application)
    trial = of_what(serve, application, seed)
    await trial.run()
    assert trial.kills >= kills
    return trial.reads


@pytest.mark.parametrize(
    "application",
    [
        pytest.param("restarting", marks=pytest.mark.once_in(Ingress.HAPROXY)),
        pytest.param("seeking", marks=pytest.mark.long),
    ],
)
async def test_every_output_is_that_of_an_undisturbed_run(
    serve: ServeFixture, application: str
) -> None:
    reads = await run(serve, application)
    assert [read.error for read in reads] == [None] * GENERATIONS
    for read in reads:
        assert read.outputs == [made(read.item, index) for index in range(OUTPUTS)]
    seams = [seam for read in reads for seam in read.seams]
    assert {seam.kind for seam in seams} == {SeamKind.EXACT}
    assert len(seams) >= KILLS


@pytest.mark.once_in(Ingress.PROXY)
async def test_who_goes_on_in_another_voice_says_where(serve: ServeFixture) -> None:
    reads = await run(serve, "continuing")
    assert [read.error for read in reads] == [None] * GENERATIONS
    for read in reads:
        voices = [output.voice for output in read.outputs]
        assert read.outputs == [made(read.item, i, voice) for i, voice in enumerate(voices)]
        assert len(voices) == OUTPUTS
        changes = [i for i in range(1, OUTPUTS) if voices[i] != voices[i - 1]]
        assert changes == [seam.index for seam in read.seams]
        assert {seam.kind for seam in read.seams} <= {SeamKind.CONTINUED}
    assert sum(len(read.seams) for read in reads) >= KILLS


@pytest.mark.once_in(Ingress.PROXY)
async def test_one_stream_is_answered_by_all_replicas_whichever_are_killed(
    serve: ServeFixture,
) -> None:
    reads = await run(serve, "continuing", of_what=StreamTrial)
    for read in reads:
        voices = [output.voice for output in read.outputs]
        assert read.outputs == [made(read.item, i, voice) for i, voice in enumerate(voices)]
        assert len(voices) == OUTPUTS
    first = Counter(read.outputs[0].voice for read in reads)
    assert len(first) > 1, first


@pytest.mark.long
async def test_who_was_wrong_to_promise_the_same_again_is_never_spliced(
    serve: ServeFixture,
) -> None:
    reads = await run(serve, "drifting", kills=1)
    for read in reads:
        voices = {output.voice for output in read.outputs}
        assert len(voices) <= 1, "of one process only"
        assert read.outputs == [made(read.item, i, *voices) for i in range(len(read.outputs))]
        if read.error is not None:
            assert read.error.kind is ItemErrorKind.INTERRUPTED
            assert read.error.index == len(read.outputs)
        else:
            assert len(read.outputs) == OUTPUTS
    assert sum(read.error is not None for read in reads) >= KILLS
