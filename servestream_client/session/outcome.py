"""What the end of an attempt means, and what a stream raises in the end: functions of what the
session, the traffic's ending and the call's status say. Nothing here waits for anything.

Invariant: of what is known of an attempt, the first that holds says what it means, in this order:
the server broke the protocol; it refused the stream; it gave it up; it left; this end left it; its
call's status.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from dataclasses import dataclass

from servestream_client.config import RetryPolicy
from servestream_client.errors import (
    ClientClosedError,
    Delivered,
    InputEncodeError,
    InputTooLargeError,
    ItemError,
    ItemErrorKind,
    RetriesExhaustedError,
    StreamError,
    UnreachableError,
)
from servestream_client.events import AttemptOutcome
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.coming import too_slow
from servestream_client.protocol.frames import ItemFailure
from servestream_client.protocol.pulse import SILENT_INTERVALS
from servestream_client.protocol.states import ClientState
from servestream_client.session.endpoint_pool import EndpointPool
from servestream_client.session.endpoints import Endpoint
from servestream_client.session.outage import Outage
from servestream_client.transport.classify import (
    Decision,
    Verdict,
    classify_failure,
    classify_refusal,
    classify_violation,
)
from servestream_client.usercode import unforeseen

__all__ = [
    "STABLE_SECONDS",
    "AttemptFailed",
    "Ending",
    "FailureRow",
    "as_own",
    "attempt_failed",
    "attempt_outcome",
    "end_of_task",
    "explained",
    "item_error",
    "out_of_patience",
    "own_failure",
    "silent_for",
]

STABLE_SECONDS = 10.0
"""An attempt that lasted so long and owed nothing when it broke counts as one with progress: a
stream may wait long for its inputs or for its consumer, and be cut again and again by a timeout of
the server's, without anything being wrong."""

_LOCAL_ERRORS: dict[ItemErrorKind, type[ItemError]] = {
    ItemErrorKind.INPUT_ENCODE: InputEncodeError,
    ItemErrorKind.INPUT_TOO_LARGE: InputTooLargeError,
}

_LEAVING = "the server is leaving"
_OLD = "the attempt was older than RetryPolicy.max_attempt_age"


@dataclass(slots=True)
class Ending:
    """How the traffic of one attempt came to its end, as this side saw it.

    Attributes:
        answered: whether anything came.
        violation: how the server broke the protocol; None: it did not.
        perhaps_lost: whether that may as well be the loss of a frame on the way.
        silent: whether the server was not heard for too long.
        overdue: the input that the server does not let go of; 0: there is none.
        timed_out: whether a limit ended the traffic, and not the call.
        moved: whether the attempt took leave since it was old.
        away: why nobody can answer there, found out in another way; None: nothing was.
    """

    answered: bool = False
    violation: str | None = None
    perhaps_lost: bool = False
    silent: bool = False
    overdue: int = 0
    timed_out: bool = False
    moved: bool = False
    away: Verdict | None = None

    @property
    def unanswered(self) -> bool:
        """Whether a limit passed before anything came."""
        return self.timed_out and not self.answered


class AttemptFailed(Exception):  # noqa: N818 — an event between two functions, not an error to users
    """One attempt ended before the stream was complete.

    Attributes:
        verdict: what that means.
        progressed: whether the attempt had brought anything new, or had its time.
        counted: whether the server had welcomed it, and did not ask the client to leave.
        suspects: the inputs that it had got and not answered.
        elsewhere: whether another endpoint can be tried at once.
        fed: whether answers came by lanes since the last one: the stream does well without it.
    """

    def __init__(
        self,
        verdict: Verdict,
        *,
        progressed: bool,
        counted: bool = False,
        suspects: Sequence[int] = (),
    ) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict
        self.progressed = progressed
        self.counted = counted
        self.suspects = suspects
        self.elsewhere = False
        self.fed = False


# -------------------------------------------------------------------- one attempt


