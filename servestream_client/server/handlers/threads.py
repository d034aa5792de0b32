"""A plain `def`, called in threads.

Invariant: each of a function's arguments has one outcome, either the thread's or, where it does not
end in time, the event loop's; which of the two is decided under one lock.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from types import CoroutineType, GeneratorType
from typing import Any

import anyio
import anyio.to_thread

from servestream_client.codecs import Codec, is_bytes_codec
from servestream_client.errors import ItemErrorKind
from servestream_client.server.calls import Call, Cancelled, Part
from servestream_client.server.handlers.answers import (
    Answers,
    Failure,
    all_of,
    decoded,
    failure_of,
    give_back,
    merge,
)
from servestream_client.server.handlers.awaiting import await_in_turn
from servestream_client.turns import turn_of_loop

__all__ = ["InThread", "ThreadedItems"]


class Progress:
    """How far a thread has come with a function's arguments.

    Args:
        total: how many arguments there are.
        clock: the event loop's.
        on_abandoned: called in the event loop once nobody waits for it any more, with the results
            so far and why.
    """

    def __init__(
        self,
        total: int,
        clock: Callable[[], float],
        on_abandoned: Callable[[Sequence[object], str], None],
    ) -> None:
        self._total = total
        self._lock = threading.Lock()
        self.results: list[object] = []
        self.began: float = clock()
        self.seconds: float = 0.0
        """How long it took, once it is finished."""
        self._clock = clock
        self._on_abandoned = on_abandoned
        self.abandoned: bool = False

    @property
    def done(self) -> int:
        return len(self.results)

    @property
    def finished(self) -> bool:
        return len(self.results) == self._total

    def run(self, function: Callable[[Any], object], arguments: Sequence[object]) -> list[object]:
        """In the thread."""
        since = perf_counter()
        for argument in arguments:
            with self._lock:
                if self.abandoned:
                    break
                self.began = self._clock()
            result = function(argument)
            with self._lock:
                self.results.append(result)
        self.seconds = perf_counter() - since
        return self.results

    def unwanted(self) -> None:
        """What it computes may be wanted for others; its results are dropped."""

    def abandon(self, text: str, since: float) -> bool:
        with self._lock:
            if self.began != since or self.finished:
                return False
            self.abandoned = True
            results = list(self.results)  # the thread may add another one at any moment
        self._on_abandoned(results, text)
        return True


class InThread:
    """Calls a plain `def` in a thread; a call cannot be interrupted."""

    def __init__(self, function: Callable[[Any], Any], places: int) -> None:
        self._function = function
        self._places = places
        self._threads: anyio.CapacityLimiter | None = None
        self.returns_awaitables: bool = False
        """Whether it was seen to, as a decorated function may."""

    async def __call__(
        self,
        call: Call,
        parts: Sequence[Part],
        arguments: Sequence[object],
        on_abandoned: Callable[[Sequence[object], str], None],
        *,
        until: float = math.inf,
    ) -> list[object]:
        """What the function returned for each argument, or a `Failure`.

        Should it not end, by `until` if that is before an input's time is over: `on_abandoned` is
        told, with the results so far and why; what comes afterwards is nobody's.
        """
        if self._threads is None:
            self._threads = anyio.CapacityLimiter(self._places)  # every place has a thread
        clock = asyncio.get_running_loop().time
        progress = Progress(len(arguments), clock, on_abandoned)
        began = perf_counter()  # uvloop's own clock counts whole milliseconds
        outcomes = await call.run(
            anyio.to_thread.run_sync(progress.run, self._one, arguments, limiter=self._threads),
            parts,
            non_cancellable=progress,
            until=until,
        )
        if progress.abandoned:
            raise Cancelled  # its inputs are answered
        call.hop_seconds += perf_counter() - began - progress.seconds
        if all_of(_NEVER_AWAITED, outcomes):
            return outcomes
        try:
            for position, outcome in enumerate(outcomes):
                if _is_awaitable(outcome):
                    self.returns_awaitables = True
                    outcomes[position] = await await_in_turn(
                        call,
                        parts,
                        partial(_itself, outcome),
                        until=until,
                        answer_without=partial(on_abandoned, outcomes[:position]),
                    )
        except Cancelled:
            for outcome in outcomes:
                if type(outcome) is CoroutineType:
                    outcome.close()  # nobody awaits it any more
            raise
        return outcomes

    def _one(self, argument: object) -> object:
        try:
            return self._function(argument)
        except BaseException as error:
            # Not as an exception: a StopIteration cannot cross into a future, and a
            # CancelledError or SystemExit would be taken for the event loop's.
            return failure_of(ItemErrorKind.HANDLER, error)


_NEVER_AWAITED = frozenset({Failure, bytes, str, int, float, bool, list, tuple, dict, type(None)})


def _itself(value: Any) -> Any:  # noqa: ANN401 — whatever a handler returned
    return value


def _is_awaitable(value: object) -> bool:
    """Asks the class alone: an object may say anything of itself, and raise."""
    if type(value) is GeneratorType:
        return bool(value.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE)
    return any("__await__" in vars(base) for base in type(value).__mro__)


class ThreadedItems:
    """A plain `def predict`, called in threads, as often in a row as its run is long, or as there
    is time to decode inputs for in one turn of the event loop.
    """

    def __init__(self, predict: Callable[[Any], Any], codec: Codec[Any, Any], places: int) -> None:
        self._predict = InThread(predict, places)
        self._codec = codec

    async def handle(self, call: Call, parts: Sequence[Part]) -> None:
        for part in parts:
            await self._handle(call, part)

    async def _handle(self, call: Call, part: Part) -> None:
        attempt, run = part
        if self._predict.returns_awaitables and len(run.payloads) > 1:
            # What they wait for may take an input's whole time, for which no other should wait.
            call.requeue(Part(attempt, run.split(1)))
        values = self._values(run.payloads)
        give_back(attempt.session.intake, run, len(values))
        sound = [place for place, value in enumerate(values) if type(value) is not Failure]
        answers = Answers(attempt, run.first, self._codec)
        encoding: list[asyncio.Task[None]] = []

        def on_abandoned(results: Sequence[object], text: str) -> None:
            reached = sound[len(results)]
            if reached + 1 < len(values):
                call.requeue(Part(attempt, run.split(reached + 1)))
            if is_bytes_codec(self._codec):  # nothing is to be encoded: in their order
                answers.add(merge(values[:reached], results))
                attempt.session.outbox.fail(run.first + reached, ItemErrorKind.TIMEOUT, text)
                return
            attempt.session.outbox.fail(run.first + reached, ItemErrorKind.TIMEOUT, text)
            task = asyncio.get_running_loop().create_task(
                answers.encode(merge(values[:reached], results)),
                name="servestream encoder",
                context=attempt.context.copy(),
            )
            task.add_done_callback(lambda _: attempt.wake_writer())
            encoding.append(task)

        arguments = [values[place] for place in sound]
        try:
            results = await self._predict(call, [part], arguments, on_abandoned) if sound else ()
        except Cancelled:
            if encoding:
                await asyncio.wait(encoding)
            raise
        await answers.encode(merge(values, results))

    def _values(self, payloads: Sequence[bytes]) -> list[object]:
        """Of the first ones, decoded: at least one, and as many as there is time for."""
        if is_bytes_codec(self._codec):
            return list(payloads)
        turn, values = turn_of_loop(), list[object]()
        until = turn.enter()
        for payload in payloads:
            values.append(decoded(self._codec, payload))
            if turn.clock() >= until:
                break
        turn.leave()
        return values
