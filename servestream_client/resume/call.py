"""One call of a stub of one's own, over as many attempts as it takes.

Invariant: there is one attempt at a time; what a `Resumption` has given out is handed to the caller
once, in its order, whatever became of the attempt that brought it; and however the call ends, its
attempt is over by then.
"""

from __future__ import annotations

import abc
import asyncio
import logging
import math
import os
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, NoReturn, Self, TypedDict, TypeVar, Unpack, cast

from google.protobuf.message import Message

from servestream_client.errors import (
    ConfigurationError,
    Delivered,
    StreamError,
    StreamTimeoutError,
)
from servestream_client.events import AttemptOutcome, StreamKind, StreamStarted, StreamStatistics
from servestream_client.protocol.frames import Welcome
from servestream_client.resume.attempt import Attempt, CallParts, End, Start
from servestream_client.resume.strategies import Resumption
from servestream_client.session.admissions import Admissions
from servestream_client.session.announcer import Announcer
from servestream_client.session.breaker import Admission
from servestream_client.session.outage import Outage
from servestream_client.session.outcome import AttemptFailed, FailureRow
from servestream_client.session.retry import retrying
from servestream_client.transport.classify import Decision, Verdict

__all__ = ["DeliveredReplies", "Others", "Resumed", "ResumedCall"]

logger: logging.Logger = logging.getLogger(__name__)

Req = TypeVar("Req", bound=Message)
Rep = TypeVar("Rep", bound=Message)


class Others(TypedDict):
    """The arguments of `Resumed`."""

    parts: CallParts
    start: Start
    timeout: float | None
    idle_timeout: float | None
    check: Callable[[], object]


class DeliveredReplies(Delivered):
    """What the caller of a stub of one's own has when it fails.

    Attributes:
        replies: how many of them were handed out.
    """

    replies: int

    def __init__(self, *, replies: int, stream_id: str, attempts: int) -> None:
        super().__init__(stream_id=stream_id, attempts=attempts)
        object.__setattr__(self, "replies", replies)

    def __str__(self) -> str:
        return f"delivered: {self.replies or 'no'} {'reply' if self.replies == 1 else 'replies'}"