def explained(
    session: ClientSession, ending: Ending, *, known: bool, open_timeout: float
) -> Verdict | None:
    """What an attempt came to, as far as the protocol and this end say it; None: the call's status
    has to.

    Args:
        session: the stream's, with that attempt.
        ending: how its traffic ended.
        known: whether the target has ever spoken the protocol with this client.
        open_timeout: how many seconds the attempt waited for an answer to its open.
    """
    if ending.violation is not None:
        return classify_violation(ending.violation, known=known, perhaps_lost=ending.perhaps_lost)
    if session.state is ClientState.REFUSED and session.refusal is not None:
        refusals = session.counters.token_refusals
        return classify_refusal(
            session.refusal,
            known=known,
            token_refusals=refusals,
            of_cursor=session.carried.of_cursor,
        )
    if session.state is ClientState.FAILED and session.failure is not None:
        return classify_failure(session.failure)
    if session.state is ClientState.LEFT:
        return Verdict(Decision.RESUME, _OLD if ending.moved else _LEAVING)
    return _left_behind(session, ending, known=known, open_timeout=open_timeout)


def _left_behind(
    session: ClientSession, ending: Ending, *, known: bool, open_timeout: float
) -> Verdict | None:
    """Why this end has left a call that still stood; None: it has not."""
    if ending.silent and session.awaited is not None:
        return Verdict(Decision.RESUME, too_slow(session.awaited, "the answer to input"))
    if ending.silent and session.late_chunks:
        return Verdict(Decision.RESUME, session.late_chunks)
    if ending.silent:
        return Verdict(
            Decision.RESUME,
            "nothing was heard of the server for three heartbeat intervals of"
            f" {session.watchdog.heartbeat_interval:g} s: the link is dead, or the server was"
            " stopped, or its event loop is kept busy",
        )
    if ending.away is not None:
        return ending.away
    if ending.overdue:
        return Verdict(
            Decision.RESUME,
            f"the server's handler has worked on input {ending.overdue} for longer than"
            f" Watchdog.item_timeout ({session.watchdog.item_timeout:g} s) and does not let go"
            " of it",
        )
    if ending.timed_out and session.state is ClientState.DRAINING:
        return Verdict(Decision.RESUME, "the server is leaving, and its grace has passed")
    if ending.timed_out:
        return Verdict(
            Decision.RESUME,
            f"no answer to the open within {open_timeout:g} s; a replica serves"
            " only max_ongoing_requests streams at once, and further ones wait, as all do while"
            " no replica has started; so do those beyond what a connection may carry"
            " (streams_per_connection), and all behind a reverse proxy that gathers requests"
            " (nginx: proxy_pass where it should be grpc_pass)",
            RetriesExhaustedError if known else UnreachableError,
        )
    return None


def attempt_failed(
    session: ClientSession,
    ending: Ending,
    verdict: Verdict,
    *,
    welcomed: bool,
    lasted: float,
    age: float,
) -> AttemptFailed:
    """What is to be known of an attempt that ended before its stream was complete.

    Args:
        session: the stream's, with that attempt.
        ending: how its traffic ended.
        verdict: what that means.
        welcomed: whether the server had said welcome.
        lasted: seconds.
        age: seconds after which it would have moved by itself.
    """
    # To owe nothing, or to leave in order, is no failure of an attempt that had its time.
    in_order = session.idle or session.state is ClientState.LEFT
    stable = in_order and lasted >= min(STABLE_SECONDS, age)
    # Two that have one stream's id would drive each other away for ever.
    progressed = (session.progressed or stable) and not session.superseded
    # A server that breaks the protocol does so by itself, whatever its inputs are.
    counted = welcomed and session.blamed and ending.violation is None
    # Nor does a link that is too slow for an item speak against that item's server.
    slow = session.awaited is not None or session.late_chunks
    counted &= not (ending.silent and slow)
    return AttemptFailed(
        verdict,
        progressed=progressed,
        counted=counted,
        suspects=session.suspects if counted else (),
    )


def silent_for(session: ClientSession, ending: Ending) -> float:
    """Seconds at the end of an attempt in which it only seemed well."""
    return SILENT_INTERVALS * (session.watchdog.heartbeat_interval or 0.0) if ending.silent else 0.0


def attempt_outcome(state: ClientState, failed: AttemptFailed | None) -> AttemptOutcome:
    """What hooks hear of an attempt that came to its end."""
    if failed is None:
        return AttemptOutcome.COMPLETE
    return AttemptOutcome.LEFT if state is ClientState.LEFT else AttemptOutcome.BROKEN


def end_of_task(error: BaseException) -> BaseException:
    """What it means for a stream that one of its tasks ended with this."""
    if isinstance(error, asyncio.CancelledError):
        return ClientClosedError("the event loop cancelled the stream's task")
    return unforeseen(error)


