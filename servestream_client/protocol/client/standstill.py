"""Whether a server waits for what was lost: its heartbeats show the same standstill, several times.

Invariant: a standstill is counted once for each tick in which the server could have heard of
anything; whatever differs from the last one begins the count anew.
"""

from __future__ import annotations

from servestream_client.protocol.frames import BlockedOn, Heartbeat, Running

__all__ = ["STALLED_BEATS", "Standstill"]

STALLED_BEATS = 3
"""Heartbeats that show the same standstill until it is taken for one. What goes on meanwhile, an
acknowledgement for example, takes no longer than the half interval between two of them."""


class Standstill:
    """The heartbeats of one attempt's server."""

    __slots__ = ("_beat", "_count", "_counted_at", "_free_ticks")

    def __init__(self) -> None:
        self._beat: Heartbeat | None = None  # the last one without work at the server
        self._count = 0  # how many in a row were the same
        self._counted_at = 0  # the tick of the last of them
        self._free_ticks = 0  # in which something could reach the server

    def tick(self, *, free: bool) -> None:
        """Half of an interval has passed, in which something could reach the server, or not."""
        self._free_ticks += free

    def lasts(self, beat: Heartbeat, running: Running) -> bool:
        """Whether the server says once more that it stands here, with nothing under way and
        answers that wait to be read, and has said so for long enough. What it says between two
        ticks is said once: heartbeats that waited behind other bytes come together, before it could
        have heard of these.
        """
        idle = running.blocked_on is BlockedOn.NOTHING and not running.count
        if not idle or beat != self._beat:
            self._count = int(idle)
            self._counted_at = self._free_ticks
        elif self._free_ticks > self._counted_at:
            self._count += 1
            self._counted_at = self._free_ticks
        self._beat = beat if idle else None
        return self._count >= STALLED_BEATS
