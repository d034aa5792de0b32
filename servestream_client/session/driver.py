"""One stream's engine: attempts in turn until the stream is complete, and a pump beside them.

Attempts run in one task that the driver owns, during an attempt with a writer beside the reader.
None of its tasks knows the object that the user iterates, so that dropping that object can end them
all.

Invariant: however one of these tasks ends, the stream's outcome is settled, and what waits for it
hears so. A failure that nobody foresaw is an outcome like any.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import random
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from servestream_client.config import RetryPolicy
from servestream_client.errors import (
    ClientClosedError,
    Delivered,
    FrameLostError,
    ItemError,
    RemoteProtocolError,
    RetriesExhaustedError,
    StreamError,
    StreamTimeoutError,
    UnreachableError,
)
from servestream_client.events import (
    AttemptOutcome,
    Hooks,
    StreamKind,
    StreamStarted,
    StreamStatistics,
)
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.coming import too_slow
from servestream_client.protocol.frames import Limits
from servestream_client.protocol.pulse import SILENT_INTERVALS, TICKS_PER_INTERVAL
from servestream_client.protocol.states import ClientState
from servestream_client.session.absence import Absences
from servestream_client.session.announcer import Announcer
from servestream_client.session.breaker import Admission, AdmissionKind, CircuitBreaker
from servestream_client.session.outage import Outage
from servestream_client.session.patience import Patience
from servestream_client.session.pump import InputPump
from servestream_client.session.retry import STABLE_SECONDS, AttemptFailed, last_look, retrying
from servestream_client.signals import Signal, start_task
from servestream_client.transport.base import Link, Transport
from servestream_client.transport.classify import (
    Decision,
    Verdict,
    classify_failure,
    classify_refusal,
    classify_status,
    classify_violation,
)
from servestream_client.transport.proxies import Proxy
from servestream_client.transport.traffic import Line
from servestream_client.usercode import annotate, as_value, describe, unforeseen

__all__ = ["Break", "Companion", "StreamDriver", "Target"]

logger: logging.Logger = logging.getLogger(__name__)

_LONGEST = 86_400.0 * 365 * 100
"""Seconds: no server need hear of a deadline that is further away."""

_SHARED = frozenset({StreamKind.PREDICT, StreamKind.ISOLATED})
"""Streams that belong to none of those whose inputs they carry. They run in an empty context of
their own: one of the first caller's would be kept alive by them, and would be taken by hooks, logs
and interceptors for that of everything the stream carries."""

_LEAVING = "the server is leaving"
_OLD = "the attempt was older than RetryPolicy.max_attempt_age"


@dataclass(slots=True)
class Target:
    """What all streams of a client know of the server.

    Attributes:
        name: for people.
        known: whether it ever spoke the protocol with this client: by a welcome, or by a refusal
            that will pass.
        limits: what it allowed when it last did; None: the next open travels alone.
        answered: how many inputs it has answered.
        breaker: what all attempts pass.
        proxy: what the environment puts before it.
    """

    name: str
    known: bool = False
    limits: Limits | None = None
    answered: int = 0
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    proxy: Proxy | None = None


@dataclass(frozen=True, slots=True)
class Break:
    """An attempt that ended before its stream was complete.

    Attributes:
        verdict: what that means.
        progressed: whether the attempt had brought anything new, or had its time.
        counted: whether the server had welcomed it, and did not ask the client to leave.
        suspects: the inputs that it had got and not answered.
    """

    verdict: Verdict
    progressed: bool
    counted: bool
    suspects: Sequence[int]


class Companion(Protocol):
    """Stands by a stream whose attempts break."""

    @property
    def attempts(self) -> int:
        """How many calls it made for the stream."""
        ...

    def broke(self, broken: Break) -> None:
        """Called between two attempts, when the first is over and before it is known whether there
        will be a second.
        """
        ...

    @property
    def stalled(self) -> bool:
        """Whether it waits for the consumer to take something."""
        ...

    def taken(self) -> None:
        """The consumer took something."""
        ...

    def cancelled(self, number: int) -> None:
        """Nobody wants the outputs of this input any more."""
        ...

    def end(self) -> None:
        """The stream's outcome is settled."""
        ...

    async def aclose(self) -> None:
        """Wait until nothing is left."""
        ...


