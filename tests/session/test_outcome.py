"""What the end of an attempt means, as a table; nothing runs here."""

import asyncio
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
from pools import pool_of

from servestream_client import (
    ClientClosedError,
    NotAServerError,
    RetriesExhaustedError,
    RetryPolicy,
    ServeStreamError,
    UnreachableError,
    Watchdog,
    WrongApplicationError,
)
from servestream_client.events import AttemptOutcome
from servestream_client.protocol.client.counters import ClientCounters
from servestream_client.protocol.coming import Coming
from servestream_client.protocol.frames import (
    RefusalKind,
    Refused,
    StreamErrorKind,
    StreamFailure,
)
from servestream_client.protocol.states import ClientState
from servestream_client.session.outage import Outage
from servestream_client.session.outcome import (
    STABLE_SECONDS,
    AttemptFailed,
    Ending,
    FailureRow,
    attempt_failed,
    attempt_outcome,
    end_of_task,
    explained,
    out_of_patience,
    silent_for,
)
from servestream_client.transport.classify import Decision, Verdict

RESUME, WAIT, FAIL = Decision.RESUME, Decision.WAIT, Decision.FAIL
S = ClientState
REFUSED = Refused(RefusalKind.OVERLOADED, "busy", 1500)
WRONG = Refused(RefusalKind.APPLICATION, "another")
FAILURE = StreamFailure(StreamErrorKind.INTERNAL, "admit() raised")
WATCHDOG = Watchdog(heartbeat_interval=5, item_timeout=60)


def session(state: ClientState = S.STREAMING, **known: object) -> SimpleNamespace:
    """What an outcome looks at of a session."""
    nothing = {
        "refusal": None,
        "failure": None,
        "awaited": None,
        "late_chunks": "",
        "idle": False,
        "progressed": False,
        "superseded": False,
        "blamed": True,
        "suspects": [3, 4],
        "counters": ClientCounters(),
        "carried": SimpleNamespace(of_cursor=False),
    }
    return SimpleNamespace(state=state, watchdog=WATCHDOG, **(nothing | known))


VIOLATION = Ending(violation="a number twice")
SILENT = Ending(answered=True, silent=True)
COMING = Coming(100_000, 70_000, 9)

# session, ending, known -> decision, part of the reason; None: the status has to say it
EXPLAINED = [
    (session(), Ending(), True, None, ""),
    (session(S.DRAINING), Ending(answered=True), True, None, ""),
    (session(), VIOLATION, True, RESUME, "the server broke the protocol: a number twice"),
    (session(), VIOLATION, False, FAIL, "does not speak this protocol"),
    (session(), replace(VIOLATION, perhaps_lost=True), False, RESUME, "frames were lost"),
    (session(S.REFUSED, refusal=REFUSED), Ending(), False, WAIT, "(overloaded): busy"),
    (session(S.REFUSED, refusal=WRONG), Ending(), False, FAIL, "(application): another"),
    (session(S.REFUSED, refusal=WRONG), Ending(), True, RESUME, "(application): another"),
    (session(S.FAILED, failure=FAILURE), Ending(), True, RESUME, "gave the stream up (internal)"),
    (session(S.LEFT), Ending(), True, RESUME, "the server is leaving"),
    (session(S.LEFT), Ending(moved=True), True, RESUME, "older than RetryPolicy.max_attempt_age"),
    (session(), SILENT, True, RESUME, "three heartbeat intervals of 5 s"),
    (session(awaited=COMING), SILENT, True, RESUME, "the answer to input 9"),
    (session(late_chunks="32 bytes came"), SILENT, True, RESUME, "32 bytes came"),
    (session(), Ending(answered=True, overdue=7), True, RESUME, "input 7 for longer than"),
    (session(S.DRAINING), Ending(timed_out=True), True, RESUME, "its grace has passed"),
    (session(S.OPENING), Ending(timed_out=True), True, RESUME, "no answer to the open within 30"),
]


@pytest.mark.parametrize(("session", "ending", "known", "decision", "part"), EXPLAINED)
def test_what_the_protocol_and_this_end_say(session, ending, known, decision, part):
    verdict = explained(session, ending, known=known, open_timeout=30)
    assert (verdict.decision if verdict else None) is decision
    assert part in (verdict.reason if verdict else "")


