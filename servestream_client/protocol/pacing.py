"""Pacing: at most K paced frames unacknowledged, each way (docs/protocol.md, section 8)."""

from __future__ import annotations

from collections.abc import Collection

from servestream_client.errors import RemoteProtocolError

FRAME_TARGET_BYTES = 64 * 1024
"""A frame gathers payloads up to this size at first; one larger item goes alone."""

FRAME_MOST_BYTES = 512 * 1024
"""And up to this size where frames are acknowledged soon (docs/decisions/0027)."""

ITEM_OVERHEAD_BYTES = 4
"""What one more payload costs in a frame besides its bytes: a tag and a length."""


class Pacer:
    """Both directions of one end: what it sent and may send, what it read and owes a word for."""

    __slots__ = ("_read", "_reported", "_sizes", "_urgent", "acknowledged", "limit", "sent_frames")

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self.sent_frames: int = 0
        """How many were sent, and of these were acknowledged."""
        self.acknowledged: int = 0
        self._read = 0
        self._reported = 0
        self._urgent = False
        self._sizes: list[int] = []  # of the frames under way

    def may_send(self, *, full: bool) -> bool:
        """Whether a paced frame may go out now, which is `full` or not.

        While half of K are under way, the peer owes a word of them, and one that is not full waits
        for that: otherwise a busy stream would travel in small frames.
        """
        under_way = self.sent_frames - self.acknowledged
        return under_way < self.limit if full else under_way * 2 < self.limit

    @property
    def acknowledgement_due(self) -> bool:
        """Whether the peer waits for word of what was read: half of K goes unreported, or a frame
        of which it wants to hear at once.
        """
        return self._urgent or (self._read - self._reported) * 2 >= self.limit

    @property
    def sizes(self) -> Collection[int]:
        """Of the frames that were sent and are not acknowledged, in bytes of payload."""
        return self._sizes

    def sent(self, size: int = 0) -> None:
        """A paced frame goes out, with so many bytes of payload."""
        self.sent_frames += 1
        self._sizes.append(size)

    def read(self, *, urgent: bool = False) -> None:
        """A paced frame of the peer has been read, which may be `urgent` to acknowledge."""
        self._read += 1
        self._urgent |= urgent

    def check(self) -> None:
        """
        Raises:
            RemoteProtocolError: the peer has sent more frames than it may without a word of them.
        """
        if self._read - self._reported > self.limit:
            raise RemoteProtocolError(
                f"{self._read - self._reported} paced frames came unacknowledged, and"
                f" {self.limit} are allowed"
            )

    def report(self) -> int:
        """The count of paced frames read, as the frame now being made will say it."""
        self._reported = self._read
        self._urgent = False
        return self._read

    def acknowledge(self, count: int) -> None:
        """The peer says how many paced frames it has read.

        Raises:
            RemoteProtocolError: it says more than were sent.
        """
        if count > self.sent_frames:
            raise RemoteProtocolError(
                f"{count} paced frames acknowledged, but only {self.sent_frames} were sent"
            )
        if self.acknowledged < count:
            del self._sizes[: count - self.acknowledged]
            self.acknowledged = count
