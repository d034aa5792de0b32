"""`generate` as an async generator function, pulled on the event loop.

Invariant: a generator is asked for an output only while its input may have one, in turns of the
event loop; however a generation ends, its generator is closed, and has a moment for that.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import Any, cast

from servestream_client.codecs import is_bytes_codec
from servestream_client.errors import ItemErrorKind
from servestream_client.server.calls import GRACE_SECONDS, Call, Cancelled, Part
from servestream_client.server.handlers.answers import failure_of
from servestream_client.server.handlers.emission import Emission
from servestream_client.server.handlers.resuming import Source, beginning
from servestream_client.server.outputs import Replay
from servestream_client.usercode import contained, is_a, report

__all__ = ["AsyncGenerators"]

logger: logging.Logger = logging.getLogger(__name__)

_HANDLER = ItemErrorKind.HANDLER


class AsyncGenerators:
    """Pulls an async generator for each input, and lets others have its place while it pauses."""

    def __init__(self, source: Source) -> None:
        self._source = source

    async def handle(self, call: Call, parts: Sequence[Part]) -> None:
        for part in parts:
            await self._handle(call, part)

    async def _handle(self, call: Call, part: Part) -> None:
        generation = _Generation(self._source.of(part), call, part)
        while not await call.run(generation.go_on(), [part], advances=True):
            if not await call.pause(part.attempt, part.run.first):
                await generation.close()
                raise Cancelled


class _Generation:
    """One input's generator."""

    def __init__(self, source: Source, call: Call, part: Part) -> None:
        outbox = part.attempt.session.parts
        assert outbox is not None  # noqa: S101 — there are no other services here
        self._source = source
        self._call = call
        self._part = part
        self._emission = Emission(outbox, part.run, source.codec, source.replay)
        self._generator: AsyncGenerator[Any, None] | None = None
        self._begun = False

    async def go_on(self) -> bool:
        """Make outputs until there are no more, or no more may be made for now.

        Returns:
            Whether the input is answered.
        """
        emission, turn = self._emission, self._call.turn
        try:
            if not self._begun:
                self._begun = True
                if not await self._begin():
                    return True
            if not emission.wanted:
                await self.close()
                return True
            return emission.may_make and await self._pull()
        except asyncio.CancelledError:
            await self.close()
            raise
        finally:
            turn.leave()

    async def _begin(self) -> bool:
        """Make the generator; False: there is none, and the input is answered."""
        turn, source, emission = self._call.turn, self._source, self._emission
        begins = await beginning(self._part, emission, source, turn)
        if begins is None:
            return False
        if not turn.enter():
            await turn.wait()
        task = asyncio.current_task()
        try:
            if begins.resume and source.replay is Replay.CONTINUE:
                finished = source.is_finished(*begins)
                if inspect.isawaitable(finished):
                    finished = await turn.metered(finished)
                if finished:
                    emission.end()
                    return False
            self._generator = source.generate(*begins)
        except BaseException as error:
            emission.fail(failure_of(_HANDLER, error, task))
            return False
        return True

    async def _pull(self) -> bool:  # noqa: C901 — one loop, whose speed counts
        """Make outputs; whether the input is answered."""
        turn, call, emission = self._call.turn, self._call, self._emission
        clock, emit = turn.clock, emission.emit
        step_on = cast("AsyncGenerator[Any, None]", self._generator).__anext__
        task, plain = asyncio.current_task(), is_bytes_codec(self._source.codec)
        wake_writer = self._part.attempt.wake_writer
        until = turn.enter() or await turn.wait()
        while True:
            # As `await` would, but for what it costs to be metered where nothing is waited for.
            waited = False
            try:
                step: Any = step_on()
                waits_for = step.send(None)
                wake_writer()
                waited = True
                output = await turn.metered_rest(step, waits_for)
            except StopIteration as result:
                output = result.value
            except StopAsyncIteration:
                emission.end()
                return True
            except BaseException as error:
                emission.fail(failure_of(_HANDLER, error, task))
                return True
            if waited:
                if call.stopped:  # which it would not hear
                    raise asyncio.CancelledError
                call.advanced()
                until = turn.until  # it went on in a turn that was entered for it
            if not plain and clock() >= until:
                call.advanced()
                until = turn.enter() or await turn.wait()
            if not emit(output):
                if not emission.wanted:
                    await self.close()
                    return True
                if not emission.may_make:
                    return False
            if clock() >= until:
                call.advanced()
                wake_writer()
                until = turn.enter() or await turn.wait()

    async def close(self) -> None:
        """Close the generator, which has a moment to clean up."""
        generator, self._generator = self._generator, None
        if generator is None:
            return
        turn = self._call.turn
        moment = asyncio.timeout(GRACE_SECONDS)
        try:
            async with moment:
                if not turn.enter():
                    await turn.wait()
                await turn.metered(cast("Awaitable[None]", generator.aclose()))
        except BaseException as error:
            if moment.expired() and is_a(error, TimeoutError):
                logger.warning("a generator was not closed in time")
                return
            failure = contained(error, "the handler", awaited=True)
            report(logger, logging.WARNING, "a generator failed while it was closed", failure)
        finally:
            turn.leave()
