"""Places that do not come back.

Invariant: they are stuck from the moment at which abandoned calls have kept every one of them for
`STUCK_SECONDS`, until the first of these calls ends.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from servestream_client.server.agenda import Alarm
from servestream_client.server.calls import Call

__all__ = ["STUCK", "StuckPlaces"]

STUCK_SECONDS = 30.0
"""How long inputs must have kept every place beyond their time. That time is a client's to choose,
and an impatient one should not take the replica from the others."""

STUCK = "all handler slots are blocked by inputs that exceeded their item timeout"


class StuckPlaces:
    """See the module.

    Args:
        places: how many there are.
        on_stuck: called when all of them are stuck.
    """

    __slots__ = ("_abandoned", "_alarm", "_on_stuck", "_places", "stuck")

    def __init__(self, places: int, on_stuck: Callable[[], None]) -> None:
        self._places = places
        self._on_stuck = on_stuck
        self._abandoned: OrderedDict[Call, float] = OrderedDict()  # and since when
        self._alarm = Alarm(self._look)
        self.stuck: bool = False
        """Whether all of them are."""

    def add(self, call: Call) -> None:
        """A call was abandoned: its inputs were answered, and it keeps its place."""
        self._abandoned[call] = asyncio.get_running_loop().time()
        self._look()

    def remove(self, call: Call) -> None:
        """It has ended after all."""
        self._abandoned.pop(call, None)
        self.stuck = False

    def _look(self) -> None:
        if not self._abandoned or len(self._abandoned) < self._places:
            return
        due = self._abandoned[next(reversed(self._abandoned))] + STUCK_SECONDS
        if due > asyncio.get_running_loop().time():
            self._alarm.set(due)
            return
        self.stuck = True
        self._on_stuck()
