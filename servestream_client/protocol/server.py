"""The server's side of one attempt: what came, what is computed, what may go out.

A pure state machine, like its sibling. The runner around it moves frames (`receive`,
`next_frame`), inputs to handlers (`next_run`) and their results back (`outputs`, `output`, `close`,
`fail`). It lives as long as one call: whatever must survive is the client's to carry.

Inputs and plain outputs are kept in runs, like at the client; an input of which more is to be known
than its number has a `_Work`.

The rules implemented here are sections 4 to 13 of docs/protocol.md, seen from the server.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from servestream_client.errors import (
    FrameLostError,
    ItemErrorKind,
    LocalProtocolError,
    RemoteProtocolError,
    printable,
)
from servestream_client.protocol import coming
from servestream_client.protocol.coming import Announcements
from servestream_client.protocol.credit import CreditBalance
from servestream_client.protocol.frames import (
    PROTOCOL_VERSION,
    SINGLE_OUTPUT,
    STREAM_ID_BYTES,
    BlockedOn,
    ClientFrame,
    CodecId,
    Coming,
    Drain,
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
from servestream_client.protocol.inputs import OpenInputs
from servestream_client.protocol.pacing import FRAME_TARGET_BYTES, ITEM_OVERHEAD_BYTES, Pacer
from servestream_client.protocol.pulse import Pulse
from servestream_client.protocol.runs import Run, RunQueue
from servestream_client.protocol.states import (
    SERVER,
    ServerEvent,
    ServerState,
    local_step,
    peer_step,
)

__all__ = ["Input", "ServerOffer", "ServerSession"]

_OVER = frozenset({ServerState.CLOSED, ServerState.ABANDONED})

SHORTEST_HEARTBEAT_MS = 100
"""A server promises no more than ten frames a second, whatever a client wishes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOffer:
    """What a service says of itself to every client.

    Attributes:
        codec: what both ends must agree on.
        application: the name under which it is deployed; empty: it has none, and takes any.
        code_version: of the user's code.
        replica: names this process.
        handler_kind: which of the four kinds.
        restartable: see `Welcome`.
        limits: what it accepts at the most.
        ahead_bytes: how much finished output may wait for its turn or for credit before no
            further input is started.
    """

    codec: CodecId
    application: str = ""
    code_version: str = ""
    replica: str = ""
    handler_kind: HandlerKind = HandlerKind.ONE_TO_ONE
    restartable: bool = False
    limits: Limits = field(default_factory=Limits)
    ahead_bytes: int = 4 * 1024 * 1024


class Input(NamedTuple):
    """One input for the handler.

    Attributes:
        number: its number in the stream.
        payload: as the client's codec made it.
        start_index: outputs below this index are already received.
    """

    number: int
    payload: bytes
    start_index: int = 0


class _Work:
    """An input that is not answered by a single output, or not yet."""

    __slots__ = ("closed", "failure", "next_index", "number", "outputs", "placed")

    def __init__(self, number: int, next_index: int = 0) -> None:
        self.number = number
        self.next_index = next_index
        self.outputs: deque[bytes] = deque()
        self.closed = False
        self.failure: ItemFailure | None = None
        self.placed = False  # in the outbox


class _Dropped:
    """Inputs without outputs that were cancelled before they were started, each of which is
    answered by the same item error: as long as they wait, they are numbers.
    """

    __slots__ = ("numbers",)

    def __init__(self, numbers: Iterable[int]) -> None:
        self.numbers = deque(numbers)


_DROPPED = _Dropped(())
"""In the place of an early answer: the input was dropped."""

_NOT_STARTED = "cancelled before it was started"


class _Order:
    """The numbers of the inputs in the order in which they came; only runs of them are kept."""

    __slots__ = ("_ranges",)

    def __init__(self) -> None:
        self._ranges: deque[range] = deque()

    @property
    def turn(self) -> int:
        """The next number to be answered; 0 if there is none."""
        return self._ranges[0].start if self._ranges else 0

    def append(self, first: int, count: int) -> None:
        self._ranges.append(range(first, first + count))

    def advance(self, count: int) -> None:
        """So many numbers, consecutive ones, have had their turn."""
        while count:
            head = self._ranges.popleft()
            if count < len(head):
                self._ranges.appendleft(head[count:])
                return
            count -= len(head)


