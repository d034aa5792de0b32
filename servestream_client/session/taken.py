"""Outputs on their way from a stream's session to its consumer, who takes them one by one.

Invariant: each is acknowledged once, whether it is an input's only one or one of many.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

from servestream_client.outputs import Numbered
from servestream_client.protocol.client import Part
from servestream_client.protocol.frames import OutputRun

__all__ = ["Numbering", "Taken"]


class Taken:
    """See the module.

    Args:
        outputs: what was taken of the session; None: nothing.
    """

    __slots__ = ("_acknowledged", "_outputs", "rest")

    def __init__(self, outputs: OutputRun | Part | None = None) -> None:
        self._outputs: OutputRun | Part = outputs or OutputRun(0, ())
        self._acknowledged = 0
        self.rest: Iterator[bytes] = iter(self._outputs.payloads)
        """The payloads that the consumer has not taken."""

    def __bool__(self) -> bool:
        """Whether there ever was anything."""
        return bool(self._outputs.payloads)

    @property
    def many(self) -> bool:
        """Whether these are outputs of one input, which may have more."""
        return isinstance(self._outputs, Part)

    @property
    def _count(self) -> int:
        """How many the consumer has taken."""
        return len(self._outputs.payloads) - operator.length_hint(self.rest)

    def place(self) -> tuple[int, int, bool]:
        """Of the last one taken: its input's number, its index, and whether it is the last of that
        input.
        """
        offset, outputs = self._count - 1, self._outputs
        if isinstance(outputs, OutputRun):
            return outputs.first_number + offset, 0, True
        last = outputs.last and offset + 1 == len(outputs.payloads)
        return outputs.number, outputs.first_index + offset, last

    def unacknowledged(self) -> OutputRun | Part:
        """What the consumer has taken since the last call; it is to be acknowledged."""
        outputs, first = self._outputs, self._acknowledged
        self._acknowledged = end = self._count
        payloads = outputs.payloads[first:end]
        if isinstance(outputs, OutputRun):
            return OutputRun(outputs.first_number + first, payloads)
        last = outputs.last and first < end == len(outputs.payloads)
        return Part(outputs.number, outputs.first_index + first, payloads, last)


class Numbering:
    """Decodes outputs, and says to what they belong. It does not know the stream, which would wait
    for the garbage collector then.

    Attributes:
        taken: what the outputs are from.
    """

    __slots__ = ("_decode", "_number", "taken")

    def __init__(self, decode: Callable[[bytes], Any], number: Callable[[int], int]) -> None:
        self.taken: Taken = Taken()
        self._decode = decode
        self._number = number

    def __call__(self, payload: bytes) -> Any:  # noqa: ANN401 — `Numbered` of whatever
        number, index, last = self.taken.place()
        return Numbered(self._number(number), index, self._decode(payload), last=last)
