"""When to try again: the policy, with a clock that only a sleep and the attempts move."""

import math
from collections.abc import Iterable
from itertools import repeat
from typing import NamedTuple

import pytest

from servestream_client import RetryPolicy, UnreachableError
from servestream_client.session.outage import Outage
from servestream_client.session.outcome import AttemptFailed
from servestream_client.session.retry import retrying
from servestream_client.transport.classify import Decision, Verdict


def broke(
    decision: Decision = Decision.RESUME, *, progressed: bool = False, after: float | None = None
) -> AttemptFailed:
    return AttemptFailed(Verdict(decision, "broke", UnreachableError, after), progressed=progressed)


class Run(NamedTuple):
    waits: list[float]
    failed: AttemptFailed | None
    ended: float
    attempts: int


async def run(
    policy: RetryPolicy,
    ends: Iterable[AttemptFailed | None],
    *,
    known: bool = True,
    lasting: float = 0.0,
    welcomed: bool = False,
) -> Run:
    """Make attempts that end like that, each after so many seconds, on a clock of its own."""
    now = 0.0
    waits: list[float] = []
    left = iter(ends)
    attempts = 0
    patience = math.inf if policy.give_up_after is None else policy.give_up_after
    outage = Outage(patience)

    async def attempt() -> None:
        nonlocal now, attempts
        if outage.passed(now):  # as the driver does
            raise AttemptFailed(outage.verdict, progressed=False)
        attempts += 1
        end = next(left)
        if welcomed:
            outage.welcomed(now)
        now += lasting
        if end is not None:
            outage.failed(now, end.verdict, progressed=end.progressed)
            raise end

    async def sleep(seconds: float) -> None:
        nonlocal now
        waits.append(seconds)
        now += seconds

    loop = retrying(
        policy,
        outage=outage,
        clock=lambda: now,
        known=lambda: known,
        sleep=sleep,
        before_sleep=lambda failed, wait: None,
    )
    try:
        await loop(attempt)
    except AttemptFailed as failed:
        return Run(waits, failed, now, attempts)
    return Run(waits, None, now, attempts)


async def test_the_first_attempt_after_progress_follows_at_once():
    waits, failed, *_ = await run(RetryPolicy(), [broke(progressed=True), None])
    assert waits == [0.0]
    assert failed is None


async def test_waits_lie_between_zero_and_a_limit_that_doubles_up_to_the_maximum():
    policy = RetryPolicy(initial=0.1, maximum=0.5, attempts=8)
    seen = [await run(policy, [broke()] * 7 + [None]) for _ in range(200)]
    columns = list(zip(*(waits for waits, *_ in seen), strict=True))
    limits = [0.1, 0.2, 0.4, 0.5, 0.5, 0.5, 0.5]
    for column, limit in zip(columns, limits, strict=True):
        assert min(column) >= 0
        assert limit / 2 < max(column) <= limit


async def test_attempts_without_progress_are_limited():
    waits, failed, *_ = await run(RetryPolicy(attempts=5), [broke()] * 10)
    assert len(waits) == 4
    assert failed is not None


async def test_progress_starts_the_count_afresh():
    no_progress = [broke()] * 3
    waits, failed, *_ = await run(
        RetryPolicy(attempts=4), [*no_progress, broke(progressed=True), *no_progress, None]
    )
    assert failed is None
    assert len(waits) == 7


async def test_progress_starts_the_waits_afresh():
    policy = RetryPolicy(initial=0.001, maximum=100, attempts=30)
    waits, *_ = await run(policy, [broke()] * 16 + [broke(progressed=True), broke(), None])
    assert waits[-1] <= 0.001


async def test_a_target_that_never_answered_is_given_up_sooner():
    waits, failed, *_ = await run(
        RetryPolicy(attempts=30, connect_attempts=3, connect_timeout=0),
        [broke()] * 30,
        known=False,
    )
    assert len(waits) == 2
    assert failed is not None


