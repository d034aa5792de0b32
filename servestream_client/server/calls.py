"""Calls of user code: for which inputs, since when, and whether anybody still wants them.

A call is cancelled once nobody wants what it computes, or once its time is over; when it has not
ended some time later, it is abandoned: its inputs are answered without it.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Protocol, TypeVar

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.frames import StreamErrorKind
from servestream_client.protocol.runs import Run
from servestream_client.protocol.server import ServerSession
from servestream_client.server.state_holder import StateHolder
from servestream_client.turns import Turn, turn_of_loop

__all__ = [
    "GRACE_SECONDS",
    "Attempt",
    "Call",
    "Cancelled",
    "Expired",
    "Handler",
    "Held",
    "NonCancellable",
    "Part",
    "Places",
    "abandon",
    "fail",
]

T = TypeVar("T")

GRACE_SECONDS = 1.0
"""What user code gets to clean up once its time is over."""


class Attempt(Protocol):
    """A stream's attempt, as workers see it."""

    session: ServerSession
    context: contextvars.Context  # in which user code runs: Ray Serve keeps the request's there
    fold: StateHolder | None  # of a stateful stream

    def wake_writer(self) -> None:
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


class Held(NamedTuple):
    """Inputs of one attempt that have no answer yet, by their numbers."""

    attempt: Attempt
    first: int
    last: int


class Cancelled(Exception):  # noqa: N818 — an event between two functions
    """The call was cancelled, since nobody wants what it computes."""


class Expired(Exception):  # noqa: N818 — likewise
    """The call was cancelled, since it took longer than an input may."""


class NonCancellable(Protocol):
    """User code that cannot be cancelled: a thread's."""

    @property
    def began(self) -> float:
        """When what it computes now began, in the event loop's time."""
        ...

    @property
    def done(self) -> int:
        """How many of its inputs are computed."""
        ...

    @property
    def finished(self) -> bool:
        """Whether all of them are."""
        ...

    def unwanted(self) -> None:
        """Something of what it computes is wanted no more: it may look whether it has to go on."""
        ...

    def abandon(self, text: str, since: float) -> bool:
        """Answer its inputs without it, as far as that can be said; give the others back.

        Returns:
            False, and nothing happens, if what began at `since` has ended by now.
        """
        ...


class Places(Protocol):
    """Whose places calls have; see `Workers`."""

    def watch(self, call: Call, attempt: Attempt) -> None: ...
    def unwatch(self, call: Call, attempt: Attempt) -> None: ...
    def suspended(self, call: Call, held: Sequence[Held]) -> None: ...
    def resumed(self, call: Call, held: Sequence[Held]) -> None: ...
    def requeue(self, part: Part) -> None: ...
    async def pause(self, attempt: Attempt, number: int) -> bool: ...


