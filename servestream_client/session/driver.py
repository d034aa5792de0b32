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
from collections.abc import Callable, Sequence
from typing import Protocol

from servestream_client.config import RetryPolicy
from servestream_client.errors import Delivered, ItemError, StreamTimeoutError
from servestream_client.events import Hooks, StreamKind, StreamStarted, StreamStatistics
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.states import ClientState
from servestream_client.session.announcer import Announcer
from servestream_client.session.attempt import StreamParts
from servestream_client.session.attempts import Attempts
from servestream_client.session.endpoint_pool import EndpointPool
from servestream_client.session.lanes import (
    BreakObserver,
    Inlet,
    LanesBeside,
    Outlet,
    Quarantine,
    Sharing,
)
from servestream_client.session.outage import Outage
from servestream_client.session.outcome import AttemptFailed, end_of_task
from servestream_client.session.pump import InputPump
from servestream_client.session.statistics import statistics_of
from servestream_client.signals import Signal, start_task
from servestream_client.usercode import annotate, as_value, describe, unforeseen

__all__ = ["OpenLane", "StreamDriver"]

logger: logging.Logger = logging.getLogger(__name__)

_SHARED = frozenset({StreamKind.PREDICT, StreamKind.GENERATE, StreamKind.ISOLATED})
"""Streams that belong to none of those whose inputs they carry. They run in an empty context of
their own: the first caller's would be kept alive, and taken for that of all they carry."""


class OpenLane(Protocol):
    """Starts an unordered stream whose inputs are pushed by hand."""

    def __call__(
        self,
        *,
        on_arrival: Callable[[], None],
        on_break: Callable[[AttemptFailed], None],
        outage: Outage | None,
    ) -> StreamDriver: ...


