"""Every fault of the plan, over real sockets: nothing lost, doubled or out of order."""

import asyncio
import json
import signal
from pathlib import Path

import grpc
import pytest
from faulty import FaultyEcho
from helpers import collect, failures, numbered, outputs, until
from processes import restarted_server

from servestream_client import (
    ItemError,
    ItemErrorKind,
    RetriesExhaustedError,
    RetryPolicy,
)
from servestream_client.testing.faults import Fault, FaultKind

ITEMS = numbered(400)
KILLABLE = Path(__file__).with_name("killable_server.py")


@pytest.mark.parametrize("at", [1, 2, 200, 400])
@pytest.mark.parametrize("ordered", [True, False])
async def test_a_stream_that_closes_without_an_end_is_resumed(client, plan, at, ordered):
    plan.add(Fault(FaultKind.CLOSE, at))
    stream = client.stream(ITEMS, ordered=ordered)
    results = await collect(stream)
    assert sorted(results) == sorted(ITEMS)
    assert not ordered or results == ITEMS
    assert plan.fired
    assert stream.statistics().resumes == 1


async def test_duplicate_outputs_are_dropped_and_counted(client, plan):
    plan.add(Fault(FaultKind.DUPLICATE, 200))
    stream = client.stream(ITEMS)
    assert await collect(stream) == ITEMS
    assert stream.statistics().duplicates > 0
    assert stream.statistics().attempts == 1


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_skipped_output_is_noticed_and_asked_for_again(client, plan, ordered):
    plan.add(Fault(FaultKind.SKIP, 200))
    stream = client.stream(ITEMS, ordered=ordered)
    results = await collect(stream)
    assert sorted(results) == sorted(ITEMS)
    assert not ordered or results == ITEMS
    assert stream.statistics().attempts == 2


async def test_garbage_abandons_the_attempt_and_not_the_stream(client, plan):
    plan.add(Fault(FaultKind.GARBAGE, 200))
    stream = client.stream(ITEMS)
    assert await collect(stream) == ITEMS
    assert stream.statistics().attempts == 2


async def test_a_handlers_exception_is_that_items_error_and_is_raised_in_its_place(client, plan):
    plan.add(Fault(FaultKind.RAISE, 200))
    seen = []
    with pytest.raises(ItemError) as caught:
        async for output in client.stream(ITEMS):
            seen.append(output)
    assert seen == ITEMS[:199]
    assert caught.value.number == 200
    assert caught.value.input == b"200"
    assert caught.value.kind is ItemErrorKind.HANDLER
    assert "InjectedError: by plan" in str(caught.value)


async def test_with_return_exceptions_the_error_stands_in_its_items_place(client, plan):
    plan.add(Fault(FaultKind.RAISE, 7), Fault(FaultKind.RAISE, 8), Fault(FaultKind.RAISE, 400))
    results = await collect(client.stream(ITEMS, return_exceptions=True))
    assert [failure.number for failure in failures(results)] == [7, 8, 400]
    assert [results.index(failure) + 1 for failure in failures(results)] == [7, 8, 400]
    assert outputs(results) == [item for item in ITEMS if int(item) not in (7, 8, 400)]


async def test_a_slow_item_delays_nothing_but_order(client, plan):
    plan.add(Fault(FaultKind.SLOW, 200, seconds=0.01))
    assert await collect(client.stream(ITEMS)) == ITEMS


async def test_a_hanging_item_does_not_hang_the_close(client, plan):
    """What the client does about it comes with the watchdog; leaving must work already."""
    plan.add(Fault(FaultKind.HANG, 5))
    seen = []
    stream = client.stream(ITEMS)
    async for output in stream:
        seen.append(output)
        if len(seen) == 4:
            break
    await stream.aclose()
    assert seen == ITEMS[:4]


async def test_a_refused_stream_comes_again_after_the_servers_delay(client, plan):
    plan.add(Fault(FaultKind.REFUSE, 1, seconds=0.01), Fault(FaultKind.REFUSE, 2))
    stream = client.stream(ITEMS)
    assert await collect(stream) == ITEMS
    assert stream.statistics().attempts == 3
    assert stream.statistics().resumes == 0


