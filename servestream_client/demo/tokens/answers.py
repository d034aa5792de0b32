"""Answers of one model, several at a time, each as if it had the model for itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Protocol, TypeVar

from servestream_client.demo.tokens.codec import Prompt, Token
from servestream_client.demo.tokens.engine import (
    CONTEXT_TOKENS,
    MICRO_BATCH,
    Context,
    EngineError,
    Logits,
    Model,
)
from servestream_client.demo.tokens.prompts import Tokenizes, chat
from servestream_client.demo.tokens.sampling import choose

__all__ = ["Answers", "Feeds", "Speaks", "Turns", "answer", "answer_offline"]

T = TypeVar("T")


class Feeds(Protocol):
    """What an answer needs of a context."""

    def feed(self, tokens: Sequence[int], /) -> Logits:
        """Append tokens; the scores of what may follow."""
        ...

    def close(self) -> None: ...


class Speaks(Tokenizes, Protocol):
    """What an answer needs of a model."""

    def piece(self, token: int, /) -> bytes:
        """A token's text."""
        ...

    def is_end(self, token: int, /) -> bool:
        """Whether an answer ends with it."""
        ...


def answer(
    model: Speaks, context: Feeds, prompt: Prompt, given: Sequence[int] = ()
) -> Iterator[Token | None]:
    """An answer, or the rest of one: in steps, of which each computes one micro-batch.

    Args:
        model: whose vocabulary it is.
        context: empty.
        prompt: what to answer.
        given: tokens of the answer that are there already, by whomever, in order.

    Yields:
        None while the tokens that are there are computed, and then those that follow.

    Raises:
        EngineError: prompt and answer are too long for a context.
    """
    asked = chat(model, prompt.text)
    if len(asked) + prompt.max_tokens > CONTEXT_TOKENS:
        raise EngineError(
            f"a prompt of {len(asked)} tokens and {prompt.max_tokens} for its answer do not fit"
            f" into {CONTEXT_TOKENS}"
        )
    there = [*asked, *given]
    for first in range(0, len(there), MICRO_BATCH):
        if first:
            yield None
        scores = context.feed(there[first : first + MICRO_BATCH])
    for position in range(len(given), prompt.max_tokens):
        token = choose(scores, prompt, position)
        finished = model.is_end(token) or position == prompt.max_tokens - 1
        yield Token(token, model.piece(token), finished)
        if finished:
            return
        scores = context.feed([token])


def answer_offline(model: Model, prompt: Prompt) -> list[Token]:
    """The whole answer, here and now.

    Raises:
        EngineError: as for `answer`.
    """
    with Context(model) as context:
        return [token for token in answer(model, context, prompt) if token is not None]


class Turns:
    """One thread that takes the steps of several answers.

    An answer asks for its next step when it has had the last, and the thread serves who asked
    first: so an answer waits for no more than one step of each other.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    async def run(self, step: Callable[[], T]) -> T:
        """Call it in the thread. A caller that is cancelled does not wait for a step under way."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, step)

    def then(self, step: Callable[[], object]) -> None:
        """Call it after all that was asked for; nobody waits."""
        self._thread.submit(step)

    def close(self) -> None:
        """Wait for what was asked for, and end the thread."""
        self._thread.shutdown()


class Answers:
    """Answers of one model, which share a thread that computes.

    Each has a context of its own: where several share one, what is computed for a token depends on
    where the others' lie (docs/how-to/token-streams.md).

    Args:
        model: computes, in one thread.
        open_context: an empty one.
    """

    def __init__(self, model: Speaks, open_context: Callable[[], Feeds]) -> None:
        self._model = model
        self._open_context = open_context
        self._turns = Turns()
        self._beginning = asyncio.Lock()
        """One at a time computes what is there, between steps of those that are further: after a
        cut many come at once, and by turns all would have their next token as late as the last."""

    async def answer(self, prompt: Prompt, given: Sequence[Token]) -> AsyncIterator[Token]:
        """An answer, or the rest of one of which tokens were given already.

        Raises:
            EngineError: prompt and answer are too long, or the engine failed.
        """
        steps = self._steps(prompt, [token.id for token in given])
        try:
            async with self._beginning:
                token = await self._next(steps)
                while token is None:
                    token = await self._next(steps)
            while isinstance(token, Token):
                yield token
                token = await self._next(steps)
        finally:
            self._turns.then(steps.close)  # behind a step under way

    def _steps(self, prompt: Prompt, given: Sequence[int]) -> Generator[Token | None, None, None]:
        with closing(self._open_context()) as context:
            yield from answer(self._model, context, prompt, given)

    async def _next(self, steps: Iterator[Token | None]) -> object:
        return await self._turns.run(lambda: next(steps, _END))

    def close(self) -> None:
        """After all answers: end the thread."""
        self._turns.close()


_END = object()
