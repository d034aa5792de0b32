"""The credit of single inputs on one attempt: docs/protocol.md, section 18.

Invariant: no total ever falls; of what a server may send of an input and what the consumer has not
taken of it, there is never more than the limits allow, but for one output that exceeds the bytes.
What concerns an input is forgotten with its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from servestream_client.errors import RemoteProtocolError
from servestream_client.protocol.frames import Credit, InputCredit

__all__ = ["InputCredits"]

MOST_GRANTS = 1024
"""In one frame; the others follow in the next."""


class _Totals:
    """Of one input: what came on this attempt, and what was granted."""

    __slots__ = ("bytes", "granted_bytes", "granted_outputs", "index")

    def __init__(self, index: int, granted_outputs: int, granted_bytes: int) -> None:
        self.index = index
        self.bytes = 0
        self.granted_outputs = granted_outputs
        self.granted_bytes = granted_bytes


class InputCredits:
    """What a server may send of each input.

    Args:
        budget: outputs and bytes that may be held of one input.
        held: how many outputs of an input, and how many bytes, its consumer has not taken.
    """

    __slots__ = ("_budget", "_changed", "_due", "_held", "_totals")

    def __init__(self, budget: Credit, held: Callable[[int], Credit]) -> None:
        self._budget = budget
        self._held = held
        self._totals: dict[int, _Totals] = {}
        self._changed: set[int] = set()  # of which something was taken since it was looked at
        self._due: dict[int, None] = {}  # whose totals could rise by half

    def begin(self, number: int, start_index: int) -> Credit | None:
        """An input goes out. Returns the credit with which it begins, where that is not the limits'
        own.
        """
        held = self._held(number)
        outputs = start_index + max(0, self._budget.outputs - held.outputs)
        size = max(0, self._budget.bytes - held.bytes)
        self._totals[number] = _Totals(start_index, outputs, size)
        return Credit(outputs, size) if held.outputs else None

    def receive(self, number: int, first_index: int, sizes: Sequence[int]) -> None:
        """Outputs of an input came, new or duplicate.

        Raises:
            RemoteProtocolError: the server had no credit for them.
        """
        totals = self._totals.get(number)
        if totals is None or not sizes:
            return  # whether there is such an input is looked at elsewhere
        before = sum(sizes[:-1])
        end = first_index + len(sizes)
        if end > totals.granted_outputs or totals.bytes + before >= totals.granted_bytes:
            raise RemoteProtocolError(
                f"output beyond the credit of input {number}: {totals.granted_outputs} outputs and"
                f" {totals.granted_bytes} bytes"
            )
        totals.index = max(totals.index, end)
        totals.bytes += before + sizes[-1]
        self._changed.add(number)

    def forget(self, number: int) -> None:
        """An input is answered, or nobody wants it: nothing more is granted."""
        self._totals.pop(number, None)
        self._changed.discard(number)
        self._due.pop(number, None)

    def taken(self, number: int) -> None:
        """The consumer has taken something of an input."""
        if number in self._totals:
            self._changed.add(number)

    def has_credit(self, number: int) -> bool:
        """Whether the server may send an output of an input that it has."""
        totals = self._totals.get(number)
        return totals is None or (
            totals.index < totals.granted_outputs and totals.bytes < totals.granted_bytes
        )

    @property
    def due(self) -> bool:
        """Whether a frame for this alone is worth its cost."""
        if self._changed:
            for number in self._changed:
                totals = self._totals[number]
                outputs, size = self._allowed(number, totals)
                if (outputs - totals.granted_outputs) * 2 >= self._budget.outputs or (
                    size - totals.granted_bytes
                ) * 2 >= self._budget.bytes:
                    self._due[number] = None
            self._changed.clear()
        return bool(self._due)

    def grant(self) -> list[InputCredit]:
        """Note that the frame now being made carries these, and return them."""
        if not self.due:
            return []
        granted: list[InputCredit] = []
        for number in list(self._due)[:MOST_GRANTS]:
            del self._due[number]
            totals = self._totals[number]
            outputs, size = self._allowed(number, totals)
            totals.granted_outputs = max(totals.granted_outputs, outputs)
            totals.granted_bytes = max(totals.granted_bytes, size)
            granted.append(InputCredit(number, totals.granted_outputs, totals.granted_bytes))
        return granted

    def _allowed(self, number: int, totals: _Totals) -> tuple[int, int]:
        held, budget = self._held(number), self._budget
        return (
            totals.index + max(0, budget.outputs - held.outputs),
            totals.bytes + max(0, budget.bytes - held.bytes),
        )
