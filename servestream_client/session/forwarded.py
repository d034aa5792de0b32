"""An input of a stream whose outputs come by another one, and go into the stream's own queue."""

from __future__ import annotations

from typing import Protocol

from servestream_client.errors import ItemError
from servestream_client.protocol.client import Part, Partial
from servestream_client.protocol.frames import Credit, ItemFailure
from servestream_client.session.driver import StreamDriver
from servestream_client.session.request import Request

__all__ = ["Forwarded", "Forwarder"]


class Forwarder(Protocol):
    """Hands on what comes of such inputs."""

    def came(self, part: Part) -> None:
        """Outputs of one came."""
        ...

    def left(self, request: Forwarded, error: BaseException | None) -> None:
        """There are no further outputs of one."""
        ...


class Forwarded(Request):
    """See the module. What the stream's consumer has not taken of it is held against its credit.

    Args:
        forwarder: hands on what comes.
        stream: whose input it is.
        number: its own there.

    Attributes:
        of: that number.
        size: of its payload, in bytes, which is let go of when it ends.
    """

    __slots__ = ("_forwarder", "of", "size")

    def __init__(self, forwarder: Forwarder, stream: StreamDriver, number: int) -> None:
        quarantine = stream.quarantine
        super().__init__(None, quarantine.payload(number))
        self._forwarder: Forwarder = forwarder
        self.of: int = number
        self.size: int = len(self.payload)
        self.partial: Partial | None = quarantine.partial(number)
        self.received: int = quarantine.received(number)
        self.broke_at: int = self.received
        self.held: Credit = quarantine.held(number)

    def failure(self, error: ItemError) -> ItemFailure:
        """The same for the stream, where it has another number."""
        return ItemFailure(self.of, error.kind, error.text, error.index, error.retryable)

    def add(self, part: Part) -> None:
        super().add(part)
        self.queue.clear()
        self._forwarder.came(Part(self.of, part.first_index, part.payloads, part.last, part.seam))

    def end(self, error: BaseException | None = None) -> None:
        if not self.ended:
            super().end(error)
            self._forwarder.left(self, error)
