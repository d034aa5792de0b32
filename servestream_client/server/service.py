"""`StreamService`: what the user subclasses.

The kit's own state is made when the first stream comes, since users forget
``super().__init__()``, and since event loops are only there by then. There may be several.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterator, Sequence
from operator import methodcaller
from typing import Any, ClassVar, Generic, TypeVar

import grpc
import grpc.aio

from servestream_client.codecs import BytesCodec, Codec
from servestream_client.config import FlowControl
from servestream_client.errors import ConfigurationError
from servestream_client.metadata import METADATA_OPTIONS
from servestream_client.protocol.frames import HandlerKind
from servestream_client.server import autoscaling
from servestream_client.server.admission import RefusalKind, Refuse, StreamRequest
from servestream_client.server.handler_kinds import HANDLERS, declared, overridden
from servestream_client.server.kit import Frames, Interceptor, Kit
from servestream_client.server.kits import Kits
from servestream_client.server.outputs import Output, Replay, Resume
from servestream_client.server.settings import check_class, check_service
from servestream_client.usercode import contained, describe, is_a
from servestream_client.wire import stream_pb2 as pb

__all__ = [
    "GRPC_SERVER_OPTIONS",
    "GRPC_SERVICER_FUNCTIONS",
    "Output",
    "RefusalKind",
    "Refuse",
    "Replay",
    "Resume",
    "StreamRequest",
    "StreamService",
    "add_to_server",
]

In = TypeVar("In")
Out = TypeVar("Out")

GRPC_SERVICER_FUNCTIONS: list[str] = [
    "servestream_client.wire.stream_pb2_grpc.add_StreamServiceServicer_to_server"
]
"""For Ray Serve: ``gRPCOptions(grpc_servicer_functions=GRPC_SERVICER_FUNCTIONS)``."""


class StreamService(Generic[In, Out]):
    """One deployment's streams: override `predict`, `predict_batch` or `generate`.

    An exception in the handler becomes that item's error at the caller, and touches no other.
    Handlers may be called more than once for the same input, also at the same time: after a
    failure the input is sent again.

    Set these in the subclass. What cannot work is a `ConfigurationError` when the class is made,
    and handlers that cannot be are a `TypeError`.

    Attributes:
        codec: how items are encoded; clients must use the same.
        application: the name that clients must ask for, or ask for none. None: under Ray Serve
            the application's own; elsewhere, any name is taken.
        code_version: of the user's code; shown to clients.
        max_concurrency: handler calls at a time in this process, over all streams; None: 16 for
            `predict`, and 1 for `predict_batch`, since what arrives during one call is the next
            one's batch; for `generate` 256 if it is an `async def`, else 16, of which those that
            pause do not count. A plain `def` handler runs in as many threads; one whose client has
            gone still runs to its end, and counts. Codecs run on the event loop, which has its turn
            after each item that takes long.
        max_batch_size: items that `predict_batch` gets at the most.
        batch_wait: seconds that an incomplete batch waits for more items. 0: it never waits, and
            batches grow by themselves as the load does.
        flow: the limits that clients are held to.
        replay: how `generate` goes on with an input of which outputs were delivered when their
            server is lost.
        fingerprint: what the outputs of `generate` depend on, in the service's own words, e.g.
            model, tokenizer and quantisation. An input goes on only where it is the same: so a
            redeploy with another one never puts the outputs of two models together.
        endpoints: other targets, ``host:port`` each, where clients reach the same deployment, e.g.
            the proxies of other nodes. Clients hear of them when they are served and when a replica
            leaves, and spread over them, unless they were told not to (`Endpoints.discover`).
        hedging: whether an input of a stream may be at two replicas at the same time, since the
            first is late by far (`RetryPolicy.hedge`). False where what it costs counts more.
    """

    codec: Codec[In, Out] = BytesCodec()  # type: ignore[assignment]  # the default for bytes
    application: ClassVar[str | None] = None
    code_version: ClassVar[str] = ""
    max_concurrency: ClassVar[int | None] = None
    max_batch_size: ClassVar[int] = 64
    batch_wait: ClassVar[float] = 0.0
    flow: ClassVar[FlowControl] = FlowControl()
    replay: ClassVar[Replay] = Replay.NEVER
    fingerprint: ClassVar[str] = ""
    endpoints: ClassVar[Sequence[str]] = ()
    hedging: ClassVar[bool] = True

    def __init_subclass__(cls, **arguments: Any) -> None:  # noqa: ANN401 — the user's own
        super().__init_subclass__(**arguments)
        check_class(cls)
        if overridden(cls):  # a base class of others may have none
            _handler_kind(cls)
        if isinstance(vars(cls).get("replay"), Replay):
            _check_is_finished(cls, cls.replay)

    def predict(self, item: In) -> Out | Awaitable[Out]:
        """One input to one output.

        A plain `def` runs in a thread, an `async def` on the event loop, which it should not
        block: others have their turn between two items only. Calls that follow upon one another
        may share a thread, a task and its context.
        """
        raise NotImplementedError

    def predict_batch(self, items: list[In]) -> Sequence[Out] | Awaitable[Sequence[Out]]:
        """What has arrived on all streams, up to `max_batch_size`, to as many outputs in the same
        order.

        Nothing waits for a batch to fill unless `batch_wait` says so. If it raises, or takes longer
        than the client's `Watchdog.item_timeout`, its items are tried singly, so that only the one
        to blame fails. They have one more item timeout for that together: an item that was not
        done by then fails with `TIMEOUT`.
        """
        raise NotImplementedError

    def generate(
        self, item: In, resume: Resume[Out]
    ) -> AsyncIterator[Out | Output[Out]] | Iterator[Out | Output[Out]]:
        """One input to any number of outputs: tokens, rows, frames.

        It is a generator function. Of an `async def`, the generators take turns on the event loop,
        which they should not block; of a plain `def`, each runs in a thread while it makes outputs.
        Each output is sent at once. It is not asked for another while the caller has enough of
        this input: then others have its place.

        It is closed at its present ``yield`` once nobody wants more, and an async one has a second
        for its ``finally``; one that awaits something is cancelled there. The client's
        `Watchdog.item_timeout` is the longest that one output may take.

        Args:
            item: the input.
            resume: from where to go on, as `replay` says; false: from the beginning. Only with
                `Replay.SEEK` and `Replay.CONTINUE` is it ever true.
        """
        raise NotImplementedError

    def is_finished(self, item: In, resume: Resume[Out]) -> bool:  # noqa: ARG002
        """Whether the outputs that `generate` would go on after are the whole answer, so that it is
        not called: what was lost is its end alone. Asked with `Replay.CONTINUE` only; called where
        `generate` is.
        """
        return False

    async def admit(self, request: StreamRequest) -> None:
        """Called before a stream is welcomed. Raise `Refuse` to turn it away.

        Any other exception fails the attempt, and the client comes again.
        """

    async def check_health(self) -> None:
        """Called by Ray Serve every `health_check_period_s`. An override calls this one, too:
        ``await super().check_health()``.

        It is how a replica learns that it is being stopped (the calls stop), upon which its
        streams move elsewhere before they are cut; and how Serve learns that all handler slots
        are blocked by inputs that exceeded their item timeout, upon which it replaces the replica.

        Raises:
            RuntimeError: that is the case.
        """
        self._kits().check_health()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Asked by Ray Serve where the deployment has an `autoscaling_config`: what
        `servestream_client.server.autoscaling.policy` needs. An override adds to it:
        ``{**await super().record_autoscaling_stats(), "mine": 1.0}``.

        Returns:
            How many streams are open, and how many of their items are to be computed, by name.
        """
        return autoscaling.as_stats(self._kits().totals)

    def drain(self, grace: float) -> None:
        """Take no further streams, and ask those that are here to go elsewhere. For servers of
        one's own, before they stop; under Ray Serve it happens by itself. It reaches the streams of
        every event loop that serves this object, and may be called in any thread.

        Args:
            grace: seconds in which what they have sent is still answered.
        """
        self._kits().drain(grace)

    async def Stream(  # noqa: N802 — the RPC's name, which Ray Serve looks for
        self, request_stream: AsyncIterable[pb.ClientFrame], grpc_context: object = None
    ) -> AsyncIterator[pb.ServerFrame]:
        """The RPC. Served by Ray Serve, or by a `grpc.aio` server; not for overriding."""
        frames: Frames | None = None
        try:
            frames = self._kit().frames(request_stream, grpc_context)
            async for frame in frames:
                yield frame
        except BaseException as error:
            # A subclass of this one, or of `Interceptor`, may raise what would end the event loop.
            failure = contained(error, "the service", awaited=True)
            try:
                if is_a(failure, Exception):
                    raise failure from failure.__cause__
                raise RuntimeError(f"the service raised {describe(failure)}") from failure
            finally:
                del failure  # its traceback refers to this frame, which holds the call
        finally:
            if frames is not None:
                await frames.aclose()

    def _kit(self) -> Kit:
        """The running event loop's."""
        return self._kits().here()

    def _kits(self) -> Kits:
        kits: Kits | None = self.__dict__.get("_servestream_kits")
        if kits is None:  # another thread may make them, too: the first ones stay
            kind = checked_handler(self)
            written = self.__dict__.get("_servestream_written")
            made = Kits(lambda: Kit(self, kind, self._interceptor(), written=written))
            kits = self.__dict__.setdefault("_servestream_kits", made)
        return kits

    def _begin_serving(self) -> None:
        """A subclass sees here that it has all it needs."""

    def _interceptor(self) -> Interceptor:
        """For a subclass that comes between the kit and its clients."""
        return Interceptor()


