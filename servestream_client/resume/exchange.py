"""A bidirectional call of a stub of one's own, each of whose requests gets one reply.

Invariant: a request is kept, and sent on each attempt in its order, until its reply has come; at
most a window of them is kept; each reply is handed out once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeAlias, TypeVar

import grpc.aio
from google.protobuf.message import Message

from servestream_client.errors import ConfigurationError, InputsError, NotResumableError
from servestream_client.resume.attempt import Attempt
from servestream_client.resume.driver import Kind
from servestream_client.resume.strategies import value_of
from servestream_client.session.source import InputSource
from servestream_client.signals import Signal, being_cancelled, start_task
from servestream_client.usercode import contained

__all__ = ["Answers", "Exchanging", "by_key", "check_window", "in_order"]

Req = TypeVar("Req", bound=Message)
Rep = TypeVar("Rep", bound=Message)

Answers: TypeAlias = Callable[[Rep, Sequence[Req]], int]
"""Says which request a reply answers: given the reply, and the requests that were sent on this
attempt and lack theirs, in order, the index of that one. It raises `NotResumableError` if there is
none. A call whose replies do not tell cannot be resumed: its requests would be lost, or served
twice, and nobody would know."""

_REQUESTS = "the call's requests"
_NO_MORE = object()


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


class Exchanging(Kind, Generic[Req, Rep]):
    """See the module.

    Args:
        requests: the caller's.
        answers: which of them a reply answers.
        window: how many are under way at the most.
    """

    def __init__(
        self,
        requests: Iterable[Req] | AsyncIterable[Req],
        answers: Answers[Rep, Req],
        window: int,
    ) -> None:
        self._answers = answers
        self._window = window
        self._source = InputSource(requests)
        self._unanswered: list[Req] = []
        self._sent = 0  # of these, on the present attempt
        self._exhausted = False
        self._error: BaseException | None = None  # that the requests have raised
        self._due = Signal()  # for the driver
        self._work = Signal()  # for the writer
        self._room = Signal()  # for what pulls
        self._pulling: asyncio.Task[None] | None = None
        self._writing: asyncio.Task[None] | None = None

    # ---------------------------------------------------------------- for the attempts

    async def due(self) -> None:
        if self._pulling is None:
            self._pulling = start_task(self._pull(), "servestream requests")
        while not (self._unanswered or self._exhausted):
            await self._due.wait()

    def next_request(self) -> object | None:
        return None if self.complete() else ()  # they are written

    def opened(self, attempt: Attempt) -> None:
        self._sent = 0
        self._writing = start_task(self._write(attempt), "servestream writer")

    def observe(self, reply: Rep) -> Sequence[Rep]:
        sent = self._unanswered[: self._sent]
        if not sent:
            raise NotResumableError("a reply came, and no request lacks one")
        index = self._answers(reply, sent)
        if type(index) is not int or not 0 <= index < len(sent):
            raise NotResumableError(
                f"a reply is said to answer request {index!r} of the {len(sent)} that lack one"
            )
        del self._unanswered[index]
        self._sent -= 1
        self._room.set()
        return (reply,)

    def complete(self) -> bool:
        return self._exhausted and not self._unanswered

    def expects(self) -> bool:
        return self._sent > 0 or self.complete()

    def parted(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.cancel()

    def raised(self) -> BaseException | None:
        return self._error

    async def aclose(self) -> None:
        pulling = self._pulling
        if pulling is not None:
            pulling.cancel()
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
                if request is _NO_MORE:
                    return
                self._unanswered.append(_copied(request))
                self._work.set()
                self._due.set()
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and being_cancelled():
                raise
            self._error = contained(error, _REQUESTS)
        finally:
            self._exhausted = True
            self._work.set()
            self._due.set()

    async def _next_of_the_caller(self) -> Any:  # noqa: ANN401 — or none
        plain = self._source.plain
        if plain is not None:
            await asyncio.sleep(0)  # or a long list would let nobody else run
            return next(plain, _NO_MORE)
        try:
            return await self._source.pull()
        except StopAsyncIteration:
            return _NO_MORE

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


def _copied(request: Any) -> Any:  # noqa: ANN401 — a message, if it is one
    if not isinstance(request, Message):
        raise InputsError(f"a request must be a protobuf message, not {request!r}")
    copied = type(request)()
    copied.CopyFrom(request)
    return copied


def check_window(window: int) -> None:
    """How many requests may be under way."""
    if type(window) is not int or window < 1:
        raise ConfigurationError("window must be a whole number above 0")
