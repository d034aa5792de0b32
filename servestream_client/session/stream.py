"""The stream object that users iterate."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Generic, NoReturn, TypeVar

from servestream_client.codecs import direct, encodes_bytes
from servestream_client.cursor import Cursor
from servestream_client.errors import (
    ClientClosedError,
    ConfigurationError,
    ItemError,
    ItemErrorKind,
    OutputDecodeError,
    StreamError,
    WrongEventLoopError,
)
from servestream_client.events import StreamStatistics
from servestream_client.outputs import NoOutput
from servestream_client.protocol.client import Delivery, Part
from servestream_client.protocol.frames import OutputRun
from servestream_client.session.batches import AsyncBatches
from servestream_client.session.cursor_track import CursorTrack
from servestream_client.session.driver import StreamDriver
from servestream_client.session.outcome import item_error
from servestream_client.session.taken import Numbering, Taken
from servestream_client.turns import Turn, turn_of_loop
from servestream_client.usercode import as_value, contained, describe, is_a, unforeseen

__all__ = ["PredictionStream", "StreamBase"]

_LONGEST_RUN = 256
"""Outputs that the consumer gets before others on the event loop have their turn."""

_CLOSED = "the stream was closed while it was iterated"

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class StreamBase(Generic[T_co]):
    """What the streams of both faces are, without the verbs in which these differ.

    Results wait in `_run`, and a single one in `_single`; those may be taken in any thread.
    Everything that is awaited belongs to the event loop of the client.
    """

    _longest_run = _LONGEST_RUN

    _until = math.inf
    """When others on the event loop have their turn before the next output is decoded."""

    _clock: Callable[[], float] = staticmethod(time.perf_counter)

    def __init__(
        self,
        driver: StreamDriver,
        *,
        start: Callable[[StreamDriver], None],
        decode: Callable[[bytes], T_co],
        return_exceptions: bool,
        numbered: bool = False,
        track: CursorTrack | None = None,
        length: int | None = None,
    ) -> None:
        self._driver = driver
        self._length = length
        self._track = track
        self._number: Callable[[int], int] = int if track is None else track.number_of
        self._raised: int | None = None  # the input whose failure ended the stream
        self._start = start
        self._ends = self._numbered = numbered  # whether it yields that an input has no more
        self._decode: Callable[[bytes], T_co] = direct(decode)
        self._numbering: Numbering | None = None
        if numbered:
            self._number_outputs()
        self._as_is = encodes_bytes(decode) and not numbered  # so there is nothing to decode
        self._return_exceptions = return_exceptions
        self._started = False
        self._exhausted = False
        self._iterating = False
        self._failed: ItemError | None = None
        self._pid = os.getpid()
        self._turn: Turn | None = None  # of the event loop on which it is iterated
        self._loop: asyncio.AbstractEventLoop | None = None
        # Outputs leave the session several at once.
        self._taken = Taken()
        self._rest: Iterator[bytes] = self._taken.rest
        self._single: list[T_co] = []

    async def _advance(self) -> bool:
        """Wait until there is a result to take, and put it there.

        No end is told by an exception: in an iterator that would look like one of those that user
        code may raise, and the other way round.

        Returns:
            False: there is none, and will be none.

        Raises:
            BaseException: as for the faces.
        """
        if self._pid != os.getpid():  # two processes would give one stream the same id
            raise ClientClosedError(
                "the stream was made before this process was forked; make it here"
            )
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            raise WrongEventLoopError("the stream was begun in another event loop")
        if self._iterating:
            raise ConfigurationError("two tasks or threads iterate one stream at the same time")
        self._iterating = True
        try:
            return await self._next()
        finally:
            self._iterating = False

    async def _next(self) -> bool:
        if self._failed is not None:
            self._raise_failed()
        if self._exhausted:
            return False
        try:
            found = await self._arrival()
        except Exception as bug:
            failure = unforeseen(bug)
            self._exhausted = True
            self._driver.abandon(failure)
            if failure is bug:
                raise
            raise failure from bug
        if isinstance(found, Delivery):
            self._single.append(await self._presented(found))
            return True
        if not found:
            self._exhausted = True
            await self._conclude(self._driver.error)
        return found

    async def _arrival(self) -> Delivery | bool:
        """What comes next, if it is no run of outputs; else whether such a run was taken, or all is
        over.
        """
        driver = self._driver
        if not self._started:
            self._begin()
        elif self._taken:
            driver.outlet.ack_consumed(self._taken.unacknowledged())
            self._take(None)
            self._trim()
            # A consumer that never waits for anything itself would let nobody else run.
            await asyncio.sleep(0)
        if self._turn is None:
            self._turn = turn_of_loop()
        turn = self._turn
        while True:
            # Before anything is taken: it would be lost with a consumer that is cancelled.
            await turn.ready()
            found = driver.outlet.next(self._longest_run)
            if isinstance(found, (OutputRun, Part)):
                self._take(found)
                return True
            if found is not None:
                if found.failure is None:  # one may be raised, and is not done with then
                    self._trim()
                if found.payload is None and found.failure is None and not self._ends:
                    continue  # the input has no further output
                return found
            if driver.finished:
                return False
            await driver.arrived.wait()

    def _trim(self) -> None:
        if self._track is not None:
            done = self._driver.session.ledger.done
            self._track.trim(done)
            self._driver.outlet.forget_states(done.through)

    def _take(self, outputs: OutputRun | Part | None) -> None:
        self._taken = Taken(outputs)
        self._rest = self._taken.rest
        if self._numbering is not None:
            self._numbering.taken = self._taken

    def _number_outputs(self) -> None:
        self._numbering = Numbering(self._decode, self._number)
        self._decode = self._numbering

    def _begin(self) -> None:
        self._start(self._driver)
        self._started = True
        self._loop = asyncio.get_running_loop()

    async def _conclude(self, error: BaseException | None) -> None:
        """Raise the stream's outcome, if it is a failure."""
        if error is None:
            return
        if is_a(error, StreamError):
            await self._driver.inputs_at_rest()
            error.delivered = self._driver.delivered()  # type: ignore[attr-defined]
        elif not is_a(error, Exception):
            await self._driver.aclose()  # the process may end with it: nothing is left running
        raise as_value(error, "the stream")

    async def _presented(self, delivery: Delivery) -> T_co:
        """The end of an input's outputs, or an item error raised or returned in its place."""
        if delivery.failure is None:
            number = self._number(delivery.number)
            return NoOutput(number, delivery.index, None, last=True)  # type: ignore[return-value]
        return await self._failure(
            _item_error(delivery, self._number(delivery.number)), delivery.number
        )

    async def _undecoded(self, error: BaseException) -> T_co:
        """What to give in the place of the run's last output, which cannot be decoded.

        Raises:
            OutputDecodeError: unless that is to be returned.
        """
        number, index, _ = self._taken.place()
        return await self._failure(_undecoded(self._number(number), index, error), number)

    async def _failure(self, problem: ItemError, number: int) -> T_co:
        if isinstance(problem, OutputDecodeError):
            self._driver.item_failed(problem)
        if self._return_exceptions:
            return problem  # type: ignore[return-value]  # the overloads of stream() say so
        self._raised = number
        self._failed = problem  # not forgotten should this task be cancelled while it closes
        await self._aclose()
        return self._raise_failed()

    def _raise_failed(self) -> NoReturn:
        problem, self._failed = self._failed, None
        if problem is None:
            raise ClientClosedError(_CLOSED)
        raise problem

    def _drop(self) -> None:
        """End the stream, and drop what was not taken."""
        self._exhausted = True
        self._driver.outlet.count(self._taken.unacknowledged())
        self._take(None)
        self._single.clear()
        self._driver.drop(ClientClosedError(_CLOSED))

    async def _aclose(self) -> None:
        self._drop()
        await self._driver.aclose()

    def __del__(self) -> None:
        # Nobody can iterate it any more. The driver does not know this object, so this runs as
        # soon as the caller's last reference goes, and may run in any thread.
        loop = self.__dict__.get("_loop")
        if loop is None or loop.is_closed():
            return
        with suppress(RuntimeError):  # closed in between
            loop.call_soon_threadsafe(self._driver.drop)

    def __length_hint__(self) -> int:
        """How many inputs are not done with, where these have a length: what `rich.progress.track`
        and `list` ask for. Services with many outputs give more.
        """
        if self._length is None:
            return NotImplemented  # type: ignore[no-any-return]  # as the protocol has it
        before = 0 if self._track is None else self._track.left_out
        return max(0, self._length - before - len(self._driver.session.ledger.done))

    def _cursor(self) -> Cursor:
        if self._track is None:
            raise ConfigurationError(
                "the stream was made without cursor=; pass Cursor(), or one to resume from"
            )
        self._driver.outlet.count(self._taken.unacknowledged())
        outlet = self._driver.outlet
        return self._track.cursor(
            self._driver.session.ledger.done, without=self._raised, state_at=outlet.state_at
        )

    def _for_batches(self) -> None:
        """Yield also that an input has no further output."""
        if self._track is None or self._started:
            raise ConfigurationError(
                "batches() needs a stream that was made with cursor= and is not iterated yet"
            )
        self._ends = True

    def _drain(self, outputs: list[T_co], most: int) -> BaseException | None:
        """Take what is there already, each the only output of its input.

        Args:
            outputs: where it goes.
            most: so many at the most.

        Returns:
            Why the last one taken cannot be decoded, if so.
        """
        if self._taken.many:
            return None
        decode, clock, until = self._decode, self._clock, self._until
        metered = not self._as_is
        for payload in islice(self._rest, most):
            try:
                outputs.append(decode(payload))
            except BaseException as error:
                return contained(error, "the codec")
            if metered and clock() >= until:
                break
        return None

    def _ends_input(self, found: object) -> tuple[int, bool] | None:
        """Of which input a result is that was just yielded, and whether its last one; None: the
        only one of its input.
        """
        # One that cannot be decoded is among others of its input.
        undecoded = isinstance(found, OutputDecodeError) and self._taken.many
        if isinstance(found, (ItemError, NoOutput)) and not undecoded:
            return found.number, True
        if not self._taken.many:
            return None
        number, _, last = self._taken.place()
        return self._number(number), last

    def _statistics(self) -> StreamStatistics:
        self._driver.outlet.count(self._taken.unacknowledged())
        return self._driver.statistics()


