"""What the two faces have in common: options, and what a stream is made of."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Generic, Self, TypedDict, TypeVar

import grpc

from servestream_client.codecs import BytesCodec, Codec
from servestream_client.config import FlowControl, RetryPolicy, Watchdog, check_timeout
from servestream_client.errors import ConfigurationError
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.frames import STREAM_ID_BYTES, CodecId
from servestream_client.session.connection import Connection
from servestream_client.session.driver import Break, StreamDriver
from servestream_client.session.feeder import InputFeeder
from servestream_client.session.isolation import Isolation
from servestream_client.session.predictor import Predictor
from servestream_client.session.pump import InputPump, Refusal
from servestream_client.transport.grpc_link import GrpcTransport, Metadata

__all__ = ["ClientBase", "ClientOptions"]

PREDICT_IDLE_SECONDS = 5.0
"""How long a stream of `predict` is kept without calls. It occupies a place at its replica."""

In = TypeVar("In")
Out = TypeVar("Out")


class ClientOptions(TypedDict, total=False):
    """The keyword arguments of a client; see `StreamClient`."""

    application: str
    retry: RetryPolicy | None
    flow: FlowControl | None
    watchdog: Watchdog | None
    metadata: Metadata
    credentials: grpc.ChannelCredentials | None
    close_timeout: float
    predict_streams: int
    streams_per_connection: int


class ClientBase(Generic[In, Out]):
    """A client without its verbs, which differ between the faces.

    The arguments are those of `StreamClient`.

    Raises:
        ConfigurationError: an argument cannot work.
    """

    def __init__(
        self,
        target: str,
        codec: Codec[Any, Any] | None,
        *,
        application: str = "",
        retry: RetryPolicy | None = None,
        flow: FlowControl | None = None,
        watchdog: Watchdog | None = None,
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
        self._predict_streams = predict_streams
        self._set(
            retry or RetryPolicy(), flow or FlowControl(), watchdog or Watchdog(), close_timeout
        )
        self._max_frame_bytes = self._flow.max_frame_bytes  # of whoever shares the connection
        self._connection = Connection(
            target,
            partial(
                GrpcTransport,
                target,
                metadata=(*own, *metadata),
                max_frame_bytes=self._max_frame_bytes,
                credentials=credentials,
                streams_per_connection=streams_per_connection,
            ),
        )

    def with_options(
        self,
        *,
        retry: RetryPolicy | None = None,
        flow: FlowControl | None = None,
        watchdog: Watchdog | None = None,
        close_timeout: float | None = None,
    ) -> Self:
        """A client with other options on the same connection. Closing either closes both.

        Args:
            retry: as for the class; None: as here.
            flow: likewise. Its `max_item_bytes` may not exceed this client's, which the
                connection was made for.
            watchdog: likewise.
            close_timeout: likewise.

        Raises:
            ConfigurationError: an argument cannot work.
        """
        if flow is not None and flow.max_frame_bytes > self._max_frame_bytes:
            raise ConfigurationError(
                "with_options cannot raise FlowControl.max_item_bytes, since the connection was"
                " made for smaller ones; make a new client"
            )
        if close_timeout is not None and not close_timeout > 0:
            raise ConfigurationError("close_timeout must be positive")
        other = copy.copy(self)
        other._set(  # noqa: SLF001 — it is one of these
            retry or self._retry,
            flow or self._flow,
            watchdog or self._watchdog,
            close_timeout or self._close_timeout,
        )
        return other

    def _set(
        self, retry: RetryPolicy, flow: FlowControl, watchdog: Watchdog, close_timeout: float
    ) -> None:
        """What `with_options` may change, and what must not be shared then."""
        self._retry = retry
        self._flow = flow
        self._watchdog = watchdog
        self._close_timeout = close_timeout
        self._predictor: Predictor | None = None

    # ---------------------------------------------------------------- for the faces

    def _driver(
        self,
        inputs: Iterable[object] | AsyncIterable[object] | InputFeeder[bytes | Refusal],
        *,
        ordered: bool,
        timeout: float | None,
        parameters: Mapping[str, str] | None,
    ) -> StreamDriver:
        """A stream that has not started.

        Raises:
            InputsError: the inputs are no iterable.
            ConfigurationError: another argument cannot work.
            ClientClosedError: the client is closed.
        """
        self._connection.check_open()
        check_timeout(timeout)
        for name, value in (parameters or {}).items():
            if not isinstance(name, str) or not isinstance(value, str):
                raise ConfigurationError(f"parameters must be strings: {name!r}: {value!r}")
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
            inputs=inputs,
            encode=self._codec.encode_input,
            max_item_bytes=self._flow.max_item_bytes,
            pushed=driver.pushed,
            speak=driver.speak,
            refused=driver.notify,
        )
        driver.companion = Isolation(driver, partial(self._open_suspects, parameters))
        return driver

    def _lanes(self) -> Predictor:
        """What carries the calls of `predict`."""
        if self._predictor is None:
            self._predictor = Predictor(
                self._open_lane,
                encode=self._codec.encode_input,
                decode=self._codec.decode_output,
                max_item_bytes=self._flow.max_item_bytes,
                lanes=self._predict_streams,
                idle_seconds=PREDICT_IDLE_SECONDS,
            )
        return self._predictor

    def _open_lane(
        self, *, on_arrival: Callable[[], None], on_break: Callable[[Break], None]
    ) -> StreamDriver:
        """A stream that carries the calls of `predict`, started."""
        session = self._session(ordered=False)
        driver = self._hand_fed(session, on_arrival, on_break, eager=True)
        driver.companion = Isolation(driver, partial(self._open_suspects, None))
        self._connection.start(driver)
        return driver

    def _open_suspects(
        self,
        parameters: Mapping[str, str] | None,
        *,
        on_arrival: Callable[[], None],
        on_break: Callable[[Break], None],
    ) -> StreamDriver:
        """A stream for inputs that may break their servers, started."""
        session = self._session(ordered=False, parameters=parameters, isolated=True)
        driver = self._hand_fed(session, on_arrival, on_break, eager=False)
        self._connection.start(driver)
        return driver

    def _hand_fed(
        self,
        session: ClientSession,
        on_arrival: Callable[[], None],
        on_break: Callable[[Break], None],
        *,
        eager: bool,
    ) -> StreamDriver:
        return StreamDriver(
            session=session,
            transport=self._connection,
            target=self._connection.target,
            retry=self._retry,
            timeout=None,
            close_timeout=self._close_timeout,
            eager=eager,
            on_arrival=on_arrival,
            on_break=on_break,
        )

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
            watchdog=self._watchdog,
        )

    def __repr__(self) -> str:
        application = f", application={self._application!r}" if self._application else ""
        state = ", closed" if self._connection.closed else ""
        return (
            f"{type(self).__name__}({self._connection.target.name!r}{application},"
            f" codec={self._codec!r}{state})"
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
