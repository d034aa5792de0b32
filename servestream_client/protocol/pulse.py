"""Proof of life: when to send a heartbeat, and when to stop waiting for the peer's.

Rules: docs/protocol.md, section 12. Silence is counted in ticks, not in seconds. A process that was
stopped, or whose event loop was kept busy, has missed its own ticks meanwhile, and so does not
blame its peer for the time that it was away itself. And it is counted in what could have arrived:
ticks in which announced bytes were on their way count only once these have had their time at the
lowest rate.
"""

from __future__ import annotations

from servestream_client.protocol.coming import LOWEST_RATE

__all__ = ["SILENT_INTERVALS", "TICKS_PER_INTERVAL", "Pulse"]

TICKS_PER_INTERVAL = 2
"""With two, an end that sends at every tick at which it was quiet since the last one keeps its
promise of a frame an interval."""

SILENT_INTERVALS = 3
"""Silence of so many of the peer's intervals is a dead link."""


class Pulse:
    """Both directions of one end of an attempt. Harmless until it begins.

    Attributes:
        due: a frame is owed, if only a heartbeat.
    """

    __slots__ = ("_coming", "_excused", "_limit", "_quiet", "_silence", "_tick_bytes", "due")

    def __init__(self) -> None:
        self.due: bool = False
        self._quiet = False  # nothing was sent since the last tick
        self._silence = 0  # ticks since something was heard
        self._limit = 0  # of them; 0: the peer promised nothing
        self._coming = 0  # the most bytes that were on their way since something was heard
        self._excused = 0  # ticks that they took so far
        self._tick_bytes = 1  # what comes in one tick at the lowest rate

    def begin(self, *, own_ms: int, peer_ms: int) -> None:
        """From now on both keep their promises.

        Args:
            own_ms: the interval that this end promised, two ticks.
            peer_ms: the peer's; 0: none.
        """
        self._silence = 0
        self._tick_bytes = max(1, LOWEST_RATE * own_ms // 1000 // TICKS_PER_INTERVAL)
        # Rounded up, and one more: the first tick may come right after the peer's last word.
        self._limit = -(-SILENT_INTERVALS * TICKS_PER_INTERVAL * peer_ms // own_ms) + 1

    @property
    def dead(self) -> bool:
        """Whether the peer broke its promise for so long that it, or the link, must be gone."""
        return 1 < self._limit <= self._silence

    def on_received(self) -> None:
        """A frame came."""
        self._silence = self._coming = self._excused = 0

    def on_sent(self) -> None:
        """A frame goes out."""
        self._quiet = self.due = False

    def tick(self, coming: int = 0) -> None:
        """Half of one's own interval has passed, or more.

        Args:
            coming: bytes that the peer's next frame has before it, or consists of. So long as they
                may take at the lowest rate, their coming is no silence.
        """
        if coming:
            self._coming = max(self._coming, coming)
        if coming and self._excused * self._tick_bytes < self._coming:
            self._excused += 1
        else:
            self._silence += 1
        self.due = self.due or self._quiet
        self._quiet = True
