"""How many answers of each kind of failure have left, and how inputs that are watched failed."""

from __future__ import annotations

from collections.abc import Iterable

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.frames import ItemFailure

__all__ = ["Failures"]


class Failures:
    """See the module. What went well is never looked at here: it would cost something an input.

    Invariant: what is watched was not forgotten, neither by who watches nor by a `clear`.

    Attributes:
        sent: how many failures left, by kind.
        watched: why each of these inputs failed; None: it has not.
    """

    __slots__ = ("sent", "watched")

    def __init__(self) -> None:
        self.sent: dict[ItemErrorKind, int] = {}
        self.watched: dict[int, ItemErrorKind | None] = {}

    def enter(self, number: int, kind: ItemErrorKind) -> None:
        """An input failed."""
        if number in self.watched:
            self.watched[number] = kind

    def leave(self, failures: Iterable[ItemFailure]) -> None:
        """Failures leave."""
        sent = self.sent
        for failure in failures:
            sent[failure.kind] = sent.get(failure.kind, 0) + 1

    def clear(self) -> None:
        """Nobody reads the answers any more. What has left, has."""
        self.watched.clear()
