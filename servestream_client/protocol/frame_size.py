"""How much a frame gathers: more where frames are acknowledged soon (docs/protocol.md, section 8).

A frame costs its ends and whatever lies between them far more than an item in it, so that large
ones carry more; but all that is under way goes ahead of what comes later, so that they must not
take long. Which of both counts shows in how soon a full frame is acknowledged.

Invariant: the size lies between `FRAME_TARGET_BYTES` and `most`, which both yield to what the peer
takes, and it changes only by frames that were full.
"""

from __future__ import annotations

import sys

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

_NOT_FULL, _MANY, _FULL = range(3)


class FrameSize:
    """See the module.

    Args:
        pacer: of the same end, which counts the frames.

    Attributes:
        bytes: up to which a frame gathers payloads.
        most: what that may become.
        items: the most that it gathers, however small they are.
        unannounced: how large a frame may be by what the link has shown (section 12); 0: nothing.
        quick: how many full frames were acknowledged soon.
        slow: whether the last one that told anything took long.
    """

    __slots__ = (
        "_full",
        "_pacer",
        "_seen",
        "_sent",
        "bytes",
        "items",
        "most",
        "quick",
        "slow",
        "unannounced",
    )

    def __init__(self, pacer: Pacer) -> None:
        self.bytes: int = FRAME_TARGET_BYTES
        self.most: int = FRAME_TARGET_BYTES
        self.items: int = sys.maxsize
        self.unannounced: int = 0
        self.quick: int = 0
        self.slow: bool = False
        self._pacer = pacer
        self._seen = 0  # paced frames that have been looked at
        self._sent = _NOT_FULL  # what the one was that was sent last
        # Under way: which one, since when, and whether it was full by its bytes.
        self._full: list[tuple[int, float, bool]] = []

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
        self.bytes = min(max(self.bytes, FRAME_TARGET_BYTES), self.most)

    def share(self, window_items: int) -> None:
        """So many items may be under way: the same of them."""
        self.items = max(_FEW, window_items // _PARTS)

    def sent(self, used: int, items: int = 0) -> None:
        """A frame is made, with so many items that take up so many bytes of it."""
        if used * 4 >= self.bytes * 3:
            self._sent = _FULL
        else:
            self._sent = _MANY if items * 4 >= self.items * 3 else _NOT_FULL

    def look(self, now: float) -> bool:
        """A frame went out or came in. Call it then, at once; what is not looked at is not counted.

        Args:
            now: in seconds, by whatever clock.

        Returns:
            Whether anything has changed.
        """
        pacer, full, changed = self._pacer, self._full, False
        if pacer.sent_frames != self._seen:
            self._seen = pacer.sent_frames
            if self._sent:
                full.append((self._seen, now, self._sent == _FULL))
            self._sent = _NOT_FULL
        while full and full[0][0] <= pacer.acknowledged:
            _, since, by_bytes = full.pop(0)
            if now - since < QUICK_SECONDS:
                changed, self.slow = True, False
                self.quick += 1
                if by_bytes:  # many small items say nothing of what the link carries
                    self.bytes = self.unannounced = min(2 * self.bytes, self.most)
            elif now - since > SLOW_SECONDS:
                changed = self.slow = True
                self.bytes = min(max(self.bytes // 2, FRAME_TARGET_BYTES), self.most)
                self.unannounced = 0
                full.clear()  # the others left before this was known
        return changed
