"""What one attempt has sent, and what of that lacks an answer.

Invariant: inputs go out in ascending order. They count here from then on until they are answered,
each as it was sent: with what it took to go on with it, and whatever was let go of meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator

from servestream_client.protocol.client.ledger import Ledger
from servestream_client.protocol.frames import Limits
from servestream_client.protocol.runs import Run

__all__ = ["InFlight"]


class InFlight:
    """The inputs of one attempt that its server has, or will have.

    Args:
        ledger: has them all.
    """

    __slots__ = (
        "_ledger",
        "_outrun",
        "_resume_bytes",
        "bytes",
        "first_fresh",
        "items",
        "sent",
        "sent_through",
    )

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._resume_bytes: dict[int, int] = {}  # what it took to go on with it
        self._outrun: dict[int, int] = {}  # see `outran`: the sizes of their payloads
        self.first_fresh: int = ledger.sent_through + 1
        """From this input on, none was sent on an earlier attempt."""
        self.sent: int = 0
        """How many were sent."""
        self.sent_through: int = 0
        """The last one that was sent."""
        self.items: int = 0
        """How many lack an answer."""
        self.bytes: int = 0
        """The same, in bytes."""

    def __iter__(self) -> Iterator[int]:
        """The numbers of those that lack one, ascending."""
        ledger, through = self._ledger, self.sent_through
        for number, _ in ledger.replay:
            if number > through:
                return
            if not ledger.elsewhere(number):
                yield number

    def fitting(self, run: Run, limits: Limits) -> int:
        """How many of a run's inputs, from the first on, the window has room for: one if there are
        no others.
        """
        left = limits.window_bytes - self.bytes
        items, share = limits.window_items, self._ledger.share
        if share is not None:
            items = min(items, share)
        count = min(items - self.items, run.within(left - run.resume_bytes))
        return max(count, self.items == 0 and share != 0)

    def add(self, run: Run, answered: int = 0) -> int:
        """These go out, of which the first so many are answered. Returns how many of them went out
        before, on whatever attempt.
        """
        count = len(run.payloads)
        self.sent += count
        self.sent_through = run.last
        self.items += count - answered
        self.bytes += run.window_bytes - sum(map(len, run.payloads[:answered]))
        if run.resume_bytes:
            self._resume_bytes[run.first] = run.resume_bytes
        return self._ledger.note_sent(run.first, count)

    def outran(self, number: int, size: int) -> None:
        """A lane has answered an input before its server did. It stays in flight until the server's
        answer comes, which is a duplicate; `size` is its payload's.
        """
        self._outrun[number] = size

    def late(self, number: int) -> None:
        """The last answer to an input has come, and is a duplicate."""
        size = self._outrun.pop(number, None)
        if size is not None:
            self.answered(number, 1, size)

    def answered(self, first: int, count: int, size: int) -> None:
        """These, whose payloads had so many bytes together, have their last answer."""
        self.items -= count
        self.bytes -= size
        if self._resume_bytes:
            for number in range(first, first + count):
                self.bytes -= self._resume_bytes.pop(number, 0)
