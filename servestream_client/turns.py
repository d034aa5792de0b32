"""Turns of an event loop: how long other people's code may keep it.

Invariant: between two turns of a loop, all that calls other people's code through its `Turn`
together keeps the loop no longer than a few milliseconds plus the piece at hand: one item pulled,
encoded, decoded or handled. The clock decides, looked at as the pieces are done; nothing is
concluded from how fast earlier ones were.

Code that wants to call others' enters, looks at the clock after each piece, and enters again once
its stretch is over::

    until = turn.enter() or await turn.wait()
    for item in items:
        call(item)
        if turn.clock() >= until:
            until = turn.enter() or await turn.wait()
    turn.leave()

One `Turn` serves a whole loop, so that a thousand tasks that wake up together share one budget.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from typing import Any, TypeVar, cast
from weakref import ReferenceType, WeakKeyDictionary, ref

__all__ = ["BUDGET_SECONDS", "STRETCH_SECONDS", "Turn", "turn_of_loop"]

STRETCH_SECONDS = 0.001
"""After so long the caller of other people's code lets others have their turn."""

BUDGET_SECONDS = 0.004
"""After so much in all nobody begins a stretch before the loop has turned. Several stretches, since
the stages of a stream would wait for one another otherwise, though none of them keeps the loop."""

T = TypeVar("T")


class Turn:
    """The budget of an event loop's present turn.

    Those who find it spent wait, and are served in the order in which they came.

    Args:
        clock: in seconds; None: `time.perf_counter`.

    Attributes:
        clock: that.
        busy: whether what wants to enter has to wait.
        unmetered: whether code is called that may wait, and then goes on without entering. There is
            one such call at a time, and meanwhile all others look at the clock after each piece.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self.clock: Callable[[], float] = time.perf_counter if clock is None else clock
        self.busy: bool = False
        self.unmetered: bool = False
        self._left = BUDGET_SECONDS
        self._since: float | None = None  # when somebody entered who has not left yet
        self._renewing = False
        self._renewed_early = False  # it will be, though there was some left when that was decided
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._woken = 0  # those who were let go on, and have not been able to
        self._returned = 0  # of these, who found that the budget was spent by others
        self._served = 1  # since the budget was last given
        self._granted = False  # the next one to enter has waited already

    def enter(self) -> float:
        """Begin to call other people's code.

        Returns:
            When to enter again, by `clock`; 0.0: the budget is spent, so `wait` first.
        """
        now = self.clock()
        if self._since is not None:
            self.spend(now - self._since)
        if self.busy:
            granted, self._granted = self._granted, False
            if not granted or self._left <= 0:
                return 0.0
        self._since = now
        return now + STRETCH_SECONDS

    @property
    def until(self) -> float:
        """What `enter` returned, or would have, for code that went on in `metered`."""
        return 0.0 if self._since is None else self._since + STRETCH_SECONDS

    async def wait(self) -> float:
        """Let others on the loop have their turn, until it is one's own again; then as `enter`."""
        place = len(self._waiting)
        while True:
            await self._queue(place)
            self.leave()
            if self._left > 0:
                self._served += 1
                self._since = now = self.clock()
                return now + STRETCH_SECONDS
            place = self._returned  # before those who were not woken yet
            self._returned += 1

    def leave(self) -> None:
        """No more of others' code is called for now.

        If it is left out, since the code waits for something, the time is charged when the next
        one comes.
        """
        if self._since is not None:
            self.spend(self.clock() - self._since)

    def spend(self, seconds: float) -> None:
        """Others' code has kept the loop for so long; for those who measure that themselves."""
        self._since = None
        self._left -= seconds
        if self._left <= BUDGET_SECONDS / 2:
            self._renew_soon()
            if self._left <= 0:
                self.busy = True

    async def passes(self) -> None:
        """Let others on the loop have their turn; then as `ready`."""
        self.leave()
        if not self._waiting and not self._woken:
            await asyncio.sleep(0)
        await self.ready()

    async def ready(self) -> None:
        """Wait until there is budget to `enter` at once. For those who own nothing yet that may be
        cancelled meanwhile.
        """
        self.leave()
        if self.busy:
            await self.wait()
            self.leave()
            self._granted = True

    # ---------------------------------------------------------------- the queue

    async def _queue(self, place: int) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.insert(place, waiter)
        self.busy = True
        self._renew_soon()
        try:
            await waiter
        finally:
            if waiter.done() and not waiter.cancelled():
                self._woken -= 1
            else:
                with suppress(ValueError):  # a turn of the loop has passed it over
                    self._waiting.remove(waiter)
            self._tell_busy()

    def _tell_busy(self) -> None:
        self.busy = self._left <= 0 or bool(self._waiting) or self._woken > 0

    def _renew_soon(self) -> None:
        if not self._renewing:
            self._renewing = True
            self._renewed_early = self._left > 0
            asyncio.get_running_loop().call_soon(self._renew)

    def _renew(self) -> None:
        """The loop has turned."""
        self._renewing = False
        self.leave()
        if self._renewed_early and self._left <= 0:
            # What is left was spent meanwhile, maybe in this very turn of the loop.
            self._renewing, self._renewed_early = False, False
            self._renew_soon()
            return
        # Twice as many as could go on the last time, so that few are woken for nothing.
        many = 2 * max(1, self._served)
        self._left = BUDGET_SECONDS
        self._served = self._returned = 0
        while self._waiting and self._woken < many:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                self._woken += 1
        self._tell_busy()
        if self._waiting:
            self._renew_soon()

    # ---------------------------------------------------------------- what may wait

    def metered(self, code: Awaitable[T]) -> Awaitable[T]:
        """Await other people's code for which `enter` was called. The turn is left while the code
        waits for something, and it goes on only in another one that is its own.
        """
        return cast("Awaitable[T]", _Metered(self, code))

    def metered_rest(self, steps: Generator[Any, Any, T], waits_for: object) -> Awaitable[T]:
        """The same for code of which the first step was made, and that waits for something."""
        return cast("Awaitable[T]", _MeteredRest(self, steps, waits_for))


