"""Runs: payloads of consecutive inputs, which wait, travel and are counted together.

A stream is to carry hundreds of thousands of items a second, so both ends keep what waits for a
frame in runs, and look at single items only where a rule asks for it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from operator import attrgetter
from typing import cast

from servestream_client.protocol.frames import Resume
from servestream_client.protocol.pacing import FRAME_MOST_BYTES, ITEM_OVERHEAD_BYTES

__all__ = ["Run", "RunQueue"]

_GONE = cast("bytes", None)
"""In the place of a payload that was removed from a queue."""

_SLACK = 1024
"""Removed payloads whose places may stay in a queue, beyond as many as wait there."""

_first = attrgetter("first")


class Run:
    """Payloads of the inputs `first`, `first` + 1, and so on.

    Attributes:
        first: the first one's number.
        payloads: at least one.
        size: of the payloads together, in bytes.
        start_index: outputs of the first input below this index are not wanted.
        resume: what it takes to go on with the first input.
    """

    __slots__ = ("_extra", "first", "holes", "payloads", "resume", "size", "start_index")

    def __init__(
        self,
        first: int,
        payloads: Sequence[bytes],
        size: int,
        start_index: int = 0,
        resume: Resume | None = None,
    ) -> None:
        self.first: int = first
        self.payloads: list[bytes] = list(payloads)
        self.size: int = size
        self.start_index: int = start_index
        self.resume: Resume | None = resume
        self._extra = 0 if resume is None else resume.size
        self.holes: list[int] | None = None  # where a queue has removed payloads

    @property
    def last(self) -> int:
        """The last one's number."""
        return self.first + len(self.payloads) - 1

    @property
    def frame_bytes(self) -> int:
        """What the run takes up in a frame."""
        return self.size + len(self.payloads) * ITEM_OVERHEAD_BYTES + self._extra

    @property
    def resume_bytes(self) -> int:
        """What it takes to go on with the first input, if anything came of that."""
        return self._extra

    @property
    def window_bytes(self) -> int:
        """What the run counts for in the window."""
        return self.size + self._extra

    def begin_anew(self) -> int:
        """Its first input is gone, and what was special about that. Returns what that weighed."""
        extra, self._extra = self._extra, 0
        self.start_index, self.resume = 0, None
        return extra

    def within(self, size: int) -> int:
        """How many of the payloads, from the first on, have so many bytes together at the most."""
        if self.size <= size:
            return len(self.payloads)
        return bisect_right(list(accumulate(map(len, self.payloads))), size)

    def within_frame(self, room: int) -> int:
        """How many of them take up that much of a frame at the most."""
        if self.frame_bytes <= room:
            return len(self.payloads)
        room -= self._extra
        guess = max(0, room * len(self.payloads) // self.frame_bytes)  # right if all are alike
        taken = sum(map(len, self.payloads[:guess])) + guess * ITEM_OVERHEAD_BYTES
        if taken <= room < taken + len(self.payloads[guess]) + ITEM_OVERHEAD_BYTES:
            return guess
        sizes = list(accumulate(map(len, self.payloads)))
        counts = range(1, len(sizes) + 1)
        return bisect_right(counts, room, key=lambda n: sizes[n - 1] + n * ITEM_OVERHEAD_BYTES)

    def join(self, other: Run) -> bool:
        """Take in a run that follows this one, if both fit into one frame; False if not."""
        if (
            other.first != self.last + 1
            or other.start_index
            or self.resume is not None
            or self.frame_bytes + other.frame_bytes > FRAME_MOST_BYTES
        ):
            return False
        self.payloads += other.payloads
        self.size += other.size
        return True

    def cut(self, count: int) -> Run:
        """Take the first `count` payloads off; some must remain."""
        payloads = self.payloads[:count]
        size = sum(map(len, payloads))
        head = Run(self.first, payloads, size, self.start_index, self.resume)
        del self.payloads[:count]
        self.first += count
        self.size -= head.size
        self.begin_anew()
        return head

    def split(self, count: int) -> Run:
        """Keep the first `count` payloads, and return a run of the others."""
        rest = Run(self.first + count, self.payloads[count:], 0)
        rest.size = sum(map(len, rest.payloads))
        del self.payloads[count:]
        self.size -= rest.size
        return rest


class RunQueue:
    """What waits for a frame, in ascending order of its numbers.

    What is appended joins the last run if it follows it and both fit into one frame. A payload
    that is removed is gone at once, and leaves a hole in its run: whatever is handed out has none.
    """

    __slots__ = ("_begin", "_holes", "_runs", "count", "frame_bytes")

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        self._runs: list[Run] = []
        self._begin = 0  # what stands before it was taken
        self._holes = 0
        self.count: int = 0
        """How many payloads wait."""
        self.frame_bytes: int = 0
        """What all of it takes up in frames."""
        for run in runs:
            self.append(run)

    def __bool__(self) -> bool:
        return self.count > 0

    def __iter__(self) -> Iterator[Run]:
        self._tidy()
        return iter(self._runs)

    @property
    def head(self) -> Run:
        """What waits longest; there must be something."""
        run = self._runs[self._begin]
        while run.holes is not None:
            self._holes -= len(run.holes)
            self._runs[self._begin : self._begin + 1] = _without_holes(run)
            run = self._runs[self._begin]
        return run

    @property
    def last(self) -> int:
        """The highest number that waits, or that waited last and was removed; 0: none."""
        return self._runs[-1].last if self._begin < len(self._runs) else 0

    def append(self, run: Run) -> None:
        """Add payloads at the end."""
        self.frame_bytes += run.frame_bytes
        self.count += len(run.payloads)
        if not (self._begin < len(self._runs) and self._runs[-1].join(run)):
            self._runs.append(run)

    def put_back(self, run: Run) -> None:
        """Undo a `take`; what others put back meanwhile keeps its order."""
        self.frame_bytes += run.frame_bytes
        self.count += len(run.payloads)
        position = bisect_right(self._runs, run.first, lo=self._begin, key=_first)
        if position == self._begin > 0:
            self._begin -= 1
            self._runs[self._begin] = run
        else:
            self._runs.insert(position, run)

    def take(self, count: int) -> Run:
        """Take the first `count` payloads of the head."""
        taken = self._runs[self._begin]
        if taken.holes is not None:
            taken = self.head
        if count < len(taken.payloads):
            taken = taken.cut(count)
        else:
            self._runs[self._begin] = _TAKEN
            self._begin += 1
            if self._begin * 2 >= len(self._runs):
                del self._runs[: self._begin]
                self._begin = 0
        self.count -= len(taken.payloads)
        self.frame_bytes -= taken.frame_bytes
        return taken

    def remove(self, number: int) -> None:
        """Take the payload of one input out of the middle."""
        self.remove_each((number,))

    def remove_each(self, numbers: Sequence[int]) -> None:
        """Take out the payloads of inputs, ascending; those that do not wait are ignored."""
        first, end, run = 1, 0, _TAKEN
        for number in numbers:
            if not first <= number < end:
                position = bisect_right(self._runs, number, lo=self._begin, key=_first) - 1
                if position < self._begin:
                    continue
                run = self._runs[position]
                first, end = run.first, run.last + 1
                if number >= end:
                    continue
            self._remove_from(run, number - first)
        if self._holes > self.count + _SLACK:
            self._tidy()

    def _remove_from(self, run: Run, offset: int) -> None:
        payload = run.payloads[offset]
        if payload is _GONE:
            return
        run.payloads[offset] = _GONE
        run.size -= len(payload)
        if run.holes is None:
            run.holes = [offset]
        else:
            run.holes.append(offset)
        self._holes += 1
        self.count -= 1
        self.frame_bytes -= len(payload) + ITEM_OVERHEAD_BYTES
        if not offset:
            self.frame_bytes -= run.begin_anew()

    def _tidy(self) -> None:
        """Make runs without holes of all that waits."""
        runs = self._runs[self._begin :]
        self._runs = [
            part for run in runs for part in ((run,) if run.holes is None else _without_holes(run))
        ]
        self._begin = self._holes = 0

    def clear(self) -> None:
        """Drop everything."""
        self._runs.clear()
        self._begin = self._holes = self.count = self.frame_bytes = 0


_TAKEN = Run(0, (), 0)
"""In the place of a run that was taken from its queue."""


def _without_holes(run: Run) -> list[Run]:
    """The runs that are left of one from which payloads were removed."""
    parts: list[Run] = []
    begin = 0
    for hole in (*sorted(run.holes or ()), len(run.payloads)):
        if hole > begin:
            start_index, resume = (0, None) if begin else (run.start_index, run.resume)
            parts.append(Run(run.first + begin, run.payloads[begin:hole], 0, start_index, resume))
        begin = hole + 1
    # All sizes but one are counted, and the longest run's is the rest: runs that are taken apart
    # again and again would otherwise be counted as often.
    longest = max(parts, key=_length, default=None)
    rest = run.size
    for part in parts:
        if part is not longest:
            part.size = sum(map(len, part.payloads))
            rest -= part.size
    if longest is not None:
        longest.size = rest
    return parts


def _length(run: Run) -> int:
    return len(run.payloads)
