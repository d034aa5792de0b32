"""The names by which the rooms above ask for what one part of a session knows.

No rule stands here, and no state besides the parts: each name passes on to one of them. Remove a
name when no module outside this package uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from servestream_client.protocol.client.attempt import Attempt
from servestream_client.protocol.client.delivery import Delivery, DeliveryQueue
from servestream_client.protocol.client.ledger import Ledger
from servestream_client.protocol.frames import Coming, ItemFailure, OutputRun

__all__ = ["Face"]


class Face:
    """A stream's parts. The session puts the attempt under way among them.

    Args:
        ledger: its inputs.
        delivery: the answers that its consumer has not taken.
    """

    def __init__(self, ledger: Ledger, delivery: DeliveryQueue) -> None:
        self.ledger: Ledger = ledger
        self.delivery: DeliveryQueue = delivery
        self._attempt: Attempt | None = None
        self.fits: Callable[[int], bool] = ledger.fits  # not passed on: it is asked for each item
        """Whether an input of so many bytes may be pushed now; one is allowed whatever its size."""

    # ---------------------------------------------------------------- the ledger

    @property
    def has_place(self) -> bool:
        """Whether the user's iterator may be pulled for one more input (docs section 6)."""
        return self.ledger.has_place

    @property
    def room(self) -> tuple[int, int]:
        """How many inputs, and of how many bytes together, may be pushed now. See `fits`."""
        return self.ledger.room

    def finish(self) -> None:
        """No further inputs will come."""
        self.ledger.finish()

    def is_cancelled(self, number: int) -> bool:
        """Whether nobody wants the outputs of this input any more."""
        return self.ledger.is_cancelled(number)

    def payload(self, number: int) -> bytes:
        """Of an unanswered input; empty if it was cancelled."""
        return self.ledger.payload(number)

    @property
    def accepted(self) -> int:
        """How many inputs were pushed."""
        return self.ledger.accepted

    @property
    def unanswered(self) -> int:
        """How many inputs still lack their last output."""
        return len(self.ledger.replay)

    @property
    def unsent(self) -> int:
        """How many unanswered inputs were never sent."""
        return self.ledger.unsent

    @property
    def sent_through(self) -> int:
        """Every input up to this one was sent at least once, or failed on this side."""
        return self.ledger.sent_through

    @property
    def taken_through(self) -> int:
        """Every input up to this one is answered, and its outputs were taken."""
        return self.ledger.taken_through

    @property
    def complete(self) -> bool:
        """Every input there will ever be is answered. Outputs may still wait to be taken."""
        return self.ledger.complete

    @property
    def known_good(self) -> tuple[int, bytes] | None:
        """The first input that a server answered: one that breaks no server."""
        return self.ledger.known_good

    def drop_inputs(self) -> None:
        """There will be no further attempt: of the inputs that lack an answer, only the numbers are
        kept, for those who count them.
        """
        self.ledger.strip()

    # ---------------------------------------------------------------- the delivery queue

    @property
    def ready(self) -> bool:
        """Whether `take` may have something."""
        return bool(self.delivery.ready)

    @property
    def failed(self) -> list[ItemFailure]:
        """Inputs that failed since somebody last emptied this list, each as soon as it is known,
        though it may be delivered later.
        """
        return self.delivery.failed

    @failed.setter
    def failed(self, failed: list[ItemFailure]) -> None:
        self.delivery.failed = failed

    def take(self) -> Delivery | None:
        """What comes next for the consumer, or None while nothing is there."""
        return self.delivery.take()

    def take_run(self, limit: int) -> OutputRun | None:
        """The next outputs at once, at most `limit`, if they are single outputs of consecutive
        inputs; otherwise None.

        They count as held until they are given to `ack_consumed`.
        """
        return self.delivery.take_run(limit)

    def ack_consumed(self, run: OutputRun) -> None:
        """The consumer has taken these outputs of `take_run`."""
        self.delivery.ack_consumed(run)

    def can_buffer_isolated(self, number: int, under_way: int) -> bool:
        """Whether an answer to this input, which is in quarantine, may come now, with so many
        others under way: within the output budget, or alone where the consumer waits for it.
        """
        return self.delivery.can_buffer_isolated(number, under_way)

    def drop_outputs(self) -> None:
        """The consumer takes nothing any more."""
        self.delivery.drop_all()

    # ---------------------------------------------------------------- the attempt under way

    @property
    def progressed(self) -> bool:
        """Whether the present attempt brought anything new."""
        return self._attempt is not None and self._attempt.progressed

    @property
    def silent(self) -> bool:
        """Whether the present attempt's server was not heard for too long (docs section 12)."""
        return self._attempt is not None and self._attempt.pulse.dead

    @property
    def awaited(self) -> Coming | None:
        """What the present attempt's server has announced, until it comes (docs section 12)."""
        return self._attempt.awaited if self._attempt is not None else None

    @property
    def overdue(self) -> int:
        """The input on which the server, by its own word, works for longer than it may without
        letting go of it; 0: there is none.
        """
        return self._attempt.overdue if self._attempt is not None else 0

    @property
    def suspects(self) -> Sequence[int]:
        """What the present attempt's server has got, as far as it was sent, and not answered; or
        of that the one that does not end.
        """
        if self._attempt is None:
            return ()
        return (self.overdue,) if self.overdue else self._attempt.suspects

    def crowd(self) -> None:
        """Other calls' bytes are about to go ahead of what goes next: the server is to know."""
        if self._attempt is not None:
            self._attempt.crowded = True

    def tick(self, beside: int = 0, *, free: bool = True) -> None:
        """Half of the heartbeat interval has passed, or more: look at `silent`, and at
        `next_frame`.

        Args:
            beside: bytes that come for other calls, ahead of what comes for this one.
            free: no large frame of another call goes, ahead of what goes for this one.
        """
        if self._attempt is not None:
            self._attempt.tick(beside, free=free)
