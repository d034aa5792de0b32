"""When to try again: the retry policy, as tenacity strategies around one attempt.

Only progress starts the count afresh. A mere connect does not: a server that accepts and dies
would be hammered for ever (docs/protocol.md, section 14). How long an outage may last is said by
its clock (`outage`).
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    wait_random_exponential,
)

from servestream_client.config import RetryPolicy
from servestream_client.session.outage import Outage
from servestream_client.session.outcome import AttemptFailed
from servestream_client.transport.classify import Decision

__all__ = ["last_look", "retrying"]

_TOLD_JITTER = 0.1  # a server's delay is stretched by up to this share, so that clients spread


def last_look(policy: RetryPolicy, outage: Outage) -> float:
    """When the last attempt at a target that never answered begins at the latest: so one that comes
    up in time is found, wherever the waits happen to end.
    """
    return outage.began + policy.connect_timeout


class _Rules:
    """The policy applied to one stream."""

    def __init__(
        self,
        policy: RetryPolicy,
        outage: Outage,
        clock: Callable[[], float],
        known: Callable[[], bool],
    ) -> None:
        self._policy = policy
        self._outage = outage
        self._clock = clock
        self._known = known
        self._backoff = wait_random_exponential(multiplier=policy.initial, max=policy.maximum)

    def stop(self, state: RetryCallState) -> bool:
        """Whether there is to be no other attempt."""
        now, told = self._clock(), _failure(state).verdict.retry_after
        if self._outage.passed(now):
            return True
        if told is not None and now + told > self._outage.deadline:
            return True
        if self._impatient(state):
            too_often = state.attempt_number >= self._policy.connect_attempts
            return too_often and now >= last_look(self._policy, self._outage)
        return state.attempt_number >= self._policy.attempts and not _failure(state).fed

    def wait(self, state: RetryCallState) -> float:
        """Seconds until the next attempt."""
        now, latest = self._clock(), self._outage.deadline
        if _failure(state).verdict.retry_after is None and self._impatient(state):
            look = last_look(self._policy, self._outage)
            if now < look:
                latest = min(latest, look)
        return max(0.0, min(self._wish(state), latest - now))

    def _impatient(self, state: RetryCallState) -> bool:
        """Whether the address may be wrong. A target that says that it is busy is there."""
        return not self._known() and _failure(state).verdict.decision is not Decision.WAIT

    def _wish(self, state: RetryCallState) -> float:
        failed = _failure(state)
        if failed.elsewhere:
            return 0.0
        told = failed.verdict.retry_after
        if told is not None:
            spread = told * (1 + _TOLD_JITTER * random.random())  # noqa: S311 — hides nothing
            return max(spread, self._backoff(state))
        if failed.progressed and failed.verdict.decision is Decision.RESUME:
            return 0.0
        return self._backoff(state)


def retrying(
    policy: RetryPolicy,
    *,
    outage: Outage,
    clock: Callable[[], float],
    known: Callable[[], bool],
    sleep: Callable[[float], Awaitable[None]],
    before_sleep: Callable[[AttemptFailed, float], None],
) -> AsyncRetrying:
    """A retry loop to call with a function that makes one attempt.

    The function returns when the stream is complete and raises `AttemptFailed` otherwise, which it
    has told to the outage; once there is to be no other attempt, the last one is raised. A wait
    that would pass the outage's deadline ends there: the function finds that it has passed.

    Args:
        policy: how often.
        outage: how long.
        clock: what the outage's times are read from, in seconds.
        known: whether the target has ever spoken the protocol with this client.
        sleep: seconds to an awaitable.
        before_sleep: told of every failure that will be retried, and the wait in seconds.
    """
    rules = _Rules(policy, outage, clock, known)

    def start_afresh_on_progress(state: RetryCallState) -> None:
        if _failure(state).progressed:
            state.attempt_number = 0

    def report(state: RetryCallState) -> None:
        before_sleep(_failure(state), state.next_action.sleep if state.next_action else 0.0)

    return AsyncRetrying(
        retry=retry_if_exception(
            lambda error: (
                isinstance(error, AttemptFailed) and error.verdict.decision is not Decision.FAIL
            )
        ),
        stop=rules.stop,
        wait=rules.wait,
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
