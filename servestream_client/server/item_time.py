"""How long a handler takes for an item of late, as clients are told.

Pure: times are arguments, in seconds of one clock.

Invariant: what handlers take while they warm up (imports, caches, compilation) is forgotten once a
few calls were begun behind the first that ended.
"""

from __future__ import annotations

import math

__all__ = ["ItemTime"]

_COLD = 0.02
"""A first call that took less says nothing by itself: warming up takes as long."""

_FEW = 4
"""Calls of which the quickest counts; later ones count by their average."""

_WEIGHT = 0.1
"""Of the last one in that."""


class ItemTime:
    """That of one event loop's handlers."""

    __slots__ = ("_first_ended", "_least", "_warm", "value")

    def __init__(self) -> None:
        self.value: float = 0.0
        """Seconds an item; 0: that is not known."""
        self._first_ended = math.inf
        self._least = math.inf
        self._warm = 0  # calls that were begun behind that

    def took(self, seconds: float, *, began: float, ended: float) -> None:
        """A call took so long for each of its items."""
        if self._warm >= _FEW:
            self.value += _WEIGHT * (seconds - self.value)
            return
        self._warm += began >= self._first_ended
        self._first_ended = min(self._first_ended, ended)
        self._least = min(self._least, seconds)
        if self._warm or self._least >= _COLD:
            self.value = self._least