class StreamDriver:
    """Runs one stream in a task of its own.

    Args:
        session: the stream's state.
        transport: opens the attempts' calls.
        target: shared by the client's streams.
        retry: when to try again.
        timeout: seconds for the whole stream; None: no limit.
        close_timeout: seconds that any leave-taking may last.
        on_arrival: called when there may be something to take, or the end; by default it raises
            `arrived`.
        eager: whether an open frame may carry inputs, where the target is known.
        on_break: called like a `Companion`'s `broke`.
        hooks: are told what happens.
        kind: what the stream is for.
        outage: of the stream that this one takes over from; None: all is well so far.
    """

    def __init__(
        self,
        *,
        session: ClientSession,
        transport: Transport,
        target: Target,
        retry: RetryPolicy,
        timeout: float | None,
        close_timeout: float,
        eager: bool = True,
        on_arrival: Callable[[], None] | None = None,
        on_break: Callable[[Break], None] | None = None,
        hooks: Sequence[Hooks] = (),
        kind: StreamKind = StreamKind.STREAM,
        outage: Outage | None = None,
    ) -> None:
        self.session = session
        self.arrived: Signal = Signal()
        """Raised when there may be something to take, or the end."""
        self.finished: bool = False
        """Whether the stream's outcome is settled; what is ready can still be taken."""
        self.error: BaseException | None = None
        """The outcome, if it is a failure."""
        self.pump: InputPump | None = None
        """What pushes the inputs; None: others do, and say so with `pushed`."""
        self.companion: Companion | None = None
        self.target: Target = target
        patience = math.inf if retry.give_up_after is None else retry.give_up_after
        self.outage: Outage = outage if outage is not None else Outage(patience)
        """How long the stream has been without a server."""
        self.gave_up: bool = False
        """Whether it failed since the retry policy allows no more."""

        self.context: contextvars.Context = contextvars.Context()
        """In which it runs: an empty one, or a copy of that in which it was started."""
        self._on_arrival = on_arrival if on_arrival is not None else self.arrived.set
        self._eager = eager
        self._on_break = on_break
        self._transport = transport
        self._retry = retry
        self._timeout = timeout
        self._close_timeout = close_timeout
        self._outbound = Signal()
        self._exchange: _Exchange | None = None
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._pumping: asyncio.Task[None] | None = None
        self._dropped = False
        self._alone = False  # the next open carries no inputs, since the last was not welcomed
        self._no_progress = False  # the last attempt made no progress
        self._shared = 0  # of this row of failures, those of attempts that other streams made
        self._telling: Verdict | None = None  # of this row of failures, the last that was not vague
        self._welcomes = 0  # of the session's, as last looked at
        self._received = 0
        self._kind = kind
        self._announcer = Announcer(self.stream_id, hooks)

    # ---------------------------------------------------------------- from outside

    def start(self) -> asyncio.Task[None]:
        """Begin. The task ends by itself once the outcome is settled and the call is closed."""
        loop = asyncio.get_running_loop()
        if self._kind not in _SHARED:
            self.context = contextvars.copy_context()
        self._announcer.belongs_to(self.context)
        if self._timeout is not None:
            self._deadline = loop.time() + self._timeout
            expired = StreamTimeoutError(f"the stream's timeout of {self._timeout:g} s passed")
            self._timer = loop.call_at(self._deadline, self.abandon, expired)
        self._task = start_task(self._run(), f"servestream {self.stream_id}", context=self.context)
        self._task.add_done_callback(self._ended, context=self.context)
        return self._task

    def pushed(self) -> None:
        """Say that there may be something to send."""
        self._announce_failures()
        self._outbound.set()

    def notify(self) -> None:
        """Say that there may be something to take, or the end."""
        self._announce_failures()
        self._on_arrival()

    def cancel(self, number: int) -> None:
        """Nobody wants the outputs of an input any more."""
        self.session.cancel(number)
        if self.companion is not None:
            self.companion.cancelled(number)
        self.pushed()
        if self.session.ready:  # it was never sent
            self.notify()

    async def speak(self) -> None:
        """Like `pushed`; what there is to send is sent in the calling task, if nobody else is
        sending. Returns once gRPC has taken it.
        """
        if self._exchange is None or not await self._exchange.send_next():
            self._outbound.set()
        elif self.session.may_speak:
            self._outbound.set()  # there is more to say, or was while nobody else could

    def taken(self) -> None:
        """Say that the consumer took something: there may be room for inputs, credit to give."""
        if self.session.may_speak:
            self._outbound.set()
        if self.pump is not None:
            self.pump.room.set()
        if self.companion is not None and self.companion.stalled:
            self.companion.taken()

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

    def drop(self, error: BaseException | None = None) -> None:
        """`abandon`, by a consumer that takes nothing any more. Who keeps its stream, or an event
        of it, keeps what can be counted, and no payloads.
        """
        self._dropped = True
        self.session.drop_outputs()
        self.abandon(error)

    async def aclose(self, error: BaseException | None = None) -> None:
        """`abandon`, and wait until nothing is left of the stream."""
        self.abandon(error)
        if self._task is not None and self._task is not asyncio.current_task():
            # The steps of its end, each with that limit: pump, inputs, call.
            await asyncio.wait({self._task}, timeout=3 * self._close_timeout)
        if self.companion is not None:
            await self.companion.aclose()

    async def inputs_at_rest(self) -> None:
        """Wait until nothing is pulled from the caller any more, in a stream whose outcome is
        settled, so that `delivered` holds. Bounded in time: the caller's iterator may not let go.
        """
        if self._pumping is not None:
            await asyncio.wait({self._pumping}, timeout=self._close_timeout)

    @property
    def slow(self) -> bool:
        """Whether large frames keep the connection of the present attempt occupied."""
        exchange = self._exchange
        return exchange is not None and exchange.line.slow

    @property
    def pulled(self) -> int:
        """How many inputs came from the caller."""
        return self.session.accepted if self.pump is None else self.pump.pulled

    def delivered(self) -> Delivered:
        """What the consumer has, and what is unknown."""
        session = self.session
        waiting = self.pulled - session.accepted  # one that did not fit yet
        return Delivered(
            taken_through=session.taken_through,
            answered=session.accepted - session.unanswered,
            accepted=self.pulled,
            unsent=session.unsent + waiting,
            stream_id=session.stream_id.hex(),
            attempts=self.attempts,
        )

    @property
    def attempts(self) -> int:
        """How many calls were made for the stream."""
        alone = self.companion.attempts if self.companion is not None else 0
        return self.session.counters.attempts + alone

    @property
    def stream_id(self) -> str:
        """In hex, as it stands in the server's logs."""
        return self.session.stream_id.hex()

    def statistics(self) -> StreamStatistics:
        """What happened so far."""
        session = self.session
        counters, welcome = session.counters, session.welcome
        return StreamStatistics(
            accepted=self.pulled,
            sent=counters.sent,
            replayed=counters.replayed,
            received=counters.received + counters.isolated,
            taken_through=session.taken_through,
            duplicates=counters.duplicates,
            isolated=counters.isolated,
            attempts=self.attempts,
            resumes=max(0, counters.welcomes - 1),
            replica=welcome.replica if welcome else "",
            code_version=welcome.code_version if welcome else "",
            stream_id=self.stream_id,
        )

    def item_failed(self, problem: ItemError) -> None:
        """Say that an output turned out to be none."""
        self._announcer.item_failed(problem)

    # ---------------------------------------------------------------- the stream

    async def _run(self) -> None:
        try:
            self._announcer.stream_started(
                StreamStarted(
                    stream_id=self.stream_id,
                    target=self.target.name,
                    application=self.session.application,
                    kind=self._kind,
                    ordered=self.session.ordered,
                    statistics=self.statistics,
                )
            )
            self._start_pump()
            self._settle(await self._attempts())
        except BaseException as error:
            self._settle(_end_of_task(error))
            if isinstance(error, asyncio.CancelledError):
                _drop_frames(error)
            raise
        finally:
            if self._timer is not None:
                self._timer.cancel()
            try:
                if self._pumping is not None:
                    await self._stop_pump(self._pumping)
            finally:
                self._announce_failures()
                self._announcer.stream_ended(self.error, self.statistics())

    def _ended(self, task: asyncio.Task[None]) -> None:
        """The stream's task is over. It has settled the outcome, unless it never came to run. One
        that was cancelled knows the frames it was cancelled in, and so this driver.
        """
        self._task = None
        if self._timer is not None:
            self._timer.cancel()
        self.session.drop_inputs()
        if self._dropped:
            self.session.drop_outputs()  # what came in between
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if not self.finished:
            self._settle(_end_of_task(error or RuntimeError("it ended without an outcome")))
        elif isinstance(error, Exception):
            logger.error("stream %s: its end failed", self.stream_id, exc_info=error)

    def _start_pump(self) -> None:
        if self.pump is not None:
            self._pumping = start_task(self.pump.run(), f"servestream inputs of {self.stream_id}")
            self._pumping.add_done_callback(self.pump.ended)

    async def _stop_pump(self, pumping: asyncio.Task[None]) -> None:
        pumping.cancel()
        await asyncio.wait({pumping}, timeout=self._close_timeout)
        if self.pump is None or not pumping.done():
            return  # the caller's iterator is still running, and cannot be closed
        closing = start_task(self.pump.aclose(), f"servestream inputs of {self.stream_id}, closing")
        await asyncio.wait({closing}, timeout=self._close_timeout)
        closing.cancel()

    def _settle(self, error: BaseException | None) -> None:
        """Note the outcome; the first word on it holds."""
        try:
            if not self.finished:
                self.finished = True
                self.error = None if error is None else as_value(error, "the stream")
                if self.companion is not None:
                    self.companion.end()
        except Exception:
            logger.exception("stream %s: what stands by it failed to end", self.stream_id)
        finally:
            self.notify()

    # ---------------------------------------------------------------- attempts

    async def _attempts(self) -> BaseException | None:
        """Attempts in turn. Returns what to raise, or None when all went well."""
        loop = retrying(
            self._retry,
            outage=self.outage,
            clock=_now,
            never_welcomed=lambda: not self.target.known,
            sleep=asyncio.sleep,
            before_sleep=self._log_retry,
        )
        try:
            await loop(self._attempt)
        except AttemptFailed as failed:
            self.gave_up = failed.verdict.decision is not Decision.FAIL
            error = self._final_error(failed)
            error.__cause__ = failed
            inputs = self._input_error()
            if inputs is not None:
                annotate(error, f"the inputs had failed, too: {describe(inputs)}")
            return error
        except Exception as bug:
            failure = unforeseen(bug)
            if failure is not bug:
                logger.exception("stream %s: an internal failure", self.stream_id)
            return failure
        return self._input_error()

    def _input_error(self) -> BaseException | None:
        return self.pump.error if self.pump is not None else None

    def _log_retry(self, failed: AttemptFailed, wait: float) -> None:
        if failed.progressed:
            self._telling = None
        if not failed.verdict.vague:
            self._telling = failed.verdict
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
            return verdict.error(f"{self.target.name}: {verdict.reason}")
        if verdict.vague and self._telling is not None and not failed.progressed:
            verdict = self._telling
        attempts = self.session.counters.attempts
        after = f"after attempt {attempts}" if attempts else "while another stream tried for it"
        if attempts and self._shared:
            after += f" and {self._shared} that other streams made for it"
        if self.target.known or verdict.decision is Decision.WAIT:
            patience = self._why_no_more(failed.verdict.retry_after)
        else:
            patience = "it has never completed a handshake with this client"
        reason = verdict.reason
        if self.target.proxy is not None and (verdict.unreachable or not self.target.known):
            reason = f"{reason}; {self.target.proxy}"
        return verdict.error(f"{self.target.name}: gave up {after} ({patience}): {reason}")

    def _why_no_more(self, told: float | None) -> str:
        """Which limit of the retry policy has ended it."""
        now, outage = _now(), self.outage
        if outage.passed(now):
            return f"{outage.patience:g} s without a server have passed, RetryPolicy.give_up_after"
        if told is not None and now + told > outage.deadline:
            return f"the server asks for {told:g} s, more than RetryPolicy.give_up_after leaves"
        return f"{self._retry.attempts} in a row brought nothing new, RetryPolicy.attempts"

    async def _attempt(self) -> None:
        """One call. Returns if the stream is complete.

        Raises:
            AttemptFailed: it is not.
        """
        outage, open_because = self.outage, self.target.breaker.open_because
        if outage.passed(_now()):
            raise self._out_of_patience()
        if open_because is not None and outage.began == math.inf:
            outage.failed(
                _now(), open_because
            )  # to wait for others who try is to be without a server
        try:
            admission = await self.target.breaker.admit(
                self._retry,
                no_progress=self._no_progress,
                deadline=outage.deadline,
                last_look=self._last_look(),
            )
        except TimeoutError:
            raise self._out_of_patience() from None
        if not isinstance(admission, Admission):
            outage.failed(_now(), admission)
            self._shared += 1
            raise AttemptFailed(admission, progressed=False)
        with admission:
            broken, breach = await self._call(admission)
        if broken is None:
            return
        if self.companion is not None:
            self.companion.broke(broken)
        if self._on_break is not None:
            self._on_break(broken)
        # After a breach another attempt is to confirm the end, unless nobody waits for it.
        if self._nothing_open and (not breach or self._on_break is not None):
            return
        self._no_progress = not broken.progressed
        if broken.progressed:
            self._shared = 0
        raise AttemptFailed(broken.verdict, progressed=broken.progressed)

    def _last_look(self) -> float:
        """When somebody is to see whether the target is there, since this stream's patience is
        shorter than the pauses between probes may be.
        """
        if not self.target.known:
            return last_look(self._retry, self.outage)
        half = self.outage.began + self.outage.patience / 2
        return half if half > _now() else math.inf

    def _out_of_patience(self) -> AttemptFailed:
        """The outage's deadline passed while the stream waited: the last word on it holds."""
        verdict = self.outage.verdict
        if verdict is None:
            raise RuntimeError("an outage without a failure")
        return AttemptFailed(verdict, progressed=False)

    async def _call(self, admission: Admission) -> tuple[Break | None, bool]:
        """The call of one attempt, from its opening to its end.

        Returns:
            How the stream was interrupted; None: it is complete. And whether the server broke the
            protocol.
        """
        session, link, attempt = self.session, None, 0
        outcome, reason, cut_short = AttemptOutcome.CLOSED, "", False
        untold = False
        try:
            # Announced in here: what is told to begin is told to end.
            metadata = self._announcer.attempt_started(session.counters.attempts + 1)
            link = self._transport.open(metadata)
            attempt = session.begin(
                known=self.target.limits if self._eager and not self._alone else None,
                deadline_ms=self._time_left_ms(),
            )
            exchange = self._exchange = _Exchange(
                session=session,
                attempt=attempt,
                link=link,
                outbound=self._outbound,
                notify=self.notify,
                answered=admission.answered,
                changed=self._changed,
                open_timeout=min(self._retry.open_timeout, self.outage.deadline - _now()),
                max_age=self._age(),
                close_timeout=self._close_timeout,
                heartbeat_interval=session.watchdog.heartbeat_interval,
            )
            broken = await self._run_exchange(exchange, link, admission)
            outcome, reason = self._outcome(broken), broken.verdict.reason if broken else ""
            untold = broken is not None and broken.verdict.vague and not self.target.known
        except AttemptFailed as failed:
            outcome, reason, cut_short = AttemptOutcome.BROKEN, failed.verdict.reason, True
            raise
        except Exception as bug:
            outcome, reason = AttemptOutcome.BROKEN, describe(bug)
            raise
        finally:
            ended, self._exchange = self._exchange, None
            admission.left()  # unless it is known how it went
            if link is not None:
                # gRPC hears least of what a reverse proxy says on a connection that is used again;
                # and behind what is on its way the next attempt would wait.
                gone = ended is not None and not cut_short and (ended.unanswered or ended.silent)
                if gone or untold or session.large_under_way:
                    link.avoid_connection()
                link.cancel()
            if attempt:
                session.lost(attempt)
            self._announcer.attempt_ended(outcome, reason)
        return broken, exchange.violation is not None

    async def _run_exchange(
        self, exchange: _Exchange, link: Link, admission: Admission
    ) -> Break | None:
        """The traffic of one call, and what came of it; None: the stream is complete.

        Raises:
            AttemptFailed: the outage's deadline passed before anything came.
        """
        session = self.session
        begun, welcomes = _now(), session.counters.welcomes
        await exchange.run()
        if exchange.unanswered and self.outage.passed(_now()):
            raise self._out_of_patience()
        verdict = await self._verdict(exchange, link)
        if verdict is not None and exchange.away:
            verdict = replace(verdict, reason=f"{verdict.reason}; {exchange.away}")
        self._tell_breaker(admission, verdict, unanswered=exchange.unanswered)
        welcomed = session.counters.welcomes > welcomes
        # Whether a server that broke had got the inputs is known only if it had said welcome.
        self._alone |= not welcomed
        if verdict is None:
            return None
        now = _now()
        # To owe nothing, or to leave in order, is no failure of an attempt that had its time.
        in_order = session.idle or session.state is ClientState.LEFT
        stable = in_order and now - begun >= min(STABLE_SECONDS, exchange.age)
        # Two that have one stream's id would drive each other away for ever.
        progressed = (session.progressed or stable) and not session.superseded
        silence = SILENT_INTERVALS * (session.watchdog.heartbeat_interval or 0.0)
        self.outage.failed(
            now, verdict, progressed=progressed, silent_for=silence if exchange.silent else 0.0
        )
        # A server that breaks the protocol does so by itself, whatever its inputs are.
        counted = welcomed and session.blamed and exchange.violation is None
        # Nor does a link that is too slow for an item speak against that item's server.
        counted &= not (exchange.silent and session.awaited is not None)
        return Break(
            verdict,
            progressed=progressed,
            counted=counted,
            suspects=session.suspects if counted else (),
        )

    def _tell_breaker(
        self, admission: Admission, verdict: Verdict | None, *, unanswered: bool
    ) -> None:
        """What the end of an attempt says of the target."""
        unreachable = verdict is not None and verdict.unreachable
        if not admission.pending:  # the attempt was answered
            if verdict is not None and verdict.unreachable:
                self.target.breaker.trip(verdict)
        elif verdict is not None and (
            unreachable or (unanswered and admission.kind is not AdmissionKind.NORMAL)
        ):
            admission.failed(verdict)
        elif not unanswered:
            admission.answered()
        # Else the target may only be busy.

    def _changed(self) -> None:
        """A frame came in, or the exchange is about to wait for the end only."""
        session = self.session
        if self.outage.began < math.inf and session.progressed:
            self.outage.over()
        self.target.answered += session.counters.received - self._received
        self._received = session.counters.received
        if session.counters.welcomes > self._welcomes and session.welcome is not None:
            self._welcomes = session.counters.welcomes
            self._alone = False
            self.target.known = True
            self.outage.welcomed(_now())
            self.target.limits = session.welcome.limits
            self._announcer.attempt_welcomed(session.welcome)
        if session.grace_ms is not None and session.state is ClientState.DRAINING:
            self._announcer.attempt_drains(session.grace_ms)
        if session.state is ClientState.ENDED:
            # The consumer need not wait for the call's own farewell.
            self._settle(self._input_error())
        self.notify()
        self.taken()  # an answer gives its input's bytes back

    def _announce_failures(self) -> None:
        if not self.session.failed:
            return
        failed, self.session.failed = self.session.failed, []
        if self._kind is not StreamKind.ISOLATED:  # or the stream that they belong to says it
            for failure in failed:
                self._announcer.item_failed(failure)

    def _outcome(self, broken: Break | None) -> AttemptOutcome:
        if broken is None:
            return AttemptOutcome.COMPLETE
        left = self.session.state is ClientState.LEFT
        return AttemptOutcome.LEFT if left else AttemptOutcome.BROKEN

    async def _verdict(self, exchange: _Exchange, link: Link) -> Verdict | None:
        """What an exchange came to; None: the stream is complete."""
        session, never_welcomed = self.session, not self.target.known
        if exchange.violation is not None:
            return classify_violation(
                exchange.violation,
                never_welcomed=never_welcomed,
                perhaps_lost=exchange.perhaps_lost,
            )
        if self._nothing_open:
            return None
        if session.state is ClientState.REFUSED and session.refusal is not None:
            verdict = classify_refusal(session.refusal, never_welcomed=never_welcomed)
            self.target.known |= verdict.decision is not Decision.FAIL
            return verdict
        if session.state is ClientState.FAILED and session.failure is not None:
            return classify_failure(session.failure)
        if session.state is ClientState.LEFT:
            return Verdict(Decision.RESUME, _OLD if exchange.moved else _LEAVING)
        return self._given_up(exchange) or classify_status(
            await link.status(), never_welcomed=never_welcomed
        )

    @property
    def _nothing_open(self) -> bool:
        """Whether the stream is complete, and nothing more is to be learnt of the target.

        Of a stream without inputs a server has to say welcome: otherwise a wrong application, or
        credentials that do not hold, would show with the first input only.
        """
        session = self.session
        return session.complete and bool(
            session.accepted
            or session.counters.welcomes
            or self._on_break is not None  # nobody waits for it
            or self._input_error() is not None
        )

    def _given_up(self, exchange: _Exchange) -> Verdict | None:
        """Why this end has left a call that still stood; None: it has not."""
        session = self.session
        if exchange.silent and session.awaited is not None:
            return Verdict(Decision.RESUME, too_slow(session.awaited, "the answer to input"))
        if exchange.silent:
            return Verdict(
                Decision.RESUME,
                "nothing was heard of the server for three heartbeat intervals of"
                f" {session.watchdog.heartbeat_interval:g} s: the link is dead, or the server was"
                " stopped, or its event loop is kept busy",
            )
        if exchange.overdue:
            return Verdict(
                Decision.RESUME,
                f"the server's handler has worked on input {exchange.overdue} for longer than"
                f" Watchdog.item_timeout ({session.watchdog.item_timeout:g} s) and does not let go"
                " of it",
            )
        if exchange.timed_out and session.state is ClientState.DRAINING:
            return Verdict(Decision.RESUME, "the server is leaving, and its grace has passed")
        if exchange.timed_out:
            return Verdict(
                Decision.RESUME,
                f"no answer to the open within {self._retry.open_timeout:g} s; a replica serves"
                " only max_ongoing_requests streams at once, and further ones wait, as all do while"
                " no replica has started; so do those beyond what a connection may carry"
                " (streams_per_connection), and all behind a reverse proxy that gathers requests"
                " (nginx: proxy_pass where it should be grpc_pass)",
                UnreachableError if not self.target.known else RetriesExhaustedError,
            )
        return None

    def _age(self) -> float | None:
        """Seconds after which the attempt that begins now moves on."""
        longest = self._retry.max_attempt_age
        return None if longest is None else longest * random.uniform(0.8, 1.2)  # noqa: S311 — hides nothing

    def _time_left_ms(self) -> int:
        if self._deadline == math.inf:
            return 0
        return max(1, int(min(self._deadline - _now(), _LONGEST) * 1000))


