"""`StreamService`: what the user subclasses.

The kit's own state is made when the first stream comes, since users forget
``super().__init__()``, and since event loops are only there by then.
"""

from __future__ import annotations

import inspect
import os
import socket
import sys
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import grpc
import grpc.aio

from servestream_client.codecs import BytesCodec, Codec
from servestream_client.config import FlowControl
from servestream_client.protocol.frames import (
    CodecId,
    HandlerKind,
    Limits,
    Open,
)
from servestream_client.protocol.server import ServerOffer
from servestream_client.server.admission import RefusalKind, Refuse, StreamRequest
from servestream_client.server.handlers import batch_handler, item_handler
from servestream_client.server.runner import AttemptRunner, Residents
from servestream_client.server.workers import BatchWorkers, Handler, ItemWorkers, Workers
from servestream_client.wire import stream_pb2 as pb
from servestream_client.wire import stream_pb2_grpc as pb_grpc

__all__ = [
    "GRPC_SERVER_OPTIONS",
    "GRPC_SERVICER_FUNCTIONS",
    "RefusalKind",
    "Refuse",
    "StreamRequest",
    "StreamService",
    "add_to_server",
]

DEFAULT_CONCURRENCY = 16
DEFAULT_BATCH_CONCURRENCY = 1

In = TypeVar("In")
Out = TypeVar("Out")

GRPC_SERVICER_FUNCTIONS: list[str] = [
    "servestream_client.wire.stream_pb2_grpc.add_StreamServiceServicer_to_server"
]
"""For Ray Serve: ``gRPCOptions(grpc_servicer_functions=GRPC_SERVICER_FUNCTIONS)``."""


class StreamService(Generic[In, Out]):
    """One deployment's streams: override `predict` or `predict_batch`.

    An exception in the handler becomes that item's error at the caller, and touches no other.
    Handlers may be called more than once for the same input, also at the same time: after a
    failure the input is sent again.

    Class attributes, to set in the subclass:
        codec: how items are encoded; clients must use the same.
        application: the name that clients must ask for, or ask for none. None: under Ray Serve
            the application's own; elsewhere, any name is taken.
        code_version: of the user's code; shown to clients.
        max_concurrency: handler calls at a time in this process, over all streams; None: 16 for
            `predict`, and 1 for `predict_batch`, since what arrives during one call is the next
            one's batch. A plain `def` handler runs in as many threads; one whose client has gone
            still runs to its end, and counts. Codecs run on the event loop.
        max_batch_size: items that `predict_batch` gets at the most.
        batch_wait: seconds that an incomplete batch waits for more items. 0: it never waits, and
            batches grow by themselves as the load does.
        flow: the limits that clients are held to.
    """

    codec: Codec[In, Out] = BytesCodec()  # type: ignore[assignment]  # the default for bytes
    application: ClassVar[str | None] = None
    code_version: ClassVar[str] = ""
    max_concurrency: ClassVar[int | None] = None
    max_batch_size: ClassVar[int] = 64
    batch_wait: ClassVar[float] = 0.0
    flow: ClassVar[FlowControl] = FlowControl()

    def predict(self, item: In) -> Out | Awaitable[Out]:
        """One input to one output.

        A plain `def` runs in a thread, an `async def` on the event loop, which it should not
        block. Calls that follow upon one another may share a thread, a task and its context.
        """
        raise NotImplementedError

    def predict_batch(self, items: list[In]) -> Sequence[Out] | Awaitable[Sequence[Out]]:
        """What has arrived on all streams, up to `max_batch_size`, to as many outputs in the same
        order.

        Nothing waits for a batch to fill unless `batch_wait` says so. If it raises, its items are
        tried singly, so that only the one to blame fails.
        """
        raise NotImplementedError

    async def admit(self, request: StreamRequest) -> None:
        """Called before a stream is welcomed. Raise `Refuse` to turn it away.

        Any other exception fails the attempt, and the client comes again.
        """

    async def Stream(  # noqa: N802 — the RPC's name, which Ray Serve looks for
        self, request_stream: AsyncIterable[pb.ClientFrame], grpc_context: object = None
    ) -> AsyncIterator[pb.ServerFrame]:
        """The RPC. Served by Ray Serve, or by a `grpc.aio` server; not for overriding."""
        kit = self._kit()
        metadata = _metadata(grpc_context)

        async def admit(opened: Open) -> None:
            request = StreamRequest(
                opened.stream_id.hex(), opened.attempt, opened.parameters, metadata
            )
            admitting: object = self.admit(request)
            if inspect.isawaitable(admitting):  # a plain `def` will do as well
                await admitting

        runner = AttemptRunner(
            kit.offer, kit.workers, request_stream, admit=admit, residents=kit.residents
        )
        frames = runner.frames()
        try:
            async for frame in frames:
                yield frame
        finally:
            await frames.aclose()

    def _kit(self) -> _Kit:
        kit: _Kit | None = self.__dict__.get("_servestream_kit")
        if kit is None:
            kit = _Kit(
                offer=ServerOffer(
                    codec=CodecId(self.codec.id, self.codec.fingerprint),
                    application=_application_name(self.application),
                    code_version=self.code_version,
                    replica=_replica_name(),
                    handler_kind=_handler_kind(type(self)),
                    limits=Limits(
                        window_items=self.flow.window_items,
                        window_bytes=self.flow.window_bytes,
                        unacknowledged_frames=self.flow.max_unacknowledged_frames,
                        frame_bytes=self.flow.max_frame_bytes,
                        item_bytes=self.flow.max_item_bytes,
                    ),
                    ahead_bytes=self.flow.output_bytes,
                ),
                workers=self._workers(),
                residents=Residents(),
            )
            self.__dict__["_servestream_kit"] = kit
        return kit

    def _workers(self) -> Workers:
        if _handler_kind(type(self)) is HandlerKind.BATCH:
            places = self.max_concurrency or DEFAULT_BATCH_CONCURRENCY
            return BatchWorkers(
                self._handler(batch_handler(self.predict_batch, self.codec, places)),
                places=places,
                max_batch=self.max_batch_size,
                batch_wait=self.batch_wait,
            )
        places = self.max_concurrency or DEFAULT_CONCURRENCY
        return ItemWorkers(
            self._handler(item_handler(self.predict, self.codec, places)), places=places
        )

    def _handler(self, handler: Handler) -> Handler:
        """For a subclass that comes between the kit and the user's method."""
        return handler


