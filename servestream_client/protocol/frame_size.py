"""How much a frame gathers: more where frames are acknowledged soon (docs/protocol.md, section 8).

A frame costs its ends and whatever lies between them far more than an item in it, so that large
ones carry more; but all that is under way goes ahead of what comes later, so that they must not
take long. Which of both counts shows in how soon a full frame is acknowledged.

Invariant: the size lies between `FRAME_TARGET_BYTES` and `most`, which both yield to what the peer
takes, and it changes only by frames that were full.
"""

from __future__ import annotations

import sys
from collections import deque

from servestream_client.protocol.pacing import FRAME_MOST_BYTES, FRAME_TARGET_BYTES, Pacer

__all__ = ["QUICK_SECONDS", "SLOW_SECONDS", "FrameSize"]

QUICK_SECONDS = 0.1
"""A full frame that was acknowledged within so long lets the next ones gather twice as much. With
four under way that is a link of some MiB a second, and an end that has few other streams."""

SLOW_SECONDS = 1.0
"""One that took longer, half as much."""

_PARTS = 4
"""Frames that a window has at the least, if these are of `FRAME_TARGET_BYTES` and `_FEW` items or
more.
"""

_FEW = 64


class FrameSize:
    """See the module.

    Args:
        pacer: of the same end, which counts the frames.

    Attributes:
        bytes: up to which a frame gathers payloads.
        most: what that may become.
        items: the most that it gathers, however small they are.
    """

    __slots__ = ("_full", "_is_full", "_pacer", "_seen", "bytes", "items", "most")

    def __init__(self, pacer: Pacer) -> None:
        self.bytes: int = FRAME_TARGET_BYTES
        self.most: int = FRAME_TARGET_BYTES
        self.items: int = sys.maxsize
        self._pacer = pacer
        self._seen = 0  # paced frames that have been looked at
        self._is_full = False  # the one that was sent last
        self._full: deque[tuple[int, float]] = deque()  # under way: which one, and since when

    def begin(self, peer_bytes: int, window_bytes: int = 0) -> None:
        """It is known what the peer takes.

        Args:
            peer_bytes: the largest frame that it accepts.
            window_bytes: what may be under way, of which one frame takes no more than its part:
                while the peer works on one, the next ones are to be on their way. 0: not known.
        """
        most = FRAME_MOST_BYTES
        if window_bytes:
            most = max(FRAME_TARGET_BYTES, min(most, window_bytes // _PARTS))
        self.most = min(most, peer_bytes)
        self.bytes = min(self.bytes, self.most)

    def share(self, window_items: int) -> None:
        """So many items may be under way: the same of them."""
        self.items = max(_FEW, window_items // _PARTS)

    def sent(self, used: int, items: int = 0) -> None:
        """A frame is made, with so many items that take up so many bytes of it."""
        self._is_full = used * 4 >= self.bytes * 3 or items * 4 >= self.items * 3

    def look(self, now: float) -> bool:
        """A frame went out or came in. Call it then, at once; what is not looked at is not counted.

        Args:
            now: in seconds, by whatever clock.

        Returns:
            Whether the size has changed.
        """
        pacer, full, before = self._pacer, self._full, self.bytes
        if pacer.sent_frames != self._seen:
            self._seen = pacer.sent_frames
            if self._is_full:
                full.append((self._seen, now))
            self._is_full = False
        while full and full[0][0] <= pacer.acknowledged:
            taken = now - full.popleft()[1]
            if taken < QUICK_SECONDS:
                self.bytes = min(2 * self.bytes, self.most)
            elif taken > SLOW_SECONDS:
                self.bytes = min(max(self.bytes // 2, FRAME_TARGET_BYTES), self.most)
                full.clear()  # the others left before this was known
        return self.bytes != before
