"""Workers: bounded places in which user code runs, shared by all streams of a process.

A worker is a task that takes inputs of a stream, or gathers a batch from all of them, has them
answered, and goes on until there is nothing to start. Streams take turns. No worker ever waits for
a stream: what cannot be sent stays in that stream's session, whose inputs are then not startable.
"""

from __future__ import annotations

import abc
import asyncio
import contextvars
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import NamedTuple, Protocol, TypeVar

import anyio

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.frames import Running, StreamErrorKind
from servestream_client.protocol.runs import Run
from servestream_client.protocol.server import ServerSession
from servestream_client.turns import turn_of_loop
from servestream_client.usercode import contained, describe, log_failure

__all__ = [
    "STUCK",
    "Attempt",
    "BatchWorkers",
    "Call",
    "Cancelled",
    "Expired",
    "Handler",
    "ItemWorkers",
    "Part",
    "Uninterruptible",
    "Workers",
    "forsake",
]

logger: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")

_GRACE_SECONDS = 1.0
"""What user code gets to clean up once its time is over."""

STUCK_SECONDS = 30.0
"""How long inputs must have kept every place beyond their time. That time is a client's to choose,
and an impatient one should not take the replica from the others."""

STUCK = "every handler of this process is kept by an input that does not end"

_LONGEST_RUN = 1024
_RUN_SECONDS = 0.001
"""How long a worker may keep the event loop, or the first results of a run wait for its last."""


class Attempt(Protocol):
    """A stream's attempt, as workers see it."""

    session: ServerSession
    context: contextvars.Context
    """In which user code runs for it: Ray Serve keeps the request's there."""

    def answered(self) -> None:
        """There may be something to send."""
        ...

    def leave(self, text: str) -> None:
        """The process can start nothing more: what is answered is sent, and that is all."""
        ...

    def give_up(self, kind: StreamErrorKind, text: str) -> None:
        """The attempt fails here."""
        ...


class Part(NamedTuple):
    """Inputs of one attempt."""

    attempt: Attempt
    run: Run


class Cancelled(Exception):  # noqa: N818 — an event between two functions
    """The call was cancelled, since nobody wants what it computes."""


class Expired(Exception):  # noqa: N818 — likewise
    """The call was cancelled, since it took longer than an input may."""


class Uninterruptible(Protocol):
    """User code that cannot be cancelled: a thread's."""

    @property
    def began(self) -> float:
        """When what it computes now began, in the event loop's time."""
        ...

    @property
    def done(self) -> int:
        """How many of its inputs are computed."""
        ...

    def forsake(self, text: str, since: float) -> bool:
        """Answer its inputs without it, as far as that can be said; give the others back.

        Returns:
            False, and nothing happens, if what began at `since` has ended by now.
        """
        ...