class StreamDriver:
    """Runs one stream in a task of its own.

    Args:
        session: the stream's state.
        endpoints: where its attempts go; shared by the client's streams.
        retry: when to try again.
        timeout: seconds for the whole stream; None: no limit.
        close_timeout: seconds that any leave-taking may last.
        on_arrival: called when there may be something to take, or the end; None: raise `arrived`.
        eager: whether an open frame may carry inputs, where the target is known.
        on_break: called like a `BreakObserver`'s `on_attempt_failed`.
        apart: its calls carry small items that somebody waits for; see `Transport.open`.
        hooks: are told what happens.
        kind: what the stream is for.
        outage: of the stream that this one takes over from; None: all is well so far.
    """

    def __init__(
        self,
        *,
        session: ClientSession,
        endpoints: EndpointPool,
        retry: RetryPolicy,
        timeout: float | None,
        close_timeout: float,
        eager: bool = True,
        on_arrival: Callable[[], None] | None = None,
        on_break: Callable[[AttemptFailed], None] | None = None,
        apart: bool = False,
        hooks: Sequence[Hooks] = (),
        kind: StreamKind = StreamKind.STREAM,
        outage: Outage | None = None,
    ) -> None:
        self.session = session
        """To look at. What changes it goes through the doors."""
        self.inlet: Inlet = Inlet(session, self)
        self.outlet: Outlet = Outlet(session, self)
        self.quarantine: Quarantine = Quarantine(session, self)
        self.sharing: Sharing = Sharing(session, self)
        self.arrived: Signal = Signal()
        """Raised when there may be something to take, or the end."""
        self.finished: bool = False
        """Whether the stream's outcome is settled; what is ready can still be taken."""
        self.error: BaseException | None = None
        """The outcome, if it is a failure."""
        self.pump: InputPump | None = None
        """What pushes the inputs; None: others do."""
        self.lanes: LanesBeside | None = None
        self.observer: BreakObserver | None = None
        self.endpoints: EndpointPool = endpoints
        patience = math.inf if retry.give_up_after is None else retry.give_up_after
        self.outage: Outage = outage if outage is not None else Outage(patience)
        """How long the stream has been without a server."""
        self.context: contextvars.Context = contextvars.Context()
        """In which it runs: an empty one, or a copy of that in which it was started."""

        self._on_arrival = on_arrival if on_arrival is not None else self.arrived.set
        self._on_break = on_break
        self._timeout = timeout
        self._close_timeout = close_timeout
        self._outbound = Signal()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._dropped = False
        self._kind = kind
        self._announcer = Announcer(self.stream_id, hooks)
        self._attempts = Attempts(
            StreamParts(
                session=session,
                pool=endpoints,
                apart=apart,
                eager=eager,
                retry=retry,
                outage=self.outage,
                announcer=self._announcer,
                outbound=self._outbound,
                notify=self.notify,
                changed=self._changed,
                nothing_open=self._nothing_open,
                close_timeout=close_timeout,
            ),
            on_failed=self._attempt_failed,
            nobody_waits=on_break is not None,
        )

    # ---------------------------------------------------------------- from outside

    def start(self) -> asyncio.Task[None]:
        """Begin. The task ends by itself once the outcome is settled and the call is closed."""
        loop = asyncio.get_running_loop()
        if self._kind not in _SHARED:
            self.context = contextvars.copy_context()
        self._announcer.belongs_to(self.context)
        if self._timeout is not None:
            deadline = self._attempts.deadline = loop.time() + self._timeout
            expired = StreamTimeoutError(f"the stream's timeout of {self._timeout:g} s passed")
            self._timer = loop.call_at(deadline, self.abandon, expired)
        self._task = start_task(self._run(), f"servestream {self.stream_id}", context=self.context)
        self._task.add_done_callback(self._ended, context=self.context)
        return self._task

    def wake_writer(self) -> None:
        """Say that there may be something to send."""
        if self.session.delivery.failed:
            self._announce_failures()
        if self.lanes is not None and self.lanes.active:
            self.lanes.look()
        self._outbound.set()

    def notify(self) -> None:
        """Say that there may be something to take, or the end."""
        if self.session.delivery.failed:
            self._announce_failures()
        self._on_arrival()

    def cancel(self, number: int) -> None:
        """Nobody wants the outputs of an input any more."""
        self.inlet.cancel(number)
        if self.observer is not None:
            self.observer.cancelled(number)
        if self.session.delivery.ready:  # it was never sent
            self.notify()

    async def flush(self) -> None:
        """Like `wake_writer`; what there is to send is sent in the calling task, if nobody else is
        sending. Returns once gRPC has taken it.
        """
        exchange = self._attempts.exchange
        # If there is more to say, or was while nobody else could, the writer says it.
        if exchange is None or not await exchange.send_next() or self.session.has_output:
            self._outbound.set()

    def capacity_changed(self) -> None:
        """Say that there may be room for inputs, and credit to give: the consumer took something,
        or an answer came.
        """
        if self.session.has_output:
            self._outbound.set()
        if self.lanes is not None and self.lanes.active:
            self.lanes.look()
        if self.pump is not None:
            self.pump.room.set()
        if self.observer is not None and self.observer.stalled:
            self.observer.capacity_changed()

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
        """`abandon`, by a consumer that takes nothing any more. If it keeps its stream, or an
        event of it, it keeps what can be counted, and no payloads.
        """
        self._dropped = True
        self.session.delivery.drop_all()
        self.abandon(error)

    async def aclose(self, error: BaseException | None = None) -> None:
        """`abandon`, and wait until nothing is left of the stream."""
        self.abandon(error)
        if self._task is not None and self._task is not asyncio.current_task():
            # The steps of its end, each with that limit: pump, inputs, call.
            await asyncio.wait({self._task}, timeout=3 * self._close_timeout)
        if self.observer is not None:
            await self.observer.aclose()
        if self.lanes is not None:
            await self.lanes.aclose()

    async def inputs_at_rest(self) -> None:
        """Wait until nothing is pulled from the caller any more, in a stream whose outcome is
        settled, so that `delivered` holds. Bounded in time: the caller's iterator may not let go.
        """
        if self.pump is not None:
            await self.pump.at_rest(self._close_timeout)

    def move(self) -> None:
        """Take leave of the present server in good order, and go on at another."""
        if self._attempts.exchange is not None:
            self._attempts.exchange.move()

    def stand_back(self, delays: int) -> None:
        """Let others have the server: begin the next attempt later, by so many longest delays."""
        self._attempts.stand_back(delays)

    @property
    def gave_up(self) -> bool:
        """Whether it failed since the retry policy allows no more."""
        return self._attempts.gave_up

    @property
    def slow(self) -> bool:
        """Whether large frames keep the connection of the present attempt occupied."""
        exchange = self._attempts.exchange
        return exchange is not None and exchange.line.slow

    @property
    def pulled(self) -> int:
        """How many inputs came from the caller."""
        ledger = self.session.ledger
        return ledger.accepted - ledger.before if self.pump is None else self.pump.pulled

    def delivered(self) -> Delivered:
        """What the consumer has, and what is unknown."""
        session, ledger = self.session, self.session.ledger
        before = ledger.before  # by its numbers, which begin with them
        waiting = self.pulled - (ledger.accepted - before)  # one that did not fit yet
        return Delivered(
            taken_through=ledger.taken_through - before,
            answered=ledger.accepted - before - ledger.unanswered,
            accepted=self.pulled,
            unsent=ledger.unsent + waiting,
            stream_id=session.stream_id.hex(),
            attempts=self.attempts,
        )

    @property
    def attempts(self) -> int:
        """How many calls were made for the stream."""
        alone = self.observer.attempts if self.observer is not None else 0
        beside = self.lanes.attempts if self.lanes is not None else 0
        return self.session.counters.attempts + alone + beside

    @property
    def place(self) -> str:
        """Where the last attempt went; empty: there was none yet."""
        return self._attempts.place

    @property
    def stream_id(self) -> str:
        """In hex, as it stands in the server's logs."""
        return self.session.stream_id.hex()

    def statistics(self) -> StreamStatistics:
        """What happened so far."""
        return statistics_of(
            self.session,
            pulled=self.pulled,
            attempts=self.attempts,
            endpoint=self.place,
            lanes=() if self.lanes is None else self.lanes.statistics(),
            hedged=0 if self.lanes is None else self.lanes.hedged,
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
                    target=self.endpoints.name,
                    application=self.session.application,
                    kind=self._kind,
                    ordered=self.session.ordered,
                    statistics=self.statistics,
                )
            )
            if self.pump is not None:
                self.pump.start(f"servestream inputs of {self.stream_id}")
            self._settle(await self._make_attempts())
        except BaseException as error:
            self._settle(end_of_task(error))
            if isinstance(error, asyncio.CancelledError):
                _drop_frames(error)
            raise
        finally:
            if self._timer is not None:
                self._timer.cancel()
            try:
                if self.pump is not None:
                    await self.pump.stop(self._close_timeout)
            finally:
                if self.session.delivery.failed:
                    self._announce_failures()
                self._announcer.stream_ended(self.error, self.statistics())

    def _ended(self, task: asyncio.Task[None]) -> None:
        """The stream's task is over. It has settled the outcome, unless it never came to run. One
        that was cancelled knows the frames it was cancelled in, and so this driver.
        """
        self._task = None
        if self._timer is not None:
            self._timer.cancel()
        self.session.ledger.drop_payloads()
        if self._dropped:
            self.session.delivery.drop_all()  # what came in between
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if not self.finished:
            self._settle(end_of_task(error or RuntimeError("it ended without an outcome")))
        elif isinstance(error, Exception):
            logger.error("stream %s: its end failed", self.stream_id, exc_info=error)

    def _settle(self, error: BaseException | None) -> None:
        """Note the outcome; the first word on it holds."""
        try:
            if not self.finished:
                self.finished = True
                self.error = None if error is None else as_value(error, "the stream")
                if self.observer is not None:
                    self.observer.end()
                if self.lanes is not None:
                    self.lanes.end()
        except Exception:
            logger.exception("stream %s: what stands by it failed to end", self.stream_id)
        finally:
            self.notify()

    # ---------------------------------------------------------------- attempts

    async def _make_attempts(self) -> BaseException | None:
        """Attempts in turn. Returns what to raise, or None when all went well."""
        try:
            error = await self._attempts.run()
        except Exception as bug:
            failure = unforeseen(bug)
            if failure is not bug:
                logger.exception("stream %s: an internal failure", self.stream_id)
            return failure
        inputs = self._input_error()
        if error is None:
            return inputs
        if inputs is not None:
            annotate(error, f"the inputs had failed, too: {describe(inputs)}")
        return error

    def _input_error(self) -> BaseException | None:
        return self.pump.error if self.pump is not None else None

    def _attempt_failed(self, failed: AttemptFailed) -> None:
        """An attempt is over, before it is known whether there will be another one."""
        if self.observer is not None:
            self.observer.on_attempt_failed(failed)
        if self._on_break is not None:
            self._on_break(failed)

    def _nothing_open(self) -> bool:
        """Whether the stream is complete, and nothing more is to be learnt of the target.

        Of a stream without inputs a server has to say welcome: otherwise a wrong application, or
        credentials that do not hold, would show with the first input only.
        """
        session = self.session
        return session.ledger.complete and bool(
            session.ledger.accepted
            or session.counters.welcomes
            or self._on_break is not None  # nobody waits for it
            or self._input_error() is not None
        )

    def _changed(self) -> None:
        """A frame came in, or the exchange is about to wait for the end only."""
        if self.session.state is ClientState.ENDED:
            # The consumer need not wait for the call's own farewell.
            self._settle(self._input_error())
        if self.lanes is not None:
            self.lanes.look()
        self.notify()
        self.capacity_changed()  # an answer gives its input's bytes back

    def _announce_failures(self) -> None:
        failed = self.session.delivery.take_failed()
        if self._kind is not StreamKind.ISOLATED:  # or the stream that they belong to says it
            for failure in failed:
                self._announcer.item_failed(failure)


def _drop_frames(error: BaseException | None) -> None:
    """Forget where an exception was, which nobody will ask, and with that the call it was in:
    tenacity keeps it in a cycle (docs/decisions/0021).
    """
    while error is not None:
        BaseException.with_traceback(error, None)  # which asks nothing of it
        error = error.__context__
