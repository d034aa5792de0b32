"""Workers of stateful streams: one input of a stream after the other, whoever computes it.

Invariant: while a worker has inputs of a stream, no other one has any.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from servestream_client.codecs import is_bytes_codec
from servestream_client.server.batch_workers import BatchWorkers
from servestream_client.server.calls import Attempt, Call, Handler, Part
from servestream_client.server.handler_kinds import handler_name
from servestream_client.server.handlers.fold_rounds import Pace
from servestream_client.server.handlers.folds import BatchFolds, Folds
from servestream_client.server.workers import Workers

__all__ = ["FoldBatchWorkers", "FoldWorkers", "fold_workers"]

_RUN_SECONDS = 0.001
_LONGEST_WAY = 0.02
_LONGEST_RUN = 1024
"""As in `ItemWorkers`. What is computed in one go leaves at once, with one state behind it."""

_PATIENCE_BATCHES = 8
_MOST_PATIENCE = 0.2

DEFAULT_CONCURRENCY = 16


class FoldWorkers(Workers):
    """Each takes inputs of one stream, several at once while they go fast.

    Args:
        handler: what to call.
        places: calls at a time.
    """

    def __init__(self, handler: Handler, *, places: int) -> None:
        super().__init__(handler, places=places)
        self._served: dict[Attempt, Call] = {}
        self._run_length = 1

    def _queue(self, attempt: Attempt) -> None:
        if attempt not in self._served:
            self._waiting.add(attempt)

    def _start_workers(self) -> None:
        while self._free and (attempt := self._waiting.first()) is not None:
            self._waiting.discard(attempt)
            call = self._served[attempt] = self._new_call()
            try:
                self._start_worker(call, attempt)
            except BaseException:
                del self._served[attempt]
                raise

    def _turn_over(self, call: Call) -> None:
        """Nobody else goes on with its stream."""

    def _leave(self, call: Call, attempt: Attempt) -> None:
        if self._served.get(attempt) is call:
            del self._served[attempt]
        super()._leave(call, attempt)

    def _on_abandoned(self, call: Call) -> None:
        super()._on_abandoned(call)
        _let_go(self, self._served, call)

    async def _next(self, attempt: Attempt) -> Sequence[Part]:
        part = self._take(attempt, self._run_length)
        return [part] if part is not None else []

    def _goes_on(self, call: Call, attempt: Attempt) -> bool:
        if self._served.get(attempt) is not call:
            return False  # it was abandoned, and another one has the stream
        return self._has_work(attempt) and bool(self._free or not self._waiting)

    def _adapt_run_length(self, parts: Sequence[Part], seconds: float, way: float) -> None:
        longest = max(_RUN_SECONDS, min(way, _LONGEST_WAY))
        if seconds > longest:
            self._run_length = max(1, self._run_length // 2)
        elif seconds < longest / 2 and len(parts[0].run.payloads) >= self._run_length:
            self._run_length = min(_LONGEST_RUN, self._run_length * 2)


class FoldBatchWorkers(BatchWorkers):
    """Each gathers one input of each stream, or several if batches are fast.

    Args:
        handler, places, max_batch, batch_wait: as for `BatchWorkers`.
        pace: how many.
    """

    def __init__(
        self, handler: Handler, *, places: int, max_batch: int, batch_wait: float, pace: Pace
    ) -> None:
        super().__init__(handler, places=places, max_batch=max_batch, batch_wait=batch_wait)
        self._pace = pace
        self._served: dict[Attempt, Call] = {}
        self._late: set[Attempt] = set()  # whose answers wait for others
        self._timer: asyncio.TimerHandle | None = None
        self._batch_seconds = 0.0  # that the last one took

    def _tell(self, attempt: Attempt) -> None:
        """With inputs that wait it is in the next batch, too: what that gives can go along, in one
        frame. Each frame costs more than a row of most batches.
        """
        if attempt not in self._served and not self._has_work(attempt):
            self._late.discard(attempt)
            attempt.wake_writer()
            return
        self._late.add(attempt)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            patience = min(_MOST_PATIENCE, _PATIENCE_BATCHES * self._batch_seconds)
            self._timer = loop.call_later(patience, self._tell_all)

    def _adapt_run_length(self, parts: Sequence[Part], seconds: float, way: float) -> None:
        self._batch_seconds = seconds + way
        self._pace.took(_longest(parts), seconds)

    def _seconds_an_item(self, parts: Sequence[Part], seconds: float) -> float:
        return seconds / _longest(parts)

    def _tell_all(self) -> None:
        self._timer, late, self._late = None, self._late, set()
        for attempt in late:
            attempt.wake_writer()

    def offer(self, attempt: Attempt) -> None:
        if attempt not in self._served:
            super().offer(attempt)

    def _queue(self, attempt: Attempt) -> None:
        if attempt not in self._served:
            super()._queue(attempt)

    def _count(self, attempt: Attempt) -> None:
        count = int(attempt in self._waiting and attempt.session.intake.startable)
        self._gathered += count - self._counts.pop(attempt, 0)
        if count:
            self._counts[attempt] = count

    def _goes_on(self, call: Call, attempt: Attempt) -> bool:
        if attempt in self._served or not self._has_work(attempt):
            self._waiting.discard(attempt)
        return (
            super()._goes_on(call, attempt)
            if attempt not in self._served
            else bool(self._gatherer is call and self._waiting)
        )

    async def _handle(self, call: Call, parts: Sequence[Part]) -> None:
        attempts = [attempt for attempt, _ in parts]
        self._served.update(dict.fromkeys(attempts, call))
        try:
            await super()._handle(call, parts)
        finally:
            for attempt in attempts:
                if self._served.get(attempt) is call:
                    del self._served[attempt]
                if self._has_work(attempt):
                    self._queue(attempt)

    def _on_abandoned(self, call: Call) -> None:
        super()._on_abandoned(call)
        _let_go(self, self._served, call)

    def _gather(self) -> Sequence[Part]:
        """The next inputs of each stream that waits, at most a batch of streams."""
        waiting, parts = self._waiting, list[Part]()
        while len(parts) < self._max_batch and (attempt := waiting.first()) is not None:
            if parts and (attempt := waiting.first_like(parts[0].attempt)) is None:
                break
            waiting.discard(attempt)
            part = self._take(attempt, self._pace.run_length)
            if self._batch_wait:
                self._count(attempt)
            if part is not None:
                parts.append(part)
        return parts


def _longest(parts: Sequence[Part]) -> int:
    return max(len(run.payloads) for _, run in parts)


def _let_go(workers: Workers, served: dict[Attempt, Call], call: Call) -> None:
    """Its code does not end, and its inputs are answered: others go on with its streams."""
    for attempt in [attempt for attempt, by in served.items() if by is call]:
        del served[attempt]
        if attempt.fold is not None:
            attempt.fold.abandoned()
        workers.offer(attempt)


def fold_workers(service: Any, intercepted: Callable[[Handler], Handler]) -> Workers:  # noqa: ANN401
    """Those of a service.

    Args:
        service: whose.
        intercepted: what is called in the handler's place.
    """
    name = handler_name(type(service))
    step = getattr(service, name)
    if name == "step_batch":
        places = service.max_concurrency or 1
        # In an event loop others have their turn after each batch, and codecs are called there.
        several = not inspect.iscoroutinefunction(step) and is_bytes_codec(service.codec)
        pace = Pace() if several else Pace(most=1)
        return FoldBatchWorkers(
            intercepted(BatchFolds(step, service.codec, places, pace)),
            places=places,
            max_batch=service.max_batch_size,
            batch_wait=service.batch_wait,
            pace=pace,
        )
    places = service.max_concurrency or DEFAULT_CONCURRENCY
    folds = Folds(
        step, service.codec, many=name == "step_many", places=places, in_place=service.in_place
    )
    return FoldWorkers(intercepted(folds), places=places)
