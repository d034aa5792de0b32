"""What the two faces have in common: their options."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Generic, Self, TypeAlias, TypedDict, TypeVar

import grpc

from servestream_client import environment
from servestream_client.codecs import BytesCodec, Codec, check_codec
from servestream_client.config import Endpoints, FlowControl, RetryPolicy, Watchdog, check_count
from servestream_client.errors import ConfigurationError
from servestream_client.events import Hooks
from servestream_client.greenlets import check_threads
from servestream_client.metadata import Metadata, check_metadata, check_metadata_size, exact
from servestream_client.session.arguments import (
    check_application,
    check_close_timeout,
    check_compression,
    check_credentials,
    check_policies,
    checked_endpoints,
    checked_hooks,
)
from servestream_client.session.connection import Connection
from servestream_client.session.endpoint_pool import EndpointPool
from servestream_client.session.factory import StreamFactory
from servestream_client.session.generator import Generator
from servestream_client.session.predictor import Predictor
from servestream_client.transport.grpc_link import GrpcTransport
from servestream_client.transport.names import Place, read_seed
from servestream_client.transport.targets import split_targets

__all__ = ["ClientBase", "ClientOptions", "Target"]

Target: TypeAlias = str | Sequence[str] | Endpoints | None
"""Where a client's servers are; None: where the environment says."""

In = TypeVar("In")
Out = TypeVar("Out")


class ClientOptions(TypedDict, total=False):
    """The keyword arguments of a client; see `StreamClient`."""

    application: str
    retry: RetryPolicy | None
    flow: FlowControl | None
    watchdog: Watchdog | None
    metadata: Metadata
    hooks: Sequence[Hooks]
    credentials: grpc.ChannelCredentials | None
    close_timeout: float
    predict_streams: int | None
    streams_per_connection: int


class ClientBase(Generic[In, Out]):
    """A client without its verbs, which differ between the faces.

    The arguments are those of `StreamClient`.

    Raises:
        ConfigurationError: an argument cannot work.
    """

    def __init__(
        self,
        target: Target,
        codec: Codec[Any, Any] | None,
        *,
        application: str = "",
        retry: RetryPolicy | None = None,
        flow: FlowControl | None = None,
        watchdog: Watchdog | None = None,
        metadata: Metadata = (),
        hooks: Sequence[Hooks] = (),
        credentials: grpc.ChannelCredentials | None = None,
        close_timeout: float = 5.0,
        predict_streams: int | None = None,
        streams_per_connection: int = 100,
    ) -> None:
        check_threads()
        environment.check_names()
        if target is None:
            target = split_targets(os.environ.get(environment.TARGET, ""))
        if application == "":
            application = os.environ.get(environment.APPLICATION, "")
        endpoints = checked_endpoints(target)
        check_application(application)
        if codec is not None:
            check_codec("codec", codec)
        check_metadata(metadata)
        metadata = exact(metadata)
        check_credentials(credentials)
        if predict_streams is not None:
            check_count("predict_streams", predict_streams)
        check_count("streams_per_connection", streams_per_connection)
        check_policies(retry=retry, flow=flow, watchdog=watchdog)
        check_close_timeout(close_timeout)
        own = (("application", application),) if application else ()
        check_metadata_size((*own, *metadata), stacklevel=3)  # where the client is made
        self._predict_streams = predict_streams
        flow = flow or environment.policy(FlowControl)
        check_compression(flow)
        self._max_frame_bytes = flow.max_frame_bytes  # for all that share the connection
        common = (*own, *metadata)

        def transport(place: Place) -> GrpcTransport:
            return GrpcTransport(
                place.target,
                authority=place.authority,
                metadata=common,
                max_frame_bytes=flow.max_frame_bytes,
                credentials=credentials,
                streams_per_connection=streams_per_connection,
            )

        self._connection = Connection(
            EndpointPool(
                [read_seed(each) for each in endpoints.targets],
                transport,
                discover=endpoints.discover,
            )
        )
        self._streams = StreamFactory(
            connection=self._connection,
            codec=BytesCodec() if codec is None else codec,
            application=application,
            retry=retry or environment.policy(RetryPolicy),
            flow=flow,
            watchdog=watchdog or environment.policy(Watchdog),
            close_timeout=close_timeout,
            hooks=checked_hooks(hooks),
        )
        self._predictor: Predictor | None = None
        self._generator: Generator | None = None

    def with_options(
        self,
        *,
        retry: RetryPolicy | None = None,
        flow: FlowControl | None = None,
        watchdog: Watchdog | None = None,
        hooks: Sequence[Hooks] | None = None,
        close_timeout: float | None = None,
    ) -> Self:
        """A client with other options on the same connection. Closing either closes both.

        Args:
            retry: as for the class; None: as here.
            flow: likewise. Its `max_item_bytes` may not exceed this client's, which the
                connection was made for.
            watchdog: likewise.
            hooks: likewise; they take the place of this client's.
            close_timeout: likewise.

        Raises:
            ConfigurationError: an argument cannot work.
        """
        check_policies(retry=retry, flow=flow, watchdog=watchdog)
        if close_timeout is not None:
            check_close_timeout(close_timeout)
        if flow is not None:
            check_compression(flow)
        if flow is not None and flow.max_frame_bytes > self._max_frame_bytes:
            raise ConfigurationError(
                "with_options cannot raise FlowControl.max_item_bytes, since the connection was"
                " made for smaller ones; make a new client"
            )
        other = copy.copy(self)
        other._streams = replace(  # noqa: SLF001 — it is one of these
            self._streams,
            retry=retry or self._streams.retry,
            flow=flow or self._streams.flow,
            watchdog=watchdog or self._streams.watchdog,
            hooks=self._streams.hooks if hooks is None else checked_hooks(hooks),
            close_timeout=close_timeout or self._streams.close_timeout,
        )
        other._predictor = None  # noqa: SLF001
        other._generator = None  # noqa: SLF001
        return other

    # ---------------------------------------------------------------- for the faces

    def _lanes(self) -> Predictor:
        """What carries the calls of `predict`."""
        if self._predictor is None:
            self._predictor = self._streams.predictor(self._predict_streams)
            self._connection.when_dropped(self, self._predictor.orphaned)
        return self._predictor

    def _generate_lanes(self) -> Generator:
        """What carries the calls of `generate`."""
        self._connection.check()
        if self._generator is None:
            self._generator = self._streams.generator(self._predict_streams)
            self._connection.when_dropped(self, self._generator.orphaned)
        return self._generator

    def __repr__(self) -> str:
        streams = self._streams
        application = f", application={streams.application!r}" if streams.application else ""
        state = ", closed" if self._connection.closed else ""
        return (
            f"{type(self).__name__}({self._connection.endpoints.name!r}{application},"
            f" codec={streams.codec!r}{state})"
        )
