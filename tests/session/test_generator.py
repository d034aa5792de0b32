"""Generations over links in memory: what becomes of each, whatever its lane meets."""

import asyncio
import gc
from collections import deque
from contextlib import suppress
from types import SimpleNamespace

import pytest
from session.generations import Harness, everything, until, whole
from session.replicas import Replicas
from test_exchange import in_virtual_time

from servestream_client import (
    ClientClosedError,
    FlowControl,
    ItemError,
    RetriesExhaustedError,
    RetryPolicy,
    Seam,
    SeamKind,
    StreamTimeoutError,
    UnreachableError,
)
from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.frames import Load, OutputRun, Replay, ServerFrame, Welcome
from servestream_client.session.generate_lane import GenerateLane
from servestream_client.session.isolation import LONE_BREAKS
from servestream_client.session.outcome import AttemptFailed
from servestream_client.session.request import Request
from servestream_client.transport.classify import Decision, Verdict
from servestream_client.transport.memory import CallFailed


async def test_each_reader_gets_its_own_outputs(generate_with):
    harness = generate_with(Replicas())
    counts = [0, 1, 2, 700, 300, 5]
    readers = [everything(harness.generate(f"g{n}:{count}")) for n, count in enumerate(counts)]
    assert await asyncio.gather(*readers) == [whole(f"g{n}", c) for n, c in enumerate(counts)]
    assert len(harness.drivers) == 1


@pytest.mark.parametrize("replay", [Replay.RESTART, Replay.SEEK, Replay.CONTINUE])
async def test_a_cut_is_a_seam_and_nothing_is_lost_or_twice(generate_with, replay):
    replicas = Replicas(replay, dies=lambda call, _, index: (call, index) in ((1, 40), (2, 90)))
    harness = generate_with(replicas)
    generation = harness.generate("g:200")
    assert await everything(generation) == whole("g", 200)
    assert replicas.calls == 3
    kind = SeamKind.CONTINUED if replay is Replay.CONTINUE else SeamKind.EXACT
    assert {seam.kind for seam in generation.seams} == {kind}
    assert [(seam.before, seam.after) for seam in generation.seams] == [
        ("replica 1", "replica 2"),
        ("replica 2", "replica 3"),
    ]
    assert generation.delivered == 200


async def test_what_cannot_go_on_fails_behind_what_came(generate_with):
    harness = generate_with(
        Replicas(Replay.NEVER, dies=lambda call, _, index: call == 1 and index == 40)
    )
    generation, seen = harness.generate("g:200"), []
    with pytest.raises(ItemError, match="cut after") as caught:
        async for output in generation:
            seen.append(output)
    assert caught.value.kind is ItemErrorKind.INTERRUPTED
    assert seen == whole("g", caught.value.index)
    assert 0 < len(seen) <= 40
    assert generation.seams == ()


async def test_outputs_of_two_models_never_become_one_answer(generate_with):
    replicas = Replicas(fingerprint=str, dies=lambda call, _, index: call == 1 and index == 40)
    harness = generate_with(replicas)
    with pytest.raises(ItemError, match="another fingerprint"):
        await everything(harness.generate("g:200"))


async def test_a_reader_who_stops_stops_nobody_and_is_parked_by_a_cut(generate_with):
    flow = FlowControl(outputs_per_input=20)
    cut = []

    def dies(call, name, index):
        return call == 1 and bool(cut) and name != "slow"

    replicas = Replicas(dies=dies)
    harness = generate_with(replicas, flow=flow)
    slow = harness.generate("slow:100")
    assert await anext(slow) == "slow 0"
    await until(lambda: replicas.made["slow"] >= 20)
    assert await everything(harness.generate("one:300")) == whole("one", 300)
    cut.append(True)
    assert await everything(harness.generate("two:300")) == whole("two", 300)
    assert replicas.calls == 2
    assert not [name for name, _, _ in replicas.resumed if name == "slow"]
    began = slow._request.made
    assert await everything(slow) == whole("slow", 100)[1:]
    assert [name for name, _, _ in replicas.resumed if name == "slow"]
    assert len(slow.seams) == 1
    assert slow._request.made > began  # so far it waited for no server


async def test_the_place_of_one_that_is_parked_is_given_to_those_that_wait(generate_with):
    replicas = Replicas(one=True)
    harness = generate_with(replicas, flow=FlowControl(outputs_per_input=4, window_items=2))
    readers = [harness.generate("a:100"), harness.generate("b:100")]
    assert [await anext(reader) for reader in readers] == ["a 0", "b 0"]  # and no further
    await until(lambda: min(replicas.made.values()) >= 4)
    waiting = asyncio.ensure_future(everything(harness.generate("late:5")))
    await asyncio.sleep(0)
    replicas.go_down()
    session = harness.drivers[0].session
    await until(lambda: session.attempt is None)
    assert session.ledger.accepted == 3  # before it is known whether a server comes
    replicas.down = False
    assert await waiting == whole("late", 5)


