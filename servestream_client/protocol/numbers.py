"""Sets of numbers that fill up from below."""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class NumberSet:
    """Numbers from 1 up, kept as ranges: as many as there are gaps, however long one of them stays
    open.
    """

    __slots__ = ("_firsts", "_lasts", "through")

    def __init__(self) -> None:
        self.through: int = 0
        """Every number up to this one is in the set."""
        # Ranges beyond it, ascending; between any two of them a number is missing.
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def add(self, number: int) -> None:
        self.add_run(number, 1)

    def add_run(self, first: int, count: int) -> None:
        """Add `count` numbers from `first` on."""
        last = first + count - 1
        if first > self.through + 1:
            self._add_beyond(first, last)
            return
        self.through = max(self.through, last)
        if self._firsts and self._firsts[0] <= self.through + 1:
            met = bisect_right(self._firsts, self.through + 1)
            self.through = max(self.through, self._lasts[met - 1])
            del self._firsts[:met], self._lasts[:met]

    def _add_beyond(self, first: int, last: int) -> None:
        begin = bisect_left(self._lasts, first - 1)  # the ranges that it touches
        end = bisect_right(self._firsts, last + 1)
        if begin < end:
            first = min(first, self._firsts[begin])
            last = max(last, self._lasts[end - 1])
        self._firsts[begin:end] = (first,)
        self._lasts[begin:end] = (last,)

    @property
    def beyond(self) -> list[tuple[int, int]]:
        """The ranges behind `through`, ascending: the first and the last number of each."""
        return list(zip(self._firsts, self._lasts, strict=True))

    def without(self, number: int) -> NumberSet:
        """A copy that lacks this number."""
        copy = NumberSet()
        for first, last in ((1, self.through), *self.beyond):
            for begin, end in ((first, min(last, number - 1)), (max(first, number + 1), last)):
                if begin <= end:
                    copy.add_run(begin, end - begin + 1)
        return copy

    @property
    def ranges(self) -> int:
        """In how many pieces the set is kept."""
        return len(self._firsts) + (self.through > 0)

    def __contains__(self, number: int) -> bool:
        if number <= self.through:
            return number >= 1
        position = bisect_left(self._lasts, number)
        return position < len(self._lasts) and self._firsts[position] <= number

    def __len__(self) -> int:
        beyond = zip(self._firsts, self._lasts, strict=True)
        return self.through + sum(last - first + 1 for first, last in beyond)
