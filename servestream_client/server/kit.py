"""What serves a service's streams: the offer, the workers, and who may come between."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias, cast

from servestream_client.codecs import Codec
from servestream_client.config import FlowControl
from servestream_client.protocol import frames
from servestream_client.protocol.frames import CodecId, HandlerKind, Limits, Open, RefusalKind
from servestream_client.protocol.server import ServerOffer
from servestream_client.server.active_attempts import ActiveAttempts, Totals
from servestream_client.server.admission import AdmissionControl, Refuse, StreamRequest
from servestream_client.server.batch_workers import BatchWorkers
from servestream_client.server.calls import Handler, Part
from servestream_client.server.fold_workers import fold_workers
from servestream_client.server.generator_workers import GeneratorWorkers
from servestream_client.server.handlers import (
    Source,
    batch_handler,
    generator_handler,
    item_handler,
)
from servestream_client.server.item_workers import ItemWorkers
from servestream_client.server.metrics import Exporter, RayMetrics, Record
from servestream_client.server.outputs import Replay, Resume
from servestream_client.server.replica import (
    application_name,
    in_replica,
    ray_metrics,
    replica_name,
    server_count,
)
from servestream_client.server.reports import LoadReports
from servestream_client.server.runner import AttemptRunner, ToWire
from servestream_client.server.stream_fold import Folding, StreamFold
from servestream_client.server.workers import Workers
from servestream_client.wire import stream_pb2 as pb
from servestream_client.wire.compressed import available
from servestream_client.wire.written import written_server_frame

__all__ = ["Frames", "Interceptor", "Kit", "Requests", "Served"]

DEFAULT_CONCURRENCY = 16
DEFAULT_BATCH_CONCURRENCY = 1
DEFAULT_GENERATORS = 256
"""On the event loop, where one that waits costs its memory."""
DEFAULT_GENERATORS_IN_THREADS = 16

Requests: TypeAlias = AsyncIterable[pb.ClientFrame]
Frames: TypeAlias = AsyncGenerator[pb.ServerFrame, None]


class Interceptor:
    """Comes between a service and its clients; this one does nothing."""

    async def admit(self, request: StreamRequest) -> None:
        """Called before the service's own `admit`. Raises `Refuse` to turn a stream away."""

    def handler(self, handler: Handler) -> Handler:
        """What answers inputs in the handler's place."""
        return handler

    def generator(self, part: Part, index: int, generator: Any) -> Any:  # noqa: ANN401, ARG002
        """What gives an input's outputs, from that index on, in its generator's place; async as
        that is, or plain and called in threads.
        """
        return generator

    def frames(self, serve: Callable[[Requests], Frames], requests: Requests) -> Frames:
        """Serve one call."""
        return serve(requests)


class Served(Protocol):
    """What a kit needs of a service; see `StreamService`."""

    @property
    def codec(self) -> Codec[Any, Any]: ...
    @property
    def application(self) -> str | None: ...
    @property
    def code_version(self) -> str: ...
    @property
    def max_concurrency(self) -> int | None: ...
    @property
    def max_batch_size(self) -> int: ...
    @property
    def batch_wait(self) -> float: ...
    @property
    def flow(self) -> FlowControl: ...
    @property
    def replay(self) -> Replay: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def endpoints(self) -> Sequence[str]: ...
    @property
    def hedging(self) -> bool: ...

    def predict(self, item: Any, /) -> object: ...  # noqa: ANN401 — whatever the codec decodes
    def predict_batch(self, items: list[Any], /) -> object: ...
    def generate(self, item: Any, resume: Resume[Any], /) -> object: ...  # noqa: ANN401
    def is_finished(self, item: Any, resume: Resume[Any], /) -> object: ...  # noqa: ANN401
    def admit(self, request: StreamRequest, /) -> Awaitable[None]: ...


