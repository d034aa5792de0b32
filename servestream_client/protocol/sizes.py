"""How much one end of an attempt sends at a time: frames, chunks, and what goes unannounced.

Invariant: what frames show of the link holds for chunks as well, and the other way round
(docs/protocol.md, sections 8, 12 and 22).
"""

from __future__ import annotations

from servestream_client.protocol.chunk_size import ChunkSize
from servestream_client.protocol.chunks import FULL_BYTES
from servestream_client.protocol.coming import Announcements
from servestream_client.protocol.frame_size import FrameSize
from servestream_client.protocol.pacing import Pacer

__all__ = ["Sizes"]


class Sizes:
    """See the module.

    Args:
        pacer: of the same end, which counts the frames.

    Attributes:
        frame: how much a frame gathers.
        chunk: how large chunks are.
        announcements: of what is too large to go without.
        chunked_bytes: that have left in chunks.
    """

    __slots__ = ("_pacer", "announcements", "chunk", "chunked_bytes", "frame")

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer
        self.frame: FrameSize = FrameSize(pacer)
        self.chunk: ChunkSize = ChunkSize(pacer)
        self.announcements: Announcements = Announcements()
        self.chunked_bytes: int = 0

    @property
    def room(self) -> int:
        """The largest chunk, in bytes; 0: the peer takes none."""
        return int(min(self.chunk.bytes, self.announcements.free))

    @property
    def whole(self) -> int:
        """Payloads of more bytes go in chunks."""
        return max(self.frame.bytes, self.room, self.chunk.whole)

    @property
    def chunk_may_go(self) -> bool:
        """Whether the pacing lets a chunk go."""
        return self._pacer.may_send(full=self.room >= FULL_BYTES)

    def sent_chunk(self, size: int, used: int = 0, beside: int = 0) -> None:
        """A frame is made with a chunk of so many bytes.

        Args:
            size: of the chunk.
            used: up by what goes in the frame besides.
            beside: payload bytes of that.
        """
        self.chunked_bytes += size
        self.chunk.sent(used + size, self.room)
        self._pacer.sent(beside + size)

    def note_time(self, now: float) -> bool:
        """A frame went out or came in, just now, in seconds by whatever clock.

        Returns:
            Whether full frames have shown anything of the link.
        """
        frame, chunk = self.frame, self.chunk
        changed = frame.look(now)
        if changed and frame.slow:
            chunk.slowed()
        elif changed:
            chunk.follow(frame.unannounced)
        if chunk.look(now) or changed:
            self.announcements.allow(max(frame.unannounced, chunk.unannounced))
        return changed
