"""Links inside one process, for tests: a client's frames go straight into a server's function."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable
from typing import TypeAlias

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from servestream_client.metadata import Metadata
from servestream_client.protocol.frames import ClientFrame, ServerFrame
from servestream_client.transport.base import LinkStatus
from servestream_client.transport.traffic import Line

__all__ = ["CallFailed", "MemoryLink", "MemoryTransport", "Server"]

Server: TypeAlias = Callable[
    [MemoryObjectReceiveStream[ClientFrame]], AsyncGenerator[ServerFrame, None]
]
"""Serves one call: what it yields is sent, its return is status OK, `CallFailed` another one."""


class CallFailed(Exception):  # noqa: N818 — how a server's function ends its call
    """Raised by a `Server` to end its call with a status."""

    def __init__(self, code: str, details: str = "") -> None:
        super().__init__(code, details)
        self.status: LinkStatus = LinkStatus(code, details)


class MemoryLink:
    """One call of a `Server`."""

    def __init__(self, server: Server) -> None:
        self._outgoing, self._incoming = anyio.create_memory_object_stream[ClientFrame](math.inf)
        self._serving = server(self._incoming)
        self._status = LinkStatus("CANCELLED", "cancelled by the client")
        self.line: Line = Line()

    async def send(self, frame: ClientFrame) -> bool:
        try:
            self._outgoing.send_nowait(frame)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return False
        return True

    async def half_close(self) -> None:
        self._outgoing.close()

    async def frames(self) -> AsyncGenerator[ServerFrame, None]:
        try:
            async for frame in self._serving:
                yield frame
            self._status = LinkStatus("OK")
        except CallFailed as failed:
            self._status = failed.status
        finally:
            await self._serving.aclose()
            self._incoming.close()

    async def status(self) -> LinkStatus:
        return self._status

    def avoid_connection(self) -> None:
        """There is none."""

    def cancel(self) -> None:
        self._outgoing.close()
        self._incoming.close()


class MemoryTransport:
    """Opens links to a function.

    Args:
        server: called for every link; to serve successive calls differently, give an object that
            counts its calls.
    """

    def __init__(self, server: Server) -> None:
        self._server = server

    def open(self, metadata: Metadata = (), *, apart: bool = False) -> MemoryLink:  # noqa: ARG002 — nobody reads them here
        return MemoryLink(self._server)

    async def probe(self) -> None:
        """A function can always be called."""

    async def aclose(self) -> None:
        """Nothing to give back."""
