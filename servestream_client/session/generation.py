"""One input of which somebody reads the outputs as they come."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, Self, TypeVar

from servestream_client.codecs import direct
from servestream_client.config import FlowControl, check_timeout
from servestream_client.errors import (
    ClientClosedError,
    ConfigurationError,
    ItemErrorKind,
    OutputDecodeError,
    WrongEventLoopError,
)
from servestream_client.outputs import Seam
from servestream_client.session.encoding import THE_ONLY_INPUT
from servestream_client.session.request import Owner, Request
from servestream_client.session.telling import Telling, Timing
from servestream_client.turns import turn_of_loop
from servestream_client.usercode import contained, describe

__all__ = ["Generation", "GenerationBase", "batch_of"]

_CLOSED = "the generation was closed while it was iterated"

T_co = TypeVar("T_co", covariant=True)


class GenerationBase(Generic[T_co]):
    """What the generations of both faces are, without the verbs in which these differ.

    Outputs wait in `_rest`, and may be taken from there in any thread. Everything that is awaited
    belongs to the event loop of the client.

    Args:
        item: the input.
        owner: asked once, as it begins, for who finds a lane.
        encode: makes the input's payload, or raises what the caller gets.
        decode: payload to output.
        timeout: seconds for all of it; None: no limit.
        batch: how many outputs are taken before they are acknowledged.
    """

    def __init__(
        self,
        item: object,
        owner: Callable[[], Owner],
        *,
        encode: Callable[[object], bytes],
        decode: Callable[[bytes], T_co],
        timeout: float | None,
        batch: int,
    ) -> None:
        check_timeout(timeout)
        self._item: object = item  # until it begins
        self._find_owner = owner
        self._encode = encode
        self._payload: bytes | None = None
        self._request: Request | None = None
        self._telling: Telling | None = None
        self._decode = direct(decode)
        self._timeout = timeout
        self._timer: asyncio.TimerHandle | None = None
        self._batch = batch
        self._rest: deque[bytes] = deque()  # taken of the queue, and not by the consumer
        self._unacknowledged: tuple[int, int] = (0, 0)  # of those that were
        self._delivered = 0  # and `_rest`
        self._closed = False
        self._iterating = False
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def seams(self) -> tuple[Seam, ...]:
        """Where it was cut and went on, so far; empty for one that was never cut."""
        return self._request.seams if self._request is not None else ()

    @property
    def delivered(self) -> int:
        """How many outputs the caller has taken."""
        return self._delivered - len(self._rest)

    # ---------------------------------------------------------------- its beginning

    def _encode_item(self) -> None:
        """
        Raises:
            ItemError: the codec cannot encode it, or it is too large.
        """
        try:
            self._payload = self._encode(self._item)
        except BaseException:
            self._closed = True
            self._item = None
            raise

    async def _begin(self) -> Request:
        loop = self._loop = asyncio.get_running_loop()
        began = loop.time()
        owner = self._find_owner()
        if self._payload is None:
            turn = turn_of_loop()
            _ = turn.enter() or await turn.wait()
            try:
                if not self._closed:  # as it may be by now
                    self._encode_item()
            finally:
                turn.leave()
        if self._closed or self._payload is None:
            raise ClientClosedError(_CLOSED)
        request = self._request = Request(self._item, self._payload)
        request.owner = owner
        if owner.teller is not None:
            request.timing = Timing(began)
            self._telling = Telling(owner.teller, request.timing)
        self._item, self._payload = None, None  # its own to keep, and to let go
        if self._timeout is not None:
            self._timer = loop.call_at(began + self._timeout, request.expire, self._timeout)
        owner.submit(request)
        return request

    # ---------------------------------------------------------------- its outputs

    async def _advance(self) -> bool:
        """Wait until there are outputs to take, and put them into `_rest`; False: there will be
        none.

        Raises:
            BaseException: as for the faces.
        """
        if self._pid != os.getpid():  # what carries it belongs to the parent
            raise ClientClosedError(
                "the generation was made before this process was forked; make it here"
            )
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            raise WrongEventLoopError("the generation was begun in another event loop")
        if self._iterating:
            raise ConfigurationError("two tasks or threads iterate one generation at the same time")
        self._iterating = True
        try:
            return await self._next()
        finally:
            self._iterating = False

    async def _next(self) -> bool:
        if self._closed:
            return False
        request = self._request
        if request is None:
            request = await self._begin()
        self._acknowledge(request)
        while not request.queue:
            if request.ended:
                error = request.take_error()
                self._leave(request, error)
                try:
                    if error is not None:
                        raise error
                finally:
                    del error  # its traceback refers to this frame
                return False
            await request.arrived.wait()
            if self._closed:
                raise ClientClosedError(_CLOSED)
        queue, rest = request.queue, self._rest
        if len(queue) <= self._batch:
            payloads = [*queue]
            queue.clear()
        else:
            payloads = [queue.popleft() for _ in range(self._batch)]
        self._delivered += len(payloads)
        self._unacknowledged = len(payloads), sum(map(len, payloads))
        rest.extend(payloads)
        if self._telling is not None:
            self._telling.outputs()
        return True

    def _acknowledge(self, request: Request) -> None:
        (count, size), self._unacknowledged = self._unacknowledged, (0, 0)
        request.acknowledge(count, size)

    def _undecoded(self, failure: BaseException) -> OutputDecodeError:
        """What to raise in the place of the last output taken, which cannot be decoded."""
        self._delivered -= 1
        return OutputDecodeError(
            THE_ONLY_INPUT, ItemErrorKind.OUTPUT_DECODE, describe(failure), index=self.delivered
        )

    # ---------------------------------------------------------------- its end

    def _leave(self, request: Request, error: BaseException | None, *, early: bool = False) -> None:
        """Nothing more is taken of it; what its reader gets instead, and whether it has left it."""
        self._closed = True
        with suppress(IndexError):  # the consumer's thread may take the last ones at this moment
            while True:
                self._rest.popleft()
                self._delivered -= 1
        _let_go(request, self._timer)
        if self._telling is not None:
            self._telling.ended(error, left=early)

    def _close(self, error: BaseException | None = None) -> None:
        """To be called in its event loop, if it has begun.

        Args:
            error: what its reader gets; None: it has left it.
        """
        if self._closed:
            return
        self._closed = True
        self._item = self._payload = None
        if self._request is not None:
            self._leave(self._request, error, early=error is None)
            self._request.arrived.set()

    def _close_later(self) -> None:
        """`_close`, from anywhere."""
        loop = self._loop
        if loop is None:
            self._close()
        elif self._pid == os.getpid() and not loop.is_closed():
            with suppress(RuntimeError):  # closed in between
                loop.call_soon_threadsafe(self._close)

    def __del__(self) -> None:
        # Nobody can iterate it any more. No lane knows this object, so this runs as soon as the
        # caller's last reference goes, and may run in any thread.
        loop, request = self.__dict__.get("_loop"), self.__dict__.get("_request")
        if loop is None or request is None or loop.is_closed() or self._closed:
            return
        with suppress(RuntimeError):  # closed in between
            loop.call_soon_threadsafe(_let_go, request, self._timer, self._telling)


def batch_of(flow: FlowControl) -> int:
    """How many outputs a consumer takes before it acknowledges them: few enough that others come
    meanwhile.
    """
    return max(1, flow.outputs_per_input // 4)


def _let_go(
    request: Request, timer: asyncio.TimerHandle | None, dropped: Telling | None = None
) -> None:
    if timer is not None:
        timer.cancel()
    request.drop()
    if dropped is not None:
        dropped.ended(None, left=True)


class Generation(GenerationBase[T_co]):
    """The outputs of one input, each exactly once and in order, whatever dies in between.

    Iterate it with ``async for``; one task at a time. It begins when it is first iterated. Leaving
    the loop early ends it when the object is dropped, and ``async with`` or `aclose` end it at
    once: its handler is cancelled. A broken link never is the end of it.

    While being iterated it may raise what follows, after the outputs that came before.

    Raises:
        ItemError: the input failed. Of kind `ItemErrorKind.INTERRUPTED`: it was cut after `index`
            outputs, and cannot go on; the text says why.
        StreamError: the stream that carried it failed.
        StreamTimeoutError: its timeout passed.
        ClientClosedError, WrongEventLoopError: the client is closed, or belongs elsewhere.
        ConfigurationError: another task iterates it at the same time.

    Attributes:
        seams: where it was cut and went on, so far: which output, how good, from which replica to
            which.
        delivered: how many outputs the caller has taken.
    """

    _until = 0.0
    """When others on the event loop have their turn before the next output is decoded."""

    _clock: Callable[[], float] = staticmethod(time.perf_counter)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T_co:
        rest = self._rest
        while True:
            while not rest:
                if self._until:
                    self._until = 0.0
                    turn_of_loop().leave()
                if not await self._advance():
                    raise StopAsyncIteration
            if self._clock() >= self._until:  # the caller's code counts like the decoding
                turn = turn_of_loop()
                self._clock = turn.clock
                self._until = turn.enter() or await turn.wait()
                if not rest:
                    if self._closed:
                        raise ClientClosedError(_CLOSED)
                    continue
            try:
                return self._decode(rest.popleft())
            except BaseException as error:
                failure = contained(error, "the codec")
                problem = self._undecoded(failure)
                self._close(problem)
                raise problem from failure

    async def aclose(self) -> None:
        """End it: its handler is cancelled at the server. Harmless on one that has ended."""
        if self._loop is asyncio.get_running_loop():
            self._close()
        else:
            self._close_later()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
