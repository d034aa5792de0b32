"""Workers: bounded places in which user code runs, shared by all streams of an event loop.

A worker is a task that takes inputs of a stream, or gathers a batch from all of them, has them
answered, and goes on until there is nothing to start. Streams take turns. No worker ever waits for
a stream: what cannot be sent stays in that stream's session, whose inputs are then not startable.

Between any two steps of the event loop, an attempt that has something to start waits for its turn,
or a worker will come back to it. If any waits, all places are taken, a batch is being gathered, or
a worker has just ended.
An event costs no more than what it concerns, however many attempts and calls there are besides.
"""

from __future__ import annotations

import abc
import asyncio
import functools
import logging
import math
import time
from collections.abc import Collection, Sequence

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.frames import Running
from servestream_client.server.calls import (
    Attempt,
    Call,
    Cancelled,
    Expired,
    Handler,
    Held,
    Part,
    fail,
)
from servestream_client.server.fair_queue import FairQueue
from servestream_client.server.givenback import GivenBack
from servestream_client.server.inflight import InFlight
from servestream_client.server.item_time import ItemTime
from servestream_client.server.limits import TimeLimits
from servestream_client.server.metrics import Samples
from servestream_client.server.stuck import STUCK, StuckPlaces
from servestream_client.turns import Turn, turn_of_loop
from servestream_client.usercode import contained, describe, report

__all__ = ["Workers"]

logger: logging.Logger = logging.getLogger(__name__)

_NOTHING = Running()


