"""How long a stream has been without its server.

Invariant: the clock runs from the first failure of a row without progress, stands still while an
attempt is welcomed, and only progress starts it afresh. Pure: time is an argument, in seconds of
whatever clock, the same for all calls.
"""

from __future__ import annotations

import math

from servestream_client.transport.classify import Verdict

__all__ = ["LastOutage", "Outage"]


class Outage:
    """The clock of one stream's outage, and the deadline that it hands down to whatever waits.

    Args:
        patience: seconds that an outage may last; infinity: any time.
    """

    __slots__ = (
        "_first",
        "_running_since",
        "_spent",
        "_standing_since",
        "inherited",
        "patience",
        "verdict",
    )

    def __init__(self, patience: float) -> None:
        self.patience: float = patience
        self.inherited: bool = False
        """Whether it began before the stream did, and nothing has come since."""
        self.verdict: Verdict | None = None
        """What the last failure meant."""
        self._spent = 0.0
        self._first = math.inf
        self._running_since = math.inf
        self._standing_since = -math.inf

    @property
    def began(self) -> float:
        """When the first failure of the row came; infinity: there is none."""
        return self._first

    @property
    def deadline(self) -> float:
        """When patience ends, if nothing changes; infinity: it does not run, or may run on."""
        if self._running_since == math.inf:
            return math.inf
        return self._running_since + max(0.0, self.patience - self._spent)

    def spent(self, now: float) -> float:
        """Seconds of outage so far."""
        return self._spent + max(0.0, now - self._running_since)

    def passed(self, now: float) -> bool:
        """Whether patience has ended."""
        return now >= self.deadline

    def failed(
        self, now: float, verdict: Verdict, *, progressed: bool = False, silent_for: float = 0.0
    ) -> None:
        """An attempt ended before its time.

        Args:
            now: the time.
            verdict: what that means.
            progressed: it had brought anything new, or had its time.
            silent_for: seconds of its end in which it only seemed well.
        """
        if progressed:
            self.over()
        self.verdict = verdict
        if self._first == math.inf:
            self._first = self._running_since = now
        elif self._running_since == math.inf:
            self._running_since = max(now - silent_for, self._standing_since)

    def welcomed(self, now: float) -> None:
        """A server has taken the stream: nothing is out while it does."""
        self._spent = self.spent(now)
        self._running_since, self._standing_since = math.inf, now

    def over(self) -> None:
        """Progress: whatever fails next is another outage."""
        self._spent, self.inherited = 0.0, False
        self._running_since = self._first = math.inf

    def heir(self, now: float, *, at_most: float = math.inf) -> Outage:
        """The clock of another stream that takes over inputs of this one, or that waited for it.

        Args:
            now: the time.
            at_most: seconds that those inputs have waited; they spent no more.
        """
        heir = Outage(self.patience)
        if self._first < math.inf:
            heir.inherited, heir.verdict = True, self.verdict
            heir._spent = min(self.spent(now), at_most)
            heir._first = max(self._first, now - at_most)
            heir._running_since = now
        return heir


class LastOutage:
    """That of the last stream which gave up, for what waited meanwhile and goes on another."""

    __slots__ = ("_ended", "_outage")

    def __init__(self) -> None:
        self._outage: Outage | None = None
        self._ended = math.inf

    def note(self, outage: Outage, now: float) -> None:
        """A stream has given up."""
        self._outage, self._ended = outage, now

    def of(self, made: float, now: float) -> Outage | None:
        """What somebody has suffered of it who has waited since `made`; None: nothing."""
        if self._outage is None or made >= self._ended:
            return None
        return self._outage.heir(now, at_most=now - made)
