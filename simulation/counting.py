"""What is counted of inputs with many outputs, and of users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from servestream_client.outputs import SeamKind

__all__ = [
    "APART",
    "COUNTED",
    "DEATHS",
    "GENERATORS",
    "PARKED",
    "RESUMES",
    "STATES",
    "Counting",
    "seams_of",
]

T = TypeVar("T")

GENERATORS = "generators that ran"
RESUMES = "inputs that went on at another server"
PARKED = "inputs that were parked"
APART = "inputs of streams that went on apart"
DEATHS = "users that died and came back with a cursor"
STATES = "states of stateful streams that clients got"


def seams_of(kind: SeamKind) -> str:
    """The name under which seams of a kind are counted, those that readers of `generate` saw."""
    return f"seams: {kind.value}"


COUNTED: Sequence[str] = (
    GENERATORS,
    RESUMES,
    *map(seams_of, SeamKind),
    PARKED,
    APART,
    DEATHS,
    STATES,
)


class Counting(set[T]):
    """A set that knows how often something was added."""

    def __init__(self) -> None:
        super().__init__()
        self.added: int = 0

    def add(self, element: T, /) -> None:
        self.added += 1
        super().add(element)
