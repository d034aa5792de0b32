"""The client's side of one stream: what must outlive every attempt, and the attempt under way.

A pure state machine. The driver around it moves inputs in (`push`, `finish`), outputs out
(`take`), and frames both ways (`next_frame`, `receive`); each of these returns at once. After any
of them, there may be more frames to send and more outputs to take.

Inputs and outputs are kept in runs, and a run of plain answers, which is nearly all there ever is,
is taken in as a whole; whatever else comes goes item by item through the same rules.

The rules implemented here are sections 4 to 11 of docs/protocol.md, seen from the client.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from servestream_client.config import FlowControl, Watchdog
from servestream_client.errors import (
    FrameLostError,
    ItemErrorKind,
    LocalProtocolError,
    RemoteProtocolError,
    printable,
)
from servestream_client.protocol import coming
from servestream_client.protocol.coming import Announcements
from servestream_client.protocol.credit import CreditGrant
from servestream_client.protocol.frames import (
    PROTOCOL_VERSION,
    STREAM_ID_BYTES,
    BlockedOn,
    ClientEnd,
    ClientFrame,
    CodecId,
    Coming,
    Credit,
    HandlerKind,
    Heartbeat,
    InputRun,
    ItemFailure,
    Limits,
    NumberRange,
    Open,
    Order,
    OutputPart,
    OutputRun,
    RefusalKind,
    Refused,
    Running,
    ServerEnd,
    ServerFrame,
    StreamErrorKind,
    StreamFailure,
    Welcome,
)
from servestream_client.protocol.numbers import NumberSet
from servestream_client.protocol.pacing import FRAME_TARGET_BYTES, Pacer
from servestream_client.protocol.pulse import Pulse
from servestream_client.protocol.replay import OrderedReplay, UnorderedReplay
from servestream_client.protocol.runs import Run, RunQueue
from servestream_client.protocol.states import (
    CLIENT,
    ClientEvent,
    ClientState,
    local_step,
    peer_step,
)

__all__ = ["UNKNOWN_BYTES", "ClientCounters", "ClientSession", "Delivery"]

UNKNOWN_BYTES = 64 * 1024
"""What an input counts for that failed before it had a size."""

OVERDUE_INTERVALS = 3
"""Of heartbeats, that a server gets beyond an input's time until it should have let go of it."""

STALLED_BEATS = 3
"""Heartbeats that show the same standstill until it is taken for one. What goes on meanwhile, an
acknowledgement for example, takes no longer than the half interval between two of them."""

MOVE_GRACE_MS = 3_600_000
"""What a server gets to answer what it has, when the client moves by itself: nothing presses."""

_NOBODYS_FAULT = frozenset(
    {StreamErrorKind.SILENCE, StreamErrorKind.SUPERSEDED, StreamErrorKind.OVERLOADED}
)
"""Why a server may give a stream up without anything being wrong with its inputs."""

_RANGE_BYTES = 24
"""What a range of numbers takes up in a frame, at the most."""

_FRAME_RANGES = FRAME_TARGET_BYTES // _RANGE_BYTES

_DEPENDENT = frozenset({HandlerKind.ONE_TO_MANY, HandlerKind.STATEFUL})

_OVER = frozenset({ClientState.ENDED, ClientState.LEFT, ClientState.REFUSED, ClientState.FAILED})


@dataclass(frozen=True, slots=True)
class Delivery:
    """One thing for the consumer: an output, or the failure that stands in an input's place, or
    neither where an input's outputs end without a further one.

    Attributes:
        number: the input's number.
        index: which output of that input.
        payload: the output, if it is one.
        failure: why there is no output, if it failed.
        last: nothing further comes for this input.
        item: of a failed input, what `push` was given with it; None if it was cancelled.
        cause: of an input that failed on this side, the exception.
        size: of a failed input, the bytes that it counts for until this is taken.
    """

    number: int
    index: int
    payload: bytes | None
    failure: ItemFailure | None
    last: bool
    item: object = None
    cause: BaseException | None = None
    size: int = 0


@dataclass(slots=True)
class ClientCounters:
    """What happened to a stream so far.

    Attributes:
        attempts: calls begun.
        welcomes: attempts that a server took.
        sent: inputs sent, each counted once.
        replayed: inputs sent again.
        received: outputs and item errors accepted.
        duplicates: outputs and item errors dropped because they were received before.
        stale: frames ignored because they belonged to an older attempt.
        isolated: inputs that were answered on another stream, or blamed there.
    """

    attempts: int = 0
    welcomes: int = 0
    sent: int = 0
    replayed: int = 0
    received: int = 0
    duplicates: int = 0
    stale: int = 0
    isolated: int = 0


@dataclass(slots=True)
class _Early:
    """The last answer to an input whose turn has not come, or that did not come from its server."""

    payload: bytes | None
    failure: ItemFailure | None
    cause: BaseException | None
    sent: bool


class _Ready:
    """Single outputs of consecutive inputs; what was taken is kept no longer."""

    __slots__ = ("_own", "first", "payloads")

    def __init__(self, first: int, payloads: Sequence[bytes]) -> None:
        self.first = first
        self.payloads = payloads
        self._own: list[bytes] | None = None  # the same, once some were taken

    def take(self, limit: int) -> OutputRun:
        """The next outputs, as many as `limit`, which is less than there are."""
        taken = OutputRun(self.first, self.payloads[:limit])
        if self._own is None:  # a frame is not ours to change
            self.payloads = self._own = list(self.payloads[limit:])
        else:
            del self._own[:limit]
        self.first += limit
        return taken


