"""What a server answers: checked, counted, and put into the delivery queue.

`is_new` is "what the client makes of an answer" (docs/protocol.md, section 6), rule by rule. A run
of plain answers, which is nearly all there ever is, is taken in as a whole; whatever else comes
goes item by item through the same rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from servestream_client.config import FlowControl
from servestream_client.errors import FrameLostError, RemoteProtocolError
from servestream_client.protocol.client.attempt import Attempt
from servestream_client.protocol.client.counters import ClientCounters
from servestream_client.protocol.client.deliveries import Part
from servestream_client.protocol.client.delivery import DeliveryQueue
from servestream_client.protocol.client.ledger import Ledger
from servestream_client.protocol.continuation import NO_OUTPUTS
from servestream_client.protocol.frames import (
    Chunk,
    ItemFailure,
    OutputPart,
    OutputRun,
    Replay,
    ServerFrame,
)

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
    if number > attempt.in_flight.sent_through or ledger.elsewhere(number):
        raise RemoteProtocolError(
            f"an answer to input {number}, which was not sent on this attempt"
        )
    # 4. The index is below the next one that is missing.
    next_index = ledger.next_index(number)
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
        flow: the sizes that it accepts.
    """

    __slots__ = ("_counters", "_delivery", "_flow", "_item_bytes", "_ledger")

    def __init__(
        self, delivery: DeliveryQueue, counters: ClientCounters, flow: FlowControl
    ) -> None:
        self._delivery = delivery
        self._ledger = delivery.ledger
        self._counters = counters
        self._flow = flow
        self._item_bytes = flow.max_item_bytes

    def receive(self, attempt: Attempt, frame: ServerFrame) -> None:
        """The answers in a frame that came on `attempt`.

        Raises:
            RemoteProtocolError: one breaks the protocol; what came before it is taken in.
        """
        if attempt.fold is not None:
            attempt.fold.check(frame)
        elif frame.tokens:
            raise RemoteProtocolError("a state token from a handler that is not stateful")
        if frame.chunk is not None:
            self._receive_chunk(attempt, frame.chunk)
        outputs, parts = frame.outputs, frame.parts
        if any(run.first_offset for run in outputs) or any(part.first_offset for part in parts):
            outputs = [_joined(attempt, run) for run in outputs]
            parts = [_joined(attempt, part) for part in parts]
        answers: list[OutputRun | OutputPart | ItemFailure] = [*outputs, *parts, *frame.errors]
        attempt.allowance.receive_all(_sizes(outputs, parts))
        if self._ledger.ordered and len(answers) > 1:
            answers.sort(key=_place)
        for answer in answers:
            if isinstance(answer, OutputRun):
                self._receive_run(attempt, answer)
            elif isinstance(answer, OutputPart):
                self._receive_part(attempt, answer)
            else:
                self._receive_failure(attempt, answer)

    def _receive_chunk(self, attempt: Attempt, chunk: Chunk) -> None:
        if not attempt.sizes.chunk.begun:
            raise RemoteProtocolError("a chunk came, and the two ends have not agreed on chunks")
        if not 1 <= chunk.number <= attempt.in_flight.sent_through:
            raise RemoteProtocolError(
                f"a chunk for input {chunk.number}, which was not sent on this attempt"
            )
        attempt.assembly.receive(chunk, self._item_bytes)

    def _receive_run(self, attempt: Attempt, run: OutputRun) -> None:
        first, payloads = run.first_number, run.payloads
        count, size = len(payloads), sum(map(len, payloads))
        each = attempt.allowance.of_each
        if each or size > self._item_bytes or not self._all_new(attempt, first, count):
            for number, payload in enumerate(payloads, first):
                attempt.allowance.receive(number, 0, (payload,))
                self._receive_output(attempt, number, payload)
            return
        self._counters.received += count
        attempt.progressed = True
        self._delivery.add_run(first, payloads, size)
        self._answered(attempt, first, count, outputs=payloads)

    def _all_new(self, attempt: Attempt, first: int, count: int) -> bool:
        """Whether these single outputs are what `is_new` and the order allow, all of them.

        False if that takes a closer look.
        """
        ledger = self._ledger
        if (
            ledger.partials
            or ledger.decided
            or ledger.quarantined
            or first + count - 1 > attempt.in_flight.sent_through
        ):
            return False
        return ledger.replay.may_answer(first, count)

    def _receive_part(self, attempt: Attempt, part: OutputPart) -> None:
        number, payloads = part.number, part.payloads
        if not payloads:
            if not part.last:
                raise RemoteProtocolError(f"an empty part for input {number}")
            self._receive_end(attempt, number, part.first_index)
            return
        attempt.allowance.receive(number, part.first_index, payloads)
        if part.checkpoint is not None and attempt.terms.replay is Replay.CONTINUE:
            self._check_checkpoint(number, part.checkpoint)
        if part.last and len(payloads) == 1 and not part.first_index:
            self._receive_output(attempt, number, payloads[0])
            return
        self._check_sizes(number, part.first_index, payloads)
        known = self._known(attempt, part)
        self._counters.duplicates += known
        if known < len(payloads):
            self._accept(attempt, part, payloads[known:])
        elif part.last and self._ledger.in_part(number):
            self._receive_end(attempt, number, part.first_index + known)

    def _known(self, attempt: Attempt, part: OutputPart) -> int:
        """How many of a part's outputs are duplicates; the others are new, and stand behind
        them.
        """
        ledger, number, first_index = self._ledger, part.number, part.first_index
        if is_new(ledger, attempt, number, first_index):
            return 0
        if not ledger.in_part(number):  # it is answered
            return len(part.payloads)
        return min(ledger.next_index(number) - first_index, len(part.payloads))

    def _accept(self, attempt: Attempt, part: OutputPart, payloads: Sequence[bytes]) -> None:
        """The new ones of a part's outputs."""
        ledger, number = self._ledger, part.number
        self._counters.received += len(payloads)
        attempt.progressed = True
        index = ledger.next_index(number)
        partial = ledger.partial(number, attempt.terms, self._flow.continuation_bytes)
        seam = partial.seam(attempt.identity, attempt.replica)
        new = Part(number, index, payloads, part.last, seam)
        self._delivery.add_part(new, sum(map(len, payloads)))
        if not part.last or ledger.fold is not None:
            partial.receive(payloads, part.checkpoint)
        if not part.last:
            return
        if ledger.replay.may_answer(number):
            self._answered(attempt, number, digest=partial.digest)
        else:
            attempt.answered(number, 1, ledger.size_sent(number))
            self._delivery.end_early(number, None)

    def _receive_end(self, attempt: Attempt, number: int, index: int) -> None:
        """So many outputs, and no further one, are the answer to an input."""
        if not self._ends(attempt, number, index):
            return
        if not self._ledger.replay.may_answer(number):
            attempt.answered(number, 1, self._ledger.size_sent(number))
            self._delivery.end_early(number, index)
            return
        self._delivery.add_end(number, index)
        partial = self._ledger.partials.get(number)
        digest = NO_OUTPUTS if partial is None else partial.digest
        self._answered(attempt, number, digest=digest)

    def _receive_output(self, attempt: Attempt, number: int, payload: bytes) -> None:
        """An output that is the whole answer to an input."""
        self._check_sizes(number, 0, (payload,))
        if not is_new(self._ledger, attempt, number, 0):
            self._counters.duplicates += 1
            attempt.in_flight.late(number)
            if self._ledger.in_part(number):
                self._receive_end(attempt, number, 1)
            return
        self._counters.received += 1
        attempt.progressed = True
        if not self._ledger.replay.may_answer(number):
            self._answered_early(attempt, number, payload, None)
            return
        self._delivery.add(number, payload)
        self._answered(attempt, number, outputs=(payload,))

    def _check_sizes(self, number: int, first_index: int, payloads: Sequence[bytes]) -> None:
        if max(map(len, payloads)) <= self._item_bytes:
            return
        for index, payload in enumerate(payloads, first_index):
            if len(payload) > self._item_bytes:
                raise RemoteProtocolError(
                    f"output {index} of input {number} has {len(payload)} bytes, and at most"
                    f" {self._item_bytes} were allowed"
                )

    def _check_checkpoint(self, number: int, checkpoint: bytes) -> None:
        size, most = len(checkpoint), self._flow.checkpoint_bytes
        if size > most:
            raise RemoteProtocolError(
                f"a checkpoint of input {number} has {size} bytes, and at most {most} were allowed"
            )

    def _receive_failure(self, attempt: Attempt, failure: ItemFailure) -> None:
        number = failure.number
        attempt.assembly.drop(number)
        if not self._ends(attempt, number, failure.index):
            return
        if not self._ledger.replay.may_answer(number):
            self._answered_early(attempt, number, None, failure)
            return
        self._delivery.add_failure(failure)
        self._answered(attempt, number)

    def _ends(self, attempt: Attempt, number: int, index: int) -> bool:
        """Whether the last word on an input is new; of these there is one, at one place.

        Args:
            attempt: on which it came.
            number: of its input.
            index: how many outputs came before it, by its server's word.

        Raises:
            RemoteProtocolError: it stands before outputs that came; or as `is_new`.
        """
        if not is_new(self._ledger, attempt, number, index):
            self._counters.duplicates += 1
            attempt.in_flight.late(number)
            if self._ledger.in_part(number):
                raise RemoteProtocolError(
                    f"the last word on input {number} counts {index} outputs, and"
                    f" {self._ledger.next_index(number)} came"
                )
            return False
        self._counters.received += 1
        attempt.progressed = True
        return True

    def _answered_early(
        self, attempt: Attempt, number: int, payload: bytes | None, failure: ItemFailure | None
    ) -> None:
        """The only answer on a stream that is ordered, while others try an input before it."""
        attempt.answered(number, 1, self._ledger.size_sent(number))
        self._delivery.add_early(number, payload, failure)

    def _answered(
        self,
        attempt: Attempt,
        first: int,
        count: int = 1,
        *,
        outputs: Sequence[bytes] | None = None,
        digest: bytes | None = None,
    ) -> None:
        """The last answers to these inputs are in the queue.

        Args:
            attempt: on which they came.
            first: the first one's number.
            count: how many they are.
            outputs: theirs, if each has one.
            digest: of the outputs of the only one; None, and no outputs: it has failed.
        """
        ledger = self._ledger
        if ledger.fold is not None and attempt.fold is not None:
            payloads = ledger.replay.payloads(first, count)
            if outputs is not None:
                ledger.fold.answered(first, payloads, outputs)
            elif digest is not None:
                ledger.fold.answered_in_parts(first, payloads[0], digest)
            else:
                ledger.fold.failed(first)
                attempt.fold.failed(ledger.size_sent(first))
        if ledger.known_good is None:
            ledger.note_good(first)
        attempt.answered(first, count, ledger.settle(first, count))
        if self._delivery.waits_for_turn:  # perhaps for these
            self._delivery.flush_early()


_Answer = TypeVar("_Answer", OutputRun, OutputPart)


def _joined(attempt: Attempt, answer: _Answer) -> _Answer:
    """An answer with all of its first output, of which the rest came, if it has come in chunks."""
    if not answer.first_offset:
        return answer
    if not answer.payloads:
        raise RemoteProtocolError("an empty part, as the rest of what came in chunks")
    first, *others = answer.payloads
    joined = attempt.assembly.join(*answer.place, answer.first_offset, first)
    return replace(answer, payloads=[joined, *others], first_offset=0)


def _sizes(outputs: Sequence[OutputRun], parts: Sequence[OutputPart]) -> list[int]:
    """The sizes of a frame's outputs, in bytes."""
    sizes: list[int] = []
    for run in outputs:
        sizes += map(len, run.payloads)
    for part in parts:
        sizes += map(len, part.payloads)
    return sizes


def _place(answer: OutputRun | OutputPart | ItemFailure) -> tuple[int, int]:
    """Where an answer stands among those of its frame."""
    if isinstance(answer, ItemFailure):
        return answer.number, answer.index
    return answer.place
