"""`generate` as a plain generator function, in a thread while it makes outputs.

Invariant: a generator makes outputs only while its input may have some, and no more ahead of the
event loop than a few; however a generation ends, its generator is closed, in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import anyio
import anyio.to_thread

from servestream_client.errors import ItemErrorKind
from servestream_client.server.calls import Call, Cancelled, Part
from servestream_client.server.handlers.answers import Failure
from servestream_client.server.handlers.emission import Emission
from servestream_client.server.handlers.makers import ENDED, Maker
from servestream_client.server.handlers.resuming import Source, beginning
from servestream_client.signals import Signal, start_task

__all__ = ["MOST_AHEAD", "ThreadGenerators"]

MOST_AHEAD = 64
"""Outputs that a thread may make before the event loop has seen them."""


class ThreadGenerators:
    """Runs a plain generator for each input in a thread, and lets others have its place while it
    pauses.

    Args:
        source: the service's code.
        places: how many may run at a time.
    """

    def __init__(self, source: Source, places: int) -> None:
        self._source = source
        self._places = places
        self._threads: anyio.CapacityLimiter | None = None
        self._closing: anyio.CapacityLimiter | None = None

    async def handle(self, call: Call, parts: Sequence[Part]) -> None:
        for part in parts:
            await self._handle(call, part)

    async def _handle(self, call: Call, part: Part) -> None:
        if self._threads is None or self._closing is None:
            self._threads = anyio.CapacityLimiter(self._places)  # who has a place has a thread
            self._closing = anyio.CapacityLimiter(self._places)  # and who pauses has none
        generation = _Generation(self._source.of(part), call, part, self._threads)
        maker, clock = generation.maker, asyncio.get_running_loop().time
        try:
            while True:
                maker.began = clock()
                if await call.run(generation.go_on(), [part], non_cancellable=maker):
                    break
                if not await call.pause(part.attempt, part.run.first):
                    raise Cancelled
        except Cancelled:
            await self._close(maker)
            raise
        await self._close(maker)

    async def _close(self, maker: Maker) -> None:
        if maker.to_close:
            await anyio.to_thread.run_sync(maker.close, limiter=self._closing)


class _Generation:
    """One input's generator."""

    def __init__(
        self, source: Source, call: Call, part: Part, threads: anyio.CapacityLimiter
    ) -> None:
        outbox = part.attempt.session.parts
        assert outbox is not None  # noqa: S101 — there are no other services here
        self._source = source
        self._call = call
        self._part = part
        self._threads = threads
        self._outbox = outbox
        self._emission = Emission(outbox, part.run, source.codec, source.replay)
        self._begun = False
        self._ahead = 1
        self._signal = Signal()
        self.maker: Maker = Maker(source, self._signal, self._time_over)

    def _time_over(self, text: str) -> None:
        self._emission.fail(Failure(ItemErrorKind.TIMEOUT, text))

    async def go_on(self) -> bool:
        """Make outputs until there are no more, or no more may be made for now. When this returns,
        no thread has the generator.

        Returns:
            Whether the input is answered.
        """
        emission, maker = self._emission, self.maker
        if not self._begun:
            self._begun = True
            maker.begins = await beginning(self._part, emission, self._source, self._call.turn)
        try:
            while True:
                made = maker.take()
                await self._emit(made.outputs)
                if made.end is ENDED:
                    emission.end()
                elif made.end is not None:
                    emission.fail(made.end)
                if not emission.wanted and made.end is None:
                    maker.stop()
                quota = 0 if maker.stopping or made.end is not None else self._quota()
                if made.running:
                    maker.allow(quota)
                elif not quota:
                    return not emission.wanted
                else:
                    self._start(quota)
                await self._signal.wait()
        except BaseException:
            maker.stop()
            raise

    def _quota(self) -> int:
        """How many outputs may be made now."""
        if self._emission.skips:
            return MOST_AHEAD
        quota = self._outbox.quota(self._part.run.first, self._emission.largest)
        # Slowly, since the next ones may be larger.
        quota = min(quota, self._ahead)
        self._ahead = min(2 * self._ahead, MOST_AHEAD)
        return quota

    async def _emit(self, outputs: Sequence[Any]) -> None:
        if not outputs:
            return
        emission, turn = self._emission, self._call.turn
        wake_writer = self._part.attempt.wake_writer
        until = turn.enter() or await turn.wait()
        for output in outputs:
            if not emission.emit(output) and not emission.wanted:
                break
            if turn.clock() >= until:
                wake_writer()
                until = turn.enter() or await turn.wait()
        turn.leave()
        wake_writer()

    def _start(self, quota: int) -> None:
        maker = self.maker
        maker.start(quota)
        task = start_task(
            anyio.to_thread.run_sync(maker.make, limiter=self._threads), "servestream generator"
        )

        def done(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                maker.broke(error)

        task.add_done_callback(done)
