"""Replicas die by SIGKILL, and the streams do not notice."""

from __future__ import annotations

import asyncio
import random
import secrets

import pytest
from noting import Broken

from server_fixture.fixture import ServeFixture
from servestream_client import RetryPolicy, StreamClient
from servestream_client.demo.model import DigitsCodec, Image, Prediction
from servestream_client.demo.trial import Trial, kill_places
from servestream_client.testing.faults import Fault, FaultKind
from servestream_client.testing.ray_serve import Ingress

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600), pytest.mark.application("digits")]

# Every replica may be dead at a time.
PATIENT = RetryPolicy(attempts=200, give_up_after=250.0)


async def test_three_kills_on_the_way_through_all_images(
    serve: ServeFixture, images: list[Image], offline: list[Prediction]
) -> None:
    seed = secrets.randbelow(1_000_000)
    print(f"seed {seed}")
    places = kill_places(random.Random(seed), inputs=len(images), kills=3)
    trial = Trial(images, offline, places=places, kill=serve.kill_replica)
    async with StreamClient(
        serve.target, application="digits", codec=DigitsCodec(), retry=PATIENT
    ) as client:
        report = await trial.run(client)
    assert report.problems() == []
    assert len(report.kills) == 3
    assert report.statistics.resumes >= 3
    assert trial.answers == offline
    assert len(images) == 1797


@pytest.mark.once_in(Ingress.PROXY)
async def test_two_streams_of_one_client_when_every_replica_dies(
    serve: ServeFixture, images: list[Image], offline: list[Prediction]
) -> None:
    def kill_all(served: str) -> int:
        pids = {each.name: serve.kill_replica(each.name) for each in serve.replicas_alive("digits")}
        return pids[served]

    first = Trial(images[:900], offline[:900], places=[200], kill=kill_all)
    second = Trial(images[900:], offline[900:], places=[], kill=kill_all)
    async with StreamClient(
        serve.target, application="digits", codec=DigitsCodec(), retry=PATIENT
    ) as client:
        reports = await asyncio.gather(first.run(client), second.run(client))
    for report in reports:
        assert report.problems() == []
        assert report.statistics.resumes >= 1
    assert first.answers + second.answers == offline


async def test_a_kill_by_plan_fires_once_though_its_input_is_replayed(
    serve: ServeFixture, images: list[Image], offline: list[Prediction]
) -> None:
    fault = Fault(FaultKind.KILL, at=150)
    serve.add_faults(fault)
    before = {replica.pid for replica in serve.replicas_alive("digits")}
    hooks = Broken()
    async with (
        StreamClient(
            serve.target, application="digits", codec=DigitsCodec(), retry=PATIENT, hooks=[hooks]
        ) as client,
        client.stream(images[:400], lanes=1) as stream,  # a fault counts in its own stream
    ):
        answers = [answer async for answer in stream]
        statistics = stream.statistics()
    assert answers == offline[:400]
    assert hooks.attempts[statistics.stream_id] == 1
    assert statistics.replayed >= 1
    assert serve.fired() == [fault]
    after = {replica.pid for replica in serve.replicas_alive("digits")}
    assert len(before - after) == 1