def checked_handler(service: StreamService[Any, Any]) -> HandlerKind:
    """Which handler a service has.

    Raises:
        ConfigurationError: one of its attributes cannot work.
        TypeError: it overrides no handler, or more than one, or one that yields, or does not, and
            should not, or should.
    """
    check_service(service)
    kind = _handler_kind(type(service))
    if kind is HandlerKind.STATEFUL:
        service._begin_serving()  # noqa: SLF001 — its own module's class
    _check_is_finished(type(service), service.replay)
    return kind


def _handler_kind(service: type[StreamService[Any, Any]]) -> HandlerKind:
    found, names = overridden(service), declared(service)
    if len(found) != 1 or found[0] not in names:
        raise TypeError(
            f"{service.__name__} must override exactly one of {', '.join(names)}; it overrides"
            f" {' and '.join(found) or 'none'}"
        )
    handler, kind = getattr(service, found[0]), HANDLERS[found[0]]
    yields = inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler)
    if yields and kind is not HandlerKind.ONE_TO_MANY:
        raise TypeError(
            f"{service.__name__}.{found[0]} yields; it must return one output for each input."
            " For any number of them, override generate"
        )
    if not yields and kind is HandlerKind.ONE_TO_MANY:
        raise TypeError(
            f"{service.__name__}.generate must be a generator function, plain or async: one that"
            " yields its outputs"
        )
    return kind


