"""The final error has the last words that say something."""

import pytest
from test_driver import answers, drive, run

from servestream_client import RetryPolicy, StreamError
from servestream_client.transport.memory import CallFailed

POLICY = RetryPolicy(
    attempts=4, connect_attempts=4, connect_timeout=0, initial=0.0001, maximum=0.0001
)
VAGUE = "INTERNAL", "Data frame with END_STREAM flag received"
TELLING = "UNAVAILABLE", "no healthy upstream"


class Failing:
    """Calls end like that, in turn; a number is so many answers, and then a vague end."""

    def __init__(self, *ends: tuple[str, str] | int) -> None:
        self._ends = iter(ends)

    async def __call__(self, requests):
        end = next(self._ends)
        if isinstance(end, int):
            async for frame in answers(requests, end):
                yield frame
            end = VAGUE
        raise CallFailed(*end)


async def words(*ends: tuple[str, str] | int) -> str:
    with pytest.raises(StreamError) as caught:
        await run(drive(Failing(*ends), retry=POLICY))
    return str(caught.value)


async def test_a_failure_that_says_nothing_does_not_have_the_last_word():
    text = await words(VAGUE, TELLING, VAGUE, VAGUE)
    assert "takes the call (UNAVAILABLE: no healthy upstream)" in text
    assert "gave up after attempt 4" in text


async def test_the_last_that_says_something_does():
    text = await words(TELLING, ("UNAVAILABLE", "Connection refused"), VAGUE, VAGUE)
    assert "nobody answers there" in text


async def test_where_none_says_anything_the_last_does():
    text = await words(VAGUE, VAGUE, VAGUE, VAGUE)
    assert "a reverse proxy broke the call off before the first response" in text


async def test_what_was_said_before_progress_is_past():
    text = await words(TELLING, 1, *[("ABORTED", "")] * 3, ("ABORTED", "!"))
    assert "the call failed (ABORTED: !)" in text
    assert "no server behind" not in text
