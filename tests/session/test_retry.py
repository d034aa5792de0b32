"""When to try again: the policy, with a sleep that only takes notes."""

import pytest

from servestream_client import RetryPolicy, UnreachableError
from servestream_client.session.retry import AttemptFailed, retrying
from servestream_client.transport.classify import Decision, Verdict


def broke(
    decision: Decision = Decision.RESUME, *, progressed: bool = False, after: float | None = None
) -> AttemptFailed:
    return AttemptFailed(Verdict(decision, "broke", UnreachableError, after), progressed=progressed)


async def run(policy: RetryPolicy, ends: list[AttemptFailed | None], *, stranger: bool = False):
    """Make attempts that end like that; the waits between them, and how it all ended."""
    waits: list[float] = []
    left = iter(ends)

    async def attempt() -> None:
        end = next(left)
        if end is not None:
            raise end

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    loop = retrying(
        policy, stranger=lambda: stranger, sleep=sleep, before_sleep=lambda failed, wait: None
    )
    try:
        await loop(attempt)
    except AttemptFailed as failed:
        return waits, failed
    return waits, None


async def test_the_first_attempt_after_progress_follows_at_once():
    waits, failed = await run(RetryPolicy(), [broke(progressed=True), None])
    assert waits == [0.0]
    assert failed is None


async def test_waits_lie_between_zero_and_a_limit_that_doubles_up_to_the_maximum():
    policy = RetryPolicy(initial=0.1, maximum=0.5, attempts=8)
    seen = [await run(policy, [broke()] * 7 + [None]) for _ in range(200)]
    columns = list(zip(*(waits for waits, _ in seen), strict=True))
    limits = [0.1, 0.2, 0.4, 0.5, 0.5, 0.5, 0.5]
    for column, limit in zip(columns, limits, strict=True):
        assert min(column) >= 0
        assert limit / 2 < max(column) <= limit


async def test_attempts_without_progress_are_limited():
    waits, failed = await run(RetryPolicy(attempts=5), [broke()] * 10)
    assert len(waits) == 4
    assert failed is not None


async def test_progress_starts_the_count_afresh():
    fruitless = [broke()] * 3
    waits, failed = await run(
        RetryPolicy(attempts=4), [*fruitless, broke(progressed=True), *fruitless, None]
    )
    assert failed is None
    assert len(waits) == 7


async def test_progress_starts_the_waits_afresh():
    policy = RetryPolicy(initial=0.001, maximum=100, attempts=30)
    waits, _ = await run(policy, [broke()] * 16 + [broke(progressed=True), broke(), None])
    assert waits[-1] <= 0.001


async def test_a_target_that_never_answered_is_given_up_sooner():
    waits, failed = await run(
        RetryPolicy(attempts=30, connect_attempts=3), [broke()] * 30, stranger=True
    )
    assert len(waits) == 2
    assert failed is not None


async def test_a_target_that_says_that_it_is_busy_is_no_wrong_address():
    policy = RetryPolicy(attempts=30, connect_attempts=3)
    waits, failed = await run(policy, [broke(Decision.WAIT)] * 30, stranger=True)
    assert len(waits) == 29
    assert failed is not None


async def test_what_is_final_is_not_retried():
    waits, failed = await run(RetryPolicy(), [broke(Decision.FAIL, progressed=True)])
    assert waits == []
    assert failed is not None


async def test_a_servers_delay_is_kept_and_spread():
    seen = [await run(RetryPolicy(), [broke(Decision.WAIT, after=7.0), None]) for _ in range(50)]
    waits = [waits[0] for waits, _ in seen]
    assert all(7.0 <= wait <= 7.7 for wait in waits)
    assert len(set(waits)) > 1


async def test_a_servers_delay_is_kept_even_after_progress():
    waits, _ = await run(RetryPolicy(), [broke(Decision.WAIT, progressed=True, after=2.0), None])
    assert waits[0] >= 2.0


async def test_an_overloaded_server_without_a_delay_is_not_hit_at_once_after_progress():
    policy = RetryPolicy(initial=3.0, maximum=3.0)
    seen = [await run(policy, [broke(Decision.WAIT, progressed=True), None]) for _ in range(20)]
    assert max(waits[0] for waits, _ in seen) > 0


async def test_other_exceptions_pass():
    async def bug() -> None:
        raise ZeroDivisionError

    loop = retrying(
        RetryPolicy(), stranger=lambda: False, sleep=None, before_sleep=lambda failed, wait: None
    )
    with pytest.raises(ZeroDivisionError):
        await loop(bug)