class _Attempt:
    """What belongs to one call and dies with it."""

    __slots__ = (
        "announcements",
        "awaited",
        "cancelled",
        "crowded",
        "cursor",
        "deadline_ms",
        "end_sent",
        "free_ticks",
        "grant",
        "in_flight_bytes",
        "in_flight_items",
        "inputs_sent",
        "limits",
        "number",
        "open_sent",
        "pacer",
        "progressed",
        "pulse",
        "running",
        "sent_through",
        "standstill",
        "stood",
        "stood_at",
        "unsent",
    )

    def __init__(
        self, number: int, limits: Limits | None, budget: Credit, pacing: int, deadline_ms: int
    ) -> None:
        self.number = number
        self.limits = limits
        self.pacer = Pacer(limits.unacknowledged_frames if limits else pacing)
        self.pulse = Pulse()
        self.announcements = Announcements()
        self.awaited: Coming | None = None  # what the server said of its next frame
        self.crowded = False  # the server is to hear of other calls' bytes
        self.running: Running | None = None
        self.grant = CreditGrant(budget)
        self.deadline_ms = deadline_ms
        self.unsent = RunQueue()
        self.sent_through = 0  # inputs go out in ascending order
        self.cursor = 0  # if ordered: no answer below this number is missing on this attempt
        self.cancelled: deque[NumberRange] = deque()  # which the server is to hear of
        self.in_flight_items = 0
        self.in_flight_bytes = 0
        self.inputs_sent = 0
        self.open_sent = False
        self.end_sent = False
        self.progressed = False
        self.standstill: Heartbeat | None = None  # the last one without work at the server
        self.stood = 0  # how many heartbeats in a row were the same
        self.stood_at = 0  # the tick of the last of them
        self.free_ticks = 0  # in which something could reach the server

    def stalls(self, beat: Heartbeat, running: Running) -> int:
        """How often in a row the server said that it stands here, with all inputs begun and none
        under way. What it says between two ticks is said once: heartbeats that waited behind other
        bytes come together, before it could have heard of these.
        """
        idle = (
            running.blocked_on is BlockedOn.NOTHING
            and not running.count
            and running.started_through >= self.sent_through
        )
        if not idle or beat != self.standstill:
            self.stood = int(idle)
            self.stood_at = self.free_ticks
        elif self.free_ticks > self.stood_at:
            self.stood += 1
            self.stood_at = self.free_ticks
        self.standstill = beat if idle else None
        return self.stood


