"""Consecutive inputs of a stream that a lane carries, and which of them lack an answer."""

from __future__ import annotations

__all__ = ["LanePart"]


class LanePart:
    """Consecutive inputs that a lane carries.

    Attributes:
        first: the first one's number on the lane.
        last: the last one's.
        lacking: how many lack an answer.
        attempt: the lane's when they were given to it.
    """

    __slots__ = ("_done", "_stream_first", "attempt", "first", "lacking", "last")

    def __init__(self, first: int, stream_first: int, count: int, attempt: int) -> None:
        self.first: int = first
        self.last: int = first + count - 1
        self.lacking: int = count
        self.attempt: int = attempt
        self._stream_first = stream_first
        self._done: set[int] = set()

    def lacks(self, number: int) -> bool:
        """Whether it is one of these, and lacks its answer."""
        return number <= self.last and number not in self._done

    def own_number(self, number: int) -> int:
        """On the lane, of an input of the stream."""
        return number - self._stream_first + self.first

    def owes(self, number: int) -> bool:
        """Whether an input of the stream is one of these, and lacks its answer."""
        own = self.own_number(number)
        return self.first <= own and self.lacks(own)

    def answered(self, number: int, count: int) -> int:
        """Inputs are answered. Returns the first one's number in the stream."""
        self._done.update(range(number, number + count))
        self.lacking -= count
        return self._stream_first + number - self.first

    def left(self) -> list[tuple[int, int]]:
        """Those that lack an answer, by their numbers in the stream: runs, first and count."""
        runs: list[tuple[int, int]] = []
        for number in range(self.first, self.last + 1):
            if number in self._done:
                continue
            first = self._stream_first + number - self.first
            if runs and sum(runs[-1]) == first:
                runs[-1] = runs[-1][0], runs[-1][1] + 1
            else:
                runs.append((first, 1))
        return runs

    def own_first(self) -> int:
        """The first one's number on the lane."""
        return self.first
