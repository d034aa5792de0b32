"""What users of a running stream do to its session: inputs go in, outputs come out, here.

Invariant: pushing wakes the writer, taking offers the room again, and answering tells the consumer,
each in the same call; so none of these can be forgotten. What is done between two attempts wakes
nobody. What only looks may look at the session.

Longer than other files: all doors to a session are here, each of a few lines, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from servestream_client.cursor import CursorState
from servestream_client.errors import ItemErrorKind
from servestream_client.events import LaneStatistics
from servestream_client.protocol import continuation
from servestream_client.protocol.client import ClientSession, Delivery, LaneShare, Part, Partial
from servestream_client.protocol.frames import Credit, ItemFailure, OutputRun
from servestream_client.session.outcome import AttemptFailed

__all__ = ["BreakObserver", "Inlet", "LanesBeside", "Outlet", "Quarantine", "Sharing", "Wakes"]

_RUN = 1024


class Wakes(Protocol):
    """A stream that is told what was done to its session."""

    finished: bool

    def wake_writer(self) -> None:
        """There may be something to send."""
        ...

    async def flush(self) -> None:
        """The same; it is sent in the calling task, if nobody else is sending."""
        ...

    def notify(self) -> None:
        """There may be something to take, or the end."""
        ...

    def capacity_changed(self) -> None:
        """There may be room for inputs, and credit to give."""
        ...


class BreakObserver(Protocol):
    """Stands by a stream whose attempts break."""

    @property
    def attempts(self) -> int:
        """How many calls it made for the stream."""
        ...

    @property
    def stalled(self) -> bool:
        """Whether it waits for the consumer to take something."""
        ...

    def on_attempt_failed(self, failed: AttemptFailed) -> None:
        """Called between two attempts, when the first is over and before it is known whether there
        will be a second.
        """
        ...

    def capacity_changed(self) -> None:
        """The consumer took something."""
        ...

    def cancelled(self, number: int) -> None:
        """Nobody wants the outputs of this input any more."""
        ...

    def end(self) -> None:
        """The stream's outcome is settled."""
        ...

    async def aclose(self) -> None:
        """Wait until nothing is left."""
        ...


class LanesBeside(Protocol):
    """Lanes that stand by a stream, and carry what it does not send itself."""

    active: bool
    """Whether to look at each change; else at each frame that comes is soon enough."""

    @property
    def attempts(self) -> int:
        """How many calls were made for them."""
        ...

    @property
    def hedged(self) -> int:
        """How many inputs went to a second server, since the first was late by far."""
        ...

    def statistics(self) -> Sequence[LaneStatistics]:
        """Of the stream's own attempts, and of each lane."""
        ...

    def look(self) -> None:
        """Something has changed."""
        ...

    def end(self) -> None:
        """The stream's outcome is settled."""
        ...

    async def aclose(self) -> None:
        """Wait until nothing is left."""
        ...


