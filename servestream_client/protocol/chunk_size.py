"""How many bytes of a large payload go at a time (docs/protocol.md, section 22).

What is under way goes ahead of what others send, so it is to be what the link carries in half a
second. But an acknowledgement tells of more than the link: a peer whose event loop is kept busy, or
who is far away, takes long to say that it has read whatever there was. Which of both it is shows in
the rate: twice as much under way takes twice as long where the link is what takes long, and no
longer where it is not.

Invariant: the size lies between `CHUNK_LEAST_BYTES` and `CHUNK_MOST_BYTES`, which both yield to
what the peer takes, and it changes only by chunks that were as large as could be.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from servestream_client.protocol.pacing import FRAME_MOST_BYTES, Pacer

__all__ = [
    "CHUNK_BYTES",
    "CHUNK_LEAST_BYTES",
    "CHUNK_MOST_BYTES",
    "SOON_SECONDS",
    "WHOLE_BYTES",
    "ChunkSize",
]

CHUNK_BYTES = 32 * 1024
"""At first."""

CHUNK_LEAST_BYTES = 16 * 1024

CHUNK_MOST_BYTES = FRAME_MOST_BYTES
"""As for frames, and for the same reason: what needs no announcement is to pass a link that has
become slow before its receiver gives up."""

WHOLE_BYTES = 2 * 1024 * 1024
"""Payloads up to this size go whole, and are announced, where chunks of the largest size are
acknowledged within `_QUICK_SECONDS`."""

_QUICK_SECONDS = 0.1

SOON_SECONDS = 0.5
"""A chunk that is acknowledged within so long lets the next ones be twice as large."""

_AT_ONCE = 0.1
"""And within this part of it, four times."""

_PARTS = 4
"""Of the largest frame that needs no announcement: several calls on one connection may send at a
time, and none is to seem silent."""

_SMALLEST_FRAME = 2048
"""A peer that takes no larger ones gets no chunks."""

_HARDLY, _CLOSELY = 0.5, 0.8
"""How far the rate is to follow what is under way, for the link not to be what takes long."""

_ALIKE = 1.5
"""Amounts under way that differ by less tell nothing of one another."""


class _Sample(NamedTuple):
    """What was under way together, in bytes, and how much of it was read in a second."""

    bytes: int
    rate: float

    def is_like(self, other: _Sample) -> bool:
        low, high = sorted((self.bytes, other.bytes))
        return high < low * _ALIKE


class _Chunk(NamedTuple):
    """One under way."""

    frame: int
    since: float
    bytes: int
    together: int


class ChunkSize:
    """See the module.

    Args:
        pacer: of the same end, which counts the frames.

    Attributes:
        begun: whether the peer understands chunks.
        bytes: of the next chunk; 0: the peer takes none.
        whole: payloads up to this size go whole, as large frames (section 12): on a quick link they
            are cut for nothing.
        unannounced: how large a frame may be by what the link has shown (section 12); 0: nothing.
    """

    __slots__ = (
        "_always_whole",
        "_chunks",
        "_here",
        "_least",
        "_most",
        "_most_whole",
        "_other",
        "_pacer",
        "_sent",
        "begun",
        "bytes",
        "unannounced",
        "whole",
    )

    def __init__(self, pacer: Pacer) -> None:
        self.begun: bool = False
        self.bytes: int = 0
        self.whole: int = 0
        self.unannounced: int = 0
        self._least = self._most = 0
        self._always_whole = self._most_whole = 0
        self._pacer = pacer
        self._sent = 0  # the bytes of a chunk that was sent, and is not looked at yet
        self._chunks: list[_Chunk] = []
        self._here: _Sample | None = None  # the last one
        self._other: _Sample | None = None  # the last one with much more under way, or much less

    def begin(self, peer_bytes: int, item_bytes: int, unannounced: float) -> None:
        """The peer understands chunks.

        Args:
            peer_bytes: the largest frame that it accepts.
            item_bytes: the largest payload that it accepts whole.
            unannounced: the largest frame that needs no announcement. Where heartbeats are so short
                that this is hardly anything, payloads go whole as long as they may.
        """
        self.begun = True
        if peer_bytes < _SMALLEST_FRAME:
            return
        self._most = min(CHUNK_MOST_BYTES, peer_bytes - 1024)
        first = max(1, int(min(self._most, unannounced / _PARTS)))
        self.bytes, self._least = min(CHUNK_BYTES, first), min(CHUNK_LEAST_BYTES, first)
        if self._least < CHUNK_LEAST_BYTES <= self._most:
            self.whole = self._always_whole = item_bytes
        self._most_whole = min(WHOLE_BYTES, item_bytes)

    def follow(self, size: int) -> None:
        """Frames of so many bytes are acknowledged soon."""
        if self.bytes:
            self.bytes = max(self.bytes, min(size, self._most))

    def sent(self, size: int, room: int) -> None:
        """A frame is made, with a chunk: so many bytes, of as many as could be."""
        self._sent = size if size >= room else 0

    def look(self, now: float) -> bool:
        """A frame went out or came in. Call it then, at once; what is not looked at is not counted.

        Args:
            now: in seconds, by whatever clock.

        Returns:
            Whether anything has changed.
        """
        pacer, chunks = self._pacer, self._chunks
        if self._sent:
            chunks.append(_Chunk(pacer.sent_frames, now, self._sent, sum(pacer.sizes)))
            self._sent = 0
        # Those that are acknowledged together tell one thing: how long it took from the first's
        # leaving until all that was under way with the last was there.
        since, last = now, None
        while chunks and chunks[0].frame <= pacer.acknowledged:
            last = chunks.pop(0)
            since = min(since, last.since)
        return last is not None and self._learn(last, max(now - since, 1e-6))

    def _learn(self, chunk: _Chunk, took: float) -> bool:
        sample = _Sample(chunk.together, chunk.together / took)
        if self._here is not None and not self._here.is_like(sample):
            self._other = self._here
        self._here = sample
        if took < _QUICK_SECONDS and chunk.bytes >= self._most:
            self.whole = max(self.whole, self._most_whole)
        if took < SOON_SECONDS:
            self._grow(chunk.bytes * (4 if took < SOON_SECONDS * _AT_ONCE else 2))
            return True
        if self._other is None and chunk.bytes > self._least:
            self._shrink(sample.rate)  # to see which it is, at nobody's cost
            return True
        follows = 1.0 if self._other is None else _follows(sample, self._other)
        if follows < _HARDLY:  # it is the link
            if took <= 2 * SOON_SECONDS:
                return False
            self._shrink(sample.rate)
        else:
            self._grow(chunk.bytes * (4 if follows > _CLOSELY else 2))
        return True

    def slowed(self) -> None:
        """A frame or a chunk has taken long."""
        self.whole, self.unannounced = self._always_whole, 0

    def _grow(self, size: int) -> None:
        size = min(size, self._most)
        self.bytes = max(self.bytes, size)
        self.unannounced = max(self.unannounced, size)

    def _shrink(self, rate: float) -> None:
        """So that two take no longer than is soon, at this rate, or by half."""
        size = min(self.bytes // 2, int(rate * SOON_SECONDS / 2))
        self.bytes = max(size, self._least)
        self.slowed()
        self._chunks.clear()  # the others left before this was known


def _follows(sample: _Sample, other: _Sample) -> float:
    """How closely the rate follows what is under way: 0, not at all; 1, it is as many times as
    much.
    """
    more, less = (sample, other) if sample.bytes > other.bytes else (other, sample)
    return math.log(max(more.rate / less.rate, 1e-9)) / math.log(more.bytes / less.bytes)