class Resumed(abc.ABC, Generic[Rep]):
    """The replies of one call, as they come: an async iterator, and an async context manager.

    Replies are read as they are asked for: a caller who stops is felt by the server, through gRPC's
    own flow control.

    Args:
        parts: of its client.
        start: begins an RPC.
        timeout: seconds for all of it; None: no limit.
        idle_timeout: seconds that a server may say nothing; None: any time.
        check: called before anything else.
    """

    def __init__(
        self,
        parts: CallParts,
        start: Start,
        *,
        timeout: float | None,
        idle_timeout: float | None,
        check: Callable[[], object],
    ) -> None:
        self._parts = parts
        self._start = start
        self._timeout = timeout
        self._idle_timeout = idle_timeout
        self._check = check
        self._id = os.urandom(16).hex()
        self._announcer = Announcer(self._id, parts.hooks)
        patience = parts.retry.give_up_after
        self._outage = Outage(math.inf if patience is None else patience)
        self._admissions = Admissions(parts.pool, parts.retry, self._outage)
        self._row = FailureRow()
        self._ready: deque[Rep] = deque()
        self._attempt: Attempt | None = None
        self._dropped: weakref.finalize[..., object] | None = None
        self._failed: AttemptFailed | None = None  # and the next attempt has not begun
        self._deadline = math.inf
        self._begun = self._over = self._iterating = False
        self._progressed = True  # the last attempt has
        self._attempts = self._resumes = self._received = self._delivered = 0

    @property
    def statistics(self) -> StreamStatistics:
        """What happened so far. A call is one input; its replies are what was received."""
        endpoint = self._admissions.endpoint
        return StreamStatistics(
            accepted=1,
            sent=min(1, self._attempts),
            replayed=max(0, self._attempts - 1),
            received=self._received,
            taken_through=int(self._over),
            duplicates=0,
            isolated=0,
            attempts=self._attempts,
            resumes=self._resumes,
            replica="",
            code_version="",
            stream_id=self._id,
            endpoint="" if endpoint is None else endpoint.name,
        )

    # ---------------------------------------------------------------- faces

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Rep:
        """The next reply.

        Raises:
            NotResumableError: its server does not go on where it was.
            StreamError: it failed, and the retry policy allows no more.
            StreamTimeoutError: its timeout passed.
            ClientClosedError: the client is closed.
        """
        if self._iterating:
            raise ConfigurationError("two tasks iterate one call at the same time")
        self._iterating = True
        try:
            while not self._ready:
                if self._over:
                    raise StopAsyncIteration
                await self._advance()
            self._delivered += 1
            return self._ready.popleft()
        finally:
            self._iterating = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End it: the server's side is cancelled. Harmless twice."""
        self._ready.clear()
        self._conclude(None, AttemptOutcome.CLOSED)

    def interrupt(self) -> None:
        """Break the present attempt, as a lost connection would: for tests. It is resumed when the
        next reply is asked for.
        """
        if self._attempt is not None:
            self._attempt.interrupt()

    # ---------------------------------------------------------------- for each kind

    @abc.abstractmethod
    def _next_request(self) -> object | None:
        """What the next attempt begins with; None: nothing is left to ask for."""

    @abc.abstractmethod
    def _observe(self, reply: Rep) -> Sequence[Rep]:
        """A reply came. Returns what is to be handed out now.

        Raises:
            NotResumableError: it cannot come here.
        """

    @abc.abstractmethod
    def _complete(self) -> bool:
        """Whether an OK, which just came, is the end."""

    def _opened(self, attempt: Attempt) -> None:
        """An attempt has begun."""

    def _parted(self) -> None:
        """It is over."""

    def _closed(self) -> None:
        """All is over."""

    # ---------------------------------------------------------------- one step

    async def _advance(self) -> None:
        """Until a reply is there, or the attempt or all is over.

        Raises:
            StreamError: as `__anext__`.
        """
        if not self._begun:
            self._begin()
        try:
            async with asyncio.timeout_at(None if self._deadline == math.inf else self._deadline):
                if self._attempt is None:
                    await self._go_on()
                else:
                    await self._read(self._attempt)
        except TimeoutError:
            self._fail(StreamTimeoutError(f"the timeout of {self._timeout:g} s passed"))
        except AttemptFailed as failed:
            self._failed = failed
        except StreamError as error:
            self._fail(error)
        except Exception:  # what a resumption of the caller's raises, most likely
            self._conclude(None, AttemptOutcome.BROKEN)
            raise

    def _begin(self) -> None:
        self._check()
        self._begun = True
        if self._timeout is not None:
            self._deadline = _now() + self._timeout
        parts, me = self._parts, weakref.ref(self)

        def statistics() -> StreamStatistics:
            call = me()
            if call is None:
                raise RuntimeError("the call is gone, and its statistics with it")
            return call.statistics

        started = StreamStarted(
            stream_id=self._id,
            target=parts.pool.name,
            application=parts.application,
            kind=StreamKind.STUB,
            ordered=True,
            statistics=statistics,
        )
        self._announcer.stream_started(started)

    async def _go_on(self) -> None:
        """Begin the next attempt, as often as the retry policy allows, or find that all is done.

        Raises:
            StreamError: it allows no more.
        """
        parts = self._parts
        loop = retrying(
            parts.retry,
            outage=self._outage,
            clock=_now,
            known=lambda: parts.pool.known,
            sleep=parts.pool.sleep,
            before_sleep=self._log_retry,
        )
        try:
            await loop(self._try)
        except AttemptFailed as failed:
            error = self._row.error(
                failed,
                endpoint=self._admissions.endpoint,
                pool=parts.pool,
                policy=parts.retry,
                outage=self._outage,
                attempts=self._attempts,
                now=_now(),
            )
            raise error from failed

    async def _try(self) -> None:
        """One attempt, until something is handed out. First of all, the failure of the last one."""
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed
        endpoint, admission = await self._admissions.wait(no_progress=not self._progressed)
        if not isinstance(admission, Admission):
            self._outage.failed(_now(), admission)
            self._row.share()
            raise AttemptFailed(admission, progressed=False)
        with admission:
            request = self._next_request()
            if request is None:
                self._conclude(None, AttemptOutcome.COMPLETE)
                return
            metadata = self._announcer.attempt_started(self._attempts + 1, endpoint.name)
            self._attempts += 1
            attempt = Attempt(
                self._parts,
                endpoint,
                admission,
                start=self._start,
                request=request,
                metadata=metadata,
                seconds=self._time_left(),
            )
            self._attempt, self._progressed = attempt, False
            self._dropped = weakref.finalize(self, _drop, asyncio.get_running_loop(), attempt)
            self._dropped.atexit = False
            self._opened(attempt)
            while not (self._over or self._ready):
                await self._read(attempt)

    async def _read(self, attempt: Attempt) -> None:
        """The next reply of an attempt, or its end.

        Raises:
            AttemptFailed: it is over, and the call is not.
            NotResumableError: as `Resumption.observe`.
        """
        answered = attempt.replies > 0
        found = await attempt.read(self._idle_timeout)
        if isinstance(found, End):
            self._ended(attempt, found)
            return
        if not answered:
            self._outage.welcomed(_now())
            self._resumes += self._attempts > 1
            self._announcer.attempt_welcomed(Welcome())
        handed = self._observe(cast("Rep", found))
        if handed:
            self._progressed = True
            self._row.progress()
            self._outage.over()
        self._received += len(handed)
        self._ready += handed

    def _ended(self, attempt: Attempt, end: End) -> None:
        verdict = end.verdict
        if verdict is None and not self._complete():
            early = "the server's OK came before the last reply"
            verdict = Verdict(Decision.RESUME, early, status=end.status)
        attempt.over(End(end.status, verdict, end.silent))
        if verdict is None:
            self._conclude(None, AttemptOutcome.COMPLETE)
            return
        self._outage.failed(_now(), verdict, progressed=self._progressed)
        failed = AttemptFailed(verdict, progressed=self._progressed)
        elsewhere = self._parts.pool.elsewhere(
            attempt.endpoint, verdict, welcomed=attempt.replies > 0
        )
        if elsewhere is not None:
            failed.verdict, failed.elsewhere = elsewhere, True
        self._leave(AttemptOutcome.BROKEN, verdict.reason, end.status)
        raise failed

    # ---------------------------------------------------------------- ends

    def _leave(self, outcome: AttemptOutcome, reason: str = "", status: str = "") -> None:
        """The present attempt is over."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            if self._dropped is not None:
                self._dropped.detach()
            attempt.end()
            self._parted()
            self._announcer.attempt_ended(outcome, reason, status)

    def _conclude(self, error: StreamError | None, outcome: AttemptOutcome) -> None:
        if self._over:
            return
        status = {AttemptOutcome.COMPLETE: "OK", AttemptOutcome.CLOSED: "CANCELLED"}
        self._leave(outcome, "" if error is None else error.reason, status.get(outcome, ""))
        self._over = True
        self._closed()
        if self._begun:
            self._announcer.stream_ended(error, self.statistics)

    def _fail(self, error: StreamError) -> NoReturn:
        self._conclude(error, AttemptOutcome.BROKEN)
        error.delivered = DeliveredReplies(
            replies=self._delivered, stream_id=self._id, attempts=self._attempts
        )
        raise error

    def _log_retry(self, failed: AttemptFailed, wait: float) -> None:
        self._row.add(failed)
        logger.info(
            "call %s: attempt %d failed, the next in %.2f s: %s",
            self._id,
            self._attempts,
            wait,
            failed.verdict.reason,
        )

    def _time_left(self) -> float | None:
        return None if self._deadline == math.inf else max(0.001, self._deadline - _now())


class ResumedCall(Resumed[Rep], Generic[Req, Rep]):
    """The replies of a server-streaming call; see `Resumed`. Made by `ResumableClient.call`.

    Args:
        request: what is asked.
        resumption: how it goes on.
        others: of every call.
    """

    def __init__(
        self,
        request: Req,
        resumption: Resumption[Req, Rep],
        **others: Unpack[Others],
    ) -> None:
        super().__init__(**others)
        self._first = request.SerializeToString()  # a caller may use the message again
        self._request = type(request)
        self._resumption = resumption

    def _next_request(self) -> Req | None:
        first = self._request()
        first.ParseFromString(self._first)
        return self._resumption.request(first)

    def _observe(self, reply: Rep) -> Sequence[Rep]:
        return self._resumption.observe(reply)

    def _complete(self) -> bool:
        return self._resumption.complete()


def _drop(loop: asyncio.AbstractEventLoop, attempt: Attempt) -> None:
    """The call was dropped by its caller, in whatever thread."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(attempt.end)


def _now() -> float:
    return asyncio.get_running_loop().time()
