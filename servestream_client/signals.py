"""A flag that one task waits for and that lowers itself."""

from __future__ import annotations

import anyio


class Signal:
    """An event for one waiter: raised any number of times, seen once."""

    __slots__ = ("_raised", "_waiter")

    def __init__(self) -> None:
        self._raised = False
        self._waiter: anyio.Event | None = None

    def set(self) -> None:
        """Raise the flag; whoever waits wakes up."""
        self._raised = True
        if self._waiter is not None:
            self._waiter.set()

    async def wait(self) -> None:
        """Return once the flag is up, and lower it."""
        if not self._raised:
            self._waiter = anyio.Event()
            try:
                await self._waiter.wait()
            finally:
                self._waiter = None
        self._raised = False
