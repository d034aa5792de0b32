"""The answers, from the handler until their turn has come.

Invariant: every input that is expected is answered once, by its outputs and then at most one error;
in the order of the inputs, if the client wants that.
"""

from __future__ import annotations

from collections.abc import Sequence

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.credit import CreditBalance
from servestream_client.protocol.frames import Credit, ItemFailure
from servestream_client.protocol.runs import Run
from servestream_client.protocol.server.failures import Failures
from servestream_client.protocol.server.inputs import OpenInputs
from servestream_client.protocol.server.opening import Terms
from servestream_client.protocol.server.ready import (
    NOT_STARTED,
    Dropped,
    FrameAnswers,
    ReadyQueue,
    Work,
)
from servestream_client.protocol.server.turns import Turns

__all__ = ["Outbox"]

_DROPPED = Dropped(())
"""In the place of an early answer: the input was dropped."""


class Outbox:
    """What is to be answered on one attempt, and what is ready to leave.

    Attributes:
        open: the inputs that lack their last output.
        unanswered: how many inputs have an answer that has not left, closed or not.
        answered: how many had theirs leave.
        failures: those among them, by kind.
        held_bytes: of all outputs that have not left.
        early: in order: answers whose turn has not come, by number.
        ready: what leaves next, as far as there is credit.
    """

    __slots__ = (
        "_ordered",
        "_output_bytes",
        "_turns",
        "_works",
        "answered",
        "early",
        "failures",
        "held_bytes",
        "open",
        "ready",
        "unanswered",
    )

    def __init__(self) -> None:
        self.open: OpenInputs = OpenInputs()
        self.unanswered: int = 0
        self.answered: int = 0
        self.failures: Failures = Failures()
        self.held_bytes: int = 0
        self.early: dict[int, Run | Work | Dropped] = {}
        self.ready: ReadyQueue = ReadyQueue()
        self._works: dict[int, Work] = {}
        self._turns = Turns()
        self._ordered = True
        self._output_bytes = 0

    def begin(self, terms: Terms) -> None:
        """The stream is served on these terms."""
        self._ordered = terms.ordered
        self._output_bytes = terms.output_bytes
        self.ready.begin(terms)

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
        return number in self.open

    def wants(self, number: int) -> bool:
        """Whether the client still waits for the answer."""
        return number in self.open and number not in self.open.cancelled

    def expect(
        self, first: int, sizes: Sequence[int], start_index: int = 0, credit: Credit | None = None
    ) -> None:
        """The inputs `first`, `first` + 1 and so on came, above all others, and are to be answered.

        Args:
            first: the number of the first.
            sizes: of their payloads.
            start_index: of the first one's outputs, those below this index are not wanted.
            credit: of the first one, which here has none of its own.
        """
        del credit
        count = len(sizes)
        self.open.append(first, sizes)
        self.unanswered += count
        if start_index:
            self._works[first] = Work(first, start_index)
        if self._ordered:
            self._turns.append(first, count)

    def outputs(self, first: int, payloads: Sequence[bytes]) -> None:
        """The single outputs of the inputs `first`, `first` + 1 and so on, which answer them.

        Like `output` with `last` for each.
        """
        size = sum(map(len, payloads))
        if self._works or size > self._output_bytes or not self.open.close(first, len(payloads)):
            for number, payload in enumerate(payloads, first):
                self.output(number, payload, last=True)
            return
        self.held_bytes += size
        self._answer_with(Run(first, payloads, size))

    def output(self, number: int, payload: bytes, *, last: bool) -> None:
        """An output of an input; `last` answers it.

        An output that is larger than the client accepts fails its input instead. What belongs
        to an attempt that is over, or to an input that was answered, is dropped.
        """
        if number not in self.open:
            return
        if len(payload) > self._output_bytes:
            self.fail(
                number,
                ItemErrorKind.TOO_LARGE,
                f"an output of {len(payload)} bytes, and the client accepts {self._output_bytes}",
            )
            return
        self.held_bytes += len(payload)
        if last and number not in self._works:
            self.open.close(number)
            self._answer_with(Run(number, (payload,), len(payload)))
            return
        work = self._work(number)
        work.outputs.append(payload)
        self._continue(work, closed=last)

    def close(self, number: int) -> None:
        """An input is answered by the outputs that it has had."""
        if number in self.open:
            self._continue(self._work(number), closed=True)

    def fail(self, number: int, kind: ItemErrorKind, text: str, *, retryable: bool = False) -> None:
        """An input failed, and with it nothing else."""
        if number in self.open:
            work = self._work(number)
            index = work.next_index + len(work.outputs)
            work.failure = ItemFailure(number, kind, text, index, retryable)
            self.failures.enter(number, kind)
            self._continue(work, closed=True)

    def skip(self, number: int) -> None:
        """An input whose turn it is was answered before, and counts as answered again."""
        self.open.close(number)
        self.unanswered -= 1
        self.answered += 1
        self._turns.advance(1)
        self._call_up()

    def drop(self, numbers: Sequence[int]) -> None:
        """Inputs that are open and were not started, ascending, are answered as cancelled."""
        if self._works:  # of which some may go on where they were cut
            for number in self._works.keys() & numbers:
                self.fail(number, ItemErrorKind.CANCELLED, NOT_STARTED)
            numbers = [number for number in numbers if number in self.open]
        self.open.close_each(numbers)
        if self._ordered:
            self.early.update(dict.fromkeys(numbers, _DROPPED))
            self._call_up()
        else:
            self.ready.add_dropped(numbers)

    def clear(self) -> None:
        """Nobody reads the answers any more."""
        for kept in (self.open, self._works, self.early, self.ready, self.failures):
            kept.clear()
        self.unanswered = self.held_bytes = 0

    # ---------------------------------------------------------------- turns

    def _work(self, number: int) -> Work:
        return self._works.setdefault(number, Work(number))

    def _answer_with(self, run: Run) -> None:
        """Single outputs, which answer their inputs: send them in their turn."""
        if self._ordered and run.first != self._turns.next:
            self.early.update(
                (number, Run(number, (payload,), len(payload)))
                for number, payload in enumerate(run.payloads, run.first)
            )
            return
        self.ready.add_run(run)
        if self._ordered:
            self._turns.advance(len(run.payloads))
            if self.early:
                self._call_up()

    def _continue(self, work: Work, *, closed: bool) -> None:
        """An input has got another output, or its end: send it in its turn."""
        if closed:
            work.closed = True
            self._works.pop(work.number, None)
            self.open.close(work.number)
        if self._ordered and work.number != self._turns.next:
            self.early[work.number] = work
            return
        self.ready.add_work(work)
        if self._ordered and work.closed:
            self._turns.advance(1)
            self._call_up()

    def _call_up(self) -> None:
        """Send the answers that were early, as far as their turn has come."""
        while self.early and (answer := self.early.pop(self._turns.next, None)):
            if isinstance(answer, Run):
                self.ready.add_run(answer)
            elif isinstance(answer, Dropped):
                self.ready.add_dropped((self._turns.next,))
            else:
                self.ready.add_work(answer)
                if not answer.closed:
                    return
            self._turns.advance(1)

    def may_start(self, number: int) -> bool:
        """Whether an input may be started although too much output waits already: all of that
        waits for it.
        """
        return bool(self.early) and number == self.turn

    # ---------------------------------------------------------------- what leaves

    @property
    def credit(self) -> CreditBalance:
        """What the client has granted."""
        return self.ready.credit

    @property
    def waiting(self) -> bool:
        """Whether something may leave."""
        return bool(self.ready.waiting)

    @property
    def lacks_credit(self) -> bool:
        """Whether what waits may not leave for want of credit."""
        return bool(self.ready.waiting) and not self.ready.credit.allows_output

    @property
    def next_number(self) -> int:
        """The input whose output leaves next; 0 if there is none, or errors go before it."""
        return self.ready.next_number

    @property
    def next_output(self) -> tuple[int, int, bytes] | None:
        """See `ReadyQueue`."""
        return self.ready.next_output

    def gather_up_to(self, size: int) -> None:
        """Frames gather so many bytes from now on."""
        self.ready.frame_bytes = size

    @property
    def fills_frame(self) -> bool:
        """Whether what waits fills a frame."""
        return self.ahead_bytes >= self.ready.frame_bytes

    @property
    def next_frame_bytes(self) -> int:
        """How large the next frame may become, in bytes of outputs; 0 if it begins with none."""
        first = self.ready.next_size
        if first is None:
            return 0  # a large output does not ride with what goes before it
        return max(min(self.ahead_bytes, self.ready.frame_bytes), first)

    @property
    def ahead_bytes(self) -> int:
        """Of the outputs that have not left, those that may keep others from being made: one that
        is on its way, while others pass it, does not.
        """
        return self.held_bytes - self.ready.aside_bytes

    def set_aside(self) -> None:
        """What leaves next, which is one output, lets others go before it."""
        self.ready.set_aside()

    @property
    def wants_aside(self) -> bool:
        """Whether what was set aside is still to leave."""
        return True

    def put_back(self) -> None:
        """What was set aside leaves next."""
        self.ready.put_back()

    def gather(self, room: int | None = None) -> FrameAnswers:
        """Answers for the frame that is made now, which has so many bytes of room for them; None:
        as much as frames have.
        """
        answers = self.ready.gather(room)
        self.held_bytes -= answers.size
        self.unanswered -= answers.answered
        self.answered += answers.answered
        if answers.errors:
            self.failures.leave(answers.errors)
        return answers
