"""The large frames that are on their way on one connection, and what its calls must know of them.

What one call sends or receives keeps the others' frames waiting, in the connection's buffers.

Invariant: what each call has last told its server covers all the bytes of large frames that are
under way on the connection, so that no server takes them for silence. A call that cannot speak,
since a large frame of its own is under way, has left room for `BESIDE_BYTES` of others; what
exceeds them waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from servestream_client.protocol.coming import BESIDE_BYTES, seconds_for

__all__ = ["SLOW_SECONDS", "Line", "Traffic"]

SLOW_SECONDS = 0.25
"""A connection on which large frames made no progress for so long takes no further calls."""

_RECENT_SECONDS = 5.0
"""For so long after the last large frame, calls leave room for another in what they say anyway."""

_TELLING_SECONDS = 1.0
"""What a call gets to tell its server; one that cannot even say so much is not waited for."""


def _now() -> float:
    return asyncio.get_running_loop().time()


class Traffic:
    """See the module. One for each connection.

    Attributes:
        up: bytes of large frames that were sent, or announced, and are not acknowledged.
        down: bytes that were announced and have not come.
        lines: the calls that are asked before a large frame goes.
        waiting: those that wait with one.
        passed: bytes of large frames that got there, either way.
    """

    def __init__(self) -> None:
        self.up: int = 0
        self.down: int = 0
        self.lines: dict[Line, None] = {}
        self.waiting: dict[Line, None] = {}
        self.passed: int = 0
        self._asked_for = 0  # all lines were asked for so much, but for that on whose behalf
        self._asked_by: Line | None = None
        self._lacking: Line | None = None  # one of those that had not told so much
        self._peak = 0  # the most of both that there ever was
        self._level = 0  # the most of `up` lately, and of what waits to go
        self._used_at = 0.0  # when there was last any of that
        self._progress_at = 0.0
        self._busy_seconds = 0.0  # until the last time that it became idle
        self._busy_since = 0.0

    @property
    def slow(self) -> bool:
        """Whether large frames keep it occupied, to the harm of what would come beside them."""
        return self.up + self.down > 0 and _now() - self._progress_at >= SLOW_SECONDS

    @property
    def under_way(self) -> int:
        """Bytes of large frames, both ways."""
        return self.up + self.down

    @property
    def busy_seconds(self) -> float:
        """How long large frames were under way, all in all."""
        return self._busy_seconds + (_now() - self._busy_since if self.up + self.down else 0.0)

    def passed_since(self, before: int) -> int:
        """Bytes of large frames that got there since `passed` was so many, as far as somebody can
        have waited behind them: a buffer holds only so much.
        """
        return min(self.passed - before, self._peak + BESIDE_BYTES)

    @property
    def level(self) -> int:
        """The most bytes that were lately under way at a time, or wait to be."""
        if not self.up and not self.waiting and _now() - self._used_at > _RECENT_SECONDS:
            self._level = 0
        return self._level

    def raise_level(self, size: int) -> None:
        """So many more bytes are to go."""
        self._level = max(self.level, self.up + size)
        self._used_at = _now()

    def change(self, *, up: int = 0, down: int = 0) -> None:
        """Bytes began their way, or are there."""
        before = self.up + self.down
        self.up += up
        self.down += down
        after, now = self.up + self.down, _now()
        self._peak = max(self._peak, after)
        self.passed -= min(up, 0) + min(down, 0)
        if up < 0 or down < 0 or not before:
            self._progress_at = now
        if not before and after:
            self._busy_since = now
        elif before and not after:
            self._busy_seconds += now - self._busy_since
        if up:
            self._used_at = now
        if up < 0:
            self.wake()

    def pass_by(self, size: int) -> None:
        """Bytes came, behind which there are others."""
        self.passed += size
        self._progress_at = _now()

    def may_go(self, line: Line, size: int) -> bool:
        """Whether a large frame of so many bytes may go on a line, since all others have told their
        servers so much; those that have not are asked.

        Each acknowledgement wakes all that wait: they look at one line that keeps them, and only
        the first of them at all.
        """
        expected = self.up + size
        if expected <= self._asked_for and self._lacks(self._lacking, line, expected):
            self._lacks(self._asked_by, line, expected)
            return False
        found = [each for each in self.lines if self._lacks(each, line, expected)]
        if not found:
            return True
        self._asked_for, self._asked_by, self._lacking = expected, line, found[0]
        return False

    def _lacks(self, line: Line | None, asking: Line, expected: int) -> bool:
        if line is None or line is asking or line.told >= expected or line not in self.lines:
            return False
        return line.ask()

    def tells(self, size: int) -> None:
        """A line's server is to expect so much, from now on."""
        if size < self._asked_for:
            self._asked_for = 0  # it is to be asked again

    def forget(self, line: Line) -> None:
        """It is over."""
        if line in (self._asked_by, self._lacking):
            self._asked_for, self._asked_by, self._lacking = 0, None, None

    def wake(self) -> None:
        """What waits may be able to go."""
        waiting, self.waiting = self.waiting, {}
        for line in waiting:
            line.woken()


