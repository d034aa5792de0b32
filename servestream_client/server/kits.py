"""The kits of one service: one for each event loop that it serves in, as long as that is open.

What concerns the service as a whole stands here (that it leaves, and whether it is well), and
reaches every kit, from whatever thread it is said in.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import weakref
from collections.abc import Callable

from servestream_client.server.active_attempts import Totals
from servestream_client.server.agenda import Alarm
from servestream_client.server.departure import HealthChecks
from servestream_client.server.kit import Kit
from servestream_client.server.stuck import STUCK

__all__ = ["Kits"]

logger: logging.Logger = logging.getLogger(__name__)

_DEPARTURE_SECONDS = 3600.0
"""The grace of a replica that seems to be stopped. If it is, Serve ends it far sooner; if it is the
controller that is gone, an input that takes long must not be broken off again and again."""

_AGAIN_SECONDS = 30.0
"""So seldom that streams do not hop in circles where it is the controller that is gone."""


class Kits:
    """See the module.

    Args:
        make: makes a kit.
    """

    def __init__(self, make: Callable[[], Kit]) -> None:
        self._make = make
        self._lock = threading.Lock()
        # Weak, and nothing in a kit at rest refers to its loop.
        self._kits: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Kit] = (
            weakref.WeakKeyDictionary()
        )
        self._leaving = False
        self._checks = HealthChecks()
        self._check = 0  # how many came
        self._overdue: tuple[weakref.ref[asyncio.AbstractEventLoop], Alarm] | None = None

    def here(self) -> Kit:
        """The running event loop's kit."""
        loop = asyncio.get_running_loop()
        with self._lock:
            kit = self._kits.get(loop)
            if kit is None:
                for other in list(self._kits):
                    if other.is_closed():  # with tasks that never ended, which refer to it
                        del self._kits[other]
                kit = self._make()
                kit.leaving = self._leaving
                self._kits[loop] = kit
            return kit

    def drain(self, grace: float) -> None:
        """Take no further streams, and ask those that are here to go elsewhere.

        Args:
            grace: seconds in which what they have sent is still answered.
        """
        with self._lock:
            self._leaving = True
            kits = list(self._kits.items())
        for _, kit in kits:
            kit.leaving = True
        for loop, kit in kits:
            _call_in(loop, functools.partial(kit.ask_to_leave, grace))

    @property
    def totals(self) -> Totals:
        """What there is to do in all event loops that are open."""
        with self._lock:
            kits = [kit for loop, kit in self._kits.items() if not loop.is_closed()]
        here = [kit.totals for kit in kits]
        return Totals(sum(each.streams for each in here), sum(each.items for each in here))

    def check_health(self) -> None:
        """Ray Serve asks whether this replica is well. Once it no longer does, the replica is
        being stopped.

        Raises:
            RuntimeError: it is not.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            if any(kit.workers.stuck for loop, kit in self._kits.items() if not loop.is_closed()):
                raise RuntimeError(STUCK)
            self._check += 1
            due = self._checks.called(loop.time())
        if due is not None:
            self._expect_the_next(due, self._check)

    def _expect_the_next(self, due: float, check: int) -> None:
        loop = asyncio.get_running_loop()
        if self._overdue is not None and self._overdue[0]() is loop:
            self._overdue[1].cancel()  # in another loop it rings, and is not listened to
        alarm = Alarm(functools.partial(self._forgotten, check))
        alarm.set(due)
        self._overdue = weakref.ref(loop), alarm

    def _forgotten(self, check: int) -> None:
        """No health check came after that one."""
        with self._lock:
            if check != self._check:
                return
            kits = list(self._kits.items())
        logger.info("no health check comes any more: this replica is probably being stopped")
        for loop, kit in kits:
            _call_in(loop, functools.partial(kit.ask_to_leave, _DEPARTURE_SECONDS))
        # What comes meanwhile is asked later: a controller that died in the middle of stopping
        # a replica may have forgotten it, and then nobody else would ever end its streams.
        self._expect_the_next(asyncio.get_running_loop().time() + _AGAIN_SECONDS, check)


def _call_in(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """Call it in an event loop: at once in the running one."""
    try:
        running: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if loop is running:
        function()
        return
    try:
        loop.call_soon_threadsafe(function)
    except RuntimeError:
        if not loop.is_closed():  # or else there is nobody there
            raise