class Inlet:
    """Where a stream's inputs go in."""

    __slots__ = ("_ledger", "_session", "_stream")

    def __init__(self, session: ClientSession, stream: Wakes) -> None:
        self._session = session
        self._ledger = session.ledger
        self._stream = stream

    @property
    def has_place(self) -> bool:
        """See `Ledger`."""
        return self._roomy(self._ledger.has_place)

    @property
    def room(self) -> tuple[int, int]:
        """See `Ledger`."""
        return self._ledger.room

    @property
    def window(self) -> int:
        """How many inputs there may be now; see `Ledger.open_window`."""
        return self._ledger.window_items

    def fits(self, size: int) -> bool:
        """See `Ledger`."""
        return self._roomy(self._ledger.fits(size))

    def _roomy(self, roomy: bool) -> bool:
        """Whether there is room. If not, a state of a stateful stream makes some."""
        if not roomy and self._ledger.fold is not None:
            self._stream.wake_writer()
        return roomy

    def keep_within(self, inputs: int) -> None:
        """See `Ledger.farthest`."""
        self._ledger.farthest = inputs

    def push(self, payload: bytes, item: object = None) -> int:
        """Accept the next input, and return its number. See `fits`."""
        number = self._session.push(payload, item)
        self._stream.wake_writer()
        return number

    def push_all(self, payloads: Sequence[bytes], items: Sequence[object], size: int) -> None:
        """Accept inputs, at least one, of so many bytes together. See `room`."""
        self._session.push_all(payloads, items, size)
        self._stream.wake_writer()

    def push_eagerly(
        self, payloads: Sequence[bytes], items: Sequence[object], size: int
    ) -> Awaitable[None] | None:
        """The same. What it returns is to be awaited, if anything: nothing else is under way, so
        somebody waits for this one, and it is sent in the calling task: a turn of the event loop
        sooner.
        """
        self._session.push_all(payloads, items, size)
        if self._ledger.unanswered == 1 and self._ledger.share != 0:  # or lanes carry all
            return self._stream.flush()
        self._stream.wake_writer()
        return None

    def push_failure(
        self,
        kind: ItemErrorKind,
        text: str,
        item: object,
        cause: BaseException | None,
        *,
        size: int,
    ) -> None:
        """Accept an input that cannot be sent; see `ClientSession.push_failure`."""
        self._session.push_failure(kind, text, item, cause, size=size)
        self._stream.notify()
        self._stream.wake_writer()

    def restore(self, number: int, payload: bytes) -> None:
        """See `StreamState.restore`."""
        self._session.restore(number, payload)
        self._stream.wake_writer()

    def may_push_at(self, number: int) -> bool:
        """See `ClientSession.may_push_at`."""
        return self._session.may_push_at(number)

    def push_at(self, number: int, payload: bytes) -> None:
        """Accept an input under a number of the caller's. See `may_push_at`."""
        self._session.push_at(number, payload)
        self._stream.wake_writer()

    def waits_behind(self, number: int) -> bool:
        """Whether an input cannot be sent before others are answered of which none has credit."""
        attempt = self._session.attempt
        if attempt is None or not attempt.in_flight.items:
            return False
        return number > attempt.in_flight.sent_through and attempt.may_leave

    def cancel(self, number: int) -> None:
        """Nobody wants the outputs of this input any more."""
        self._session.cancel(number)
        self._stream.wake_writer()

    def push_partial(self, payload: bytes, item: object, partial: Partial, held: Credit) -> int:
        """Accept an input that another stream has dropped in its middle; `held` are those of its
        outputs that its consumer has not acknowledged.
        """
        number = self._session.push_partial(payload, item, partial, held)
        self._stream.wake_writer()
        return number

    def drop(self, number: int) -> Partial | None:
        """Forget an input. Call it between two attempts: the next begins without the input.
        Returns what it takes to go on with it, if outputs came.
        """
        return self._session.drop(number)

    def finish(self) -> None:
        """No further inputs will come."""
        self._ledger.finish()
        self._stream.wake_writer()


class Outlet:
    """Where a stream's outputs come out."""

    __slots__ = ("_delivery", "_session", "_stream")

    def __init__(self, session: ClientSession, stream: Wakes) -> None:
        self._session = session
        self._delivery = session.delivery
        self._stream = stream

    def state_at(self, position: int) -> CursorState | None:
        return self._session.state_at(position)

    def forget_states(self, position: int) -> None:
        """No cursor will be before this position."""
        self._session.carried.advance(position)

    def next(self, limit: int) -> OutputRun | Part | Delivery | None:
        """What comes next; None while nothing is there.

        Returns:
            At most `limit` outputs, which count as held until they are given to `ack_consumed`; or
            what else there is, which is taken.
        """
        run = self._delivery.take_run(limit)
        if run is not None:
            return run
        part = self._delivery.take_part(limit)
        if part is not None:
            return part
        if (delivery := self._delivery.take()) is not None:
            self._stream.capacity_changed()
        return delivery

    def ack_consumed(self, outputs: OutputRun | Part) -> None:
        """The consumer has taken these outputs, of which there may be none, and goes on."""
        self.count(outputs)
        self._stream.capacity_changed()

    def count(self, outputs: OutputRun | Part) -> None:
        """The consumer has taken these outputs, but does not go on: what that gives room for waits
        for the next `ack_consumed`.
        """
        if not outputs.payloads:
            return
        if isinstance(outputs, Part):
            self._delivery.ack_part(outputs)
        else:
            self._delivery.ack_consumed(outputs)

    def ack_outputs(self, number: int, count: int, size: int) -> None:
        """The consumer of one input has taken so many of its outputs, of so many bytes, which
        `deliver` has handed on in parts.
        """
        self._delivery.ack_outputs(number, count, size)
        self._stream.capacity_changed()

    def forget_held(self, number: int) -> None:
        """The input goes on elsewhere, and what is held of it counts there."""
        held = self._delivery.held_of(number)
        self._delivery.ack_outputs(number, held.outputs, held.bytes)

    def deliver(
        self,
        on_delivery: Callable[[Delivery], None],
        on_run: Callable[[OutputRun], None] | None = None,
        on_part: Callable[[Part], None] | None = None,
    ) -> bool:
        """Take all there is, and hand it on.

        Args:
            on_delivery: takes what comes by itself.
            on_run: takes outputs at once; None: these, too, are handed on one by one.
            on_part: the same for those of an input that may have several; they count as held
                until they are given to `ack_outputs`.

        Returns:
            Whether there was anything.
        """
        queue, took = self._delivery, False
        while True:
            run = queue.take_run(_RUN) if on_run is not None else None
            if run is not None and on_run is not None:
                on_run(run)
                queue.ack_consumed(run)
            elif on_part is not None and (part := queue.take_part(_RUN)) is not None:
                on_part(part)
            else:
                delivery = queue.take()
                if delivery is None:
                    break
                on_delivery(delivery)
            took = True
        if took and not self._stream.finished:
            self._stream.capacity_changed()
        return took