class Call:
    """What a worker lets user code do at the moment, and for whom."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._task = asyncio.current_task()
        self._parts: list[Part] = []
        self._held: Sequence[Part] = ()
        self._began = 0.0
        self._code: Uninterruptible | None = None
        self._expired = ""
        self.lost: bool = False
        """Whether its inputs were answered without it."""
        self.lost_since: float = 0.0

        self._wanted: dict[Attempt, set[int]] | None = None  # of the parts; None: all of them
        self._stopped = False
        self._watched: tuple[Part, Callable[[], None]] | None = None
        self._looking: asyncio.Handle

    async def run(
        self,
        code: Awaitable[T],
        parts: Sequence[Part],
        *,
        uninterruptible: Uninterruptible | None = None,
    ) -> T:
        """Wait for user code; meanwhile others may work.

        Args:
            code: what to wait for.
            parts: the inputs that it is about.
            uninterruptible: what it is, if it cannot be cancelled.

        Raises:
            Cancelled: all those inputs were cancelled, or their streams are over.
            Expired: it took longer than an input may.
        """
        if uninterruptible is None:
            self._parts += parts
        self._code = uninterruptible
        self._suspend(parts)
        try:
            return await code
        except asyncio.CancelledError:
            if not self._stopped:
                raise
            raise self._why() from None
        finally:
            self._end()

    def _suspend(self, parts: Sequence[Part]) -> None:
        self._held = parts
        self._began = asyncio.get_running_loop().time()
        self._workers.suspended(self, parts)

    def _why(self) -> Cancelled | Expired:
        return Expired(self._expired) if self._expired else Cancelled()

    def watched(self, part: Part, waits: Callable[[], None]) -> Call:
        """A context in which user code runs for one input after the other, and may come to wait
        for something.

        Args:
            part: the inputs.
            waits: called if it does, once; it leaves in `part` what has been started.

        Raises:
            Cancelled: the input at hand was cancelled, or its stream is over.
            Expired: it took longer than it may.
        """
        self._watched = part, waits
        self._workers.watch(self)
        # Nobody else runs before the code waits: so this does, then, and is called off otherwise.
        self._looking = asyncio.get_running_loop().call_soon(self.notice)
        return self

    def notice(self) -> None:
        """Look whether watched code waits, which it does if somebody else can call this."""
        if self._watched is not None:
            (part, waits), self._watched = self._watched, None
            waits()
            self._parts.append(part)
            self._suspend([part])

    def __enter__(self) -> None:
        """See `watched`."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._watched = None
        self._looking.cancel()
        stopped, why = self._stopped, self._why()
        self._end()
        if stopped and isinstance(exc, asyncio.CancelledError):
            raise why from None

    def _end(self) -> None:
        self._parts.clear()
        self._held = ()
        self._code = None
        self._expired = ""
        self._wanted = None
        if self._stopped and self._task is not None:
            while self._task.uncancel():
                pass
            self._stopped = False
        self._workers.resumed(self)
        self.lost = False

    def again(self, part: Part) -> None:
        """Have others compute inputs of this call that were not begun."""
        self._workers.again(part)

    # ---------------------------------------------------------------- how long it takes

    def running(self, attempt: Attempt) -> tuple[int, float, int]:
        """What it computes of an attempt: the first input, since when, and how many."""
        if self.lost:
            return 0, math.inf, 0
        numbers = [number for each, number in _awaited(self._held) if each is attempt]
        done = self._code.done if self._code is not None else 0
        if done >= len(numbers):
            return 0, math.inf, 0
        return numbers[done], self._since, len(numbers) - done

    @property
    def _since(self) -> float:
        return self._code.began if self._code is not None else self._began

    def expire(self, now: float) -> float:
        """Let go of what takes longer than it may; returns when to look again.

        Code that can be interrupted is, once. What has not ended a while later, or cannot be
        interrupted, is forsaken: its inputs are answered without it, and it keeps its place.
        """
        limit = min((part.attempt.session.item_timeout for part in self._held), default=math.inf)
        if self.lost:
            stuck = self.lost_since + STUCK_SECONDS
            return stuck if now < stuck else math.inf
        since = self._since
        due = since + limit + (_GRACE_SECONDS if self._expired else 0)
        if now < due:
            return due
        text = f"it took longer than the {limit:g} s that the client allows"
        if self._code is None and not self._stopped and self._task is not None:
            self._expired = text
            self._stopped = True
            self._task.cancel()
            return now + _GRACE_SECONDS
        if self._code is not None and not self._code.forsake(text, since):
            return now + _GRACE_SECONDS  # it has just ended, or gone on to the next input
        self.lost, self.lost_since = True, now
        if self._code is None:
            forsake(self._held, text)
        for part in self._held:
            part.attempt.answered()
        return now + STUCK_SECONDS

    def unwanted(self, attempt: Attempt, numbers: Sequence[int] | None = None) -> None:
        """Nobody wants these inputs any more, or none of the attempt's: cancel what computes
        nothing else. Once is enough: user code gets its time to clean up.
        """
        if all(part.attempt is not attempt for part in self._parts):
            return
        if self._wanted is None:
            self._wanted = {}
            for part in self._parts:
                own = self._wanted.setdefault(part.attempt, set())
                own.update(range(part.run.first, part.run.last + 1))
        if numbers is None:
            self._wanted[attempt].clear()
        else:
            self._wanted[attempt].difference_update(numbers)
        if not any(self._wanted.values()) and not self._stopped and self._task is not None:
            self._stopped = True
            self._task.cancel()


