"""A lane of generations over links in memory: whatever becomes of it, its requests are settled."""

import asyncio

import pytest
from session.generations import everything, until, whole
from session.replicas import Replicas

from servestream_client import (
    ClientClosedError,
    FlowControl,
    ItemError,
    ItemErrorKind,
    RetriesExhaustedError,
    RetryPolicy,
    StreamError,
)
from servestream_client.protocol.frames import Limits, OutputRun, ServerEnd, ServerFrame, Welcome
from servestream_client.session.generate_lane import GenerateLane


def generating(harness, *items):
    return [asyncio.ensure_future(everything(harness.generate(item))) for item in items]


# ------------------------------------------------------------------ its end


async def test_a_client_that_is_closed_ends_what_runs_what_waits_and_what_is_parked(generate_with):
    cut = []
    replicas = Replicas(dies=lambda call, name, _: call == 1 and bool(cut) and name == "other")
    flow = FlowControl(outputs_per_input=4, window_items=2)
    harness = generate_with(replicas, flow=flow)
    parked = harness.generate("parked:100")
    seen = [await anext(parked)]
    await until(lambda: parked._request.received == 4)
    cut.append(True)
    await everything(harness.generate("other:30"))
    assert harness.generator._parked
    replicas.stopped = True
    others = generating(harness, "a:3", "b:3", "c:3")
    await until(lambda: len(harness.generator._waiting) == 1)
    await harness.aclose()
    for error in await asyncio.gather(*others, return_exceptions=True):
        assert isinstance(error, ClientClosedError), error
    with pytest.raises(ClientClosedError):
        async for output in parked:
            seen.append(output)
    assert seen == whole("parked", 4)
    assert not harness.generator._waiting
    assert not harness.generator._parked
    assert not harness.generator._lanes


async def test_each_reader_gets_an_error_of_its_own(generate_with):
    replicas = Replicas()
    harness = generate_with(replicas, retry=RetryPolicy(attempts=2, initial=0.0001, maximum=0.0001))
    assert await everything(harness.generate("g:1")) == whole("g", 1)
    replicas.go_down()
    errors = await asyncio.gather(*generating(harness, "a:3", "b:3"), return_exceptions=True)
    assert [type(error) for error in errors] == [RetriesExhaustedError] * 2
    assert errors[0] is not errors[1]
    assert [error.delivered.accepted for error in errors] == [1, 1]
    replicas.down = False
    assert await everything(harness.generate("c:3")) == whole("c", 3)


async def test_a_failure_that_nobody_foresaw_ends_its_requests_and_no_others(
    generate_with, monkeypatch
):
    harness = generate_with(Replicas())
    take, failed = GenerateLane._take_part, []

    def fails_once(lane, part):
        if not failed:
            failed.append(lane)
            raise KeyError("a bug")
        take(lane, part)

    monkeypatch.setattr(GenerateLane, "_take_part", fails_once)
    results = await asyncio.gather(*generating(harness, "a:3", "b:3"), return_exceptions=True)
    assert all(isinstance(result, StreamError) for result in results)
    assert "a bug" in str(results[0])
    assert await everything(harness.generate("c:3")) == whole("c", 3)


async def test_those_that_waited_as_long_as_a_lane_tried_fail_with_it_and_later_ones_go_on(
    generate_with,
):
    replicas = Replicas()
    harness = generate_with(
        replicas,
        flow=FlowControl(window_items=1),
        retry=RetryPolicy(attempts=30, initial=0.0001, maximum=0.0001),
    )
    assert await everything(harness.generate("good:1")) == whole("good", 1)
    replicas.go_down()
    carried, waiting = generating(harness, "carried:3", "waiting:3")
    await until(lambda: harness.drivers[0].outage.began < float("inf"))
    (later,) = generating(harness, "later:3")
    await until(carried.done)
    replicas.down = False
    assert isinstance(carried.exception(), RetriesExhaustedError)
    with pytest.raises(RetriesExhaustedError):
        await waiting
    assert await later == whole("later", 3)


async def test_a_lane_that_has_got_over_anothers_outage_takes_whatever_comes(generate_with):
    replicas = Replicas()
    harness = generate_with(
        replicas,
        flow=FlowControl(window_items=1),
        retry=RetryPolicy(attempts=30, initial=0.0001, maximum=0.0001),
    )
    assert await everything(harness.generate("good:1")) == whole("good", 1)
    replicas.go_down()
    (carried,) = generating(harness, "carried:3")
    await until(lambda: harness.drivers[0].outage.began < float("inf"))
    (waiting,) = generating(harness, "waiting:3")
    await until(carried.done)
    assert carried.exception() is not None
    replicas.down = False
    assert await waiting == whole("waiting", 3)
    assert len(harness.drivers) == 2
    assert await asyncio.wait_for(everything(harness.generate("new:3")), 20) == whole("new", 3)
    assert len(harness.drivers) == 2


async def test_one_without_requests_ends_after_a_while_and_one_for_suspects_at_once(generate_with):
    replicas = Replicas(dies=lambda call, name, _: name == "suspect" and call <= 2)
    harness = generate_with(replicas)
    results = await asyncio.gather(*generating(harness, "suspect:3", "other:2000"))
    assert results == [whole("suspect", 3), whole("other", 2000)]
    assert [driver.session._offer.isolated for driver in harness.drivers][:2] == [False, True]
    await until(lambda: all(driver.finished for driver in harness.drivers))
    assert await everything(harness.generate("new:3")) == whole("new", 3)
    (lane,) = harness.generator._lanes
    assert not lane.retiring
    harness.generator.orphaned()
    await until(lambda: lane.driver.finished)
    assert not harness.generator._lanes


# ------------------------------------------------------------------ what it gets


async def test_suspects_for_which_no_lane_can_be_opened_any_more_fail(generate_with, monkeypatch):
    harness = generate_with(Replicas(dies=lambda *_: True))
    opened, real = [], harness._open

    def once(**options):
        if opened:
            raise ClientClosedError("the client was closed just now")
        opened.append(options)
        return real(**options)

    monkeypatch.setattr(harness.generator, "_open_stream", lambda **o: once(isolated=False, **o))
    monkeypatch.setattr(harness.generator, "_open_suspects", lambda **o: once(isolated=True, **o))
    running = [harness.generate(text) for text in ("a:3", "b:3")]
    results = await asyncio.gather(*map(everything, running), return_exceptions=True)
    assert [type(result) for result in results] == [ClientClosedError] * 2
    # The servers that broke may have got them.
    assert {each._request.delivered().unsent for each in running} == {0}


async def test_a_handler_with_one_output_gives_a_generation_of_one(generate_with):
    async def server(requests):
        received = 0
        async for frame in requests:
            if frame.open is not None:
                yield ServerFrame(welcome=Welcome())
            for run in frame.inputs:
                received += len(run.payloads)
                yield ServerFrame(outputs=[OutputRun(run.first_number, run.payloads)])
            if frame.end is not None:
                yield ServerFrame(end=ServerEnd(frame.end.last_number, received, received))

    harness = generate_with(server)
    generation = harness.generate("only")
    assert await everything(generation) == ["only"]
    assert generation.delivered == 1
    held = generation._request.held
    assert (held.outputs, held.bytes) == (0, 0)


async def test_an_input_that_no_server_accepts_fails_as_such(generate_with):
    harness = generate_with(Replicas(limits=Limits(item_bytes=10)))
    with pytest.raises(ItemError) as caught:
        await everything(harness.generate("far too long a name:3"))
    assert caught.value.kind is ItemErrorKind.INPUT_TOO_LARGE
    assert caught.value.input == "far too long a name:3"
