"""Inputs of a batch that failed or did not end, tried one by one, in one item timeout together.

An input that hangs must not use up the time of its neighbours. So while others wait for their first
try, one gets a quarter of what is left; what was cut off by that is tried again after them, if
there is more time then than it had.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

__all__ = ["Tries", "Try"]

_SHARE = 0.25


class Try(NamedTuple):
    """One input's turn.

    Attributes:
        position: which one, of those of the batch.
        until: when it is cut off.
    """

    position: int
    until: float


class Tries:
    """Which input is tried next, and for how long.

    Args:
        count: inputs in the batch.
        until: when all of it is over.
        shared: whether an input can be cut off before that.
        reason: what became of the batch, for messages.

    Attributes:
        untried: what is said of an input that had no turn.
        unended: the same of one that did not end in its turn.
    """

    def __init__(self, count: int, *, until: float, shared: bool, reason: str) -> None:
        batch = f"the batch that it was computed in failed ({reason})"
        self.untried: str = f"{batch}, and no time was left to try it alone"
        self.unended: str = f"{batch}, and it did not end in the time left to try it alone"
        self._untried = deque(range(count))
        self._cut: deque[tuple[int, float]] = deque()  # and the time that they had
        self._until = until
        self._shared = shared

    def next(self, now: float) -> Try | None:
        """The next turn; None: there is none, or no time."""
        left = self._until - now
        if left <= 0:
            return None
        if self._untried:
            alone = len(self._untried) == 1 and not self._cut
            share = left * _SHARE if self._shared and not alone else math.inf
            return self._try(self._untried.popleft(), now, share)
        while self._cut:
            position, had = self._cut.popleft()
            if had < left:
                return self._try(position, now, math.inf)
        return None

    def _try(self, position: int, now: float, share: float) -> Try:
        return Try(position, min(now + share, self._until))

    def cut_off(self, turn: Try, began: float) -> None:
        """An input had its turn, from `began` on, and was cut off."""
        if turn.until < self._until:
            self._cut.append((turn.position, turn.until - began))
