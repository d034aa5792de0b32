"""Calls that take too long.

Each call that has a time limit stands here once, under the time at which it is to be looked at
next; one timer is set for the earliest.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from servestream_client.server.agenda import Agenda, Alarm
from servestream_client.server.calls import Call

__all__ = ["TimeLimits"]


class TimeLimits:
    """See the module.

    Args:
        on_abandoned: told each call whose inputs were answered without it.
    """

    def __init__(self, on_abandoned: Callable[[Call], None]) -> None:
        self._on_abandoned = on_abandoned
        self._agenda: Agenda[Call] = Agenda()
        self._alarm = Alarm(self._look)

    @property
    def idle(self) -> bool:
        """Whether nothing is to be looked at."""
        return self._alarm.when == math.inf

    def begin(self, call: Call) -> None:
        """A call waits for user code from now on."""
        due = call.due
        if due < math.inf:
            self._agenda.set(call, due)
            self._alarm.set(due)

    def end(self, call: Call) -> None:
        """It does so no more."""
        self._agenda.discard(call)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        try:
            for call in self._agenda.take(now):
                due = call.expire(now)
                if call.abandoned:
                    self._on_abandoned(call)
                elif due < math.inf:
                    self._agenda.set(call, due)
        finally:  # the time of the others is not over if one of them fails here
            first = self._agenda.first()
            if first is not None:
                self._alarm.set(first[0])
