"""Sides of connections that are over, on their way out."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

__all__ = ["Leaving"]

LEAVE_SECONDS = 1.0
"""How long a peer that got an end of stream may go on sending before its bytes are refused."""
READ_BYTES = 64 * 1024


class Leaving:
    """A side that got an end of stream: it is read to its own end, for `LEAVE_SECONDS` at the most,
    and stands among those that leave until it is closed.

    Closing a socket with unread bytes resets the connection, and what was sent may be lost.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, side: socket.socket, among: set[Leaving]
    ) -> None:
        self._loop = loop
        self._side = side
        self._among = among
        with suppress(OSError):  # it has left already
            side.shutdown(socket.SHUT_WR)
        among.add(self)
        loop.add_reader(side, self._drop)
        self._timer = loop.call_later(LEAVE_SECONDS, self.close)

    def close(self) -> None:
        self._timer.cancel()
        self._among.discard(self)
        self._loop.remove_reader(self._side)
        self._side.close()

    def _drop(self) -> None:
        try:
            if self._side.recv(READ_BYTES):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.close()
