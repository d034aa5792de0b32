"""The delivery queue: answers on their way to the consumer.

Invariant: each answer is delivered once, and in the order of the inputs where that was asked for.
What is held is what was accepted and not taken. If all of it waits behind the head of the line, the
call that carries the head has credit for one output (`held`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.client.deliveries import Delivery, Part, Ready
from servestream_client.protocol.client.ledger import Ledger
from servestream_client.protocol.frames import Credit, ItemFailure, OutputRun

__all__ = ["DeliveryQueue"]

_NOTHING = Credit()


@dataclass(slots=True)
class _Early:
    """The last answer to an input whose turn has not come, or that did not come from its server:
    an output, a failure, or nothing beyond the outputs in parts, of which there are `index`, unless
    the last of them has said so.
    """

    payload: bytes | None
    failure: ItemFailure | None
    cause: BaseException | None = None
    index: int | None = None


class DeliveryQueue:
    """The answers of one stream that its consumer has not taken.

    Args:
        ledger: the stream's inputs. What is answered here is settled there.
        budget: how many outputs, and of how many bytes, may be held.
    """

    __slots__ = (
        "_early",
        "_early_parts",
        "_held_early",
        "_held_of",
        "budget",
        "failed",
        "held_bytes",
        "held_outputs",
        "ledger",
        "on_outside_taken",
        "on_taken",
        "ready",
        "reserved",
    )

    def __init__(self, ledger: Ledger, budget: Credit) -> None:
        self.ledger: Ledger = ledger
        self.budget: Credit = budget
        self.ready: deque[Delivery | Part | Ready] = deque()
        """What may be taken, in this order."""
        self._early: dict[int, _Early] = {}  # of each input that the ledger calls decided
        self._early_parts: dict[int, list[Part]] = {}  # outputs of inputs whose turn has not come
        self.failed: list[ItemFailure] = []
        """Inputs that failed and were not asked for by `take_failed`, each as soon as it is known,
        though it may be delivered later.
        """
        self.held_outputs: int = 0
        """Accepted and not taken."""
        self.held_bytes: int = 0
        """The same, in bytes."""
        self.reserved: int = 0
        """Places that are kept for answers which come from lanes: the stream's own server may not
        have them."""
        self._held_of: dict[int, Credit] = {}  # of these, what single inputs have
        self.on_taken: Callable[[int], None] | None = None
        """Told of each input of which outputs were taken that may have others."""
        self.on_outside_taken: list[Callable[[int, int, int], None]] = []
        """The same, with how many and how many bytes, for what came by another stream."""
        self._held_early = 0  # of these outputs, before whose turn others come

    # ---------------------------------------------------------------- in, in their turn

    def add_run(self, first: int, payloads: Sequence[bytes], size: int) -> None:
        """Single outputs of consecutive inputs, whose turn it is; `size` is theirs together."""
        self.held_outputs += len(payloads)
        self.held_bytes += size
        self.ready.append(Ready(first, payloads))

    def add(self, number: int, payload: bytes) -> None:
        """The only output of an input whose turn it is."""
        self.add_run(number, (payload,), len(payload))

    def add_part(self, part: Part, size: int) -> None:
        """Outputs of an input, of so many bytes together. They are delivered once it is its turn:
        inputs before it may be tried on another stream.
        """
        number, count = part.number, len(part.payloads)
        self.held_outputs += count
        self.held_bytes += size
        held = self._held_of.get(number, _NOTHING)
        self._held_of[number] = Credit(held.outputs + count, held.bytes + size)
        if self.ledger.replay.may_answer(number):
            self.ready.append(part)
        else:
            self._early_parts.setdefault(number, []).append(part)
            self._held_early += count

    def add_end(self, number: int, index: int) -> None:
        """There is no further output of an input whose turn it is."""
        self.ready.append(Delivery(number, index, None, None, last=True))

    def add_failure(self, failure: ItemFailure) -> None:
        """An input has failed, whose turn it is."""
        self.failed.append(failure)
        self._add_failure(failure, None)

    def _add_failure(self, failure: ItemFailure, cause: BaseException | None) -> None:
        item, size = self.ledger.hand_back(failure.number)
        self.ready.append(
            Delivery(failure.number, failure.index, None, failure, True, item, cause, size)
        )

    # ---------------------------------------------------------------- in, before their turn

    def fail_here(
        self, number: int, kind: ItemErrorKind, text: str, cause: BaseException | None = None
    ) -> None:
        """Answer an input without the server; when ordered, once its turn has come."""
        ledger = self.ledger
        failure = ItemFailure(number, kind, text, ledger.next_index(number))
        self._decide(number, _Early(None, failure, cause), sent=number <= ledger.sent_through)

    def add_early(self, number: int, payload: bytes | None, failure: ItemFailure | None) -> None:
        """The only answer to an input, from a server: its output, or why there is none. It is
        delivered once its turn has come.
        """
        if payload is not None:
            self.held_outputs += 1
            self.held_bytes += len(payload)
        self._decide(number, _Early(payload, failure), sent=True)

    def end_early(self, number: int, index: int | None) -> None:
        """There is no further output of an input, delivered in parts; once its turn has come.

        Args:
            number: the input's.
            index: how many outputs there are; None: the last part has said that it is the last.
        """
        self._decide(number, _Early(None, None, index=index), sent=True)

    @property
    def waits_for_turn(self) -> bool:
        """Whether there are answers whose turn has not come."""
        return bool(self._early or self._early_parts)

    def resolve_quarantined(
        self, number: int, payload: bytes | None, failure: ItemFailure | None
    ) -> bool:
        """The same for an input in quarantine, whatever number its failure has; False if it is not
        there any more.
        """
        if number not in self.ledger.quarantined:
            return False
        if failure is not None:
            failure = replace(failure, number=number)
        self.add_early(number, payload, failure)
        return True

    def resolve_run(self, first: int, payloads: Sequence[bytes]) -> int:
        """The same for the outputs of consecutive inputs. Returns how many were there."""
        ledger, count = self.ledger, len(payloads)
        numbers = range(first, first + count)
        if ledger.quarantined.issuperset(numbers) and ledger.replay.may_answer(first, count):
            ledger.quarantined.difference_update(numbers)
            self.add_run(first, payloads, sum(map(len, payloads)))
            ledger.settle(first, count)
            self.flush_early()
            return count
        return sum(
            self.resolve_quarantined(number, payload, None)
            for number, payload in enumerate(payloads, first)
        )

    def resolve_part(self, part: Part) -> bool:
        """Outputs of an input in quarantine, which may have many; see `resolve_quarantined`."""
        if part.number not in self.ledger.quarantined:
            return False
        self.add_part(part, sum(map(len, part.payloads)))
        if part.last:
            self.end_early(part.number, None)
        return True

    def resolve_end(self, number: int, index: int) -> bool:
        """So many outputs, and no further one, are the answer to an input in quarantine."""
        if number not in self.ledger.quarantined:
            return False
        self.end_early(number, index)
        return True

    def _decide(self, number: int, early: _Early, *, sent: bool) -> None:
        self.ledger.decide(number, sent=sent)
        self._early[number] = early
        if early.failure is not None:
            self.failed.append(early.failure)
        self._held_early += early.payload is not None
        self.flush_early()

    def flush_early(self) -> None:
        """Deliver the early answers whose turn has come."""
        while True:
            if self._early_parts:
                self._flush_parts()
            number = self.ledger.replay.next_of(self._early)
            if number is None:
                return
            early = self._early.pop(number)
            if early.payload is not None:
                self._held_early -= 1
                self.ready.append(Ready(number, (early.payload,)))
            elif early.failure is not None:
                self._add_failure(early.failure, early.cause)
            elif early.index is not None:
                self.add_end(number, early.index)
            self.ledger.settle(number)

    def _flush_parts(self) -> None:
        number = self.ledger.replay.next_of(self._early_parts)
        if number is not None:
            parts = self._early_parts.pop(number)
            self._held_early -= sum(len(part.payloads) for part in parts)
            self.ready += parts

    # ---------------------------------------------------------------- out

    def take(self) -> Delivery | None:
        """What comes next for the consumer, or None while nothing is there."""
        run = self.take_run(1)
        if run is not None:
            self.ack_consumed(run)
            return Delivery(run.first_number, 0, run.payloads[0], None, last=True)
        part = self.take_part(1)
        if part is not None:
            self.ack_part(part)
            return Delivery(part.number, part.first_index, part.payloads[0], None, part.last)
        head = self.ready.popleft() if self.ready else None
        if not isinstance(head, Delivery):
            return None
        if head.payload is not None:
            self.held_outputs -= 1
            self.held_bytes -= len(head.payload)
        if head.last:
            self.ledger.taken(head.number, 1, head.size)
        return head

    def take_run(self, limit: int) -> OutputRun | None:
        """The next outputs at once, at most `limit`, if they are single outputs of consecutive
        inputs; otherwise None.

        They count as held until they are given to `ack_consumed`.
        """
        if not self.ready:
            return None
        head = self.ready[0]
        if not isinstance(head, Ready):
            return None
        if limit < len(head.payloads):
            return head.take(limit)
        self.ready.popleft()
        return OutputRun(head.first, self._with_following(head, limit))

    def _with_following(self, run: Ready, limit: int) -> Sequence[bytes]:
        """The run, and those that go on behind it, as frame after frame has brought them."""
        joined: list[bytes] | None = None
        following = run.first + len(run.payloads)
        while self.ready:
            head = self.ready[0]
            if not isinstance(head, Ready) or head.first != following:
                break
            following += len(head.payloads)
            if following - run.first > limit:
                break
            joined = joined or list(run.payloads)
            joined += head.payloads
            self.ready.popleft()
        return joined or run.payloads

    def ack_consumed(self, run: OutputRun) -> None:
        """The consumer has these outputs of `take_run`."""
        count = len(run.payloads)
        self.held_outputs -= count
        self.held_bytes -= sum(map(len, run.payloads))
        self.ledger.taken(run.first_number, count)

    def take_part(self, limit: int) -> Part | None:
        """The next outputs of one input at once, at most `limit`, if it may have others; otherwise
        None.

        They count as held until they are given to `ack_part`.
        """
        head = self.ready[0] if self.ready else None
        if not isinstance(head, Part):
            return None
        if limit < len(head.payloads):
            return head.take(limit)
        self.ready.popleft()
        return head

    def ack_part(self, part: Part) -> None:
        """The consumer has these outputs of `take_part`."""
        self.ack_outputs(part.number, len(part.payloads), sum(map(len, part.payloads)))
        if part.last:
            self.ledger.taken(part.number)

    def ack_outputs(self, number: int, count: int, size: int) -> None:
        """The consumer has so many outputs of an input, of so many bytes together."""
        held = self._held_of.get(number)
        if held is None:
            return  # everything was dropped meanwhile
        self.held_outputs -= count
        self.held_bytes -= size
        if count == held.outputs:
            del self._held_of[number]
        else:
            self._held_of[number] = Credit(held.outputs - count, held.bytes - size)
        if self.on_taken is not None:
            self.on_taken(number)
        for tell in self.on_outside_taken:
            tell(number, count, size)

    def adopt(self, number: int, held: Credit) -> None:
        """Of this input so much was delivered elsewhere, and is not taken yet."""
        if held.outputs:
            self.held_outputs += held.outputs
            self.held_bytes += held.bytes
            self._held_of[number] = held

    def held_of(self, number: int) -> Credit:
        """What is held of one input that may have many outputs."""
        return self._held_of.get(number, _NOTHING)

    def take_failed(self) -> list[ItemFailure]:
        """What has `failed` since the last call."""
        failed, self.failed = self.failed, []
        return failed

    def drop_all(self) -> None:
        """The consumer takes nothing any more."""
        self.ready.clear()
        self._held_of.clear()
        self._early.clear()
        self._early_parts.clear()
        self.ledger.drop_decided()

    # ---------------------------------------------------------------- what is held

    @property
    def full(self) -> bool:
        """Whether as many outputs are held as may be."""
        return self.held_outputs >= self.budget.outputs

    @property
    def head_of_line_blocked(self) -> bool:
        """Whether everything held waits for an input that the present attempt carries: without
        credit for that one, nothing would ever move.
        """
        if not 0 < self._held_early == self.held_outputs:
            return False
        turn = self.ledger.turn
        return turn > 0 and not self.ledger.elsewhere(turn)

    @property
    def held(self) -> Credit:
        """What counts against the budget of outputs (docs section 7)."""
        outputs = self.held_outputs + self.reserved
        if not self.head_of_line_blocked:
            return Credit(outputs, self.held_bytes)
        return Credit(
            min(outputs, self.budget.outputs - 1),
            min(self.held_bytes, self.budget.bytes - 1),
        )

    def can_buffer_isolated(self, number: int, under_way: int) -> bool:
        """Whether an answer to this input, which is in quarantine, may come now, with so many
        others under way: within the budget, or alone where the consumer waits for it.
        """
        if self.held_outputs + under_way < self.budget.outputs and (
            self.held_bytes < self.budget.bytes
        ):
            return True
        return self.waits_for(number) and not under_way

    def waits_for(self, number: int) -> bool:
        """Whether everything held waits for the answer to this input."""
        return number == self.ledger.turn and self._held_early == self.held_outputs
