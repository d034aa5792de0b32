"""Large payloads travel in chunks (docs/protocol.md, section 22).

What is too large for a frame would keep its connection busy: nothing of its stream goes between,
and little of others. In chunks it goes piece by piece, each acknowledged, and the last bytes stand
where the payload itself would; so all rules on inputs and answers are about that frame alone.

Invariant: an end cuts one payload at a time, and holds the chunks of one at the most.
"""

from __future__ import annotations

from io import BytesIO

from servestream_client.errors import FrameLostError, RemoteProtocolError
from servestream_client.protocol.coming import LOWEST_RATE, NOT_IN_TIME
from servestream_client.protocol.frames import Chunk

__all__ = ["FEATURE", "FULL_BYTES", "Assembly", "Cutting"]

FEATURE = "chunks"
"""Its name in `Open.features` and `Welcome.features`."""

FULL_BYTES = 256 * 1024
"""A chunk of so many bytes goes out like a full frame: only on a link that is quick are there any.
Smaller ones are under way two at a time, so that what comes beside them does not wait for long."""


class Cutting:
    """A payload that leaves in chunks.

    Args:
        number: its input's.
        index: of the output.
        payload: all of it.

    Attributes:
        number: likewise.
        index: likewise.
        offset: how many of its bytes have left.
    """

    __slots__ = ("_payload", "_view", "index", "number", "offset")

    def __init__(self, number: int, index: int, payload: bytes) -> None:
        self.number: int = number
        self.index: int = index
        self.offset: int = 0
        self._payload = payload
        self._view = memoryview(payload)

    @property
    def left(self) -> int:
        """How many bytes have not left."""
        return len(self._payload) - self.offset

    def is_of(self, number: int, index: int) -> bool:
        """Whether that is what leaves in chunks."""
        return number == self.number and index == self.index

    def next(self, size: int) -> Chunk:
        """The next chunk, of at most so many bytes."""
        begin, self.offset = self.offset, min(self.offset + size, len(self._payload))
        data = self._view[begin : self.offset]  # which copies nothing
        return Chunk(self.number, self.index, begin, data)

    @property
    def rest(self) -> bytes:
        """What stands where the payload would."""
        return self._payload[self.offset :]


class Assembly:
    """The chunks that came of a payload, until the rest of it comes.

    Attributes:
        received: bytes that came in chunks on this attempt.
        expected: bytes that may be on their way, while a payload has not come to its end: two
            chunks, each twice as large as the last one.
    """

    __slots__ = ("_buffer", "_index", "_number", "_size", "expected", "received")

    def __init__(self) -> None:
        self.received: int = 0
        self.expected: int = 0
        # Its bytes are those of the payload, in the end: two copies of it would take twice as much.
        self._buffer = BytesIO()
        self._number = self._index = self._size = 0

    def receive(self, chunk: Chunk, most: int) -> None:
        """A chunk came. One that begins a payload makes void what came of another.

        Args:
            chunk: that.
            most: how large a payload may be.

        Raises:
            RemoteProtocolError: it is too large.
            FrameLostError: a chunk before it is missing.
        """
        if not chunk.offset:
            self._begin(chunk.number, chunk.index)
        self._check(chunk.number, chunk.index, chunk.offset)
        self._size += len(chunk.data)
        if self._size > most:
            raise RemoteProtocolError(
                f"{_name(chunk.number, chunk.index)} has {self._size} bytes or more, in chunks, and"
                f" at most {most} were allowed"
            )
        self._buffer.write(chunk.data)
        self.received += len(chunk.data)
        self.expected = 4 * len(chunk.data)

    def join(self, number: int, index: int, offset: int, rest: bytes) -> bytes:
        """The rest of a payload came; returns all of it.

        Raises:
            FrameLostError: a chunk before it is missing.
        """
        self._check(number, index, offset)
        buffer = self._buffer
        self._begin(0, 0)
        buffer.write(rest)
        return buffer.getvalue()

    def drop(self, number: int) -> None:
        """No more comes of what may have come for this input."""
        self.drop_within(number, number)

    def drop_within(self, first: int, last: int) -> None:
        """Nor for any of these."""
        if first <= self._number <= last:
            self._begin(0, 0)

    def drop_before(self, number: int) -> None:
        """No more comes of an input up to this one, which came whole."""
        if self._number <= number:
            self._begin(0, 0)

    def said(self, what: str) -> str:
        """What to say of a link on which the next chunk did not come in time; empty: none was to
        come.

        Args:
            what: the item's name, with its article: "input", "the answer to input".
        """
        if not self._size:
            return ""
        return (
            f"{what} {self._number} {NOT_IN_TIME} {self._size} bytes of it had come in chunks, and"
            f" nothing came for too long: the link is slower than {LOWEST_RATE // 1024} KiB/s, or"
            " dead; on a slow one, a longer Watchdog.heartbeat_interval helps"
        )

    def check_sent(self, size: int) -> None:
        """The peer says how many bytes it has sent in chunks on this attempt.

        Raises:
            FrameLostError: they have not come.
        """
        if size > self.received:
            raise FrameLostError(
                f"a gap: {size} bytes were sent in chunks, of which {self.received} came"
            )

    def _begin(self, number: int, index: int) -> None:
        self._number, self._index, self._size, self._buffer = number, index, 0, BytesIO()
        self.expected = 0

    def _check(self, number: int, index: int, offset: int) -> None:
        if (number, index, offset) != (self._number, self._index, self._size):
            raise FrameLostError(
                f"a gap: of {_name(number, index)} {offset} bytes came before, in chunks, and"
                f" {self._size if (number, index) == (self._number, self._index) else 0} are here"
            )


def _name(number: int, index: int) -> str:
    return f"input {number}" if not index else f"output {index} of input {number}"
