"""The contract between a session and whatever carries its frames."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from servestream_client.metadata import Metadata
from servestream_client.protocol.frames import ClientFrame, ServerFrame
from servestream_client.transport.traffic import Line

__all__ = ["Link", "LinkStatus", "Transport"]


_SHOWN = 600


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """How a call ended.

    Attributes:
        code: the gRPC status code's name, e.g. ``"UNAVAILABLE"``; ``"OK"`` says nothing about
            whether everything was answered.
        details: the status message, escaped.
        tls: whether the channel has credentials.
        metadata_bytes: what the call's metadata took, as gRPC counts it (`metadata_size`).
    """

    code: str
    details: str = ""
    tls: bool = False
    metadata_bytes: int = 0

    def __str__(self) -> str:
        details = self.details
        if len(details) > _SHOWN:
            # Ray puts a whole traceback there, with what happened in its last line.
            details = f"{details[: _SHOWN // 3]} … {details[-2 * _SHOWN // 3 :]}"
        return f"{self.code}: {details}" if details else self.code


class Link(Protocol):
    """One attempt's call. Write with `send`, read with `frames`; the two may run side by side."""

    @property
    def line(self) -> Line:
        """Its part of its connection's traffic."""
        ...

    async def send(self, frame: ClientFrame) -> bool:
        """Hand over a frame.

        Returns:
            False if the call takes no more writes, or was cancelled meanwhile. That is no status:
            read on to the end.
        """
        ...

    async def half_close(self) -> None:
        """Say that no further frame will be sent. Never raises for a call that is over."""
        ...

    def frames(self) -> AsyncGenerator[ServerFrame, None]:
        """Every frame that arrives, until the call is over in whatever way.

        Raises:
            RemoteProtocolError: something arrived that is no frame.
        """
        ...

    async def status(self) -> LinkStatus:
        """How the call ended; call it once `frames` is exhausted."""
        ...

    def avoid_connection(self) -> None:
        """The call got no answer for as long as anybody waits: open no others beside it."""
        ...

    def cancel(self) -> None:
        """End the call now, from this side. Harmless on a call that is over."""
        ...


class Transport(Protocol):
    """Opens links to one target."""

    def open(self, metadata: Metadata = (), *, apart: bool = False) -> Link:
        """Begin a call, with this metadata besides its own. Failures show when the link is read.

        Args:
            metadata: for the server.
            apart: the call carries small items that somebody waits for, and shares no connection
                with calls that may carry large ones.
        """
        ...

    async def probe(self) -> str | None:
        """Whether a connection can be made. Returns why not; None: it can."""
        ...

    async def aclose(self) -> None:
        """Give back the connection; open calls are cancelled."""
        ...
