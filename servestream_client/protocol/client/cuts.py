"""Large inputs of one attempt, which leave in chunks (docs/protocol.md, section 22).

Invariant: what is cut is what goes next. It waits until the rest of it has left, and is sent then.
"""

from __future__ import annotations

from servestream_client.protocol.chunks import Cutting
from servestream_client.protocol.frames import Chunk, InputRun, Limits
from servestream_client.protocol.runs import RunQueue
from servestream_client.protocol.sizes import Sizes

__all__ = ["InputCuts"]


class InputCuts:
    """See the module.

    Args:
        unsent: what waits for a frame.
        sizes: how much goes at a time.
    """

    __slots__ = ("_cutting", "_sizes", "_unsent")

    def __init__(self, unsent: RunQueue, sizes: Sizes) -> None:
        self._unsent = unsent
        self._sizes = sizes
        self._cutting: Cutting | None = None

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
        return max(1, self._sizes.room - self._unsent.head.resume_bytes)

    def due(self, limits: Limits) -> bool:
        """Whether what goes next has a chunk to leave before the rest of it can."""
        unsent, sizes = self._unsent, self._sizes
        if not sizes.chunk.bytes or (
            self._cutting is None and unsent.frame_bytes <= sizes.frame.bytes
        ):
            return False  # which is nearly always so
        if left := self.left:
            return left > self._rest
        self._cutting = None  # what it was goes elsewhere, or nowhere
        if not unsent:
            return False
        return sizes.whole < len(unsent.head.payloads[0]) <= limits.largest

    def forget(self, number: int) -> bool:
        """An input will not be sent; whether it had begun to leave."""
        if self._cutting is None or not self._cutting.is_of(number, 0):
            return False
        self._cutting = None
        return True

    def next(self) -> Chunk:
        """The next chunk, which is `due`."""
        if self._cutting is None or not self.begun:
            self._cutting = Cutting(self._next, 0, self._unsent.head.payloads[0])
        chunk = self._cutting.next(min(self._sizes.room, self._cutting.left - 1))
        self._sizes.sent_chunk(len(chunk.data))
        return chunk

    def leave_the_rest(self, run: InputRun) -> None:
        """Inputs leave: of the first one, if it has left in chunks, the rest."""
        cutting = self._cutting
        if cutting is not None and cutting.is_of(run.first_number, 0):
            run.payloads = [cutting.rest, *run.payloads[1:]]
            run.first_offset, self._cutting = cutting.offset, None
