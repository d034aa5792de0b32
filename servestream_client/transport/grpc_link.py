"""Links over `grpc.aio` and the generated stub.

How to use a grpc.aio call without losing frames was measured (docs/decisions/0003): write by hand,
read by iterating the call, never mix in ``read()``; a write that fails is not a status; and after
the last frame the server must linger until the client has half-closed.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import TypeVar

import anyio.lowlevel
import grpc
import grpc.aio

from servestream_client.errors import ConfigurationError, RemoteProtocolError, printable
from servestream_client.metadata import (
    COMMON_SOFT_LIMIT,
    Metadata,
    excess,
    metadata_size,
)
from servestream_client.protocol.frames import ClientFrame, ServerFrame
from servestream_client.signals import being_cancelled
from servestream_client.transport.base import LinkStatus
from servestream_client.transport.channels import (
    CONNECT_MS,
    Call,
    Connection,
    channel_options,
    connected,
)
from servestream_client.transport.intercepted import (
    InterceptorFailedError,
    Outgoing,
    cancel_intercepted,
    watched,
)
from servestream_client.transport.proxies import is_local_target
from servestream_client.transport.traffic import Line
from servestream_client.transport.writing import WRITE_FAILURES, writer
from servestream_client.wire import stream_pb2 as pb
from servestream_client.wire.convert import client_frame_to_wire, server_frame_from_wire
from servestream_client.wire.written import client_frame_bytes

__all__ = ["GrpcLink", "GrpcTransport", "check_process"]

logger: logging.Logger = logging.getLogger(__name__)


C = TypeVar("C", bound=grpc.aio.Call)

_MAX_DETAILS = 4096  # which is where Ray Serve cuts them

_CANCELLED_HERE = "Locally cancelled by application!"  # as grpc.aio says it

_MOST_FOR_SLOWNESS = 8
"""Where there are so many connections, a slow one is no reason for another."""

_STATUS_TASK = "_AioCall._handle_status_once_received"
_SETTLING_SECONDS = 0.1


class GrpcLink:
    """One call of ``servestream.v1.StreamService/Stream``.

    Args:
        call: the call.
        avoid: keeps further calls from the call's connection.
        line: its part of the connection's traffic.
        tls: whether the channel has credentials.
        metadata_bytes: what the call's metadata take.
        outgoing: what the call sends, if its channel has interceptors.
    """

    def __init__(
        self,
        call: Call,
        avoid: Callable[[], None],
        line: Line,
        *,
        tls: bool = False,
        metadata_bytes: int = 0,
        outgoing: Outgoing[pb.ClientFrame] | None = None,
    ) -> None:
        self.line: Line = line
        self._call = call
        self.avoid_connection = avoid
        self._tls = tls
        self._metadata_bytes = metadata_bytes
        self._outgoing = outgoing
        self._write: Callable[[bytes], Awaitable[None]] | None = None
        self._failure = ""  # of an interceptor
        self._raised: LinkStatus | None = None
        self._cancelled = False

    async def send(self, frame: ClientFrame) -> bool:
        if self._outgoing is not None:
            return await self._outgoing.send(client_frame_to_wire(frame))
        message = client_frame_bytes(frame)
        try:
            if self._write is None:
                self._write = await writer(self._call)
            await self._write(message)
        except WRITE_FAILURES as error:
            logger.debug("write refused: %r", error)
            return False
        except asyncio.CancelledError:
            if await _task_is_cancelled():
                raise
            return False
        return True

    async def half_close(self) -> None:
        if self._outgoing is not None:
            self._outgoing.end()
            return
        try:
            await self._call.done_writing()
        except WRITE_FAILURES as error:
            logger.debug("half-close refused: %r", error)

    async def frames(self) -> AsyncGenerator[ServerFrame, None]:
        outgoing = self._outgoing
        messages = aiter(self._call) if outgoing is None else watched(self._call, outgoing)
        try:
            async for message in messages:
                if message is None:  # grpc.aio's word for a message that does not parse
                    raise RemoteProtocolError("a message that is no frame")
                frame = server_frame_from_wire(message)
                del message  # it may be megabytes, which are not to be held while it waits
                yield frame
                del frame
        except grpc.aio.AioRpcError as error:
            logger.debug("call ended: %s", error.code())
            # Not the error itself: with its traceback it would hold this link, and so the call.
            self._raised = self._status(error.code(), error.details())
        except InterceptorFailedError as error:
            self._failure = str(error)
        except asyncio.CancelledError:
            if await _task_is_cancelled():
                raise
        finally:
            # A call and its unfinished iterator refer to each other.
            close = getattr(messages, "aclose", None)
            if close is not None:
                await close()

    async def status(self) -> LinkStatus:
        if self._outgoing is not None:
            failure = self._failure or self._outgoing.failure
            if failure:
                return LinkStatus("UNKNOWN", f"an interceptor of the channel failed: {failure}")
            if self._raised is not None:  # which may be an interceptor's word for it
                return self._raised
        code = await self._call.code()
        details = await self._call.details()
        if self._outgoing is not None and details == _CANCELLED_HERE and not self._cancelled:
            return LinkStatus("UNKNOWN", "an interceptor of the channel cancelled the call")
        return self._status(code, details)

    def _status(self, code: grpc.StatusCode, details: str | None) -> LinkStatus:
        return LinkStatus(
            code.name,
            printable(details or "", _MAX_DETAILS),
            tls=self._tls,
            metadata_bytes=self._sent_metadata_bytes,
        )

    @property
    def _sent_metadata_bytes(self) -> int:
        outgoing = self._outgoing
        if outgoing is None or outgoing.metadata_bytes is None:
            return self._metadata_bytes
        return outgoing.metadata_bytes

    def cancel(self) -> None:
        self._cancelled = True
        if self._outgoing is None:
            self._call.cancel()
            return
        self._outgoing.close()
        cancel_intercepted(self._call)


async def _settle() -> None:
    """Let grpc.aio hear the last of calls that were cancelled.

    What comes after their event loop was closed is reported as an error on the process's next one
    ("Exception in callback PollerCompletionQueue._handle_events"). Those who wait for it are tasks
    of grpc.aio's, and of other people's calls as well, hence the limit.
    """
    waiting = {
        task
        for task in asyncio.all_tasks()
        if getattr(task.get_coro(), "__qualname__", "") == _STATUS_TASK
    }
    if waiting:
        await asyncio.wait(waiting, timeout=_SETTLING_SECONDS)


async def _task_is_cancelled() -> bool:
    """Whether a CancelledError means the running task, and not the call that it waits for.

    In both cases grpc.aio raises an exception of its own making, which anyio would not know as its
    own; this raises anyio's, where it is that.
    """
    await anyio.lowlevel.checkpoint_if_cancelled()
    return being_cancelled()


class _Process:
    """Whether gRPC was used in this process, or in the one that it was forked from."""

    used = False
    forked = False

    @classmethod
    def after_fork(cls) -> None:
        cls.forked = cls.used


# Not by asking for the process's id: that is a system call, for each prediction.
os.register_at_fork(after_in_child=_Process.after_fork)


def check_process() -> None:
    """
    Raises:
        ConfigurationError: gRPC was used before this process was forked, and does not work in it.
    """
    if _Process.forked:
        raise ConfigurationError(
            "this process was forked from one that had used gRPC, which does not work here: start"
            " it with 'spawn' or 'forkserver', or fork before the first client is used"
        )


class GrpcTransport:
    """Channels to one target. Make and use it on one event loop.

    A peer lets only so many calls share a connection, and further ones wait without a word
    (HAProxy: 100); so another connection is opened in time, and closed when it is not needed. One
    on which a call waited in vain takes no further calls: it may have a connection's trouble.

    Args:
        target: ``host:port``, or any gRPC target name.
        authority: ``host:port`` that the calls are for, where the target is one of its addresses,
            to which they go straight; empty: as gRPC makes it from the target.
        metadata: sent with every call.
        max_frame_bytes: the largest frame to accept.
        credentials: for a TLS channel; None: an insecure one.
        streams_per_connection: calls at a time on one channel.

    Raises:
        ConfigurationError: as `check_process`.
    """

    def __init__(
        self,
        target: str,
        *,
        authority: str = "",
        metadata: Metadata = (),
        max_frame_bytes: int,
        credentials: grpc.ChannelCredentials | None = None,
        streams_per_connection: int = 100,
    ) -> None:
        check_process()
        _Process.used = True
        self._target = target
        self._metadata = tuple(metadata)
        self._metadata_bytes = metadata_size(self._metadata)
        self._told = self._metadata_bytes > COMMON_SOFT_LIMIT  # when the client was made
        self._options = channel_options(max_frame_bytes)
        if authority:
            self._options.append(("grpc.default_authority", authority))
        if authority or is_local_target(target):
            self._options.append(("grpc.enable_http_proxy", 0))
        self._credentials = credentials
        self._most_calls = streams_per_connection
        self._connections = [self._connect()]
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def connections(self) -> int:
        """How many channels are open."""
        return len(self._connections)

    def open(self, metadata: Metadata = (), *, apart: bool = False) -> GrpcLink:
        connection = self._connection_for(apart=apart)
        connection.apart = apart
        call, outgoing = connection.call((*self._metadata, *metadata))
        connection.calls += 1
        line = Line(connection.traffic)
        call.add_done_callback(lambda _: self._ended(connection, line, outgoing))
        return GrpcLink(
            call,
            partial(self._avoid, connection),
            line,
            tls=self._credentials is not None,
            metadata_bytes=self._size_with(metadata),
            outgoing=outgoing,
        )

    def begin(
        self, start: Callable[[grpc.aio.Channel, Metadata], C], metadata: Metadata = ()
    ) -> tuple[C, Callable[[], None], int]:
        """Begin a call of another RPC than this package's.

        Args:
            start: begins it on a channel, with all its metadata.
            metadata: besides those that go with every call.

        Returns:
            The call, what keeps further ones from its connection, and how many bytes its metadata
            take.
        """
        connection = self._connection_for(apart=False)
        call = start(connection.channel, (*self._metadata, *metadata))
        connection.calls += 1
        call.add_done_callback(lambda _: self._over(connection))
        return call, partial(self._avoid, connection), self._size_with(metadata)

    async def probe(self) -> str | None:
        idle = next((each for each in self._connections if not (each.calls or each.avoided)), None)
        connection = self._connect() if idle is None else idle
        try:
            async with asyncio.timeout(CONNECT_MS / 1000):
                reached = await connected(connection.channel)
        except TimeoutError:
            reached = False
        finally:
            if idle is None:
                await connection.close()
        return None if reached else f"no connection can be made to {self._target}"

    def _size_with(self, metadata: Metadata) -> int:
        """What a call's metadata take; says once that what hooks add to them makes it too much."""
        if not metadata:
            return self._metadata_bytes
        size = metadata_size((*self._metadata, *metadata))
        said = excess(size)
        if said is not None and not self._told:
            self._told = True
            logger.warning("with what hooks add, %s", said)
        return size

    async def aclose(self) -> None:
        connections, self._connections = self._connections, []
        for connection in connections:
            await connection.close()
        if self._closing:
            await asyncio.wait(self._closing)
        await _settle()

    def _connection_for(self, *, apart: bool) -> Connection:
        fit = [
            connection
            for connection in self._connections
            if connection.calls < self._most_calls
            and not connection.avoided
            and (connection.apart == apart or not connection.calls)
        ]
        for connection in fit:
            if not connection.traffic.slow:
                return connection
        if fit and len(self._connections) >= _MOST_FOR_SLOWNESS:
            return min(fit, key=lambda connection: connection.traffic.under_way)
        connection = self._connect()
        self._connections.append(connection)
        return connection

    def _connect(self) -> Connection:
        # gRPC's poller belongs to the process, and would keep the context of the first call.
        return contextvars.Context().run(self._connect_here)

    def _connect_here(self) -> Connection:
        if self._credentials is None:
            channel = grpc.aio.insecure_channel(self._target, options=self._options)
        else:
            channel = grpc.aio.secure_channel(
                self._target, self._credentials, options=self._options
            )
        return Connection(channel)

    def _ended(
        self, connection: Connection, line: Line, outgoing: Outgoing[pb.ClientFrame] | None
    ) -> None:
        """A call is over; one that waits may take its place."""
        line.leave()
        if outgoing is not None:
            outgoing.close()
        self._over(connection)

    def _over(self, connection: Connection) -> None:
        connection.calls -= 1
        self._close_unneeded(connection)

    def _avoid(self, connection: Connection) -> None:
        """Have it carry no further calls. Its last may be over by now."""
        connection.avoided = True
        self._close_unneeded(connection)

    def _close_unneeded(self, connection: Connection) -> None:
        if connection.calls or connection not in self._connections:
            return
        if connection is next((each for each in self._connections if not each.avoided), None):
            return  # one is kept, of those that take calls
        self._connections.remove(connection)
        closing = asyncio.ensure_future(connection.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