class Quarantine:
    """Where inputs leave a stream to be answered on another one, and their answers come back."""

    __slots__ = ("_session", "_stream")

    def __init__(self, session: ClientSession, stream: Wakes) -> None:
        self._session = session
        self._stream = stream

    @property
    def allowed(self) -> bool:
        """Whether inputs can be answered on another stream, each by one answer."""
        return self._session.may_quarantine

    @property
    def allowed_in_part(self) -> bool:
        """Whether inputs of which there may be many outputs can go on on another stream."""
        welcome = self._session.welcome
        return welcome is not None and continuation.holds(welcome)

    @property
    def known_good(self) -> tuple[int, bytes] | None:
        """The control when suspects are isolated: an input that was answered; None: none was."""
        return self._session.ledger.known_good

    def enter(self, numbers: Iterable[int], *, in_part: bool = False) -> list[int]:
        """Have inputs answered elsewhere. Call it between two attempts: the next begins without
        them. Returns which of them it concerns.
        """
        return self._session.quarantine(numbers, in_part=in_part)

    def received(self, number: int) -> int:
        """How many outputs of an unanswered input came."""
        return self._session.ledger.next_index(number)

    def partial(self, number: int) -> Partial | None:
        """What it takes to go on with an input, if outputs of it came."""
        return self._session.ledger.partials.get(number)

    def held(self, number: int) -> Credit:
        """What came of an input that may have many outputs, and was not taken."""
        return self._session.delivery.held_of(number)

    def can_buffer(self, number: int, under_way: int) -> bool:
        """Whether an answer may come now, with so many others under way."""
        return self._session.delivery.can_buffer_isolated(number, under_way)

    @property
    def turn(self) -> int:
        """The input that the consumer waits for; 0 where answers come in any order."""
        return self._session.ledger.turn

    def tell(self, taken: Callable[[int, int, int], None]) -> None:
        """Have somebody told what the consumer takes of inputs with many outputs: of which, how
        many outputs, and how many bytes.
        """
        self._session.delivery.on_outside_taken.append(taken)

    def is_cancelled(self, number: int) -> bool:
        """Whether nobody wants the outputs of this input any more."""
        return self._session.ledger.is_cancelled(number)

    def payload(self, number: int) -> bytes:
        """Of an input; empty if it was cancelled."""
        return self._session.ledger.payload(number)

    def resolve(self, number: int, payload: bytes | None, failure: ItemFailure | None) -> None:
        """The only answer to an input: its output, or why there is none."""
        self._session.resolve_quarantined(number, payload, failure)
        self._tell()

    def resolve_part(self, part: Part) -> None:
        """Outputs of an input that may have many, in their order."""
        session = self._session
        if session.delivery.resolve_part(part):
            session.counters.isolated += part.last
            session.counters.outside += len(part.payloads)
        self._tell()

    def resolve_end(self, number: int, index: int) -> None:
        """So many outputs, and no further one, are the answer to an input."""
        session = self._session
        session.counters.isolated += session.delivery.resolve_end(number, index)
        self._tell()

    def _tell(self) -> None:
        self._stream.wake_writer()  # the stream's end may be due
        self._stream.notify()


class Sharing(LaneShare):
    """Where inputs leave a stream for its lanes, and their answers come back."""

    __slots__ = ("_stream",)

    def __init__(self, session: ClientSession, stream: Wakes) -> None:
        super().__init__(session)
        self._stream = stream

    def resolve(self, first: int, payloads: Sequence[bytes]) -> None:
        super().resolve(first, payloads)
        self._tell()

    def fail(self, number: int, failure: ItemFailure) -> None:
        super().fail(number, failure)
        self._tell()

    def resolve_part(self, part: Part) -> None:
        super().resolve_part(part)
        self._tell()

    def resolve_end(self, number: int, index: int) -> None:
        super().resolve_end(number, index)
        self._tell()

    def _tell(self) -> None:
        self._stream.wake_writer()  # the stream's end may be due
        self._stream.notify()
