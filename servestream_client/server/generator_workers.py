"""Workers for inputs with many outputs, which give their places back while their generators pause.

Invariant: an input that was told to pause has no place until its outbox names it, or nobody wants
it any more. Those that may go on have the next free places, before inputs that begin.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Sequence

from servestream_client.server.calls import Attempt, Call, Handler, Part
from servestream_client.server.stuck import STUCK
from servestream_client.server.workers import Workers

__all__ = ["GeneratorWorkers"]


class GeneratorWorkers(Workers):
    """Each takes one input of a stream, and the next one when its generator is done.

    A generator that is closed because nobody wants its input needs no free place for that, so that
    for a moment more may run than there are places; fewer are given out then.
    """

    def __init__(self, handler: Handler, *, places: int) -> None:
        super().__init__(handler, places=places)
        # Workers that come to take an input, and how many come for each attempt.
        self._comes: dict[Call, Attempt] = {}
        self._coming: dict[Attempt, int] = {}
        # What waits for a place, or not yet: true, it has one; false, nobody wants it.
        self._paused: dict[Attempt, dict[int, asyncio.Future[bool]]] = {}
        self._resumable: OrderedDict[asyncio.Future[bool], Attempt] = OrderedDict()

    # ---------------------------------------------------------------- from the attempts

    def offer(self, attempt: Attempt) -> None:
        parts = attempt.session.parts
        if parts is not None and (numbers := parts.take_resumable()):
            paused = self._paused.get(attempt, {})
            for number in numbers:
                waiter = paused.get(number)
                if waiter is not None and not waiter.done():
                    self._resumable[waiter] = attempt
            if self._resumable and self._kept.stuck:
                attempt.leave(STUCK)
            self._start_workers()
        super().offer(attempt)

    def cancel(self, attempt: Attempt, numbers: Sequence[int] | None = None) -> None:
        paused = self._paused.get(attempt)
        if paused is not None:
            for number in list(paused) if numbers is None else numbers:
                waiter = paused.get(number)
                if waiter is not None and not waiter.done():
                    waiter.set_result(False)
        super().cancel(attempt, numbers)

    # ---------------------------------------------------------------- from the calls

    async def pause(self, attempt: Attempt, number: int) -> bool:
        parts = attempt.session.parts
        if parts is None or not parts.wants(number):
            return False
        if parts.may_make(number):
            return True
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._paused.setdefault(attempt, {})[number] = waiter
        attempt.wake_writer()  # what it has made can be sent
        self._free += 1
        self._start_workers()
        try:
            await waiter
        finally:
            del self._paused[attempt][number]
            if not self._paused[attempt]:
                del self._paused[attempt]
            self._resumable.pop(waiter, None)
            if waiter.cancelled() or not waiter.result():
                self._free -= 1  # what is left to do needs none
        return parts.wants(number)

    def paused(self, attempt: Attempt) -> Collection[int]:
        return self._paused.get(attempt, ())

    # ---------------------------------------------------------------- places

    def _lacks_worker(self, attempt: Attempt) -> bool:
        """Whether it has more to start than workers come for."""
        if attempt in self._given_back:
            return True
        return attempt.session.intake.startable_inputs > self._coming.get(attempt, 0)

    def _queue(self, attempt: Attempt) -> None:
        if self._lacks_worker(attempt):
            self._waiting.add(attempt)

    def _start_workers(self) -> None:
        while self._free > 0:
            if self._resumable:
                waiter, _ = self._resumable.popitem(last=False)
                if not waiter.done():
                    self._free -= 1
                    waiter.set_result(True)
                continue
            attempt = self._waiting.first()
            if attempt is None:
                return
            call = self._new_call()
            self._come(call, attempt)
            if self._lacks_worker(attempt):
                self._waiting.move_to_end(attempt)
            else:
                self._waiting.discard(attempt)
            self._start_worker(call, attempt)

    def _come(self, call: Call, attempt: Attempt) -> None:
        self._comes[call] = attempt
        self._coming[attempt] = self._coming.get(attempt, 0) + 1

    def _turn_over(self, call: Call) -> None:
        attempt = self._comes.pop(call, None)
        if attempt is None:
            return
        self._coming[attempt] -= 1
        if not self._coming[attempt]:
            del self._coming[attempt]

    async def _next(self, attempt: Attempt) -> Sequence[Part]:
        part = self._take(attempt, 1)
        return [part] if part is not None else []

    def _goes_on(self, call: Call, attempt: Attempt) -> bool:
        self._turn_over(call)  # which a handler that never waited has not said
        if self._free < 0 or (self._resumable and not self._free):
            return False  # there are too many, or it is the turn of those that went before
        if not self._free and len(self._waiting) > (attempt in self._waiting):
            return False
        if not self._lacks_worker(attempt):
            return False
        self._come(call, attempt)
        if not self._lacks_worker(attempt):
            self._waiting.discard(attempt)
        return True

    def _adapt_run_length(self, parts: Sequence[Part], seconds: float, way: float) -> None:
        pass

    def _on_stuck(self) -> None:
        super()._on_stuck()
        for attempt in list(dict.fromkeys(self._resumable.values())):
            attempt.leave(STUCK)
