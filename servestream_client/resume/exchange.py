"""A bidirectional call of a stub of one's own, each of whose requests gets one reply.

Invariant: a request is kept, and sent on each attempt in its order, until its reply has come; at
most a window of them is kept; each reply is handed out once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeAlias, TypeVar, Unpack

import grpc.aio
from google.protobuf.message import Message

from servestream_client.errors import ConfigurationError, InputsError, NotResumableError
from servestream_client.resume.attempt import Attempt
from servestream_client.resume.call import Others, Resumed
from servestream_client.resume.strategies import value_of
from servestream_client.session.source import InputSource
from servestream_client.signals import Signal, start_task
from servestream_client.usercode import contained

__all__ = ["Answers", "ResumedExchange", "by_key", "check_window", "in_order"]

Req = TypeVar("Req", bound=Message)
Rep = TypeVar("Rep", bound=Message)


Answers: TypeAlias = Callable[[Rep, Sequence[Req]], int]
"""Says which request a reply answers: given the reply, and the requests that were sent on this
attempt and lack theirs, in order, the index of that one. It raises `NotResumableError` if there is
none. A call whose replies do not tell cannot be resumed: its requests would be lost, or served
twice, and nobody would know."""


def in_order() -> Answers[Any, Any]:
    """Replies come in the order of their requests, one each."""

    def answered(reply: Message, unanswered: Sequence[Any]) -> int:
        del reply, unanswered
        return 0

    return answered


def by_key(reply: str, request: str) -> Answers[Any, Any]:
    """Replies come in any order, each with what names its request.

    Args:
        reply: the field of the reply that does; dots lead into messages.
        request: the field of the request that has the same.
    """

    def answered(came: Message, unanswered: Sequence[Any]) -> int:
        key = value_of(came, reply)
        for index, each in enumerate(unanswered):
            if value_of(each, request) == key:
                return index
        raise NotResumableError(
            f"a reply with {reply} {key!r} answers none of the {len(unanswered)} requests that lack"
            " one"
        )

    return answered


class ResumedExchange(Resumed[Rep], Generic[Req, Rep]):
    """The replies of a bidirectional call; see `Resumed`. Made by `ResumableClient.exchange`.

    Args:
        requests: the caller's.
        answers: which of them a reply answers.
        window: how many are under way at the most.
        others: of every call.
    """

    def __init__(
        self,
        requests: Iterable[Req] | AsyncIterable[Req],
        answers: Answers[Rep, Req],
        *,
        window: int,
        **others: Unpack[Others],
    ) -> None:
        super().__init__(**others)
        self._answers = answers
        self._window = window
        self._source = InputSource(requests)
        self._unanswered: list[Req] = []
        self._sent = 0  # of these, on the present attempt
        self._exhausted = False
        self._raised: BaseException | None = None  # by the requests
        self._work = Signal()  # for the writer
        self._room = Signal()  # for what pulls
        self._pulling: asyncio.Task[None] | None = None
        self._writing: asyncio.Task[None] | None = None

    async def __anext__(self) -> Rep:
        """The next reply; see `Resumed`. What the requests raise comes behind the replies to those
        before.
        """
        try:
            return await super().__anext__()
        except StopAsyncIteration:
            raised, self._raised = self._raised, None
            if raised is None:
                raise
        raise raised

    # ---------------------------------------------------------------- for the attempts

    def _next_request(self) -> object | None:
        if self._pulling is None:
            self._pulling = start_task(self._pull(), "servestream requests")
        if self._exhausted and not self._unanswered:
            return None
        return ()  # they are written

    def _opened(self, attempt: Attempt) -> None:
        self._sent = 0
        self._writing = start_task(self._write(attempt), "servestream writer")

    def _observe(self, reply: Rep) -> Sequence[Rep]:
        sent = self._unanswered[: self._sent]
        if not sent:
            raise NotResumableError("a reply came, and no request lacks one")
        del self._unanswered[self._answers(reply, sent)]
        self._sent -= 1
        self._room.set()
        return (reply,)

    def _complete(self) -> bool:
        return self._exhausted and not self._unanswered

    def _parted(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.cancel()

    def _closed(self) -> None:
        pulling, self._pulling = self._pulling, None
        if pulling is not None and not pulling.done():
            pulling.cancel()

    async def aclose(self) -> None:
        pulling = self._pulling
        await super().aclose()
        if pulling is not None:
            await asyncio.wait({pulling})
        await self._source.aclose()

    # ---------------------------------------------------------------- requests

    async def _pull(self) -> None:
        """From the caller's requests, as far as the window lets."""
        try:
            while True:
                while len(self._unanswered) >= self._window:
                    await self._room.wait()
                request = await self._next_of_the_caller()
                self._unanswered.append(_copied(request))
                self._work.set()
        except StopAsyncIteration:
            pass
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._raised = contained(error, "the call's requests", awaited=True)
        self._exhausted = True
        self._work.set()

    async def _next_of_the_caller(self) -> Req:
        plain = self._source.plain
        if plain is None:
            return await self._source.pull()
        await asyncio.sleep(0)  # or a long list would let nobody else run
        try:
            return next(plain)
        except StopIteration:
            raise StopAsyncIteration from None

    async def _write(self, attempt: Attempt) -> None:
        """What lacks a reply, from the first on, and then what comes."""
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
            while True:
                if self._sent < len(self._unanswered):
                    request = self._unanswered[self._sent]
                    self._sent += 1  # its reply may come before the write is over
                    await attempt.write(request)
                elif self._exhausted:
                    await attempt.done_writing()
                    return
                else:
                    await self._work.wait()


def _copied(request: Req) -> Req:
    if not isinstance(request, Message):
        raise InputsError(f"a request must be a protobuf message, not {request!r}")
    copied = type(request)()
    copied.CopyFrom(request)
    return copied


def check_window(window: int) -> None:
    """How many requests may be under way."""
    if type(window) is not int or window < 1:
        raise ConfigurationError("window must be a whole number above 0")
