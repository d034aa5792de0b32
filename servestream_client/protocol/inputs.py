"""The inputs that a server's attempt has taken in and not closed yet."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

__all__ = ["OpenInputs"]


class OpenInputs:
    """Numbers and sizes of inputs, by stretches of consecutive numbers.

    Inputs come and are closed by the frame, so that looking at each of them would cost more than
    all the rest that is done for them.

    Attributes:
        size: of their payloads together, in bytes.
    """

    __slots__ = ("_firsts", "_stretches", "size")

    def __init__(self) -> None:
        self.size: int = 0
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
        if offset:
            stretch[offset : offset + count] = [None] * count
        else:
            self._trim(position, count)
        return True

    def _trim(self, position: int, count: int) -> None:
        """Drop so many inputs at a stretch's beginning, and the closed ones behind them."""
        stretch = self._stretches[position]
        while count < len(stretch) and stretch[count] is None:
            count += 1
        if count < len(stretch):
            del stretch[:count]
            self._firsts[position] += count
        else:
            del self._stretches[position], self._firsts[position]

    def _place(self, number: int) -> tuple[int, int]:
        """The stretch that might have a number, and where in it; -1: none."""
        position = bisect_right(self._firsts, number) - 1
        return position, number - self._firsts[position] if position >= 0 else 0

    def __contains__(self, number: int) -> bool:
        position, offset = self._place(number)
        if position < 0:
            return False
        stretch = self._stretches[position]
        return offset < len(stretch) and stretch[offset] is not None

    def __iter__(self) -> Iterator[int]:
        """The numbers, ascending."""
        for first, stretch in zip(self._firsts, self._stretches, strict=True):
            for number, size in enumerate(stretch, first):
                if size is not None:
                    yield number

    def clear(self) -> None:
        """Forget all."""
        self.size = 0
        self._firsts.clear()
        self._stretches.clear()