class ServerSession:
    """One attempt at its server."""

    def __init__(self, offer: ServerOffer) -> None:
        self.state: ServerState = ServerState.AWAITING_OPEN
        self.opened: Open | None = None
        """The client's open, once it came."""

        self._offer = offer
        self._limits = offer.limits
        self._item_bytes_out = 0
        self._frame_bytes_out = FRAME_TARGET_BYTES
        self._pacer = Pacer(offer.limits.unacknowledged_frames)
        self._urgent = False  # the frame at hand is to be acknowledged at once
        self._pulse = Pulse()
        self._announcements = Announcements()
        self.awaited: Coming | None = None
        """What the client has announced, until it comes (docs section 12)."""

        self._running = Running()
        self.heartbeat_ms: int = 0
        """The interval that this end promised; 0: none."""

        self._credit = CreditBalance()
        self._first_frame: ClientFrame | None = None  # until the service has decided
        self._greeting: Welcome | Refused | None = None
        self._drain: Drain | None = None
        self._farewell: StreamFailure | ServerEnd | None = None

        self._ordered = True
        self._open = OpenInputs()
        self._unanswered = 0  # inputs whose answer is not on its way yet, closed or not
        self._unstarted = RunQueue()
        self._started_through = 0
        self._cancelled: set[int] = set()
        self._newly_cancelled: list[int] = []
        self._works: dict[int, _Work] = {}
        self._order = _Order()
        # Ordered: answers whose turn has not come.
        self._early: dict[int, Run | _Work | _Dropped] = {}
        self._outbox: deque[Run | _Work | _Dropped] = deque()
        self._held_bytes = 0
        self._last_seen = 0
        self._last_number = 0
        self._received = 0
        self._answered = 0

    # ---------------------------------------------------------------- what is known

    @property
    def over(self) -> bool:
        """Nobody will send or read anything more: stop computing and end the call."""
        return self.state in _OVER

    @property
    def unanswered(self) -> int:
        """How many inputs that came lack their last output."""
        return self._unanswered

    # ---------------------------------------------------------------- frames in

    def receive(self, frame: ClientFrame) -> None:
        """Take in a frame. Afterwards look at `state`, `next_input` and `next_frame`.

        In state DECIDING, call `welcome` or `refuse`; what came along with the open is taken in
        by `welcome`.

        Raises:
            RemoteProtocolError: the client broke the protocol. Tell it with `give_up`.
        """
        if self.state is ServerState.LINGERING:
            return  # what came before the client read our last frame is dropped unread
        self._pulse.heard()
        self._urgent = self.awaited is not None and self.awaited.acknowledge
        self.awaited = frame.coming and coming.bounded(frame.coming, self._limits.frame_bytes)
        if self.state is ServerState.AWAITING_OPEN:
            self._receive_open(frame)
            return
        if frame.open is not None:
            self._step(ServerEvent.OPEN)  # which is not allowed a second time
        if self.state is ServerState.DECIDING:
            raise RemoteProtocolError("a second frame before the welcome")
        self._receive_rest(frame)

    def _receive_open(self, frame: ClientFrame) -> None:
        if frame.open is None:
            raise RemoteProtocolError("the first frame does not open a stream")
        self.opened = frame.open
        misfit = self._misfit(frame.open)
        if misfit is not None:
            self._greeting = misfit
            self._step(ServerEvent.REFUSE)
            return
        self._first_frame = frame
        self._step(ServerEvent.OPEN)

    def _misfit(self, opened: Open) -> Refused | None:
        """Why this server cannot serve that stream; the order is that of docs section 4."""
        offer = self._offer
        if opened.protocol_version != PROTOCOL_VERSION:
            return Refused(
                RefusalKind.VERSION,
                f"the client speaks version {opened.protocol_version} of the protocol, this"
                f" server version {PROTOCOL_VERSION}",
            )
        if len(opened.stream_id) != STREAM_ID_BYTES:
            return Refused(
                RefusalKind.BAD_OPEN, f"a stream id has {STREAM_ID_BYTES} bytes, not these"
            )
        if opened.attempt < 1 or opened.first_number < 1:
            return Refused(RefusalKind.BAD_OPEN, "attempts and inputs are numbered from 1")
        if offer.application and opened.application not in ("", offer.application):
            return Refused(
                RefusalKind.APPLICATION,
                f"this is application {offer.application!r}, not"
                f" {printable(opened.application, 200)!r}",
            )
        if not opened.codec.fits(offer.codec):
            return Refused(
                RefusalKind.CODEC,
                f"this service speaks {_codec(offer.codec)}, the client {_codec(opened.codec)}",
            )
        if opened.token is not None:
            return Refused(
                RefusalKind.TOKEN, "a state token, but this service's handler is not stateful"
            )
        return None

    def welcome(self) -> None:
        """The service takes the stream.

        If inputs that came with the open exceed the limits, which their client cannot have
        known, the stream is refused after all; the client comes again with the open alone.
        """
        opened, first = self.opened, self._first_frame
        if opened is None or first is None:
            raise LocalProtocolError(f"welcome in state {self.state.name}")
        offer = self._offer
        limits = offer.limits.within(opened.limits)
        if _exceeds(first.inputs, limits):
            self.refuse(RefusalKind.OVERLOADED, "more inputs than fit came with the open", 0)
            return
        self.state = local_step(SERVER, self.state, ServerEvent.WELCOME)
        self._limits = limits
        self._item_bytes_out = opened.limits.item_bytes
        self._frame_bytes_out = min(FRAME_TARGET_BYTES, opened.limits.frame_bytes)
        self._pacer.limit = self._limits.unacknowledged_frames
        self._ordered = opened.order is not Order.ANY
        self._last_seen = opened.first_number - 1
        if opened.heartbeat_interval_ms:
            self.heartbeat_ms = max(SHORTEST_HEARTBEAT_MS, opened.heartbeat_interval_ms)
            # A client that asks for more than it is granted need not be the quicker one itself.
            self._pulse.begin(own_ms=self.heartbeat_ms, peer_ms=self.heartbeat_ms)
        features = tuple(name for name in opened.features if name == coming.FEATURE)[:1]
        if features:
            self._announcements.begin(self.heartbeat_ms)
        self._greeting = Welcome(
            application=offer.application,
            code_version=offer.code_version,
            replica=offer.replica,
            handler_kind=offer.handler_kind,
            restartable=offer.restartable,
            features=features,
            limits=self._limits,
            heartbeat_interval_ms=self.heartbeat_ms,
        )
        self._first_frame = None
        # The client is mute until it has the welcome, which large frames of others may delay.
        before = self.awaited.bytes if self.awaited is not None else 0
        self.awaited = Coming(before + coming.UNHEARD_BYTES) if features else None
        self._receive_rest(first)

    def refuse(self, kind: RefusalKind, text: str, retry_after_ms: int | None = None) -> None:
        """The service does not take the stream."""
        self.state = local_step(SERVER, self.state, ServerEvent.REFUSE)
        self._first_frame = None
        self._greeting = Refused(kind, text, retry_after_ms)

    def half_close(self) -> None:
        """The client half-closed the call, or went away: gRPC does not tell them apart."""
        self._step(ServerEvent.HALF_CLOSE)
        if self.over:
            self._drop_everything()

    def _step(self, event: ServerEvent) -> None:
        self.state = peer_step(SERVER, self.state, event)

    def _receive_rest(self, frame: ClientFrame) -> None:
        self._pacer.acknowledge(frame.frames_read)
        if frame.credit is not None:
            self._credit.raise_to(frame.credit)
        if frame.paced:
            self._step(ServerEvent.INPUT)
            self._pacer.read(urgent=self._urgent)
            self._pacer.check()
            for run in frame.inputs:
                self._receive_run(run)
        if frame.heartbeat is not None:
            self._check_positions(frame.heartbeat)
        if frame.cancelled:
            self._receive_cancelled(frame.cancelled)
        if frame.end is not None:
            self._receive_end(frame.end.last_number)

    def _check_positions(self, beat: Heartbeat) -> None:
        """The client says where it stands, so the loss of its last frame is noticed (docs section
        12).
        """
        read = self._last_seen if self._received else 0
        if beat.inputs_through > read:
            raise FrameLostError(
                f"a gap: the client has sent input {beat.inputs_through}, and {read} was the last"
                " that came"
            )

    def _receive_run(self, run: InputRun) -> None:
        if run.first_number <= self._last_seen:
            raise RemoteProtocolError(f"input {run.first_number} came, {self._bound()}")
        if run.metadata and len(run.metadata) != len(run.payloads):
            raise RemoteProtocolError(
                f"metadata for {len(run.metadata)} of {len(run.payloads)} inputs"
            )
        sizes = list(map(len, run.payloads))
        count, size = len(sizes), sum(sizes)
        if (
            self._unanswered + count > self._limits.window_items
            or self._open.size + size > self._limits.window_bytes
            or max(sizes) > self._limits.item_bytes
        ):
            self._check_each(run.first_number, sizes)
        accepted = Run(run.first_number, run.payloads, size, run.first_start_index)
        self._open.append(accepted.first, sizes)
        self._unanswered += count
        self._received += count
        self._last_seen = accepted.last
        if accepted.start_index:
            self._works[accepted.first] = _Work(accepted.first, accepted.start_index)
        if self._ordered:
            self._order.append(accepted.first, count)
        if accepted.start_index and self._offer.handler_kind in SINGLE_OUTPUT:
            # Its only output, which has index 0, is there already: nothing is to be computed.
            self.close(accepted.first)
            if count == 1:
                return
            accepted.cut(1)
        self._unstarted.append(accepted)

    def _bound(self) -> str:
        """Below which number there is nothing any more, and why, for messages."""
        if self._received:
            return f"but input {self._last_seen} was there already: numbers ascend"
        return f"but the open named input {self._last_seen + 1} the first"

    def _check_each(self, first: int, sizes: Sequence[int]) -> None:
        """
        Raises:
            RemoteProtocolError: an input is too large, or beyond the window.
        """
        limits, items, size = self._limits, self._unanswered, self._open.size
        for number, length in enumerate(sizes, first):
            if length > limits.item_bytes:
                raise RemoteProtocolError(
                    f"input {number} has {length} bytes, and at most {limits.item_bytes} were"
                    " allowed"
                )
            if items and (items >= limits.window_items or size + length > limits.window_bytes):
                raise RemoteProtocolError(
                    f"input {number} exceeds the window of {limits.window_items} inputs and"
                    f" {limits.window_bytes} bytes"
                )
            items, size = items + 1, size + length

    def _receive_cancelled(self, ranges: Sequence[NumberRange]) -> None:
        # A range is the client's word and may be huge; the open inputs in it are bounded.
        if len(ranges) > self._limits.window_items:
            raise RemoteProtocolError(
                f"{len(ranges)} ranges cancelled, in a window of {self._limits.window_items} inputs"
            )
        numbers = self._open.within(_disjoint(ranges))
        started = bisect_right(numbers, self._started_through)
        fresh = [number for number in numbers[:started] if number not in self._cancelled]
        self._cancelled.update(fresh)
        self._newly_cancelled += fresh
        if started < len(numbers):
            self._drop_unstarted(numbers[started:])

    def _drop_unstarted(self, numbers: Sequence[int]) -> None:
        """Have these inputs, ascending, answered as cancelled."""
        self._unstarted.remove_each(numbers)
        if self._works:  # of which some may go on where they were cut
            for number in self._works.keys() & numbers:
                self.fail(number, ItemErrorKind.CANCELLED, _NOT_STARTED)
            numbers = [number for number in numbers if number in self._open]
        self._open.close_each(numbers)
        self._cancelled.difference_update(numbers)
        if self._ordered:
            self._early.update(dict.fromkeys(numbers, _DROPPED))
            self._call_up()
        else:
            self._post_dropped(numbers)

    def _receive_end(self, last_number: int) -> None:
        if last_number < self._last_seen:
            raise RemoteProtocolError(f"the end names input {last_number}, {self._bound()}")
        self._step(ServerEvent.CLIENT_END)
        self._last_number = last_number

    # ---------------------------------------------------------------- handlers

    @property
    def startable(self) -> bool:
        """Whether there is an input to start, and not too much output waits already (docs
        section 7).
        """
        waiting = self._unstarted
        return waiting.count > 0 and (
            self._held_bytes < self._offer.ahead_bytes
            or (bool(self._early) and waiting.head.first == self._order.turn)
        )

    @property
    def full(self) -> bool:
        """Whether too much output waits for its turn or for credit to start any input."""
        return self._held_bytes >= self._offer.ahead_bytes

    @property
    def startable_inputs(self) -> int:
        """How many inputs are `startable`."""
        return self._unstarted.count if self.startable else 0

    def next_run(self, limit: int) -> Run | None:
        """The next inputs to hand to the handler, consecutive ones and at most `limit`; None if
        nothing is `startable`.
        """
        if not self.startable:
            return None
        # What waits may wait for this input's turn, which is then the only one to start.
        run = self._unstarted.take(1 if self.full else limit)
        self._started_through = run.last
        return run

    def put_back(self, run: Run) -> None:
        """Inputs of the last `next_run` were not started after all."""
        if run.first not in self._open:
            return  # everything was dropped meanwhile
        self._started_through = run.first - 1
        self._unstarted.put_back(run)
        if self._cancelled:
            cancelled = self._cancelled.intersection(range(run.first, run.last + 1))
            self._drop_unstarted(sorted(cancelled))

    def next_input(self) -> Input | None:
        """Like `next_run`, for one input."""
        run = self.next_run(1)
        return Input(run.first, run.payloads[0], run.start_index) if run else None

    def awaits(self, number: int) -> bool:
        """Whether an input came and has no answer yet."""
        return number in self._open

    def wants(self, number: int) -> bool:
        """Whether the client still waits for the answer."""
        return number in self._open and number not in self._cancelled

    def take_cancelled(self) -> Sequence[int]:
        """Started inputs that the client has cancelled since the last call.

        Each still needs its `close` or `fail`.
        """
        numbers, self._newly_cancelled = self._newly_cancelled, []
        return numbers

    def outputs(self, first: int, payloads: Sequence[bytes]) -> None:
        """The single outputs of the inputs `first`, `first` + 1 and so on, which answer them.

        Like `output` with `last` for each.
        """
        size = sum(map(len, payloads))
        numbers = range(first, first + len(payloads))
        if self._works or size > self._item_bytes_out or not self._open.close(first, len(payloads)):
            for number, payload in zip(numbers, payloads, strict=True):
                self.output(number, payload, last=True)
            return
        if self._cancelled:
            self._cancelled.difference_update(numbers)
        self._held_bytes += size
        self._answer_with(Run(first, payloads, size))

    def output(self, number: int, payload: bytes, *, last: bool) -> None:
        """An output of an input; `last` answers it.

        An output that is larger than the client accepts fails its input instead. What belongs
        to an attempt that is over, or to an input that was answered, is dropped.
        """
        if number not in self._open:
            return
        if len(payload) > self._item_bytes_out:
            self.fail(
                number,
                ItemErrorKind.TOO_LARGE,
                f"an output of {len(payload)} bytes, and the client accepts {self._item_bytes_out}",
            )
            return
        self._held_bytes += len(payload)
        if last and number not in self._works:
            self._close(number)
            self._answer_with(Run(number, (payload,), len(payload)))
            return
        work = self._work(number)
        work.outputs.append(payload)
        self._continue(work, closed=last)

    def close(self, number: int) -> None:
        """An input is answered by the outputs that it has had."""
        if number in self._open:
            self._continue(self._work(number), closed=True)

    def fail(self, number: int, kind: ItemErrorKind, text: str, *, retryable: bool = False) -> None:
        """An input failed, and with it nothing else."""
        if number in self._open:
            work = self._work(number)
            index = work.next_index + len(work.outputs)
            work.failure = ItemFailure(number, kind, text, index, retryable)
            self._continue(work, closed=True)

    def _work(self, number: int) -> _Work:
        return self._works.setdefault(number, _Work(number))

    def _close(self, number: int) -> None:
        self._open.close(number)
        self._cancelled.discard(number)

    def _answer_with(self, run: Run) -> None:
        """Single outputs, which answer their inputs: send them in their turn."""
        if self._ordered and run.first != self._order.turn:
            self._early.update(
                (number, Run(number, (payload,), len(payload)))
                for number, payload in enumerate(run.payloads, run.first)
            )
            return
        self._post(run)
        if self._ordered:
            self._order.advance(len(run.payloads))
            self._call_up()

    def _continue(self, work: _Work, *, closed: bool) -> None:
        """An input has got another output, or its end: send it in its turn."""
        if closed:
            work.closed = True
            self._close(work.number)
        if self._ordered and work.number != self._order.turn:
            self._early[work.number] = work
            return
        if not work.placed:
            work.placed = True
            self._outbox.append(work)
        if self._ordered and work.closed:
            self._order.advance(1)
            self._call_up()

    def _call_up(self) -> None:
        """Send the answers that were early, as far as their turn has come."""
        while self._early and (answer := self._early.pop(self._order.turn, None)):
            if isinstance(answer, Run):
                self._post(answer)
            elif isinstance(answer, _Dropped):
                self._post_dropped((self._order.turn,))
            else:
                answer.placed = True
                self._outbox.append(answer)
                if not answer.closed:
                    return
            self._order.advance(1)

    def _post(self, run: Run) -> None:
        tail = self._outbox[-1] if self._outbox else None
        if not (isinstance(tail, Run) and tail.join(run)):
            self._outbox.append(run)

    def _post_dropped(self, numbers: Iterable[int]) -> None:
        tail = self._outbox[-1] if self._outbox else None
        if isinstance(tail, _Dropped):
            tail.numbers.extend(numbers)
        else:
            self._outbox.append(_Dropped(numbers))

    def _drop_everything(self) -> None:
        for kept in (self._open, self._works, self._early, self._outbox, self._unstarted):
            kept.clear()
        self._unanswered = 0

    def drain(self, grace_ms: int, endpoints: Sequence[str] = ()) -> None:
        """Leave: ask the client to go elsewhere once it has its answers."""
        self.state = local_step(SERVER, self.state, ServerEvent.DRAIN)
        if self.state is ServerState.LINGERING:
            return  # the last word is spoken
        self._drain = Drain(grace_ms, endpoints)

    def give_up(self, kind: StreamErrorKind, text: str, retry_after_ms: int | None = None) -> None:
        """The stream fails here; say so, and compute nothing more."""
        if self.state is ServerState.LINGERING:
            return  # the last word is spoken
        self.state = local_step(SERVER, self.state, ServerEvent.FAIL)
        self._drop_everything()
        self._farewell = StreamFailure(kind, text, retry_after_ms)

    # ---------------------------------------------------------------- time

    @property
    def silent(self) -> bool:
        """Whether the client was not heard for too long: it, or the link, is gone."""
        return self._pulse.dead

    @property
    def under_way(self) -> int:
        """Payload bytes that were sent and that the client has not acknowledged."""
        return sum(self._pacer.sizes)

    @property
    def item_timeout(self) -> float:
        """Seconds that the handler may take for one input; infinity: any time."""
        limit = self.opened.item_timeout_ms if self.opened is not None else 0
        return limit / 1000 if limit else math.inf

    def tick(self, running: Running) -> None:
        """Half of the heartbeat interval has passed, or more: look at `silent`, and at
        `next_frame`.

        Args:
            running: what is computed for this attempt; the session adds what it knows itself.
        """
        self._pulse.tick(self.awaited.bytes if self.awaited else 0)
        if running.oldest_age_ms > self.heartbeat_ms:
            self._pulse.due = True  # however much else is sent, this is worth knowing
        self._running = running

    def _report(self) -> Running:
        """What is computed, as of the last tick, and how things stand now."""
        running = self._running
        return replace(
            running, started_through=self._started_through, blocked_on=self._blocked_on(running)
        )

    def _blocked_on(self, running: Running) -> BlockedOn:
        if self._outbox and not self._credit.allows_output:
            return BlockedOn.CREDIT
        if running.count or self._unstarted:
            return BlockedOn.HANDLER
        if not self._unanswered:
            return BlockedOn.INPUT
        return BlockedOn.NOTHING if self._outbox else BlockedOn.HANDLER

    # ---------------------------------------------------------------- frames out

    def next_frame(self) -> ServerFrame | None:
        """The next frame to send, or None while there is nothing to say.

        Whoever takes a frame must send it: it counts as sent.
        """
        if self.over:
            return None
        greeting, self._greeting = self._greeting, None
        if isinstance(greeting, Refused):
            return ServerFrame(refused=greeting)
        runs: list[Run] = []
        parts: list[OutputPart] = []
        errors: list[ItemFailure] = []
        held, large = self._held_bytes, self._large
        if self._outbox and not large and self._pacer.may_send(full=self._full_frame):
            self._gather(runs, parts, errors)
        if runs or parts or errors:
            self._pacer.sent(held - self._held_bytes)
        if self.state is ServerState.FINISHING and not self._unanswered:
            self.state = local_step(SERVER, self.state, ServerEvent.END)
            self._farewell = ServerEnd(self._last_number, self._received, self._answered)
        drain, self._drain = self._drain, None
        farewell, self._farewell = self._farewell, None
        lingering = self.state is ServerState.LINGERING
        due = not lingering and (self._pacer.acknowledgement_due or self._pulse.due or large > 0)
        if not (greeting or runs or parts or errors or drain or farewell or due):
            return None
        beat = running = None
        if self._pulse.due and not farewell:
            beat = Heartbeat(self._last_seen if self._received else 0, self._credit.outputs_sent)
            running = self._report()
        self._pulse.spoke()
        self._announcements.sent()
        coming = self._announce() if self._outbox else None
        return ServerFrame(
            welcome=greeting,
            outputs=[OutputRun(run.first, run.payloads) for run in runs],
            parts=parts,
            errors=errors,
            frames_read=self._pacer.report(),
            running=running,
            drain=drain,
            error=farewell if isinstance(farewell, StreamFailure) else None,
            end=farewell if isinstance(farewell, ServerEnd) else None,
            heartbeat=beat,
            coming=coming,
        )

    @property
    def _full_frame(self) -> bool:
        """Whether what waits fills a frame."""
        return self._held_bytes >= self._frame_bytes_out

    @property
    def _large(self) -> int:
        """The bytes of the frame that goes next, if it must be announced and is not yet; else 0."""
        if self._held_bytes <= self._announcements.covered or not self._outbox:
            return 0
        head = self._outbox[0]
        if isinstance(head, _Dropped):
            return 0  # a large output does not ride with what goes before it
        payloads = head.payloads if isinstance(head, Run) else head.outputs
        size = max(
            min(self._held_bytes, self._frame_bytes_out), len(payloads[0] if payloads else b"")
        )
        goes = self._credit.allows_output and self._pacer.may_send(full=self._full_frame)
        return size if goes and self._announcements.lacks(size) else 0

    def _announce(self) -> Coming | None:
        """What the frame now made says of the next one."""
        large = self._large
        head = self._outbox[0] if large else None
        if head is None or isinstance(head, _Dropped):
            return None
        number = head.first if isinstance(head, Run) else head.number
        return self._announcements.announce(large, number)

    def _gather(self, runs: list[Run], parts: list[OutputPart], errors: list[ItemFailure]) -> None:
        """Answers for one frame: all that may go out and fit (docs sections 6 to 8)."""
        used = 0
        while self._outbox:
            head = self._outbox[0]
            if isinstance(head, Run):
                count = self._sendable(head, used)
                if not count:
                    return
                run = head if count == len(head.payloads) else head.cut(count)
                if run is head:
                    self._outbox.popleft()
                used += run.frame_bytes
                self._credit.spend(run.size, count)
                self._held_bytes -= run.size
                self._note_answered(count)
                _join(runs, run)
                continue
            if isinstance(head, _Dropped):
                added = self._gather_dropped(head, used, errors)
            else:
                added = self._gather_work(head, used, runs, parts, errors)
            if added is None:
                return
            used += added

    def _gather_dropped(
        self, dropped: _Dropped, used: int, errors: list[ItemFailure]
    ) -> int | None:
        """What inputs that were dropped add to the frame; None: not all of them fit."""
        cost = len(_NOT_STARTED) + ITEM_OVERHEAD_BYTES
        count = min(len(dropped.numbers), max((self._frame_bytes_out - used) // cost, used == 0))
        for _ in range(count):
            number = dropped.numbers.popleft()
            errors.append(ItemFailure(number, ItemErrorKind.CANCELLED, _NOT_STARTED))
        self._note_answered(count)
        if dropped.numbers:
            return None
        self._outbox.popleft()
        return count * cost

    def _sendable(self, run: Run, used: int) -> int:
        """How many of a run's outputs the credit and the frame allow; one goes alone."""
        if not self._credit.allows_output:
            return 0
        left = self._credit.left
        in_credit = min(left.outputs, run.within(left.bytes - 1) + 1)  # the last may exceed it
        in_frame = run.within_frame(self._frame_bytes_out - used)
        return min(len(run.payloads), in_credit, max(in_frame, used == 0))

    def _gather_work(
        self,
        work: _Work,
        used: int,
        runs: list[Run],
        parts: list[OutputPart],
        errors: list[ItemFailure],
    ) -> int | None:
        """What one input has to say, and what that adds to the frame; None: the frame is full,
        or the credit spent, or the input's turn is not over yet.
        """
        room, added = self._frame_bytes_out, 0
        while work.outputs:
            cost = len(work.outputs[0]) + ITEM_OVERHEAD_BYTES
            if not self._credit.allows_output or (used + added and used + added + cost > room):
                return None
            payload = work.outputs.popleft()
            self._credit.spend(len(payload))
            self._held_bytes -= len(payload)
            added += cost
            last = work.closed and work.failure is None and not work.outputs
            if last and not work.next_index:
                _join(runs, Run(work.number, (payload,), len(payload)))
            else:
                parts.append(OutputPart(work.number, work.next_index, (payload,), last))
            work.next_index += 1
            if last:
                self._finish_work(work)
                return added
        if work.closed:
            text = len(work.failure.text) if work.failure else 0
            cost = text + ITEM_OVERHEAD_BYTES
            if used + added and used + added + cost > room:
                return None
            if work.failure is not None:
                errors.append(work.failure)
            else:
                parts.append(OutputPart(work.number, work.next_index, (), True))
            self._finish_work(work)
            return added + cost
        if self._ordered:
            return None
        self._outbox.popleft()
        work.placed = False
        return added

    def _finish_work(self, work: _Work) -> None:
        self._outbox.popleft()
        del self._works[work.number]
        self._note_answered(1)

    def _note_answered(self, count: int) -> None:
        self._unanswered -= count
        self._answered += count


def _join(runs: list[Run], run: Run) -> None:
    if not (runs and runs[-1].join(run)):
        runs.append(run)


def _disjoint(ranges: Sequence[NumberRange]) -> list[tuple[int, int]]:
    """The ranges, ascending; those that overlap as one, and the empty ones left out."""
    found: list[tuple[int, int]] = []
    through = 0
    for first, last in sorted([(each.first, each.last) for each in ranges]):
        if last <= through or last < first:
            continue
        if found and first <= through:
            found[-1] = found[-1][0], last
        else:
            found.append((first, last))
        through = last
    return found


def _exceeds(inputs: Sequence[InputRun], limits: Limits) -> bool:
    sizes = [len(payload) for run in inputs for payload in run.payloads]
    return (
        max(sizes, default=0) > limits.item_bytes
        or len(sizes) > limits.window_items
        or (len(sizes) > 1 and sum(sizes) > limits.window_bytes)
    )


def _codec(codec: CodecId) -> str:
    return f"codec {printable(codec.id, 100)!r}" + (
        f" ({printable(codec.fingerprint, 400)})" if codec.fingerprint else ""
    )
