"""Tells clients how busy this server is, and how many there are, so that they can balance.

Invariant: while attempts are here it is looked once a second, and not when the last one has gone.
Nothing is said before it is known how many servers there are, unless that takes long.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import Awaitable, Callable

from servestream_client.protocol.frames import Load
from servestream_client.server.active_attempts import ActiveAttempts
from servestream_client.server.workers import Workers
from servestream_client.usercode import describe

__all__ = ["LoadReports"]

logger: logging.Logger = logging.getLogger(__name__)

_SECONDS = 1.0
"""How often it is looked whether there is something to say."""

_FIRST_SECONDS = 0.05
"""After an attempt has come and there was none, it is looked sooner, since nothing is known yet."""

_COUNT_SECONDS = 2.0
"""How often the servers are counted: that is asked of Serve's controller."""

_FIRST_COUNT_SECONDS = 0.1
"""After an attempt has come and there was none, the controller is not asked sooner. Asking
keeps the interpreter for milliseconds, the first time for more: what was cut elsewhere goes on
before that.
"""


class LoadReports:
    """See the module.

    Args:
        active: the attempts whose clients are told.
        workers: compute what comes on them.
        count_servers: asks how many servers there are, this one included; 0: nobody knows. None:
            there is nobody to ask.
    """

    def __init__(
        self,
        active: ActiveAttempts,
        workers: Workers,
        count_servers: Callable[[], Awaitable[int]] | None,
    ) -> None:
        self._active = active
        self._workers = workers
        self._count_servers = count_servers
        self._servers = 0
        self._knows = count_servers is None  # as much as it ever will
        self._silent_until = math.inf
        self._pause = _SECONDS
        self._count_at = -math.inf
        self._looking: asyncio.TimerHandle | None = None
        self._counting: asyncio.Task[None] | None = None
        active.on_first.append(self._begin)
        active.on_empty.append(self._rest)

    def _begin(self) -> None:
        """An attempt has come, and there was none."""
        self._pause = _FIRST_SECONDS
        first_count = asyncio.get_running_loop().time() + _FIRST_COUNT_SECONDS
        self._count_at = max(self._count_at, first_count)
        self._silent_until = min(self._silent_until, first_count + _COUNT_SECONDS)
        self._look_after(0.0)

    @property
    def load(self) -> Load:
        """What could be said now."""
        return Load(
            servers=self._servers,
            items=self._active.totals.items,
            item_us=math.ceil(self._workers.item_time.value * 1e6),
            places=self._workers.capacity,
        )

    def _look_after(self, seconds: float) -> None:
        # Not in the context of the call that happened to come.
        loop = asyncio.get_running_loop()
        self._looking = loop.call_later(seconds, self._look, context=contextvars.Context())

    def _rest(self) -> None:
        """No attempt is here."""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def _look(self) -> None:
        self._looking = None
        loop = asyncio.get_running_loop()
        due = loop.time() >= self._count_at
        if self._count_servers is not None and due and self._counting is None:
            self._count_at = loop.time() + _COUNT_SECONDS
            self._counting = loop.create_task(
                self._count(self._count_servers), name="servestream count of servers"
            )
        if self._knows or loop.time() >= self._silent_until:
            self._active.report(self.load)
        self._look_after(self._pause)
        self._pause = min(_SECONDS, 2 * self._pause)

    async def _count(self, count_servers: Callable[[], Awaitable[int]]) -> None:
        try:
            servers = await count_servers()
        except Exception as error:
            # A controller that is busy or away: what it said last holds until it is back.
            logger.debug("the servers cannot be counted: %s", describe(error))
        else:
            if servers != self._servers or not self._knows:
                self._servers, self._knows = servers, True
                self._active.report(self.load)
        finally:
            self._counting = None
