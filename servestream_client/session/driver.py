"""One stream's engine: an input pump, and attempts in turn until the stream is complete.

Everything runs in one task that the driver owns, with a pump beside it and, during an attempt, a
writer beside the reader. None of them knows the object that the user iterates, so that dropping
that object can end them all.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass

import anyio

from servestream_client.config import RetryPolicy
from servestream_client.errors import (
    ClientClosedError,
    Delivered,
    ItemErrorKind,
    RemoteProtocolError,
    RetriesExhaustedError,
    StreamError,
    StreamTimeoutError,
    UnreachableError,
)
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.frames import Limits
from servestream_client.protocol.states import ClientState
from servestream_client.session.retry import AttemptFailed, retrying
from servestream_client.session.source import InputSource
from servestream_client.signals import Signal
from servestream_client.transport.base import Link, Transport
from servestream_client.transport.classify import (
    Decision,
    Verdict,
    classify_failure,
    classify_refusal,
    classify_status,
    classify_violation,
)

__all__ = ["StreamDriver", "Target"]

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Target:
    """What all streams of a client know of the server.

    Attributes:
        name: for people.
        known: whether it ever spoke the protocol with this client: by a welcome, or by a refusal
            that will pass.
        limits: what it allowed when it last did; None: the next open travels alone.
    """

    name: str
    known: bool = False
    limits: Limits | None = None


class StreamDriver:
    """Runs one stream in a task of its own.

    Args:
        session: the stream's state.
        transport: opens the attempts' calls.
        target: shared by the client's streams.
        retry: when to try again.
        inputs: the caller's.
        encode: item to payload; whatever it raises becomes that item's error.
        max_item_bytes: the largest payload to send.
        timeout: seconds for the whole stream; None: no limit.
        close_timeout: seconds that any leave-taking may last.

    Raises:
        InputsError: the inputs are no iterable.
    """

    def __init__(
        self,
        *,
        session: ClientSession,
        transport: Transport,
        target: Target,
        retry: RetryPolicy,
        inputs: Iterable[object] | AsyncIterable[object],
        encode: Callable[[object], bytes],
        max_item_bytes: int,
        timeout: float | None,
        close_timeout: float,
    ) -> None:
        self.session = session
        self.arrived = Signal()
        """Raised when there may be something to take, or the end."""
        self.finished = False
        """Whether the stream's outcome is settled; what is ready can still be taken."""
        self.error: BaseException | None = None
        """The outcome, if it is a failure."""

        self._transport = transport
        self._target = target
        self._retry = retry
        self._source = InputSource(inputs)
        self._encode = encode
        self._max_item_bytes = max_item_bytes
        self._timeout = timeout
        self._close_timeout = close_timeout
        self._room = Signal()
        self._outbound = Signal()
        self._input_error: BaseException | None = None
        self._deadline = math.inf
        self._task: asyncio.Task[None] | None = None

    # ---------------------------------------------------------------- from outside

    def start(self) -> asyncio.Task[None]:
        """Begin. The task ends by itself once the outcome is settled and the call is closed."""
        self._task = asyncio.get_running_loop().create_task(
            self._run(), name=f"servestream {self.session.stream_id.hex()}"
        )
        return self._task

    def taken(self) -> None:
        """The consumer took something: there may be room for inputs, and credit to give."""
        self._room.set()
        self._outbound.set()

    def abandon(self, error: BaseException | None = None) -> None:
        """End now, whatever is under way; `error` is what a waiting consumer gets."""
        self._settle(error)
        if self._task is not None:
            self._task.cancel()

    async def aclose(self, error: BaseException | None = None) -> None:
        """`abandon`, and wait until nothing is left of the stream."""
        self.abandon(error)
        if self._task is not None and self._task is not asyncio.current_task():
            # Twice the limit of each step inside, which are two: the call and the inputs.
            await asyncio.wait({self._task}, timeout=2 * self._close_timeout + 1)

    def delivered(self) -> Delivered:
        """What the consumer has, and what is unknown."""
        session = self.session
        return Delivered(
            taken_through=session.taken_through,
            answered=session.accepted - session.unanswered,
            accepted=session.accepted,
            unsent=session.unsent,
            stream_id=session.stream_id.hex(),
            attempts=session.counters.attempts,
        )

    # ---------------------------------------------------------------- the stream

    async def _run(self) -> None:
        try:
            with anyio.move_on_after(self._timeout) as deadline:
                self._deadline = deadline.deadline
                async with anyio.create_task_group() as group:
                    group.start_soon(self._pump)
                    error = await self._attempts()
                    self._settle(error or self._input_error)
                    group.cancel_scope.cancel()
            if deadline.cancelled_caught:
                self._settle(
                    StreamTimeoutError(f"the stream's timeout of {self._timeout:g} s passed")
                )
        except asyncio.CancelledError:
            self._settle(ClientClosedError("the event loop cancelled the stream's task"))
            raise
        finally:
            with anyio.move_on_after(self._close_timeout, shield=True):
                await self._source.aclose()

    def _settle(self, error: BaseException | None) -> None:
        """The first word on the outcome holds."""
        if not self.finished:
            self.finished = True
            self.error = error
        self.arrived.set()

    async def _pump(self) -> None:
        """Pull, encode and push inputs while there is room for them."""
        session = self.session
        while True:
            while not session.has_place:
                await self._room.wait()
            try:
                item = await self._source.pull()
            except StopAsyncIteration:
                break
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                self._input_error = error  # the caller's iterator was cancelled, not this task
                break
            except Exception as error:
                self._input_error = error
                break
            await self._push(item)
            self._outbound.set()
        session.finish()
        if self._input_error is not None:
            self._input_error.add_note(
                f"raised by the stream's inputs, after {session.accepted} of them"
            )
        self._outbound.set()
        self.arrived.set()

    async def _push(self, item: object) -> None:
        session = self.session
        try:
            payload = self._encode(item)
            if not isinstance(payload, bytes):
                raise TypeError(f"the codec made a {type(payload).__name__}, not bytes")
        except Exception as error:
            session.push_failure(
                ItemErrorKind.INPUT_ENCODE, f"{type(error).__name__}: {error}", item, error
            )
            self.arrived.set()
            return
        size = len(payload)
        if size > self._max_item_bytes:
            session.push_failure(
                ItemErrorKind.INPUT_TOO_LARGE,
                f"{size} bytes encoded, and FlowControl.max_item_bytes is {self._max_item_bytes}",
                item,
            )
            self.arrived.set()
            return
        while not session.fits(size):
            await self._room.wait()
        session.push(payload, item)

    # ---------------------------------------------------------------- attempts

    async def _attempts(self) -> Exception | None:
        """Attempts in turn. Returns what to raise, or None when the stream is complete."""
        loop = retrying(
            self._retry,
            stranger=lambda: not self._target.known,
            sleep=anyio.sleep,
            before_sleep=self._log_retry,
        )
        try:
            await loop(self._attempt)
        except AttemptFailed as failed:
            return self._final_error(failed)
        except Exception as bug:
            logger.exception("a stream failed for an internal reason")
            return bug
        return None

    def _log_retry(self, failed: AttemptFailed, wait: float) -> None:
        logger.info(
            "stream %s: attempt %d failed, the next in %.2f s: %s",
            self.session.stream_id.hex(),
            self.session.counters.attempts,
            wait,
            failed.verdict.reason,
        )

    def _final_error(self, failed: AttemptFailed) -> StreamError:
        verdict = failed.verdict
        if verdict.decision is Decision.FAIL:
            return verdict.error(f"{self._target.name}: {verdict.reason}")
        patience = (
            "the retry policy allows no more"
            if self._target.known
            else "it has never answered this client"
        )
        return verdict.error(
            f"{self._target.name}: gave up after attempt {self.session.counters.attempts}"
            f" ({patience}): {verdict.reason}"
        )

    async def _attempt(self) -> None:
        """One call. Returns if the stream is complete.

        Raises:
            AttemptFailed: it is not.
        """
        session = self.session
        link = self._transport.open()
        attempt = session.begin(known=self._target.limits, deadline_ms=self._time_left_ms())
        exchange = _Exchange(
            session=session,
            attempt=attempt,
            link=link,
            outbound=self._outbound,
            changed=self._changed,
            open_timeout=self._retry.open_timeout,
            close_timeout=self._close_timeout,
        )
        try:
            await exchange.run()
            verdict = await self._verdict(exchange, link)
            if verdict is not None:
                raise AttemptFailed(verdict, progressed=session.progressed)
        finally:
            link.cancel()
            session.lost(attempt)

    def _changed(self) -> None:
        """A frame came in, or the exchange is about to wait for the end only."""
        session = self.session
        if session.welcome is not None and not session.over:
            self._target.known = True
            self._target.limits = session.welcome.limits
        if session.state is ClientState.ENDED:
            # The consumer need not wait for the call's own farewell.
            self._settle(self._input_error)
        self.arrived.set()
        self._outbound.set()

    async def _verdict(self, exchange: _Exchange, link: Link) -> Verdict | None:
        """What an exchange came to; None: the stream is complete."""
        session, stranger = self.session, not self._target.known
        if exchange.violation is not None:
            return classify_violation(exchange.violation, stranger=stranger)
        if session.state is ClientState.REFUSED and session.refusal is not None:
            self._target.limits = None  # they may have been what did not fit
            verdict = classify_refusal(session.refusal)
            self._target.known |= verdict.decision is not Decision.FAIL
            return verdict
        if session.state is ClientState.FAILED and session.failure is not None:
            return classify_failure(session.failure)
        if session.complete:
            return None
        if session.state is ClientState.LEFT:
            return Verdict(Decision.RESUME, "the server is leaving")
        if exchange.timed_out:
            return Verdict(
                Decision.RESUME,
                f"no answer to the open within {self._retry.open_timeout:g} s; a replica serves"
                " only max_ongoing_requests streams at once, and further ones wait",
                UnreachableError if stranger else RetriesExhaustedError,
            )
        return classify_status(await link.status(), stranger=stranger)

    def _time_left_ms(self) -> int:
        if self._deadline == math.inf:
            return 0
        return max(1, int((self._deadline - anyio.current_time()) * 1000))


