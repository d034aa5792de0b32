"""Ports that stay a test's own while nobody listens there: a server of another test, in another
process, would get one that is free, and answer in its place.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["reserved_port"]


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port of loopback on which servers may listen that share it, as gRPC's do. It is bound, and
    so given to nobody who asks for any; without a listener connections to it are refused.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