class PredictionStream(StreamBase[T_co]):
    """Predictions, each exactly once, whatever dies in between; in the order of their inputs
    unless the stream was made with ``ordered=False``.

    Iterate it with ``async for``; one task at a time. Leaving the loop early ends the stream when
    the object is dropped, and ``async with`` or `aclose` end it at once.

    While being iterated it may raise what follows.

    Raises:
        ItemError: one input failed; the stream is closed. With ``return_exceptions=True`` it is
            yielded in the input's place instead, and the stream goes on.
        StreamError: the stream failed; says what was delivered. See `servestream_client.errors`.
        ClientClosedError, WrongEventLoopError: the client is closed, or belongs elsewhere.
        ConfigurationError: another task iterates the stream at the same time.
        Exception: whatever the inputs' own iterator raised, after the outputs of the inputs
            before it.
    """

    def __aiter__(self) -> PredictionStream[T_co]:
        return self

    _until = 0.0

    async def __anext__(self) -> T_co:
        while True:
            if self._as_is:
                for payload in self._rest:
                    return payload  # type: ignore[return-value]  # they are the outputs
            else:
                if self._clock() >= self._until:
                    await self._my_turn()
                for payload in self._rest:
                    try:
                        return self._decode(payload)
                    except BaseException as error:
                        try:
                            return await self._undecoded(contained(error, "the codec"))
                        finally:
                            del self  # or else keeping the error would keep the stream open
            if self._single:
                return self._single.pop(0)
            if self._until:
                self._until = 0.0
                turn_of_loop().leave()
            if not await self._advance():
                raise StopAsyncIteration

    async def _my_turn(self) -> None:
        """The consumer's own code counts like the decoding: it runs between two outputs, and may
        never wait for anything.
        """
        turn = turn_of_loop()
        self._clock = turn.clock
        self._until = turn.enter() or await turn.wait()

    async def aclose(self) -> None:
        """End the stream: the call, the input iterator and every task. Bounded in time.

        Harmless on a stream that has ended. Outputs not yet taken are dropped.
        """
        await self._aclose()

    async def __aenter__(self) -> PredictionStream[T_co]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def statistics(self) -> StreamStatistics:
        """What happened so far; also after the end."""
        return self._statistics()

    def cursor(self) -> Cursor:
        """Where the stream is behind the last output that it yielded: to go on from there in
        another process, by ``stream(inputs, cursor=...)`` with the same inputs.

        Also after the end. An input counts once all its outputs were yielded, or its failure; one
        whose failure was raised does not, and is tried again.

        Raises:
            ConfigurationError: the stream was made without ``cursor=``.
        """
        return self._cursor()

    def batches(self, size: int) -> AsyncBatches[T_co]:
        """Instead of iterating: outputs, `size` at a time, each time with the cursor behind them,
        for one transaction. All outputs of an input are in one batch, which may have more for that;
        the last one may have fewer. What the stream raises comes behind the batch before it.

        Raises:
            ConfigurationError: the stream was made without ``cursor=``, or was begun.
        """
        self._for_batches()
        return AsyncBatches(self, size)


def _undecoded(number: int, index: int, cause: BaseException) -> OutputDecodeError:
    error = OutputDecodeError(number, ItemErrorKind.OUTPUT_DECODE, describe(cause), index=index)
    error.__cause__ = cause
    return error


def _item_error(delivery: Delivery, number: int) -> ItemError:
    failure = delivery.failure
    assert failure is not None  # noqa: S101 — only deliveries without an output come here
    error = item_error(failure, number, delivery.item)
    error.__cause__ = delivery.cause
    return error
