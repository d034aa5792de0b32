"""Large frames are announced: silence is counted without the time that they take.

Invariant: no frame goes out that takes longer than one heartbeat interval at `LOWEST_RATE`, unless
the frame directly before it on the same attempt said so (docs/protocol.md, section 12).
"""

from __future__ import annotations

import math
from dataclasses import replace

from servestream_client.protocol.frames import Coming

__all__ = [
    "BESIDE_BYTES",
    "FEATURE",
    "LOWEST_RATE",
    "NOT_IN_TIME",
    "UNHEARD_BYTES",
    "Announcements",
    "bounded",
    "seconds_for",
    "too_slow",
    "unannounced",
]

FEATURE = "coming"
"""Its name in `Open.features` and `Welcome.features`."""

LOWEST_RATE = 32 * 1024
"""Bytes a second. A link that carries as much is never given up for what it carries."""

_DEFAULT_INTERVAL_MS = 10_000
"""Of a side that promised no heartbeats, for the sake of what travels beside its frames."""


BESIDE_BYTES = 4 * 1024 * 1024
"""How much other calls on the connection may add to what was announced already: an announcement
leaves room for so much of it."""


UNHEARD_BYTES = 1024 * 1024
"""What may come to a client before its welcome, besides what it announced with its open."""


def bounded(coming: Coming, frame_bytes: int) -> Coming:
    """What a peer announced, as far as it can be so much: it is its word, and no reason to wait for
    ever.

    Args:
        coming: the announcement.
        frame_bytes: the largest frame that may come.
    """
    most = 2 * (frame_bytes + BESIDE_BYTES)
    return replace(coming, bytes=most) if coming.bytes > most else coming


def unannounced(interval_ms: int) -> int:
    """The largest frame that needs no announcement, in bytes.

    Args:
        interval_ms: the heartbeat interval that its sender promised; 0: none.
    """
    return max(1, LOWEST_RATE * (interval_ms or _DEFAULT_INTERVAL_MS) // 1000)


def seconds_for(size: int) -> float:
    """How long so many bytes may be on their way."""
    return size / LOWEST_RATE


NOT_IN_TIME = "was on its way,"
"""Part of what is said of announced bytes that did not come, by either end."""


def too_slow(coming: Coming, what: str) -> str:
    """What to say of a link on which announced bytes did not come in time.

    Args:
        coming: the announcement.
        what: the item's name, with its article: "input", "the answer to input".
    """
    subject = (
        f"{what} {coming.number}, in a frame of {coming.frame_bytes} bytes,"
        if coming.frame_bytes
        else "what other calls send"
    )
    return (
        f"{subject} {NOT_IN_TIME} {coming.bytes} bytes in all, and nothing came for longer than"
        f" these take at {LOWEST_RATE // 1024} KiB/s: the link is slower than that, or dead; on a"
        " slow one, send smaller items"
    )


class Announcements:
    """What one end has announced of what it sends. Silent until it begins."""

    __slots__ = ("_least", "_limit", "covered")

    def __init__(self) -> None:
        self._limit: float = math.inf  # bytes that need no announcement
        self._least: float = math.inf  # the same on the slowest link
        self.covered: float = math.inf
        """The bytes of the largest frame that may go now."""

    def begin(self, interval_ms: int) -> None:
        """The peer understands announcements.

        Args:
            interval_ms: the heartbeat interval that this end promised; 0: none.
        """
        self._least = self._limit = self.covered = unannounced(interval_ms)

    def allow(self, size: int) -> None:
        """The link is so quick that frames of so many bytes need none, either."""
        before, self._limit = self._limit, max(self._least, size)
        if self.covered == before:  # or else that is what was announced
            self.covered = self._limit

    @property
    def begun(self) -> bool:
        """Whether the peer understands announcements."""
        return self._least < math.inf

    @property
    def free(self) -> float:
        """The largest frame that needs no announcement, in bytes."""
        return self._limit

    def large(self, size: int) -> bool:
        """Whether a frame of so many bytes is to be announced."""
        return size > self._limit

    def lacks(self, size: int) -> bool:
        """Whether a frame of so many bytes must wait for its announcement."""
        return size > self.covered

    def announce(self, size: int, number: int, *, beside: int = 0, urgent: bool = False) -> Coming:
        """Announce the frame that goes next.

        Args:
            size: of the frame.
            number: of its first item.
            beside: all the bytes on its connection, of this and of other calls.
            urgent: its reader is to acknowledge it at once.
        """
        self.covered = max(size, self._limit)
        return Coming(max(size, beside), size, number, urgent)

    def sent(self) -> None:
        """Another frame goes out: what was announced is spent."""
        self.covered = self._limit
