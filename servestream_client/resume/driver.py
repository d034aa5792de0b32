"""Makes the attempts of one call, in a task of its own, and keeps a few replies for its caller.

Invariant: there is one attempt at a time, and none once the call is over; what a `Kind` has given
out is handed to the caller once, in its order, whatever became of the attempt that brought it. The
driver does not know its face, so that one that is dropped ends it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections import deque
from collections.abc import Sequence
from typing import Any

from servestream_client.errors import (
    ClientClosedError,
    NotResumableError,
    StreamTimeoutError,
)
from servestream_client.events import AttemptOutcome, StreamKind, StreamStarted, StreamStatistics
from servestream_client.protocol.frames import Welcome
from servestream_client.resume.attempt import Attempt, CallParts, End, Start
from servestream_client.resume.usercode import CallersError, of_the_caller
from servestream_client.session.admissions import Admissions
from servestream_client.session.announcer import Announcer
from servestream_client.session.breaker import Admission
from servestream_client.session.outage import Outage
from servestream_client.session.outcome import AttemptFailed, FailureRow
from servestream_client.session.retry import retrying
from servestream_client.signals import Signal, start_task
from servestream_client.transport.classify import Decision, Verdict
from servestream_client.usercode import unforeseen

__all__ = ["CallDriver", "Kind"]

logger: logging.Logger = logging.getLogger(__name__)


class Kind:
    """What a call is, and how it goes on. What it raises is the caller's, but NotResumableError."""

    async def due(self) -> None:
        """Wait until there is something to make an attempt for."""

    def next_request(self) -> object | None:
        """What the next attempt begins with; None: nothing is left to ask for."""
        raise NotImplementedError

    def opened(self, attempt: Attempt) -> None:
        """An attempt has begun."""

    def observe(self, reply: Any) -> Sequence[Any]:  # noqa: ANN401 — of the caller's stub
        """A reply came. Returns what is to be handed out now."""
        raise NotImplementedError

    def complete(self) -> bool:
        """Whether an OK, which just came, is the end."""
        raise NotImplementedError

    def expects(self) -> bool:
        """Whether the server has something to say."""
        return True

    def parted(self) -> None:
        """The attempt is over."""

    def raised(self) -> BaseException | None:
        """What the caller's code has raised meanwhile; it ends the call behind all replies."""
        return None

    async def aclose(self) -> None:
        """All is over."""