class Line:
    """One call's part of a connection's traffic.

    Args:
        traffic: the connection's; None: the call has a connection of its own.
    """

    def __init__(self, traffic: Traffic | None = None) -> None:
        self.told: int = 0
        """The bytes that its server expects now."""
        self._traffic = traffic or Traffic()
        self._crowd: Callable[[], None] = _nothing
        self._wake: Callable[[], None] = _nothing
        self._own = 0  # of the bytes up
        self._coming = 0  # of the bytes down
        self._said = 0  # what its server expects once its own large frames are there
        self._asked_at: float | None = None  # since when it has not told what it is to tell
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = self._traffic.passed
        self._left = False

    # ---------------------------------------------------------------- what is known

    @property
    def slow(self) -> bool:
        """Whether large frames keep its connection occupied."""
        return self._traffic.slow

    @property
    def alone(self) -> bool:
        """Whether no other call on the connection need be asked."""
        lines = self._traffic.lines
        return len(lines) == (self in lines)

    @property
    def beside(self) -> int:
        """What its server is to be told of the bytes on the connection; 0: nothing."""
        level = 0 if self.alone else self._traffic.level
        return level + BESIDE_BYTES if level else 0

    @property
    def before_welcome(self) -> int:
        """What its server is to be told with the open: what goes first, and what comes first."""
        return self.beside + self._traffic.down

    @property
    def coming_beside(self) -> int:
        """Bytes that come for other calls on the connection, with those that came since anything
        came for this one; 0: there are none now.
        """
        traffic = self._traffic
        outstanding = traffic.down - self._coming
        return outstanding and outstanding + traffic.passed_since(self._heard_at)

    @property
    def going_beside(self) -> int:
        """Bytes of other calls on the connection that are not acknowledged."""
        return self._traffic.up - self._own

    def mark(self) -> tuple[float, int]:
        """From here on count for `excuse`."""
        return self._traffic.busy_seconds, self._traffic.passed

    def excuse(self, mark: tuple[float, int]) -> float:
        """Seconds since a mark in which nothing could arrive, for large frames were under way."""
        seconds, passed = mark
        traffic = self._traffic
        most = seconds_for(traffic.under_way + traffic.passed_since(passed))
        return min(traffic.busy_seconds - seconds, most)

    # ---------------------------------------------------------------- what happens

    def join(self, crowd: Callable[[], None], wake: Callable[[], None]) -> None:
        """It begins, and is asked before other calls' large frames go.

        Args:
            crowd: makes the call tell its server of other calls' bytes.
            wake: called once `reserve` may come to something else.
        """
        if not self._left:
            self._crowd, self._wake = crowd, wake
            self._traffic.lines[self] = None
            self._traffic.tells(self.told)

    def quit(self) -> None:
        """Its server does not understand announcements: it need not be asked."""
        if self in self._traffic.lines:
            del self._traffic.lines[self]
            self._traffic.waiting.pop(self, None)
            self._traffic.wake()

    def reserve(self, size: int) -> bool:
        """Whether a large frame of so many bytes may go now; if not, `wake` tells when to ask
        again.
        """
        traffic = self._traffic
        if self not in traffic.lines:
            return True
        traffic.raise_level(size)
        if traffic.may_go(self, size):
            return True
        traffic.waiting[self] = None
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_TELLING_SECONDS, self._look_again)
        return False

    def ask(self) -> bool:
        """Have its server told of what is to go; whether it is worth while to wait for that."""
        if self._own:
            return True  # it cannot speak, and is waited for
        now = _now()
        if self._asked_at is None:
            self._asked_at = now
            self._crowd()
        return now - self._asked_at < _TELLING_SECONDS

    def woken(self) -> None:
        """It may look again at `reserve`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()

    def said(self, size: int) -> None:
        """A frame went out, which told the server to expect so many bytes, or 0."""
        before, self._said, self._asked_at = self.told, size, None
        if not self._own or size > before:
            self.told = size  # or else what was said before its own large frame holds
        self._traffic.tells(self.told)
        if self.told > before:
            self._traffic.wake()

    def under_way(self, size: int) -> None:
        """So many bytes of its large frames are announced or sent, and not acknowledged."""
        if size != self._own and not self._left:
            change, self._own = size - self._own, size
            if not size:
                self.told = self._said
                self._traffic.tells(self.told)
            self._traffic.change(up=change)

    def passed(self, size: int) -> None:
        """So many bytes came of a payload in chunks, of which more are announced by that."""
        if not self._left:
            self._traffic.pass_by(size)

    def heard(self, size: int) -> None:
        """A frame came, behind which so many bytes are announced, or 0."""
        if size != self._coming and not self._left:
            change, self._coming = size - self._coming, size
            self._traffic.change(down=change)
        self._heard_at = self._traffic.passed

    def leave(self) -> None:
        """The call is over."""
        if not self._left:
            self.under_way(0)
            self.heard(0)
            self._left = True
            if self._timer is not None:
                self._timer.cancel()
            self.quit()
            self._traffic.forget(self)
            self._crowd = self._wake = _nothing  # which know the call, and so would keep it

    def _look_again(self) -> None:
        self._timer = None
        self._traffic.waiting.pop(self, None)
        self._wake()


def _nothing() -> None:
    """To be told of nothing."""
