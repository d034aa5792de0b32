"""Who may try when nobody answers: in virtual time, with many streams at once."""

import asyncio
import math
import random
from collections import Counter
from contextlib import suppress

import pytest

from servestream_client import RetryPolicy
from servestream_client.session.gate import Gate, SharedFailure, Way
from servestream_client.transport.classify import Decision, Verdict
from simulation.loop import VirtualLoop, isolated

POLICY = RetryPolicy()
DOWN = Verdict(Decision.RESUME, "nobody answers", unreachable=True)
STREAMS = 500


class Target:
    """Answers, or does not. Streams come to it through a gate, until they are answered."""

    def __init__(self, *, down_for: float) -> None:
        self.gate = Gate()
        self.down_for = down_for
        self.calls: list[tuple[float, Way]] = []
        self.under_way = 0
        self.most_under_way: list[int] = []
        self.shared: Counter[Verdict] = Counter()

    async def attempt(self, *, fruitless: bool) -> bool:
        passage = await self.gate.enter(POLICY, fruitless=fruitless)
        now = asyncio.get_running_loop().time()
        self.calls.append((now, passage.way))
        self.under_way += 1
        self.most_under_way.append(self.under_way)
        await asyncio.sleep(0.01)
        self.under_way -= 1
        if now < self.down_for:
            passage.failed(DOWN)
            return False
        passage.answered()
        return True

    async def stream(self) -> None:
        fruitless = False
        while True:
            try:
                if await self.attempt(fruitless=fruitless):
                    return
            except SharedFailure as shared:
                self.shared[shared.verdict] += 1
            fruitless = True
            await asyncio.sleep(random.random() * 5)


def in_virtual_time(coroutine) -> None:
    rng = random.Random(1)
    loop = VirtualLoop(rng)
    try:
        with isolated(loop, rng):
            loop.run_until_complete(asyncio.wait_for(coroutine, 10_000))
    finally:
        loop.close()


def test_streams_pass_freely_where_nothing_speaks_against_it():
    target = Target(down_for=0)

    async def main():
        await asyncio.gather(*(target.stream() for _ in range(STREAMS)))

    in_virtual_time(main())
    assert Counter(passage for _, passage in target.calls) == {Way.FREE: STREAMS}
    assert {when for when, _ in target.calls} == {0.0}


@pytest.mark.parametrize("seconds", [0.5, 10, 60])
def test_an_outage_costs_one_probe_now_and_then_and_each_stream_comes_back_once(seconds):
    target = Target(down_for=seconds)

    async def main():
        target.gate.broken(DOWN)
        await asyncio.gather(*(target.stream() for _ in range(STREAMS)))

    in_virtual_time(main())
    passages = Counter(passage for _, passage in target.calls)
    assert passages[Way.RELEASED] + passages[Way.FREE] == STREAMS - 1
    # Waits between probes are drawn from 0 to 0.1, 0.2, 0.4, ... 5 s.
    assert 1 <= passages[Way.PROBE] <= 12 + seconds
    assert target.under_way == 0
    assert set(target.shared) == {DOWN}


def test_after_an_outage_streams_come_back_in_growing_numbers():
    target = Target(down_for=0)

    async def main():
        target.gate.broken(DOWN)
        await asyncio.gather(*(target.stream() for _ in range(64)))

    in_virtual_time(main())
    released = target.most_under_way[-63:]
    assert released[0] == 1
    assert max(released[:7]) <= 4
    assert max(released) > 8


def test_a_target_that_goes_again_while_streams_come_back_closes_the_gate():
    target = Target(down_for=0)
    gate = target.gate

    async def main():
        gate.broken(DOWN)
        probe = await gate.enter(POLICY, fruitless=False)
        waiting = [asyncio.ensure_future(gate.enter(POLICY, fruitless=False)) for _ in range(9)]
        await asyncio.sleep(0)
        probe.answered()
        await asyncio.sleep(0.001)
        (first,) = [each for each in waiting if each.done()]
        waiting.remove(first)
        first.result().failed(DOWN)
        await asyncio.sleep(0.001)
        passages = [each.result().way for each in waiting if each.done()]
        assert passages == [Way.PROBE]
        for each in waiting:
            each.cancel()

    in_virtual_time(main())


@pytest.mark.parametrize("when", ["while it waits to probe", "while it probes"])
def test_a_stream_that_leaves_hands_on_what_it_was_doing(when):
    gate = Gate()

    async def main():
        gate.broken(DOWN)
        first = asyncio.ensure_future(gate.enter(POLICY, fruitless=False))
        await asyncio.sleep(0 if when == "while it waits to probe" else 0.001)
        second = asyncio.ensure_future(gate.enter(POLICY, fruitless=False))
        await asyncio.sleep(0.001)
        if first.done():
            assert first.result().way is Way.PROBE
            first.result().left()
        else:
            first.cancel()
        assert (await second).way is Way.PROBE

    in_virtual_time(main())


