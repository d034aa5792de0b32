"""How long an attempt waits: a limit in seconds that large frames put off.

Invariant: the limit passes once, and not before so many seconds have gone by in which something
could have arrived. Where the timer fires far too late, since this process was stopped or its event
loop kept busy, it waits as long once more: what came meanwhile is read first.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from servestream_client.session.absence import LATE_SECONDS
from servestream_client.transport.traffic import Line

__all__ = ["Patience"]


class Patience:
    """See the module.

    Args:
        line: knows when large frames were under way.
        passed: called when the limit has passed.
    """

    def __init__(self, line: Line, passed: Callable[[], None]) -> None:
        self._line = line
        self._passed = passed
        self._timer: asyncio.TimerHandle | None = None
        self._at = math.inf
        self._seconds = math.inf
        self._extended = False
        self._mark = line.mark()
        self._excused = 0.0

    def limit(self, seconds: float) -> None:
        """Wait no longer than this from now; a limit that is there already and earlier holds."""
        loop = asyncio.get_running_loop()
        if loop.time() + seconds < self._at:
            self.clear()
            self._at = loop.time() + seconds
            self._seconds, self._extended = seconds, False
            self._mark, self._excused = self._line.mark(), 0.0
            self._timer = loop.call_at(self._at, self._look)

    def clear(self) -> None:
        """Wait for any time."""
        self._at = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - self._at >= LATE_SECONDS and not self._extended:
            self._extended = True
            self._at = loop.time() + self._seconds
            self._timer = loop.call_at(self._at, self._look)
            return
        excuse = self._line.excuse(self._mark)
        more = excuse - self._excused
        if more <= 0:
            self.clear()
            self._passed()
            return
        self._excused = excuse
        self._at += more
        self._timer = loop.call_at(self._at, self._look)
