"""Of inputs with many outputs: what may leave, in frames.

Invariant: an input stands here once, and only while it has an output that its own credit allows, or
nothing but its end left. No output leaves without the attempt's credit, and no frame is larger than
the client wants, but for an output that alone is. Inputs take turns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from servestream_client.protocol.credit import CreditBalance
from servestream_client.protocol.frames import Credit, ItemFailure, OutputPart
from servestream_client.protocol.pacing import FRAME_TARGET_BYTES, ITEM_OVERHEAD_BYTES
from servestream_client.protocol.server.ready import FrameAnswers

__all__ = ["PartsWork", "ReadyParts"]


class PartsWork:
    """One input's answer, as far as it has not left.

    Attributes:
        number: the input's.
        next_index: of the first of `outputs`.
        outputs: those that have not left.
        size: of these together, in bytes.
        credit: what may be sent of it on this attempt.
        bytes_sent: what was.
        checkpoints: the first one that has not left, and the last, each with the index of the
            output behind it: one in between would never be used.
        closed: no further outputs come.
        failure: its end, where that is an error.
        placed: it stands among those that have something to send.
        answered: its end has left.
    """

    __slots__ = (
        "answered",
        "bytes_sent",
        "checkpoints",
        "closed",
        "credit",
        "failure",
        "next_index",
        "number",
        "outputs",
        "placed",
        "size",
    )

    def __init__(self, number: int, next_index: int, credit: Credit) -> None:
        self.number: int = number
        self.next_index: int = next_index
        self.outputs: deque[bytes] = deque()
        self.size: int = 0
        self.credit: Credit = credit
        self.bytes_sent: int = 0
        self.checkpoints: list[tuple[int, bytes]] = []
        self.closed: bool = False
        self.failure: ItemFailure | None = None
        self.placed: bool = False
        self.answered: bool = False

    @property
    def end_index(self) -> int:
        """Behind all its outputs so far."""
        return self.next_index + len(self.outputs)

    @property
    def allows_output(self) -> bool:
        """Whether its next output may leave, as far as its own credit goes."""
        return self.next_index < self.credit.outputs and self.bytes_sent < self.credit.bytes

    @property
    def allows_another(self) -> bool:
        """Whether one made now could leave behind those that wait."""
        return (
            self.next_index + len(self.outputs) < self.credit.outputs
            and self.bytes_sent + self.size < self.credit.bytes
        )

    @property
    def checkpoint_bytes(self) -> int:
        return sum(len(checkpoint) for _, checkpoint in self.checkpoints)

    def add_checkpoint(self, checkpoint: bytes) -> int:
        """It stands behind the last of `outputs`. Returns how many bytes more are held."""
        before = self.checkpoint_bytes
        self.checkpoints[1:] = [(self.end_index, checkpoint)]
        return self.checkpoint_bytes - before

    def take_checkpoint(self) -> tuple[int, bytes | None, int]:
        """The last one that may go with what has left by now; the others are behind it.

        Returns:
            Where it stands, itself, and how many bytes are not held any more; None: there is none.
        """
        passed = 0
        for index, _ in self.checkpoints:
            passed += index <= self.next_index
        if not passed:
            return 0, None, 0
        before = self.checkpoint_bytes
        index, checkpoint = self.checkpoints[passed - 1]
        del self.checkpoints[:passed]
        return index, checkpoint, before - self.checkpoint_bytes


class ReadyParts:
    """See the module.

    Attributes:
        credit: what the client has granted for all inputs together.
        frame_bytes: up to which a frame gathers answers.
        size: of the outputs and checkpoints of those that stand here, in bytes.
        ends: those that have nothing but their end left.
    """

    __slots__ = ("_aside", "_works", "credit", "ends", "frame_bytes", "size")

    def __init__(self) -> None:
        self.credit: CreditBalance = CreditBalance()
        self.frame_bytes: int = FRAME_TARGET_BYTES
        self.size: int = 0
        self.ends: deque[PartsWork] = deque()
        self._works: deque[PartsWork] = deque()  # with an output that their own credit allows
        self._aside: PartsWork | None = None  # which counts as if it stood there

    def __bool__(self) -> bool:
        return bool(self._works or self.ends)

    @property
    def next(self) -> PartsWork | None:
        """Whose output leaves next; None if there is none, or ends go before it."""
        return self._works[0] if self._works and not self.ends else None

    @property
    def next_output(self) -> tuple[int, int, bytes] | None:
        """See `ReadyQueue`."""
        work = self.next
        return None if work is None else (work.number, work.next_index, work.outputs[0])

    @property
    def next_frame_bytes(self) -> int:
        """How large the next frame may become, in bytes of outputs; 0 if it begins with none."""
        if self.ends or not self._works:
            return 0  # a large output does not ride with what goes before it
        first = self._works[0]
        size = self.size - self.aside_bytes
        return max(min(size, self.frame_bytes), len(first.outputs[0]) + first.checkpoint_bytes)

    def place(self, work: PartsWork) -> None:
        """An input's turn has come; it stands here if it has something to send."""
        if work.placed:
            return
        if work.outputs:
            if work.allows_output:
                work.placed = True
                self._works.append(work)
                self.size += work.size + work.checkpoint_bytes
        elif work.closed:
            work.placed = True
            self.ends.append(work)

    def remove(self, works: Iterable[PartsWork]) -> None:
        """Inputs will not send the outputs for which they may stand here."""
        found = False
        for work in works:
            if work.placed and work.outputs:
                found, work.placed = True, False
                self.size -= work.size + work.checkpoint_bytes
        if found:
            self._works = deque(work for work in self._works if work.placed)
            if self._aside is not None and not self._aside.placed:
                self._aside = None

    def set_aside(self) -> None:
        """See `Outbox`."""
        self._aside = self._works.popleft()

    @property
    def aside_bytes(self) -> int:
        """Of the output that was set aside."""
        return 0 if self._aside is None else len(self._aside.outputs[0])

    @property
    def wants_aside(self) -> bool:
        """See `Outbox`."""
        return self._aside is not None

    def put_back(self) -> None:
        """See `Outbox`."""
        if self._aside is not None:
            self._works.appendleft(self._aside)
            self._aside = None

    def clear(self) -> None:
        self._aside = None
        self._works.clear()
        self.ends.clear()
        self.size = 0

    # ---------------------------------------------------------------- what leaves

    def gather(self, answers: FrameAnswers) -> PartsWork | None:
        """Take what the next input may send into a frame. It stands here no more: look at it, and
        `place` it again.

        Returns:
            The input; None: there is none, or the frame is full, or the credit spent.
        """
        if self.ends and self._gather_end(answers):
            return self.ends.popleft()
        if self._works and self.credit.allows_output:
            work = self._works[0]
            alone = len(work.outputs) == 1 and not work.checkpoints
            gather = self._gather_only if alone else self._gather_outputs
            if gather(work, answers):
                return work
        return None

    def _gather_only(self, work: PartsWork, answers: FrameAnswers) -> bool:
        """As `_gather_outputs`, of an input that has one: it may leave, since it stands here."""
        size = len(work.outputs[0])
        cost = size + ITEM_OVERHEAD_BYTES
        if not answers.fits(cost):
            return False
        answers.use(cost)
        self._take(work, 1, size, answers)
        return True

    def _gather_end(self, answers: FrameAnswers) -> bool:
        work = self.ends[0]
        failure = work.failure
        cost = (len(failure.text) if failure else 0) + ITEM_OVERHEAD_BYTES
        if not answers.fits(cost):
            return False
        answers.use(cost)
        if failure is not None:
            answers.errors.append(failure)
        else:
            answers.parts.append(OutputPart(work.number, work.next_index, (), last=True))
        work.answered = True
        answers.answered += 1
        return True

    def _gather_outputs(self, work: PartsWork, answers: FrameAnswers) -> bool:
        outputs, lane = work.outputs, self.credit.left
        most = min(len(outputs), work.credit.outputs - work.next_index, lane.outputs)
        room = min(work.credit.bytes - work.bytes_sent, lane.bytes)
        beside: dict[int, int] | None = None
        if work.checkpoints:
            beside = {index: len(checkpoint) for index, checkpoint in work.checkpoints}
        count = size = 0
        for output in outputs:
            cost = len(output) + ITEM_OVERHEAD_BYTES
            if beside is not None:
                cost += beside.get(work.next_index + count + 1, 0)
            if count >= most or size >= room or not answers.fits(cost):
                break
            answers.use(cost)
            size += len(output)
            count += 1
        if not count:
            return False
        self._take(work, count, size, answers)
        return True

    def _take(self, work: PartsWork, count: int, size: int, answers: FrameAnswers) -> None:
        """So many of the next input's outputs go."""
        self._works.popleft()
        self.size -= work.size + work.checkpoint_bytes
        work.placed = False
        self.credit.spend(size, count)
        self._send(work, count, size, answers)

    def _send(self, work: PartsWork, count: int, size: int, answers: FrameAnswers) -> None:
        first, outputs = work.next_index, work.outputs
        if count == len(outputs):
            payloads = [*outputs]
            outputs.clear()
        else:
            payloads = [outputs.popleft() for _ in range(count)]
        work.next_index += count
        work.size -= size
        work.bytes_sent += size
        answers.size += size
        answers.outputs += count
        last = work.closed and not outputs and work.failure is None
        if work.checkpoints:
            index, checkpoint, freed = work.take_checkpoint()
            if checkpoint is not None:
                answers.size += freed
                behind = payloads[index - first :]
                answers.parts.append(
                    OutputPart(
                        work.number,
                        first,
                        payloads[: index - first],
                        last and not behind,
                        checkpoint,
                    )
                )
                first, payloads = index, behind
        if payloads:
            answers.parts.append(OutputPart(work.number, first, payloads, last))
        if last:
            work.answered = True
            answers.answered += 1