# From what is told first to what is told last; with each goes all that comes after it.
ORDER = [
    ({"violation": "a number twice"}, {}, "broke the protocol"),
    ({}, {"state": S.REFUSED}, "not served there"),
    ({}, {"state": S.FAILED}, "gave the stream up"),
    ({}, {"state": S.LEFT}, "is leaving"),
    ({"silent": True}, {"awaited": COMING}, "the answer to input 9"),
    ({"silent": True}, {"late_chunks": "32 bytes came"}, "32 bytes came"),
    ({"silent": True}, {}, "nothing was heard"),
    ({"overdue": 7}, {}, "does not let go"),
    ({"timed_out": True}, {"state": S.DRAINING}, "its grace has passed"),
]


@pytest.mark.parametrize("first", range(len(ORDER)))
def test_the_first_that_holds_says_what_it_means(first):
    ending, state, part = Ending(), {"refusal": REFUSED, "failure": FAILURE}, ORDER[first][2]
    for said, seen, _ in reversed(ORDER[first:]):
        ending = replace(ending, **said)
        state |= seen
    verdict = explained(session(**state), ending, known=True, open_timeout=30)
    assert part in verdict.reason


@pytest.mark.parametrize(
    ("known", "error"), [(False, UnreachableError), (True, RetriesExhaustedError)]
)
def test_no_answer_to_the_open_is_unreachable_where_nobody_ever_answered(known, error):
    ending = Ending(timed_out=True)
    assert ending.unanswered
    verdict = explained(session(S.OPENING), ending, known=known, open_timeout=1)
    assert verdict.error is error


def test_a_violation_by_an_unknown_target_is_no_server():
    verdict = explained(session(), VIOLATION, known=False, open_timeout=1)
    assert verdict.error is NotAServerError


BROKE = Verdict(RESUME, "it broke")
LONG = STABLE_SECONDS

# session, ending, welcomed, lasted, age -> progressed, counted
FAILED = [
    (session(), Ending(), True, 1, math.inf, False, True),
    (session(progressed=True), Ending(), True, 1, math.inf, True, True),
    (session(progressed=True), Ending(), False, 1, math.inf, True, False),
    (session(progressed=True, superseded=True), Ending(), True, 1, math.inf, False, True),
    (session(idle=True), Ending(), True, 1, math.inf, False, True),
    (session(idle=True), Ending(), True, LONG, math.inf, True, True),
    (session(idle=True), Ending(), True, 1, 1, True, True),
    (session(), Ending(), True, LONG, math.inf, False, True),
    (session(S.LEFT), Ending(), True, LONG, math.inf, True, True),
    (session(S.LEFT), Ending(), True, 1, math.inf, False, True),
    (session(blamed=False), Ending(), True, 1, math.inf, False, False),
    (session(), VIOLATION, True, 1, math.inf, False, False),
    (session(), SILENT, True, 1, math.inf, False, True),
    (session(awaited=COMING), SILENT, True, 1, math.inf, False, False),
    (session(awaited=COMING), Ending(), True, 1, math.inf, False, True),
    (session(late_chunks="32 bytes came"), SILENT, True, 1, math.inf, False, False),
]


@pytest.mark.parametrize("row", FAILED)
def test_what_is_to_be_known_of_an_attempt_that_failed(row):
    session, ending, welcomed, lasted, age, progressed, counted = row
    failed = attempt_failed(session, ending, BROKE, welcomed=welcomed, lasted=lasted, age=age)
    assert failed.verdict is BROKE
    assert (failed.progressed, failed.counted) == (progressed, counted)
    assert list(failed.suspects) == ([3, 4] if counted else [])


@pytest.mark.parametrize(("ending", "seconds"), [(Ending(), 0), (SILENT, 15)])
def test_silence_only_seemed_well(ending, seconds):
    assert silent_for(session(), ending) == seconds


FAILURE_SEEN = AttemptFailed(BROKE, progressed=False)
OUTCOMES = [
    (S.ENDED, None, AttemptOutcome.COMPLETE),
    (S.LEFT, FAILURE_SEEN, AttemptOutcome.LEFT),
    (S.STREAMING, FAILURE_SEEN, AttemptOutcome.BROKEN),
    (S.REFUSED, FAILURE_SEEN, AttemptOutcome.BROKEN),
]


@pytest.mark.parametrize(("state", "failed", "outcome"), OUTCOMES)
def test_what_hooks_hear(state, failed, outcome):
    assert attempt_outcome(state, failed) is outcome


# ---------------------------------------------------------------- the final error

AWAY = Verdict(RESUME, "nobody answers", UnreachableError, unreachable=True)
VAGUE = Verdict(RESUME, "it ended", vague=True)
BUSY = Verdict(WAIT, "busy", retry_after=90)
FINAL = Verdict(FAIL, "another application", WrongApplicationError)
POLICY = RetryPolicy(attempts=4, give_up_after=100)


