"""One attempt of a call: one RPC at one endpoint, and what comes of it.

Invariant: `end` closes all of it: the RPC is cancelled, the admission given back, and the endpoint
keeps nothing of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import grpc
import grpc.aio

from servestream_client.config import RetryPolicy
from servestream_client.errors import (
    ConfigurationError,
    NotAServerError,
    PeerProtocolError,
    RejectedError,
    printable,
)
from servestream_client.events import Hooks
from servestream_client.metadata import Metadata
from servestream_client.protocol.frames import Limits
from servestream_client.resume.usercode import of_the_caller
from servestream_client.session.breaker import Admission
from servestream_client.session.endpoint_pool import EndpointPool
from servestream_client.session.endpoints import Endpoint
from servestream_client.signals import being_cancelled, start_task
from servestream_client.transport.base import LinkStatus
from servestream_client.transport.channels import connected
from servestream_client.transport.classify import Decision, Verdict, classify_status
from servestream_client.transport.grpc_link import GrpcTransport
from servestream_client.usercode import describe

__all__ = ["Attempt", "CallParts", "Decide", "End", "Start"]

_MOST_DETAILS = 4096

_LOOKS = 4
"""At a silent server, in the time that it may be silent."""

Start: TypeAlias = Callable[
    [grpc.aio.Channel, Any, Metadata, float | None],
    "grpc.aio.UnaryStreamCall[Any, Any] | grpc.aio.StreamStreamCall[Any, Any]",
]
"""Begins an RPC: a channel, its request, its metadata, the seconds until its deadline."""

Req = TypeVar("Req")
Rep = TypeVar("Rep")

if TYPE_CHECKING:  # or gRPC's classes are not generic
    UnaryStream = (
        grpc.aio.UnaryStreamMultiCallable[Req, Rep] | grpc.UnaryStreamMultiCallable[Req, Rep]
    )
    StreamStream = (
        grpc.aio.StreamStreamMultiCallable[Req, Rep] | grpc.StreamStreamMultiCallable[Req, Rep]
    )
    """A stub's methods. Generated types give its class those of a blocking one."""

