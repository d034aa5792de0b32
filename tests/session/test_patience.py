"""Limits in seconds that large frames put off, in virtual time."""

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from servestream_client.protocol.coming import LOWEST_RATE
from servestream_client.session.patience import Patience
from servestream_client.transport.traffic import Line, Traffic
from simulation.loop import VirtualLoop, isolated


@pytest.fixture
def run() -> Iterator[Callable]:
    """Runs a coroutine in virtual time."""
    with closing(VirtualLoop(random.Random(1))) as loop, isolated(loop, random.Random(1)):
        yield loop.run_until_complete


async def passing(steps: Callable) -> float:
    """When a limit of 10 s passes, while something happens on its connection."""
    loop = asyncio.get_running_loop()
    traffic = Traffic()
    passed: asyncio.Future[float] = loop.create_future()
    begin = loop.time()
    patience = Patience(Line(traffic), lambda: passed.set_result(loop.time() - begin))
    patience.limit(10)
    patience.limit(50)  # the earlier one holds
    await steps(Line(traffic))
    return await passed


def test_without_large_frames_a_limit_is_a_limit(run):
    async def nothing(_):
        pass

    assert run(passing(nothing)) == pytest.approx(10)


@pytest.mark.parametrize("way", ["heard", "under_way"])
@pytest.mark.parametrize(("after", "lasting"), [(0, 3), (9, 4), (9.9, 20)])
def test_the_time_that_large_frames_take_is_added(run, way, after, lasting):
    async def large(line):
        await asyncio.sleep(after)
        getattr(line, way)(30 * LOWEST_RATE)
        await asyncio.sleep(lasting)
        getattr(line, way)(0)

    assert run(passing(large)) == pytest.approx(10 + lasting)


def test_no_more_is_added_than_they_may_take(run):
    async def stuck(line):
        line.heard(30 * LOWEST_RATE)

    assert run(passing(stuck)) == pytest.approx(40)


def test_one_after_the_other_they_do_not_put_it_off_for_ever(run):
    async def busy(line):
        for _ in range(1000):
            line.heard(5 * LOWEST_RATE)
            await asyncio.sleep(0.5)
            line.heard(0)

    assert 100 < run(passing(busy)) < 200


def test_a_limit_that_is_cleared_does_not_pass(run):
    async def main():
        passed = []
        patience = Patience(Line(), lambda: passed.append(1))
        patience.limit(1)
        patience.clear()
        await asyncio.sleep(5)
        assert not passed
        patience.limit(1)
        await asyncio.sleep(2)
        assert passed == [1]

    run(main())


class StoppableLoop:
    """Takes timers, and lets the test fire them, as late as it likes."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when, callback):
        self.timers.append((when, callback))

    def fire(self, now: float) -> float:
        """Fire the only timer there is; when it was due."""
        self.now = now
        ((when, callback),) = self.timers
        self.timers.clear()
        callback()
        return when


def test_a_limit_that_passes_late_gives_what_came_meanwhile_its_time(monkeypatch):
    loop, passed = StoppableLoop(), []
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    patience = Patience(Line(Traffic()), lambda: passed.append(loop.now))
    patience.limit(15)
    assert loop.fire(400.0) == 115.0
    assert passed == []
    assert loop.fire(900.0) == 415.0  # late again: once is enough
    assert passed == [900.0]


def test_a_limit_that_passes_in_time_is_one(monkeypatch):
    loop, passed = StoppableLoop(), []
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    Patience(Line(Traffic()), lambda: passed.append(loop.now)).limit(15)
    assert loop.fire(115.2) == 115.0
    assert passed == [115.2]