class Kit:
    """Serves the streams of one service, in one event loop.

    Args:
        service: whose.
        kind: which of its handlers it overrides.
        interceptor: comes between.
        replica: the name of the process; None: Ray Serve's for it, or host and process id.
        count_servers: asks how many servers there are; None: Serve's controller is asked, if there
            is one.
        record: takes measurements; None: Ray does, in a replica, and elsewhere nothing is measured.
        written: whether whoever takes the frames only serializes them; None: in a replica it does.
    """

    def __init__(
        self,
        service: Served,
        kind: HandlerKind,
        interceptor: Interceptor,
        *,
        replica: str | None = None,
        count_servers: Callable[[], Awaitable[int]] | None = None,
        record: Record | None = None,
        written: bool | None = None,
    ) -> None:
        self._service = service
        if written is None:
            written = in_replica()
        # An interceptor of frames reads them, and their payloads.
        unread = type(interceptor).frames is Interceptor.frames
        written &= unread
        self._to_wire = cast("ToWire", written_server_frame) if written else None
        self._interceptor = interceptor
        self._active = ActiveAttempts()
        self.leaving: bool = False
        """Whether it takes no further streams."""
        self._offer = ServerOffer(
            codec=CodecId(service.codec.id, service.codec.fingerprint),
            application=application_name(service.application),
            code_version=service.code_version,
            replica=replica_name() if replica is None else replica,
            handler_kind=kind,
            replay=_replay(service, kind),
            fingerprint=service.fingerprint,
            endpoints=tuple(service.endpoints),
            hedging=service.hedging,
            limits=Limits(
                window_items=service.flow.window_items,
                window_bytes=service.flow.window_bytes,
                unacknowledged_frames=service.flow.max_unacknowledged_frames,
                frame_bytes=service.flow.max_frame_bytes,
                item_bytes=service.flow.max_whole_bytes,
                chunked_bytes=service.flow.max_item_bytes,
                token_bytes=service.flow.checkpoint_bytes,
            ),
            ahead_bytes=service.flow.output_bytes,
            compression=max(1, service.flow.compression_level) if unread and available() else 0,
        )
        self._folding = Folding(service) if kind is HandlerKind.STATEFUL else None
        self.workers: Workers = _workers(service, kind, interceptor)
        LoadReports(self._active, self.workers, count_servers or server_count())
        if record is None and (module := ray_metrics()) is not None:
            record = RayMetrics(module)
        if record is not None:
            Exporter(self._active, self.workers.samples, record)

    def frames(self, requests: Requests, grpc_context: object = None) -> Frames:
        """Serve one call of the RPC."""
        metadata = _metadata(grpc_context)
        fold = None if self._folding is None else StreamFold(self._folding)

        async def admit(opened: Open) -> None:
            request = StreamRequest(
                opened.stream_id.hex(), opened.attempt, opened.parameters, metadata
            )
            self._check_leaving()
            await self._interceptor.admit(request)
            admitting: object = self._service.admit(request)
            if inspect.isawaitable(admitting):  # a plain `def` will do as well
                await admitting
            if fold is not None:
                await fold.begin(opened)
            self._check_leaving()  # it may have begun to, meanwhile

        def serve(requests: Requests) -> Frames:
            admission = AdmissionControl(admit, self.workers, self._active)
            return AttemptRunner(
                self._offer,
                self.workers,
                requests,
                admission=admission,
                active=self._active,
                fold=fold,
                to_wire=self._to_wire,
            ).frames()

        return self._interceptor.frames(serve, requests)

    def _check_leaving(self) -> None:
        if self.leaving:
            raise Refuse("this server is leaving", kind=RefusalKind.DRAINING)

    @property
    def totals(self) -> Totals:
        """What there is to do in its event loop. May be asked in another thread."""
        return self._active.totals

    def drain(self, grace: float) -> None:
        """Take no further streams, and ask those that are here to go elsewhere.

        Args:
            grace: seconds in which what they have sent is still answered.
        """
        self.leaving = True
        self.ask_to_leave(grace)

    def ask_to_leave(self, grace: float) -> None:
        """Ask the streams that are here to go elsewhere; see `drain`."""
        self._active.drain(grace)


def _workers(service: Served, kind: HandlerKind, interceptor: Interceptor) -> Workers:
    if kind is HandlerKind.STATEFUL:
        return fold_workers(service, interceptor.handler)
    if kind is HandlerKind.BATCH:
        places = service.max_concurrency or DEFAULT_BATCH_CONCURRENCY
        return BatchWorkers(
            interceptor.handler(batch_handler(service.predict_batch, service.codec, places)),
            places=places,
            max_batch=service.max_batch_size,
            batch_wait=service.batch_wait,
        )
    if kind is HandlerKind.ONE_TO_MANY:
        on_loop = inspect.isasyncgenfunction(service.generate)
        usual = DEFAULT_GENERATORS if on_loop else DEFAULT_GENERATORS_IN_THREADS
        places = service.max_concurrency or usual
        source = Source(
            service.generate,
            service.is_finished,
            service.codec,
            service.replay,
            interceptor.generator,
        )
        return GeneratorWorkers(
            interceptor.handler(generator_handler(source, places)), places=places
        )
    places = service.max_concurrency or DEFAULT_CONCURRENCY
    return ItemWorkers(
        interceptor.handler(item_handler(service.predict, service.codec, places)), places=places
    )


def _replay(service: Served, kind: HandlerKind) -> frames.Replay:
    if kind is not HandlerKind.ONE_TO_MANY:
        return frames.Replay.UNSPECIFIED
    return frames.Replay[service.replay.name]


def _metadata(grpc_context: object) -> dict[str, str]:
    read = getattr(grpc_context, "invocation_metadata", None)
    pairs = (read() or ()) if callable(read) else ()
    return {key: value for key, value in pairs if isinstance(value, str)}
