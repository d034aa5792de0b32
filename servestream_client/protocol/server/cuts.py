"""Large outputs of one attempt, which leave in chunks (docs/protocol.md, section 22).

Invariant: one output is cut at a time. In order, nothing else is answered until the rest of it has
left. Where answers come in any order it is set aside meanwhile, and others go between; but no
other large one.
"""

from __future__ import annotations

from servestream_client.protocol.chunks import FULL_BYTES, Cutting
from servestream_client.protocol.coming import Announcements
from servestream_client.protocol.frame_size import FrameSize
from servestream_client.protocol.frames import Chunk, OutputPart, OutputRun, ServerFrame
from servestream_client.protocol.pacing import Pacer
from servestream_client.protocol.server.outbox import Outbox
from servestream_client.protocol.server.parts import PartsOutbox
from servestream_client.protocol.server.ready import FrameAnswers

__all__ = ["OutputCuts"]


class OutputCuts:
    """See the module.

    Args:
        outbox: the answers.
        pacer: counts the frames.
        size: how large they are.
        announcements: of those that are too large for that.

    Attributes:
        sent_bytes: that have left in chunks.
    """

    def __init__(
        self,
        outbox: Outbox | PartsOutbox,
        pacer: Pacer,
        size: FrameSize,
        announcements: Announcements,
    ) -> None:
        self.sent_bytes: int = 0
        self._outbox = outbox
        self._pacer = pacer
        self._size = size
        self._announcements = announcements
        self._ordered = True
        self._cutting: Cutting | None = None
        self._aside = False  # what is cut does not wait among the others

    def begin(self, *, ordered: bool) -> None:
        """Whether answers leave in the order of their inputs."""
        self._ordered = ordered

    @property
    def _room(self) -> int:
        return int(min(self._size.chunk, self._announcements.free))

    @property
    def left(self) -> int:
        """How many bytes of an output that has begun to leave are still to leave."""
        cutting = self._cutting
        return cutting.left if cutting is not None and cutting.offset else 0

    @property
    def _is_next(self) -> bool:
        """Whether what is cut leaves next."""
        cutting, output = self._cutting, self._outbox.next_output
        return cutting is not None and output is not None and cutting.is_of(output[0], output[1])

    @property
    def _large(self) -> tuple[int, int, bytes] | None:
        """The output that leaves next, if it is too large for a frame."""
        size, outbox = self._size, self._outbox
        if not size.chunk or outbox.held_bytes <= size.whole:
            return None  # which is nearly always so
        output = outbox.next_output
        return output if output is not None and len(output[2]) > size.whole else None

    @property
    def _more(self) -> bool:
        """Whether a chunk of it is to leave before the rest."""
        return self._cutting is not None and self._cutting.left > self._room

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
        """Whether what leaves next goes in chunks, or is the rest of that: no large frame."""
        return self._large is not None or (self._cutting is not None and self._is_next)

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
                self._cutting, self._aside = None, False
            elif not self._more:
                self._outbox.put_back()
                self._aside = False
            return
        large = self._large
        if large is None or self._is_next or not self._outbox.credit.allows_output:
            return
        self._cutting = Cutting(*large)
        if not self._ordered:
            self._outbox.set_aside()
            self._aside = True

    # ---------------------------------------------------------------- a frame

    def gather(self) -> tuple[Chunk | None, FrameAnswers | None]:
        """The chunk and the answers that leave in the frame that is made now; None: there is none,
        or it may not.
        """
        cutting = self._cutting if self.active else None
        if cutting is None or not self._pacer.may_send(full=self._room >= FULL_BYTES):
            return None, self._gather_answers()
        answers = self._gather_beside()
        used, size = (0, 0) if answers is None else (answers.used, answers.size)
        chunk = None
        if used < self._room:
            chunk = cutting.next(self._room - used)
            self.sent_bytes += len(chunk.data)
            self._size.sent_chunk(used + len(chunk.data), self._room)
            size += len(chunk.data)
        self._pacer.sent(size)
        return chunk, answers

    def _gather_beside(self) -> FrameAnswers | None:
        """Others that ride with a chunk."""
        if not self._aside or self.blocks or not self._outbox.waiting:
            return None
        answers = self._outbox.gather(self._room // 2)
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
        self._size.sent(answers.used - cut)
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
