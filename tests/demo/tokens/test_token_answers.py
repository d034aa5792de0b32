"""Answers go on where they were cut, and share their model fairly."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from talking import Contexts, Talking, prompt

from servestream_client.demo.tokens.answers import Answers, answer
from servestream_client.demo.tokens.codec import Token
from servestream_client.demo.tokens.engine import CONTEXT_TOKENS, EngineError


def whole(asked, given=(), contexts=None):
    opened = (contexts or Contexts()).open()
    return [token for token in answer(Talking(), opened, asked, given) if token is not None]


async def collect(answers, asked, given=()):
    return [token async for token in answers.answer(asked, given)]


@pytest.fixture
def contexts():
    return Contexts()


@pytest.fixture
def answers(contexts):
    made = Answers(Talking(), contexts.open)
    yield made
    made.close()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_rest_after_any_cut_is_the_rest_of_the_whole(temperature):
    asked = prompt(max_tokens=60, temperature=temperature)
    answered = whole(asked)
    assert len(answered) > 10
    # What is fed together makes no difference to this model but for its order.
    for cut in range(1, len(answered)):
        ids = [token.id for token in answered[:cut]]
        got = whole(asked, ids)
        assert [token.finished for token in got[:-1]] == [False] * (len(got) - 1)
        assert got == answered[cut:]


def test_it_ends_at_the_token_that_says_so_or_at_the_most_tokens():
    ends = set()
    for number in range(40):
        answered = whole(prompt(f"number {number}", max_tokens=60))
        assert [token.finished for token in answered] == [False] * (len(answered) - 1) + [True]
        assert (answered[-1].id == 0) == (len(answered) < 60) or answered[-1].id == 0
        ends.add(len(answered) == 60)
    assert ends == {True, False}


def test_what_does_not_fit_is_refused_in_words():
    with pytest.raises(EngineError, match=rf"do not fit into {CONTEXT_TOKENS}"):
        whole(prompt("x" * CONTEXT_TOKENS))


async def test_each_of_many_is_what_it_is_alone(answers, contexts):
    asked = [prompt(f"number {number}") for number in range(6)]
    got = await asyncio.gather(*(collect(answers, each) for each in asked))
    assert got == [whole(each) for each in asked]
    assert len(contexts.threads) == 1


async def test_they_take_turns(answers, contexts):
    asked = [prompt(f"number {number}", max_tokens=20) for number in range(3)]
    await asyncio.gather(*(collect(answers, each) for each in asked))
    singles = [context for context, count in contexts.fed if count == 1]
    # Between two tokens of one, no other has more than one: but for those that begin meanwhile.
    for one in (1, 2, 3):
        places = [place for place, context in enumerate(singles) if context == one]
        for before, after in itertools.pairwise(places):
            between = singles[before + 1 : after]
            assert len(between) == len(set(between))


async def test_one_that_goes_on_late_does_not_stop_the_others(answers, contexts):
    contexts.endless = True
    running = answers.answer(prompt(max_tokens=200), ())
    await anext(running)
    begun = len(contexts.fed)
    late = asyncio.create_task(
        collect(answers, prompt("late"), [Token(5, b"", finished=False)] * 20)
    )
    while not any(context == 2 and count == 1 for context, count in contexts.fed):
        await anext(running)
    order = [context for context, _ in contexts.fed[begun:]]
    assert (2, 2) not in set(itertools.pairwise(order))
    await late
    await running.aclose()


@pytest.mark.parametrize("begun", [False, True])
async def test_one_that_is_closed_gives_back_its_context_and_stops_nobody(answers, contexts, begun):
    contexts.endless = True
    running = answers.answer(prompt(max_tokens=200), ())
    if begun:
        await anext(running)
        await running.aclose()
    else:
        contexts.go.clear()
        first = asyncio.create_task(anext(running))
        while not contexts.opened:
            await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        contexts.go.set()
    asked = prompt("next")
    assert await collect(answers, asked) == whole(asked, contexts=contexts)
    answers.close()
    assert sorted(contexts.closed) == [1, 2]


async def test_one_that_fails_gives_back_its_context(answers, contexts):
    with pytest.raises(EngineError):
        await collect(answers, prompt("x" * CONTEXT_TOKENS))
    asked = prompt("next")
    assert await collect(answers, asked) == whole(asked)
    answers.close()
    assert sorted(contexts.closed) == [1, 2]
