"""What is said of outputs besides their values."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["NoOutput", "Numbered", "Seam", "SeamKind"]

Out_co = TypeVar("Out_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Numbered(Generic[Out_co]):
    """An output, and to what it belongs.

    Attributes:
        number: of its input: 1, 2, 3 and so on.
        index: which of that input's outputs: 0, 1, 2 and so on.
        output: the output; None where `last` says no more than that there is no further one: of a
            handler with many outputs that may show behind the last of them.
        last: nothing further comes for this input.
    """

    number: int
    index: int
    output: Out_co | None
    last: bool


class NoOutput(Numbered[Out_co]):
    """Says that an input has no further output, and has none itself."""

    __slots__ = ()


class SeamKind(enum.Enum):
    """How outputs of two replicas join."""

    EXACT = "exact"
    """They are what one replica would have given: the handler started at the index, or gave the
    same outputs again, of which a digest was compared."""

    CONTINUED = "continued"
    """The handler went on after the outputs that it was given. Whether it gave what it would have
    given undisturbed is its own affair."""


@dataclass(frozen=True, slots=True)
class Seam:
    """Where a generation was cut and went on.

    Attributes:
        index: of the first output behind it.
        kind: how good it is.
        before: the replica that made the outputs before it.
        after: the replica that made those behind it.
    """

    index: int
    kind: SeamKind
    before: str
    after: str