class Call:
    """What a worker lets user code do at the moment, and for whom."""

    def __init__(self, places: Places, turn: Turn | None = None) -> None:
        self._places = places
        self._task: asyncio.Task[Any] | None = None
        self.turn: Turn = turn or turn_of_loop()
        """Of the event loop, in which user code has its time."""
        self._held: Sequence[Held] = ()
        self._now: Callable[[], float] = _never  # the event loop's time, once it runs
        self._began = 0.0
        self._until = math.inf  # by its caller's word, besides what an input may take
        self._code: NonCancellable | None = None
        self._advances = False
        self._answer_without: Callable[[str], None] | None = None
        self._expired = ""
        self.abandoned: bool = False
        """Whether its inputs were answered without it."""
        self.hop_seconds: float = 0.0
        """Of late, on the way to threads and back."""

        # Of those held: how many are wanted, and which are not. None: all are.
        self._wanted: dict[Attempt, int] | None = None
        self._unwanted: dict[Attempt, set[int]] = {}
        self._stopped = False  # its task was cancelled
        self._stopped_at = 0.0
        self._inline: tuple[Part, Callable[[], None]] | None = None
        self._looking: asyncio.Handle

    def bind(self) -> None:
        """From now on it is the running task's."""
        self._task = asyncio.current_task()

    async def run(
        self,
        code: Awaitable[T],
        parts: Sequence[Part],
        *,
        non_cancellable: NonCancellable | None = None,
        advances: bool = False,
        until: float = math.inf,
        answer_without: Callable[[str], None] | None = None,
    ) -> T:
        """Wait for user code; meanwhile others may work.

        Args:
            code: what to wait for.
            parts: the inputs that it is about.
            non_cancellable: what it is, if it cannot be cancelled.
            advances: whether it says with `advanced` that its time begins anew.
            until: when it must end, in the event loop's time, if that is before an input's time is
                over.
            answer_without: answers all of `parts` if the code will not be cancelled; gets the
                reason. By default the inputs fail, and of several their attempts.

        Raises:
            Cancelled: all those inputs were cancelled, or answered without the code, or their
                streams are over.
            Expired: it took longer than it may.
        """
        self._code = non_cancellable
        self._advances = advances
        self._until = until
        self._answer_without = answer_without
        self._suspend([Held(attempt, run.first, run.last) for attempt, run in parts])
        try:
            result = await code
        except asyncio.CancelledError:
            if not self._stopped:
                raise
            raise self._why() from None
        except BaseException:
            if self.abandoned:
                raise Cancelled from None
            raise
        else:
            if self.abandoned:
                raise Cancelled
            return result
        finally:
            self._end()

    def _suspend(self, held: Sequence[Held]) -> None:
        self._held = held
        self._now = asyncio.get_running_loop().time
        self._began = self._now()
        self._places.suspended(self, held)

    def _why(self) -> Cancelled | Expired:
        return Expired(self._expired) if self._expired and not self.abandoned else Cancelled()

    def run_inline(self, part: Part, on_suspend: Callable[[], None]) -> Call:
        """A context in which user code runs for one input after the other, and may come to wait
        for something.

        Args:
            part: the inputs.
            on_suspend: called if it does, once; it leaves in `part` what has been started, and has
                answered all of that but the last.

        Raises:
            Cancelled: the input at hand was cancelled, or its stream is over.
            Expired: it took longer than it may.
        """
        self._inline = part, on_suspend
        self._places.watch(self, part.attempt)
        # Nobody else runs before the code waits: so this does, then, and is called off otherwise.
        self._looking = asyncio.get_running_loop().call_soon(self.check_suspended)
        return self

    def check_suspended(self) -> None:
        """Look whether inline code waits, which it does if somebody else can call this."""
        if self._inline is not None:
            (part, on_suspend), self._inline = self._inline, None
            on_suspend()
            self._places.unwatch(self, part.attempt)
            self._suspend([Held(part.attempt, part.run.last, part.run.last)])

    def __enter__(self) -> None:
        """See `run_inline`."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._looking.cancel()
        if self._inline is not None:
            (part, _), self._inline = self._inline, None
            self._places.unwatch(self, part.attempt)
            return
        stopped, why = self._stopped, self._why()
        self._end()
        if stopped and isinstance(exc, asyncio.CancelledError):
            try:
                raise why from None
            finally:
                del why  # its traceback refers to this frame

    def _end(self) -> None:
        held, self._held = self._held, ()
        if self._stopped and self._task is not None:
            while self._task.uncancel():
                pass
            self._stopped = False
        self._places.resumed(self, held)
        self._code = None
        self._until = math.inf
        self._answer_without = None
        self._expired = ""
        self._wanted = None
        self.abandoned = False

    def requeue(self, part: Part) -> None:
        """Have others compute inputs of this call that were not begun."""
        self._places.requeue(part)

    async def pause(self, attempt: Attempt, number: int) -> bool:
        """Give the place back until an input's generator may make another output, and there is a
        place again. Not while `run` waits.

        Returns:
            Whether anybody still wants it.
        """
        return await self._places.pause(attempt, number)

    # ---------------------------------------------------------------- how long it takes

    @property
    def held(self) -> Sequence[Held]:
        """The inputs that it computes."""
        return self._held

    @property
    def advances(self) -> bool:
        """Whether what it computes now changes while it runs: it goes on from input to input, or
        from output to output.
        """
        return self._code is not None or self._advances

    @property
    def stopped(self) -> bool:
        """Whether its code was cancelled."""
        return self._stopped

    def advanced(self) -> None:
        """Another output was made; the time that it may take begins anew. While `run` waits."""
        self._began = self._now()

    @property
    def since(self) -> float:
        """When what it computes now began; infinity: it is about to end."""
        code = self._code
        if code is None:
            return self._began
        return math.inf if code.finished else code.began

    def at_hand(self, attempt: Attempt) -> int:
        """The input of an attempt that it computes now, or the first of those together."""
        done = self._code.done if self._code is not None else 0
        return next((each.first + done for each in self._held if each.attempt is attempt), 0)

    @property
    def due(self) -> float:
        """When `expire` is to be called next; infinity: never."""
        if self.abandoned:
            return math.inf
        held = self._held
        if len(held) == 1:
            limit = held[0].attempt.session.item_timeout
        else:
            limit = min((each.attempt.session.item_timeout for each in held), default=math.inf)
        over = min((self._began if self._code is None else self._code.began) + limit, self._until)
        return max(over, self._stopped_at) + GRACE_SECONDS if self._stopped else over

    def expire(self, now: float) -> float:
        """Let go of what takes longer than it may; returns when to look again.

        Code that can be interrupted is, once. What has not ended a while later, or cannot be
        interrupted, is abandoned: its inputs are answered without it, and it keeps its place.
        """
        code = self._code
        since = self._began if code is None else code.began
        due = self.due
        if now < due:
            return due
        limit = min(each.attempt.session.item_timeout for each in self._held)
        text = f"it took longer than the {limit:g} s that the client allows"
        if code is None and not self._stopped:
            self._expired = text
            self._stop(now)
            return now + GRACE_SECONDS
        if code is not None and not code.abandon(text, since):
            return now + GRACE_SECONDS  # it has just ended, or gone on to the next input
        self.abandoned = True
        if code is None:
            (self._answer_without or self._abandon_held)(text)
        for attempt in dict.fromkeys(each.attempt for each in self._held):
            attempt.wake_writer()
        return math.inf

    def _abandon_held(self, text: str) -> None:
        abandon(self._held, text)

    def unwanted(self, attempt: Attempt, numbers: Sequence[int] | None = None) -> None:
        """Nobody wants these of its inputs any more, or none of the attempt's: cancel what computes
        nothing else. Once is enough: user code gets its time to clean up.
        """
        if self._code is not None:
            self._code.unwanted()
            return
        if self._stopped:
            return
        if self._wanted is None:
            self._wanted = dict.fromkeys((each.attempt for each in self._held), 0)
            for each in self._held:
                self._wanted[each.attempt] += each.last - each.first + 1
            self._unwanted.clear()
        if attempt not in self._wanted:
            return
        if numbers is not None:
            known = self._unwanted.setdefault(attempt, set())
            before = len(known)
            known.update(numbers)
            self._wanted[attempt] -= len(known) - before
        if numbers is None or not self._wanted[attempt]:
            del self._wanted[attempt]
        if not self._wanted:
            self._stop(asyncio.get_running_loop().time())

    def _stop(self, now: float) -> None:
        self._stopped, self._stopped_at = True, now
        if self._task is not None:
            self._task.cancel()


class Handler(Protocol):
    """Answers inputs. One serves all streams of an event loop."""

    async def handle(self, call: Call, parts: Sequence[Part]) -> None:
        """Answer these inputs in their sessions, one way or another, or put them back."""
        ...


def _never() -> float:
    return math.inf


def abandon(held: Sequence[Held] | Sequence[Part], text: str) -> None:
    """Answer inputs without the code that computes them and does not end.

    Of several it cannot be said which one it is that keeps it, so that their attempts end.
    """
    awaited = [
        (attempt, number)
        for attempt, numbers in _numbered(held)
        for number in numbers
        if attempt.session.outbox.awaits(number)
    ]
    if len(awaited) > 1:
        text = f"inputs that were computed together do not end: {text}"
        for attempt in dict.fromkeys(attempt for attempt, _ in awaited):
            attempt.give_up(StreamErrorKind.INTERNAL, text)
    for attempt, number in awaited:
        attempt.session.outbox.fail(number, ItemErrorKind.TIMEOUT, text)


def fail(parts: Sequence[Part], kind: ItemErrorKind, text: str) -> None:
    """Fail those of these inputs that have no answer yet."""
    for attempt, numbers in _numbered(parts):
        for number in numbers:
            attempt.session.outbox.fail(number, kind, text)


def _numbered(parts: Sequence[Held] | Sequence[Part]) -> list[tuple[Attempt, range]]:
    return [
        (part.attempt, range(part.first, part.last + 1))
        if isinstance(part, Held)
        else (part.attempt, range(part.run.first, part.run.last + 1))
        for part in parts
    ]
