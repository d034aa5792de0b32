"""Small things around asyncio's tasks."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Signal:
    """An event for one waiter: raised any number of times, seen once."""

    # Not on `asyncio.Event`: one is waited for several times an item, and this takes half as long.

    __slots__ = ("_raised", "_waiter")

    def __init__(self) -> None:
        self._raised = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        """Raise the flag; what waits wakes up."""
        self._raised = True
        waiter = self._waiter
        # Coroutines that are collected after their event loop was closed still run to their end.
        if waiter is not None and not waiter.done() and not waiter.get_loop().is_closed():
            waiter.set_result(None)

    async def wait(self) -> None:
        """Return once the flag is up, and lower it."""
        if not self._raised:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._raised = False


def running_task() -> asyncio.Task[Any] | None:
    """The running task; None also where there is no event loop."""
    try:
        return asyncio.current_task()
    except RuntimeError:  # in a thread without one, or it was closed
        return None


def being_cancelled() -> bool:
    """Whether the running task itself is being cancelled, and not something that it awaits."""
    task = running_task()
    return task is not None and task.cancelling() > 0


def start_task(
    coroutine: Coroutine[Any, Any, T], name: str, context: contextvars.Context | None = None
) -> asyncio.Task[T]:
    """A task on the running loop whose first step comes later, whatever the loop's task factory is:
    an eager one would run it before its owner has noted that there is a task.
    """
    return asyncio.Task(coroutine, loop=asyncio.get_running_loop(), name=name, context=context)
