"""Attempts that wait for their turn.

Each stands here once, behind those that came before it; where only some are asked for, alike in
something, these come in the same order.
"""

from __future__ import annotations

from collections import OrderedDict

from servestream_client.server.calls import Attempt

__all__ = ["FairQueue"]


class FairQueue:
    """See the module. Attempts are alike if their inputs have the same time limit."""

    # OrderedDict, not dict: the first key of a dict that lost many is found by walking over them.

    __slots__ = ("_alike", "_limits")

    def __init__(self) -> None:
        self._limits: OrderedDict[Attempt, float] = OrderedDict()
        self._alike: dict[float, OrderedDict[Attempt, None]] = {}

    def __len__(self) -> int:
        return len(self._limits)

    def __contains__(self, attempt: object) -> bool:
        return attempt in self._limits

    def add(self, attempt: Attempt) -> None:
        """Behind all others, unless it waits already."""
        if attempt in self._limits:
            return
        limit = attempt.session.item_timeout
        self._limits[attempt] = limit
        alike = self._alike.get(limit)
        if alike is None:
            alike = self._alike[limit] = OrderedDict()
        alike[attempt] = None

    def discard(self, attempt: Attempt) -> None:
        """It does not wait any more."""
        limit = self._limits.pop(attempt, None)
        if limit is None:
            return
        alike = self._alike[limit]
        del alike[attempt]
        if not alike:
            del self._alike[limit]

    def move_to_end(self, attempt: Attempt) -> None:
        """One that waits has had its turn, and waits on behind all others."""
        self._limits.move_to_end(attempt)
        self._alike[self._limits[attempt]].move_to_end(attempt)

    def first(self) -> Attempt | None:
        """What waits longest; None if nothing does."""
        return next(iter(self._limits), None)

    def first_like(self, attempt: Attempt) -> Attempt | None:
        """The same of those that are like an attempt, which may wait or not."""
        alike = self._alike.get(attempt.session.item_timeout)
        return next(iter(alike)) if alike else None

    def all(self) -> list[Attempt]:
        """All of them, in turn."""
        return list(self._limits)
