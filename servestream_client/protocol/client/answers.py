"""What a server answers: checked, counted, and put into the delivery queue.

`is_new` is "what the client makes of an answer" (docs/protocol.md, section 6), rule by rule. A run
of plain answers, which is nearly all there ever is, is taken in as a whole; whatever else comes
goes item by item through the same rules.
"""

from __future__ import annotations

from servestream_client.errors import FrameLostError, RemoteProtocolError
from servestream_client.protocol.client.attempt import Attempt
from servestream_client.protocol.client.counters import ClientCounters
from servestream_client.protocol.client.delivery import DeliveryQueue
from servestream_client.protocol.client.ledger import Ledger
from servestream_client.protocol.frames import ItemFailure, OutputPart, OutputRun, ServerFrame

__all__ = ["AnswerReceiver", "is_new"]


def is_new(ledger: Ledger, attempt: Attempt, number: int, index: int) -> bool:
    """Whether an answer to this input, of this index, is new, or else a duplicate.

    Raises:
        RemoteProtocolError: there is no such input.
        FrameLostError: something before this answer is missing.
    """
    # 1. The number was never accepted from the user.
    if not 1 <= number <= ledger.accepted:
        raise RemoteProtocolError(f"an answer to input {number}, which was never sent")
    # 2. The input is answered already, be it that its answer waits for its turn.
    if number not in ledger.replay or ledger.decided.get(number, False):
        return False
    # 3. It was not sent on this attempt.
    if number > attempt.sent_through or ledger.elsewhere(number):
        raise RemoteProtocolError(
            f"an answer to input {number}, which was not sent on this attempt"
        )
    # 4. The index is below the next one that is missing.
    next_index = ledger.next_index.get(number, 0)
    if index < next_index:
        return False
    # 5. It is above it.
    if index > next_index:
        raise FrameLostError(
            f"a gap: output {index} of input {number} came before output {next_index}"
        )
    # 6. Ordered, and an earlier input is unanswered.
    if ledger.ordered and number != attempt.turn():
        raise FrameLostError(
            f"a gap: an answer to input {number} came before one to an earlier input"
        )
    # 7. New.
    return True