@dataclass(frozen=True, slots=True)
class _Kit:
    offer: ServerOffer
    workers: Workers
    residents: Residents


def _handler_kind(service: type[StreamService[Any, Any]]) -> HandlerKind:
    """
    Raises:
        TypeError: the class overrides none of the handlers, or more than one.
    """
    kinds = {"predict": HandlerKind.ONE_TO_ONE, "predict_batch": HandlerKind.BATCH}
    overridden = [
        name for name in kinds if getattr(service, name) is not getattr(StreamService, name)
    ]
    if len(overridden) != 1:
        raise TypeError(
            f"{service.__name__} must override exactly one of {', '.join(kinds)}; it overrides"
            f" {' and '.join(overridden) or 'none'}"
        )
    return kinds[overridden[0]]


def _serve_context() -> Any:  # noqa: ANN401 — Ray is not imported here
    """Ray Serve's replica context, if this process is a replica. Never imports Ray."""
    serve = sys.modules.get("ray.serve")
    if serve is None:
        return None
    try:
        return serve.get_replica_context()
    except Exception:  # outside a replica Serve raises an error of its own
        return None


def _application_name(configured: str | None) -> str:
    if configured is not None:
        return configured
    context = _serve_context()
    return "" if context is None else str(context.app_name)


def _replica_name() -> str:
    context = _serve_context()
    if context is None:
        return f"{socket.gethostname()}:{os.getpid()}"
    return str(context.replica_tag)


def _metadata(grpc_context: object) -> dict[str, str]:
    read = getattr(grpc_context, "invocation_metadata", None)
    pairs = (read() or ()) if callable(read) else ()
    return {key: value for key, value in pairs if isinstance(value, str)}


GRPC_SERVER_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", 2 * FlowControl().max_frame_bytes),
    ("grpc.max_send_message_length", -1),
]
"""For a plain ``grpc.aio.server(options=...)`` with the default `FlowControl`."""


def add_to_server(service: StreamService[Any, Any], server: grpc.aio.Server) -> None:
    """Serve a service on a `grpc.aio` server, without Ray.

    Raises:
        TypeError: the service overrides no handler, or more than one.
    """
    _handler_kind(type(service))
    pb_grpc.add_StreamServiceServicer_to_server(service, server)  # type: ignore[arg-type]  # duck-typed