class _Metered:
    """What `yield from` does (PEP 380), and the same in turns."""

    __slots__ = ("_code", "_turn")

    def __init__(self, turn: Turn, code: Awaitable[Any]) -> None:
        self._turn = turn
        self._code = code

    def __await__(self) -> Generator[Any, None, Any]:
        code: Any = self._code
        # A coroutine that is a decorated generator iterates itself.
        steps: Any = code.__await__() if hasattr(type(code), "__await__") else iter(code)
        try:
            waits_for = next(steps)
        except StopIteration as result:
            return result.value
        return (yield from _rest(self._turn, steps, waits_for))


class _MeteredRest:
    """The same, from the second step on."""

    __slots__ = ("_steps", "_turn", "_waits_for")

    def __init__(self, turn: Turn, steps: object, waits_for: object) -> None:
        self._turn = turn
        self._steps = steps
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, None, Any]:
        return _rest(self._turn, self._steps, self._waits_for)


def _rest(turn: Turn, steps: Any, waits_for: object) -> Generator[Any, None, Any]:  # noqa: ANN401
    """Of what awaits something now."""
    try:
        while True:
            turn.leave()
            failure = yield from _settled(turn, waits_for)
            if failure is None:
                waits_for = next(steps)
                continue
            throw = getattr(steps, "throw", None)
            try:
                if throw is None:
                    raise failure
                waits_for = throw(failure)
            finally:
                del failure  # its traceback leads here
    except GeneratorExit:
        close = getattr(steps, "close", None)
        if close is not None:
            close()
        raise
    except StopIteration as result:
        return result.value


def _settled(turn: Turn, waits_for: object) -> Generator[Any, None, BaseException | None]:
    """Wait for that, and then for the turn: code goes on after a failure or a cancellation, too.

    Returns:
        What is to be raised in the code, if anything.
    """
    failure: BaseException | None = None
    try:
        try:
            yield waits_for
        except GeneratorExit:
            raise
        except BaseException as error:
            failure = error
        if turn.busy:
            yield from turn.wait().__await__()
        else:
            turn.enter()
    except GeneratorExit:
        raise
    except BaseException as error:  # it is cancelled, maybe again
        failure = error
    try:
        return failure
    finally:
        del failure  # its traceback leads here


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turn] = WeakKeyDictionary()


class _Latest:
    """Whose turn was asked for last: nearly always, it is asked for again."""

    # One value, since several threads may ask.
    known: tuple[ReferenceType[asyncio.AbstractEventLoop], Turn] | None = None


def turn_of_loop() -> Turn:
    """The one that all on the running event loop share."""
    loop = asyncio.get_running_loop()
    known = _Latest.known
    if known is not None and known[0]() is loop:
        return known[1]
    turn = _turns.get(loop)
    if turn is None:
        turn = _turns[loop] = Turn()
    _Latest.known = ref(loop), turn
    return turn
