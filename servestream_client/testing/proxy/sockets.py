"""What the proxy asks of TCP sockets. Nothing here has a state of its own."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from contextlib import suppress
from typing import Any

from servestream_client.errors import ConfigurationError
from servestream_client.testing.network import require

__all__ = ["Address", "connect", "on_its_way", "prepare", "reset", "resolve"]

# Linux's TCP_CLOSE, the first byte of TCP_INFO.
_TCP_CLOSED = 7

Address = tuple[socket.AddressFamily, Any]


def resolve(target: str) -> list[Address]:
    """
    Raises:
        ConfigurationError: the target is no ``host:port``, or its name is unknown.
    """
    host, _, port = target.rpartition(":")
    require(
        bool(host) and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16,
        f"{target!r} is no host:port",
    )
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigurationError(f"nothing is known of {target!r}: {error}") from error
    return [(family, address) for family, _, _, _, address in found]


async def connect(loop: asyncio.AbstractEventLoop, addresses: list[Address]) -> socket.socket:
    """Connect to the first address where somebody listens.

    Raises:
        OSError: nobody does.
    """
    problem = OSError("no address")
    for family, address in addresses:
        side = socket.socket(family, socket.SOCK_STREAM)
        try:
            prepare(side)
            await loop.sock_connect(side, address)
            # A port of the range that the kernel gives to clients may meet itself.
            if side.getsockname() == side.getpeername():
                raise ConnectionRefusedError("nobody but this socket itself")
        except OSError as error:
            problem = error
            side.close()
        except BaseException:
            side.close()
            raise
        else:
            return side
    raise problem


def prepare(side: socket.socket) -> None:
    side.setblocking(False)
    # A proxy must not hold back what its clients did not.
    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def reset(side: socket.socket) -> None:
    with suppress(OSError):  # it has left already
        side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    side.close()


def on_its_way(side: socket.socket) -> bool:
    """Whether something was sent that its receiver's kernel has not acknowledged, and still may."""
    if side.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSED:
        return False
    (count,) = struct.unpack("i", fcntl.ioctl(side, termios.TIOCOUTQ, bytes(4)))
    return bool(count)
