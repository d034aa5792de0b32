"""An event loop on virtual time, which schedules by a seeded random generator.

It never waits: when nothing is ready, its clock jumps to the next timer. When there is no timer
either, nothing will ever happen again, and that is a `Deadlock`.

Tasks that become ready in the same turn of the loop run in a random order, as nothing promises
another; callbacks that are no task steps keep theirs, which asyncio does promise. Before they are
shuffled they are brought into the order of their creation, so that a run does not depend on where
in memory an object lies that somebody kept in a set.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import Context
from types import BuiltinFunctionType
from typing import Any, NoReturn, TypeVar

__all__ = ["BlockingCallError", "Deadlock", "Overdue", "VirtualLoop", "isolated", "waiting"]

T = TypeVar("T")

EPOCH = 1_700_000_000.0
"""What the calendar says when a run begins."""


class Deadlock(Exception):  # noqa: N818 — what happened, not an error of the loop's
    """Nothing is ready, no timer is set, and the main task is not done."""


class Overdue(Exception):  # noqa: N818 — likewise
    """The main task is not done when it should be, by the virtual clock or by the callbacks run."""


class BlockingCallError(RuntimeError):
    """Something would have blocked the thread, or used another one."""


class VirtualLoop(asyncio.BaseEventLoop):
    """See the module.

    Args:
        rng: draws the order of tasks, and what callbacks cost.
        disorder: how likely the tasks of a turn are shuffled, from 0 to 1.
        cost: virtual seconds that a callback takes at the most.
        limit: the virtual time that the run must not pass.
        most_callbacks: how many callbacks it may run.

    Attributes:
        problems: what was reported to the loop's exception handler: failed callbacks, exceptions
            that nobody retrieved, tasks destroyed while pending.
    """

    # What `asyncio.BaseEventLoop` keeps, and its type stubs do not show.
    _ready: Any
    _scheduled: list[tuple[float, Any]]
    _stopping: bool
    _timer_cancelled_count: int

    def __init__(
        self,
        rng: random.Random,
        *,
        disorder: float = 1.0,
        cost: float = 0.0,
        limit: float = float("inf"),
        most_callbacks: int = 10_000_000,
    ) -> None:
        super().__init__()
        self.problems: list[str] = []
        self.callbacks: int = 0
        self._rng = rng
        self._disorder = disorder
        self._cost = cost
        self._limit = limit
        self._most_callbacks = most_callbacks
        self._now = 0.0
        self._tasks_made = 0
        self.set_exception_handler(self._note_problem)

    @property
    def timers(self) -> list[Any]:
        """The handles of those that are set."""
        return [handle for _, handle in self._scheduled if not handle._cancelled]

    # ---------------------------------------------------------------- the clock

    def time(self) -> float:
        return self._now

    def spend(self) -> float:
        """Take as long as code may take, and return the time: who measures finds differences."""
        if self._cost:
            self._now += self._rng.random() * self._cost
        return self._now

    # ---------------------------------------------------------------- turns

    def call_soon(
        self, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> asyncio.Handle:
        """As asyncio's, which looks into more of what cannot be here."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: object,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """As asyncio's, whose heap compares handles, which takes long."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._scheduled, (when, handle))
        handle._scheduled = True  # type: ignore[attr-defined]
        return handle

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled
        while scheduled and scheduled[0][1]._cancelled:
            self._timer_cancelled_count -= 1
            self._next_timer()
        if not ready and not self._stopping:
            self._jump()
        now = self._now
        if now > self._limit:
            raise Overdue(f"not done after {self._limit:g} virtual seconds: {waiting(self)}")
        while scheduled and scheduled[0][0] <= now:
            ready.append(self._next_timer())
        batch = [*ready]
        ready.clear()
        self.callbacks += len(batch)
        if self.callbacks > self._most_callbacks:
            raise Overdue(f"not done after {self._most_callbacks} callbacks: {waiting(self)}")
        if len(batch) > 1 and self._disorder:
            self._shuffle(batch)
        cost, draw = self._cost, self._rng.random
        for handle in batch:
            if not handle._cancelled:
                if cost:
                    self._now += draw() * cost
                handle._run()

    def _next_timer(self) -> Any:  # noqa: ANN401 — asyncio's own handle
        _, handle = heapq.heappop(self._scheduled)
        handle._scheduled = False
        return handle

    def _jump(self) -> None:
        if not self._scheduled:
            raise Deadlock(f"nothing will ever happen again: {waiting(self)}")
        self._now = max(self._now, self._scheduled[0][0])

    def _shuffle(self, batch: list[Any]) -> None:
        """Bring the steps of tasks into another order, in the places that they have."""
        places = [place for place, handle in enumerate(batch) if _is_step(handle._callback)]
        if len(places) < 2:
            return
        steps = [batch[place] for place in places]
        steps.sort(key=_age)
        if self._disorder >= 1 or self._rng.random() < self._disorder:
            self._rng.shuffle(steps)
        for place, step in zip(places, steps, strict=True):
            batch[place] = step

    # ---------------------------------------------------------------- tasks

    def create_task(
        self,
        coro: Coroutine[Any, Any, T] | Generator[Any, None, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        self._tasks_made += 1
        task: asyncio.Task[T] = asyncio.Task(
            coro,
            loop=self,
            name=str(name) if name is not None else f"task {self._tasks_made}",
            context=context,
        )
        task.serial = self._tasks_made  # type: ignore[attr-defined]
        return task

    def _note_problem(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.problems.append(f"{context.get('message')}{f': {error!r}' if error else ''}")

    # ---------------------------------------------------------------- what there is not

    def run_in_executor(self, *_: object) -> NoReturn:
        raise BlockingCallError("a simulation has no threads")

    def _process_events(self, event_list: object) -> None:
        """There are no files."""

    def _write_to_self(self) -> None:
        """There are no other threads to wake this one up."""


class _Probe:
    """Finds out of which type the callbacks of task steps are."""

    @staticmethod
    def step_type() -> type:
        class Loop(asyncio.BaseEventLoop):
            pass

        async def nothing() -> None:
            pass

        loop = Loop()
        seen: list[object] = []
        loop.call_soon = lambda callback, *_, **__: seen.append(callback)  # type: ignore[assignment, method-assign]
        coroutine = nothing()
        task = asyncio.Task(coroutine, loop=loop)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        coroutine.close()
        loop.close()
        return type(seen[0])


_STEP = _Probe.step_type()


def _is_step(callback: object) -> bool:
    """Whether a callback is a task's first step, or its waking up."""
    kind = callback.__class__
    if kind is _STEP:
        return True
    return kind is BuiltinFunctionType and callback.__name__ == "task_wakeup"  # type: ignore[attr-defined]


def _age(handle: Any) -> int:  # noqa: ANN401 — asyncio's own handle
    serial: int = getattr(handle._callback.__self__, "serial", 0)
    return serial


def waiting(loop: asyncio.AbstractEventLoop) -> str:
    """Which tasks wait, and where."""
    tasks = sorted(asyncio.all_tasks(loop), key=lambda task: getattr(task, "serial", 0))
    return "; ".join(f"{task.get_name()} at {_place(task)}" for task in tasks) or "no task is left"


def _place(task: asyncio.Task[Any]) -> str:
    """The innermost line of Python that a task waits at."""
    place = "?"
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = (
            getattr(awaited, "cr_frame", None)
            or getattr(awaited, "ag_frame", None)
            or getattr(awaited, "gi_frame", None)
        )
        if frame is not None:
            code = frame.f_code
            place = f"{code.co_filename.rsplit('/', 1)[-1]}:{frame.f_lineno} in {code.co_qualname}"
        inner = getattr(awaited, "cr_await", None) or getattr(awaited, "ag_await", None)
        awaited = inner or getattr(awaited, "gi_yieldfrom", None)
    return place


@contextmanager
def isolated(loop: VirtualLoop, rng: random.Random) -> Iterator[None]:
    """Let clocks and randomness of this process be those of a run, and nothing block.

    Args:
        loop: whose time it is.
        rng: seeds the module `random`, and gives the bytes of `os.urandom`.
    """

    def forbidden(*_: object) -> NoReturn:
        raise BlockingCallError("time.sleep() blocks the event loop")

    replaced: list[tuple[Any, str, Callable[..., object]]] = [
        (time, "monotonic", loop.time),
        (time, "perf_counter", loop.spend),
        (time, "time", lambda: EPOCH + loop.time()),
        (time, "sleep", forbidden),
        (os, "urandom", rng.randbytes),
    ]
    originals = [getattr(module, name) for module, name, _ in replaced]
    state = random.getstate()
    random.seed(rng.getrandbits(64))
    try:
        for module, name, function in replaced:
            setattr(module, name, function)
        yield
    finally:
        for (module, name, _), original in zip(replaced, originals, strict=True):
            setattr(module, name, original)
        random.setstate(state)


def run(loop: VirtualLoop, main: Awaitable[T]) -> T:
    """Run a coroutine to its end on the loop."""
    return loop.run_until_complete(main)
