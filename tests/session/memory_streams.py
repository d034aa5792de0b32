"""Streams of a whole client's making, over links in memory."""

from collections.abc import Callable
from typing import Any

from pools import pool_of
from virtual_time import connections

from servestream_client import FlowControl, RetryPolicy, Watchdog
from servestream_client.codecs import BytesCodec
from servestream_client.session.connection import Connection
from servestream_client.session.factory import StreamFactory
from servestream_client.session.stream import PredictionStream
from servestream_client.transport.memory import MemoryTransport

__all__ = ["connect", "memory_stream", "rest"]


def connect(servers: Callable) -> Connection:
    """A connection that the end of the virtual time closes."""
    connection = Connection(pool_of(lambda: MemoryTransport(servers)))
    connections.append(connection)
    return connection


def memory_stream(
    servers: Callable,
    inputs: Any,
    *,
    connection: Connection | None = None,
    retry: RetryPolicy | None = None,
    flow: FlowControl | None = None,
    decode: Callable[[bytes], Any] = bytes,
    return_exceptions: bool = False,
    numbered: bool = False,
    **options: Any,
) -> PredictionStream:
    """A stream that has not begun. Other options are those of `StreamFactory.stream`."""
    connection = connection or connect(servers)
    factory = StreamFactory(
        connection=connection,
        codec=BytesCodec(),
        application="",
        retry=retry or RetryPolicy(attempts=60, initial=0.001, maximum=0.001),
        flow=flow or FlowControl(),
        watchdog=Watchdog(heartbeat_interval=None),
        close_timeout=0.1,
        hooks=(),
    )
    arguments = {"ordered": True, "timeout": None, "parameters": None, **options}
    return PredictionStream(
        factory.stream(inputs, **arguments),
        start=connection.start,
        decode=decode,
        return_exceptions=return_exceptions,
        numbered=numbered,
    )


async def rest(stream) -> list:
    """What a stream still gives."""
    return [output async for output in stream]
