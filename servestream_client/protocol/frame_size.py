"""How much a frame gathers: more where frames are acknowledged soon (docs/protocol.md, section 8).

A frame costs its ends and whatever lies between them far more than an item in it, so that large
ones carry more; but all that is under way goes ahead of what comes later, so that they must not
take long. Which of both counts shows in how soon a full frame is acknowledged.

Invariant: the size lies between `FRAME_TARGET_BYTES` and `most`, which both yield to what the peer
takes, and it changes only by frames that were full. Chunks of large payloads have a size of their
own, by the same rule, which is smaller where the link is slow and larger where it is quick (section
22).
"""

from __future__ import annotations

import math
import sys
from collections import deque

from servestream_client.protocol.pacing import FRAME_MOST_BYTES, FRAME_TARGET_BYTES, Pacer

__all__ = ["QUICK_SECONDS", "SLOW_SECONDS", "FrameSize"]

QUICK_SECONDS = 0.1
"""A full frame that was acknowledged within so long lets the next ones gather twice as much. With
four under way that is a link of some MiB a second, and an end that has few other streams."""

SLOW_SECONDS = 1.0
"""One that took longer, half as much."""

CHUNK_BYTES = 32 * 1024
"""A large payload is cut into chunks of this size at first."""

CHUNK_LEAST_BYTES = 16 * 1024
"""And of this one where they take long."""

CHUNK_MOST_BYTES = 2 * 1024 * 1024
"""And up to this one where they do not. What is no larger than a chunk goes whole."""

CHUNK_QUICK_SECONDS = 0.5
"""A chunk that was acknowledged within so long lets the next ones be twice as large. More than for
frames: there is nothing else to do with a link that is long and quick."""

_PARTS = 4
"""Frames that a window has at the least, if these are of `FRAME_TARGET_BYTES` and `_FEW` items or
more.
"""

_FEW = 64

_NOT_FULL, _MANY, _FULL, _CHUNK = range(4)


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
        chunk: how many bytes of a large payload go at a time; 0: the peer does not take chunks.
    """

    __slots__ = (
        "_chunk_quick",
        "_chunk_sent",
        "_full",
        "_least_chunk",
        "_most_chunk",
        "_pacer",
        "_seen",
        "_sent",
        "bytes",
        "chunk",
        "items",
        "most",
        "quick",
        "unannounced",
    )

    def __init__(self, pacer: Pacer) -> None:
        self.bytes: int = FRAME_TARGET_BYTES
        self.most: int = FRAME_TARGET_BYTES
        self.items: int = sys.maxsize
        self.unannounced: int = 0
        self.quick: int = 0
        self.chunk: int = 0
        self._least_chunk = self._most_chunk = 0
        self._chunk_quick = CHUNK_QUICK_SECONDS
        self._pacer = pacer
        self._seen = 0  # paced frames that have been looked at
        self._sent = _NOT_FULL  # what the one was that was sent last
        self._chunk_sent = 0  # bytes, if it was a chunk
        # Under way: which one, since when, what it was, and how large it could be then.
        self._full: deque[tuple[int, float, int, int]] = deque()

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

    def begin_chunks(self, peer_bytes: int, unannounced: float, interval_ms: int) -> None:
        """The peer takes chunks.

        Args:
            peer_bytes: the largest frame that it accepts.
            unannounced: the largest frame that needs no announcement (section 12).
            interval_ms: the heartbeat interval that this end promised; 0: none. It is to hear of
                the peer as often, whatever else is under way.
        """
        self._most_chunk = min(CHUNK_MOST_BYTES, peer_bytes)
        # Several calls on one connection may do so at a time, and none is to seem silent.
        most = max(1, int(min(self._most_chunk, unannounced / _PARTS)))
        self.chunk, self._least_chunk = min(CHUNK_BYTES, most), min(CHUNK_LEAST_BYTES, most)
        self._chunk_quick = min(CHUNK_QUICK_SECONDS, (interval_ms or math.inf) / 1000)

    @property
    def whole(self) -> int:
        """The largest payload that goes at a time."""
        return max(self.bytes, self.chunk)

    def share(self, window_items: int) -> None:
        """So many items may be under way: the same of them."""
        self.items = max(_FEW, window_items // _PARTS)

    def sent(self, used: int, items: int = 0) -> None:
        """A frame is made, with so many items that take up so many bytes of it."""
        if used * 4 >= self.bytes * 3:
            self._sent = _FULL
        else:
            self._sent = _MANY if items * 4 >= self.items * 3 else _NOT_FULL

    def sent_chunk(self, size: int, room: int) -> None:
        """A frame is made, with a chunk: so many bytes, of as many as could be."""
        self._sent, self._chunk_sent = _CHUNK if size >= room else _NOT_FULL, size

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
                size = self._chunk_sent if self._sent == _CHUNK else self.bytes
                full.append((self._seen, now, self._sent, size))
            self._sent = _NOT_FULL
        while full and full[0][0] <= pacer.acknowledged:
            _, since, kind, size = full.popleft()
            took = now - since
            if took > SLOW_SECONDS:
                changed = True
                self._slow()
                full.clear()  # the others left before this was known
            elif kind == _CHUNK:
                if took < self._chunk_quick:
                    changed = True
                    twice = min(2 * size, self._most_chunk)
                    self.chunk = max(self.chunk, twice)
                    self.unannounced = max(self.unannounced, twice)
            elif took < QUICK_SECONDS:
                changed = True
                self.quick += 1
                if kind == _FULL:  # many small items say nothing of what the link carries
                    self._quick(size)
        return changed

    def _quick(self, size: int) -> None:
        """A frame of so many bytes was."""
        self.bytes = max(self.bytes, min(2 * size, self.most))
        if self.chunk:
            self.chunk = max(self.chunk, min(self.bytes, self._most_chunk))
        self.unannounced = max(self.bytes, self.chunk)

    def _slow(self) -> None:
        self.bytes = min(max(self.bytes // 2, FRAME_TARGET_BYTES), self.most)
        self.chunk = max(self.chunk // 2, self._least_chunk)
        self.unannounced = 0