def _check_is_finished(service: type[StreamService[Any, Any]], replay: Replay) -> None:
    overrides = service.is_finished is not StreamService.is_finished
    if overrides and replay is not Replay.CONTINUE:
        raise ConfigurationError(
            f"{service.__name__}.is_finished is asked with replay = Replay.CONTINUE only, and it is"
            f" Replay.{replay.name}"
        )


def server_options(flow: FlowControl) -> list[tuple[str, int]]:
    """Options of a `grpc.aio` server whose clients are held to these limits."""
    return [
        ("grpc.max_receive_message_length", 2 * flow.max_frame_bytes),
        ("grpc.max_send_message_length", -1),
        *METADATA_OPTIONS,
        # gRPC's own pings wait behind large frames like everything else: decision 22.
        ("grpc.http2.ping_timeout_ms", 2**31 - 1),
    ]


GRPC_SERVER_OPTIONS: list[tuple[str, int]] = server_options(FlowControl())
"""For a plain ``grpc.aio.server(options=...)`` with the default `FlowControl`."""


_SERVICE = pb.DESCRIPTOR.services_by_name["StreamService"].full_name


def add_to_server(service: StreamService[Any, Any], server: grpc.aio.Server) -> None:
    """Serve a service on a `grpc.aio` server, without Ray.

    Raises:
        ConfigurationError: one of the service's attributes cannot work.
        TypeError: the service overrides no handler, or more than one, or one of the wrong kind.
    """
    checked_handler(service)
    # As the generated function does; a frame may have been written already, and knows.
    service.__dict__["_servestream_written"] = True
    handler = grpc.stream_stream_rpc_method_handler(
        service.Stream,
        request_deserializer=pb.ClientFrame.FromString,
        response_serializer=methodcaller("SerializeToString"),
    )
    method = grpc.method_handlers_generic_handler(_SERVICE, {"Stream": handler})
    server.add_generic_rpc_handlers((method,))
