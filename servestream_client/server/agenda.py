"""Things by time, and one timer for the earliest.

Each thing stands in an agenda once, with one time. Finding the earliest costs nothing, and noting
or dropping one costs the logarithm of how many there are, however many have come and gone.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import weakref
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

__all__ = ["Agenda", "Alarm"]

T = TypeVar("T")

_SLACK = 16
"""So many stale entries are kept, however few others there are."""


class Agenda(Generic[T]):
    """See the module."""

    __slots__ = ("_heap", "_made", "_serials", "_things")

    def __init__(self) -> None:
        # Entries are left where they stand when they become stale, and passed over later. They do
        # not refer to the things, which may be large, or refer to their event loop.
        self._heap: list[tuple[float, int]] = []
        self._things: dict[int, T] = {}  # by the number of the entry that counts
        self._serials: dict[T, int] = {}  # the other way round
        self._made = 0

    def __len__(self) -> int:
        return len(self._serials)

    def set(self, thing: T, when: float) -> None:
        """Note a thing, under this time alone."""
        before = self._serials.get(thing)
        if before is not None:
            del self._things[before]
        self._made += 1
        self._serials[thing] = self._made
        self._things[self._made] = thing
        heapq.heappush(self._heap, (when, self._made))
        self._tidy()

    def discard(self, thing: T) -> None:
        """Drop it, if it is there."""
        serial = self._serials.pop(thing, None)
        if serial is not None:
            del self._things[serial]
            self._tidy()

    def first(self) -> tuple[float, T] | None:
        """What comes first, and when; None if there is nothing."""
        heap = self._heap
        while heap:
            when, serial = heap[0]
            if serial in self._things:
                return when, self._things[serial]
            heapq.heappop(heap)
        return None

    def take(self, now: float) -> Iterator[T]:
        """Drop what is due by now, one after the other. What is noted meanwhile may be due, too."""
        while (first := self.first()) is not None and first[0] <= now:
            self.discard(first[1])
            yield first[1]

    def _tidy(self) -> None:
        """Keep no more stale entries than others; so this costs each of them a step of its own."""
        if len(self._heap) > 2 * len(self._things) + _SLACK:
            self._heap = [each for each in self._heap if each[1] in self._things]
            heapq.heapify(self._heap)


class Alarm:
    """One timer of the running event loop, for the earliest time that it was set to.

    It keeps the loop from being collected no more than the loop itself does.

    Args:
        ring: called then, upon which the alarm may be set again.
    """

    __slots__ = ("_handle", "_ring", "when")

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._handle: weakref.ref[asyncio.TimerHandle] | None = None  # it refers to its loop
        self.when: float = math.inf

    def set(self, when: float) -> None:
        """Ring then, or before if that was said already. Infinity: leave it as it is."""
        if when >= self.when:
            return
        self.cancel()
        self.when = when
        handle = asyncio.get_running_loop().call_at(when, self._rings)
        self._handle = weakref.ref(handle)

    def cancel(self) -> None:
        """Do not ring."""
        handle = self._handle() if self._handle is not None else None
        if handle is not None:
            handle.cancel()
        self._handle, self.when = None, math.inf

    def _rings(self) -> None:
        self._handle, self.when = None, math.inf
        self._ring()
