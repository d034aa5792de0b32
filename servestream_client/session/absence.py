"""Time in which this process was away: stopped, or asleep, or with its event loop kept busy.

The invariant: what this process missed while it was away is never held against its peer. A timer
that fires far too late says so; what the peer sent meanwhile lies in the socket and is read first.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

__all__ = ["Absences", "Deadline"]

_LATE_SECONDS = 0.5
"""A busy event loop is this late now and then."""

_RECENT_INTERVALS = 4
"""A peer that missed this process says so within three intervals, and a bit for the way."""


class Absences:
    """How long this process was away, by a timer of its own that should fire at known times.

    Args:
        interval: seconds of silence that a peer notices; None: no timer.
    """

    def __init__(self, interval: float | None) -> None:
        self._interval = math.inf if interval is None else interval
        self._due = math.inf
        self._longest = 0.0
        self._ended = -math.inf  # the longest of them

    def expect(self, seconds: float) -> None:
        """The timer should fire in so many."""
        self._due = _now() + seconds

    def look(self) -> None:
        """The timer has fired, or may be overdue."""
        now = _now()
        late = now - self._due
        if late >= max(self._interval, _LATE_SECONDS):
            self._longest = max(late, self._longest) if self._recent else late
            self._ended = self._due = now

    @property
    def _recent(self) -> bool:
        return _now() - self._ended <= _RECENT_INTERVALS * self._interval < math.inf

    @property
    def said(self) -> str:
        """In words; empty if there was none of late."""
        self.look()
        if not self._recent:
            return ""
        return (
            f"this process itself was stopped, or its event loop kept busy, for {self._longest:.1f}"
            " s"
        )


class Deadline:
    """Calls something once, after some seconds; where that is late, after as many again, so that
    what has come meanwhile is read before.

    Args:
        seconds: how many.
        passed: what to call.
    """

    def __init__(self, seconds: float, passed: Callable[[], None]) -> None:
        self._seconds = seconds
        self._passed = passed
        self._due = math.inf
        self._extended = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        if self._seconds < math.inf:
            loop = asyncio.get_running_loop()
            self._due = loop.time() + self._seconds
            self._timer = loop.call_at(self._due, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        if _now() - self._due >= _LATE_SECONDS and not self._extended:
            self._extended = True
            self.start()
        else:
            self._passed()


def _now() -> float:
    return asyncio.get_running_loop().time()
