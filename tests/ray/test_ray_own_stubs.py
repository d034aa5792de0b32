"""A deployment that has not this package's kit: calls of its own stub survive its replicas."""

from __future__ import annotations

import pytest
from google.protobuf.wrappers_pb2 import Int64Value

from server_fixture.counting import LAST, CountingStub
from server_fixture.fixture import ServeFixture
from servestream_client import RetryPolicy
from servestream_client.resume import ResumableClient, assert_resumable, by_field, by_skip

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600), pytest.mark.application("counting")]

# Every replica may be dead at a time.
PATIENT = RetryPolicy(attempts=200, give_up_after=250.0)


def is_last(reply: Int64Value) -> bool:
    return reply.value == LAST


@pytest.mark.parametrize("how", ["by_field", "by_skip"])
async def test_its_replicas_are_killed_and_nothing_is_missing(
    serve: ServeFixture, how: str
) -> None:
    resume = {
        "by_field": by_field("value", into="value", last=is_last),
        "by_skip": by_skip(last=is_last),
    }[how]
    async with ResumableClient(
        serve.target, CountingStub, application="counting", retry=PATIENT
    ) as client:
        got, killed = [], 0
        call = client.call(lambda stub: stub.Count, Int64Value(), resume)
        async for reply in call:
            got.append(reply.value)
            if reply.value in (100, 600):
                for replica in serve.replicas_alive("counting"):
                    serve.kill_replica(replica.name)
                    killed += 1
    assert got == list(range(1, LAST + 1))
    assert killed >= 2
    assert call.statistics.resumes == 2


async def test_it_is_found_resumable(serve: ServeFixture) -> None:
    async with ResumableClient(
        serve.target, CountingStub, application="counting", retry=PATIENT
    ) as client:
        begin = Int64Value(value=LAST - 50)
        resume = by_field("value", into="value", last=is_last)
        replies = await assert_resumable(
            client, lambda stub: stub.Count, begin, resume, most_cuts=10
        )
    assert len(replies) == 51
