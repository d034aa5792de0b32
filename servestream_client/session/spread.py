"""Over how many servers lanes are spread, and which of them to move: docs/protocol.md, section 19.

Serve routes each stream to a replica by itself, and leaves it there. So a lane that stands where
another one does, while there are servers that have none, is ended in good order, and the next one
may come elsewhere. On a deployment that does not change, nothing moves once each server has one.

Invariant: what stands alone at its server is never moved. Pure: time is an argument, in seconds of
whatever clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, TypeVar

from servestream_client.protocol.frames import Load

__all__ = ["ALONE", "ENOUGH", "MOST_LANES", "SLOW_US", "Placed", "Spread"]

SLOW_US = 100
"""From there on a handler is what a stream waits for, and not the client."""

ALONE = 64
"""What a stream's own attempts carry in any case while there are no lanes: what an autoscaler sees
of it."""

MOST_LANES = 64
"""So many are opened without being asked for."""

ENOUGH = 16
"""A further lane is opened once every lane carries so much: more of them spread the load, and fewer
share their messages better."""

_HEAVY_US = 5000
"""Where handlers take that long, messages are no matter, and a lane at every server is better."""

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 60.0
"""Seconds between two tries to reach a server that has no lane: Serve may not let it."""


class Placed(Protocol):
    """A lane."""

    retiring: bool

    @property
    def replica(self) -> str:
        """Where it is, or was last; empty: nowhere so far."""
        ...

    @property
    def carried(self) -> int:
        """How many it carries."""
        ...


_L = TypeVar("_L", bound=Placed)


class Spread:
    """What is known of the servers of one target.

    Args:
        least: how many lanes there may be however few servers there are.
        most: how many there may be however many.
        slow: whether handlers are taken for slow until it is known how long they take.
    """

    def __init__(self, least: int, most: int, *, slow: bool = False) -> None:
        self._least = least
        self._most = most
        self._servers = 0  # 0: nobody knows
        self._slow = self._heavy = slow
        self._missed = 0  # tries in a row that came where a lane was
        self._next = -math.inf

    @property
    def servers(self) -> int:
        """Over how many servers lanes are to be spread, as far as that is known."""
        return min(self._servers, self._most)

    @property
    def limit(self) -> int:
        """How many lanes there may be."""
        return min(self._most, max(self._least, self._servers))

    def enough(self, lanes: int) -> int:
        """How many each of so many lanes is to carry before there is another one."""
        return 1 if self._heavy and lanes < self.servers else ENOUGH

    def may_open(self, now: float) -> bool:
        """Whether it is time to try again."""
        return now >= self._next

    def learn(self, load: Load) -> None:
        """A server has said something."""
        self._heavy = load.item_us >= _HEAVY_US if load.item_us else self._slow
        if load.servers and load.servers != self._servers:
            self._servers = load.servers
            self._missed, self._next = 0, -math.inf

    def missed(self, now: float) -> None:
        """A lane came where another one is, or nowhere."""
        self._missed += 1
        # A router that takes the less busy one of two finds the last of n in n / 2 tries.
        pause = _FIRST_PAUSE * 2 ** min(max(0, self._missed - 2 * self._servers), 20)
        self._next = now + min(_LONGEST_PAUSE, pause)

    def misplaced(self, lanes: Sequence[_L], now: float) -> list[_L]:
        """Which lanes are to end, of those that are of one kind, the oldest first."""
        covered: set[str] = set()
        doubled: list[_L] = []
        for lane in lanes:
            if lane.retiring or not lane.replica:
                continue
            if lane.replica in covered:
                doubled.append(lane)
            covered.add(lane.replica)
        if not doubled:
            self._missed = 0
            return []
        if len(covered) < self.servers:
            self.missed(now)
            return doubled
        excess = sum(not lane.retiring for lane in lanes) - self.limit
        doubled.sort(key=lambda lane: lane.carried)
        return doubled[: max(0, excess)]
