"""Large inputs of one attempt, which leave in chunks (docs/protocol.md, section 22).

Invariant: what is cut is what goes next. It waits until the rest of it has left, and is sent then.
"""

from __future__ import annotations

from servestream_client.protocol.chunk_size import ChunkSize
from servestream_client.protocol.chunks import FULL_BYTES, Cutting
from servestream_client.protocol.coming import Announcements
from servestream_client.protocol.frame_size import FrameSize
from servestream_client.protocol.frames import Chunk, InputRun, Limits
from servestream_client.protocol.pacing import Pacer
from servestream_client.protocol.runs import RunQueue

__all__ = ["InputCuts"]


class InputCuts:
    """See the module.

    Args:
        unsent: what waits for a frame.
        pacer: counts the frames.
        frame_size: how large they are.
        announcements: of those that are too large for that.

    Attributes:
        size: how large chunks are.
        sent_bytes: that have left in chunks.
    """

    __slots__ = (
        "_announcements",
        "_cutting",
        "_frame_size",
        "_pacer",
        "_unsent",
        "sent_bytes",
        "size",
    )

    def __init__(
        self, unsent: RunQueue, pacer: Pacer, frame_size: FrameSize, announcements: Announcements
    ) -> None:
        self.size: ChunkSize = ChunkSize(pacer)
        self.sent_bytes: int = 0
        self._unsent = unsent
        self._pacer = pacer
        self._frame_size = frame_size
        self._announcements = announcements
        self._cutting: Cutting | None = None

    @property
    def room(self) -> int:
        """The largest chunk."""
        return int(min(self.size.bytes, self._announcements.free))

    @property
    def begun(self) -> bool:
        """Whether what goes next has left in part."""
        cutting = self._cutting
        return cutting is not None and bool(self._unsent) and cutting.is_of(self._next, 0)

    @property
    def _next(self) -> int:
        return self._unsent.head.first

    @property
    def left(self) -> int:
        """The bytes of the input that has begun to leave that have not; 0: there is none."""
        return self._cutting.left if self._cutting is not None and self.begun else 0

    @property
    def _rest(self) -> int:
        """How many bytes the rest may have, which leaves with what it takes to go on."""
        return max(1, self.room - self._unsent.head.resume_bytes)

    def due(self, limits: Limits) -> bool:
        """Whether what goes next has a chunk to leave before the rest of it can."""
        unsent, whole = self._unsent, self._frame_size.bytes
        if not self.size.bytes or (self._cutting is None and unsent.frame_bytes <= whole):
            return False  # which is nearly always so
        if left := self.left:
            return left > self._rest
        self._cutting = None  # what it was goes elsewhere, or nowhere
        if not unsent:
            return False
        whole = max(whole, self.room, self.size.whole)
        return whole < len(unsent.head.payloads[0]) <= limits.largest

    def forget(self, number: int) -> bool:
        """An input will not be sent; whether it had begun to leave."""
        if self._cutting is None or not self._cutting.is_of(number, 0):
            return False
        self._cutting = None
        return True

    @property
    def may_go(self) -> bool:
        """Whether the pacing lets a chunk go."""
        return self._pacer.may_send(full=self.room >= FULL_BYTES)

    def next(self) -> Chunk:
        """The next chunk, which is `due`."""
        if self._cutting is None or not self.begun:
            self._cutting = Cutting(self._next, 0, self._unsent.head.payloads[0])
        room = self.room
        chunk = self._cutting.next(min(room, self._cutting.left - 1))
        size = len(chunk.data)
        self.sent_bytes += size
        self._pacer.sent(size)
        self.size.sent(size, room)
        return chunk

    def leave_the_rest(self, run: InputRun) -> None:
        """Inputs leave: of the first one, if it has left in chunks, the rest."""
        cutting = self._cutting
        if cutting is not None and cutting.is_of(run.first_number, 0):
            run.payloads = [cutting.rest, *run.payloads[1:]]
            run.first_offset, self._cutting = cutting.offset, None
