"""Time in which this process was away: stopped, or asleep, or with its event loop kept busy.

The invariant: what this process missed while it was away is never held against its peer. A timer
that fires far too late says so; what the peer sent meanwhile lies in the socket and is read first.
"""

from __future__ import annotations

import asyncio
import math

__all__ = ["LATE_SECONDS", "Absences"]

LATE_SECONDS = 0.5
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
        if late >= max(self._interval, LATE_SECONDS):
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


def _now() -> float:
    return asyncio.get_running_loop().time()
