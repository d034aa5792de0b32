"""What must never happen, and how it is noticed: nothing in here knows of Ray or of the client."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from chaos.items import BEGINNING, Answer, follow, payload, read

__all__ = ["StreamCheck", "Violation", "Violations"]

MOST_DETAILS = 200
"""Violations that are kept in words. Beyond, they are counted: one bug may yield a million."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that must not happen.

    Attributes:
        kind: lost, duplicated, out of order, foreign, wrong content, failed, hung and so on.
        stream: whose, in words.
        detail: what exactly.
        seconds: since the run began.
        state: of whatever hangs.
    """

    kind: str
    stream: str
    detail: str
    seconds: float
    state: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.seconds:7.1f} s  {self.kind}: {self.stream}: {self.detail}"


class Violations:
    """The violations of a run.

    Args:
        clock: seconds since it began.
    """

    def __init__(self, clock: Callable[[], float] = lambda: 0.0) -> None:
        self.counts: Counter[str] = Counter()
        self.details: list[Violation] = []
        self._clock = clock

    def add(self, kind: str, stream: str, detail: str, state: dict[str, str] | None = None) -> None:
        """Note one."""
        self.counts[kind] += 1
        if len(self.details) < MOST_DETAILS:
            self.details.append(Violation(kind, stream, detail, self._clock(), state or {}))

    def __len__(self) -> int:
        return self.counts.total()


class StreamCheck:
    """Compares the answers of one stream with its inputs, as they come.

    Args:
        tag: of the stream, that its inputs carry.
        name: of the stream, in words.
        ordered: whether the answers must come in the order of the inputs.
        violations: where to note what is wrong.
        stateful: whether a state stands behind each answer.
    """

    def __init__(
        self, tag: int, name: str, *, ordered: bool, violations: Violations, stateful: bool = False
    ) -> None:
        self.tag = tag
        self.name = name
        self.ordered = ordered
        self.taken = 0
        """Answers of any kind."""
        self.oldest = 1
        """The lowest number that is not answered."""
        self._violations = violations
        self._state = BEGINNING if stateful else b""  # behind the last answer
        self._last = 0
        self._answered = bytearray(1)  # by number; the first number is 1

    def take(self, output: bytes, pulled: int) -> Answer | None:
        """Check one answer, and give back what it says; None: it is none of this stream's.

        Args:
            output: as it came.
            pulled: how many inputs have been given to the stream by now.
        """
        self.taken += 1
        end = len(output) - len(self._state)
        try:
            found = read(output[:end])
        except struct.error:
            self._wrong("wrong content", f"{len(output)} bytes that are no answer")
            return None
        number = found.number
        if found.stream != self.tag or not 1 <= number <= pulled:
            self._wrong("foreign", f"an answer to input {number} of {found.stream:x}")
            return None
        if found.crc != zlib.crc32(payload(self.tag, number)):
            self._wrong("wrong content", f"the checksum of input {number} differs")
        if self._state:
            self._state = follow(self._state, payload(self.tag, number))
            if output[end:] != self._state:
                self._wrong("wrong state", f"behind input {number}")
        self._count(number)
        return found

    def _count(self, number: int) -> None:
        answered = self._answered
        if number >= len(answered):
            answered.extend(bytes(max(number + 1 - len(answered), len(answered))))
        if answered[number]:
            self._wrong("duplicated", f"input {number} is answered again")
            return
        answered[number] = 1
        # A hole is no disorder yet: what it lacks comes late, or is lost in the end.
        if self.ordered and number < self._last:
            self._wrong("out of order", f"input {number} after {self._last}")
        self._last = number
        while self.oldest < len(answered) and answered[self.oldest]:
            self.oldest += 1

    def end(self, pulled: int) -> None:
        """The stream says that it is complete: every input must be answered."""
        answered = self._answered
        lost = [n for n in range(self.oldest, pulled + 1) if n >= len(answered) or not answered[n]]
        for number in lost:
            self._wrong("lost", f"input {number} of {pulled}")

    def _wrong(self, kind: str, detail: str) -> None:
        self._violations.add(kind, self.name, detail)