class _Exchange:
    """The traffic of one attempt: a writer beside a reader, and limits on how long they wait."""

    def __init__(
        self,
        *,
        session: ClientSession,
        attempt: int,
        link: Link,
        outbound: Signal,
        changed: Callable[[], None],
        open_timeout: float,
        close_timeout: float,
    ) -> None:
        self.violation: str | None = None
        """How the server broke the protocol, if it did."""
        self._session = session
        self._attempt = attempt
        self._link = link
        self._outbound = outbound
        self._changed = changed
        self._open_timeout = open_timeout
        self._close_timeout = close_timeout
        self._scope = anyio.CancelScope()
        self._answered = False

    @property
    def timed_out(self) -> bool:
        """Whether a limit ended the exchange, and not the call."""
        return self._scope.cancelled_caught

    async def run(self) -> None:
        """Until the call is over, a limit passed, or the server broke the protocol."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._write)
            with self._scope:
                self._scope.deadline = anyio.current_time() + self._open_timeout
                try:
                    await self._read()
                except RemoteProtocolError as error:
                    self.violation = str(error)
            group.cancel_scope.cancel()

    async def _read(self) -> None:
        session = self._session
        async with aclosing(self._link.frames()) as frames:
            async for frame in frames:
                if session.over:
                    continue  # on the way to the call's end
                if not self._answered:
                    self._answered = True
                    self._scope.deadline = math.inf
                try:
                    session.receive(self._attempt, frame)
                finally:
                    self._limit_the_rest()
                    self._changed()

    async def _write(self) -> None:
        session = self._session
        while not session.over:
            frame = session.next_frame()
            if frame is None:
                await self._outbound.wait()
                continue
            if not await self._link.send(frame):
                return  # that is no status: the reader finds out
            self._limit_the_rest()
        await self._link.half_close()

    def _limit_the_rest(self) -> None:
        """Once nothing is missing but a farewell, do not wait for it for ever."""
        session = self._session
        if self._scope.deadline == math.inf and (session.over or session.complete):
            self._scope.deadline = anyio.current_time() + self._close_timeout
