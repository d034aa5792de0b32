"""How fast somebody answers, of late.

Pure: time is an argument, in seconds of whatever clock.
"""

from __future__ import annotations

__all__ = ["Rate"]

_WINDOW = 1.0
"""Seconds after which what was measured is averaged in."""

_FIRST_WINDOW = 0.2
"""The same for the first measurement. Much less says little: answers come in bursts."""

_WEIGHT = 0.5


class Rate:
    """Answers a second, over the time in which there was something to answer.

    Invariant: time in which nothing is owed counts nowhere.
    """

    __slots__ = ("_answered", "_busy", "_since", "value")

    def __init__(self) -> None:
        self.value: float = 0.0
        """Answers a second; 0: it is not known."""
        self._answered = 0
        self._busy = 0.0
        self._since: float | None = None  # it has owed something since

    def owes(self, now: float) -> None:
        """Something is to be answered."""
        if self._since is None:
            self._since = now

    def silent(self, now: float) -> float:
        """For how many seconds it has owed something, and answered nothing."""
        return 0.0 if self._since is None else now - self._since

    def answered(self, count: int, now: float, *, all_done: bool) -> None:
        """So many were answered."""
        since, self._since = self._since, None if all_done else now
        if since is None:
            return  # nobody knows since when it has owed them
        self._answered += count
        self._busy += now - since
        if self._busy >= (_WINDOW if self.value else _FIRST_WINDOW):
            rate = self._answered / self._busy
            self.value += (_WEIGHT if self.value else 1.0) * (rate - self.value)
            self._answered, self._busy = 0, 0.0
