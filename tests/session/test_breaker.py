"""Who may try when nobody answers: in virtual time, with many streams at once."""

import asyncio
import math
import random
from collections import Counter
from contextlib import suppress

import pytest

from servestream_client import RetryPolicy
from servestream_client.session.breaker import Admission, AdmissionKind, CircuitBreaker
from servestream_client.transport.classify import Decision, Verdict
from simulation.loop import VirtualLoop, isolated

POLICY = RetryPolicy()
DOWN = Verdict(Decision.RESUME, "nobody answers", unreachable=True)
STREAMS = 500


class Target:
    """Answers, or does not. Streams come to it through a breaker, until they are answered."""

    def __init__(self, *, down_for: float) -> None:
        self.breaker = CircuitBreaker()
        self.down_for = down_for
        self.calls: list[tuple[float, AdmissionKind]] = []
        self.under_way = 0
        self.most_under_way: list[int] = []
        self.shared: Counter[Verdict] = Counter()

    async def attempt(self, *, no_progress: bool) -> bool:
        admission = await self.breaker.admit(POLICY, no_progress=no_progress)
        if not isinstance(admission, Admission):
            self.shared[admission] += 1
            return False
        now = asyncio.get_running_loop().time()
        self.calls.append((now, admission.kind))
        self.under_way += 1
        self.most_under_way.append(self.under_way)
        await asyncio.sleep(0.01)
        self.under_way -= 1
        if now < self.down_for:
            admission.failed(DOWN)
            return False
        admission.answered()
        return True

    async def stream(self) -> None:
        no_progress = False
        while True:
            if await self.attempt(no_progress=no_progress):
                return
            no_progress = True
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
    assert Counter(kind for _, kind in target.calls) == {AdmissionKind.NORMAL: STREAMS}
    assert {when for when, _ in target.calls} == {0.0}


@pytest.mark.parametrize("seconds", [0.5, 10, 60])
def test_an_outage_costs_one_probe_now_and_then_and_each_stream_comes_back_once(seconds):
    target = Target(down_for=seconds)

    async def main():
        target.breaker.trip(DOWN)
        await asyncio.gather(*(target.stream() for _ in range(STREAMS)))

    in_virtual_time(main())
    kinds = Counter(kind for _, kind in target.calls)
    assert kinds[AdmissionKind.RAMP_UP] + kinds[AdmissionKind.NORMAL] == STREAMS - 1
    # Waits between probes are drawn from 0 to 0.1, 0.2, 0.4, ... 5 s.
    assert 1 <= kinds[AdmissionKind.PROBE] <= 12 + seconds
    assert target.under_way == 0
    assert set(target.shared) == {DOWN}


def test_after_an_outage_streams_come_back_in_growing_numbers():
    target = Target(down_for=0)

    async def main():
        target.breaker.trip(DOWN)
        await asyncio.gather(*(target.stream() for _ in range(64)))

    in_virtual_time(main())
    released = target.most_under_way[-63:]
    assert released[0] == 1
    assert max(released[:7]) <= 4
    assert max(released) > 8


def test_a_target_that_goes_again_while_streams_come_back_opens_the_breaker():
    target = Target(down_for=0)
    breaker = target.breaker

    async def main():
        breaker.trip(DOWN)
        probe = await breaker.admit(POLICY, no_progress=False)
        waiting = [
            asyncio.ensure_future(breaker.admit(POLICY, no_progress=False)) for _ in range(9)
        ]
        await asyncio.sleep(0)
        probe.answered()
        await asyncio.sleep(0.001)
        (first,) = [each for each in waiting if each.done()]
        waiting.remove(first)
        first.result().failed(DOWN)
        await asyncio.sleep(0.001)
        kinds = [each.result().kind for each in waiting if each.done()]
        assert kinds == [AdmissionKind.PROBE]
        for each in waiting:
            each.cancel()

    in_virtual_time(main())


@pytest.mark.parametrize("when", ["while it waits to probe", "while it probes"])
def test_a_stream_that_leaves_hands_on_what_it_was_doing(when):
    breaker = CircuitBreaker()

    async def main():
        breaker.trip(DOWN)
        first = asyncio.ensure_future(breaker.admit(POLICY, no_progress=False))
        await asyncio.sleep(0 if when == "while it waits to probe" else 0.001)
        second = asyncio.ensure_future(breaker.admit(POLICY, no_progress=False))
        await asyncio.sleep(0.001)
        if first.done():
            assert first.result().kind is AdmissionKind.PROBE
            first.result().left()
        else:
            first.cancel()
        assert (await second).kind is AdmissionKind.PROBE

    in_virtual_time(main())


