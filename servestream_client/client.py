"""Floor 3: the asynchronous face."""

from __future__ import annotations

import asyncio
import copy
import os
import re
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Generic, Literal, TypeVar, cast, overload

import grpc

from servestream_client.codecs import BytesCodec, Codec
from servestream_client.config import FlowControl, RetryPolicy
from servestream_client.errors import (
    ClientClosedError,
    ConfigurationError,
    ItemError,
    WrongEventLoopError,
)
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.frames import STREAM_ID_BYTES, CodecId
from servestream_client.session.driver import Break, StreamDriver, Target
from servestream_client.session.predictor import Predictor
from servestream_client.session.pump import InputPump
from servestream_client.session.stream import PredictionStream
from servestream_client.transport.base import Link, Transport
from servestream_client.transport.grpc_link import GrpcTransport, Metadata

__all__ = ["StreamClient"]

PREDICT_IDLE_SECONDS = 5.0
"""How long a stream of `predict` is kept without calls. It occupies a place at its replica."""

In = TypeVar("In")
Out = TypeVar("Out")


class _Connection:
    """What the clients made by `with_options` share: one transport, on one event loop.

    The transport is made when the first stream opens, in whose event loop it then lives.
    """

    def __init__(
        self,
        target: str,
        metadata: Metadata,
        max_frame_bytes: int,
        credentials: grpc.ChannelCredentials | None,
        streams_per_connection: int,
    ) -> None:
        self._streams_per_connection = streams_per_connection
        self.target = Target(target)
        self.max_frame_bytes = max_frame_bytes
        self.closed = False
        self.drivers: set[StreamDriver] = set()
        self._metadata = metadata
        self._credentials = credentials
        self._loop: asyncio.AbstractEventLoop | None = None
        self._transport: Transport | None = None
        self._closing: asyncio.Task[None] | None = None

    def check(self) -> asyncio.AbstractEventLoop:
        """
        Raises:
            ClientClosedError: too late.
            WrongEventLoopError: the wrong place.
        """
        if self.closed:
            raise ClientClosedError(f"the client of {self.target.name} is closed; make a new one")
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise WrongEventLoopError(
                "StreamClient needs a running asyncio event loop (grpc.aio has no other)"
            ) from None
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise WrongEventLoopError(
                f"the client of {self.target.name} was first used in another event loop; make"
                " one client for each"
            )
        return loop

    def open(self) -> Link:
        if self._transport is None:
            self._transport = GrpcTransport(
                self.target.name,
                metadata=self._metadata,
                max_frame_bytes=self.max_frame_bytes,
                credentials=self._credentials,
                streams_per_connection=self._streams_per_connection,
            )
        return self._transport.open()

    def start(self, driver: StreamDriver) -> None:
        self.check()
        self.drivers.add(driver)
        driver.start().add_done_callback(lambda _: self.drivers.discard(driver))

    async def aclose(self) -> None:
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            raise WrongEventLoopError("close the client in the event loop that used it")
        if self._closing is None:
            self.closed = True
            self._closing = asyncio.ensure_future(self._close())
        # Whoever waits for it may be cancelled; the closing goes on.
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        error = ClientClosedError(f"the client of {self.target.name} was closed")
        await asyncio.gather(*(driver.aclose(error) for driver in list(self.drivers)))
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.aclose()


