"""A server in this process, for tests: real gRPC on a real socket, faults when you want them.

    with StreamServer(MyService()) as server, SyncStreamClient(server.target) as client:
        server.add_faults(Fault(FaultKind.KILL, at=3))
        assert list(client.stream(inputs)) == outputs

It runs on an event loop in a thread of its own, so that it serves blocking and async tests alike.
Its clients reach it through a `FaultProxy`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import anyio.to_thread
import grpc.aio
from anyio.from_thread import BlockingPortal, BlockingPortalProvider

from servestream_client.errors import ConfigurationError
from servestream_client.greenlets import check_threads
from servestream_client.server import StreamService
from servestream_client.server.kit import Frames, Kit, Requests
from servestream_client.server.service import checked_handler, server_options
from servestream_client.testing.faults import LocalPlan
from servestream_client.testing.handle import ProxiedServer
from servestream_client.testing.history import History
from servestream_client.testing.injector import FaultInjector, Garbage
from servestream_client.wire import stream_pb2 as pb

__all__ = ["Echo", "StreamServer"]

# Neither the blocking clients' nor the proxies': a service that keeps its event loop busy should
# stop nobody else.
_provider = BlockingPortalProvider()

_NOWHERE = "127.0.0.1:1"
"""Where nobody listens."""

Service: TypeAlias = StreamService[Any, Any] | Callable[[], StreamService[Any, Any]]


class Echo(StreamService[bytes, bytes]):
    """Gives back what it gets."""

    async def predict(self, item: bytes) -> bytes:
        return item


class StreamServer(ProxiedServer):
    """A `StreamService` on a `grpc.aio` server in this process, behind a `FaultProxy`.

    Use it as a context manager, or call `start` and `stop`. Its methods may be called from any
    thread, and in a running event loop, which they do not keep for long.

    `FaultKind.KILL` and `kill` end its life as SIGKILL would that of a process, as far as a client
    can see: every connection is reset, and no handler goes on. The next life begins at once, on
    the same target. A service given as a class or function is made anew for each life.

    Args:
        service: an instance, or what makes one; an echo unless told otherwise.
        plan: of the service's faults; None: one of its own.
        history: where to note what happens; None: one of its own.
        seed: of the network's jitter; None: a random one.

    Raises:
        ConfigurationError: it is no `StreamService`.
        TypeError: the service overrides none of the handlers, or more than one.
    """

    def __init__(
        self,
        service: Service = Echo,
        *,
        plan: LocalPlan | None = None,
        history: History | None = None,
        seed: int | None = None,
    ) -> None:
        self._make = service if callable(service) else lambda: service
        self.service: StreamService[Any, Any] = self._make()
        """The instance that serves at present."""
        if not isinstance(self.service, StreamService):
            raise ConfigurationError(
                f"a server needs a StreamService, not {type(self.service).__name__}"
            )
        checked_handler(self.service)
        self.lives: int = 1
        """How often it began to serve."""
        history = history if history is not None else History()
        self._plan = plan if plan is not None else history.plan()
        super().__init__(_NOWHERE, self._plan, history, seed)
        self._server: grpc.aio.Server | None = None
        self._portal: BlockingPortal | None = None
        self._dying: set[asyncio.Task[None]] = set()

    # ---------------------------------------------------------------- life

    def start(self) -> None:
        """Serve on a free port of loopback.

        Raises:
            ConfigurationError: gevent or eventlet has patched the process's threads.
        """
        if self._portal is not None:
            return
        check_threads()
        self._portal = _provider.__enter__()
        self._proxy.start()
        self._proxy.upstream = f"127.0.0.1:{self._portal.call(self._serve)}"

    def stop(self) -> None:
        """End every call, and free the port. Harmless twice."""
        portal, self._portal = self._portal, None
        if portal is None:
            return
        try:
            self._proxy.stop()
            portal.call(self._end_all)
        finally:
            _provider.__exit__(None, None, None)

    # ---------------------------------------------------------------- for tests

    @property
    def replica(self) -> str:
        """The name of its present life, as `StreamStatistics.replica` has it."""
        return f"in-process-{self.lives}"

    def kill(self) -> None:
        """End its present life, and begin the next one.

        Raises:
            ConfigurationError: it does not run.
        """
        if self._portal is None:
            raise ConfigurationError("the server does not run")
        self._portal.call(self._crash, self.lives)

    # ---------------------------------------------------------------- on its event loop

    async def _serve(self) -> int:
        life = self.lives
        injector = _Recorder(self._plan, lambda: self._die(life), self.history)
        kind = checked_handler(self.service)
        kit = Kit(self.service, kind, injector, replica=self.replica)
        server = grpc.aio.server(options=server_options(self.service.flow))
        server.add_generic_rpc_handlers((_handlers(kit),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self._server = server
        return port

    async def _end_all(self) -> None:
        if self._dying:  # a death under way might begin another life
            await asyncio.wait(self._dying)
        await self._end()

    async def _end(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)

    def _die(self, life: int) -> None:
        """From within a handler."""
        dying = asyncio.ensure_future(self._crash(life))
        self._dying.add(dying)
        dying.add_done_callback(self._dying.discard)

    async def _crash(self, life: int) -> None:
        if life != self.lives:
            return  # it has died already
        self.lives += 1
        self.history.note(f"in-process-{life} was killed")
        await anyio.to_thread.run_sync(self._disconnect)
        await self._end()
        if self._portal is None:
            return
        self.service = self._make()
        self._proxy.upstream = f"127.0.0.1:{await self._serve()}"

    def _disconnect(self) -> None:
        self._proxy.upstream = _NOWHERE  # nobody comes back before there is another life
        self._proxy.cut()


def _handlers(kit: Kit) -> grpc.GenericRpcHandler:
    """The RPC, served by a kit. Not the generated registration: injected garbage is no message
    that it would serialise.
    """

    async def stream(requests: Requests, context: object) -> AsyncIterator[pb.ServerFrame]:
        frames = kit.frames(requests, context)
        try:
            async for frame in frames:
                yield frame
        finally:
            await frames.aclose()

    method: grpc.RpcMethodHandler[pb.ClientFrame, pb.ServerFrame] = (
        grpc.stream_stream_rpc_method_handler(
            stream,
            request_deserializer=pb.ClientFrame.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
    )
    return grpc.method_handlers_generic_handler("servestream.v1.StreamService", {"Stream": method})


class _Recorder(FaultInjector):
    """Notes what comes in and goes out besides."""

    def __init__(self, plan: LocalPlan, die: Callable[[], None], history: History) -> None:
        super().__init__(plan, die)
        self._history = history

    async def frames(self, serve: Callable[[Requests], Frames], requests: Requests) -> Frames:
        call = _Call(self._history)
        frames = super().frames(serve, call.watched(requests))
        try:
            async for frame in frames:
                call.sends(frame)
                yield frame
        finally:
            call.ends()
            await frames.aclose()


class _Call:
    """What is noted of one call."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._stream = ""
        self._attempt = 0
        self._inputs = 0
        self._outputs = 0
        self._ended = False

    async def watched(self, requests: Requests) -> AsyncIterator[pb.ClientFrame]:
        async for message in requests:
            if message is not None:
                self._receives(message)
            yield message

    def _receives(self, message: pb.ClientFrame) -> None:
        if message.HasField("open"):
            opened = message.open
            self._stream, self._attempt = opened.stream_id.hex(), opened.attempt
            self._history.opened(
                self._stream, self._attempt, f"open, from input {opened.first_number}"
            )
        self._inputs += sum(len(run.payloads) for run in message.inputs)

    def sends(self, frame: pb.ServerFrame | Garbage) -> None:
        if isinstance(frame, Garbage):
            return
        if frame.HasField("welcome"):
            self._history.welcomed(self._stream, self._attempt, frame.welcome.replica)
        if frame.HasField("refused"):
            self._history.note(f"refused: {frame.refused.text}", self._stream, self._attempt)
        for failed in frame.errors:
            self._history.note(
                f"input {failed.number} failed: {failed.text}", self._stream, self._attempt
            )
        self._outputs += sum(len(run.payloads) for run in frame.outputs)
        self._outputs += sum(len(part.payloads) for part in frame.parts)
        self._ended |= frame.HasField("end")

    def ends(self) -> None:
        how = "complete" if self._ended else "broken off"
        self._history.note(
            f"{how}: {self._inputs} inputs received, {self._outputs} outputs sent",
            self._stream,
            self._attempt,
        )