def test_a_stream_that_leaves_the_queue_takes_nobodys_turn():
    breaker = CircuitBreaker()

    async def main():
        breaker.trip(DOWN)
        probe = await breaker.admit(POLICY, no_progress=False)
        waiting = [
            asyncio.ensure_future(breaker.admit(POLICY, no_progress=False)) for _ in range(5)
        ]
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
        breaker = CircuitBreaker()
        breaker.trip(DOWN)
        probe = await breaker.admit(POLICY, no_progress=False)
        now = asyncio.get_running_loop().time()
        for _ in range(100):
            with suppress(TimeoutError):
                await breaker.admit(POLICY, no_progress=False, deadline=now)
        assert not breaker._queue
        probe.left()

    in_virtual_time(run())


def test_attempts_without_progress_take_tokens_that_time_gives_back():
    breaker = CircuitBreaker()
    passed: list[float] = []

    async def one():
        (await breaker.admit(POLICY, no_progress=True)).answered()
        passed.append(asyncio.get_running_loop().time())

    async def main():
        await asyncio.gather(*(one() for _ in range(150)))

    in_virtual_time(main())
    at_once = [when for when in passed if when == 0]
    assert 40 <= len(at_once) <= 60
    assert 9 <= max(passed) <= 11  # a hundred at ten a second


def test_whoever_leaves_gives_his_token_back():
    breaker = CircuitBreaker()

    async def main():
        waiting = [
            asyncio.ensure_future(breaker.admit(POLICY, no_progress=True)) for _ in range(1000)
        ]
        await asyncio.sleep(0.001)
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)
        began = asyncio.get_running_loop().time()
        (await breaker.admit(POLICY, no_progress=True)).answered()
        assert asyncio.get_running_loop().time() - began < 1

    in_virtual_time(main())


ENDS = {
    "answered": lambda admission: admission.answered(),
    "failed": lambda admission: admission.failed(DOWN),
    "left": lambda admission: admission.left(),
    "nothing": lambda admission: None,
}


@pytest.mark.parametrize("error", [None, ValueError(), SystemExit(), asyncio.CancelledError()])
@pytest.mark.parametrize("said", ENDS)
@pytest.mark.parametrize("kind", [AdmissionKind.PROBE, AdmissionKind.RAMP_UP])
def test_an_admission_is_given_back_once_whatever_happens(kind, said, error):
    breaker = CircuitBreaker()

    async def other():
        admission = await breaker.admit(POLICY, no_progress=False)
        if not isinstance(admission, Admission):
            await other()
            return
        with admission:
            admission.answered()

    async def main():
        breaker.trip(DOWN)
        admission = await breaker.admit(POLICY, no_progress=False)
        second = asyncio.ensure_future(breaker.admit(POLICY, no_progress=False))
        await asyncio.sleep(0.001)
        others = [asyncio.ensure_future(other()) for _ in range(3)]
        await asyncio.sleep(0.001)
        if kind is AdmissionKind.RAMP_UP:
            admission.answered()
            admission = await second
        else:
            second.cancel()
        assert admission.kind is kind
        with suppress(*([type(error)] if error is not None else [])), admission:
            assert admission.pending
            ENDS[said](admission)
            if error is not None:
                raise error
        assert not admission.pending
        for end in ENDS.values():  # which come too late
            end(admission)
        await asyncio.gather(*others)  # who waited have had their turns
        assert breaker._under_way == 0
        assert not breaker._probing
        assert (await breaker.admit(POLICY, no_progress=False)).kind is AdmissionKind.NORMAL

    in_virtual_time(main())


def test_what_waits_for_a_token_ends_at_its_deadline_and_leaves_the_token_to_others():
    breaker = CircuitBreaker()
    ended: list[float] = []

    async def one(deadline):
        try:
            (await breaker.admit(POLICY, no_progress=True, deadline=deadline)).answered()
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
def test_what_waits_at_an_open_breaker_ends_at_its_deadline(where):
    breaker = CircuitBreaker()

    async def main():
        breaker.trip(DOWN)
        probe = await breaker.admit(POLICY, no_progress=False)
        if where == "a probe's wait":
            for _ in range(20):
                probe.failed(DOWN)
                probe = await breaker.admit(POLICY, no_progress=False)
            probe.failed(DOWN)
        now = asyncio.get_running_loop().time()
        deadline = now + 0.000001 if where == "a probe's wait" else now + 1
        with pytest.raises(TimeoutError):
            await breaker.admit(POLICY, no_progress=False, deadline=deadline)
        assert asyncio.get_running_loop().time() == pytest.approx(deadline)
        if where == "the queue":
            probe.failed(DOWN)
        with await breaker.admit(POLICY, no_progress=False) as another:
            assert another.kind is AdmissionKind.PROBE

    in_virtual_time(main())