def row_error(
    failed, before=(), *, shared=0, known=True, attempts=2, out_for=0.0, proxy=None
) -> ServeStreamError:
    pool = pool_of(lambda: None, "here:1")
    (endpoint,) = pool.endpoints
    endpoint.known, endpoint.proxy = known, proxy
    outage, row = Outage(100), FailureRow()
    outage.failed(0, failed.verdict)
    for each in before:
        row.add(each)
    for _ in range(shared):
        row.share()
    return row.error(
        failed,
        endpoint=endpoint,
        pool=pool,
        policy=POLICY,
        outage=outage,
        attempts=attempts,
        now=out_for,
    )


def failing(verdict: Verdict, *, progressed: bool = False) -> AttemptFailed:
    return AttemptFailed(verdict, progressed=progressed)


TOO_OFTEN = "4 in a row brought nothing new, RetryPolicy.attempts"
TOO_LONG = "100 s without a server have passed, RetryPolicy.give_up_after"
NEVER = "it has never completed a handshake with this client"
GAVE_UP = "here:1: gave up after attempt 2"
ERRORS = [
    (failing(FINAL), {}, WrongApplicationError, "here:1: another application"),
    (failing(BROKE), {}, RetriesExhaustedError, f"{GAVE_UP} ({TOO_OFTEN}): it broke"),
    (failing(BROKE), {"out_for": 100}, RetriesExhaustedError, f"{GAVE_UP} ({TOO_LONG}): it broke"),
    (failing(AWAY), {"known": False}, UnreachableError, f"{GAVE_UP} ({NEVER}): nobody answers"),
    (
        failing(BUSY),
        {"known": False, "out_for": 20},
        RetriesExhaustedError,
        f"{GAVE_UP} (the server asks for 90 s, more than RetryPolicy.give_up_after leaves): busy",
    ),
    (
        failing(BROKE),
        {"shared": 3},
        RetriesExhaustedError,
        f"{GAVE_UP} and 3 that other streams made for it ({TOO_OFTEN}): it broke",
    ),
    (
        failing(BROKE),
        {"shared": 3, "attempts": 0},
        RetriesExhaustedError,
        f"here:1: gave up while another stream tried for it ({TOO_OFTEN}): it broke",
    ),
    (
        failing(VAGUE),
        {"before": [failing(AWAY), failing(VAGUE)]},
        UnreachableError,
        f"{GAVE_UP} ({TOO_OFTEN}): nobody answers",
    ),
    (
        failing(VAGUE),
        {"before": [failing(AWAY), failing(VAGUE, progressed=True)]},
        RetriesExhaustedError,
        f"{GAVE_UP} ({TOO_OFTEN}): it ended",
    ),
    (
        failing(VAGUE),
        {"before": [failing(BUSY)], "known": False},
        RetriesExhaustedError,
        f"{GAVE_UP} ({NEVER}): busy",
    ),
    (
        failing(AWAY),
        {"proxy": "by way of a proxy"},
        UnreachableError,
        f"{GAVE_UP} ({TOO_OFTEN}): nobody answers; by way of a proxy",
    ),
    (
        failing(BROKE),
        {"proxy": "by way of a proxy"},
        RetriesExhaustedError,
        f"{GAVE_UP} ({TOO_OFTEN}): it broke",
    ),
]


@pytest.mark.parametrize(("failed", "circumstances", "error", "reason"), ERRORS)
def test_what_a_stream_raises_in_the_end(failed, circumstances, error, reason):
    raised = row_error(failed, **circumstances)
    assert type(raised) is error
    assert raised.reason == reason


def test_progress_forgets_what_others_tried():
    row, outage = FailureRow(), Outage(100)
    row.share()
    row.progress()
    pool = pool_of(lambda: None, "here:1")
    (endpoint,) = pool.endpoints
    endpoint.known = True
    error = row.error(
        failing(BROKE),
        endpoint=endpoint,
        pool=pool,
        policy=POLICY,
        outage=outage,
        attempts=1,
        now=0,
    )
    assert "other streams" not in error.reason


def test_out_of_patience_the_last_word_holds():
    outage = Outage(10)
    with pytest.raises(RuntimeError):
        out_of_patience(outage)
    outage.failed(0, BROKE)
    outage.failed(5, AWAY)
    failed = out_of_patience(outage)
    assert (failed.verdict, failed.progressed, failed.counted) == (AWAY, False, False)


def test_a_task_that_was_cancelled_is_the_loops_doing():
    assert type(end_of_task(asyncio.CancelledError())) is ClientClosedError
    bug = end_of_task(ZeroDivisionError())
    assert isinstance(bug, ServeStreamError)
    assert "did not foresee" in str(bug)