def out_of_patience(outage: Outage) -> AttemptFailed:
    """The outage's deadline passed while the stream waited: the last word on it holds."""
    if outage.verdict is None:
        raise RuntimeError("an outage without a failure")
    return AttemptFailed(outage.verdict, progressed=False)


# -------------------------------------------------------------------- the stream


class FailureRow:
    """The failures since a stream last made progress, as far as its error tells of them."""

    __slots__ = ("_shared", "_telling")

    def __init__(self) -> None:
        self._shared = 0  # those of attempts that other streams made
        self._telling: Verdict | None = None  # the last that was not vague

    def share(self) -> None:
        """Another stream made an attempt for this one, in vain."""
        self._shared += 1

    def progress(self) -> None:
        """An attempt failed that had brought anything new."""
        self._shared = 0

    def add(self, failed: AttemptFailed) -> None:
        """An attempt failed, and there will be another one."""
        if failed.progressed:
            self._telling = None
        if not failed.verdict.vague:
            self._telling = failed.verdict

    def error(
        self,
        failed: AttemptFailed,
        *,
        endpoint: Endpoint | None,
        pool: EndpointPool,
        policy: RetryPolicy,
        outage: Outage,
        attempts: int,
        now: float,
    ) -> StreamError:
        """What a stream raises when there is to be no other attempt.

        Args:
            failed: the last one.
            endpoint: where it was made; None: nowhere yet.
            pool: all there are.
            policy: the stream's.
            outage: how long it has been without a server.
            attempts: how many the stream itself made.
            now: the time, by the outage's clock.
        """
        verdict, name = failed.verdict, pool.name if endpoint is None else endpoint.name
        others = "" if endpoint is None else pool.account(endpoint, now)
        others = f"; of the other endpoints, {others}" if others else ""
        if verdict.decision is Decision.FAIL:
            return verdict.error(f"{name}: {verdict.reason}{others}")
        if verdict.vague and self._telling is not None and not failed.progressed:
            verdict = self._telling
        after = f"after attempt {attempts}" if attempts else "while another stream tried for it"
        if attempts and self._shared:
            after += f" and {self._shared} that other streams made for it"
        # Which rule stopped it, the last failure decides, whatever is told instead of it.
        if pool.known or failed.verdict.decision is Decision.WAIT:
            why = _why_no_more(policy, outage, failed.verdict.retry_after, now)
        else:
            why = "it has never completed a handshake with this client"
        reason = verdict.reason
        proxy = None if endpoint is None else endpoint.proxy
        if proxy is not None and (verdict.unreachable or not pool.known):
            reason = f"{reason}; {proxy}"
        return verdict.error(f"{name}: gave up {after} ({why}): {reason}{others}")


def _why_no_more(policy: RetryPolicy, outage: Outage, told: float | None, now: float) -> str:
    """Which limit of the retry policy has ended it."""
    if outage.passed(now):
        return f"{outage.patience:g} s without a server have passed, RetryPolicy.give_up_after"
    if told is not None and now + told > outage.deadline:
        return f"the server asks for {told:g} s, more than RetryPolicy.give_up_after leaves"
    return f"{policy.attempts} in a row brought nothing new, RetryPolicy.attempts"


def as_own(error: BaseException | None, ended: str) -> BaseException:
    """The failure of a stream that another one has opened, as that one's, whose account is another.

    Args:
        error: the failure; None: it has ended without.
        ended: what to say then.
    """
    if error is None:
        return StreamError(ended)
    if not isinstance(error, StreamError):
        return unforeseen(error)
    own = type(error)(error.reason)
    own.__cause__ = error.__cause__
    return own


def own_failure(error: BaseException | None, delivered: Delivered) -> BaseException:
    """A stream's failure as that of one of those who share it: an exception has one traceback, and
    one caller.
    """
    if error is None:
        error = StreamError("the stream ended")
    if not isinstance(error, StreamError):
        return copy.copy(error)
    own = type(error)(error.reason, delivered)
    own.__cause__ = error.__cause__
    return own


def item_error(failure: ItemFailure, number: int, item: object) -> ItemError:
    """What users get for an input that failed.

    Args:
        failure: why.
        number: of the input, as they know it.
        item: the input.
    """
    return _LOCAL_ERRORS.get(failure.kind, ItemError)(
        number,
        failure.kind,
        failure.text,
        index=failure.index,
        retryable=failure.retryable,
        input=item,
    )