async def test_a_reader_who_leaves_cancels_at_the_server(generate_with):
    replicas = Replicas()
    harness = generate_with(replicas)
    async with harness.generate("g:100000") as generation:
        assert await anext(generation) == "g 0"
    await until(lambda: replicas.cancelled == [1])
    with pytest.raises(StopAsyncIteration):
        await anext(generation)
    dropped = harness.generate("g:100000")
    assert await anext(dropped) == "g 0"
    del dropped
    gc.collect()
    await until(lambda: replicas.cancelled == [1, 2])
    assert await everything(harness.generate("h:3")) == whole("h", 3)
    ledger = harness.drivers[0].session.ledger
    await until(lambda: not ledger.replay)
    assert harness.drivers[0].session.delivery.held_outputs == 0


async def test_a_prompt_that_breaks_its_servers_is_blamed_and_the_others_go_on(generate_with):
    replicas = Replicas(dies=lambda _, name, index: name == "poison" and index == 3)
    harness = generate_with(replicas)
    readers = [everything(harness.generate(f"g{n}:600")) for n in range(20)]
    poison = everything(harness.generate("poison:10"))
    *results, blamed = await asyncio.gather(*readers, poison, return_exceptions=True)
    assert results == [whole(f"g{n}", 600) for n in range(20)]
    assert isinstance(blamed, ItemError)
    assert (blamed.kind, blamed.index) == (ItemErrorKind.POISON, 3)
    assert replicas.deaths <= 8


async def test_a_poison_alone_is_told_by_one_that_was_answered_before(generate_with):
    replicas = Replicas(dies=lambda _, name, index: name == "poison")
    harness = generate_with(replicas)
    assert await everything(harness.generate("good:50")) == whole("good", 50)
    with pytest.raises(ItemError) as caught:
        await everything(harness.generate("poison:10"))
    assert caught.value.kind is ItemErrorKind.POISON


async def test_a_server_that_breaks_on_everything_is_not_called_poisoned(generate_with):
    replicas = Replicas(dies=lambda *_: True)
    retry = RetryPolicy(attempts=5, initial=0.0001, maximum=0.0001)
    harness = generate_with(replicas, retry=retry)
    readers = [everything(harness.generate(f"g{n}:5")) for n in range(3)]
    results = await asyncio.gather(*readers, return_exceptions=True)
    assert {type(result) for result in results} == {RetriesExhaustedError}


async def test_a_server_that_breaks_after_some_of_everybodys_outputs_is_not_called_poisoned(
    generate_with,
):
    made = dict.fromkeys(range(1000), 0)

    def dies(call, _, __):
        made[call] += 1
        return made[call] > 2

    harness = generate_with(Replicas(dies=dies))
    assert await everything(harness.generate("g:60")) == whole("g", 60)


@pytest.mark.parametrize("replay", [Replay.RESTART, Replay.SEEK, Replay.CONTINUE])
async def test_whoever_was_at_the_same_server_is_not_blamed_for_its_death(generate_with, replay):
    """With a single server, every break is everybody's; it comes before most have an output."""
    made = {}

    def dies(call, name, index):
        made[call] = made.get(call, 0) + 1
        return name == "poison" and made[call] > 3

    replicas = Replicas(replay, one=True, dies=dies)
    harness = generate_with(replicas, retry=RetryPolicy(initial=0.0001, maximum=0.001))
    readers = [everything(harness.generate(f"g{n}:60")) for n in range(20)]
    readers.insert(7, everything(harness.generate("poison:60")))
    results = await asyncio.gather(*readers, return_exceptions=True)
    blamed = results.pop(7)
    assert results == [whole(f"g{n}", 60) for n in range(20)]
    assert isinstance(blamed, ItemError)
    assert blamed.kind is ItemErrorKind.POISON
    assert harness.generator._in_turn == deque()
    assert replicas.deaths <= 40


async def test_suspects_that_wait_for_their_turn_hear_that_the_client_is_closed(generate_with):
    replicas = Replicas(one=True, dies=lambda *_: True)
    harness = generate_with(replicas, retry=RetryPolicy(attempts=10**6, initial=0.0001))
    tasks = [asyncio.ensure_future(everything(harness.generate(f"g{n}:5"))) for n in range(9)]
    generator = harness.generator
    await until(lambda: len(generator._in_turn) > 3)
    waiting, harness.closed = list(generator._in_turn), True
    generator._alone = None
    generator.has_room()
    assert all(request.ended for request in waiting)
    await harness.aclose()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} == {ClientClosedError}


