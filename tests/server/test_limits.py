"""Who takes too long: each call is looked at when it is due, by one timer for all."""

import asyncio
import math
import random
from collections.abc import Callable
from contextlib import closing

import pytest

from servestream_client.server.limits import TimeLimits
from simulation.loop import VirtualLoop, isolated


class Call:
    """Stands for one that is due at these times, one after the other; then it is abandoned."""

    def __init__(self, *times: float) -> None:
        self._times = list(times)
        self.abandoned = False
        self.looked: list[float] = []

    @property
    def due(self) -> float:
        return self._times[0] if self._times else math.inf

    def expire(self, now: float) -> float:
        self.looked.append(now)
        if now >= self._times[0]:
            del self._times[0]
        self.abandoned = not self._times
        return self.due


class Limits:
    def __init__(self) -> None:
        self.told: list[Call] = []
        self.limits = TimeLimits(self.told.append)

    def begin(self, *times: float) -> Call:
        call = Call(*times)
        self.limits.begin(call)
        return call


def timers() -> int:
    return len(asyncio.get_running_loop().timers)


def in_virtual_time(main: Callable) -> None:
    rng = random.Random(1)
    with closing(VirtualLoop(rng)) as loop, isolated(loop, rng):
        loop.run_until_complete(main())


@pytest.mark.parametrize("seed", range(10))
def test_each_is_looked_at_when_it_is_due_by_one_timer(seed):
    rng = random.Random(seed)

    async def main():
        limits, there, ended = Limits(), [], []
        for _ in range(100):
            now = asyncio.get_running_loop().time()
            times = sorted(now + each + 0.5 for each in rng.sample(range(1, 50), rng.randint(1, 2)))
            there.append((limits.begin(*times), times))
            if rng.random() < 0.5:
                call, times = there.pop(rng.randrange(len(there)))
                limits.limits.end(call)
                ended.append((call, [time for time in times if time < now]))
            await asyncio.sleep(rng.choice([0, 0, 1, 7]))
            assert timers() <= 1
        await asyncio.sleep(100)
        for call, times in (*there, *ended):
            assert call.looked == times
        abandoned = [call for call, _ in (*there, *ended) if call.abandoned]
        assert sorted(map(id, limits.told)) == sorted(map(id, abandoned))
        assert timers() == 0
        assert limits.limits.idle

    in_virtual_time(main)


def test_who_has_no_limit_sets_no_timer():
    async def main():
        limits = Limits()
        limits.begin()
        assert timers() == 0
        assert limits.limits.idle

    in_virtual_time(main)


def test_one_that_was_looked_at_in_vain_is_looked_at_again_when_it_says():
    """Its thread had just gone on to the next input, say."""

    async def main():
        limits = Limits()
        call, other = limits.begin(1.0, 3.0), limits.begin(2.0)
        await asyncio.sleep(2.5)
        assert (call.looked, call.abandoned) == ([1.0], False)
        assert (other.looked, limits.told) == ([2.0], [other])
        await asyncio.sleep(1)
        assert (call.looked, limits.told) == ([1.0, 3.0], [other, call])

    in_virtual_time(main)


@pytest.mark.loop_errors
def test_one_that_fails_here_takes_nobodys_limit_along():
    class BugError(Exception):
        pass

    class Failing(Call):
        def expire(self, now: float) -> float:
            raise BugError

    async def main():
        limits = Limits()
        limits.limits.begin(Failing(1.0))
        beside, later = limits.begin(1.0), limits.begin(2.0)
        await asyncio.sleep(3)
        assert [call.looked for call in (beside, later)] == [[1.0], [2.0]]
        (problem,) = asyncio.get_running_loop().problems
        assert "BugError" in problem

    in_virtual_time(main)
