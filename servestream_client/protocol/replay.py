"""The replay set: the inputs that lack an answer, which is all that a resume needs."""

from __future__ import annotations

import abc
from collections import deque
from collections.abc import Collection, Iterator, Sequence

__all__ = ["OrderedReplay", "ReplaySet", "UnorderedReplay"]


class ReplaySet(abc.ABC):
    """Unanswered inputs in ascending order, each with what the caller gave for it.

    Attributes:
        size: of their payloads together, in bytes.
    """

    size: int

    @abc.abstractmethod
    def append(
        self, first: int, payloads: Sequence[bytes], items: Sequence[object], size: int
    ) -> None:
        """Add the inputs `first`, `first` + 1 and so on; `size` is that of the payloads."""

    @abc.abstractmethod
    def remove(self, first: int, count: int) -> int:
        """Forget `count` inputs that may be answered now; returns the size of their payloads."""

    @abc.abstractmethod
    def may_answer(self, first: int, count: int = 1) -> bool:
        """Whether all these inputs are unanswered, and it is their turn."""

    @abc.abstractmethod
    def next_of(self, numbers: Collection[int]) -> int | None:
        """Which of some unanswered inputs may be answered now, if any."""

    @property
    @abc.abstractmethod
    def oldest(self) -> int:
        """The unanswered input that was accepted first; 0: there is none."""

    @abc.abstractmethod
    def drop_payload(self, number: int) -> int:
        """Let go of an unanswered input's payload and of what the caller gave for it, since nobody
        will ask for them; returns the payload's size.
        """

    @abc.abstractmethod
    def drop_payloads(self) -> None:
        """The same for all of them."""

    @abc.abstractmethod
    def item(self, number: int) -> object:
        """What the caller gave for an unanswered input."""

    @abc.abstractmethod
    def payload(self, number: int) -> bytes:
        """Of an unanswered input."""

    def payloads(self, first: int, count: int) -> list[bytes]:
        """Of consecutive unanswered inputs."""
        return [self.payload(number) for number in range(first, first + count)]

    @abc.abstractmethod
    def __contains__(self, number: int) -> bool: ...

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Numbers and payloads, ascending."""


class OrderedReplay(ReplaySet):
    """Answers come in the order of the inputs, so those that lack one have no gaps."""

    __slots__ = ("_items", "_payloads", "head", "size")

    def __init__(self) -> None:
        self.size: int = 0
        self.head: int = 1
        """The input whose turn it is."""
        self._payloads: list[bytes] = []
        self._items: list[object] = []

    def append(
        self, first: int, payloads: Sequence[bytes], items: Sequence[object], size: int
    ) -> None:
        del first  # it follows upon the last one
        self._payloads += payloads
        self._items += items
        self.size += size

    def remove(self, first: int, count: int) -> int:
        del first  # it is the head
        size = sum(map(len, self._payloads[:count]))
        del self._payloads[:count]
        del self._items[:count]
        self.head += count
        self.size -= size
        return size

    def payloads(self, first: int, count: int) -> list[bytes]:
        return self._payloads[first - self.head : first - self.head + count]

    def may_answer(self, first: int, count: int = 1) -> bool:
        return first == self.head and count <= len(self._payloads)

    def next_of(self, numbers: Collection[int]) -> int | None:
        return self.head if self.head in numbers else None

    @property
    def oldest(self) -> int:
        return self.head if self._payloads else 0

    def drop_payload(self, number: int) -> int:
        place = number - self.head
        size = len(self._payloads[place])
        self._payloads[place], self._items[place] = b"", None
        self.size -= size
        return size

    def drop_payloads(self) -> None:
        count = len(self._payloads)
        self._payloads, self._items, self.size = [b""] * count, [None] * count, 0

    def item(self, number: int) -> object:
        return self._items[number - self.head]

    def payload(self, number: int) -> bytes:
        return self._payloads[number - self.head]

    def __contains__(self, number: int) -> bool:
        return 0 <= number - self.head < len(self._payloads)

    def __len__(self) -> int:
        return len(self._payloads)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        return enumerate(self._payloads, self.head)


class UnorderedReplay(ReplaySet):
    """Answers come in any order."""

    __slots__ = ("_items", "_payloads", "size")

    def __init__(self) -> None:
        self.size: int = 0
        self._payloads: dict[int, bytes] = {}
        self._items: dict[int, object] = {}

    def append(
        self, first: int, payloads: Sequence[bytes], items: Sequence[object], size: int
    ) -> None:
        numbers = range(first, first + len(payloads))
        self._payloads.update(zip(numbers, payloads, strict=True))
        self._items.update(zip(numbers, items, strict=True))
        self.size += size

    def remove(self, first: int, count: int) -> int:
        numbers = range(first, first + count)
        size = sum(map(len, map(self._payloads.pop, numbers)))
        deque(map(self._items.pop, numbers), maxlen=0)
        self.size -= size
        return size

    def may_answer(self, first: int, count: int = 1) -> bool:
        if count == 1:
            return first in self._payloads
        return all(map(self._payloads.__contains__, range(first, first + count)))

    def next_of(self, numbers: Collection[int]) -> int | None:
        return next(iter(numbers), None)

    @property
    def oldest(self) -> int:
        return next(iter(self._payloads), 0)

    def drop_payload(self, number: int) -> int:
        size = len(self._payloads[number])
        self._payloads[number], self._items[number] = b"", None
        self.size -= size
        return size

    def drop_payloads(self) -> None:
        self._payloads = dict.fromkeys(self._payloads, b"")
        self._items, self.size = dict.fromkeys(self._items), 0

    def item(self, number: int) -> object:
        return self._items[number]

    def payload(self, number: int) -> bytes:
        return self._payloads[number]

    def __contains__(self, number: int) -> bool:
        return number in self._payloads

    def __len__(self) -> int:
        return len(self._payloads)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        # They came in that order, but for numbers of the caller's.
        return iter(sorted(self._payloads.items(), key=_number))


def _number(entry: tuple[int, bytes]) -> int:
    return entry[0]
