"""Workers that gather a batch from all streams.

Invariant: one worker gathers at a time, and while a place is free, every attempt that
waits is gathered for.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from servestream_client.server.calls import Attempt, Call, Handler, Part
from servestream_client.server.stuck import STUCK
from servestream_client.server.workers import Workers
from servestream_client.signals import Signal

__all__ = ["BatchWorkers"]

_BRIEF_SECONDS = 0.0005
"""Batches that take less together are answered together: each would have a frame of its own."""


class BatchWorkers(Workers):
    """Each gathers a batch from all streams.

    Args:
        handler: what to call.
        places: calls at a time.
        max_batch: inputs in a call.
        batch_wait: seconds that an incomplete batch waits for more.
    """

    def __init__(self, handler: Handler, *, places: int, max_batch: int, batch_wait: float) -> None:
        super().__init__(handler, places=places)
        self.samples.batches = True
        self._max_batch = max_batch
        self._batch_wait = batch_wait
        self._gatherer: Call | None = None  # one at a time
        self._full = Signal()
        # With a batch_wait: what those that wait have, as of their last word, and all together.
        self._counts: dict[Attempt, int] = {}
        self._gathered = 0
        self._brief = 0.0  # seconds that batches took since others had their turn

    def offer(self, attempt: Attempt) -> None:
        # Called several times a batch, mostly for one that waits already.
        if attempt.session.intake.startable or attempt in self._given_back:
            if self._kept.stuck:
                attempt.leave(STUCK)
            self._waiting.add(attempt)
            if self._free and self._gatherer is None:
                self._start_workers()
        if self._batch_wait:
            self._count(attempt)
            if self._gathered >= self._max_batch:
                self._full.set()

    def cancel(self, attempt: Attempt, numbers: Sequence[int] | None = None) -> None:
        super().cancel(attempt, numbers)
        if self._batch_wait:
            self._count(attempt)

    def _count(self, attempt: Attempt) -> None:
        count = attempt.session.intake.startable_inputs if attempt in self._waiting else 0
        self._gathered += count - self._counts.pop(attempt, 0)
        if count:
            self._counts[attempt] = count

    def _queue(self, attempt: Attempt) -> None:
        self._waiting.add(attempt)

    def _start_workers(self) -> None:
        if not self._free or self._gatherer is not None:
            return
        attempt = self._waiting.first()
        if attempt is not None:
            call = self._gatherer = self._new_call()
            self._start_worker(call, attempt)

    def _turn_over(self, call: Call) -> None:
        if self._gatherer is call:
            self._gatherer = None

    async def _next(self, attempt: Attempt) -> Sequence[Part]:  # noqa: ARG002 — it asks everybody
        if self._batch_wait and 0 < self._gathered < self._max_batch:
            self._full = Signal()
            with anyio.move_on_after(self._batch_wait):
                await self._full.wait()
        return self._gather()

    def _goes_on(self, call: Call, attempt: Attempt) -> bool:
        if self._has_work(attempt):
            self._waiting.add(attempt)
        if self._gatherer is not call:
            if self._gatherer is not None or not self._waiting:
                return False
            self._gatherer = call
            return True
        return bool(self._waiting)

    def _is_brief(self, seconds: float) -> bool:
        self._brief += seconds
        if self._brief < _BRIEF_SECONDS:
            return True
        self._brief = 0.0
        return False

    @property
    def capacity(self) -> int:
        return self._places * self._max_batch

    def _seconds_an_item(self, parts: Sequence[Part], seconds: float) -> float:  # noqa: ARG002
        return seconds  # for which each of a batch has waited

    def _adapt_run_length(self, parts: Sequence[Part], seconds: float, way: float) -> None:
        pass

    def _gather(self) -> Sequence[Part]:
        """What has arrived, on any stream; the one that gave last is asked last the next time. A
        batch has one time limit, which is that of all its inputs.
        """
        waiting, room, parts = self._waiting, self._max_batch, list[Part]()
        attempt = waiting.first()
        while attempt is not None:
            part = self._take(attempt, room)
            if self._has_work(attempt):
                waiting.move_to_end(attempt)
            else:
                waiting.discard(attempt)
            if self._batch_wait:
                self._count(attempt)
            if part is not None:
                parts.append(part)
                room -= len(part.run.payloads)
                if not room:
                    break
            attempt = waiting.first_like(attempt) if parts else waiting.first()
        return parts