class ClientSession:
    """One stream at its client.

    Args:
        stream_id: 16 random bytes.
        codec: what both ends must agree on.
        flow: how much may be under way.
        application: the wanted application; empty: any.
        ordered: whether outputs come in input order.
        parameters: for the handler, as they are.
        isolated: its inputs are suspected of breaking servers.
        watchdog: how long silence and single inputs may last; None: for ever.
    """

    def __init__(
        self,
        *,
        stream_id: bytes,
        codec: CodecId,
        flow: FlowControl,
        application: str = "",
        ordered: bool = True,
        parameters: Mapping[str, str] | None = None,
        isolated: bool = False,
        watchdog: Watchdog | None = None,
    ) -> None:
        if len(stream_id) != STREAM_ID_BYTES:
            raise LocalProtocolError(f"a stream id has {STREAM_ID_BYTES} bytes")
        self.stream_id = stream_id
        self.watchdog: Watchdog = watchdog or Watchdog(heartbeat_interval=None, item_timeout=None)
        self.counters: ClientCounters = ClientCounters()
        self.state: ClientState = ClientState.IDLE
        self.welcome: Welcome | None = None
        """The last welcome of this stream."""
        self.refusal: Refused | None = None
        """In state REFUSED: by whom and why."""
        self.failure: StreamFailure | None = None
        """In state FAILED: why."""
        self.failed: list[ItemFailure] = []
        """Inputs that failed since somebody last emptied this list, each as soon as it is known,
        though it may be delivered later.
        """

        self.grace_ms: int | None = None
        """Once the server said that it is leaving: how long it still serves what was sent."""

        self.application: str = application
        """The wanted one; empty: any."""
        self.ordered: bool = ordered
        """Whether outputs come in input order."""

        self._codec = codec
        self._flow = flow
        self._parameters = dict(parameters or {})
        self._isolated = isolated
        self._heartbeat_ms = _milliseconds(self.watchdog.heartbeat_interval)
        self._item_timeout_ms = _milliseconds(self.watchdog.item_timeout)
        self._budget = Credit(flow.output_items, flow.output_bytes)

        self._attempt: _Attempt | None = None
        self._replay: OrderedReplay | UnorderedReplay = (
            OrderedReplay() if ordered else UnorderedReplay()
        )
        # Of the unanswered inputs, the ones with something special about them:
        self._next_index: dict[int, int] = {}  # partly received: the next output's index
        self._cancelled: set[int] = set()
        self._stripped: dict[int, int] = {}  # cancelled: the size that its payload had
        self._charges: dict[int, int] = {}  # never sendable: what it counts for
        self._early: dict[int, _Early] = {}  # answered, and not yet delivered
        self._aside: set[int] = set()  # tried on another stream

        self._last_number = 0
        self._sent_through = 0  # on any attempt
        self._finished = False
        self._places = 0  # inputs whose last output the consumer has not taken
        self._ready: deque[Delivery | _Ready] = deque()
        self._held_outputs = 0
        self._held_early = 0  # of these, before whose turn others come
        self._held_bytes = 0
        self._failed_bytes = 0  # what failed inputs count for, until they are taken
        self._taken = NumberSet()
        self.control: tuple[int, bytes] | None = None
        """The first input that a server answered: one that breaks none of sound mind."""

    @property
    def _in_order(self) -> bool:
        return isinstance(self._replay, OrderedReplay)

    # ---------------------------------------------------------------- inputs

    @property
    def has_place(self) -> bool:
        """Whether the user's iterator may be pulled for one more input (docs section 6)."""
        return self._places < self._flow.window_items and self._kept < self._flow.window_bytes

    @property
    def _kept(self) -> int:
        """What counts against the window in bytes: payloads that may have to be sent again, and
        the inputs that failed, until the consumer has taken that.
        """
        return self._replay.size + self._failed_bytes

    @property
    def room(self) -> tuple[int, int]:
        """How many inputs, and of how many bytes together, may be pushed now. See `fits`."""
        return (
            self._flow.window_items - self._places,
            self._flow.window_bytes - self._kept,
        )

    def fits(self, size: int) -> bool:
        """Whether an input of `size` bytes may be pushed now; one is allowed whatever its size."""
        kept = self._replay.size + self._failed_bytes  # `_kept`, which is asked for each item
        return self._places < self._flow.window_items and (
            kept + size <= self._flow.window_bytes or not (self._replay or self._failed_bytes)
        )

    def push(self, payload: bytes, item: object = None) -> int:
        """Accept the next input and return its number. Call `fits` first.

        Args:
            payload: as the codec made it; at most `FlowControl.max_item_bytes`.
            item: handed back with a failure of this input.
        """
        return self.push_all((payload,), (item,), len(payload))

    def push_all(self, payloads: Sequence[bytes], items: Sequence[object], size: int) -> int:
        """Accept inputs, at least one, and return the first one's number. See `room`.

        Args:
            payloads: as the codec made them; each at most `FlowControl.max_item_bytes`.
            items: as many, handed back with a failure of their input.
            size: of the payloads together.
        """
        first = self._append(payloads, items, size)
        if self._attempt is not None:
            self._attempt.unsent.append(Run(first, payloads, size))
        return first

    def push_at(self, number: int, payload: bytes) -> None:
        """The same under a number of the caller's, see `may_push_at`. Only for a stream that is
        not ordered.
        """
        if self._in_order or not self.may_push_at(number):
            raise LocalProtocolError("numbers ascend, and leave no gaps where they are ordered")
        last, self._last_number = self._last_number, number - 1
        self.push(payload)
        self._last_number = max(last, number)

    def may_push_at(self, number: int) -> bool:
        """Whether an input may have this number: they ascend during an attempt."""
        attempt = self._attempt
        if number in self._replay or attempt is None:
            return number not in self._replay
        return number > max(attempt.sent_through, attempt.unsent.last)

    def push_failure(
        self,
        kind: ItemErrorKind,
        text: str,
        item: object = None,
        cause: BaseException | None = None,
        *,
        size: int = UNKNOWN_BYTES,
    ) -> int:
        """Accept an input that cannot be sent: its failure is delivered in its place. Call `fits`
        first, with `size`: the bytes that it counts for until then.
        """
        number = self._append((b"",), (item,), 0)
        self._charges[number] = size
        self._failed_bytes += size
        self._fail_here(number, kind, text, cause)
        return number

    def finish(self) -> None:
        """No further inputs will come."""
        self._finished = True

    def cancel(self, number: int) -> None:
        """Nobody wants the outputs of this input any more. It still gets one answer, but its
        payload and item are let go at once: no attempt will carry it.
        """
        if number not in self._replay or number in self._cancelled or number in self._early:
            return
        self._cancelled.add(number)
        self._stripped[number] = self._replay.strip(number)
        if number in self._aside:
            return  # whoever tries it gives the answer
        attempt = self._attempt
        if attempt is not None and number <= attempt.sent_through:
            _append_number(attempt.cancelled, number)
        else:
            if attempt is not None:
                attempt.unsent.remove(number)
            self._fail_here(number, ItemErrorKind.CANCELLED, "cancelled before it was sent")

    @property
    def may_set_aside(self) -> bool:
        """Whether inputs can be answered on another stream: each by itself, with one output."""
        return self.welcome is not None and self.welcome.handler_kind not in _DEPENDENT

    def set_aside(self, numbers: Iterable[int]) -> list[int]:
        """Between two attempts: have these inputs answered elsewhere. They go on no further
        attempt, and `settle` gives their answers.

        Returns:
            Which of them it concerns: those that lack an answer, and of which nothing came yet.
        """
        if self._attempt is not None:
            raise LocalProtocolError("inputs are set aside between attempts")
        aside = [
            number
            for number in numbers
            if number in self._replay
            and not self._elsewhere(number)
            and number not in self._next_index
        ]
        self._aside.update(aside)
        return aside

    def spares(self, number: int, under_way: int) -> bool:
        """Whether an answer to this input, which was set aside, may come now, with so many others
        under way: within the output budget, or alone where the consumer waits for it.
        """
        if self._held_outputs + under_way < self._budget.outputs and (
            self._held_bytes < self._budget.bytes
        ):
            return True
        turn = self._replay.head if isinstance(self._replay, OrderedReplay) else 0
        waited_for = number == turn and self._held_early == self._held_outputs
        return waited_for and not under_way

    def settle(self, number: int, payload: bytes | None, failure: ItemFailure | None) -> None:
        """The only answer to an input that was set aside: its output, or why there is none."""
        if number not in self._aside:
            return
        self._aside.discard(number)
        self.counters.isolated += 1
        if payload is not None:
            self._held_outputs += 1
            self._held_bytes += len(payload)
        if failure is not None:
            failure = replace(failure, number=number)
        self._settle(number, _Early(payload, failure, None, sent=True))

    def withdraw(self, number: int) -> None:
        """Between two attempts: forget an input, of which nothing will be delivered. Its caller
        has it answered in another way. Only for a stream that is not ordered.
        """
        if self._attempt is not None or self._in_order:
            raise LocalProtocolError(
                "inputs are withdrawn between attempts, from unordered streams"
            )
        self._remove(number)
        self._places -= 1
        self._taken.add(number)

    def is_cancelled(self, number: int) -> bool:
        """Whether nobody wants the outputs of this input any more."""
        return number in self._cancelled

    def payload(self, number: int) -> bytes:
        """Of an unanswered input; empty if it was cancelled."""
        return self._replay.payload(number)

    def _size(self, number: int) -> int:
        """Of an unanswered input's payload, as it was sent."""
        stripped = self._stripped.get(number)
        return len(self._replay.payload(number)) if stripped is None else stripped

    def _append(self, payloads: Sequence[bytes], items: Sequence[object], size: int) -> int:
        if self._finished:
            raise LocalProtocolError("input after finish()")
        first = self._last_number + 1
        self._last_number += len(payloads)
        self._places += len(payloads)
        self._replay.append(first, payloads, items, size)
        return first

    # ---------------------------------------------------------------- what is known

    @property
    def accepted(self) -> int:
        """How many inputs were pushed."""
        return self._last_number

    @property
    def unanswered(self) -> int:
        """How many inputs still lack their last output."""
        return len(self._replay)

    @property
    def unsent(self) -> int:
        """How many unanswered inputs were never sent."""
        waiting = sum(
            number > self._sent_through and number not in self._early for number, _ in self._replay
        )
        return waiting + sum(not early.sent for early in self._early.values())

    @property
    def sent_through(self) -> int:
        """Every input up to this one was sent at least once, or failed on this side."""
        return self._sent_through

    @property
    def suspects(self) -> Sequence[int]:
        """What the present attempt's server has got, as far as it was sent, and not answered; or
        of that the one that does not end.
        """
        attempt = self._attempt
        if attempt is None:
            return ()
        if self.overdue:
            return (self.overdue,)
        return [
            number
            for number, _ in self._replay
            if number <= attempt.sent_through and not self._elsewhere(number)
        ]

    @property
    def taken_through(self) -> int:
        """Every input up to this one is answered, and its outputs were taken."""
        return self._taken.through

    @property
    def complete(self) -> bool:
        """Every input there will ever be is answered. Outputs may still wait to be taken."""
        return self._finished and not self._replay

    @property
    def ready(self) -> bool:
        """Whether `take` may have something."""
        return bool(self._ready)

    @property
    def idle(self) -> bool:
        """Whether the server, having welcomed the present attempt, owes nothing that it may send:
        no input is unanswered, or the consumer does not take what there is.
        """
        attempt = self._attempt
        return (
            attempt is not None
            and self.state is ClientState.STREAMING
            and (attempt.in_flight_items == 0 or self._held_outputs >= self._budget.outputs)
        )

    @property
    def progressed(self) -> bool:
        """Whether the present attempt brought anything new."""
        return self._attempt is not None and self._attempt.progressed

    @property
    def silent(self) -> bool:
        """Whether the present attempt's server was not heard for too long (docs section 12)."""
        return self._attempt is not None and self._attempt.pulse.dead

    @property
    def awaited(self) -> Coming | None:
        """What the present attempt's server has announced, until it comes (docs section 12)."""
        return self._attempt.awaited if self._attempt is not None else None

    @property
    def large_under_way(self) -> int:
        """Bytes of announced frames, and of inputs with the open, that the server has not
        acknowledged.
        """
        attempt = self._attempt
        if attempt is None:
            return 0
        if self.state is ClientState.OPENING:
            return sum(attempt.pacer.sizes)
        return sum(size for size in attempt.pacer.sizes if attempt.announcements.large(size))

    @property
    def overdue(self) -> int:
        """The input on which the server, by its own word, works for longer than it may without
        letting go of it; 0: there is none.
        """
        attempt = self._attempt
        if attempt is None or attempt.running is None or not self._item_timeout_ms:
            return 0
        number, age = attempt.running.oldest_number, attempt.running.oldest_age_ms
        if age <= self._item_timeout_ms + OVERDUE_INTERVALS * self._heartbeat_ms:
            return 0
        carried = number in self._replay and number <= attempt.sent_through
        return number if carried and not self._elsewhere(number) else 0

    @property
    def blamed(self) -> bool:
        """Whether an end of the present attempt, as it stands, speaks against what it carries."""
        failure = self.failure
        return self.grace_ms is None and (failure is None or failure.kind not in _NOBODYS_FAULT)

    @property
    def superseded(self) -> bool:
        """Whether the server has a higher attempt of this stream than the present one."""
        failure = self.failure
        return failure is not None and failure.kind is StreamErrorKind.SUPERSEDED

    @property
    def over(self) -> bool:
        """The attempt has said all: half-close the call and read it to its end."""
        return self.state in _OVER

    # ---------------------------------------------------------------- attempts

    def begin(self, *, known: Limits | None = None, deadline_ms: int = 0) -> int:
        """Start the next attempt and return its number.

        Everything unanswered goes again, under its old numbers.

        Args:
            known: the limits that this target set when it welcomed this client before; with them
                the open frame may carry inputs at once.
            deadline_ms: what is left until the stream's deadline; 0: it has none.
        """
        self.state = local_step(CLIENT, self.state, ClientEvent.BEGIN)
        self.refusal = self.failure = self.grace_ms = None
        self.counters.attempts += 1
        attempt = _Attempt(
            self.counters.attempts,
            known,
            self._budget,
            self._flow.max_unacknowledged_frames,
            deadline_ms,
        )
        for number in sorted(self._cancelled - self._early.keys() - self._aside):
            self._fail_here(number, ItemErrorKind.CANCELLED, "cancelled")
        for number, payload in self._replay:
            if not self._elsewhere(number):
                start_index = self._next_index.get(number, 0)
                attempt.unsent.append(Run(number, (payload,), len(payload), start_index))
        self._attempt = attempt
        return attempt.number

    def lost(self, attempt: int) -> None:
        """The call of this attempt is over, or abandoned. What it did not answer goes again."""
        if self._attempt is not None and self._attempt.number == attempt:
            self.state = local_step(CLIENT, self.state, ClientEvent.LOST)
            self._attempt = None

    # ---------------------------------------------------------------- time

    def tick(self, beside: int = 0, *, free: bool = True) -> None:
        """Half of the heartbeat interval has passed, or more: look at `silent`, and at
        `next_frame`.

        Args:
            beside: bytes that come for other calls, ahead of what comes for this one.
            free: no large frame of another call goes, ahead of what goes for this one.
        """
        attempt = self._attempt
        if attempt is not None:
            attempt.free_ticks += free
            attempt.pulse.tick(beside + (attempt.awaited.bytes if attempt.awaited else 0))

    def move(self) -> bool:
        """Take leave of the present attempt's server in good order, as after a drain; False where
        the attempt is at its end, or has not begun.
        """
        attempt = self._attempt
        if attempt is None or self.state is not ClientState.STREAMING or attempt.end_sent:
            return False
        self.state = local_step(CLIENT, self.state, ClientEvent.MOVE)
        self.grace_ms = MOVE_GRACE_MS
        if not attempt.in_flight_items:
            self.state = local_step(CLIENT, self.state, ClientEvent.LEAVE)
        return True

    # ---------------------------------------------------------------- frames out

    @property
    def may_speak(self) -> bool:
        """Whether it is worth while to ask for the `next_frame`, or the attempt is `over`."""
        attempt = self._attempt
        if attempt is None or self.over:
            return True
        if self.state is ClientState.OPENING:
            return not attempt.open_sent
        if self.state is ClientState.STREAMING and attempt.limits is not None:
            if self._may_send(attempt, attempt.limits):
                return True
            if self._finished and not self._aside and self._all_sent(attempt):
                return True
        return self._notices_due(attempt)

    def _notices_due(self, attempt: _Attempt) -> bool:
        """Whether there is something to say besides inputs and the end."""
        return (
            bool(attempt.cancelled)
            or attempt.pulse.due
            or attempt.crowded
            or attempt.pacer.acknowledgement_due
            or attempt.grant.due(self._held, drip=self._drips)
        )

    @property
    def large(self) -> int:
        """The bytes of the frame that goes next, if it must be announced and is not yet; else 0."""
        attempt = self._attempt
        if attempt is None or attempt.unsent.frame_bytes <= attempt.announcements.covered:
            return 0  # which is nearly always so
        if self.state is not ClientState.STREAMING or attempt.limits is None:
            return 0
        size = attempt.unsent.frame_bytes
        head, limits = attempt.unsent.head, attempt.limits
        room = min(FRAME_TARGET_BYTES, limits.frame_bytes)
        size = max(min(size, room), len(head.payloads[0]))
        goes = self._may_send(attempt, limits) and self._fitting(attempt, limits, head, room, 0)
        return size if goes and attempt.announcements.lacks(size) else 0

    def crowd(self) -> None:
        """Other calls' bytes are about to go ahead of what goes next: the server is to know."""
        if self._attempt is not None:
            self._attempt.crowded = True

    def next_frame(
        self, *, hold: bool = False, beside: int = 0, alone: bool = True
    ) -> ClientFrame | None:
        """The next frame to send, or None while there is nothing to say.

        Whoever takes a frame must send it: it counts as sent.

        Args:
            hold: a `large` frame is not to go yet.
            beside: bytes on the connection that may go ahead of what follows this frame.
            alone: no other call is to be asked before a large frame goes.
        """
        attempt = self._attempt
        if attempt is None or self.over:
            return None
        if self.state is ClientState.OPENING:
            return None if attempt.open_sent else self._open_frame(attempt, beside)
        large = self.large
        streaming = self.state is ClientState.STREAMING and not large
        inputs = self._gather(attempt) if streaming else ()
        end = self._end_to_send(attempt) if self._finished else None
        if not (inputs or end or self._notices_due(attempt) or (large and not hold)):
            return None
        if hold or not (large or alone):
            announced = self._announce_others(attempt, beside)
        else:
            announced = self._announce(attempt, beside)
        cancelled = self._cancelled_to_send(attempt) if attempt.cancelled else ()
        beat = None
        if attempt.pulse.due:
            beat = Heartbeat(attempt.sent_through, attempt.grant.received_outputs)
        attempt.pulse.spoke()
        return ClientFrame(
            inputs=inputs,
            frames_read=attempt.pacer.report(),
            credit=attempt.grant.grant(self._held),
            cancelled=cancelled,
            taken_through=self._taken.through,
            end=end,
            heartbeat=beat,
            coming=announced,
        )

    def _announce(self, attempt: _Attempt, beside: int) -> Coming | None:
        """What the frame now made says of what comes after it."""
        attempt.announcements.sent()
        large = self.large
        if not large:
            return self._announce_others(attempt, beside)
        attempt.crowded = False
        number = attempt.unsent.head.first
        return attempt.announcements.announce(large, number, beside=beside, urgent=beside > 0)

    def _announce_others(self, attempt: _Attempt, beside: int) -> Coming | None:
        """The same where no large frame of this call's comes next."""
        attempt.announcements.sent()
        attempt.crowded = False
        return Coming(beside) if beside and self.announces else None

    @property
    def announces(self) -> bool:
        """Whether the server understands announcements."""
        return self.welcome is not None and coming.FEATURE in self.welcome.features

    def _cancelled_to_send(self, attempt: _Attempt) -> list[NumberRange]:
        """What one frame says of inputs that were cancelled; more than fits goes in the next."""
        most = _FRAME_RANGES
        if attempt.limits is not None:
            room = attempt.limits.frame_bytes // _RANGE_BYTES
            most = max(1, min(most, room, attempt.limits.window_items))
        waiting = attempt.cancelled
        return _joined([waiting.popleft() for _ in range(min(most, len(waiting)))])

    def _offer(self) -> Limits:
        flow = self._flow
        return Limits(
            window_items=flow.window_items,
            window_bytes=flow.window_bytes,
            unacknowledged_frames=flow.max_unacknowledged_frames,
            frame_bytes=flow.max_frame_bytes,
            item_bytes=flow.max_item_bytes,
        )

    def _open_frame(self, attempt: _Attempt, beside: int) -> ClientFrame:
        attempt.open_sent = True
        frame_open = Open(
            stream_id=self.stream_id,
            attempt=attempt.number,
            features=(coming.FEATURE,),
            codec=self._codec,
            application=self.application,
            order=Order.INPUT if self._in_order else Order.ANY,
            first_number=attempt.unsent.head.first if attempt.unsent else self._last_number + 1,
            limits=self._offer(),
            isolated=self._isolated,
            heartbeat_interval_ms=self._heartbeat_ms,
            deadline_ms=attempt.deadline_ms,
            parameters=self._parameters,
            item_timeout_ms=self._item_timeout_ms,
        )
        return ClientFrame(
            open=frame_open,
            inputs=self._gather(attempt),
            credit=attempt.grant.grant(self._held),
            taken_through=self._taken.through,
            coming=Coming(beside) if beside else None,
        )

    def _gather(self, attempt: _Attempt) -> tuple[InputRun, ...]:
        """Inputs for one frame: all that wait and fit (docs sections 5, 6 and 8)."""
        if attempt.limits is None or not self._may_send(attempt, attempt.limits):
            return ()
        before = attempt.in_flight_bytes
        runs = self._runs(attempt, attempt.limits)
        if runs:
            attempt.pacer.sent(attempt.in_flight_bytes - before)
        return runs

    def _may_send(self, attempt: _Attempt, limits: Limits) -> bool:
        waiting = attempt.unsent.frame_bytes
        return waiting > 0 and attempt.pacer.may_send(
            full=waiting >= min(FRAME_TARGET_BYTES, limits.frame_bytes)
        )

    def _runs(self, attempt: _Attempt, limits: Limits) -> tuple[InputRun, ...]:
        frame_room = min(FRAME_TARGET_BYTES, limits.frame_bytes)
        opening = self.state is ClientState.OPENING
        if opening:
            frame_room = min(frame_room, coming.unannounced(self._heartbeat_ms))
        used, runs = 0, list[InputRun]()
        while attempt.unsent:
            head = attempt.unsent.head
            if opening and (
                head.start_index
                or head.size > limits.item_bytes
                or len(head.payloads[0]) > frame_room
            ):
                break  # what was known of an earlier server may not hold, and an open is urgent
            if head.size > limits.item_bytes and self._fail_too_large(attempt, head, limits):
                continue
            count = self._fitting(attempt, limits, head, frame_room, used)
            if not count:
                break
            run = attempt.unsent.take(count)
            used += run.frame_bytes
            self._note_sent(attempt, run)
            runs.append(InputRun(run.first, run.payloads, run.start_index))
        return tuple(runs)

    def _fail_too_large(self, attempt: _Attempt, run: Run, limits: Limits) -> bool:
        """Fail those inputs of a run that the server does not accept; False if there are none."""
        payloads = enumerate(run.payloads, run.first)
        large = [(number, size) for number, p in payloads if (size := len(p)) > limits.item_bytes]
        attempt.unsent.remove_each([number for number, _ in large])
        for number, size in large:
            self._fail_here(
                number,
                ItemErrorKind.INPUT_TOO_LARGE,
                f"{size} bytes encoded, and the server accepts {limits.item_bytes}",
            )
        return bool(large)

    def _fitting(
        self, attempt: _Attempt, limits: Limits, run: Run, frame_room: int, used: int
    ) -> int:
        """How many of a run's inputs fit into the window and into the frame.

        One is always allowed when none is unanswered, and one goes alone into a frame.
        """
        items, size = attempt.in_flight_items, attempt.in_flight_bytes
        in_window = min(limits.window_items - items, run.within(limits.window_bytes - size))
        in_frame = run.within_frame(frame_room - used)
        return min(max(in_window, items == 0), max(in_frame, used == 0))

    def _note_sent(self, attempt: _Attempt, run: Run) -> None:
        count, last = len(run.payloads), run.last
        replayed = min(count, max(0, self._sent_through - run.first + 1))
        self.counters.replayed += replayed
        self.counters.sent += count - replayed
        self._sent_through = max(self._sent_through, last)
        attempt.sent_through = last
        attempt.in_flight_items += count
        attempt.in_flight_bytes += run.size
        attempt.inputs_sent += count

    def _end_to_send(self, attempt: _Attempt) -> ClientEnd | None:
        """Once no further inputs come: the end, behind the last of them."""
        if not self._aside and self._all_sent(attempt):
            attempt.end_sent = True
            return ClientEnd(self._last_number)
        return None

    def _all_sent(self, attempt: _Attempt) -> bool:
        return self.state is ClientState.STREAMING and not attempt.unsent and not attempt.end_sent

    # ---------------------------------------------------------------- frames in

    def receive(self, attempt: int, frame: ServerFrame) -> None:
        """Take in a frame that came on the call of `attempt`.

        Frames of an older attempt are ignored. Afterwards look at `over`, `take` and
        `next_frame`.

        Raises:
            RemoteProtocolError: the server broke the protocol. What it said up to there holds;
                abandon the attempt with `lost`.
        """
        current = self._attempt
        if current is None or current.number != attempt:
            self.counters.stale += 1
            return
        current.pulse.heard()
        if self.state in _OVER:
            self._receive_late(current, frame)
            return
        awaited = current.awaited
        current.awaited = frame.coming and coming.bounded(frame.coming, self._flow.max_frame_bytes)
        if self.state is ClientState.OPENING:
            self._receive_first(current, frame)
            if self.over:
                return
        elif frame.welcome is not None or frame.refused is not None:
            raise RemoteProtocolError("a second opening frame")
        current.pacer.acknowledge(frame.frames_read)
        if frame.paced:
            self._step(ClientEvent.ANSWER)
            current.pacer.read(urgent=awaited is not None and awaited.acknowledge)
            self._receive_answers(current, frame)
        current.running = frame.running or current.running
        if frame.heartbeat is not None:
            self._check_positions(current, frame.heartbeat, frame.running)
        self._receive_parting(current, frame)

    def _receive_late(self, attempt: _Attempt, frame: ServerFrame) -> None:
        """What comes after the last word is dropped, but for an end that crosses the client's
        leaving.
        """
        if self.state is ClientState.LEFT and frame.end is not None:
            self._check_end(attempt, frame.end)
            self._step(ClientEvent.END)

    def _receive_parting(self, attempt: _Attempt, frame: ServerFrame) -> None:
        if frame.drain is not None:
            self._step(ClientEvent.DRAIN)
            self.grace_ms = frame.drain.grace_ms
        if frame.error is not None:
            self.failure = frame.error
            self._step(ClientEvent.FAILURE)
        elif frame.end is not None:
            self._check_end(attempt, frame.end)
            self._step(ClientEvent.END)
        elif self.state is ClientState.DRAINING and attempt.in_flight_items == 0:
            self.state = local_step(CLIENT, self.state, ClientEvent.LEAVE)

    def _step(self, event: ClientEvent) -> None:
        self.state = peer_step(CLIENT, self.state, event)

    def _receive_first(self, attempt: _Attempt, frame: ServerFrame) -> None:
        if frame.refused is not None and (frame.welcome or frame.error):
            raise RemoteProtocolError("a first frame that both welcomes and turns away")
        if frame.welcome is not None:
            misfit = self._misfit(frame.welcome)
            if misfit is None:
                self._step(ClientEvent.WELCOME)
                self.welcome = frame.welcome
                self.counters.welcomes += 1
                self._interrupt(attempt)
                attempt.limits = frame.welcome.limits.within(self._offer())
                attempt.pacer.limit = attempt.limits.unacknowledged_frames
                if self.announces:
                    attempt.announcements.begin(self._heartbeat_ms)
                if self._heartbeat_ms:
                    attempt.pulse.begin(
                        own_ms=self._heartbeat_ms, peer_ms=frame.welcome.heartbeat_interval_ms
                    )
            else:
                self.refusal = misfit
                self._step(ClientEvent.REFUSAL)
        elif frame.refused is not None:
            self.refusal = frame.refused
            self._step(ClientEvent.REFUSAL)
        elif frame.error is not None:
            self.failure = frame.error
            self._step(ClientEvent.FAILURE)
        elif frame.heartbeat is not None:
            raise FrameLostError("a gap: a heartbeat came, and no welcome before it")
        else:
            raise RemoteProtocolError("the first frame neither welcomes nor refuses the stream")

    def _interrupt(self, attempt: _Attempt) -> None:
        """Fail the inputs that were cut in their middle, if who welcomed us cannot go on there.

        Two halves of different answers are never spliced (docs section 14).
        """
        if self.welcome is not None and self.welcome.restartable:
            return
        for number, index in sorted(self._next_index.items()):
            if number > attempt.sent_through and number not in self._early:
                attempt.unsent.remove(number)
                self._fail_here(
                    number,
                    ItemErrorKind.INTERRUPTED,
                    f"cut after {index} outputs, and its handler can neither start in the middle"
                    " nor repeat itself",
                )

    def _misfit(self, welcome: Welcome) -> Refused | None:
        """Why this client cannot be served by who welcomed it (docs section 4)."""
        if welcome.protocol_version != PROTOCOL_VERSION:
            return Refused(
                RefusalKind.VERSION,
                f"the server speaks version {welcome.protocol_version} of the protocol, this"
                f" client version {PROTOCOL_VERSION}",
            )
        if self.application and welcome.application not in ("", self.application):
            return Refused(
                RefusalKind.APPLICATION,
                f"application {printable(welcome.application, 200)!r} answered",
            )
        if welcome.handler_kind is HandlerKind.STATEFUL:
            return Refused(
                RefusalKind.VERSION, "the handler is stateful, which this client cannot resume"
            )
        if welcome.handler_kind is HandlerKind.UNSPECIFIED:
            return Refused(
                RefusalKind.VERSION,
                "the handler is of a kind that this client does not know, and could not resume;"
                " update the client",
            )
        return None

    def _receive_answers(self, attempt: _Attempt, frame: ServerFrame) -> None:
        if frame.tokens:
            raise RemoteProtocolError("a state token from a handler that is not stateful")
        answers: list[OutputRun | OutputPart | ItemFailure] = [
            *frame.outputs,
            *frame.parts,
            *frame.errors,
        ]
        attempt.grant.receive_all(_sizes(frame))
        if self._in_order and len(answers) > 1:
            answers.sort(key=_place)
        for answer in answers:
            if isinstance(answer, OutputRun):
                self._receive_run(attempt, answer)
            elif isinstance(answer, OutputPart):
                self._receive_part(attempt, answer)
            else:
                self._receive_failure(attempt, answer)

    def _receive_run(self, attempt: _Attempt, run: OutputRun) -> None:
        first, payloads = run.first_number, run.payloads
        size = sum(map(len, payloads))
        if size > self._flow.max_item_bytes or not self._all_new(attempt, first, len(payloads)):
            for number, payload in enumerate(payloads, first):
                self._receive_output(attempt, number, 0, payload, last=True)
            return
        self.counters.received += len(payloads)
        attempt.progressed = True
        self._held_outputs += len(payloads)
        self._held_bytes += size
        self._ready.append(_Ready(first, payloads))
        self._answered(attempt, first, len(payloads))

    def _all_new(self, attempt: _Attempt, first: int, count: int) -> bool:
        """Whether these single outputs are what `_answerable` and the order allow, all of them.

        False if that takes a closer look.
        """
        if (
            self._next_index
            or self._early
            or self._aside
            or first + count - 1 > attempt.sent_through
        ):
            return False
        return self._replay.may_answer(first, count)

    def _receive_part(self, attempt: _Attempt, part: OutputPart) -> None:
        if not part.payloads:
            if not part.last:
                raise RemoteProtocolError(f"an empty part for input {part.number}")
            if self._answerable(attempt, part.number, part.first_index):
                if not self._replay.may_answer(part.number):
                    raise RemoteProtocolError(f"no output for input {part.number}, before its turn")
                self._ready.append(Delivery(part.number, part.first_index, None, None, True))
                self._answered(attempt, part.number)
            return
        final = len(part.payloads) - 1
        for offset, payload in enumerate(part.payloads):
            self._receive_output(
                attempt,
                part.number,
                part.first_index + offset,
                payload,
                last=part.last and offset == final,
            )

    def _receive_output(
        self, attempt: _Attempt, number: int, index: int, payload: bytes, *, last: bool
    ) -> None:
        if len(payload) > self._flow.max_item_bytes:
            raise RemoteProtocolError(
                f"output {index} of input {number} has {len(payload)} bytes, and at most"
                f" {self._flow.max_item_bytes} were allowed"
            )
        if not self._answerable(attempt, number, index):
            return
        self._held_outputs += 1
        self._held_bytes += len(payload)
        if not self._replay.may_answer(number):
            self._answered_early(attempt, number, _Early(payload, None, None, sent=True), last=last)
            return
        self._ready.append(
            _Ready(number, (payload,))
            if last and index == 0
            else Delivery(number, index, payload, None, last)
        )
        if last:
            self._answered(attempt, number)
        else:
            self._next_index[number] = index + 1

    def _answered_early(self, attempt: _Attempt, number: int, early: _Early, *, last: bool) -> None:
        """An answer on a stream that is ordered, while others try an input before it."""
        if not last:
            raise RemoteProtocolError(f"several outputs for input {number}")
        attempt.in_flight_items -= 1
        attempt.in_flight_bytes -= self._size(number)
        self._settle(number, early)

    def _receive_failure(self, attempt: _Attempt, failure: ItemFailure) -> None:
        number = failure.number
        if not self._answerable(attempt, number, failure.index):
            return
        if not self._replay.may_answer(number):
            self._answered_early(attempt, number, _Early(None, failure, None, sent=True), last=True)
            return
        self.failed.append(failure)
        self._deliver_failure(number, failure)
        self._answered(attempt, number)

    def _deliver_failure(
        self, number: int, failure: ItemFailure, cause: BaseException | None = None
    ) -> None:
        item = self._replay.item(number)
        size = self._charges.pop(number, None)
        if size is None:
            size = len(self._replay.payload(number))
            self._failed_bytes += size
        self._ready.append(Delivery(number, failure.index, None, failure, True, item, cause, size))

    def _answerable(self, attempt: _Attempt, number: int, index: int) -> bool:
        """Whether an answer is new, or else a duplicate (docs section 6).

        Raises:
            RemoteProtocolError: there is no such input, or something before this answer is
                missing.
        """
        if number not in self._replay:
            if not 1 <= number <= self._last_number:
                raise RemoteProtocolError(f"an answer to input {number}, which was never sent")
            self.counters.duplicates += 1
            return False
        if number in self._early and self._early[number].sent:
            self.counters.duplicates += 1
            return False
        if number > attempt.sent_through or self._elsewhere(number):
            raise RemoteProtocolError(
                f"an answer to input {number}, which was not sent on this attempt"
            )
        next_index = self._next_index.get(number, 0)
        if index < next_index:
            self.counters.duplicates += 1
            return False
        if index > next_index:
            raise FrameLostError(
                f"a gap: output {index} of input {number} came before output {next_index}"
            )
        if self._in_order and number != self._turn(attempt):
            raise FrameLostError(
                f"a gap: an answer to input {number} came before one to an earlier input"
            )
        self.counters.received += 1
        attempt.progressed = True
        return True

    @property
    def _drips(self) -> bool:
        """Whether everything held waits for an input that the present attempt carries: without
        credit for that one, nothing would ever move.
        """
        return (
            0 < self._held_early == self._held_outputs
            and isinstance(self._replay, OrderedReplay)
            and not self._elsewhere(self._replay.head)
        )

    @property
    def _held(self) -> Credit:
        """What counts against the budget of outputs (docs section 7)."""
        if not self._drips:
            return Credit(self._held_outputs, self._held_bytes)
        return Credit(
            min(self._held_outputs, self._budget.outputs - 1),
            min(self._held_bytes, self._budget.bytes - 1),
        )

    def _turn(self, attempt: _Attempt) -> int:
        """Of an ordered stream: the input that is to be answered next on this attempt."""
        if isinstance(self._replay, OrderedReplay):
            attempt.cursor = max(attempt.cursor, self._replay.head)
        while self._elsewhere(attempt.cursor):
            attempt.cursor += 1
        return attempt.cursor

    def _elsewhere(self, number: int) -> bool:
        """Whether an unanswered input needs no answer of the present attempt's server."""
        return number in self._early or number in self._aside

    def _answered(self, attempt: _Attempt, first: int, count: int = 1) -> None:
        if self.control is None and first in self._replay and first not in self._stripped:
            self.control = first, self._replay.payload(first)
        attempt.in_flight_items -= count
        attempt.in_flight_bytes -= self._remove(first, count)
        self._release()

    def _check_positions(self, attempt: _Attempt, beat: Heartbeat, running: Running | None) -> None:
        """A heartbeat says where its sender stands, so the loss of a last frame is noticed (docs
        section 12).
        """
        received = attempt.grant.received_outputs
        if beat.outputs > received:
            raise FrameLostError(
                f"a gap: the server has sent {beat.outputs} outputs, of which {received} came"
            )
        if (
            running is None  # an earlier one may have been true, and the inputs come since
            or not attempt.in_flight_items
            or beat.inputs_through != attempt.sent_through
        ):
            return
        if running.blocked_on is BlockedOn.INPUT:
            raise FrameLostError(
                f"a gap: the server has answered all inputs, but no answer came to"
                f" {attempt.in_flight_items} of them"
            )
        if attempt.stalls(beat, running) >= STALLED_BEATS:
            raise FrameLostError(
                f"the server has {attempt.in_flight_items} inputs, works on none of them, and"
                " sends nothing: it waits for what was lost"
            )

    def _check_end(self, attempt: _Attempt, end: ServerEnd) -> None:
        """The end frame cross-checks what both sides counted (docs section 9)."""
        if not attempt.end_sent:
            raise RemoteProtocolError("the server ended a stream that had not ended")
        said = (end.last_number, end.inputs_received, end.inputs_answered)
        known = (self._last_number, attempt.inputs_sent, attempt.inputs_sent)
        if end.last_number == self._last_number and (
            end.inputs_answered == end.inputs_received < attempt.inputs_sent
        ):
            raise FrameLostError(
                f"a gap: {attempt.inputs_sent} inputs were sent, of which {end.inputs_received}"
                " reached the server before its end"
            )
        if said != known or attempt.in_flight_items:
            raise RemoteProtocolError(
                f"the end does not add up: last input {end.last_number}, {end.inputs_received}"
                f" received and {end.inputs_answered} answered, where {self._last_number} was the"
                f" last, {attempt.inputs_sent} were sent and {attempt.in_flight_items} lack an"
                " answer"
            )

    # ---------------------------------------------------------------- outputs

    def take(self) -> Delivery | None:
        """What comes next for the consumer, or None while nothing is there."""
        run = self.take_run(1)
        if run is not None:
            self.release(run)
            return Delivery(run.first_number, 0, run.payloads[0], None, True)
        head = self._ready.popleft() if self._ready else None
        if not isinstance(head, Delivery):
            return None
        if head.payload is not None:
            self._held_outputs -= 1
            self._held_bytes -= len(head.payload)
        self._failed_bytes -= head.size
        if head.last:
            self._places -= 1
            self._taken.add(head.number)
        return head

    def take_run(self, limit: int) -> OutputRun | None:
        """The next outputs at once, at most `limit`, if they are single outputs of consecutive
        inputs; otherwise None.

        They count as held until they are given to `release`.
        """
        if not self._ready:
            return None
        head = self._ready[0]
        if not isinstance(head, _Ready):
            return None
        if limit < len(head.payloads):
            return head.take(limit)
        self._ready.popleft()
        return OutputRun(head.first, head.payloads)

    def release(self, run: OutputRun) -> None:
        """The consumer has taken these outputs of `take_run`."""
        count = len(run.payloads)
        self._held_outputs -= count
        self._held_bytes -= sum(map(len, run.payloads))
        self._places -= count
        self._taken.add_run(run.first_number, count)

    def drop_outputs(self) -> None:
        """The consumer takes nothing any more."""
        self._ready.clear()
        self._early.clear()

    def drop_inputs(self) -> None:
        """There will be no further attempt: of the inputs that lack an answer, only the numbers are
        kept, for those who count them.
        """
        self._replay.strip_all()
        self.control = None

    # ---------------------------------------------------------------- early answers

    def _fail_here(
        self, number: int, kind: ItemErrorKind, text: str, cause: BaseException | None = None
    ) -> None:
        """Answer an input without the server; when ordered, once its turn has come."""
        failure = ItemFailure(number, kind, text, self._next_index.get(number, 0))
        self._settle(number, _Early(None, failure, cause, sent=number <= self._sent_through))

    def _settle(self, number: int, early: _Early) -> None:
        self._early[number] = early
        if early.failure is not None:
            self.failed.append(early.failure)
        self._held_early += early.payload is not None
        self._release()

    def _release(self) -> None:
        """Deliver the early answers whose turn has come."""
        while (number := self._replay.next_of(self._early)) is not None:
            early = self._early[number]
            if early.payload is not None:
                self._held_early -= 1
                self._ready.append(_Ready(number, (early.payload,)))
            elif early.failure is not None:
                self._deliver_failure(number, early.failure, early.cause)
            self._remove(number)

    def _remove(self, first: int, count: int = 1) -> int:
        """Forget inputs that are answered, and return the size of their payloads."""
        size = self._replay.remove(first, count)
        if self._next_index or self._early or self._cancelled:
            for number in range(first, first + count):
                size += self._stripped.pop(number, 0)
                self._next_index.pop(number, None)
                self._early.pop(number, None)
                self._cancelled.discard(number)
        return size


