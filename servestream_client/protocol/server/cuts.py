"""Large outputs of one attempt, which leave in chunks (docs/protocol.md, section 22).

Invariant: one output is cut at a time. In order, nothing else is answered until the rest of it has
left. Where answers come in any order it is set aside meanwhile, and others go between; but no
other large one.
"""

from __future__ import annotations

from servestream_client.protocol.chunks import Cutting
from servestream_client.protocol.frames import Chunk, OutputPart, OutputRun, ServerFrame
from servestream_client.protocol.pacing import ITEM_OVERHEAD_BYTES, Pacer
from servestream_client.protocol.server.outbox import Outbox
from servestream_client.protocol.server.parts import PartsOutbox
from servestream_client.protocol.server.ready import FrameAnswers
from servestream_client.protocol.sizes import Sizes

__all__ = ["OutputCuts"]


class OutputCuts:
    """See the module.

    Args:
        outbox: the answers.
        pacer: counts the frames.
        sizes: how much goes at a time.
    """

    def __init__(self, outbox: Outbox | PartsOutbox, pacer: Pacer, sizes: Sizes) -> None:
        self._outbox = outbox
        self._pacer = pacer
        self._sizes = sizes
        self._ordered = True
        self._cutting: Cutting | None = None
        self._aside = False  # what is cut does not wait among the others
        self._owed = False  # others went since the last chunk, and it is that one's turn

    def begin(self, *, ordered: bool) -> None:
        """Whether answers leave in the order of their inputs."""
        self._ordered = ordered

    def clear(self) -> None:
        """Nobody reads the answers any more."""
        self._cutting, self._aside = None, False

    @property
    def left(self) -> int:
        """How many bytes of an output that has begun to leave are still to leave."""
        cutting = self._cutting
        if cutting is None or not cutting.offset or not (self._aside or self._is_next):
            return 0
        return cutting.left

    @property
    def _is_next(self) -> bool:
        """Whether what is cut leaves next."""
        cutting, output = self._cutting, self._outbox.next_output
        return cutting is not None and output is not None and cutting.is_of(output[0], output[1])

    @property
    def _large(self) -> tuple[int, int, bytes] | None:
        """The output that leaves next, if it is too large for a frame."""
        sizes, outbox = self._sizes, self._outbox
        if not sizes.chunk.bytes or outbox.held_bytes <= sizes.frame.bytes:
            return None  # which is nearly always so
        output = outbox.next_output
        return output if output is not None and len(output[2]) > sizes.whole else None

    @property
    def _more(self) -> bool:
        """Whether a chunk of it is to leave before the rest."""
        return self._cutting is not None and self._cutting.left > self._sizes.room

    # ---------------------------------------------------------------- what leaves next

    @property
    def active(self) -> bool:
        """Whether a chunk is to leave, as soon as it may."""
        return self._cutting is not None and (self._aside or self._is_next) and self._more

    @property
    def blocks(self) -> bool:
        """Whether what leaves next has to wait for the output that is cut."""
        return self._large is not None if self._aside else self.active

    @property
    def next_is_large(self) -> bool:
        """Whether what leaves next goes in chunks: it is no large frame."""
        return self.active or (self._large is not None and not self._is_next)

    @property
    def offset(self) -> int:
        """How much of what leaves next has left in chunks."""
        cutting = self._cutting
        return cutting.offset if cutting is not None and self._is_next else 0

    def look(self) -> None:
        """A frame is made: begin with a large output whose turn has come, or go on with the rest of
        one that was set aside.
        """
        if self._aside:
            if not self._outbox.wants_aside:
                self.clear()
            elif not self._more:
                self._outbox.put_back()
                self._aside = False
            return
        if self._is_next:
            return
        self._cutting, large = None, self._large
        if large is None:
            return
        self._cutting, self._owed = Cutting(*large), False
        if not self._ordered:
            self._outbox.set_aside()
            self._aside = True

    # ---------------------------------------------------------------- a frame

    def gather(self) -> tuple[Chunk | None, FrameAnswers | None]:
        """The chunk and the answers that leave in the frame that is made now; None: there is none,
        or it may not.
        """
        cutting = self._cutting if self.active else None
        if cutting is None or not self._outbox.credit.allows_output:
            return None, self._gather_answers()
        sizes = self._sizes
        may_go = self._pacer.may_send(full=True) if self._owed else sizes.chunk_may_go
        if not may_go:
            if self._owed:  # others would keep all that may be under way
                return None, None
            answers = self._gather_answers()
            self._owed = answers is not None
            return None, answers
        answers = self._gather_beside()
        used, size = (0, 0) if answers is None else (answers.used, answers.size)
        if used >= sizes.room:  # an end with much to say
            self._pacer.sent(size)
            self._owed = True
            return None, answers
        chunk = cutting.next(min(sizes.room - used, cutting.left - 1))
        sizes.sent_chunk(len(chunk.data), used, size)
        self._owed = False
        return chunk, answers

    def _gather_beside(self) -> FrameAnswers | None:
        """Others that ride with a chunk, and take half of the frame at the most."""
        outbox, room = self._outbox, self._sizes.room // 2
        if not self._aside or self.blocks or not outbox.waiting:
            return None
        output = outbox.next_output
        if output is not None and len(output[2]) + ITEM_OVERHEAD_BYTES > room:
            return None
        answers = outbox.gather(room)
        return answers if answers.used else None

    def _gather_answers(self) -> FrameAnswers | None:
        outbox = self._outbox
        if not outbox.waiting or self.blocks or not self._pacer.may_send(full=outbox.fills_frame):
            return None
        cut = self.offset
        answers = outbox.gather()
        if not answers.used:
            return None  # for want of credit
        self._pacer.sent(answers.size - cut)
        self._sizes.frame.sent(answers.used - cut)
        return answers

    def leave_the_rest(self, frame: ServerFrame) -> None:
        """Answers leave: of the output that has left in chunks, if it is among them, the rest."""
        cutting = self._cutting
        if cutting is None:
            return
        answers: list[OutputRun | OutputPart] = [*frame.outputs, *frame.parts]
        for answer in answers:
            if answer.payloads and cutting.is_of(*answer.place):
                answer.payloads = [cutting.rest, *answer.payloads[1:]]
                answer.first_offset, self._cutting = cutting.offset, None
                return