def _end_of_task(error: BaseException) -> BaseException:
    """What it means for a stream that its task ended with this."""
    if isinstance(error, asyncio.CancelledError):
        return ClientClosedError("the event loop cancelled the stream's task")
    return unforeseen(error)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _expire(limit: asyncio.Timeout) -> None:
    """Let a limit pass now."""
    if not limit.expired():
        limit.reschedule(_now())


def _drop_frames(error: BaseException | None) -> None:
    """Forget where an exception was, which nobody will ask, and with that the call it was in:
    tenacity keeps it in a cycle (docs/decisions/0021).
    """
    while error is not None:
        BaseException.with_traceback(error, None)  # which asks nothing of it
        error = error.__context__


class _Exchange:
    """The traffic of one attempt: a writer beside a reader, and limits on how long they wait.

    Invariant: if the writer, or a timer, fails or is cancelled, the reader ends and `run` says why.
    """

    def __init__(
        self,
        *,
        session: ClientSession,
        attempt: int,
        link: Link,
        outbound: Signal,
        notify: Callable[[], None],
        answered: Callable[[], None],
        changed: Callable[[], None],
        open_timeout: float,
        max_age: float | None,
        close_timeout: float,
        heartbeat_interval: float | None,
    ) -> None:
        self.violation: str | None = None
        """How the server broke the protocol, if it did."""
        self.perhaps_lost: bool = False
        """Whether that may as well be the loss of a frame on the way."""
        self.silent: bool = False
        """Whether the server was not heard for too long."""
        self.overdue: int = 0
        """The input that the server does not let go of, if there is one."""
        self.timed_out: bool = False
        """Whether a limit ended the exchange, and not the call."""
        self._session = session
        self._attempt = attempt
        self._link = link
        self._outbound = outbound
        self._notify = notify
        self._on_answer = answered
        self._changed = changed
        self._open_timeout = open_timeout
        self._close_timeout = close_timeout
        self._heartbeat_interval = heartbeat_interval
        self.age: float = math.inf if max_age is None else max_age
        """Seconds after its server's first word after which it moves on by itself."""
        self.moved: bool = False
        """Whether it has done so."""
        self._moving: asyncio.TimerHandle | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._absences = Absences(heartbeat_interval)
        self.line: Line = link.line
        """Its part of the connection's traffic."""
        self._limit = asyncio.timeout(None)  # on the reader
        self._patience = Patience(self.line, partial(_expire, self._limit))
        self._reading = False
        self._failure: BaseException | None = None  # of anything but the reader
        self._answered = False
        self._sending = False
        self._pledged = 0  # bytes of the large frame that goes next
        self._laden = False  # large frames are under way
        self._leaving = False  # the server, or this end, and a limit to it is set
        self._mute = False  # the call takes no more writes

    @property
    def unanswered(self) -> bool:
        """Whether the limit passed before anything came."""
        return self.timed_out and not self._answered

    async def run(self) -> None:
        """Until the call is over, a limit passed, or the server broke the protocol."""
        self.line.join(self._crowd, self._outbound.set)
        writing = start_task(self._write(), "servestream writer")
        writing.add_done_callback(self._wrote)
        try:
            async with self._limit:
                self._reading = True
                self._patience.limit(self._open_timeout)
                self._tick_later()
                try:
                    await self._read()
                except RemoteProtocolError as error:
                    self.violation = str(error)
                    self.perhaps_lost = isinstance(error, FrameLostError)
        except TimeoutError:
            self.timed_out = self._limit.expired()
            if not self.timed_out:
                raise
        finally:
            self._reading = False
            self._patience.clear()
            for timer in filter(None, (self._ticking, self._moving)):
                timer.cancel()
            writing.cancel()
            await asyncio.wait({writing}, timeout=self._close_timeout)
        failure, self._failure = self._failure, None
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # its traceback refers to this frame

    def _end_reading(self) -> None:
        """Let the reader end now. May be called anywhere, at any time."""
        if self._reading:
            _expire(self._limit)

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
        self._end_reading()

    def _wrote(self, writing: asyncio.Task[None]) -> None:
        error = asyncio.CancelledError() if writing.cancelled() else writing.exception()
        if error is not None and self._reading:
            self._fail(_end_of_task(error))

    def _later(self, seconds: float, func: Callable[[], None]) -> asyncio.TimerHandle:
        def call() -> None:
            try:
                func()
            except Exception as error:
                self._fail(error)

        return asyncio.get_running_loop().call_later(seconds, call)

    def _move_later(self) -> None:
        """An attempt's age counts from its server's first word: one that is still opening has
        nowhere to leave, and would then stay for good.
        """
        if self.age < math.inf:
            self._moving = self._later(self.age, self._move)

    def _move(self) -> None:
        """The attempt is old: go elsewhere."""
        self.moved = self._session.move()
        self._limit_the_rest()
        self._outbound.set()

    @property
    def away(self) -> str:
        """What is to be said of this process itself: that it stood still just now."""
        return self._absences.said

    def _tick_later(self) -> None:
        if self._heartbeat_interval is not None:
            seconds = self._heartbeat_interval / TICKS_PER_INTERVAL
            self._absences.expect(seconds)
            self._ticking = self._later(seconds, self._tick)

    def _tick(self) -> None:
        session = self._session
        self._absences.look()
        session.tick(self.line.coming_beside, free=not self.line.going_beside)
        if session.silent and not session.over:
            self.silent = True
            self._end_reading()
            return
        if session.may_speak:
            self._outbound.set()
        self._tick_later()

    async def _read(self) -> None:
        session = self._session
        async with aclosing(self._link.frames()) as frames:
            async for frame in frames:
                if session.over:
                    continue  # on the way to the call's end
                if not self._answered:
                    self._answered = True
                    self._on_answer()
                    self._patience.clear()
                    self._move_later()
                try:
                    session.receive(self._attempt, frame)
                    self._note_traffic()
                finally:
                    del frame  # its payloads are not to be held while waiting for the next
                    self._limit_the_rest()
                    self._changed()
                if session.overdue:
                    self.overdue = session.overdue
                    return

    async def _write(self) -> None:
        while not self._session.over:
            if self._sending or not await self.send_next():
                await self._outbound.wait()
            elif self._mute:
                return  # that is no status: the reader finds out
        await self._link.half_close()

    async def send_next(self) -> bool:
        """Send the next frame in the calling task, if there is one and nobody else is sending."""
        session = self._session
        if self._sending or session.over:
            return False
        line, large = self.line, session.large
        hold = large > 0 and not line.reserve(large)
        opening, alone = session.state is ClientState.OPENING, line.alone
        beside = line.before_welcome if opening else 0 if alone else line.beside
        frame = session.next_frame(hold=hold, beside=beside, alone=alone)
        # An input that turned out not to fit this server, be it its turn or not.
        if session.ready or session.failed:
            self._notify()
        if frame is None:
            return False
        self._sending = True
        told = frame.coming.bytes if frame.coming is not None else 0
        self._pledged = frame.coming.frame_bytes if frame.coming is not None else 0
        if self._laden or self._pledged or opening:
            self._note_under_way()
        try:
            self._mute = not await self._link.send(frame)
        finally:
            self._sending = False
        line.said(told)
        self._limit_the_rest()
        return True

    def _limit_the_rest(self) -> None:
        """Once nothing is missing but a farewell, or the server leaves, do not wait for ever."""
        session = self._session
        if not self._answered:
            return  # there is a limit to that already
        if session.over or session.complete:
            self._patience.limit(self._close_timeout)
        elif session.grace_ms is not None and not self._leaving:
            self._leaving = True
            self._patience.limit(session.grace_ms / 1000 + self._close_timeout)

    def _note_traffic(self) -> None:
        """What the last frame says of the bytes that are under way."""
        session, awaited = self._session, self._session.awaited
        if self._laden:
            self._note_under_way()
        self.line.heard(awaited.bytes if awaited is not None else 0)
        if not session.announces:
            self.line.quit()

    def _note_under_way(self) -> None:
        size = self._session.large_under_way + self._pledged
        self._laden = size > 0
        self.line.under_way(size)

    def _crowd(self) -> None:
        self._session.crowd()
        self._outbound.set()