def _milliseconds(seconds: float | None) -> int:
    """As the wire says it; 0: none."""
    return 0 if seconds is None else max(1, round(seconds * 1000))


def _append_number(ranges: deque[NumberRange], number: int) -> None:
    if ranges and ranges[-1].last == number - 1:
        ranges[-1] = NumberRange(ranges[-1].first, number)
    else:
        ranges.append(NumberRange(number, number))


def _joined(ranges: Iterable[NumberRange]) -> list[NumberRange]:
    """Ranges in ascending order, neighbours joined."""
    joined: list[NumberRange] = []
    for each in sorted(ranges, key=_range_first):
        if joined and joined[-1].last == each.first - 1:
            joined[-1] = NumberRange(joined[-1].first, each.last)
        else:
            joined.append(each)
    return joined


_range_first = attrgetter("first")


def _sizes(frame: ServerFrame) -> list[int]:
    """The sizes of a frame's outputs, in bytes."""
    sizes: list[int] = []
    for run in frame.outputs:
        sizes += map(len, run.payloads)
    for part in frame.parts:
        sizes += map(len, part.payloads)
    return sizes


def _place(answer: OutputRun | OutputPart | ItemFailure) -> tuple[int, int]:
    """Where an answer stands among those of its frame."""
    if isinstance(answer, OutputRun):
        return answer.first_number, 0
    if isinstance(answer, OutputPart):
        return answer.number, answer.first_index
    return answer.number, answer.index
