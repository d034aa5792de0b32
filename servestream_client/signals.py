"""A flag that one task waits for and that lowers itself."""

from __future__ import annotations

import asyncio


class Signal:
    """An event for one waiter: raised any number of times, seen once."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Raise the flag; whoever waits wakes up."""
        self._event.set()

    async def wait(self) -> None:
        """Return once the flag is up, and lower it."""
        await self._event.wait()
        self._event.clear()