class AnswerReceiver:
    """Takes in what the servers of one stream answer.

    Args:
        delivery: where answers go; its ledger has the inputs.
        counters: of the stream.
        item_bytes: the largest output that the client accepts.
    """

    __slots__ = ("_counters", "_delivery", "_item_bytes", "_ledger")

    def __init__(self, delivery: DeliveryQueue, counters: ClientCounters, item_bytes: int) -> None:
        self._delivery = delivery
        self._ledger = delivery.ledger
        self._counters = counters
        self._item_bytes = item_bytes

    def receive(self, attempt: Attempt, frame: ServerFrame) -> None:
        """The answers in a frame that came on `attempt`.

        Raises:
            RemoteProtocolError: one breaks the protocol; what came before it is taken in.
        """
        if frame.tokens:
            raise RemoteProtocolError("a state token from a handler that is not stateful")
        answers: list[OutputRun | OutputPart | ItemFailure] = [
            *frame.outputs,
            *frame.parts,
            *frame.errors,
        ]
        attempt.grant.receive_all(_sizes(frame))
        if self._ledger.ordered and len(answers) > 1:
            answers.sort(key=_place)
        for answer in answers:
            if isinstance(answer, OutputRun):
                self._receive_run(attempt, answer)
            elif isinstance(answer, OutputPart):
                self._receive_part(attempt, answer)
            else:
                self._receive_failure(attempt, answer)

    def _receive_run(self, attempt: Attempt, run: OutputRun) -> None:
        first, payloads = run.first_number, run.payloads
        count, size = len(payloads), sum(map(len, payloads))
        if size > self._item_bytes or not self._all_new(attempt, first, count):
            for number, payload in enumerate(payloads, first):
                self._receive_output(attempt, number, 0, payload, last=True)
            return
        self._counters.received += count
        attempt.progressed = True
        self._delivery.add_run(first, payloads, size)
        self._answered(attempt, first, count)

    def _all_new(self, attempt: Attempt, first: int, count: int) -> bool:
        """Whether these single outputs are what `is_new` and the order allow, all of them.

        False if that takes a closer look.
        """
        ledger = self._ledger
        if (
            ledger.next_index
            or ledger.decided
            or ledger.quarantined
            or first + count - 1 > attempt.sent_through
        ):
            return False
        return ledger.replay.may_answer(first, count)

    def _receive_part(self, attempt: Attempt, part: OutputPart) -> None:
        number, payloads = part.number, part.payloads
        if not payloads:
            if not part.last:
                raise RemoteProtocolError(f"an empty part for input {number}")
            breach = f"no output for input {number}, before its turn"
            if self._takes(attempt, number, part.first_index, breach):
                self._delivery.add_end(number, part.first_index)
                self._answered(attempt, number)
            return
        final = part.first_index + len(payloads) - 1
        for index, payload in enumerate(payloads, part.first_index):
            last = part.last and index == final
            self._receive_output(attempt, number, index, payload, last=last)

    def _receive_output(
        self, attempt: Attempt, number: int, index: int, payload: bytes, *, last: bool
    ) -> None:
        if len(payload) > self._item_bytes:
            raise RemoteProtocolError(
                f"output {index} of input {number} has {len(payload)} bytes, and at most"
                f" {self._item_bytes} were allowed"
            )
        breach = "" if last else f"several outputs for input {number}, before its turn"
        if not self._takes(attempt, number, index, breach):
            return
        if not self._ledger.replay.may_answer(number):
            self._answered_early(attempt, number, payload, None)
            return
        self._delivery.add(number, index, payload, last=last)
        if last:
            self._answered(attempt, number)
        else:
            self._ledger.note_output(number, index)

    def _receive_failure(self, attempt: Attempt, failure: ItemFailure) -> None:
        number = failure.number
        if not self._takes(attempt, number, failure.index):
            return
        if not self._ledger.replay.may_answer(number):
            self._answered_early(attempt, number, None, failure)
            return
        self._delivery.add_failure(failure)
        self._answered(attempt, number)

    def _takes(self, attempt: Attempt, number: int, index: int, breach: str = "") -> bool:
        """Count an answer as new, or as a duplicate; whether it is new.

        Args:
            attempt: on which it came.
            number: of its input.
            index: which output of that.
            breach: what a new one would be before its turn; empty: it may come then.

        Raises:
            RemoteProtocolError: it is that; or as `is_new`.
        """
        if not is_new(self._ledger, attempt, number, index):
            self._counters.duplicates += 1
            return False
        if breach and not self._ledger.replay.may_answer(number):
            raise RemoteProtocolError(breach)  # which is no progress
        self._counters.received += 1
        attempt.progressed = True
        return True

    def _answered_early(
        self, attempt: Attempt, number: int, payload: bytes | None, failure: ItemFailure | None
    ) -> None:
        """The only answer on a stream that is ordered, while others try an input before it."""
        attempt.answered(1, self._ledger.size_sent(number))
        self._delivery.add_early(number, payload, failure)

    def _answered(self, attempt: Attempt, first: int, count: int = 1) -> None:
        """The last answers to these inputs are in the queue."""
        ledger = self._ledger
        if ledger.known_good is None:
            ledger.note_good(first)
        attempt.answered(count, ledger.settle(first, count))
        if ledger.decided:  # which may have waited for these
            self._delivery.flush_early()


def _sizes(frame: ServerFrame) -> list[int]:
    """The sizes of a frame's outputs, in bytes."""
    sizes: list[int] = []
    for run in frame.outputs:
        sizes += map(len, run.payloads)
    for part in frame.parts:
        sizes += map(len, part.payloads)
    return sizes


def _place(answer: OutputRun | OutputPart | ItemFailure) -> tuple[int, int]:
    """Where an answer stands among those of its frame."""
    if isinstance(answer, OutputRun):
        return answer.first_number, 0
    if isinstance(answer, OutputPart):
        return answer.number, answer.first_index
    return answer.number, answer.index
