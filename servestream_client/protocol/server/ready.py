"""The answers whose turn has come, until they leave in frames.

Invariant: they leave in the order in which they became ready, no output without credit, and no
frame is larger than the client wants, but for an answer that alone is.

Plain outputs are kept in runs, as at the client; an input of which more is to be known than its
number has a `Work`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.credit import CreditBalance
from servestream_client.protocol.frames import ItemFailure, OutputPart
from servestream_client.protocol.pacing import FRAME_TARGET_BYTES, ITEM_OVERHEAD_BYTES
from servestream_client.protocol.runs import Run
from servestream_client.protocol.server.opening import Terms

__all__ = ["NOT_STARTED", "Dropped", "FrameAnswers", "ReadyQueue", "Work"]

NOT_STARTED = "cancelled before it was started"


class Work:
    """An input that is not answered by a single output, or not yet."""

    __slots__ = ("closed", "failure", "next_index", "number", "outputs", "placed")

    def __init__(self, number: int, next_index: int = 0) -> None:
        self.number: int = number
        self.next_index: int = next_index
        self.outputs: deque[bytes] = deque()
        self.closed: bool = False
        self.failure: ItemFailure | None = None
        self.placed: bool = False  # among those that are ready


class Dropped:
    """Inputs without outputs that were cancelled before they were started, each of which is
    answered by the same item error: as long as they wait, they are numbers.
    """

    __slots__ = ("numbers",)

    def __init__(self, numbers: Iterable[int]) -> None:
        self.numbers: deque[int] = deque(numbers)


class FrameAnswers:
    """What one frame carries of them.

    Attributes:
        runs: single outputs, which answer their inputs.
        parts: all other outputs.
        errors: of inputs that failed.
        size: of the outputs, in bytes.
        outputs: how many of these stand in `parts`.
        answered: how many inputs have had their last word with it.
        left: bytes that it still has room for; negative where one output goes alone.
        used: bytes of the frame that they take up; 0: there are none.
    """

    __slots__ = ("answered", "errors", "left", "outputs", "parts", "runs", "size", "used")

    def __init__(self, room: int) -> None:
        self.runs: list[Run] = []
        self.parts: list[OutputPart] = []
        self.errors: list[ItemFailure] = []
        self.size: int = 0
        self.outputs: int = 0
        self.answered: int = 0
        self.left: int = room
        self.used: int = 0

    def fits(self, cost: int) -> bool:
        """Whether so much more fits; something does into an empty frame, however large."""
        return not self.used or cost <= self.left

    def use(self, cost: int) -> None:
        """So many bytes of the frame are used."""
        self.used += cost
        self.left -= cost

    def add_run(self, run: Run, count: int) -> None:
        """Single outputs that answer their inputs, so many."""
        cost = run.frame_bytes
        self.used += cost
        self.left -= cost
        self.size += run.size
        self.answered += count
        if not (self.runs and self.runs[-1].join(run)):
            self.runs.append(run)


class ReadyQueue:
    """What leaves next on one attempt.

    Attributes:
        credit: what the client has granted.
        waiting: the answers, the next one first.
        frame_bytes: up to which a frame gathers answers.
    """

    __slots__ = ("_aside", "_ordered", "credit", "frame_bytes", "waiting")

    def __init__(self) -> None:
        self.credit: CreditBalance = CreditBalance()
        self.waiting: deque[Run | Work | Dropped] = deque()
        self.frame_bytes: int = FRAME_TARGET_BYTES
        self._ordered = True
        self._aside: Run | Work | None = None

    def begin(self, terms: Terms) -> None:
        """The stream is served on these terms."""
        self.frame_bytes = min(self.frame_bytes, terms.frame_bytes)
        self._ordered = terms.ordered

    @property
    def next_size(self) -> int | None:
        """Bytes of the output that leaves next; None if there is none, or errors go before it."""
        head = self.waiting[0] if self.waiting else None
        if head is None or isinstance(head, Dropped):
            return None
        payloads = head.payloads if isinstance(head, Run) else head.outputs
        return len(payloads[0]) if payloads else 0

    @property
    def next_number(self) -> int:
        """The input whose output leaves next; 0 if there is none, or errors go before it."""
        head = self.waiting[0] if self.waiting else None
        if isinstance(head, Run):
            return head.first
        return head.number if isinstance(head, Work) else 0

    @property
    def next_output(self) -> tuple[int, int, bytes] | None:
        """The output that leaves next, with its input's number and its index; None if there is
        none, or errors go before it.
        """
        head = self.waiting[0] if self.waiting else None
        if isinstance(head, Run):
            return head.first, 0, head.payloads[0]
        if isinstance(head, Work) and head.outputs:
            return head.number, head.next_index, head.outputs[0]
        return None

    # ---------------------------------------------------------------- what becomes ready

    def add_run(self, run: Run) -> None:
        """Single outputs that answer their inputs."""
        tail = self.waiting[-1] if self.waiting else None
        if not (isinstance(tail, Run) and tail.join(run)):
            self.waiting.append(run)

    def add_work(self, work: Work) -> None:
        """An input has something to say; no harm if it is known already."""
        if not work.placed:
            work.placed = True
            self.waiting.append(work)

    def add_dropped(self, numbers: Iterable[int]) -> None:
        """Inputs that are answered as cancelled."""
        tail = self.waiting[-1] if self.waiting else None
        if isinstance(tail, Dropped):
            tail.numbers.extend(numbers)
        else:
            self.waiting.append(Dropped(numbers))

    def clear(self) -> None:
        """Nobody reads the answers any more."""
        self.waiting.clear()
        self._aside = None

    # ---------------------------------------------------------------- what leaves

    def set_aside(self) -> None:
        """See `Outbox`."""
        head = self.waiting[0]
        if isinstance(head, Run) and len(head.payloads) > 1:
            self._aside = head.cut(1)
        elif not isinstance(head, Dropped):
            self._aside = head
            self.waiting.popleft()

    @property
    def aside_bytes(self) -> int:
        """Of the output that was set aside."""
        aside = self._aside
        if aside is None:
            return 0
        return len(aside.payloads[0] if isinstance(aside, Run) else aside.outputs[0])

    def put_back(self) -> None:
        """See `Outbox`."""
        if self._aside is not None:
            self.waiting.appendleft(self._aside)
            self._aside = None

    def gather(self, room: int | None = None) -> FrameAnswers:
        """Answers for one frame: all that may go out and fit (docs sections 6 to 8)."""
        size, waiting = self.frame_bytes, self.waiting
        answers = FrameAnswers(size if room is None else min(size, room))
        while waiting:
            head = waiting[0]
            if isinstance(head, Run):
                count = self._sendable(head, answers)
                if not count:
                    break
                run = head if count == len(head.payloads) else head.cut(count)
                if run is head:
                    waiting.popleft()
                self.credit.spend(run.size, count)
                answers.add_run(run, count)
            elif isinstance(head, Dropped):
                if not self._gather_dropped(head, answers):
                    break
            elif not self._gather_work(head, answers):
                break
        return answers

    def _sendable(self, run: Run, answers: FrameAnswers) -> int:
        """How many of a run's outputs the credit and the frame allow; one goes alone."""
        if not self.credit.allows_output:
            return 0
        left = self.credit.left
        in_credit = min(left.outputs, run.within(left.bytes - 1) + 1)  # the last may exceed it
        in_frame = run.within_frame(answers.left)
        return min(len(run.payloads), in_credit, max(in_frame, not answers.used))

    def _gather_dropped(self, dropped: Dropped, answers: FrameAnswers) -> bool:
        """Take inputs that were dropped into the frame; False: not all of them fit."""
        cost = len(NOT_STARTED) + ITEM_OVERHEAD_BYTES
        count = min(len(dropped.numbers), max(answers.left // cost, not answers.used))
        for _ in range(count):
            number = dropped.numbers.popleft()
            answers.errors.append(ItemFailure(number, ItemErrorKind.CANCELLED, NOT_STARTED))
        answers.use(count * cost)
        answers.answered += count
        if dropped.numbers:
            return False
        self.waiting.popleft()
        return True

    def _gather_work(self, work: Work, answers: FrameAnswers) -> bool:
        """Take into the frame what one input has to say; False: the frame is full, or the credit
        spent, or the input's turn is not over yet.
        """
        while work.outputs:
            cost = len(work.outputs[0]) + ITEM_OVERHEAD_BYTES
            if not self.credit.allows_output or not answers.fits(cost):
                return False
            payload = work.outputs.popleft()
            self.credit.spend(len(payload))
            last = work.closed and work.failure is None and not work.outputs
            if last and not work.next_index:
                self.waiting.popleft()
                answers.add_run(Run(work.number, (payload,), len(payload)), 1)
                return True
            answers.use(cost)
            answers.size += len(payload)
            answers.parts.append(OutputPart(work.number, work.next_index, (payload,), last))
            work.next_index += 1
            if last:
                answers.answered += 1
                self.waiting.popleft()
                return True
        if work.closed:
            cost = (len(work.failure.text) if work.failure else 0) + ITEM_OVERHEAD_BYTES
            if not answers.fits(cost):
                return False
            answers.use(cost)
            if work.failure is not None:
                answers.errors.append(work.failure)
            else:
                answers.parts.append(OutputPart(work.number, work.next_index, (), True))
            answers.answered += 1
            self.waiting.popleft()
            return True
        if self._ordered:
            return False
        self.waiting.popleft()
        work.placed = False
        return True
