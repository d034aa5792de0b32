"""What of a stream goes on lanes, and what comes back from there: docs/protocol.md, section 19.

Invariant: an input that was taken is *elsewhere* in the ledger until its last answer is given, and
a single answer that is to come has a place in the stream's budget of outputs. One that was lent has
two who may answer it: the first does, and what the other says is a duplicate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from servestream_client.protocol.client.deliveries import Part
from servestream_client.protocol.client.session import ClientSession
from servestream_client.protocol.frames import ItemFailure
from servestream_client.protocol.runs import Run, RunQueue
from servestream_client.protocol.states import ClientState

__all__ = ["LaneShare"]


class LaneShare:
    """The lanes' part of one stream.

    Args:
        session: the stream's.
    """

    __slots__ = ("_delivery", "_ledger", "_session")

    def __init__(self, session: ClientSession) -> None:
        self._session = session
        self._ledger = session.ledger
        self._delivery = session.delivery

    # ---------------------------------------------------------------- how much there is for whom

    @property
    def carried(self) -> int:
        """How many inputs the stream's own attempt has in flight."""
        attempt = self._session.attempt
        return 0 if attempt is None else attempt.in_flight.items

    @property
    def stateful(self) -> bool:
        """Whether no lane can have any: each input needs the state that the one before has left."""
        return self._ledger.fold is not None

    def bound(self, inputs: int | None) -> None:
        """Have the stream's own attempts carry so many inputs at the most; None: as many as their
        server takes.
        """
        self._ledger.share = inputs

    def reserve(self, answers: int) -> None:
        """So many answers are to come from lanes."""
        self._delivery.reserved = answers

    def room_for(self, number: int) -> int:
        """For how many more answers there is room, besides those that are to come from lanes and
        for what the stream's own attempt has in flight.

        Args:
            number: the first input that would be answered: if the consumer waits for it, there is
                room for it in any case.
        """
        delivery = self._delivery
        under_way = self.carried + delivery.reserved
        left = delivery.budget.outputs - delivery.held_outputs - under_way
        if left > 0 and delivery.held_bytes < delivery.budget.bytes:
            return left
        # What others have may lack credit until this one is answered.
        return int(delivery.waits_for(number))

    def has_room_for(self, number: int) -> bool:
        """Whether outputs of an input that may have many can come now, within the budget of what is
        held and not taken: those that are under way have credit of their own.
        """
        delivery = self._delivery
        full = delivery.full or delivery.held_bytes >= delivery.budget.bytes
        return not full or delivery.waits_for(number)

    @property
    def next(self) -> int:
        """The input that waits longest; 0: none does."""
        queue = self._unsent(1)
        with self._begun_stays(queue):
            return queue.head.first if queue else 0

    @property
    def waiting(self) -> int:
        """How many inputs may go on lanes: those beyond what the stream's own attempt carries, and
        all while it is without a server.
        """
        ledger, attempt = self._ledger, self._session.attempt
        if ledger.share is None or self._session.welcome is None:
            return 0
        if attempt is None:
            return len(ledger.replay) - len(ledger.decided) - len(ledger.quarantined)
        own = 0
        if self._session.state is ClientState.STREAMING:
            own = max(0, ledger.share - attempt.in_flight.items)
        return max(0, attempt.unsent.count - max(own, self._begun))

    # ---------------------------------------------------------------- out, and back

    def take(self, count: int, size: int) -> tuple[int, Sequence[bytes]] | None:
        """Have a lane answer the inputs that wait longest: they go on no attempt.

        Args:
            count: how many at the most, at least one; see `waiting`.
            size: of how many bytes together at the most; one may have more.

        Returns:
            The first one's number and the payloads, of inputs that follow upon one another; None:
            there is none.
        """
        queue = self._unsent(count)
        with self._begun_stays(queue):
            if not queue or queue.head.start_index:
                return None
            run = queue.take(min(count, max(1, queue.head.within(size))))
        self._leaves(run)
        return run.first, run.payloads

    def take_one(self) -> int:
        """Have a lane answer the input that waits longest, of which outputs may have come.

        Returns:
            Its number; 0: there is none.
        """
        queue = self._unsent(1)
        with self._begun_stays(queue):
            if not queue:
                return 0
            run = queue.take(1)
        self._leaves(run)
        return run.first

    @property
    def _begun(self) -> bool:
        """Whether the input that waits longest has left in part, and the rest of it may."""
        attempt = self._session.attempt
        return attempt is not None and attempt.cuts.begun and self._ledger.share != 0

    @contextmanager
    def _begun_stays(self, queue: RunQueue) -> Iterator[None]:
        """What has begun to leave, in chunks, is no lane's: it would begin anew there."""
        if not self._begun:
            yield
            return
        begun = queue.take(1)
        try:
            yield
        finally:
            queue.put_back(begun)

    def _leaves(self, run: Run) -> None:
        ledger, counters = self._ledger, self._session.counters
        ledger.quarantined.update(range(run.first, run.last + 1))
        ledger.lent.difference_update(range(run.first, run.last + 1))
        replayed = ledger.note_sent(run.first, len(run.payloads))
        counters.replayed += replayed
        counters.sent += len(run.payloads) - replayed

    def _unsent(self, count: int) -> RunQueue:
        """What waits, at least so many of it, if there are so many."""
        if self._session.attempt is not None:
            return self._session.attempt.unsent
        queue = RunQueue()
        for run in self._ledger.resume():
            queue.append(run)
            if queue.count >= count:
                break
        return queue

    def lend(self, number: int, count: int) -> int:
        """Have a lane answer inputs as well that the stream's own attempt has in flight. None is
        lent that was sent on an earlier attempt: it may be what broke that one's server.

        Args:
            number: the first of them.
            count: how many at the most, of those that follow upon one another.

        Returns:
            How many were.
        """
        ledger, attempt = self._ledger, self._session.attempt
        if attempt is None or self._session.state is not ClientState.STREAMING:
            return 0
        lent, in_flight = 0, attempt.in_flight
        while (
            lent < count
            and in_flight.first_fresh <= number + lent <= in_flight.sent_through
            and ledger.carries(number + lent)
            and number + lent not in ledger.lent
            and number + lent not in ledger.partials
            and not ledger.is_cancelled(number + lent)
        ):
            ledger.lent.add(number + lent)
            lent += 1
        return lent

    def take_back(self, number: int) -> None:
        """No lane answers an input that was lent."""
        self._ledger.lent.discard(number)

    @property
    def oldest(self) -> int:
        """The unanswered input that was accepted first; 0: there is none."""
        return self._ledger.replay.oldest

    def owed(self, number: int) -> bool:
        """Whether a lane's answer to an input that was taken, or lent, would be the first."""
        return number in self._ledger.quarantined or number in self._ledger.lent

    def lanes_alone(self, number: int) -> bool:
        """Whether nobody but lanes answers an input."""
        return number in self._ledger.quarantined

    def payload(self, number: int) -> bytes:
        """Of an input that was taken, or lent."""
        return self._ledger.payload(number)

    def _claim(self, number: int) -> None:
        """A lane has answered an input: if it was lent, nobody else does."""
        ledger, attempt = self._ledger, self._session.attempt
        if number in ledger.lent:
            ledger.lent.discard(number)
            ledger.quarantined.add(number)
            if attempt is None:
                return
            if number > attempt.in_flight.sent_through:
                attempt.unsent.remove(number)
                return
            attempt.in_flight.outran(number, ledger.size_sent(number))
            attempt.cancelled.add(number)
            attempt.allowance.forget(number)

    def resolve(self, first: int, payloads: Sequence[bytes]) -> None:
        """The outputs of consecutive inputs that were taken, or lent."""
        if self._ledger.lent:
            for number in range(first, first + len(payloads)):
                self._claim(number)
        resolved = self._delivery.resolve_run(first, payloads)
        self._session.counters.by_lanes += resolved
        self._session.counters.outside += resolved

    def fail(self, number: int, failure: ItemFailure) -> None:
        """Why there is none of an input that was taken, or lent."""
        self._claim(number)
        resolved = self._delivery.resolve_quarantined(number, None, failure)
        self._session.counters.by_lanes += resolved
        self._session.counters.outside += resolved

    def resolve_part(self, part: Part) -> None:
        """Outputs of an input that was taken, which may have many, in their order."""
        if self._delivery.resolve_part(part):
            self._session.counters.by_lanes += part.last
            self._session.counters.outside += len(part.payloads)

    def resolve_end(self, number: int, index: int) -> None:
        """So many outputs, and no further one, are the answer to an input that was taken."""
        self._session.counters.by_lanes += self._delivery.resolve_end(number, index)
