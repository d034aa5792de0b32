"""Sets of numbers that fill up from below."""

from __future__ import annotations


class NumberSet:
    """Numbers from 1 up; holds only those above the gapless part, so it stays as small as the
    disorder in which they come.
    """

    __slots__ = ("_beyond", "through")

    def __init__(self) -> None:
        self.through: int = 0
        """Every number up to this one is in the set."""
        self._beyond: set[int] = set()

    def add(self, number: int) -> None:
        if number != self.through + 1:
            if number > self.through:
                self._beyond.add(number)
            return
        self.through = number
        while self._beyond and self.through + 1 in self._beyond:
            self.through += 1
            self._beyond.remove(self.through)

    def add_run(self, first: int, count: int) -> None:
        """Add `count` numbers from `first` on."""
        if first == self.through + 1 and not self._beyond:
            self.through += count
            return
        for number in range(first, first + count):
            self.add(number)

    def __contains__(self, number: int) -> bool:
        return 1 <= number <= self.through or number in self._beyond

    def __len__(self) -> int:
        return self.through + len(self._beyond)
