"""The large frames that are on their way on one connection, and what its calls must know of them.

What one call sends or receives keeps the others' frames waiting, in the connection's buffers.

Invariant: what each call has last told its server covers all the bytes that are under way to that
server's side of the connection, so that no server takes them for silence. A call that cannot speak,
since a large frame of its own is under way, has left room for `BESIDE_BYTES` of others; what exceeds
them waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from servestream_client.protocol.coming import BESIDE_BYTES, seconds_for

__all__ = ["SLOW_SECONDS", "Line", "Traffic"]

SLOW_SECONDS = 0.25
"""A connection on which large frames made no progress for so long takes no further calls."""

_RECENT_SECONDS = 5.0
"""For so long after the last large frame, calls leave room for another one in what they say anyway."""

_TELLING_SECONDS = 1.0
"""What a call gets to tell its server; one that cannot even say so much is not waited for."""


def _now() -> float:
    return asyncio.get_running_loop().time()


class Traffic:
    """See the module. One for each connection."""

    def __init__(self) -> None:
        self._lines: dict[Line, None] = {}
        self._up = 0  # bytes of large frames that were sent and are not acknowledged
        self._down = 0  # bytes that were announced and have not come
        self._peak = 0  # the most of both that there ever was
        self._level = 0  # the most of `_up` lately, and of what waits to go
        self._idle_since = 0.0
        self._progress_at = 0.0
        self._busy_seconds = 0.0  # until the last time that it became idle
        self._busy_since = 0.0

    @property
    def slow(self) -> bool:
        """Whether large frames keep it occupied, to the harm of what would come beside them."""
        return self._up + self._down > 0 and _now() - self._progress_at >= SLOW_SECONDS

    @property
    def busy_seconds(self) -> float:
        """How long large frames were under way, all in all."""
        return self._busy_seconds + (_now() - self._busy_since if self._up + self._down else 0.0)

    @property
    def longest(self) -> float:
        """Seconds that the most bytes that were ever under way may have taken."""
        return seconds_for(self._peak)

    def _change(self, up: int, down: int) -> None:
        before = self._up + self._down
        self._up += up
        self._down += down
        after = self._up + self._down
        now = _now()
        self._peak = max(self._peak, after)
        if up < 0 or down < 0 or not before:
            self._progress_at = now
        if after and not before:
            self._busy_since = now
        elif before and not after:
            self._busy_seconds += now - self._busy_since
        if not self._up:
            self._idle_since = now
        if up < 0:
            for line in list(self._lines):
                if line.waits:
                    line.wake()

    def _settled(self) -> None:
        """Forget what was under way lately, once that is long ago."""
        if not self._up and _now() - self._idle_since > _RECENT_SECONDS:
            self._level = 0


class Line:
    """One call's part of a connection's traffic.

    Args:
        traffic: the connection's; None: the call has a connection of its own.
    """

    def __init__(self, traffic: Traffic | None = None) -> None:
        self.waits: bool = False
        """Whether a large frame of its was not let go."""
        self._traffic = traffic or Traffic()
        self._crowd: Callable[[], None] | None = None
        self._wake: Callable[[], None] = _nothing
        self._own = 0  # of the bytes up
        self._coming = 0  # of the bytes down
        self._told = 0  # the bytes that its server expects now
        self._said = 0  # and will, once its own large frames are there
        self._told_in_vain = 0.0  # since when it has not told what it was asked to
        self._left = False

    # ---------------------------------------------------------------- what is known

    @property
    def slow(self) -> bool:
        """Whether large frames keep its connection occupied."""
        return self._traffic.slow

    @property
    def alone(self) -> bool:
        """Whether no other call on the connection need be asked."""
        lines = self._traffic._lines
        return not lines or (len(lines) == 1 and self in lines)

    @property
    def beside(self) -> int:
        """What its server is to be told of the bytes on the connection; 0: nothing."""
        traffic = self._traffic
        if self.alone:
            return 0
        traffic._settled()
        return traffic._level + BESIDE_BYTES if traffic._level else 0

    @property
    def coming_beside(self) -> int:
        """Bytes that come for other calls on the connection."""
        return self._traffic._down - self._coming

    def mark(self) -> float:
        """From here on count for `excuse`."""
        return self._traffic.busy_seconds

    def excuse(self, mark: float) -> float:
        """Seconds since a mark in which nothing could arrive, for large frames were under way."""
        return min(self._traffic.busy_seconds - mark, self._traffic.longest)

    # ---------------------------------------------------------------- what happens

    def welcomed(self, crowd: Callable[[], None], wake: Callable[[], None]) -> None:
        """Its server understands what it is told.

        Args:
            crowd: makes the call tell it of other calls' bytes.
            wake: called once `reserve` may come to something else.
        """
        if not self._left:
            self._crowd, self._wake = crowd, wake
            self._traffic._lines[self] = None

    def wake(self) -> None:
        """Look again at `reserve`."""
        self.waits = False
        self._wake()

    def reserve(self, size: int) -> bool:
        """Whether a large frame of so many bytes may go now; if not, `wake` tells when to ask again."""
        traffic = self._traffic
        if self not in traffic._lines:
            return True
        traffic._settled()
        traffic._level = max(traffic._level, traffic._up + size)
        traffic._idle_since = _now()
        lacking = [
            line
            for line in traffic._lines
            if line is not self and line._told < traffic._up + size and line._matters()
        ]
        if not lacking:
            return True
        self.waits = True
        for line in lacking:
            line._tell()
        asyncio.get_running_loop().call_later(_TELLING_SECONDS, self._again)
        return False

    def said(self, size: int) -> None:
        """A frame went out, which told the server to expect so many bytes, or 0."""
        self._told_in_vain = 0.0
        self._said = size
        before = self._told
        if not self._own or size > before:
            self._told = size  # or else what was said before its own large frame holds
        if self._told > before:
            for line in list(self._traffic._lines):
                if line.waits and line is not self:
                    line.wake()

    def under_way(self, size: int) -> None:
        """So many bytes of its large frames are sent and not acknowledged."""
        if size != self._own and not self._left:
            change, self._own = size - self._own, size
            if not size:
                self._told = self._said
            self._traffic._change(change, 0)

    def heard(self, size: int) -> None:
        """A frame came, behind which so many bytes are announced, or 0."""
        if size != self._coming and not self._left:
            change, self._coming = size - self._coming, size
            self._traffic._change(0, change)

    def leave(self) -> None:
        """The call is over."""
        if not self._left:
            self.under_way(0)
            self.heard(0)
            self._left = True
            self._traffic._lines.pop(self, None)
            for line in list(self._traffic._lines):
                if line.waits:
                    line.wake()

    # ---------------------------------------------------------------- inside

    def _matters(self) -> bool:
        return not self._told_in_vain or _now() - self._told_in_vain < _TELLING_SECONDS

    def _tell(self) -> None:
        if self._crowd is not None and not self._own:  # or else it cannot speak
            self._told_in_vain = self._told_in_vain or _now()
            self._crowd()

    def _again(self) -> None:
        if self.waits:
            self.wake()


def _nothing() -> None:
    """To be told of nothing."""
