"""The answers of a handler that gives many outputs: docs/protocol.md, section 18.

Invariant: each input has a queue of its own, so that what one may not send stops no other. It is
answered once, by its outputs and then at most one error. No output leaves without its input's
credit and the attempt's; where answers come in the order of the inputs, only those of the input at
its turn leave. An input whose handler was told to wait is named once when it may go on.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.credit import CreditBalance
from servestream_client.protocol.frames import Credit, InputCredit, ItemFailure
from servestream_client.protocol.server.failures import Failures
from servestream_client.protocol.server.inputs import OpenInputs
from servestream_client.protocol.server.opening import Terms
from servestream_client.protocol.server.ready import NOT_STARTED, FrameAnswers
from servestream_client.protocol.server.ready_parts import PartsWork, ReadyParts
from servestream_client.protocol.server.turns import Turns

__all__ = ["PartsOutbox"]

HELD_OUTPUT_BYTES = 64
"""What an output that is held counts for besides its payload, which may be empty."""

_ENDLESS = 1 << 62
"""The credit of an input whose client knows of none."""


class PartsOutbox:
    """What is to be answered on one attempt, and what may leave.

    Attributes:
        open: the inputs that lack their last output.
        unanswered: how many inputs have an answer that has not left, closed or not.
        answered: how many had theirs leave.
        failures: those among them, by kind.
        held_bytes: what all outputs that have not left count for, with their checkpoints.

    Args:
        ahead_bytes: how much of that may wait before no handler makes more, but for one output of
            each input.
    """

    __slots__ = (
        "_ahead_bytes",
        "_checkpoint_bytes",
        "_closed",
        "_initial",
        "_ordered",
        "_output_bytes",
        "_paused",
        "_paused_ahead",
        "_ready",
        "_resumable",
        "_turns",
        "_works",
        "answered",
        "failures",
        "held_bytes",
        "open",
        "unanswered",
    )

    def __init__(self, ahead_bytes: int) -> None:
        self.open: OpenInputs = OpenInputs()
        self.unanswered: int = 0
        self.answered: int = 0
        self.failures: Failures = Failures()
        self.held_bytes: int = 0
        self._ordered = True
        self._output_bytes = self._checkpoint_bytes = 0
        self._initial = Credit(_ENDLESS, _ENDLESS)
        self._ahead_bytes = ahead_bytes
        self._works: dict[int, PartsWork] = {}
        self._turns = Turns()
        self._ready = ReadyParts()
        self._closed: list[int] = []  # with outputs that have not left; ascending
        self._paused: set[int] = set()  # asked, and had no credit
        self._paused_ahead: set[int] = set()  # asked, and too much waited
        self._resumable: list[int] = []

    def begin(self, terms: Terms) -> None:
        """The stream is served on these terms."""
        self._ordered = terms.ordered
        self._output_bytes = terms.output_bytes
        self._checkpoint_bytes = terms.checkpoint_bytes
        self.gather_up_to(min(self._ready.frame_bytes, terms.frame_bytes))
        if terms.input_credit is not None:
            self._initial = terms.input_credit

    @property
    def turn(self) -> int:
        """In order: the input whose answer leaves next; 0: there is none."""
        return self._turns.next

    # ---------------------------------------------------------------- what is to be answered

    @property
    def window_items(self) -> int:
        """The inputs that count in the client's window."""
        return self.unanswered

    @property
    def kept_items(self) -> int:
        """Those of which the client keeps the payloads."""
        return self.unanswered

    @property
    def window_bytes(self) -> int:
        """These payloads together, in bytes."""
        return self.open.size

    def is_missing(self, number: int) -> bool:  # noqa: ARG002 — of a stateful stream some are not
        """Whether the client lacks the answer of an input that it sends."""
        return True

    def awaits(self, number: int) -> bool:
        """Whether an input came and has no answer yet."""
        return self.wants(number)

    def wants(self, number: int) -> bool:
        """Whether the client still waits for the answer; what it cancels is answered."""
        work = self._works.get(number)
        return work is not None and not work.closed

    def expect(
        self, first: int, sizes: Sequence[int], start_index: int = 0, credit: Credit | None = None
    ) -> None:
        """The inputs `first`, `first` + 1 and so on came, above all others, and are to be answered.

        Args:
            first: the number of the first.
            sizes: of their payloads.
            start_index: of the first one's outputs, those below this index are not wanted.
            credit: with which the first one begins; None: the usual.
        """
        count, usual = len(sizes), self._initial
        self.open.append(first, sizes)
        self.unanswered += count
        if self._ordered:
            self._turns.append(first, count)
        own = credit or Credit(start_index + usual.outputs, usual.bytes)
        self._works[first] = PartsWork(first, start_index, own)
        for number in range(first + 1, first + count):
            self._works[number] = PartsWork(number, 0, usual)

    def grant(self, granted: Iterable[InputCredit]) -> None:
        """The client says what may be sent of single inputs; what came late changes nothing."""
        for each in granted:
            work = self._works.get(each.number)
            if work is None:
                continue
            before = work.credit
            work.credit = Credit(max(before.outputs, each.outputs), max(before.bytes, each.bytes))
            self._place(work)
            if each.number in self._paused and work.allows_another:
                self._paused.remove(each.number)
                self._resumable.append(each.number)

    def output(
        self, number: int, payload: bytes, *, last: bool = False, checkpoint: bytes | None = None
    ) -> bool:
        """An output of an input; `last` answers it.

        An output that is larger than the client accepts fails its input instead, and so does a
        checkpoint. One for an input that was answered, or an attempt that is over, is dropped.

        Args:
            number: the input's.
            payload: the output.
            last: it is the last one.
            checkpoint: from where the handler can go on after it. A client that takes none gets
                none.

        Returns:
            Whether another may be made at once. If not: see `wants` and `may_make`.
        """
        work = self._works.get(number)
        if work is None or work.closed:
            return False
        size = len(payload)
        if size > self._output_bytes:
            text = f"an output of {size} bytes, and the client accepts {self._output_bytes}"
            self.fail(number, ItemErrorKind.TOO_LARGE, text)
            return False
        if checkpoint is not None and not self._fits(number, checkpoint):
            return False
        work.outputs.append(payload)
        work.size += size
        added = 0
        if checkpoint is not None and self._checkpoint_bytes:
            added = work.add_checkpoint(checkpoint)
        self.held_bytes += size + added + HELD_OUTPUT_BYTES
        if last:
            self._close(work)
        if work.placed:
            self._ready.size += size + added
        else:
            self._place(work)
        return not last and work.allows_another and self.ahead_bytes < self._ahead_bytes

    def outputs(self, first: int, payloads: Sequence[bytes]) -> None:
        """Single outputs of the inputs `first`, `first` + 1 and so on, which answer them."""
        for number, payload in enumerate(payloads, first):
            self.output(number, payload, last=True)

    def _fits(self, number: int, checkpoint: bytes) -> bool:
        size, most = len(checkpoint), self._checkpoint_bytes
        if most and size > most:
            text = f"a checkpoint of {size} bytes, and at most {most} are accepted"
            self.fail(number, ItemErrorKind.TOO_LARGE, text)
            return False
        return True

    def close(self, number: int) -> None:
        """An input is answered by the outputs that it has had."""
        work = self._works.get(number)
        if work is not None and not work.closed:
            self._close(work)
            self._place(work)

    def fail(self, number: int, kind: ItemErrorKind, text: str, *, retryable: bool = False) -> None:
        """An input failed, and with it nothing else."""
        work = self._works.get(number)
        if work is None or work.closed:
            return
        work.failure = ItemFailure(number, kind, text, work.end_index, retryable)
        self.failures.enter(number, kind)
        self._close(work)
        self._place(work)

    def drop(self, numbers: Sequence[int]) -> None:
        """Inputs that are open and were not started are answered as cancelled."""
        for number in numbers:
            self.fail(number, ItemErrorKind.CANCELLED, NOT_STARTED)

    def cancel(self, numbers: Sequence[int], ranges: Sequence[tuple[int, int]]) -> None:
        """Nobody wants these inputs: what has not left is dropped, and they are answered behind
        what has.

        Args:
            numbers: those that were started and are open.
            ranges: first to last each, ascending and disjoint, in which they are, and others that
                their handlers have answered: the outputs of these may have no credit, and get none.
        """
        unwanted = [self._works[number] for number in numbers]
        unwanted += [self._works[number] for number in self._closed_within(ranges)]
        self._ready.remove(unwanted)
        for work in unwanted:
            self.held_bytes -= (
                work.size + work.checkpoint_bytes + len(work.outputs) * HELD_OUTPUT_BYTES
            )
            work.outputs.clear()
            work.checkpoints.clear()
            work.size = 0
            work.failure = ItemFailure(
                work.number, ItemErrorKind.CANCELLED, "cancelled", work.next_index
            )
            self.failures.enter(work.number, ItemErrorKind.CANCELLED)
            if work.closed:
                self._sent_all(work)
            else:
                self._close(work)
            self._place(work)

    def _closed_within(self, ranges: Sequence[tuple[int, int]]) -> list[int]:
        closed, found = self._closed, list[int]()
        for first, last in ranges if closed else ():
            begin = bisect_left(closed, first)
            found += closed[begin : bisect_left(closed, last + 1, lo=begin)]
        return found

    def clear(self) -> None:
        """Nobody reads the answers any more."""
        for kept in (self.open, self._works, self._ready, self._closed, self._paused):
            kept.clear()
        self.failures.clear()
        self._paused_ahead.clear()
        self._resumable.clear()
        self.unanswered = self.held_bytes = 0

    def _close(self, work: PartsWork) -> None:
        work.closed = True
        if work.outputs:
            insort(self._closed, work.number)
        self.open.close(work.number)
        self._paused.discard(work.number)
        self._paused_ahead.discard(work.number)

    def _place(self, work: PartsWork) -> None:
        """Put an input among those that have something to send, if it has, and it is its turn."""
        if not self._ordered or work.number == self._turns.next:
            self._ready.place(work)

    # ---------------------------------------------------------------- what may be made

    def may_make(self, number: int) -> bool:
        """Whether the handler of an input may be asked for its next output. If not,
        `take_resumable` tells when it may.
        """
        work = self._works.get(number)
        if work is None or work.closed:
            return True  # to hear that nobody wants it
        if not work.allows_another:
            self._paused.add(number)
            return False
        if work.outputs and self.ahead_bytes >= self._ahead_bytes:
            self._paused_ahead.add(number)
            return False
        return True

    def quota(self, number: int, size: int) -> int:
        """How many outputs of so many bytes its handler may make without asking again: at least
        one where it may make any, else none, as `may_make` says.
        """
        work = self._works.get(number)
        if not self.may_make(number) or work is None or work.closed:
            return 0
        own = work.credit.bytes - work.bytes_sent - work.size
        ahead = max(1, self._ahead_bytes - self.ahead_bytes)
        return min(
            work.credit.outputs - work.end_index,
            -(-own // max(1, size)),
            -(-ahead // (size + HELD_OUTPUT_BYTES)),
        )

    def may_start(self, number: int) -> bool:
        """Whether an input may be started although too much output waits already: it is its turn,
        so that what waits may wait for it.
        """
        return self._ordered and number == self._turns.next

    def take_resumable(self) -> Sequence[int]:
        """Inputs whose handlers may go on, since the last call."""
        if self._paused_ahead and self.ahead_bytes < self._ahead_bytes:
            self._resumable += sorted(self._paused_ahead)
            self._paused_ahead.clear()
        if not self._resumable:
            return ()
        numbers, self._resumable = self._resumable, []
        return numbers

    # ---------------------------------------------------------------- what leaves

    @property
    def credit(self) -> CreditBalance:
        """What the client has granted for all inputs together."""
        return self._ready.credit

    @property
    def waiting(self) -> bool:
        """Whether something may leave, as far as it depends on single inputs."""
        return bool(self._ready)

    @property
    def lacks_credit(self) -> bool:
        """Whether something waits, and nothing may leave for want of credit."""
        ready = self._ready
        if ready.ends:
            return False
        if ready:
            return not ready.credit.allows_output
        if not self._ordered:
            return bool(self.held_bytes or self._paused)
        head = self._works.get(self._turns.next)
        return head is not None and (bool(head.outputs) or head.number in self._paused)

    def gather_up_to(self, size: int) -> None:
        """Frames gather so many bytes from now on."""
        self._ready.frame_bytes = size

    @property
    def fills_frame(self) -> bool:
        """Whether what may leave fills a frame."""
        return self._ready.size - self._ready.aside_bytes >= self._ready.frame_bytes

    @property
    def next_number(self) -> int:
        """The input whose output leaves next; 0 if there is none, or ends go before it."""
        work = self._ready.next
        return work.number if work is not None else 0

    @property
    def next_output(self) -> tuple[int, int, bytes] | None:
        """See `ReadyQueue`."""
        return self._ready.next_output

    @property
    def next_frame_bytes(self) -> int:
        """How large the next frame may become, in bytes of outputs; 0 if it begins with none."""
        return self._ready.next_frame_bytes

    @property
    def ahead_bytes(self) -> int:
        """See `Outbox`."""
        return self.held_bytes - self._ready.aside_bytes

    def set_aside(self) -> None:
        """See `Outbox`."""
        self._ready.set_aside()

    @property
    def wants_aside(self) -> bool:
        """See `Outbox`."""
        return self._ready.wants_aside

    def put_back(self) -> None:
        """See `Outbox`."""
        self._ready.put_back()

    def gather(self, room: int | None = None) -> FrameAnswers:
        """Answers for the frame that is made now. Each input has its turn, and one that had more to
        send than fits stands behind the others the next time.
        """
        size = self._ready.frame_bytes
        answers = FrameAnswers(size if room is None else min(size, room))
        while (work := self._ready.gather(answers)) is not None:
            if not work.outputs:
                self._sent_all(work)
            if not work.answered:
                self._place(work)
                continue
            del self._works[work.number]
            if self._ordered:
                self._turns.advance(1)
                following = self._works.get(self._turns.next)
                if following is not None:
                    self._place(following)
        self.held_bytes -= answers.size + answers.outputs * HELD_OUTPUT_BYTES
        self.unanswered -= answers.answered
        self.answered += answers.answered
        if answers.errors:
            self.failures.leave(answers.errors)
        return answers

    def _sent_all(self, work: PartsWork) -> None:
        """An input has no outputs any more that have not left."""
        number = work.number
        if work.closed:
            position = bisect_left(self._closed, number)
            if self._closed[position : position + 1] == [number]:
                del self._closed[position]
        elif self._paused_ahead and number in self._paused_ahead:
            # It may always make one: all that waits may wait for it.
            self._paused_ahead.remove(number)
            self._resumable.append(number)
