"""A server of plain sockets that is no gRPC server. When it is left, nothing is left of it: one of
asyncio's would leave the connections that it has accepted to the garbage collector.
"""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

__all__ = ["saying", "tcp_server"]


def saying(reply: bytes | None) -> Callable[[socket.socket], None]:
    """What says something to whoever connects, and closes; None: nothing, and it stays."""

    def serve(connection: socket.socket) -> None:
        if reply is not None:
            connection.sendall(reply)
            connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):  # closing before all is read would be a reset
            pass

    return serve


@contextmanager
def tcp_server(
    serve: Callable[[socket.socket], None], context: ssl.SSLContext | None = None
) -> Iterator[str]:
    """Serve each connection in a thread; gives its address."""
    connections: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def one(connection: socket.socket) -> None:
        with suppress(OSError), connection:  # the client has gone, or the test
            if context is None:
                serve(connection)
                return
            with context.wrap_socket(connection, server_side=True) as encrypted:
                serve(encrypted)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                threads.append(threading.Thread(target=one, args=(connection,)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for connection in connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
