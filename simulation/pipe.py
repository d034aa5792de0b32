"""One direction of a call: an ordered queue whose messages take a random time each."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Pipe"]

T = TypeVar("T")


class Pipe(Generic[T]):
    """See the module.

    Args:
        loop: whose time it is.
        delay: draws the seconds that a message takes. Order is kept all the same.
        arrived: called with each message.
        capacity: messages under way before a writer has to wait.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        delay: Callable[[], float],
        arrived: Callable[[T], None],
        capacity: int,
    ) -> None:
        self.closed: bool = False
        """Whether it takes nothing more."""
        self._loop = loop
        self._delay = delay
        self._arrived = arrived
        self._capacity = capacity
        self._queue: deque[T] = deque()
        self._timers: deque[asyncio.TimerHandle] = deque()
        self._last = 0.0
        self.stalled: bool = False
        """Whether nothing arrives for the time being."""
        self._room: asyncio.Future[None] | None = None

    def put(self, message: T) -> None:
        """Send a message on its way; into a closed pipe it vanishes."""
        if not self.closed:
            self._queue.append(message)
            self._last = max(self._last, self._loop.time() + self._delay())
            self._timers.append(self._loop.call_at(self._last, self._arrive))

    async def writable(self) -> None:
        """Let others have their turn, and wait while there is too much under way."""
        await asyncio.sleep(0)
        while len(self._queue) >= self._capacity and not self.closed:
            self._room = self._loop.create_future()
            try:
                await self._room
            finally:
                self._room = None

    @property
    def under_way(self) -> int:
        """How many messages have not arrived."""
        return len(self._queue)

    def close(self, keep: int = 0, last: T | None = None) -> None:
        """Lose what is under way, but for the first messages, and take nothing more.

        Args:
            keep: how many of those still arrive.
            last: what arrives after them.
        """
        while len(self._queue) > keep:
            self._queue.pop()
            if self._timers:
                self._timers.pop().cancel()
        if last is not None:
            self.put(last)
        self.closed = True
        self._make_room()

    def stall(self) -> None:
        """Deliver nothing until it heals. Nobody is told."""
        self.stalled = True

    def heal(self) -> None:
        """Deliver what was held up."""
        self.stalled = False
        while len(self._queue) > len(self._timers):
            self._pass_on()

    def _arrive(self) -> None:
        self._timers.popleft()
        if not self.stalled:
            self._pass_on()

    def _pass_on(self) -> None:
        self._arrived(self._queue.popleft())
        self._make_room()

    def _make_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