class StreamClient(Generic[In, Out]):
    """Streams predictions from a Ray Serve application, through the death of its replicas.

    Within one client, every input's outputs reach the caller exactly once, in order, or the
    caller gets an exception that says what is known and what is not. Handlers may compute an
    input more than once.

    Use it as ``async with StreamClient(...) as client``, or close it with `aclose`. It belongs to
    the event loop that first used it.

    Args:
        target: ``host:port`` of Serve's gRPC ingress, or any gRPC target name.
        application: the Serve application to reach; empty: whichever answers.
        codec: how items are encoded; the service must use the same.
        retry: when to try again, and when to stop.
        flow: how much may be under way.
        metadata: gRPC metadata for every call, e.g. ``authorization``. On an insecure channel it
            travels in clear text.
        credentials: for a TLS channel; None: an insecure one, which is all that Serve's own
            ingress offers.
        close_timeout: seconds that each step of any leave-taking may last: the call's, the
            inputs', and an end that does not come.
        predict_streams: how many streams `predict` may spread its calls over. Serve routes each
            to one replica, so it should not lie below the number of replicas.
        streams_per_connection: how many streams share a connection before another is opened.
            HAProxy allows 100, and lets further ones wait without a word.

    Raises:
        ConfigurationError: an argument cannot work.
    """

    @overload
    def __init__(
        self: StreamClient[bytes, bytes],
        target: str,
        *,
        application: str = ...,
        codec: None = ...,
        retry: RetryPolicy | None = ...,
        flow: FlowControl | None = ...,
        metadata: Metadata = ...,
        credentials: grpc.ChannelCredentials | None = ...,
        close_timeout: float = ...,
        predict_streams: int = ...,
        streams_per_connection: int = ...,
    ) -> None: ...

    @overload
    def __init__(
        self,
        target: str,
        *,
        application: str = ...,
        codec: Codec[In, Out],
        retry: RetryPolicy | None = ...,
        flow: FlowControl | None = ...,
        metadata: Metadata = ...,
        credentials: grpc.ChannelCredentials | None = ...,
        close_timeout: float = ...,
        predict_streams: int = ...,
        streams_per_connection: int = ...,
    ) -> None: ...

    def __init__(
        self,
        target: str,
        *,
        application: str = "",
        codec: Codec[Any, Any] | None = None,
        retry: RetryPolicy | None = None,
        flow: FlowControl | None = None,
        metadata: Metadata = (),
        credentials: grpc.ChannelCredentials | None = None,
        close_timeout: float = 5.0,
        predict_streams: int = 4,
        streams_per_connection: int = 100,
    ) -> None:
        for name, value in (
            ("predict_streams", predict_streams),
            ("streams_per_connection", streams_per_connection),
        ):
            if not isinstance(value, int) or value < 1:
                raise ConfigurationError(f"{name} must be a number from 1 up, not {value!r}")
        _check_arguments(target, application, codec, metadata, close_timeout)
        own = (("application", application),) if application else ()
        self._application = application
        self._codec: Codec[Any, Any] = BytesCodec() if codec is None else codec
        self._retry = retry if retry is not None else RetryPolicy()
        self._flow = flow if flow is not None else FlowControl()
        self._close_timeout = close_timeout
        self._predict_streams = predict_streams
        self._predictor: Predictor | None = None
        self._connection = _Connection(
            target,
            (*own, *metadata),
            self._flow.max_frame_bytes,
            credentials,
            streams_per_connection,
        )

    def with_options(
        self,
        *,
        retry: RetryPolicy | None = None,
        flow: FlowControl | None = None,
        close_timeout: float | None = None,
    ) -> StreamClient[In, Out]:
        """A client with other options on the same connection. Closing either closes both.

        Args:
            retry: as for the class; None: as here.
            flow: likewise. Its `max_item_bytes` may not exceed this client's, which the
                connection was made for.
            close_timeout: likewise.

        Raises:
            ConfigurationError: an argument cannot work.
        """
        if flow is not None and flow.max_frame_bytes > self._connection.max_frame_bytes:
            raise ConfigurationError(
                "with_options cannot raise FlowControl.max_item_bytes, since the connection was"
                " made for smaller ones; make a new client"
            )
        if close_timeout is not None and not close_timeout > 0:
            raise ConfigurationError("close_timeout must be positive")
        other: StreamClient[In, Out] = copy.copy(self)
        other._predictor = None
        other._retry = retry if retry is not None else self._retry
        other._flow = flow if flow is not None else self._flow
        if close_timeout is not None:
            other._close_timeout = close_timeout
        return other

    # ---------------------------------------------------------------- streams

    @overload
    def stream(
        self,
        inputs: Iterable[In] | AsyncIterable[In],
        *,
        ordered: bool = ...,
        return_exceptions: Literal[False] = ...,
        timeout: float | None = ...,
        parameters: Mapping[str, str] | None = ...,
    ) -> PredictionStream[Out]: ...

    @overload
    def stream(
        self,
        inputs: Iterable[In] | AsyncIterable[In],
        *,
        ordered: bool = ...,
        return_exceptions: bool,
        timeout: float | None = ...,
        parameters: Mapping[str, str] | None = ...,
    ) -> PredictionStream[Out | ItemError]: ...

    def stream(
        self,
        inputs: Iterable[In] | AsyncIterable[In],
        *,
        ordered: bool = True,
        return_exceptions: bool = False,
        timeout: float | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> PredictionStream[Any]:
        """Stream inputs, and iterate the predictions.

        The stream begins when it is first iterated. Inputs are pulled ahead of the consumer, but
        never further than `FlowControl` allows; a plain iterator is pulled on the event loop and
        should not block. An iterator that is a generator is closed with the stream.

        Args:
            inputs: an iterable or an async iterable.
            ordered: outputs in the order of the inputs; False: as they are ready.
            return_exceptions: yield an `ItemError` in the place of an input that failed, and go
                on; False: raise it there, and close.
            timeout: seconds for the whole stream, across failures; None: no limit.
            parameters: for the service, as they are.

        Raises:
            InputsError: the inputs are no iterable.
            ConfigurationError: another argument cannot work.
            ClientClosedError: the client is closed.
        """
        if self._connection.closed:
            raise ClientClosedError(
                f"the client of {self._connection.target.name} is closed; make a new one"
            )
        if timeout is not None and not timeout > 0:
            raise ConfigurationError("timeout must be positive, or None")
        for name, value in (parameters or {}).items():
            if not isinstance(name, str) or not isinstance(value, str):
                raise ConfigurationError(f"parameters must be strings: {name!r}: {value!r}")
        codec = self._codec
        session = self._session(ordered=ordered, parameters=parameters)
        driver = StreamDriver(
            session=session,
            transport=self._connection,
            target=self._connection.target,
            retry=self._retry,
            timeout=timeout,
            close_timeout=self._close_timeout,
        )
        driver.pump = InputPump(
            session=session,
            inputs=cast("Iterable[object] | AsyncIterable[object]", inputs),
            encode=codec.encode_input,
            max_item_bytes=self._flow.max_item_bytes,
            pushed=driver.pushed,
            speak=driver.speak,
            refused=driver.notify,
        )
        return PredictionStream(
            driver,
            start=self._connection.start,
            decode=codec.decode_output,
            return_exceptions=return_exceptions,
        )

    async def predict(self, item: In, *, timeout: float | None = None) -> Out:
        """The prediction for one input.

        Meant for many calls at a time, from as many tasks: they share a few long-lived streams,
        and with them the cost of a message. A call survives its replica like any stream's input;
        a cancelled one is cancelled at the server, too.

        Args:
            item: the input. Its handler must give one output.
            timeout: seconds, across failures; None: no limit.

        Raises:
            ItemError: this input failed. Its `number` is 1: a call is a stream of one input.
            StreamError: the stream that carried the call failed; `delivered` speaks of the call.
            StreamTimeoutError: the timeout passed.
            ConfigurationError: the timeout cannot work.
            ClientClosedError, WrongEventLoopError: the client is closed, or belongs elsewhere.
        """
        self._connection.check()
        if timeout is not None and not timeout > 0:
            raise ConfigurationError("timeout must be positive, or None")
        if self._predictor is None:
            self._predictor = Predictor(
                self._open_lane,
                encode=self._codec.encode_input,
                decode=self._codec.decode_output,
                max_item_bytes=self._flow.max_item_bytes,
                lanes=self._predict_streams,
                idle_seconds=PREDICT_IDLE_SECONDS,
            )
        return cast("Out", await self._predictor.predict(item, timeout=timeout))

    def _open_lane(
        self,
        *,
        isolated: bool,
        on_arrival: Callable[[], None],
        on_break: Callable[[Break], None],
    ) -> StreamDriver:
        driver = StreamDriver(
            session=self._session(ordered=False, isolated=isolated),
            transport=self._connection,
            target=self._connection.target,
            retry=self._retry,
            timeout=None,
            close_timeout=self._close_timeout,
            eager=not isolated,
            on_arrival=on_arrival,
            on_break=on_break,
        )
        self._connection.start(driver)
        return driver

    def _session(
        self,
        *,
        ordered: bool,
        parameters: Mapping[str, str] | None = None,
        isolated: bool = False,
    ) -> ClientSession:
        return ClientSession(
            stream_id=os.urandom(STREAM_ID_BYTES),
            codec=CodecId(self._codec.id, self._codec.fingerprint),
            flow=self._flow,
            application=self._application,
            ordered=ordered,
            parameters=parameters,
            isolated=isolated,
        )

    # ---------------------------------------------------------------- life

    async def aclose(self) -> None:
        """End every stream and give back the connection. Bounded in time; harmless twice."""
        await self._connection.aclose()

    async def __aenter__(self) -> StreamClient[In, Out]:
        self._connection.check()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        application = f", application={self._application!r}" if self._application else ""
        state = ", closed" if self._connection.closed else ""
        return (
            f"StreamClient({self._connection.target.name!r}{application}, codec={self._codec!r}"
            f"{state})"
        )


def _check_arguments(
    target: object, application: object, codec: object, metadata: Metadata, close_timeout: float
) -> None:
    if not isinstance(target, str) or not target.strip():
        raise ConfigurationError(f"target must be a string such as 'host:9000', not {target!r}")
    if "://" in target and target.split("://")[0].lower() in ("http", "https", "grpc"):
        raise ConfigurationError(f"target takes no {target.split('://')[0]}://, only host:port")
    if not isinstance(application, str):
        raise ConfigurationError(f"application must be a string, not {application!r}")
    if codec is not None and (isinstance(codec, type) or not isinstance(codec, Codec)):
        hint = "; make an instance of it" if isinstance(codec, type) else ""
        raise ConfigurationError(f"codec lacks the methods of Codec: {codec!r}{hint}")
    for key, value in metadata:
        # https://grpc.io/docs/guides/metadata: the characters of a key, and what -bin is for.
        if not re.fullmatch(r"[0-9a-z_.-]+", key) or key.startswith("grpc-"):
            raise ConfigurationError(f"metadata keys are in lower case, and not {key!r}")
        if not isinstance(value, bytes if key.endswith("-bin") else str):
            raise ConfigurationError(f"metadata {key!r} takes text, or bytes if it ends in -bin")
    if not close_timeout > 0:
        raise ConfigurationError("close_timeout must be positive")
