"""When to try again: the retry policy, as tenacity strategies around one attempt.

Only progress starts the count afresh. A mere connect does not: a server that accepts and dies
would be hammered for ever (docs/protocol.md, section 14).
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    stop_never,
    wait_random_exponential,
)

from servestream_client.config import RetryPolicy
from servestream_client.transport.classify import Decision, Verdict

__all__ = ["CALM_SECONDS", "AttemptFailed", "retrying"]

CALM_SECONDS = 10.0
"""An attempt that lasted so long and owed nothing when it broke counts as one with progress: a
stream may wait long for its inputs or for its consumer, and be cut again and again by a timeout of
the server's, without anything being wrong."""

_TOLD_JITTER = 0.1  # a server's delay is stretched by up to this share, so that clients spread


class AttemptFailed(Exception):  # noqa: N818 — an event between two functions, not an error to users
    """One attempt ended before the stream was complete.

    Attributes:
        verdict: what that means.
        progressed: whether the attempt had brought anything new.
    """

    def __init__(self, verdict: Verdict, *, progressed: bool) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict
        self.progressed = progressed


def retrying(
    policy: RetryPolicy,
    *,
    stranger: Callable[[], bool],
    sleep: Callable[[float], Awaitable[None]],
    before_sleep: Callable[[AttemptFailed, float], None],
) -> AsyncRetrying:
    """A retry loop to call with a function that makes one attempt.

    The function returns when the stream is complete and raises `AttemptFailed` otherwise; once
    there is to be no other attempt, the last `AttemptFailed` is raised.

    Args:
        policy: how often and how long.
        stranger: whether the target has never spoken the protocol with this client.
        sleep: seconds to an awaitable.
        before_sleep: told of every failure that will be retried, and the wait in seconds.
    """
    backoff = wait_random_exponential(multiplier=policy.initial, max=policy.maximum)
    too_often = stop_after_attempt(policy.attempts)
    too_often_for_a_stranger = stop_after_attempt(policy.connect_attempts)
    too_long = (
        stop_never if policy.give_up_after is None else stop_before_delay(policy.give_up_after)
    )

    def stop(state: RetryCallState) -> bool:
        # A target that says that it is busy is no wrong address.
        busy = _failure(state).verdict.decision is Decision.WAIT
        impatient = stranger() and not busy
        return (too_often_for_a_stranger if impatient else too_often)(state) or too_long(state)

    def wait(state: RetryCallState) -> float:
        failed = _failure(state)
        told = failed.verdict.retry_after
        if told is not None:
            spread = told * (1 + _TOLD_JITTER * random.random())  # noqa: S311 — hides nothing
            return max(spread, backoff(state))
        if failed.progressed and failed.verdict.decision is Decision.RESUME:
            return 0.0
        return backoff(state)

    def start_afresh_on_progress(state: RetryCallState) -> None:
        if _failure(state).progressed:
            state.attempt_number = 0
        if state.attempt_number <= 1:
            # The clock runs from the first failure of a row, not while all was well.
            state.start_time = time.monotonic()

    def report(state: RetryCallState) -> None:
        before_sleep(_failure(state), state.next_action.sleep if state.next_action else 0.0)

    return AsyncRetrying(
        retry=retry_if_exception(
            lambda error: (
                isinstance(error, AttemptFailed) and error.verdict.decision is not Decision.FAIL
            )
        ),
        stop=stop,
        wait=wait,
        after=start_afresh_on_progress,
        before_sleep=report,
        sleep=sleep,
        reraise=True,
    )


def _failure(state: RetryCallState) -> AttemptFailed:
    error = state.outcome.exception() if state.outcome is not None else None
    if not isinstance(error, AttemptFailed):
        raise TypeError(f"retried for {error!r}")
    return error
