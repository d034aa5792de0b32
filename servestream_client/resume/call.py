"""The face of a call of a stub of one's own."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

from google.protobuf.message import Message

from servestream_client.errors import (
    ClientClosedError,
    ConfigurationError,
    Delivered,
    StreamError,
)
from servestream_client.events import StreamStatistics
from servestream_client.resume.driver import CallDriver, Kind
from servestream_client.resume.strategies import Resumption
from servestream_client.usercode import as_value, is_a

__all__ = ["Asking", "DeliveredReplies", "ResumedCall"]

Req = TypeVar("Req", bound=Message)
Rep = TypeVar("Rep", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveredReplies(Delivered):
    """What the caller of a stub of one's own has when it fails.

    Attributes:
        replies: how many of them were handed out.
    """

    replies: int = 0

    def __str__(self) -> str:
        return f"delivered: {self.replies or 'no'} {'reply' if self.replies == 1 else 'replies'}"


class Asking(Kind, Generic[Req, Rep]):
    """A server-streaming call.

    Args:
        request: what is asked.
        resumption: how it goes on.
    """

    def __init__(self, request: Req, resumption: Resumption[Req, Rep]) -> None:
        self._first = request.SerializeToString()  # a caller may use the message again
        self._request = type(request)
        self._resumption = resumption

    def next_request(self) -> Req | None:
        first = self._request()
        first.ParseFromString(self._first)
        return self._resumption.request(first)

    def observe(self, reply: Rep) -> Sequence[Rep]:
        return self._resumption.observe(reply)

    def complete(self) -> bool:
        return self._resumption.complete()


class ResumedCall(Generic[Rep]):
    """The replies of one call, as they come: an async iterator, and an async context manager.

    Made by `ResumableClient`. A few replies are read ahead; a caller who stops is felt by the
    server, through gRPC's own flow control.

    Args:
        driver: makes its attempts.
        check: called before it begins.
    """

    def __init__(self, driver: CallDriver, check: Callable[[], object]) -> None:
        self._driver = driver
        self._check = check
        self._iterating = False
        self._told = False  # how it ended
        self._delivered = 0

    @property
    def statistics(self) -> StreamStatistics:
        """What happened so far. A call is one input; its replies are what was received."""
        return self._driver.statistics()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Rep:
        """The next reply.

        Raises:
            NotResumableError: its server does not go on where it was.
            StreamError: it failed, and the retry policy allows no more.
            StreamTimeoutError: its timeout passed.
            ClientClosedError: the client is closed.
        """
        driver = self._driver
        if self._iterating:
            raise ConfigurationError("two tasks iterate one call at the same time")
        self._iterating = True
        try:
            if not (driver.begun or driver.over):
                self._begin()
            while not driver.ready:
                if driver.over:
                    self._conclude()
                await driver.arrived.wait()
            self._delivered += 1
            driver.taken()
            reply: Rep = driver.ready.popleft()
            return reply
        finally:
            self._iterating = False

    def _begin(self) -> None:
        self._check()
        self._driver.start()
        loop = asyncio.get_running_loop()
        dropped = weakref.finalize(self, _drop, loop, self._driver)
        dropped.atexit = False

    def _conclude(self) -> None:
        """
        Raises:
            StopAsyncIteration: it is complete, or it was told how it ended.
            BaseException: it failed.
        """
        error = self._driver.error
        if error is None or self._told:
            raise StopAsyncIteration
        self._told = True
        if is_a(error, StreamError):
            error.delivered = DeliveredReplies(  # type: ignore[attr-defined]
                replies=self._delivered, stream_id=self._driver.id, attempts=self._driver.attempts
            )
        raise as_value(error, "the call")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End it: the server's side is cancelled. Harmless twice."""
        self._told = True
        await self._driver.aclose(ClientClosedError("the call was closed"))

    def interrupt(self) -> None:
        """Break the present attempt, as a lost connection would: for tests."""
        self._driver.interrupt()


def _drop(loop: asyncio.AbstractEventLoop, driver: CallDriver) -> None:
    """The call was dropped by its caller, in whatever thread."""
    if not loop.is_closed():
        error = ClientClosedError("the call was dropped")
        loop.call_soon_threadsafe(driver.abandon, error)
