"""One attempt of a call: one RPC at one endpoint, and what comes of it.

Invariant: `end` closes all of it: the RPC is cancelled, the admission given back, and the endpoint
keeps nothing of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import grpc
import grpc.aio

from servestream_client.config import RetryPolicy
from servestream_client.errors import printable
from servestream_client.events import Hooks
from servestream_client.metadata import Metadata
from servestream_client.protocol.frames import Limits
from servestream_client.session.breaker import Admission
from servestream_client.session.endpoint_pool import EndpointPool
from servestream_client.session.endpoints import Endpoint
from servestream_client.signals import Signal, start_task
from servestream_client.transport.base import LinkStatus
from servestream_client.transport.classify import Decision, Verdict, classify_status
from servestream_client.transport.grpc_link import GrpcTransport

__all__ = ["Attempt", "CallParts", "Decide", "End", "Start"]

_MOST_DETAILS = 4096

_AHEAD = 16
"""Replies that are read before they are asked for; of the others gRPC's flow control lets come what
it lets."""

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
        self._came: deque[object] = deque()
        self._news, self._space = Signal(), Signal()
        self._ended = False  # nothing more comes
        transport = cast("GrpcTransport", endpoint.reach())
        self._call, self._avoid_connection = transport.begin(
            lambda channel, all_metadata: start(channel, request, all_metadata, seconds), metadata
        )
        self._scope = ExitStack()
        self._scope.enter_context(admission)
        self._scope.enter_context(parts.pool.under_way(endpoint, self._give_up))
        self._reading = start_task(self._read_ahead(), "servestream reader")

    async def read(self, patience: float | None) -> object | End:
        """Its next reply, or how it ended. Whoever is cancelled here has taken nothing.

        Args:
            patience: seconds that the server may say nothing; None: any time.
        """
        while not self._came:
            if self._ended:
                return await self._end()
            try:
                async with asyncio.timeout(patience) as limit:
                    await self._news.wait()
            except TimeoutError:
                if not limit.expired():
                    raise  # a limit of the caller's
                return self._silence(patience)
        if not self.replies:
            self._admission.answered()
            self.endpoint.welcomed(Limits())
        self.replies += 1
        self._space.set()
        return self._came.popleft()

    async def _read_ahead(self) -> None:
        """A few replies: to cancel a read would cancel its call, so that no caller may read."""
        try:
            while (reply := await self._call.read()) is not grpc.aio.EOF and self._away is None:
                self._came.append(reply)
                self._news.set()
                while len(self._came) >= _AHEAD:
                    await self._space.wait()
        except (grpc.aio.AioRpcError, asyncio.CancelledError):
            pass  # its status says it
        finally:
            self._ended = True
            self._news.set()

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
        self._came.clear()
        self._away = Verdict(Decision.RESUME, "the attempt was interrupted")
        self._call.cancel()

    def end(self) -> None:
        """Let go of it. Harmless twice."""
        self._call.cancel()
        self._reading.cancel()
        self._scope.close()

    def _give_up(self, away: Verdict) -> None:
        """Nobody will answer there, and others can."""
        if not self.replies:
            self._away = away
            self._call.cancel()

    def _silence(self, patience: float | None) -> End:
        self._avoid_connection()
        reason = f"the server said nothing for {patience:g} s"
        return End("", Verdict(Decision.RESUME, reason), silent=True)

    async def _end(self) -> End:
        code, details = await self._call.code(), await self._call.details()
        return End(code.name, self._verdict(code, printable(details or "", _MOST_DETAILS)))

    def _verdict(self, code: grpc.StatusCode, details: str) -> Verdict | None:
        if self._away is not None:
            return self._away
        if code is grpc.StatusCode.OK:
            return None
        status = LinkStatus(code.name, details, tls=self._parts.tls)
        verdict = classify_status(status, known=self.endpoint.known)
        decide = self._parts.decide
        decision = None if decide is None else decide(code, details)
        if decision is None or decision is verdict.decision:
            return verdict
        return Verdict(decision, str(status), status=code.name)
