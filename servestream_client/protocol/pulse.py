"""Proof of life: when to send a heartbeat, and when to stop waiting for the peer's.

Docs section 12. Silence is counted in ticks, not in seconds. A process that was stopped, or whose
event loop was kept busy, has missed its own ticks meanwhile, and so does not blame its peer for the
time that it was away itself.
"""

from __future__ import annotations

__all__ = ["SILENT_INTERVALS", "TICKS_PER_INTERVAL", "Pulse"]

TICKS_PER_INTERVAL = 2
"""With two, whoever speaks at every tick at which it was quiet since the last one keeps its promise
of a frame an interval."""

SILENT_INTERVALS = 3
"""Silence of so many of the peer's intervals is a dead link."""


class Pulse:
    """Both directions of one end of an attempt. Harmless until it begins.

    Attributes:
        due: a frame is owed, if only a heartbeat.
        ticks: how many there were.
    """

    __slots__ = ("_limit", "_quiet", "_silence", "due", "ticks")

    def __init__(self) -> None:
        self.due: bool = False
        self.ticks: int = 0
        self._quiet = False  # nothing was sent since the last tick
        self._silence = 0  # ticks since something was heard
        self._limit = 0  # of them; 0: the peer promised nothing

    def begin(self, *, own_ms: int, peer_ms: int) -> None:
        """From now on both keep their promises.

        Args:
            own_ms: the interval that this end promised, two ticks.
            peer_ms: the peer's; 0: none.
        """
        self._silence = 0
        # Rounded up, and one more: the first tick may come right after the peer's last word.
        self._limit = -(-SILENT_INTERVALS * TICKS_PER_INTERVAL * peer_ms // own_ms) + 1

    @property
    def dead(self) -> bool:
        """Whether the peer broke its promise for so long that it, or the link, must be gone."""
        return 1 < self._limit <= self._silence

    def heard(self) -> None:
        """A frame came."""
        self._silence = 0

    def spoke(self) -> None:
        """A frame goes out."""
        self._quiet = self.due = False

    def tick(self) -> None:
        """Half of one's own interval has passed, or more."""
        self.ticks += 1
        self._silence += 1
        self.due = self.due or self._quiet
        self._quiet = True
