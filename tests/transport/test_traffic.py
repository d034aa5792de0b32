"""What the calls of one connection know of each other's large frames, in virtual time."""

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

import pytest
from steps import steps

from servestream_client.protocol.coming import BESIDE_BYTES, LOWEST_RATE
from servestream_client.transport import traffic as traffic_code
from servestream_client.transport.traffic import Line, Traffic
from simulation.loop import VirtualLoop, isolated

MB = 1_000_000


@pytest.fixture
def run() -> Iterator[Callable]:
    """Runs a coroutine in virtual time."""
    with closing(VirtualLoop(random.Random(1))) as loop, isolated(loop, random.Random(1)):
        yield loop.run_until_complete


class Call:
    """A call that does what a driver does: it says what it is to say when it gets round to it."""

    def __init__(self, traffic: Traffic) -> None:
        self.line = Line(traffic)
        self.crowded = 0
        self.woken = 0
        self.line.join(self._crowd, self._wake)

    def _crowd(self) -> None:
        self.crowded += 1

    def _wake(self) -> None:
        self.woken += 1

    def speak(self) -> None:
        self.line.said(self.line.beside)

    def start(self, size: int) -> bool:
        """Send a large frame, if it may go."""
        if not self.line.reserve(size):
            return False
        told = max(size, self.line.beside)
        self.line.under_way(size)
        self.line.said(told)
        self.line.said(self.line.beside)  # the frame itself
        return True


def test_a_call_that_is_alone_asks_nobody_and_says_nothing(run):
    async def main():
        call = Call(Traffic())
        assert call.start(3 * MB)
        assert (call.line.alone, call.line.beside, call.line.going_beside) == (True, 0, 0)

    run(main())


def test_neighbours_tell_their_servers_before_a_large_frame_goes(run):
    async def main():
        traffic = Traffic()
        first, second, third = (Call(traffic) for _ in range(3))
        assert not first.start(3 * MB)
        assert (second.crowded, third.crowded, first.crowded) == (1, 1, 0)
        second.speak()
        assert first.woken == 1
        assert not first.start(3 * MB)
        assert (second.crowded, third.crowded) == (1, 1)
        third.speak()
        assert first.start(3 * MB)
        assert second.line.told == 3 * MB + BESIDE_BYTES
        assert second.line.going_beside == 3 * MB

    run(main())


def test_what_was_told_lasts_for_the_next_ones(run):
    async def main():
        traffic = Traffic()
        first, second = Call(traffic), Call(traffic)
        first.start(3 * MB)
        second.speak()
        for _ in range(100):
            assert first.start(3 * MB)
            first.line.under_way(0)
            second.speak()
        assert second.crowded == 1
        await asyncio.sleep(6)  # nothing large was sent lately
        second.speak()
        assert second.line.told == 0
        assert not first.start(3 * MB)
        assert second.crowded == 2

    run(main())


def test_what_exceeds_the_room_that_a_mute_call_has_left_waits_for_it(run):
    async def main():
        traffic = Traffic()
        calls = [Call(traffic) for _ in range(3)]
        calls[0].start(3 * MB)
        for call in calls[1:]:
            call.speak()
        assert calls[0].start(3 * MB)
        assert calls[1].start(4 * MB)
        assert not calls[2].start(MB)  # 4 MiB beside the first, and no more
        calls[0].line.under_way(0)
        assert calls[2].woken >= 1
        calls[0].speak()
        assert calls[2].start(MB)

    run(main())


@pytest.mark.parametrize("seed", range(30))
def test_every_server_expects_all_that_is_under_way(run, seed):
    """The invariant, under whatever order of events."""
    rng = random.Random(seed)

    async def main():
        traffic = Traffic()
        calls = [Call(traffic) for _ in range(rng.randint(2, 5))]
        under_way: dict[Call, int] = {}
        starts = 0
        for _ in range(300):
            call = rng.choice(calls)
            event = rng.random()
            if call in under_way:
                if event < 0.5:
                    del under_way[call]
                    call.line.under_way(0)
            elif event < 0.4:
                call.speak()
            else:
                size = rng.choice([1000, MB, 3 * MB])
                if call.start(size):
                    starts += 1
                    under_way[call] = size
            total = sum(under_way.values())
            assert traffic.up == total
            for each in calls:
                if under_way.get(each) != total:
                    assert each.line.told >= total, f"seed {seed}"
            await asyncio.sleep(0.002)  # none is mute for long
        assert starts > 20

    run(main())


