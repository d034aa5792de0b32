"""Coroutines of others, outside of runs: they go on only in their own turns, and leave them."""

import asyncio
import math
from collections.abc import Callable

import pytest
from attempts import FakeAttempt, until
from handling import Bystander
from turns_clock import SLACK, SLOW, Clock, Stalls, clock

from servestream_client.errors import ItemErrorKind
from servestream_client.server.calls import Call, Cancelled, Part
from servestream_client.server.handlers.answers import Failure
from servestream_client.server.handlers.awaiting import await_in_turn, wait_for_turn
from servestream_client.turns import BUDGET_SECONDS, Turn, turn_of_loop

__all__ = ["clock"]

LONG = 3600.0


class Worker:
    """A call in the running task for a stream's inputs, of which each is a part."""

    def __init__(self, count: int = 1) -> None:
        bystander = Bystander()
        self.attempt = FakeAttempt(bystander)
        self.attempt.send_many(count)
        self.parts = [
            Part(self.attempt, self.attempt.session.intake.next_run(1)) for _ in range(count)
        ]
        self.call = Call(bystander)
        self.call.bind()

    async def awaits(self, code: Callable, *, until: float = math.inf) -> object:
        return await await_in_turn(self.call, self.parts, code, until=until)


def was_left(turn: Turn, clock: Clock) -> bool:
    """Whether what passes now is charged to nobody."""
    clock.now += LONG
    return turn.enter() > 0


async def at_once():
    return "output"


async def in_a_while():
    await asyncio.sleep(0)
    return "output"


async def raises():
    raise ValueError("no")


async def raises_in_a_while():
    await asyncio.sleep(0)
    raise ValueError("no")


async def cancels():
    raise asyncio.CancelledError


async def never():
    await asyncio.Event().wait()


FAILED = (Failure, ItemErrorKind.HANDLER)
ENDS = {
    "returns": (at_once, "output"),
    "returns in a while": (in_a_while, "output"),
    "raises": (raises, FAILED),
    "raises in a while": (raises_in_a_while, FAILED),
    "raises CancelledError": (cancels, FAILED),
    "is no awaitable": (lambda: 7, FAILED),
}


@pytest.mark.parametrize("end", ENDS)
async def test_the_turn_is_left_however_code_ends(end, clock):
    code, expected = ENDS[end]
    outcome = await Worker().awaits(code)
    if isinstance(outcome, Failure):
        outcome = type(outcome), outcome.kind
    assert outcome == expected
    assert was_left(turn_of_loop(), clock)


async def test_code_that_takes_too_long_fails_and_has_left_the_turn(clock):
    outcome = await Worker().awaits(never, until=asyncio.get_running_loop().time())
    assert (type(outcome), outcome.kind) == (Failure, ItemErrorKind.TIMEOUT)
    assert was_left(turn_of_loop(), clock)


@pytest.mark.parametrize("how", ["its inputs", "its task"])
async def test_code_that_is_cancelled_has_left_the_turn(how, clock):
    workers = []

    async def work():
        workers.append(Worker(2))
        await workers[0].awaits(never)

    working = asyncio.ensure_future(work())
    await until(lambda: bool(workers))
    await asyncio.sleep(0)
    if how == "its inputs":
        workers[0].attempt.cancel(1, 2)
    else:
        working.cancel()
    with pytest.raises(Cancelled if how == "its inputs" else asyncio.CancelledError):
        await working
    assert was_left(turn_of_loop(), clock)


# ---------------------------------------------------------------- when it is another's turn


def spent() -> Turn:
    """The loop's turn, of which nothing is left until it has turned."""
    turn = turn_of_loop()
    turn.enter()
    turn.spend(BUDGET_SECONDS)
    assert turn.busy
    return turn


@pytest.mark.parametrize("cancelled", [0, 1, 2])
async def test_who_waits_for_a_turn_is_not_to_be_started_once_nobody_wants_it(cancelled, clock):
    """Two inputs are computed together; with one of them cancelled the other is wanted."""
    worker, begun = Worker(2), []

    async def code():
        begun.append(True)
        return "output"

    waiting = asyncio.ensure_future(worker.awaits(code))
    turn = spent()
    await asyncio.sleep(0)
    assert not begun
    if cancelled:
        worker.attempt.cancel(1, cancelled)
    (outcome,) = await asyncio.gather(waiting, return_exceptions=True)
    assert isinstance(outcome, Cancelled) == (cancelled == 2)
    assert bool(begun) == (cancelled < 2)
    assert was_left(turn, clock)


async def test_who_has_waited_for_a_turn_is_in_it(clock):
    turn = spent()
    over = await wait_for_turn(turn, Worker().parts)
    assert over > clock.now
    clock.now += LONG
    turn.leave()
    assert turn.busy  # it was charged with that


@pytest.mark.parametrize("count", [2, 20])
async def test_slow_pieces_of_many_do_not_follow_upon_one_another(count, clock):
    stalls = Stalls(clock)

    async def code():
        for _ in range(3):
            clock.now += SLOW
            await asyncio.sleep(0)
        return "output"

    async def work():
        return await Worker().awaits(code)

    with stalls.watched():
        outcomes = await asyncio.gather(*(work() for _ in range(count)))
    assert outcomes == ["output"] * count
    assert stalls.longest <= SLOW + SLACK
