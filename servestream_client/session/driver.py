"""One stream's engine: an input pump, and attempts in turn until the stream is complete.

Attempts run in one task that the driver owns, during an attempt with a writer beside the reader.
The pump has a task of its own: it runs the caller's code, which gets one cancellation and then its
time to clean up, where a cancel scope would interrupt that again and again. None of them knows the
object that the user iterates, so that dropping that object can end them all.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterable, Callable, Iterable
from contextlib import aclosing, suppress
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
    describe,
)
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.frames import Limits
from servestream_client.protocol.states import ClientState
from servestream_client.session.retry import CALM_SECONDS, AttemptFailed, retrying
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
        self.pulled = 0
        """How many inputs came out of the caller's iterator."""

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
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._alone = False  # the next open carries no inputs, since the last one was refused
        self._welcomes = 0  # of the session's, as last looked at

    # ---------------------------------------------------------------- from outside

    def start(self) -> asyncio.Task[None]:
        """Begin. The task ends by itself once the outcome is settled and the call is closed."""
        loop = asyncio.get_running_loop()
        if self._timeout is not None:
            self._deadline = loop.time() + self._timeout
            expired = StreamTimeoutError(f"the stream's timeout of {self._timeout:g} s passed")
            self._timer = loop.call_at(self._deadline, self.abandon, expired)
        self._task = loop.create_task(
            self._run(), name=f"servestream {self.session.stream_id.hex()}"
        )
        return self._task

    def taken(self) -> None:
        """Say that the consumer took something: there may be room for inputs, credit to give."""
        self._room.set()
        self._outbound.set()

    def abandon(self, error: BaseException | None = None) -> None:
        """End now, whatever is under way; `error` is what a waiting consumer gets.

        A stream whose outcome is settled is ending already, in bounded time: to cancel that would
        cut a call's farewell short, or interrupt the caller's own generator cleaning up.
        """
        if self.finished:
            return
        self._settle(error)
        if self._task is not None:
            self._task.cancel()

    async def aclose(self, error: BaseException | None = None) -> None:
        """`abandon`, and wait until nothing is left of the stream."""
        self.abandon(error)
        if self._task is not None and self._task is not asyncio.current_task():
            # The steps of its end, each with that limit: pump, inputs, call.
            await asyncio.wait({self._task}, timeout=3 * self._close_timeout)

    def delivered(self) -> Delivered:
        """What the consumer has, and what is unknown."""
        session = self.session
        waiting = self.pulled - session.accepted
        return Delivered(
            taken_through=session.taken_through,
            answered=session.accepted - session.unanswered,
            accepted=self.pulled,
            unsent=session.unsent + waiting,
            stream_id=session.stream_id.hex(),
            attempts=session.counters.attempts,
        )

    # ---------------------------------------------------------------- the stream

    async def _run(self) -> None:
        pump = asyncio.get_running_loop().create_task(
            self._pump(), name=f"servestream inputs of {self.session.stream_id.hex()}"
        )
        try:
            self._settle(await self._attempts())
        except BaseException as error:
            self._settle(
                ClientClosedError("the event loop cancelled the stream's task")
                if isinstance(error, asyncio.CancelledError)
                else error
            )
            raise
        finally:
            if self._timer is not None:
                self._timer.cancel()
            pump.cancel()
            await asyncio.wait({pump}, timeout=self._close_timeout)
            if pump.done():  # else the caller's iterator is still running, and cannot be closed
                await self._close_source()

    async def _close_source(self) -> None:
        closing = asyncio.ensure_future(self._source.aclose())
        await asyncio.wait({closing}, timeout=self._close_timeout)
        closing.cancel()

    def _settle(self, error: BaseException | None) -> None:
        """Note the outcome; the first word on it holds."""
        if not self.finished:
            self.finished = True
            self.error = error
        self.arrived.set()

    async def _pump(self) -> None:
        """Pull, encode and push inputs while there is room for them; end the inputs in any case."""
        session = self.session
        try:
            await self._pull_all()
        except asyncio.CancelledError as error:
            if _being_cancelled():
                raise
            self._input_error = StreamError("the stream's inputs raised CancelledError")
            self._input_error.__cause__ = error
        except BaseException as error:
            self._input_error = error
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            with suppress(Exception):  # a frozen exception takes no note
                error.add_note(f"raised by the stream's inputs, after {self.pulled} of them")
        finally:
            session.finish()
            self._outbound.set()
            self.arrived.set()

    async def _pull_all(self) -> None:
        session = self.session
        while True:
            while not session.has_place:
                await self._room.wait()
            try:
                item = await self._source.pull()
            except StopAsyncIteration:
                return
            self.pulled += 1
            await self._push(item)
            self._outbound.set()

    async def _push(self, item: object) -> None:
        session = self.session
        try:
            payload = self._encode(item)
            if not isinstance(payload, bytes):
                raise TypeError(f"the codec made a {type(payload).__name__}, not bytes")
        except asyncio.CancelledError:
            if _being_cancelled():
                raise
            session.push_failure(ItemErrorKind.INPUT_ENCODE, "the codec was cancelled", item)
            self.arrived.set()
            return
        except Exception as error:
            session.push_failure(ItemErrorKind.INPUT_ENCODE, describe(error), item, error)
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

    async def _attempts(self) -> BaseException | None:
        """Attempts in turn. Returns what to raise, or None when all went well."""
        loop = retrying(
            self._retry,
            stranger=lambda: not self._target.known,
            sleep=anyio.sleep,
            before_sleep=self._log_retry,
        )
        try:
            await loop(self._attempt)
        except AttemptFailed as failed:
            error = self._final_error(failed)
            error.__cause__ = failed
            if self._input_error is not None:
                error.add_note(f"the inputs had failed, too: {describe(self._input_error)}")
            return error
        except Exception as bug:
            logger.exception("a stream failed for an internal reason")
            return bug
        return self._input_error

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
        attempt = session.begin(
            known=None if self._alone else self._target.limits,
            deadline_ms=self._time_left_ms(),
        )
        begun = anyio.current_time()
        exchange = _Exchange(
            session=session,
            attempt=attempt,
            link=link,
            outbound=self._outbound,
            arrived=self.arrived,
            changed=self._changed,
            open_timeout=self._retry.open_timeout,
            close_timeout=self._close_timeout,
        )
        try:
            await exchange.run()
            verdict = await self._verdict(exchange, link)
            if verdict is not None:
                lasted = anyio.current_time() - begun
                raise AttemptFailed(
                    verdict,
                    progressed=session.progressed or (session.idle and lasted >= CALM_SECONDS),
                )
        finally:
            link.cancel()
            session.lost(attempt)

    def _changed(self) -> None:
        """A frame came in, or the exchange is about to wait for the end only."""
        session = self.session
        if session.counters.welcomes > self._welcomes and session.welcome is not None:
            self._welcomes = session.counters.welcomes
            self._alone = False
            self._target.known = True
            self._target.limits = session.welcome.limits
        if session.state is ClientState.ENDED:
            # The consumer need not wait for the call's own farewell.
            self._settle(self._input_error)
        self.arrived.set()
        self._outbound.set()
        self._room.set()  # an answer gives its input's bytes back

    async def _verdict(self, exchange: _Exchange, link: Link) -> Verdict | None:
        """What an exchange came to; None: the stream is complete."""
        session, stranger = self.session, not self._target.known
        if exchange.violation is not None:
            return classify_violation(exchange.violation, stranger=stranger)
        if session.complete and session.accepted:
            return None
        if session.state is ClientState.REFUSED and session.refusal is not None:
            self._alone = True  # what came with the open may have been what did not fit
            verdict = classify_refusal(session.refusal)
            self._target.known |= verdict.decision is not Decision.FAIL
            return verdict
        if session.complete:
            return None  # of no inputs at all
        if session.state is ClientState.FAILED and session.failure is not None:
            return classify_failure(session.failure)
        if session.state is ClientState.LEFT:
            return Verdict(Decision.RESUME, "the server is leaving")
        if exchange.timed_out and session.state is ClientState.DRAINING:
            return Verdict(Decision.RESUME, "the server is leaving, and its grace has passed")
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
        arrived: Signal,
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
        self._arrived = arrived
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
            if session.ready:  # an input that turned out not to fit this server
                self._arrived.set()
            if frame is None:
                await self._outbound.wait()
                continue
            if not await self._link.send(frame):
                return  # that is no status: the reader finds out
            self._limit_the_rest()
        await self._link.half_close()

    def _limit_the_rest(self) -> None:
        """Once nothing is missing but a farewell, or the server leaves, do not wait for ever."""
        session, now = self._session, anyio.current_time()
        if self._scope.deadline < math.inf:
            return
        if session.over or session.complete:
            self._scope.deadline = now + self._close_timeout
        elif session.grace_ms is not None:
            self._scope.deadline = now + session.grace_ms / 1000 + self._close_timeout


def _being_cancelled() -> bool:
    """Whether the running task itself is being cancelled, and not something that it awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
