"""The event loop of the simulation: virtual time, seeded order, and what it refuses."""

import asyncio
import os
import random
import time

import pytest

from simulation.loop import BlockingCallError, Deadlock, Overdue, VirtualLoop, isolated

pytestmark = pytest.mark.timeout(20)


@pytest.fixture
def loop():
    loop = VirtualLoop(random.Random(1))
    yield loop
    loop.close()


def order(seed: int, **options: float) -> list[int]:
    """In which order ten tasks go on that were woken up at the same time."""
    taken = []

    async def one(number: int, gate: asyncio.Event) -> None:
        await gate.wait()
        taken.append(number)

    async def main() -> None:
        gate = asyncio.Event()
        tasks = [asyncio.ensure_future(one(number, gate)) for number in range(10)]
        await asyncio.sleep(1)
        gate.set()
        await asyncio.gather(*tasks)

    loop = VirtualLoop(random.Random(seed), **options)
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
    return taken


def test_a_sleep_takes_virtual_time_only(loop):
    began = time.monotonic()
    loop.run_until_complete(asyncio.sleep(1_000_000))
    assert loop.time() == 1_000_000
    assert time.monotonic() - began < 15


def test_timers_fire_in_their_order(loop):
    fired = []
    for seconds in (3, 1, 2):
        loop.call_later(seconds, fired.append, seconds)
    loop.run_until_complete(asyncio.sleep(4))
    assert fired == [1, 2, 3]


@pytest.mark.loop_errors
def test_nothing_left_to_happen_is_a_deadlock_that_names_who_waits(loop):
    async def waits_for_ever() -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        await asyncio.get_running_loop().create_task(waits_for_ever(), name="the one who waits")

    with pytest.raises(Deadlock, match=r"the one who waits at .*waits_for_ever"):
        loop.run_until_complete(main())


@pytest.mark.loop_errors
def test_what_takes_too_long_is_overdue():
    loop = VirtualLoop(random.Random(1), limit=10)
    with pytest.raises(Overdue, match="10 virtual seconds"):
        loop.run_until_complete(asyncio.sleep(11))
    loop.close()


@pytest.mark.loop_errors
def test_what_never_rests_is_overdue():
    async def spins() -> None:
        while True:
            await asyncio.sleep(0)

    loop = VirtualLoop(random.Random(1), most_callbacks=1000)
    with pytest.raises(Overdue, match="1000 callbacks"):
        loop.run_until_complete(spins())
    loop.close()


def test_tasks_that_are_ready_together_run_in_an_order_of_the_seed():
    orders = [order(seed) for seed in range(5)]
    assert orders == [order(seed) for seed in range(5)]
    assert len({tuple(each) for each in orders}) == 5
    assert all(sorted(each) == list(range(10)) for each in orders)


def test_without_disorder_tasks_run_in_the_order_of_their_making():
    assert order(3, disorder=0) == list(range(10))


def test_callbacks_keep_their_order(loop):
    called = []

    async def main() -> None:
        for number in range(20):
            loop.call_soon(called.append, number)
        await asyncio.sleep(1)

    loop.run_until_complete(main())
    assert called == list(range(20))


def test_callbacks_cost_time():
    loop = VirtualLoop(random.Random(1), cost=0.1)
    loop.run_until_complete(asyncio.sleep(0))
    assert 0 < loop.time() < 1
    loop.close()


def test_there_are_no_threads(loop):
    async def main() -> None:
        await asyncio.to_thread(print)

    with pytest.raises(BlockingCallError):
        loop.run_until_complete(main())


@pytest.mark.loop_errors
def test_failures_of_callbacks_are_noted(loop):
    def fails() -> None:
        raise ValueError("by the test")

    loop.call_soon(fails)
    loop.run_until_complete(asyncio.sleep(0))
    assert any("by the test" in problem for problem in loop.problems)


def test_clocks_and_randomness_are_the_runs_own(loop):
    def look() -> tuple[object, ...]:
        with isolated(loop, random.Random(7)):
            return time.monotonic(), time.perf_counter(), os.urandom(8), random.random()

    loop.run_until_complete(asyncio.sleep(5))
    assert look() == look()
    assert look()[0] == 5
    assert time.monotonic() != 5


def test_time_sleep_is_refused(loop):
    with isolated(loop, random.Random(7)), pytest.raises(BlockingCallError):
        time.sleep(0)