async def test_a_target_that_says_that_it_is_busy_is_no_wrong_address():
    policy = RetryPolicy(attempts=30, connect_attempts=3)
    waits, failed, _, _ = await run(policy, [broke(Decision.WAIT)] * 30, known=False)
    assert len(waits) == 29
    assert failed is not None


async def test_an_unknown_target_is_tried_for_a_time_too_and_once_more_at_its_end():
    """So a server that comes up within that time is found, however the waits are drawn."""
    policy = RetryPolicy(attempts=2, connect_attempts=3, connect_timeout=5, give_up_after=None)
    for _ in range(100):
        waits, failed, ended, attempts = await run(policy, repeat(broke()), known=False)
        assert failed is not None
        assert ended == pytest.approx(5)
        assert attempts == len(waits) + 1 > 3


async def test_an_unknown_target_whose_answers_take_long_is_asked_as_often_as_said():
    policy = RetryPolicy(connect_attempts=3, connect_timeout=5, give_up_after=None)
    _, failed, ended, attempts = await run(policy, repeat(broke()), known=False, lasting=15)
    assert failed is not None
    assert attempts == 3
    assert ended < 3 * 15 + 2


async def test_what_is_final_is_final_at_an_unknown_target_too():
    _, failed, ended, attempts = await run(RetryPolicy(), [broke(Decision.FAIL)], known=False)
    assert (failed is not None, ended, attempts) == (True, 0, 1)


async def test_an_outage_ends_at_its_deadline_and_not_after_the_wait():
    policy = RetryPolicy(attempts=1000, give_up_after=2, initial=1.5, maximum=50)
    for _ in range(50):
        _, failed, ended, _ = await run(policy, repeat(broke()))
        assert failed is not None
        assert failed.verdict.reason == "broke"
        assert ended == pytest.approx(2)


async def test_time_of_attempts_that_were_welcomed_is_no_outage():
    """Two breaks that lie two minutes apart, without progress between them."""
    policy = RetryPolicy(give_up_after=120, attempts=30)
    ends = [broke(), broke(), broke(), None]
    _, failed, ended, _ = await run(policy, ends, lasting=119, welcomed=True)
    assert failed is None
    assert ended > 3 * 119


async def test_a_delay_beyond_the_deadline_is_not_waited_for():
    ends = [broke(Decision.WAIT, after=130.0)]
    waits, failed, ended, _ = await run(RetryPolicy(give_up_after=120), ends)
    assert (waits, ended) == ([], 0)
    assert failed is not None


async def test_what_is_final_is_not_retried():
    waits, failed, *_ = await run(RetryPolicy(), [broke(Decision.FAIL, progressed=True)])
    assert waits == []
    assert failed is not None


async def test_a_servers_delay_is_kept_and_spread():
    seen = [await run(RetryPolicy(), [broke(Decision.WAIT, after=7.0), None]) for _ in range(50)]
    waits = [waits[0] for waits, *_ in seen]
    assert all(7.0 <= wait <= 7.7 for wait in waits)
    assert len(set(waits)) > 1


async def test_a_servers_delay_is_kept_even_after_progress():
    waits, *_ = await run(RetryPolicy(), [broke(Decision.WAIT, progressed=True, after=2.0), None])
    assert waits[0] >= 2.0


async def test_an_overloaded_server_without_a_delay_is_not_hit_at_once_after_progress():
    policy = RetryPolicy(initial=3.0, maximum=3.0)
    seen = [await run(policy, [broke(Decision.WAIT, progressed=True), None]) for _ in range(20)]
    assert max(waits[0] for waits, *_ in seen) > 0


async def test_other_exceptions_pass():
    async def bug() -> None:
        raise ZeroDivisionError

    loop = retrying(
        RetryPolicy(),
        outage=Outage(120),
        clock=lambda: 0.0,
        known=lambda: True,
        sleep=None,
        before_sleep=lambda failed, wait: None,
    )
    with pytest.raises(ZeroDivisionError):
        await loop(bug)
