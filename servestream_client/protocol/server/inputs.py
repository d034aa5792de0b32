"""The inputs that a server's attempt has taken in and not closed yet."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

__all__ = ["OpenInputs"]

_SLACK = 1024
"""Closed inputs that may stay behind, beyond as many as are open."""


class OpenInputs:
    """Numbers and sizes of inputs, by stretches of consecutive numbers.

    Inputs come and are closed by the frame, so that looking at each of them would cost more than
    all the rest that is done for them. What is closed in the middle of a stretch leaves a hole;
    once there are more holes than open inputs, the stretches are made anew without them. So what
    is kept grows with what is open, not with what came after the oldest of it.

    Invariant: what is in it has come and was not closed, each number at most once; `size` is the
    sum of their sizes, and what is `cancelled` is in it.

    Attributes:
        size: of their payloads together, in bytes.
        cancelled: those that the client does not want any more.
    """

    __slots__ = ("_count", "_firsts", "_holes", "_stretches", "cancelled", "size")

    def __init__(self) -> None:
        self.size: int = 0
        self.cancelled: set[int] = set()
        self._count = 0  # of those that are open
        self._holes = 0
        self._firsts: list[int] = []
        self._stretches: list[list[int | None]] = []  # sizes; None: closed

    def append(self, first: int, sizes: Sequence[int]) -> None:
        """Add the inputs `first`, `first` + 1 and so on, all behind what there is."""
        if self._firsts and self._firsts[-1] + len(self._stretches[-1]) == first:
            self._stretches[-1] += sizes
        else:
            self._firsts.append(first)
            self._stretches.append(list(sizes))
        self.size += sum(sizes)
        self._count += len(sizes)

    def cancel(self, numbers: Iterable[int]) -> list[int]:
        """The client does not want these any more, which are open; returns those of which it had
        not said so.
        """
        fresh = [number for number in numbers if number not in self.cancelled]
        self.cancelled.update(fresh)
        return fresh

    def close(self, first: int, count: int = 1) -> bool:
        """Remove consecutive inputs, all or none; False if there is one that is not open."""
        position, offset = self._place(first)
        if position < 0:
            return False
        stretch = self._stretches[position]
        sizes = stretch[offset : offset + count]
        if len(sizes) < count or None in sizes:
            return False
        self.size -= sum(sizes)  # type: ignore[arg-type]  # there is no None among them
        self._count -= count
        if self.cancelled:
            self.cancelled.difference_update(range(first, first + count))
        if offset:
            stretch[offset : offset + count] = [None] * count
            self._holes += count
            self._tidy()
        else:
            self._trim(position, count)
        return True

    def close_each(self, numbers: Sequence[int]) -> None:
        """Remove inputs that are open, each once; ascending."""
        begin = end = size = 0
        stretch: list[int | None] = []
        for number in numbers:
            if not begin <= number < end:
                position, _ = self._place(number)
                begin, stretch = self._firsts[position], self._stretches[position]
                end = begin + len(stretch)
            size += stretch[number - begin]  # type: ignore[operator]  # it is open
            stretch[number - begin] = None
        self.size -= size
        self._count -= len(numbers)
        self.cancelled.difference_update(numbers)
        self._holes += len(numbers)
        self._tidy()

    def close_through(self, last: int) -> None:
        """Remove all that are open up to this number."""
        while self._firsts and self._firsts[0] <= last:
            stretch = self._stretches[0]
            gone = stretch[: last - self._firsts[0] + 1]
            sizes = [size for size in gone if size is not None]
            self.size -= sum(sizes)
            self._count -= len(sizes)
            self._holes -= len(gone) - len(sizes)
            self._trim(0, len(gone))
        if self.cancelled:
            self.cancelled = {number for number in self.cancelled if number > last}

    def _trim(self, position: int, count: int) -> None:
        """Drop so many inputs at a stretch's beginning, and the closed ones behind them."""
        stretch, whole = self._stretches[position], count
        while whole < len(stretch) and stretch[whole] is None:
            whole += 1
        if whole > count:
            self._holes -= whole - count
        if whole < len(stretch):
            del stretch[:whole]
            self._firsts[position] += whole
        else:
            del self._stretches[position], self._firsts[position]

    def _tidy(self) -> None:
        """Make the stretches anew, if they are holes for the most part."""
        if self._holes <= self._count + _SLACK:
            return
        firsts, stretches = self._firsts, self._stretches
        self._holes, self._firsts, self._stretches = 0, [], []
        for begin, stretch in zip(firsts, stretches, strict=True):
            if None not in stretch:
                self._firsts.append(begin)
                self._stretches.append(stretch)
                continue
            after_hole = True
            for number, size in enumerate(stretch, begin):
                if size is None:
                    after_hole = True
                elif after_hole:
                    self._firsts.append(number)
                    self._stretches.append([size])
                    after_hole = False
                else:
                    self._stretches[-1].append(size)

    def _place(self, number: int) -> tuple[int, int]:
        """The stretch that might have a number, and where in it; -1: none."""
        position = bisect_right(self._firsts, number) - 1
        return position, number - self._firsts[position] if position >= 0 else 0

    def within(self, ranges: Iterable[tuple[int, int]]) -> list[int]:
        """Which numbers of these ranges, first to last each and ascending, are open; ascending."""
        found: list[int] = []
        begin = end = 0
        stretch: list[int | None] = []
        for first, last in ranges:
            if first == last and begin <= first < end:
                if stretch[first - begin] is not None:
                    found.append(first)
                continue
            position = max(0, self._place(first)[0])
            while position < len(self._firsts) and self._firsts[position] <= last:
                begin, stretch = self._firsts[position], self._stretches[position]
                end = begin + len(stretch)
                offset = max(0, first - begin)
                numbers = enumerate(stretch[offset : last - begin + 1], begin + offset)
                found += [number for number, size in numbers if size is not None]
                position += 1
        return found

    def size_of(self, number: int) -> int:
        """Of one that is open, in bytes; of others 0."""
        position, offset = self._place(number)
        if position < 0 or offset >= len(self._stretches[position]):
            return 0
        return self._stretches[position][offset] or 0

    def __contains__(self, number: int) -> bool:
        position, offset = self._place(number)
        if position < 0:
            return False
        stretch = self._stretches[position]
        return offset < len(stretch) and stretch[offset] is not None

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        """The numbers, ascending."""
        for first, stretch in zip(self._firsts, self._stretches, strict=True):
            for number, size in enumerate(stretch, first):
                if size is not None:
                    yield number

    def clear(self) -> None:
        """Forget all."""
        self.size = self._count = self._holes = 0
        self._firsts.clear()
        self._stretches.clear()
        self.cancelled.clear()
