"""Ports that stay a test's own while nobody listens there: a server of another test, in another
process, would get one that is free, and answer in its place.
"""

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from servestream_client.testing import StreamServer

__all__ = ["reserved_port", "stopped"]


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


@contextmanager
def stopped(servers: Sequence[StreamServer]) -> Iterator[None]:
    """These servers are stopped, and nobody else gets their ports."""
    with ExitStack() as stack:
        for server in servers:
            port = int(server.target.rpartition(":")[2])
            server.stop()
            held = stack.enter_context(socket.socket())
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", port))
        yield