class CallDriver:
    """See the module.

    Args:
        kind: what the call is.
        parts: of its client.
        start: begins an RPC.
        timeout: seconds for all of it; None: no limit.
        idle_timeout: seconds that a server may say nothing; None: any time.
        ahead: replies that are kept for a caller who has not asked for them; of others gRPC's flow
            control lets come what it lets.
    """

    def __init__(
        self,
        kind: Kind,
        parts: CallParts,
        start: Start,
        *,
        timeout: float | None,
        idle_timeout: float | None,
        ahead: int,
    ) -> None:
        self.id: str = os.urandom(16).hex()
        self.ready: deque[Any] = deque()
        """What its caller has not taken."""
        self.arrived: Signal = Signal()
        """Raised when there may be something to take, or the end."""
        self.over: bool = False
        self.error: BaseException | None = None
        """What its caller gets in the end; None: it is complete."""
        self.attempts: int = 0
        self._kind = kind
        self._parts = parts
        self._start = start
        self._timeout = timeout
        self._idle_timeout = idle_timeout
        self._ahead = ahead
        self._announcer = Announcer(self.id, parts.hooks)
        patience = parts.retry.give_up_after
        self._outage = Outage(math.inf if patience is None else patience)
        self._admissions = Admissions(parts.pool, parts.retry, self._outage)
        self._row = FailureRow()
        self._space = Signal()
        self._attempt: Attempt | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing: ClientClosedError | None = None
        self._deadline = math.inf
        self._progressed = True  # the last attempt has
        self._resumes = self._received = 0

    def statistics(self) -> StreamStatistics:
        """What happened so far. A call is one input; its replies are what was received."""
        endpoint = self._admissions.endpoint
        return StreamStatistics(
            accepted=1,
            sent=min(1, self.attempts),
            replayed=max(0, self.attempts - 1),
            received=self._received,
            taken_through=int(self.over and self.error is None),
            duplicates=0,
            isolated=0,
            attempts=self.attempts,
            resumes=self._resumes,
            replica="",
            code_version="",
            stream_id=self.id,
            endpoint="" if endpoint is None else endpoint.name,
        )

    # ---------------------------------------------------------------- from the face

    @property
    def begun(self) -> bool:
        """Whether it was started."""
        return self._task is not None

    def start(self) -> None:
        """Begin. Only once."""
        if self._timeout is not None:
            self._deadline = _now() + self._timeout
        self._task = start_task(self._run(), f"servestream call {self.id}")

    def taken(self) -> None:
        """The caller has taken a reply."""
        self._space.set()

    def interrupt(self) -> None:
        """Break the present attempt. What has come is handed out all the same."""
        if self._attempt is not None:
            self._attempt.interrupt()

    def abandon(self, error: ClientClosedError) -> None:
        """Nobody wants the rest. Harmless at any time."""
        self.ready.clear()
        if self.over:
            return
        self._closing = self._closing or error
        if self._task is not None:
            self._task.cancel()
        else:
            self.over, self.error = True, error

    async def aclose(self, error: ClientClosedError) -> None:
        """`abandon`, and wait until nothing is left."""
        self.abandon(error)
        if self._task is not None:
            await asyncio.wait({self._task})
        else:
            await self._kind.aclose()

    # ---------------------------------------------------------------- the task

    async def _run(self) -> None:
        error: BaseException | None = None
        self._announcer.stream_started(
            StreamStarted(
                stream_id=self.id,
                target=self._parts.pool.name,
                application=self._parts.application,
                kind=StreamKind.STUB,
                ordered=True,
                statistics=self.statistics,
            )
        )
        try:
            async with asyncio.timeout_at(None if self._deadline == math.inf else self._deadline):
                await self._attempts_in_turn()
            error = self._kind.raised()
        except TimeoutError:
            error = StreamTimeoutError(f"the timeout of {self._timeout or 0:g} s passed")
        except CallersError as callers:
            error = callers.error
        except AttemptFailed as failed:
            error = self._given_up(failed)
            error.__cause__ = failed
        except NotResumableError as problem:
            error = problem
        except asyncio.CancelledError:
            error = self._closing or ClientClosedError("the call's task was cancelled")
        except Exception as bug:
            error = unforeseen(bug)
        finally:
            closed = error is not None and error is self._closing
            self._leave(
                AttemptOutcome.CLOSED if closed else AttemptOutcome.BROKEN,
                "" if closed or error is None else str(getattr(error, "reason", error)),
                "CANCELLED" if closed else "",
            )
            await self._kind.aclose()
            self.over, self.error = True, error
            self._announcer.stream_ended(error, self.statistics())
            self.arrived.set()
            del error  # its traceback refers to this frame

    async def _attempts_in_turn(self) -> None:
        """As many as the retry policy allows, until the call is complete.

        Raises:
            AttemptFailed: the last one, where it allows no more.
        """
        pool = self._parts.pool
        loop = retrying(
            self._parts.retry,
            outage=self._outage,
            clock=_now,
            known=lambda: pool.known,
            sleep=pool.sleep,
            before_sleep=self._log_retry,
        )
        await loop(self._one_attempt)

    def _given_up(self, failed: AttemptFailed) -> BaseException:
        return self._row.error(
            failed,
            endpoint=self._admissions.endpoint,
            pool=self._parts.pool,
            policy=self._parts.retry,
            outage=self._outage,
            attempts=self.attempts,
            now=_now(),
        )

    async def _one_attempt(self) -> None:
        """Until the call is complete.

        Raises:
            AttemptFailed: it is not.
        """
        await self._kind.due()
        endpoint, admission = await self._admissions.wait(no_progress=not self._progressed)
        if not isinstance(admission, Admission):
            self._outage.failed(_now(), admission)
            self._row.share()
            raise AttemptFailed(admission, progressed=False)
        with admission:
            request = of_the_caller(self._kind.next_request)
            if request is None:
                return
            metadata = self._announcer.attempt_started(self.attempts + 1, endpoint.name)
            self.attempts += 1
            try:
                self._attempt = of_the_caller(
                    Attempt,
                    self._parts,
                    endpoint,
                    admission,
                    start=self._start,
                    request=request,
                    metadata=metadata,
                    seconds=None if self._deadline == math.inf else self._time_left(),
                )
            except CallersError as callers:
                reason = str(callers.error)
                self._announcer.attempt_ended(AttemptOutcome.BROKEN, reason, "")
                raise
            self._progressed = False
            self._kind.opened(self._attempt)
            await self._replies_of(self._attempt)

    async def _replies_of(self, attempt: Attempt) -> None:
        kind = self._kind
        while True:
            found = await attempt.read(self._idle_timeout, kind.expects)
            if isinstance(found, End):
                self._ended(attempt, found)
                return
            if attempt.replies == 1:
                self._outage.welcomed(_now())
                self._resumes += self.attempts > 1
                self._announcer.attempt_welcomed(Welcome())
            handed = of_the_caller(kind.observe, found)
            if handed:
                self._progressed = True
                self._row.progress()
                self._outage.over()
            self._received += len(handed)
            self.ready += handed
            self.arrived.set()
            while len(self.ready) >= self._ahead:
                await self._space.wait()

    def _ended(self, attempt: Attempt, end: End) -> None:
        """An attempt's RPC is over.

        Raises:
            AttemptFailed: the call is not.
        """
        verdict = end.verdict
        if verdict is None and not of_the_caller(self._kind.complete):
            early = "the server's OK came before the last reply"
            verdict = Verdict(Decision.RESUME, early, status=end.status)
        attempt.over(End(end.status, verdict, end.silent))
        if verdict is None:
            self._leave(AttemptOutcome.COMPLETE, "", end.status)
            return
        self._outage.failed(_now(), verdict, progressed=self._progressed)
        failed = AttemptFailed(verdict, progressed=self._progressed)
        pool = self._parts.pool
        elsewhere = pool.elsewhere(attempt.endpoint, verdict, welcomed=attempt.replies > 0)
        if elsewhere is not None:
            failed.verdict, failed.elsewhere = elsewhere, True
        self._leave(AttemptOutcome.BROKEN, verdict.reason, end.status)
        raise failed

    def _leave(self, outcome: AttemptOutcome, reason: str, status: str) -> None:
        """The present attempt is over, if there is one."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.end()
            self._kind.parted()
            self._announcer.attempt_ended(outcome, reason, status)

    def _log_retry(self, failed: AttemptFailed, wait: float) -> None:
        self._row.add(failed)
        logger.info(
            "call %s: attempt %d failed, the next in %.2f s: %s",
            self.id,
            self.attempts,
            wait,
            failed.verdict.reason,
        )

    def _time_left(self) -> float:
        return max(0.001, self._deadline - _now())


def _now() -> float:
    return asyncio.get_running_loop().time()