async def test_what_another_was_to_blame_for_is_forgotten(generate_with):
    generator = generate_with(Replicas()).generator
    generator._target_answered = lambda: 99
    culprit, other = Request("culprit", b"c:1"), Request("other", b"o:1")
    for each in (culprit, other):
        each.breaks, each.lone_breaks = 5, LONE_BREAKS - 1
    generator._in_turn.append(other)
    lane = SimpleNamespace(take_back=lambda _: None)
    generator._judge(
        lane,
        culprit,
        AttemptFailed(Verdict(Decision.RESUME, "broke", UnreachableError, None), progressed=False),
    )
    assert culprit.take_error().kind is ItemErrorKind.POISON
    assert (other.breaks, other.lone_breaks) == (0, 0)
    assert list(generator._waiting) == [other]
    assert not generator._in_turn


async def test_a_suspect_whose_reader_has_stopped_keeps_no_other_from_being_tried(generate_with):
    breaks = iter([True] * 3)

    def dies(call, name, index):
        return index > 2 and next(breaks, False)

    replicas = Replicas(one=True, dies=dies)
    flow = FlowControl(outputs_per_input=8)
    harness = generate_with(replicas, flow=flow)
    stopped, other = harness.generate("stopped:100"), harness.generate("other:100")
    assert await anext(stopped) == "stopped 0"
    assert await everything(other) == whole("other", 100)
    assert await everything(stopped) == whole("stopped", 100)[1:]


async def test_its_timeout_ends_it_behind_what_came(generate_with):
    replicas = Replicas()
    harness = generate_with(replicas, flow=FlowControl(outputs_per_input=4))
    generation = harness.generate("g:100", timeout=0.05)
    seen = [await anext(generation)]
    with pytest.raises(StreamTimeoutError, match=r"0\.05 s"):
        async for output in generation:
            seen.append(output)
            if len(seen) == 2:
                await until(lambda: generation._request.ended)
    assert seen == whole("g", len(seen))
    await until(lambda: replicas.cancelled == [1])


def test_seams_read_well():
    seam = Seam(3, SeamKind.EXACT, "a", "b")
    assert "index=3" in repr(seam)


class OneServer:
    """Needs a moment for what is good, and breaks for half a second on poison, at once."""

    def __init__(self) -> None:
        self.breaks = 0
        self.down_until = 0.0
        self.broken = asyncio.Event()

    async def __call__(self, requests):
        loop = asyncio.get_running_loop()
        if loop.time() < self.down_until:
            raise CallFailed("UNAVAILABLE", "down")
        broken = self.broken
        async for frame in requests:
            if frame.open is not None:
                yield ServerFrame(welcome=Welcome())
            for run in frame.inputs:
                if b"poison" in run.payloads:
                    self.breaks += 1
                    self.down_until = loop.time() + 0.5
                    broken.set()
                    self.broken = asyncio.Event()
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.15):
                        await broken.wait()
                if broken.is_set():
                    raise CallFailed("INTERNAL", "the actor died")
                output = OutputRun(run.first_number, run.payloads)
                yield ServerFrame(outputs=[output], frames_read=1)


def test_a_poison_does_not_keep_others_from_the_only_server():
    async def main():
        server = OneServer()
        harness = Harness(server, retry=RetryPolicy(attempts=50, initial=0.01, maximum=0.1))
        items = ["good 1", "poison", "good 2"]
        readers = [everything(harness.generate(item)) for item in items]
        results = await asyncio.gather(*readers, return_exceptions=True)
        await harness.aclose()
        assert (results[0], results[2]) == (["good 1"], ["good 2"])
        assert isinstance(results[1], ItemError)
        assert results[1].kind is ItemErrorKind.POISON
        assert server.breaks < 12

    in_virtual_time(main)


def test_who_waits_has_the_lane_that_comes_though_that_was_opened_for_others():
    async def main():
        replicas, gate = Replicas(), asyncio.Event()

        async def late(requests):
            await gate.wait()
            async for frame in replicas(requests):
                yield frame

        harness = Harness(late)
        generator = harness.generator
        lane = GenerateLane(generator, generator._open_stream, None, tentative=True)
        generator._lanes.append(lane)  # as is left when the others are gone
        reading = asyncio.ensure_future(everything(harness.generate("a:3")))
        await asyncio.sleep(5.0)
        gate.set()
        async with asyncio.timeout(60):  # of virtual time, and not when the lane ends unused
            assert await reading == whole("a", 3)
        await harness.aclose()

    in_virtual_time(main)


def test_requests_are_spread_over_servers_not_over_lanes():
    async def main():
        replicas = Replicas(load=Load(servers=2, items=1, item_us=50_000, places=4))
        replicas.stopped = True
        harness = Harness(replicas, lanes=3)  # one server has two of them
        reading = []
        for number in range(80):
            reading.append(asyncio.ensure_future(everything(harness.generate(f"n{number}:1"))))
            await asyncio.sleep(0.1)
        got = [session.intake.received for session in replicas.sessions]
        assert len(got) == 3
        assert abs(sum(got[0::2]) - got[1]) <= 1
        replicas.go_on()
        await asyncio.gather(*reading)
        await harness.aclose()

    in_virtual_time(main)
