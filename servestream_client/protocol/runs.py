"""Runs: payloads of consecutive inputs, which wait, travel and are counted together.

A stream is to carry hundreds of thousands of items a second, so both ends keep what waits for a
frame in runs, and look at single items only where a rule asks for it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import accumulate

from servestream_client.protocol.pacing import FRAME_TARGET_BYTES, ITEM_OVERHEAD_BYTES

__all__ = ["Run", "RunQueue"]


class Run:
    """Payloads of the inputs `first`, `first` + 1, and so on.

    Attributes:
        first: the first one's number.
        payloads: at least one.
        size: of the payloads together, in bytes.
        start_index: outputs of the first input below this index are not wanted.
    """

    __slots__ = ("first", "payloads", "size", "start_index")

    def __init__(
        self, first: int, payloads: Sequence[bytes], size: int, start_index: int = 0
    ) -> None:
        self.first: int = first
        self.payloads: list[bytes] = list(payloads)
        self.size: int = size
        self.start_index: int = start_index

    @property
    def last(self) -> int:
        """The last one's number."""
        return self.first + len(self.payloads) - 1

    @property
    def frame_bytes(self) -> int:
        """What the run takes up in a frame."""
        return self.size + len(self.payloads) * ITEM_OVERHEAD_BYTES

    def within(self, size: int) -> int:
        """How many of the payloads, from the first on, have so many bytes together at the most."""
        if self.size <= size:
            return len(self.payloads)
        return bisect_right(list(accumulate(map(len, self.payloads))), size)

    def within_frame(self, room: int) -> int:
        """How many of them take up that much of a frame at the most."""
        if self.frame_bytes <= room:
            return len(self.payloads)
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
            or self.frame_bytes + other.frame_bytes > FRAME_TARGET_BYTES
        ):
            return False
        self.payloads += other.payloads
        self.size += other.size
        return True

    def cut(self, count: int) -> Run:
        """Take the first `count` payloads off; some must remain."""
        payloads = self.payloads[:count]
        head = Run(self.first, payloads, sum(map(len, payloads)), self.start_index)
        del self.payloads[:count]
        self.first += count
        self.size -= head.size
        self.start_index = 0
        return head

    def split(self, count: int) -> Run:
        """Keep the first `count` payloads, and return a run of the others."""
        rest = Run(self.first + count, self.payloads[count:], 0)
        rest.size = sum(map(len, rest.payloads))
        del self.payloads[count:]
        self.size -= rest.size
        return rest


class RunQueue:
    """What waits for a frame, in the order in which it came.

    What is appended joins the last run if it follows it and both fit into one frame.
    """

    __slots__ = ("_runs", "frame_bytes")

    def __init__(self) -> None:
        self._runs: deque[Run] = deque()
        self.frame_bytes: int = 0
        """What all of it takes up in frames."""

    def __bool__(self) -> bool:
        return bool(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    @property
    def head(self) -> Run:
        """What waits longest; there must be something."""
        return self._runs[0]

    def append(self, run: Run) -> None:
        """Add payloads at the end."""
        self.frame_bytes += run.frame_bytes
        if not (self._runs and self._runs[-1].join(run)):
            self._runs.append(run)

    def put_back(self, run: Run) -> None:
        """Undo a `take`; what others put back meanwhile keeps its order."""
        self.frame_bytes += run.frame_bytes
        position = next((p for p, each in enumerate(self._runs) if each.first > run.first), None)
        self._runs.insert(len(self._runs) if position is None else position, run)

    def take(self, count: int) -> Run:
        """Take the first `count` payloads of the head."""
        head = self._runs[0]
        taken = head.cut(count) if count < len(head.payloads) else self._runs.popleft()
        self.frame_bytes -= taken.frame_bytes
        return taken

    def remove(self, number: int) -> None:
        """Take the payload of one input out of the middle."""
        for position, run in enumerate(self._runs):
            if not run.first <= number <= run.last:
                continue
            before = run.cut(number - run.first) if number > run.first else None
            after = run if run.last > number else None
            removed = after.cut(1) if after is not None else run
            self.frame_bytes -= removed.frame_bytes
            del self._runs[position]
            for part in (after, before):
                if part is not None:
                    self._runs.insert(position, part)
            return

    def clear(self) -> None:
        """Drop everything."""
        self._runs.clear()
        self.frame_bytes = 0
