"""Faults by plan, in a real replica behind a real ingress.

What is counted is resumes, not attempts: HAProxy was seen to fail an opening call once, which the
client tries again.
"""

from __future__ import annotations

import pytest

from server_fixture.fixture import ServeFixture
from servestream_client import ItemError, ItemErrorKind, StreamClient, StreamStatistics
from servestream_client.testing.faults import Fault, FaultKind

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

INPUTS = [b"input %d" % number for number in range(1, 501)]


async def stream_echo(serve: ServeFixture, fault: Fault) -> tuple[list[bytes], StreamStatistics]:
    """The inputs through the echo with one fault planned, which must fire."""
    serve.add_faults(fault)
    async with (
        StreamClient(serve.target, application="echo") as client,
        client.stream(INPUTS) as stream,
    ):
        outputs = [output async for output in stream]
        statistics = stream.statistics()
    assert serve.fired() == [fault]
    return outputs, statistics


async def test_a_call_that_ends_too_early_is_resumed(serve: ServeFixture) -> None:
    outputs, statistics = await stream_echo(serve, Fault(FaultKind.CLOSE, at=100))
    assert outputs == INPUTS
    assert statistics.resumes == 1


async def test_duplicates_are_dropped(serve: ServeFixture) -> None:
    outputs, statistics = await stream_echo(serve, Fault(FaultKind.DUPLICATE, at=100))
    assert outputs == INPUTS
    assert statistics.duplicates >= 1
    assert statistics.received == len(INPUTS)


async def test_a_gap_abandons_the_attempt(serve: ServeFixture) -> None:
    outputs, statistics = await stream_echo(serve, Fault(FaultKind.SKIP, at=100))
    assert outputs == INPUTS
    assert statistics.resumes == 1


async def test_bytes_that_are_no_frame_abandon_the_attempt(serve: ServeFixture) -> None:
    outputs, statistics = await stream_echo(serve, Fault(FaultKind.GARBAGE, at=100))
    assert outputs == INPUTS
    assert statistics.resumes == 1


async def test_a_refusal_with_a_delay_is_honoured(serve: ServeFixture) -> None:
    outputs, statistics = await stream_echo(serve, Fault(FaultKind.REFUSE, at=1, seconds=0.3))
    assert outputs == INPUTS
    assert statistics.attempts >= 2
    assert statistics.resumes == 0


async def test_a_slow_item_changes_no_order(serve: ServeFixture) -> None:
    outputs, statistics = await stream_echo(serve, Fault(FaultKind.SLOW, at=5, seconds=1.0))
    assert outputs == INPUTS
    assert statistics.resumes == 0


async def test_a_slow_item_delays_no_other(serve: ServeFixture) -> None:
    serve.add_faults(Fault(FaultKind.SLOW, at=5, seconds=3.0))
    async with (
        StreamClient(serve.target, application="echo") as client,
        client.stream(INPUTS, ordered=False) as stream,
    ):
        outputs = [output async for output in stream]
    assert sorted(outputs) == sorted(INPUTS)
    assert outputs[-1] == INPUTS[4]


async def test_an_item_that_raises_fails_alone(serve: ServeFixture) -> None:
    serve.add_faults(Fault(FaultKind.RAISE, at=7))
    async with (
        StreamClient(serve.target, application="echo") as client,
        client.stream(INPUTS, return_exceptions=True) as stream,
    ):
        outputs = [output async for output in stream]
    failed = outputs.pop(6)
    assert outputs == INPUTS[:6] + INPUTS[7:]
    assert isinstance(failed, ItemError)
    assert (failed.number, failed.kind, failed.input) == (7, ItemErrorKind.HANDLER, INPUTS[6])
    assert "InjectedError" in failed.text


async def test_an_item_that_raises_is_raised_in_its_place(serve: ServeFixture) -> None:
    serve.add_faults(Fault(FaultKind.RAISE, at=7))
    outputs: list[bytes] = []
    async with StreamClient(serve.target, application="echo") as client:
        stream = client.stream(INPUTS)
        with pytest.raises(ItemError, match="input 7 failed") as failure:
            async for output in stream:
                outputs.append(output)
    assert outputs == INPUTS[:6]
    assert failure.value.input == INPUTS[6]


async def test_two_clients_meet_only_their_own_faults(serve: ServeFixture) -> None:
    serve.add_faults(Fault(FaultKind.RAISE, at=3, stream="mine"))
    async with StreamClient(serve.target, application="echo") as client:
        others = [output async for output in client.stream(INPUTS, return_exceptions=True)]
        assert others == INPUTS
        mine = client.stream(INPUTS, return_exceptions=True, parameters={"fault-key": "mine"})
        assert [isinstance(output, ItemError) async for output in mine].index(True) == 2
