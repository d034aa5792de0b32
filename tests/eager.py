"""Tasks that run at once when they are made, as `asyncio.eager_task_factory` of Python 3.12 has it.

Before 3.12 no task can; a factory of ours then does the first step by hand, as the task that it
makes.
"""

import asyncio
import sys
import types
from collections.abc import Coroutine


class _FirstStep:
    """A coroutine's first step, taken before its task's own first one."""

    def __init__(self, coro: Coroutine) -> None:
        self._coro = coro
        self._outcome: tuple[str, object] = ("", None)

    def take(self) -> None:
        try:
            self._outcome = "yielded", self._coro.send(None)
        except StopIteration as stop:
            self._outcome = "returned", stop.value
        except BaseException as error:
            self._outcome = "raised", error

    @types.coroutine
    def rest(self):
        how, value = self._outcome
        if how == "returned":
            return value
        if how == "raised":
            raise value
        while True:
            try:
                sent = yield value
            except BaseException as error:
                step, argument = self._coro.throw, error
            else:
                step, argument = self._coro.send, sent
            try:
                value = step(argument)
            except StopIteration as stop:
                return stop.value


def _from_anyio() -> bool:
    """Whether anyio's task groups ask, which get round Python's own factory."""
    frame = sys._getframe(2)
    for _ in range(3):
        if frame.f_globals.get("__name__", "").startswith("anyio."):
            return True
        frame = frame.f_back
    return False


def _emulated(loop, coro, *, name=None, context=None):
    if not loop.is_running() or _from_anyio():
        return asyncio.Task(coro, loop=loop, name=name, context=context)
    first = _FirstStep(coro)

    async def go_on():
        return await first.rest()

    task = asyncio.Task(go_on(), loop=loop, name=name, context=context)
    running = asyncio.current_task(loop)
    if running is not None:
        asyncio.tasks._leave_task(loop, running)
    asyncio.tasks._enter_task(loop, task)
    try:
        context.run(first.take) if context is not None else first.take()
    finally:
        asyncio.tasks._leave_task(loop, task)
        if running is not None:
            asyncio.tasks._enter_task(loop, running)
    return task


# Python's own as it is, and not wrapped: anyio knows it by its code.
eager_task_factory = getattr(asyncio, "eager_task_factory", _emulated)
