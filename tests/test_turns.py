"""The budget of an event loop's turn: who may go on, who waits, and for how long."""

import asyncio
import random

import pytest
from turns_clock import SLACK, SLOW, Clock, Stalls, clock

from servestream_client.turns import BUDGET_SECONDS, STRETCH_SECONDS, Turn, turn_of_loop

__all__ = ["clock"]


async def use(turn: Turn, clock: Clock, seconds: float, times: int = 1) -> None:
    until = turn.enter() or await turn.wait()
    for _ in range(times):
        if turn.clock() >= until:
            until = turn.enter() or await turn.wait()
        clock.now += seconds
    turn.leave()


async def test_who_uses_little_waits_for_nobody(clock):
    turn = turn_of_loop()
    assert turn is turn_of_loop()
    for _ in range(3):
        assert turn.enter() == clock.now + STRETCH_SECONDS
        clock.now += STRETCH_SECONDS
        turn.leave()
        clock.now += 10  # nobody's code
    assert not turn.busy


@pytest.mark.parametrize("tasks", [1, 2, 1000])
async def test_however_many_wake_up_together_one_slow_piece_keeps_the_loop(clock, tasks):
    turn, stalls = turn_of_loop(), Stalls(clock)
    with stalls.watched():
        await asyncio.gather(*(use(turn, clock, SLOW, 3) for _ in range(tasks)))
    assert stalls.longest <= SLOW + SLACK
    assert turn.busy is False


async def test_quick_ones_share_a_turn(clock):
    turn, stalls = turn_of_loop(), Stalls(clock)
    with stalls.watched():
        await asyncio.gather(*(use(turn, clock, 1e-6) for _ in range(1000)))
    assert stalls.turns < 10


async def test_quick_ones_that_had_to_wait_go_on_soon(clock):
    turn, stalls = turn_of_loop(), Stalls(clock)
    with stalls.watched():
        async with asyncio.timeout(20):
            await asyncio.gather(
                use(turn, clock, SLOW), *(use(turn, clock, 1e-7) for _ in range(1000))
            )
    assert stalls.turns < 40


async def test_those_who_wait_are_served_as_they_came(clock):
    turn, order = turn_of_loop(), []

    async def one(name: int) -> None:
        until = turn.enter() or await turn.wait()
        assert until
        order.append(name)
        clock.now += SLOW
        turn.leave()

    await asyncio.gather(*map(one, range(50)))
    assert order == list(range(50))


async def test_whoever_comes_back_at_once_stands_behind_those_who_wait(clock):
    turn, order = turn_of_loop(), []

    async def again(name: str) -> None:
        for _ in range(5):
            await turn.ready()
            assert turn.enter()
            order.append(name)
            clock.now += SLOW
            turn.leave()

    await asyncio.gather(again("a"), again("b"), again("c"))
    # The first one had begun and queued before the others came.
    assert order == ["a", *"abc" * 4, "b", "c"]


@pytest.mark.parametrize("seed", range(20))
async def test_whoever_is_cancelled_while_waiting_holds_up_nobody(clock, seed):
    rng, turn, done = random.Random(seed), turn_of_loop(), []

    async def one(name: int) -> None:
        await use(turn, clock, rng.choice([0.0, 1e-4, SLOW]))
        done.append(name)

    tasks = [asyncio.ensure_future(one(name)) for name in range(60)]
    cancelled = set()
    for _ in range(20):
        await asyncio.sleep(0)
        name = rng.randrange(60)
        if tasks[name].cancel():
            cancelled.add(name)
    async with asyncio.timeout(20):
        await asyncio.wait(tasks)
        await use(turn, clock, 0.0)
    assert set(range(60)) - cancelled <= set(done)
    assert turn.busy is False
    assert turn._woken == 0
    assert not turn._waiting


async def test_what_is_spent_after_the_renewal_was_decided_counts(clock):
    """Some is left when the loop turns, and is spent before the budget is given anew: in that turn
    nobody may begin again."""
    loop, turn, began = asyncio.get_running_loop(), turn_of_loop(), []

    def piece() -> None:
        began.append(bool(turn.enter()))
        clock.now += SLOW * began[-1]
        turn.leave()

    loop.call_soon(piece)
    assert turn.enter()
    clock.now += 0.6 * BUDGET_SECONDS
    turn.leave()  # the loop is to give the budget anew, between the two
    loop.call_soon(piece)
    await asyncio.sleep(0)
    assert began == [True, False]
    await turn.passes()
    piece()
    assert began == [True, False, True]


async def test_code_that_waits_is_charged_for_what_it_did_only(clock):
    turn = turn_of_loop()
    came = asyncio.get_running_loop().create_future()

    async def code() -> str:
        clock.now += STRETCH_SECONDS
        value = await came
        clock.now += STRETCH_SECONDS
        return value

    assert turn.enter()
    task = asyncio.ensure_future(_run(turn, code))
    await asyncio.sleep(0)
    clock.now += 100 * BUDGET_SECONDS  # others'
    came.set_result("it")
    assert await task == "it"
    assert not turn.busy


async def _run(turn: Turn, code) -> object:
    return await turn.metered(code())


@pytest.mark.parametrize("how", ["error", "cancelled", "closed", "returns"])
async def test_awaiting_with_the_meter_is_awaiting(how):
    turn, seen = Turn(), []
    waiting = asyncio.get_running_loop().create_future()

    async def code() -> str:
        try:
            return await waiting
        except BaseException as error:
            seen.append(type(error))
            raise
        finally:
            seen.append("cleaned")

    task = asyncio.ensure_future(_run(turn, code))
    await asyncio.sleep(0)
    if how == "returns":
        waiting.set_result("x")
        assert await task == "x"
        assert seen == ["cleaned"]
    elif how == "error":
        waiting.set_exception(KeyError("x"))
        with pytest.raises(KeyError):
            await task
        assert seen == [KeyError, "cleaned"]
    elif how == "cancelled":
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen == [asyncio.CancelledError, "cleaned"]
    else:
        task.cancel()
        await asyncio.wait({task})
        coroutine = _run(turn, lambda: asyncio.sleep(0))
        coroutine.send(None)
        coroutine.close()


def test_each_loop_has_its_own():
    async def own() -> Turn:
        return turn_of_loop()

    assert asyncio.run(own()) is not asyncio.run(own())
