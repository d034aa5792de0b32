"""Whose answer leaves next, where answers come in the order of the inputs."""

from __future__ import annotations

from collections import deque

__all__ = ["Turns"]


class Turns:
    """The numbers of the inputs in the order in which they came; only runs of them are kept."""

    __slots__ = ("_ranges",)

    def __init__(self) -> None:
        self._ranges: deque[range] = deque()

    @property
    def next(self) -> int:
        """The next number to be answered; 0 if there is none."""
        return self._ranges[0].start if self._ranges else 0

    def append(self, first: int, count: int) -> None:
        self._ranges.append(range(first, first + count))

    def advance(self, count: int) -> None:
        """So many numbers, consecutive ones, have had their turn."""
        while count:
            head = self._ranges.popleft()
            if count < len(head):
                self._ranges.appendleft(head[count:])
                return
            count -= len(head)