class Workers(abc.ABC):
    """The places of one event loop.

    Args:
        handler: what to call.
        places: calls at a time.
    """

    def __init__(self, handler: Handler, *, places: int) -> None:
        self.samples: Samples = Samples()
        """What is to be known of single calls."""
        self._handler = handler
        self._free = places
        self._places = places
        self._waiting = FairQueue()  # those with something to start
        self._given_back: dict[Attempt, GivenBack] = {}  # nothing is ever empty here
        self._in_flight: dict[Attempt, InFlight] = {}
        self._limits = TimeLimits(self._on_abandoned)
        self._kept = StuckPlaces(places, self._on_stuck)
        self._starting: Call | None = None
        self._turn: Turn | None = None  # of the event loop
        self._tasks: set[asyncio.Task[None]] = set()
        self.item_time: ItemTime = ItemTime()
        """What is to be said of how long an item takes."""

    @property
    def capacity(self) -> int:
        """How many items are computed at a time at the most."""
        return self._places

    @property
    def stuck(self) -> bool:
        """Whether every place has been held for some time by code that does not end."""
        return self._kept.stuck

    # ---------------------------------------------------------------- from the attempts

    def offer(self, attempt: Attempt) -> None:
        """The attempt may have inputs to start."""
        if attempt.session.intake.startable or attempt in self._given_back:
            if self._kept.stuck:
                attempt.leave(STUCK)
            self._want(attempt)

    def cancel(self, attempt: Attempt, numbers: Sequence[int] | None = None) -> None:
        """Nobody wants these inputs any more; None: the attempt is over."""
        if numbers is None:
            self._waiting.discard(attempt)
            self._given_back.pop(attempt, None)
        elif attempt in self._given_back:
            self._drop_given_back(attempt, numbers)
        in_flight = self._in_flight.get(attempt)
        if in_flight is None:
            return
        for call in list(in_flight.inline):
            call.check_suspended()
        if numbers is not None:
            for call, own in in_flight.holding(numbers).items():
                call.unwanted(attempt, own)
            return
        for call in in_flight.calls():
            call.unwanted(attempt)
        if not in_flight:
            self._in_flight.pop(attempt, None)

    def _drop_given_back(self, attempt: Attempt, numbers: Sequence[int]) -> None:
        given_back = self._given_back[attempt]
        for number in given_back.drop(numbers):
            attempt.session.outbox.fail(
                number, ItemErrorKind.CANCELLED, "cancelled before it was started"
            )
        if not given_back:
            del self._given_back[attempt]

    def running(self, attempt: Attempt) -> Running:
        """What is computed for an attempt."""
        in_flight = self._in_flight.get(attempt)
        if in_flight is None or not in_flight.count:
            return _NOTHING
        call, since = in_flight.oldest()
        if call is None or since == math.inf:
            return Running(count=in_flight.count)
        age = asyncio.get_running_loop().time() - since
        return Running(
            oldest_number=call.at_hand(attempt),
            oldest_age_ms=int(age * 1000),
            count=in_flight.count,
        )

    # ---------------------------------------------------------------- from the calls

    def watch(self, call: Call, attempt: Attempt) -> None:
        """A worker runs user code that may come to wait."""
        in_flight = self._in_flight.get(attempt)
        if in_flight is None:
            in_flight = self._in_flight[attempt] = InFlight()
        in_flight.inline[call] = None

    def unwatch(self, call: Call, attempt: Attempt) -> None:
        """It has ended, or come to wait."""
        in_flight = self._in_flight.get(attempt)
        if in_flight is not None:
            in_flight.inline.pop(call, None)

    def suspended(self, call: Call, held: Sequence[Held]) -> None:
        """A worker waits for user code, so there is something for others to do."""
        in_flight = self._in_flight
        for attempt, first, last in held:
            stood = in_flight.get(attempt)
            if stood is None:
                stood = in_flight[attempt] = InFlight()
            stood.add(call, first, last)
        self._limits.begin(call)
        self._turn_over(call)
        told = None
        for attempt, _, _ in held:
            if attempt is not told:
                self._tell(attempt)
                self.offer(attempt)
                told = attempt
        self._start_workers()

    def resumed(self, call: Call, held: Sequence[Held]) -> None:
        """It goes on."""
        self._limits.end(call)
        if call.abandoned:
            self._kept.remove(call)
            return
        self._remove(call, held)

    def requeue(self, part: Part) -> None:
        """Have inputs computed that were taken with others, and not begun."""
        attempt = part.attempt
        if attempt.session.over:
            return
        self._given_back.setdefault(attempt, GivenBack()).add(part.run)
        self._want(attempt)

    async def pause(self, attempt: Attempt, number: int) -> bool:
        """Give a place back for a while; see `GeneratorWorkers`."""
        raise NotImplementedError

    def paused(self, attempt: Attempt) -> Collection[int]:  # noqa: ARG002
        """Which of its inputs gave their place back for a while."""
        return ()

    def given_back(self, attempt: Attempt) -> int:
        """How many of its inputs were taken with others and are to be given out again."""
        return len(self._given_back.get(attempt, ()))

    def _remove(self, call: Call, held: Sequence[Held]) -> None:
        for attempt, first, _ in held:
            in_flight = self._in_flight[attempt]
            in_flight.remove(call, first)
            if not in_flight and attempt.session.over:  # or else the attempt goes on
                del self._in_flight[attempt]

    def _on_abandoned(self, call: Call) -> None:
        """A call takes too long: its inputs were answered, and it keeps its place."""
        self._remove(call, call.held)
        self._kept.add(call)

    def _on_stuck(self) -> None:
        for attempt in self._waiting.all():
            attempt.leave(STUCK)

    # ---------------------------------------------------------------- workers

    def _want(self, attempt: Attempt) -> None:
        """There is something to start: see that a worker comes to it."""
        self._queue(attempt)
        self._start_workers()

    @abc.abstractmethod
    def _queue(self, attempt: Attempt) -> None:
        """Have it wait for its turn, unless a worker comes back to it anyway."""

    @abc.abstractmethod
    def _start_workers(self) -> None:
        """Start workers for what is waiting, as far as there are places and it takes more."""

    @abc.abstractmethod
    async def _next(self, attempt: Attempt) -> Sequence[Part]:
        """What a worker that was started for an attempt is to do next; nothing: it may go."""

    @abc.abstractmethod
    def _goes_on(self, call: Call, attempt: Attempt) -> bool:
        """Whether a worker that was started for an attempt has more to do, and it is nobody else's
        turn.
        """

    @abc.abstractmethod
    def _turn_over(self, call: Call) -> None:
        """A worker will not come back by itself to what it was started for."""

    @abc.abstractmethod
    def _adapt_run_length(self, parts: Sequence[Part], seconds: float, way: float) -> None:
        """A worker has done that, and took so long, besides what the way to a thread took."""

    def _has_work(self, attempt: Attempt) -> bool:
        return attempt.session.intake.startable or attempt in self._given_back

    def _take(self, attempt: Attempt, limit: int) -> Part | None:
        """The next inputs of an attempt, at most so many."""
        given_back = self._given_back.get(attempt)
        if given_back is not None:
            run = given_back.take(limit)
            if not given_back:
                del self._given_back[attempt]
            if run is not None:
                return Part(attempt, run)
        run = attempt.session.intake.next_run(limit)
        return Part(attempt, run) if run is not None else None

    def _new_call(self) -> Call:
        turn = self._turn
        if turn is None:
            turn = self._turn = turn_of_loop()
        return Call(self, turn)

    def _start_worker(self, call: Call, attempt: Attempt) -> None:
        """All that this changes is changed before there is a task, which may run at once."""
        self._free -= 1
        self._starting = call
        work = self._work(call, attempt)
        try:
            task = asyncio.get_running_loop().create_task(
                work, name="servestream worker", context=attempt.context.copy()
            )
        except BaseException:
            work.close()
            self._free += 1
            self._turn_over(call)
            raise
        finally:
            self._starting = None
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._on_worker_done, call, attempt))

    def _on_worker_done(self, call: Call, attempt: Attempt, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._free += 1
        # Cancelled: by its handler, or by an event loop that is about to close and ends the
        # streams, too.
        if task.cancelled():
            self._leave(call, attempt)  # one that was cancelled at once did not
        elif (error := task.exception()) is not None:
            logger.error("a worker failed", exc_info=error)
        self._start_workers()

    def _leave(self, call: Call, attempt: Attempt) -> None:
        self._turn_over(call)
        if self._has_work(attempt):
            self._queue(attempt)

    async def _work(self, call: Call, attempt: Attempt) -> None:
        try:
            if self._starting is call:
                # An eager task: user code should not run in the midst of whatever has started this.
                await asyncio.sleep(0)
            call.bind()
            turn, samples = call.turn, self.samples
            await turn.ready()
            while parts := await self._next(attempt):
                began = time.perf_counter()
                sample = samples.begin(parts, began) if began >= samples.due else None
                try:
                    await self._handle(call, parts)
                finally:
                    for other, _ in parts:
                        self._tell(other)
                        # Its turn may have come to start more, though it has no credit to send.
                        if other is not attempt and self._has_work(other):
                            self._queue(other)
                taken = self._took(call, parts, began, time.perf_counter())
                if sample is not None:
                    samples.end(sample, taken)
                if not self._goes_on(call, attempt):
                    return
                if not self._is_brief(time.perf_counter() - began):
                    await turn.passes()  # what is answered can be sent, and others have their turn
        finally:
            self._leave(call, attempt)

    def _is_brief(self, seconds: float) -> bool:  # noqa: ARG002 — for a kind of workers
        """Whether a worker that has taken so long goes on before others have their turn."""
        return False

    def _tell(self, attempt: Attempt) -> None:
        """Inputs of it were answered."""
        attempt.wake_writer()

    def _took(self, call: Call, parts: Sequence[Part], began: float, ended: float) -> float:
        """A worker has done that in this time. Returns what each of them has taken."""
        way, call.hop_seconds = call.hop_seconds, 0.0
        seconds = max(0.0, ended - began - way)
        taken = self._seconds_an_item(parts, seconds)
        self.item_time.took(taken, began=began, ended=ended)
        self._adapt_run_length(parts, seconds, way)
        return taken

    def _seconds_an_item(self, parts: Sequence[Part], seconds: float) -> float:
        """Of that, what each of them has taken."""
        return seconds / sum(len(run.payloads) for _, run in parts)

    async def _handle(self, call: Call, parts: Sequence[Part]) -> None:
        try:
            await self._handler.handle(call, parts)
        except Cancelled:
            fail(parts, ItemErrorKind.CANCELLED, "cancelled")
        except Expired as expired:
            fail(parts, ItemErrorKind.TIMEOUT, str(expired))
        except BaseException as error:
            fail(parts, ItemErrorKind.HANDLER, describe(error))
            failure = contained(error, "the handler", awaited=True)
            report(logger, logging.ERROR, "the kit failed around a handler", failure)