async def test_many_faults_in_one_stream(client, plan):
    plan.add(
        Fault(FaultKind.CLOSE, 50),
        Fault(FaultKind.SKIP, 100),
        Fault(FaultKind.DUPLICATE, 150),
        Fault(FaultKind.GARBAGE, 200),
        Fault(FaultKind.CLOSE, 250),
        Fault(FaultKind.SLOW, 300, seconds=0.01),
        Fault(FaultKind.REFUSE, 2),
    )
    # No item that raises: it may do so ahead of its turn, in an attempt that then breaks, and the
    # second time it does not.
    assert await collect(client.stream(ITEMS)) == ITEMS
    assert plan.pending_now() == []


async def test_a_fault_of_one_stream_leaves_the_others_alone(client, plan):
    plan.add(Fault(FaultKind.CLOSE, 200, stream="one"))
    streams = [client.stream(ITEMS, parameters={"fault-key": key}) for key in ("one", "two")]
    assert await asyncio.gather(*map(collect, streams)) == [ITEMS, ITEMS]
    assert [stream.statistics().resumes for stream in streams] == [1, 0]


# ------------------------------------------------------------------ processes that die


def planned(tmp_path: Path, faults: list[Fault]) -> tuple[Path, str]:
    """The arguments of a killable server."""
    fired = tmp_path / "fired"
    fired.mkdir()
    return fired, json.dumps([fault.to_json() for fault in faults])


async def test_a_process_killed_at_an_item_is_survived(tmp_path, connect):
    faults = [Fault(FaultKind.KILL, at) for at in (1, 100, 399)]
    async with (
        restarted_server(KILLABLE, *planned(tmp_path, faults)) as (target, lives),
        connect(target, retry=RetryPolicy(maximum=0.5, connect_attempts=30)) as client,
    ):
        stream = client.stream(ITEMS)
        assert await collect(stream) == ITEMS
        assert {fault.id for fault in faults} == {
            path.name for path in (tmp_path / "fired").iterdir()
        }
        assert [life.returncode for life in lives[:3]] == [-signal.SIGKILL] * 3
        assert stream.statistics().attempts >= 4


async def test_two_streams_survive_the_death_of_their_process(tmp_path, connect):
    async with (
        restarted_server(KILLABLE, *planned(tmp_path, [Fault(FaultKind.KILL, 200)])) as (
            target,
            lives,
        ),
        connect(target, retry=RetryPolicy(maximum=0.5, connect_attempts=30)) as client,
    ):
        streams = [client.stream(ITEMS), client.stream(ITEMS, ordered=False)]
        first, second = await asyncio.gather(*map(collect, streams))
        assert first == ITEMS
        assert sorted(second) == sorted(ITEMS)
        assert lives[0].returncode == -signal.SIGKILL


async def test_outputs_received_before_the_server_went_for_good_are_delivered(
    listen, plan, connect
):
    """Retries run out: whatever had arrived reaches the caller before the error does."""
    calls = 0
    service = FaultyEcho(plan)

    async def once(requests, context):
        nonlocal calls
        calls += 1
        if calls > 1:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        async for frame in service.Stream(requests, context):
            yield frame

    plan.add(Fault(FaultKind.CLOSE, 300))
    policy = RetryPolicy(attempts=3, initial=0.001, maximum=0.001)
    async with connect(await listen(once), retry=policy) as client:
        stream = client.stream(ITEMS)
        seen = [await anext(stream)]
        # The consumer looks away until all is over.
        await until(lambda: stream._driver.finished)
        with pytest.raises(RetriesExhaustedError) as caught:
            async for output in stream:
                seen.append(output)
    assert seen == ITEMS[: len(seen)]
    assert 0 < len(seen) < 300
    delivered = caught.value.delivered
    assert delivered.taken_through == delivered.answered == len(seen)
    assert delivered.accepted == 400
    assert caught.value.attempts == calls == 4
    assert f"inputs 1 to {len(seen)}" in str(caught.value)