@pytest.mark.parametrize("seed", range(30))
def test_whoever_keeps_a_large_frame_waiting_was_asked(run, seed):
    """However much is remembered of who was asked before."""
    rng = random.Random(seed)

    async def main():
        traffic = Traffic()
        calls = [Call(traffic) for _ in range(rng.randint(3, 6))]
        kept = 0
        for _ in range(400):
            call = rng.choice(calls)
            event = rng.random()
            if event < 0.1:
                call.line.leave()
                calls[calls.index(call)] = Call(traffic)
            elif event < 0.3:
                call.line.under_way(0)
            elif event < 0.4:
                call.line.said(rng.choice([0, MB, 5 * MB]))
            elif event < 0.5:
                call.speak()
            elif not call.line._own:
                size = rng.choice([1000, MB, 3 * MB])
                expected = traffic.up + size
                lacking = [
                    each.line for each in calls if each is not call and each.line.told < expected
                ]
                assert call.start(size) is not bool(lacking), f"seed {seed}"
                kept += bool(lacking)
                assert all(line._own or line._asked_at is not None for line in lacking)
            await asyncio.sleep(0.0001)  # all are waited for
        assert kept > 20

    run(main())


def test_an_acknowledgement_costs_each_that_waits_the_same(run):
    async def counted(waiting: int) -> int:
        traffic = Traffic()
        lines = [Line(traffic) for _ in range(waiting)]
        for line in lines:
            line.join(lambda: None, partial(line.reserve, MB))
        lines[0].under_way(MB)
        for line in lines[1:]:
            assert not line.reserve(MB)
        found = steps(lambda: lines[0].under_way(0), traffic_code.__file__)
        assert len(traffic.waiting) == waiting - 1
        for line in lines:
            line.leave()
        return found

    few, many = run(counted(50)), run(counted(400))
    assert 0 < many <= 10 * few


def test_who_cannot_even_speak_is_not_waited_for(run):
    """A call whose open is not answered, for example."""

    async def main():
        traffic = Traffic()
        call, mute = Call(traffic), Call(traffic)
        assert not call.start(3 * MB)
        await asyncio.sleep(1.01)
        assert (mute.crowded, call.woken) == (1, 1)
        assert call.start(3 * MB)

    run(main())


@pytest.mark.parametrize("how", ["leave", "quit"])
def test_who_is_gone_is_not_asked(run, how):
    async def main():
        traffic = Traffic()
        call, other = Call(traffic), Call(traffic)
        assert not call.start(3 * MB)
        getattr(other.line, how)()
        assert call.woken == 1
        assert call.start(3 * MB)
        assert call.line.alone
        call.line.leave()
        assert (traffic.up, traffic.down, traffic.lines, traffic.waiting) == (0, 0, {}, {})
        call.line.under_way(5)
        call.line.heard(5)
        assert traffic.under_way == 0

    run(main())


def test_a_connection_is_slow_once_large_frames_make_no_progress(run):
    async def main():
        traffic = Traffic()
        one, other = Line(traffic), Line(traffic)
        one.heard(3 * MB)
        assert not other.slow
        await asyncio.sleep(0.3)
        assert other.slow
        assert other.coming_beside == 3 * MB
        assert one.coming_beside == 0
        one.heard(0)
        assert not other.slow
        for _ in range(10):  # always some, and always another one
            one.heard(3 * MB)
            other.heard(3 * MB)
            await asyncio.sleep(0.2)
            one.heard(0)
            other.heard(0)
            assert not one.slow

    run(main())


def test_time_in_which_nothing_could_arrive_is_excused_and_no_more(run):
    async def main():
        traffic = Traffic()
        one, other = Line(traffic), Line(traffic)
        mark = other.mark()
        await asyncio.sleep(5)
        assert other.excuse(mark) == 0
        one.heard(10 * LOWEST_RATE)
        await asyncio.sleep(4)
        one.heard(0)
        await asyncio.sleep(4)
        assert other.excuse(mark) == pytest.approx(4)
        one.under_way(10 * LOWEST_RATE)
        await asyncio.sleep(30)
        assert other.excuse(mark) == pytest.approx(20)  # what came, and what is still to come

    run(main())
