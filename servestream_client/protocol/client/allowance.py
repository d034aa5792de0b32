"""What one attempt's server may send: docs/protocol.md, sections 7 and 18.

Invariant: what is under way and what the consumer has not taken is never more than the budgets
allow: of all inputs together, or, once the server is known to keep to it, of each single one, whose
budgets then add up to the others.
"""

from __future__ import annotations

from collections.abc import Sequence

from servestream_client.protocol.client.delivery import DeliveryQueue
from servestream_client.protocol.client.input_credits import InputCredits
from servestream_client.protocol.credit import CreditGrant
from servestream_client.protocol.frames import Credit, InputCredit
from servestream_client.protocol.runs import Run

__all__ = ["Allowance"]

_NOTHING = Credit()


class Allowance:
    """The credit of one attempt.

    Args:
        delivery: what came, and was not taken.
    """

    __slots__ = ("_delivery", "_inputs", "_together")

    def __init__(self, delivery: DeliveryQueue) -> None:
        self._delivery = delivery
        self._together = CreditGrant(delivery.budget)
        self._inputs: InputCredits | None = None
        delivery.on_taken = None

    def begin_each(self, budget: Credit) -> None:
        """From now on each input has its own credit, beside that of all."""
        self._inputs = InputCredits(budget, self._delivery.held_of)
        self._delivery.on_taken = self._inputs.taken

    @property
    def of_each(self) -> bool:
        """Whether each input has its own."""
        return self._inputs is not None

    @property
    def received_outputs(self) -> int:
        """How many came, duplicates included."""
        return self._together.received_outputs

    # ---------------------------------------------------------------- single inputs

    def begin(self, run: Run) -> Credit | None:
        """Inputs go out. Returns with what credit the first one begins, if not with the usual."""
        inputs = self._inputs
        if inputs is None:
            return None
        for number in range(run.first + 1, run.last + 1):
            inputs.begin(number, 0)
        return inputs.begin(run.first, run.start_index)

    def forget(self, first: int, count: int = 1) -> None:
        """These inputs are answered, or nobody wants them: nothing more is granted to them."""
        if self._inputs is not None:
            for number in range(first, first + count):
                self._inputs.forget(number)

    def exhausted(self, number: int) -> bool:
        """Whether a server has sent all that it may of an input."""
        return self._inputs is not None and not self._inputs.has_credit(number)

    # ---------------------------------------------------------------- what comes

    def receive_all(self, sizes: Sequence[int]) -> None:
        """The outputs of one frame came, new or duplicate; their sizes in bytes.

        Raises:
            RemoteProtocolError: the server had no credit for them.
        """
        self._together.receive_all(sizes)

    def receive(self, number: int, first_index: int, payloads: Sequence[bytes]) -> None:
        """These of them are consecutive ones of one input.

        Raises:
            RemoteProtocolError: the input had no credit for them.
        """
        if self._inputs is not None:
            self._inputs.receive(number, first_index, list(map(len, payloads)))

    # ---------------------------------------------------------------- what is granted

    @property
    def due(self) -> bool:
        """Whether a frame for credit alone is worth its cost."""
        delivery = self._delivery
        if self._inputs is None:
            return self._together.due(delivery.held, grant_one=delivery.head_of_line_blocked)
        return self._together.due(_NOTHING) or self._inputs.due

    def grant(self) -> Credit:
        """Note that the frame now being made carries this total, for all inputs together."""
        # Where each has its own, that is what bounds them, and one whose consumer has stopped is
        # not to use up what others need.
        return self._together.grant(self._delivery.held if self._inputs is None else _NOTHING)

    def grant_each(self) -> Sequence[InputCredit]:
        """The same for single inputs, as far as it is worth while."""
        return () if self._inputs is None else self._inputs.grant()
