"""`client.predict` through the death of replicas, and more streams than HAProxy lets one connection
have.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from noting import Broken

from server_fixture.fixture import ServeFixture
from servestream_client import RetryPolicy, StreamClient
from servestream_client.demo.model import DigitsCodec, Image, Prediction
from servestream_client.testing.faults import Fault, FaultKind

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

# Every replica may be dead at a time.
PATIENT = RetryPolicy(attempts=200, give_up_after=250.0)
TASKS = 20
CALLS = 200
STREAMS = 150  # HAProxy: 100 a connection


@pytest.mark.application("digits")
async def test_calls_of_many_tasks_survive_a_replica_that_is_killed(
    serve: ServeFixture, images: list[Image], offline: list[Prediction]
) -> None:
    answers: dict[int, Prediction] = {}
    killed: list[int] = []

    async def call_one_after_the_other(numbers: range) -> None:
        for number in numbers:
            answers[number] = await client.predict(images[number])
            if len(answers) == CALLS // 3:
                lanes = client._predictor._lanes
                serving = next(lane.replica for lane in lanes if lane.replica)
                killed.append(serve.kill_replica(serving))

    hooks = Broken()
    async with (
        StreamClient(
            serve.target, application="digits", codec=DigitsCodec(), retry=PATIENT, hooks=[hooks]
        ) as client,
        asyncio.TaskGroup() as tasks,
    ):
        for first in range(TASKS):
            tasks.create_task(call_one_after_the_other(range(first, CALLS, TASKS)))
    assert len(killed) == 1
    assert hooks.attempts.total() >= 1
    assert [answers[number] for number in range(CALLS)] == offline[:CALLS]


@pytest.mark.application("digits")
async def test_calls_at_one_time_survive_a_replica_that_dies_in_a_handler(
    serve: ServeFixture, images: list[Image], offline: list[Prediction]
) -> None:
    fault = Fault(FaultKind.KILL, at=30)
    serve.add_faults(fault)
    async with StreamClient(
        serve.target, application="digits", codec=DigitsCodec(), retry=PATIENT
    ) as client:
        answers = await asyncio.gather(*map(client.predict, images[:CALLS]))
    assert answers == offline[:CALLS]
    assert serve.fired() == [fault]


@pytest.mark.application("echo")
async def test_more_streams_than_a_connection_may_have_make_progress_at_once(
    serve: ServeFixture,
) -> None:
    """Each stream's second input waits until every stream has its first output."""
    waiting: set[int] = set()
    together = asyncio.Event()

    async def inputs(number: int) -> AsyncIterator[bytes]:
        yield b"first of %d" % number
        await together.wait()
        yield b"second of %d" % number

    async def converse(number: int) -> list[bytes]:
        async with client.stream(inputs(number)) as stream:
            outputs = [await anext(stream)]
            waiting.add(number)
            if len(waiting) == STREAMS:
                together.set()
            outputs += [output async for output in stream]
            return outputs

    hooks = Broken()
    async with StreamClient(serve.target, application="echo", hooks=[hooks]) as client:
        conversations = await asyncio.gather(*map(converse, range(STREAMS)))
    assert conversations == [
        [b"first of %d" % number, b"second of %d" % number] for number in range(STREAMS)
    ]
    assert hooks.attempts.total() == 0