def test_a_stream_that_leaves_the_queue_takes_nobodys_turn():
    gate = Gate()

    async def main():
        gate.broken(DOWN)
        probe = await gate.enter(POLICY, fruitless=False)
        waiting = [asyncio.ensure_future(gate.enter(POLICY, fruitless=False)) for _ in range(5)]
        await asyncio.sleep(0)
        probe.answered()
        await asyncio.sleep(0)
        waiting[2].cancel()
        del waiting[2]
        for each in asyncio.as_completed(waiting):
            (await each).answered()

    in_virtual_time(main())


def test_of_a_stream_that_leaves_the_queue_nothing_stays_there():
    async def run():
        gate = Gate()
        gate.broken(DOWN)
        probe = await gate.enter(POLICY, fruitless=False)
        now = asyncio.get_running_loop().time()
        for _ in range(100):
            with suppress(TimeoutError):
                await gate.enter(POLICY, fruitless=False, deadline=now)
        assert not gate._queue
        probe.left()

    in_virtual_time(run())


def test_fruitless_attempts_take_tokens_that_time_gives_back():
    gate = Gate()
    passed: list[float] = []

    async def one():
        (await gate.enter(POLICY, fruitless=True)).answered()
        passed.append(asyncio.get_running_loop().time())

    async def main():
        await asyncio.gather(*(one() for _ in range(150)))

    in_virtual_time(main())
    at_once = [when for when in passed if when == 0]
    assert 40 <= len(at_once) <= 60
    assert 9 <= max(passed) <= 11  # a hundred at ten a second


def test_whoever_leaves_gives_his_token_back():
    gate = Gate()

    async def main():
        waiting = [asyncio.ensure_future(gate.enter(POLICY, fruitless=True)) for _ in range(1000)]
        await asyncio.sleep(0.001)
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)
        began = asyncio.get_running_loop().time()
        (await gate.enter(POLICY, fruitless=True)).answered()
        assert asyncio.get_running_loop().time() - began < 1

    in_virtual_time(main())


ENDS = {
    "answered": lambda passage: passage.answered(),
    "failed": lambda passage: passage.failed(DOWN),
    "left": lambda passage: passage.left(),
    "nothing": lambda passage: None,
}


@pytest.mark.parametrize("error", [None, ValueError(), SystemExit(), asyncio.CancelledError()])
@pytest.mark.parametrize("said", ENDS)
@pytest.mark.parametrize("way", [Way.PROBE, Way.RELEASED])
def test_a_passage_is_given_back_once_whatever_happens(way, said, error):
    gate = Gate()

    async def other():
        try:
            with await gate.enter(POLICY, fruitless=False) as passage:
                passage.answered()
        except SharedFailure:
            await other()

    async def main():
        gate.broken(DOWN)
        passage = await gate.enter(POLICY, fruitless=False)
        second = asyncio.ensure_future(gate.enter(POLICY, fruitless=False))
        await asyncio.sleep(0.001)
        others = [asyncio.ensure_future(other()) for _ in range(3)]
        await asyncio.sleep(0.001)
        if way is Way.RELEASED:
            passage.answered()
            passage = await second
        else:
            second.cancel()
        assert passage.way is way
        with suppress(*([type(error)] if error is not None else [])), passage:
            assert passage.open
            ENDS[said](passage)
            if error is not None:
                raise error
        assert not passage.open
        for end in ENDS.values():  # which come too late
            end(passage)
        await asyncio.gather(*others)  # who waited have had their turns
        assert gate._under_way == 0
        assert not gate._probing
        assert (await gate.enter(POLICY, fruitless=False)).way is Way.FREE

    in_virtual_time(main())


def test_what_waits_for_a_token_ends_at_its_deadline_and_leaves_the_token_to_others():
    gate = Gate()
    ended: list[float] = []

    async def one(deadline):
        try:
            (await gate.enter(POLICY, fruitless=True, deadline=deadline)).answered()
        except TimeoutError:
            ended.append(asyncio.get_running_loop().time())

    async def main():
        # 50 at once, 20 in time, and the others in vain.
        await asyncio.gather(*(one(2.0) for _ in range(1000)))
        assert len(ended) == 1000 - 70
        assert set(ended) == {2.0}
        began = asyncio.get_running_loop().time()
        await one(math.inf)
        assert asyncio.get_running_loop().time() - began <= 0.2

    in_virtual_time(main())


@pytest.mark.parametrize("where", ["a probe's wait", "the queue"])
def test_what_waits_at_a_closed_gate_ends_at_its_deadline(where):
    gate = Gate()

    async def main():
        gate.broken(DOWN)
        probe = await gate.enter(POLICY, fruitless=False)
        if where == "a probe's wait":
            for _ in range(20):
                probe.failed(DOWN)
                probe = await gate.enter(POLICY, fruitless=False)
            probe.failed(DOWN)
        now = asyncio.get_running_loop().time()
        deadline = now + 0.000001 if where == "a probe's wait" else now + 1
        with pytest.raises(TimeoutError):
            await gate.enter(POLICY, fruitless=False, deadline=deadline)
        assert asyncio.get_running_loop().time() == pytest.approx(deadline)
        if where == "the queue":
            probe.failed(DOWN)
        with await gate.enter(POLICY, fruitless=False) as another:
            assert another.way is Way.PROBE

    in_virtual_time(main())
