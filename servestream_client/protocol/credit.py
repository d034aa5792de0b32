"""Output credit: what a server may send, as totals of an attempt (docs/protocol.md, section 7)."""

from __future__ import annotations

from collections.abc import Sequence

from servestream_client.errors import RemoteProtocolError
from servestream_client.protocol.frames import Credit


class CreditGrant:
    """The client's side of one attempt: what came, and what the server was told it may send."""

    __slots__ = ("_budget", "_granted", "_received_bytes", "_received_outputs")

    def __init__(self, budget: Credit) -> None:
        self._budget = budget
        self._granted = Credit()
        self._received_outputs = 0
        self._received_bytes = 0

    def receive(self, size: int) -> None:
        """An output of `size` bytes came, new or duplicate.

        Raises:
            RemoteProtocolError: the server had no credit for it. The last output that fits may
                exceed the credit in bytes.
        """
        if (
            self._received_outputs >= self._granted.outputs
            or self._received_bytes >= self._granted.bytes
        ):
            raise RemoteProtocolError(
                f"output beyond the credit of {self._granted.outputs} outputs and"
                f" {self._granted.bytes} bytes"
            )
        self._received_outputs += 1
        self._received_bytes += size

    def receive_all(self, sizes: Sequence[int]) -> None:
        """The outputs of one frame came, new or duplicate; their sizes in bytes.

        Which of a frame's outputs the server counted last, and let exceed the credit, does not
        show: it may have been the largest (docs section 7).

        Raises:
            RemoteProtocolError: the server had no credit for them.
        """
        total = sum(sizes)
        if (
            self._received_outputs + len(sizes) <= self._granted.outputs
            and self._received_bytes + total < self._granted.bytes
        ):
            self._received_outputs += len(sizes)
            self._received_bytes += total
            return
        for size in sorted(sizes):
            self.receive(size)

    @property
    def received_outputs(self) -> int:
        return self._received_outputs

    def total(self, held: Credit) -> Credit:
        """The total to grant while `held` outputs and bytes wait for the consumer."""
        return Credit(
            max(
                self._granted.outputs,
                self._received_outputs + max(0, self._budget.outputs - held.outputs),
            ),
            max(
                self._granted.bytes,
                self._received_bytes + max(0, self._budget.bytes - held.bytes),
            ),
        )

    def due(self, held: Credit, *, grant_one: bool = False) -> bool:
        """Whether a frame for credit alone is worth its cost: half the budget became free.

        Args:
            held: outputs and bytes that wait for the consumer.
            grant_one: credit for a single output is worth it, where there is none.
        """
        if grant_one and (
            self._granted.outputs <= self._received_outputs
            or self._granted.bytes <= self._received_bytes
        ):
            return True
        free_outputs = self._received_outputs + self._budget.outputs - held.outputs
        free_bytes = self._received_bytes + self._budget.bytes - held.bytes
        return (free_outputs - self._granted.outputs) * 2 >= self._budget.outputs or (
            free_bytes - self._granted.bytes
        ) * 2 >= self._budget.bytes

    def grant(self, held: Credit) -> Credit:
        """Note that the frame now being made carries the present total, and return it."""
        self._granted = self.total(held)
        return self._granted


class CreditBalance:
    """The server's side of one attempt: what it was granted, and what it used."""

    __slots__ = ("_bytes", "_granted", "_outputs")

    def __init__(self) -> None:
        self._granted = Credit()
        self._outputs = 0
        self._bytes = 0

    @property
    def outputs_sent(self) -> int:
        return self._outputs

    def raise_to(self, total: Credit) -> None:
        """The client granted this total; one that came late changes nothing."""
        self._granted = Credit(
            max(self._granted.outputs, total.outputs), max(self._granted.bytes, total.bytes)
        )

    @property
    def allows_output(self) -> bool:
        """Whether one more output, of whatever size, may go out."""
        return self._outputs < self._granted.outputs and self._bytes < self._granted.bytes

    @property
    def left(self) -> Credit:
        """What may still go out; the last output may exceed the bytes."""
        return Credit(
            max(0, self._granted.outputs - self._outputs),
            max(0, self._granted.bytes - self._bytes),
        )

    def spend(self, size: int, outputs: int = 1) -> None:
        """Outputs of `size` bytes together go out."""
        self._outputs += outputs
        self._bytes += size