Decide: TypeAlias = Callable[[grpc.StatusCode, str], Decision | None]
"""What to do about a status with its details; None: what the table says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallParts:
    """What all calls of a client have in common.

    Attributes:
        pool: the endpoints where they go.
        retry: when to try again, and when to stop.
        hooks: are told.
        application: for events.
        decide: knows of the caller's own statuses; None: there are none.
        tls: whether the channels have credentials.
    """

    pool: EndpointPool
    retry: RetryPolicy
    hooks: tuple[Hooks, ...]
    application: str
    decide: Decide | None
    tls: bool


@dataclass(frozen=True, slots=True)
class End:
    """How an RPC ended.

    Attributes:
        status: gRPC's name for it; empty: this end has ended it.
        verdict: what it means; None: it is OK.
        silent: the server had said nothing for too long.
    """

    status: str
    verdict: Verdict | None
    silent: bool = False


class Attempt:
    """See the module.

    Args:
        parts: of the call.
        endpoint: where.
        admission: by which it is made.
        start: begins the RPC.
        request: what is asked.
        metadata: of this attempt.
        seconds: until the call's timeout; None: it has none.

    Raises:
        ConfigurationError: the method has no several replies.
    """

    def __init__(
        self,
        parts: CallParts,
        endpoint: Endpoint,
        admission: Admission,
        *,
        start: Start,
        request: object,
        metadata: Metadata,
        seconds: float | None,
    ) -> None:
        self.endpoint: Endpoint = endpoint
        self.replies: int = 0
        """How many came."""
        self._parts = parts
        self._admission = admission
        self._away: Verdict | None = None

        def begin(channel: grpc.aio.Channel, every: Metadata) -> Any:  # noqa: ANN401 — as `Start`
            self._channel = channel
            call = start(channel, request, every, seconds)
            if not hasattr(call, "read"):
                call.cancel()
                raise ConfigurationError(
                    "the method gives one reply: there is nothing to resume, call it by the stub"
                )
            return call

        transport = cast("GrpcTransport", endpoint.reach())
        self._call, self._avoid_connection, self._metadata_bytes = transport.begin(begin, metadata)
        self._reading: asyncio.Task[object] | None = None
        self._scope = ExitStack()
        self._scope.enter_context(admission)
        self._scope.enter_context(parts.pool.under_way(endpoint, self._give_up))
        self._connecting = start_task(self._connect(), "servestream connection")

    async def _connect(self) -> None:
        """Somebody is there once the connection stands, however long the first reply takes."""
        with suppress(grpc.aio.UsageError):  # the channel is closed
            if await connected(self._channel):
                self._admission.answered()

    async def read(self, patience: float | None, expects: Callable[[], bool]) -> object | End:
        """Its next reply, or how it ended. Not to be cancelled but for good.

        Args:
            patience: seconds that the server may say nothing; None: any time.
            expects: whether it has something to say.
        """
        try:
            if patience is None:
                reply: object = await self._call.read()
            elif await self._silent(patience, expects):
                self._avoid_connection()
                reason = f"the server said nothing for {patience:g} s"
                return End("", Verdict(Decision.RESUME, reason), silent=True)
            else:
                reading, self._reading = self._reading, None
                reply = cast("asyncio.Task[object]", reading).result()
        except grpc.aio.AioRpcError:
            return await self._end()
        except asyncio.CancelledError:
            if being_cancelled():
                raise
            return await self._end()  # gRPC's word for a call that was cancelled
        except Exception as error:
            text = f"an interceptor of the channel failed: {describe(error)}"
            return End("", Verdict(Decision.FAIL, text, RejectedError))
        if reply is grpc.aio.EOF or self._away is not None:
            return await self._end()
        if reply is None:  # grpc.aio's word for a message that does not parse
            text = "a reply that is no such message: is it the right stub?"
            return End("", Verdict(Decision.FAIL, text, PeerProtocolError))
        if not self.replies:
            self._admission.answered()
            self.endpoint.welcomed(Limits())
        self.replies += 1
        return reply

    async def _silent(self, patience: float, expects: Callable[[], bool]) -> bool:
        """Read, beside the clock: to cancel a read of gRPC's would cancel the call."""
        if self._reading is None:
            self._reading = start_task(self._read(), "servestream reader")
        looks = 0
        while looks < _LOOKS:
            done, _ = await asyncio.wait({self._reading}, timeout=patience / _LOOKS)
            if done:
                return False
            looks = looks + 1 if expects() else 0
        return True

    async def _read(self) -> object:
        return await self._call.read()

    async def write(self, request: object) -> None:
        """Send a request, of a call that is written to. As gRPC's."""
        await cast("grpc.aio.StreamStreamCall[Any, Any]", self._call).write(request)

    async def done_writing(self) -> None:
        """Send no further one."""
        await cast("grpc.aio.StreamStreamCall[Any, Any]", self._call).done_writing()

    def over(self, end: End) -> None:
        """What its end, as the call takes it, says of the endpoint."""
        self.endpoint.attempt_ended(
            self._admission,
            end.verdict,
            unanswered=end.silent and not self.replies,
            silent=end.silent and self.replies > 0,
        )

    def interrupt(self) -> None:
        """Break its RPC. What is read next is its end."""
        self._away = Verdict(Decision.RESUME, "the attempt was interrupted")
        self._call.cancel()

    def end(self) -> None:
        """Let go of it. Harmless twice."""
        self._call.cancel()
        self._connecting.cancel()
        if self._reading is not None:
            self._reading.cancel()
        self._scope.close()

    def _give_up(self, away: Verdict) -> None:
        """Nobody will answer there, and others can."""
        if not self.replies:
            self._away = away
            self._call.cancel()

    async def _end(self) -> End:
        code, details = await self._call.code(), await self._call.details()
        return End(code.name, self._verdict(code, printable(details or "", _MOST_DETAILS)))

    def _verdict(self, code: grpc.StatusCode, details: str) -> Verdict | None:
        if self._away is not None:
            return self._away
        if code is grpc.StatusCode.OK:
            return None
        status = LinkStatus(
            code.name, details, tls=self._parts.tls, metadata_bytes=self._metadata_bytes
        )
        verdict = classify_status(status, known=self.endpoint.known)
        if code is grpc.StatusCode.UNIMPLEMENTED and not self.endpoint.known:
            text = f"the server does not know this method: is it the right application? ({status})"
            verdict = Verdict(verdict.decision, text, NotAServerError, status=code.name)
        decide = self._parts.decide
        decision = None if decide is None else of_the_caller(decide, code, details)
        if decision is None or decision is verdict.decision:
            return verdict
        if decision is Decision.FAIL:
            return Verdict(decision, str(status), RejectedError, status=code.name)
        return Verdict(decision, str(status), status=code.name)
