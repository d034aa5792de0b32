"""The client of stubs of one's own."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import Message

from servestream_client import environment
from servestream_client.config import RetryPolicy, check_count, check_timeout
from servestream_client.errors import ClientClosedError, ConfigurationError, WrongEventLoopError
from servestream_client.events import Hooks
from servestream_client.metadata import Metadata, check_metadata, check_metadata_size, exact
from servestream_client.resume.attempt import CallParts
from servestream_client.resume.call import Asking, ResumedCall
from servestream_client.resume.driver import CallDriver
from servestream_client.resume.exchange import Answers, Exchanging, check_window
from servestream_client.resume.strategies import Resumption
from servestream_client.session.arguments import (
    check_application,
    check_credentials,
    check_policies,
    checked_endpoints,
    checked_hooks,
)
from servestream_client.session.base import Target
from servestream_client.session.endpoint_pool import EndpointPool
from servestream_client.transport.classify import Decision
from servestream_client.transport.grpc_link import GrpcTransport, check_process
from servestream_client.transport.names import Place, read_seed
from servestream_client.transport.targets import split_targets

if TYPE_CHECKING:
    from servestream_client.resume.attempt import StreamStream, UnaryStream

__all__ = ["ResumableClient"]

Stub = TypeVar("Stub")
Req = TypeVar("Req", bound=Message)
Rep = TypeVar("Rep", bound=Message)

_MOST_BYTES = 2**31 - 1 - 64 * 1024
"""Of a reply: what stubs of one's own carry is their owner's business."""


class ResumableClient(Generic[Stub]):
    """Calls of a stub of one's own that survive their servers. No kit is needed there.

    So::

        async with ResumableClient("127.0.0.1:9000", RowsStub, application="rows") as client:
            rows = client.call(lambda stub: stub.Read, ReadRequest(), by_field("row", into="start"))
            async for row in rows:
                ...

    Use it as ``async with``, or close it with `aclose`. It belongs to the event loop that first
    used it.

    Args:
        target: ``host:port``, or any gRPC target name; several of them as a list, or as
            `Endpoints`. None: what ``SERVESTREAM_TARGET`` in the environment says.
        stub: makes the generated stub on a channel: mostly its class.
        application: Serve's application to reach; empty: none is named.
        retry: when to try again, and when to stop. None: as the environment says, or by default.
        metadata: for every call.
        hooks: are told what happens to every call; see `servestream_client.Hooks`.
        credentials: for a TLS channel; None: an insecure one.
        statuses: called with a status and its details where a call ended before it was complete:
            what to do, or None where the table knows best (docs/failures.md).

    Raises:
        ConfigurationError: an argument cannot work.
    """

    def __init__(
        self,
        target: Target,
        stub: Callable[[grpc.aio.Channel], Stub],
        *,
        application: str = "",
        retry: RetryPolicy | None = None,
        metadata: Metadata = (),
        hooks: Sequence[Hooks] = (),
        credentials: grpc.ChannelCredentials | None = None,
        statuses: Callable[[grpc.StatusCode, str], Decision | None] | None = None,
    ) -> None:
        if target is None:
            target = split_targets(os.environ.get(environment.TARGET, ""))
        endpoints = checked_endpoints(target)
        if not callable(stub):
            raise ConfigurationError(
                f"stub must be a generated stub class, or make one of a channel, not {stub!r}"
            )
        if statuses is not None and not callable(statuses):
            raise ConfigurationError("statuses must be a function of a status and its details")
        check_application(application)
        check_metadata(metadata)
        check_credentials(credentials)
        check_policies(retry=retry, flow=None, watchdog=None)
        own = (("application", application),) if application else ()
        common = (*own, *exact(metadata))
        check_metadata_size(common, stacklevel=2)

        def transport(place: Place) -> GrpcTransport:
            return GrpcTransport(
                place.target,
                authority=place.authority,
                metadata=common,
                max_frame_bytes=_MOST_BYTES,
                credentials=credentials,
            )

        pool = EndpointPool(
            [read_seed(each) for each in endpoints.targets], transport, discover=endpoints.discover
        )
        self._parts = CallParts(
            pool=pool,
            retry=retry or environment.policy(RetryPolicy),
            hooks=checked_hooks(hooks),
            application=application,
            decide=statuses,
            tls=credentials is not None,
        )
        self._make_stub = stub
        self._stubs: weakref.WeakKeyDictionary[grpc.aio.Channel, Stub] = weakref.WeakKeyDictionary()
        self._drivers: weakref.WeakSet[CallDriver] = weakref.WeakSet()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def call(
        self,
        method: Callable[[Stub], UnaryStream[Req, Rep]],
        request: Req,
        resume: Callable[[], Resumption[Req, Rep]],
        *,
        timeout: float | None = None,
        idle_timeout: float | None = None,
        ahead: int = 16,
    ) -> ResumedCall[Rep]:
        """A call of a server-streaming method. It begins when it is first iterated.

        Args:
            method: which, of the stub: ``lambda stub: stub.Read``.
            request: what is asked. It is copied.
            resume: makes what says how the call goes on: `by_field`, `by_token`, `by_skip`,
                `by_state`, or a `Resumption` class of one's own.
            timeout: seconds for the whole call, across failures; None: no limit.
            idle_timeout: seconds that a server may say nothing until it is taken for dead; None:
                for ever, as long as its connection stands.
            ahead: how many replies are kept that were not asked for yet.

        Raises:
            ConfigurationError: an argument cannot work.
            ClientClosedError: the client is closed.
        """
        self._check_call(timeout, idle_timeout, ahead)
        if not isinstance(request, Message):
            raise ConfigurationError(f"request must be a protobuf message, not {request!r}")
        resumption = resume()
        for name in ("observe", "request", "complete"):
            if not callable(getattr(resumption, name, None)):
                raise ConfigurationError(
                    f"resume must make something with observe, request and complete; {resumption!r}"
                    f" has no {name}. Is it by_field(...), or a class of your own?"
                )

        def start(
            channel: grpc.aio.Channel, asked: Req, metadata: Metadata, timeout: float | None
        ) -> grpc.aio.UnaryStreamCall[Req, Rep]:
            begin = cast("grpc.aio.UnaryStreamMultiCallable[Req, Rep]", method(self._stub(channel)))
            return begin(asked, metadata=metadata, timeout=timeout)

        driver = CallDriver(
            Asking(request, resumption),
            self._parts,
            start,
            timeout=timeout,
            idle_timeout=idle_timeout,
            ahead=ahead,
        )
        return self._made(driver)

    def exchange(
        self,
        method: Callable[[Stub], StreamStream[Req, Rep]],
        requests: Iterable[Req] | AsyncIterable[Req],
        answers: Answers[Rep, Req],
        *,
        window: int = 64,
        timeout: float | None = None,
        idle_timeout: float | None = None,
        ahead: int = 16,
    ) -> ResumedCall[Rep]:
        """A call of a bidirectional method that gives each request one reply. It begins when it is
        first iterated; use it as ``async with``, or iterate it to its end. Requests may be served
        more than once.

        Args:
            method: which, of the stub: ``lambda stub: stub.Chat``.
            requests: an iterable or an async iterable. They are pulled ahead, up to the window.
            answers: which request a reply answers: `in_order()`, or `by_key("id", "id")`.
            window: how many may lack their reply.
            timeout: as for `call`.
            idle_timeout: likewise, where a request lacks its reply.
            ahead: likewise.

        Raises:
            InputsError: the requests are no iterable.
            ConfigurationError: another argument cannot work.
            ClientClosedError: the client is closed.
        """
        self._check_call(timeout, idle_timeout, ahead)
        check_window(window)
        if not callable(answers):
            raise ConfigurationError(
                "answers must say which request a reply answers, as in_order() does, and not be"
                f" {answers!r}"
            )

        def start(
            channel: grpc.aio.Channel, asked: object, metadata: Metadata, timeout: float | None
        ) -> grpc.aio.StreamStreamCall[Req, Rep]:
            del asked  # requests are written
            begin = cast(
                "grpc.aio.StreamStreamMultiCallable[Req, Rep]", method(self._stub(channel))
            )
            return begin(metadata=metadata, timeout=timeout)

        driver = CallDriver(
            Exchanging(requests, answers, window),
            self._parts,
            start,
            timeout=timeout,
            idle_timeout=idle_timeout,
            ahead=ahead,
        )
        return self._made(driver)

    def _made(self, driver: CallDriver) -> ResumedCall[Any]:
        self._drivers.add(driver)
        return ResumedCall(driver, self._check)

    def _check_call(self, timeout: float | None, idle_timeout: float | None, ahead: int) -> None:
        if self._closed:
            raise self._is_closed()
        check_timeout(timeout)
        if idle_timeout is not None and not idle_timeout > 0:
            raise ConfigurationError("idle_timeout must be positive, or None")
        check_count("ahead", ahead)

    def _stub(self, channel: grpc.aio.Channel) -> Stub:
        stub = self._stubs.get(channel)
        if stub is None:
            stub = self._stubs[channel] = self._make_stub(channel)
        return stub

    def _check(self) -> None:
        if self._closed:
            raise self._is_closed()
        check_process()
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise WrongEventLoopError(
                f"the client of {self._parts.pool.name} was first used in another event loop; make"
                " one client for each"
            )

    def _is_closed(self) -> ClientClosedError:
        return ClientClosedError(f"the client of {self._parts.pool.name} is closed; make a new one")

    async def aclose(self) -> None:
        """End every call and give back the connections. Harmless twice."""
        self._closed = True
        error = ClientClosedError(f"the client of {self._parts.pool.name} was closed")
        await asyncio.gather(*(driver.aclose(error) for driver in list(self._drivers)))
        await self._parts.pool.aclose()

    async def __aenter__(self) -> Self:
        self._check()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
