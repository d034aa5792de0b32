"""Several batches of `step_batch` in one visit of a thread: what is between two of them costs more
than a row of most batches. As many as the streams have inputs for, but for few of a crowd: who has
one is not to wait for those who have many.

Invariant: an input counts only if all of its batch came out as it should; those behind it are not
computed then, but given back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.server.fold import FoldOutbox
from servestream_client.server.calls import Call, Part
from servestream_client.server.handlers.answers import give_back
from servestream_client.server.handlers.threads import InThread

__all__ = ["Pace", "Rounds"]

_LONGEST_RUN = 32
LONGEST_SECONDS = 0.05
"""After which no other batch is begun, and what has come out leaves."""

_FEW = 10
"""One of so many streams may have fewer inputs than are computed of the others."""

Step = Callable[[list[Any], list[bytes]], tuple[Sequence[Any], Sequence[Any]]]
"""Gives as many states and outputs as it was given, or raises."""


class Pace:
    """How many inputs of each stream are computed in one go.

    Attributes:
        run_length: that.
    """

    def __init__(self, *, most: int = _LONGEST_RUN) -> None:
        self.run_length: int = 1
        self._most = most

    def took(self, inputs: int, seconds: float) -> None:
        """So many inputs of each stream have taken so long."""
        if seconds > LONGEST_SECONDS:
            self.run_length = max(1, self.run_length // 2)
        elif inputs < self.run_length:  # one had no more
            self.run_length = max(1, inputs)
        elif seconds < LONGEST_SECONDS / 2:
            self.run_length = min(self._most, self.run_length * 2)

    def failed(self) -> None:
        """An input is to be found that has failed."""
        self.run_length = 1


class _Work:
    """What a thread computes, and how far it has come.

    Args:
        step: that.
        parts: one for each stream.
        outboxes: of these.
        clock: seconds.
    """

    def __init__(
        self,
        step: Step,
        parts: Sequence[Part],
        outboxes: Sequence[FoldOutbox],
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.made: list[list[tuple[Any, bytes]]] = [[] for _ in parts]
        self.failed: bool = False
        self._step = step
        self._payloads = [run.payloads for _, run in parts]
        self._states: list[Any] = [outbox.state for outbox in outboxes]
        self._most = min(outbox.output_bytes for outbox in outboxes)
        self._clock = clock
        self._until = clock() + LONGEST_SECONDS

    def batch(self, place: int) -> None:
        """In the thread: one input of each stream. Nothing, if one before has failed, or the time
        is over.
        """
        if self.failed or (place and self._clock() >= self._until):
            return
        self.failed = True  # until it is known to be otherwise
        states, payloads = self._states, self._payloads
        here = [each for each, inputs in enumerate(payloads) if place < len(inputs)]
        found = self._step(
            [states[each] for each in here], [payloads[each][place] for each in here]
        )
        if any(type(output) is not bytes or len(output) > self._most for output in found[1]):
            return
        for each, state, output in zip(here, *found, strict=True):
            states[each] = state
            self.made[each].append((state, output))
        self.failed = False


class _Visit:
    """A visit of a thread, as the event loop sees it.

    Args:
        call: that waits for it.
        parts, outboxes: one for each stream.
        work: what is computed.
    """

    def __init__(
        self, call: Call, parts: Sequence[Part], outboxes: Sequence[FoldOutbox], work: _Work
    ) -> None:
        self.counted: list[int] = [0] * len(parts)
        """How many inputs of each stream count."""
        self._call = call
        self._parts = parts
        self._outboxes = outboxes
        self._work = work

    def count_made(self) -> None:
        """What has come out counts, and can leave."""
        for number, ((_, run), outbox) in enumerate(zip(self._parts, self._outboxes, strict=True)):
            done = self.counted[number]
            made = self._work.made[number][done:]  # there may be another at any moment
            if made:
                self.counted[number] += len(made)
                for place, (state, _) in enumerate(made, run.first + done):
                    outbox.prepare(place, state)
                outbox.outputs(run.first + done, [output for _, output in made])

    def tell(self) -> None:
        """It takes long: nobody is to wait for the rest of it."""
        self.count_made()
        for attempt, _ in self._parts:
            attempt.wake_writer()

    def abandon(self, _: Sequence[object], text: str) -> None:
        """The batch at hand does not end."""
        self.count_made()
        both = zip(self._parts, self._outboxes, self.counted, strict=True)
        for (attempt, run), outbox, done in both:
            if done + 1 < len(run.payloads):
                self._call.requeue(Part(attempt, run.split(done + 1)))
            if done < len(run.payloads):
                outbox.fail(run.first + done, ItemErrorKind.TIMEOUT, text)

    def give_back(self) -> None:
        """What was not computed; but one of each, if nothing was."""
        for (attempt, run), done in zip(self._parts, self.counted, strict=True):
            give_back(attempt.session.intake, run, done or 1)


class Rounds:
    """See the module.

    Args:
        step: what is called.
        places: calls at a time.
        pace: is told where one fails.
    """

    def __init__(self, step: Step, places: int, pace: Pace) -> None:
        self._step = step
        self._pace = pace
        self._in_thread = InThread(_batch, places)

    async def handle(
        self, call: Call, parts: Sequence[Part], outboxes: Sequence[FoldOutbox]
    ) -> bool:
        """Compute as many of each as nearly all have, as far as nothing fails; the others are given
        back.

        Returns:
            Whether any was computed. If not, there is but one of each left.

        Raises:
            Cancelled: nobody waits for it any more.
        """
        work = _Work(self._step, parts, outboxes)
        visit = _Visit(call, parts, outboxes, work)
        lengths = sorted(len(run.payloads) for _, run in parts)
        places = [(work, place) for place in range(lengths[len(lengths) // _FEW])]
        timer = asyncio.get_running_loop().call_later(LONGEST_SECONDS, visit.tell)
        try:
            await self._in_thread(call, parts, places, visit.abandon)
        finally:
            timer.cancel()
        if work.failed:
            self._pace.failed()
        visit.count_made()
        visit.give_back()
        return any(visit.counted)


def _batch(argument: tuple[_Work, int]) -> None:
    work, place = argument
    work.batch(place)
