"""Faults by plan, in a real replica behind a real ingress: each of them through each ingress.

Each alone, and more of what it does to a stream, is in tests/grpc/test_faults.py; a replica that
is killed is in test_ray_kills.py. HAProxy was seen to fail an opening call once, which the client
tries again: so no attempts are counted that no replica took.
"""

from __future__ import annotations

import asyncio

import pytest
from noting import Broken

from server_fixture.fixture import ServeFixture
from servestream_client import FlowControl, ItemError, ItemErrorKind, PredictionStream, StreamClient
from servestream_client.testing.faults import Fault, FaultKind

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600), pytest.mark.application("echo")]

INPUTS = [b"input %d" % number for number in range(1, 501)]

# No item that raises: it may do so in an attempt that then breaks, and does not the second time.
BREAKING = [
    Fault(FaultKind.CLOSE, at=100, stream="broken"),
    Fault(FaultKind.SKIP, at=200, stream="broken"),
    Fault(FaultKind.GARBAGE, at=300, stream="broken"),
    Fault(FaultKind.SLOW, at=400, stream="broken", seconds=0.3),
]
# Any of them: an attempt that fails by itself is not refused.
REFUSALS = [Fault(FaultKind.REFUSE, at=attempt, stream="broken", seconds=0.3) for attempt in (1, 2)]
HARMLESS = [
    Fault(FaultKind.DUPLICATE, at=100, stream="unordered"),
    Fault(FaultKind.RAISE, at=200, stream="unordered"),
    Fault(FaultKind.SLOW, at=5, stream="unordered", seconds=3.0),
]


async def results(stream: PredictionStream[bytes]) -> list[object]:
    return [output async for output in stream]


async def test_every_fault_and_none_of_a_neighbour(serve: ServeFixture) -> None:
    serve.add_faults(*BREAKING, *REFUSALS, *HARMLESS)
    # No two of the faults in one frame.
    flow = FlowControl(window_items=50)
    hooks = Broken()
    async with StreamClient(serve.target, application="echo", flow=flow, hooks=[hooks]) as client:
        # A fault counts in its own stream.
        broken = client.stream(INPUTS, lanes=1, parameters={"fault-key": "broken"})
        unordered = client.stream(
            INPUTS,
            ordered=False,
            return_exceptions=True,
            lanes=1,
            parameters={"fault-key": "unordered"},
        )
        neighbour = client.stream(INPUTS)
        found = await asyncio.gather(*map(results, (broken, unordered, neighbour)))
    fired = serve.fired()
    assert {*fired} - {*REFUSALS} == {*BREAKING, *HARMLESS}
    assert {*fired} & {*REFUSALS}
    assert len(fired) == len({*fired})
    assert found[0] == found[2] == INPUTS
    assert broken.statistics().resumes >= 3  # HAProxy was seen to cut a stream by itself
    assert broken.statistics().attempts >= 5
    (failed,) = [output for output in found[1] if isinstance(output, ItemError)]
    assert (failed.number, failed.kind, failed.input) == (200, ItemErrorKind.HANDLER, INPUTS[199])
    assert "InjectedError" in failed.text
    found[1].remove(failed)
    assert sorted(found[1]) == sorted({*INPUTS} - {INPUTS[199]})
    assert unordered.statistics().duplicates >= 1
    assert unordered.statistics().received == len(INPUTS)
    for stream in (unordered, neighbour):
        assert hooks.attempts[stream.statistics().stream_id] == 0