class Handler(Protocol):
    """Answers inputs. One serves all streams of a process."""

    async def handle(self, call: Call, parts: Sequence[Part]) -> None:
        """Answer these inputs in their sessions, one way or another, or put them back."""
        ...


class Workers(abc.ABC):
    """The places of one process.

    Args:
        handler: what to call.
        places: calls at a time.
    """

    def __init__(self, handler: Handler, *, places: int) -> None:
        self._handler = handler
        self._free = places
        self._waiting: dict[Attempt, None] = {}  # the streams with something to start, in turn
        self._places = places
        # As dicts, whose order is that of the calls and not one of addresses:
        self._watched: dict[Call, None] = {}
        self._suspended: dict[Call, None] = {}
        self._again: deque[Part] = deque()  # given back by code that does not end
        self._sweeper: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # ---------------------------------------------------------------- from the attempts

    def offer(self, attempt: Attempt) -> None:
        """The attempt may have inputs to start."""
        if attempt.session.startable:
            if self.stuck:
                attempt.leave(STUCK)
                return
            self._waiting.setdefault(attempt)
            self._hire()

    def cancel(self, attempt: Attempt, numbers: Sequence[int] | None = None) -> None:
        """Nobody wants these inputs any more; None: the attempt is over."""
        if numbers is None:
            self._waiting.pop(attempt, None)
            self._again = deque(part for part in self._again if part.attempt is not attempt)
        for call in list(self._watched):
            call.notice()
        for call in list(self._suspended):
            call.unwanted(attempt, numbers)

    def running(self, attempt: Attempt) -> Running:
        """What is computed for an attempt."""
        now = asyncio.get_running_loop().time()
        parts = [call.running(attempt) for call in self._suspended]
        number, since, _ = min(parts, key=_second, default=(0, math.inf, 0))
        return Running(
            oldest_number=number,
            oldest_age_ms=int((now - since) * 1000) if number else 0,
            count=sum(count for _, _, count in parts),
        )

    @property
    def stuck(self) -> bool:
        """Whether every place has been held for some time by code that does not end."""
        if self._free or not self._suspended:
            return False
        before = asyncio.get_running_loop().time() - STUCK_SECONDS
        lost = [call for call in self._suspended if call.lost and call.lost_since <= before]
        return len(lost) >= self._places

    # ---------------------------------------------------------------- from the calls

    def watch(self, call: Call) -> None:
        """A worker runs user code that may come to wait."""
        self._watched[call] = None

    def again(self, part: Part) -> None:
        """Have inputs computed that were taken with others, and not begun."""
        self._again.append(part)
        self._waiting.setdefault(part.attempt)
        self._hire()

    def suspended(self, call: Call, parts: Iterable[Part]) -> None:
        """A worker waits for user code, so there is something for others to do."""
        self._watched.pop(call, None)
        self._suspended[call] = None
        for part in parts:
            part.attempt.answered()
            self.offer(part.attempt)
            self._sweep_in(part.attempt.session.item_timeout)

    def resumed(self, call: Call) -> None:
        """It goes on."""
        self._watched.pop(call, None)
        self._suspended.pop(call, None)

    # ---------------------------------------------------------------- how long it takes

    def _sweep_in(self, seconds: float) -> None:
        if seconds == math.inf:
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        if self._sweeper is not None:
            if self._sweeper.when() <= due:
                return
            self._sweeper.cancel()
        self._sweeper = loop.call_at(due, self._sweep)

    def _sweep(self) -> None:
        """Let go of what takes too long."""
        self._sweeper = None
        now = asyncio.get_running_loop().time()
        self._sweep_in(
            min((call.expire(now) for call in list(self._suspended)), default=math.inf) - now
        )
        if self.stuck:
            for attempt in list(self._waiting):
                attempt.leave(STUCK)
            self._waiting.clear()
            self._again.clear()

    # ---------------------------------------------------------------- workers

    @abc.abstractmethod
    def _hire(self) -> None:
        """Start workers for what is waiting, as far as there are places and it takes more."""

    @abc.abstractmethod
    async def _next(self, attempt: Attempt) -> Sequence[Part]:
        """What a worker that was hired for an attempt is to do next; nothing: it may go."""

    @abc.abstractmethod
    def _is_done(self, attempt: Attempt) -> bool:
        """Whether a worker that was hired for an attempt may go: there is nothing more to do, or
        it is another's turn.
        """

    @abc.abstractmethod
    def _note(self, parts: Sequence[Part], seconds: float) -> None:
        """A worker has done that, and took so long."""

    @abc.abstractmethod
    def _failed(self, attempt: Attempt) -> None:
        """A worker that was hired for an attempt ends before its time."""

    def _start_worker(self, attempt: Attempt) -> asyncio.Task[None]:
        self._free -= 1
        task = asyncio.get_running_loop().create_task(
            self._work(attempt), name="servestream worker", context=attempt.context.copy()
        )
        self._tasks.add(task)
        task.add_done_callback(self._left)
        return task

    def _left(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._free += 1
        # Cancelled: by its handler, or by an event loop that is about to close and ends the
        # streams, too.
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a worker failed", exc_info=error)
        self._hire()

    async def _work(self, attempt: Attempt) -> None:
        call, turn = Call(self), turn_of_loop()
        try:
            await turn.ready()
            while parts := await self._next(attempt):
                began = time.perf_counter()
                try:
                    await self._handle(call, parts)
                finally:
                    for part in parts:
                        part.attempt.answered()
                self._note(parts, time.perf_counter() - began)
                if self._is_done(attempt):
                    return
                await turn.passes()  # what is answered can be sent, and others have their turn
        except BaseException:
            self._failed(attempt)
            raise

    async def _handle(self, call: Call, parts: Sequence[Part]) -> None:
        try:
            await self._handler.handle(call, parts)
        except Cancelled:
            _fail(parts, ItemErrorKind.CANCELLED, "cancelled")
        except Expired as expired:
            _fail(parts, ItemErrorKind.TIMEOUT, str(expired))
        except BaseException as error:
            _fail(parts, ItemErrorKind.HANDLER, describe(error))
            failure = contained(error, "the handler", awaited=True)
            log_failure(logger, "the kit failed around a handler", failure)


class ItemWorkers(Workers):
    """Each takes inputs of one stream, several at once while they go fast."""

    def __init__(self, handler: Handler, *, places: int) -> None:
        super().__init__(handler, places=places)
        self._served: set[Attempt] = set()  # by a worker that is not suspended
        self._run_length = 1

    def suspended(self, call: Call, parts: Iterable[Part]) -> None:
        for part in parts:
            self._served.discard(part.attempt)
        super().suspended(call, parts)

    def _hire(self) -> None:
        for attempt in list(self._waiting):
            if not self._free:
                return
            if attempt not in self._served:
                del self._waiting[attempt]
                self._served.add(attempt)
                self._start_worker(attempt)

    async def _next(self, attempt: Attempt) -> Sequence[Part]:
        if self._again:
            return [self._given_back(attempt)]
        run = attempt.session.next_run(self._run_length)
        if run is not None:
            return [Part(attempt, run)]
        self._served.discard(attempt)
        return []

    def _given_back(self, attempt: Attempt) -> Part:
        """Inputs that another call has given back, whoever's they are."""
        part = self._again.popleft()
        if part.attempt is not attempt:
            self._served.discard(attempt)
            if attempt.session.startable:
                self._waiting.setdefault(attempt)
            self._served.add(part.attempt)
        return part

    def _is_done(self, attempt: Attempt) -> bool:
        if self._again:
            return False
        startable = attempt.session.startable
        if startable and (self._free or all(each is attempt for each in self._waiting)):
            return False
        self._served.discard(attempt)
        self._waiting.pop(attempt, None)
        if startable:
            self._waiting[attempt] = None  # behind the others
        return True

    def _failed(self, attempt: Attempt) -> None:
        self._served.discard(attempt)

    def _note(self, parts: Sequence[Part], seconds: float) -> None:
        if seconds > _RUN_SECONDS:
            self._run_length = max(1, self._run_length // 2)
        elif seconds < _RUN_SECONDS / 2 and _count(parts) >= self._run_length:
            self._run_length = min(_LONGEST_RUN, self._run_length * 2)


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
        self._max_batch = max_batch
        self._batch_wait = batch_wait
        self._gatherer: asyncio.Task[None] | None = None  # one at a time
        self._full = asyncio.Event()

    def offer(self, attempt: Attempt) -> None:
        super().offer(attempt)
        if self._gatherer and self._batch_wait and self._gathered() >= self._max_batch:
            self._full.set()

    def suspended(self, call: Call, parts: Iterable[Part]) -> None:
        self._gatherer = None
        super().suspended(call, parts)
        self._hire()

    def _hire(self) -> None:
        if self._free and self._waiting and not self._gatherer:
            self._gatherer = self._start_worker(next(iter(self._waiting)))

    async def _next(self, attempt: Attempt) -> Sequence[Part]:  # noqa: ARG002 — it asks everybody
        self._gatherer = asyncio.current_task()
        if self._batch_wait and 0 < self._gathered() < self._max_batch:
            self._full.clear()
            with anyio.move_on_after(self._batch_wait):
                await self._full.wait()
        parts = self._gather()
        if not parts:
            self._gatherer = None
        return parts

    def _is_done(self, attempt: Attempt) -> bool:  # noqa: ARG002 — it asks everybody
        self._gatherer = asyncio.current_task() if self._waiting else None
        return self._gatherer is None

    def _failed(self, attempt: Attempt) -> None:  # noqa: ARG002 — it served everybody
        if self._gatherer is asyncio.current_task():
            self._gatherer = None  # or else another was hired while it waited for its handler

    def _note(self, parts: Sequence[Part], seconds: float) -> None:
        pass

    def _gathered(self) -> int:
        return sum(attempt.session.startable_inputs for attempt in self._waiting)

    def _gather(self) -> list[Part]:
        """What has arrived on whatever stream; who gave last is asked last the next time."""
        parts: list[Part] = []
        room = self._max_batch
        others: dict[Attempt, None] = {}
        while room and self._waiting:
            attempt = next(iter(self._waiting))
            del self._waiting[attempt]
            if parts and attempt.session.item_timeout != parts[0].attempt.session.item_timeout:
                others[attempt] = None  # a batch has one limit, which is that of all its inputs
                continue
            run = attempt.session.next_run(room)
            if run is None:
                continue
            parts.append(Part(attempt, run))
            room -= len(run.payloads)
            if attempt.session.startable:
                self._waiting[attempt] = None
        self._waiting = {**others, **self._waiting}
        return parts


def forsake(parts: Sequence[Part], text: str) -> None:
    """Answer inputs without the code that computes them and does not end.

    Of several it cannot be said which one it is that keeps it, so that their attempts end.
    """
    awaited = _awaited(parts)
    if len(awaited) > 1:
        text = f"inputs that were computed together do not end: {text}"
        for attempt in dict.fromkeys(attempt for attempt, _ in awaited):
            attempt.give_up(StreamErrorKind.INTERNAL, text)
    for attempt, number in awaited:
        attempt.session.fail(number, ItemErrorKind.TIMEOUT, text)


def _awaited(parts: Sequence[Part]) -> list[tuple[Attempt, int]]:
    """Those of these inputs that have no answer yet."""
    return [
        (attempt, number)
        for attempt, run in parts
        for number in range(run.first, run.last + 1)
        if attempt.session.awaits(number)
    ]


def _second(values: tuple[int, float, int]) -> float:
    return values[1]


def _count(parts: Sequence[Part]) -> int:
    return sum(len(part.run.payloads) for part in parts)


def _fail(parts: Sequence[Part], kind: ItemErrorKind, text: str) -> None:
    """Fail those of these inputs that have no answer yet."""
    for attempt, run in parts:
        for number in range(run.first, run.last + 1):
            attempt.session.fail(number, kind, text)
