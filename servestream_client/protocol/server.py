"""The server's side of one attempt: what came, what is computed, what may go out.

A pure state machine, like its sibling. The runner around it moves frames (`receive`,
`next_frame`), inputs to handlers (`next_input`) and their results back (`output`, `close`,
`fail`). It lives as long as one call: whatever must survive is the client's to carry.

The rules implemented here are sections 4 to 13 of docs/protocol.md, seen from the server.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from servestream_client.errors import (
    ItemErrorKind,
    LocalProtocolError,
    RemoteProtocolError,
    printable,
)
from servestream_client.protocol.credit import CreditBalance
from servestream_client.protocol.frames import (
    PROTOCOL_VERSION,
    STREAM_ID_BYTES,
    ClientFrame,
    CodecId,
    Drain,
    HandlerKind,
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
    ServerEnd,
    ServerFrame,
    StreamErrorKind,
    StreamFailure,
    Welcome,
)
from servestream_client.protocol.pacing import FRAME_TARGET_BYTES, ITEM_OVERHEAD_BYTES, Pacer
from servestream_client.protocol.states import (
    SERVER,
    ServerEvent,
    ServerState,
    local_step,
    peer_step,
)

__all__ = ["Input", "ServerOffer", "ServerSession"]

_OVER = frozenset({ServerState.CLOSED, ServerState.ABANDONED})


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


@dataclass(frozen=True, slots=True)
class Input:
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
    """One input that is not answered yet."""

    __slots__ = ("cancelled", "closed", "failure", "input", "next_index", "outputs", "started")

    def __init__(self, item: Input) -> None:
        self.input = item
        self.next_index = item.start_index
        self.outputs: deque[bytes] = deque()
        self.started = False
        self.cancelled = False
        self.closed = False
        self.failure: ItemFailure | None = None


class ServerSession:
    """One attempt at its server."""

    def __init__(self, offer: ServerOffer) -> None:
        self.state = ServerState.AWAITING_OPEN
        self.opened: Open | None = None
        """The client's open, once it came."""

        self._offer = offer
        self._limits = offer.limits
        self._item_bytes_out = 0
        self._frame_bytes_out = FRAME_TARGET_BYTES
        self._pacer = Pacer(offer.limits.unacknowledged_frames)
        self._credit = CreditBalance()
        self._first_frame: ClientFrame | None = None  # until the service has decided
        self._greeting: Welcome | Refused | None = None
        self._drain: Drain | None = None
        self._farewell: StreamFailure | ServerEnd | None = None

        self._ordered = True
        self._work: dict[int, _Work] = {}  # unanswered, ascending
        self._unstarted: deque[_Work] = deque()
        self._emittable: deque[_Work] = deque()  # ordered: every unanswered input, head first
        self._newly_cancelled: list[int] = []
        self._last_seen = 0
        self._last_number = 0
        self._received = 0
        self._answered = 0
        self._unanswered_bytes = 0
        self._held_bytes = 0

    # ---------------------------------------------------------------- what is known

    @property
    def over(self) -> bool:
        """Nobody will send or read anything more: stop computing and end the call."""
        return self.state in _OVER

    @property
    def unanswered(self) -> int:
        """How many inputs that came lack their last output."""
        return len(self._work)

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
        if opened.codec != offer.codec:
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
        self._greeting = Welcome(
            application=offer.application,
            code_version=offer.code_version,
            replica=offer.replica,
            handler_kind=offer.handler_kind,
            restartable=offer.restartable,
            limits=self._limits,
        )
        self._first_frame = None
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
            self._work.clear()
            self._unstarted.clear()
            self._emittable.clear()

    def _step(self, event: ServerEvent) -> None:
        self.state = peer_step(SERVER, self.state, event)

    def _receive_rest(self, frame: ClientFrame) -> None:
        self._pacer.acknowledge(frame.frames_read)
        if frame.credit is not None:
            self._credit.raise_to(frame.credit)
        if frame.paced:
            self._step(ServerEvent.INPUT)
            self._pacer.read()
            for run in frame.inputs:
                self._receive_run(run)
        if frame.cancelled:
            self._receive_cancelled(frame.cancelled)
        if frame.end is not None:
            self._receive_end(frame.end.last_number)

    def _receive_run(self, run: InputRun) -> None:
        if run.first_number <= self._last_seen:
            raise RemoteProtocolError(
                f"input {run.first_number} came after input {self._last_seen}: numbers ascend"
            )
        if run.metadata and len(run.metadata) != len(run.payloads):
            raise RemoteProtocolError(
                f"metadata for {len(run.metadata)} of {len(run.payloads)} inputs"
            )
        start_index = run.first_start_index
        for number, payload in enumerate(run.payloads, run.first_number):
            self._accept(Input(number, payload, start_index))
            start_index = 0

    def _accept(self, item: Input) -> None:
        limits, size = self._limits, len(item.payload)
        if size > limits.item_bytes:
            raise RemoteProtocolError(
                f"input {item.number} has {size} bytes, and at most {limits.item_bytes} were"
                " allowed"
            )
        if self._work and (
            len(self._work) >= limits.window_items
            or self._unanswered_bytes + size > limits.window_bytes
        ):
            raise RemoteProtocolError(
                f"input {item.number} exceeds the window of {limits.window_items} inputs and"
                f" {limits.window_bytes} bytes"
            )
        work = _Work(item)
        self._work[item.number] = work
        self._unstarted.append(work)
        if self._ordered:
            self._emittable.append(work)
        self._last_seen = item.number
        self._received += 1
        self._unanswered_bytes += size

    def _receive_cancelled(self, ranges: Sequence[NumberRange]) -> None:
        # A range is the client's word and may be huge; the unanswered inputs are bounded. Both
        # ascend, so one walk over each is enough.
        if len(ranges) > self._limits.window_items:
            raise RemoteProtocolError(
                f"{len(ranges)} ranges cancelled, in a window of {self._limits.window_items} inputs"
            )
        ascending = deque(sorted((cancelled.first, cancelled.last) for cancelled in ranges))
        for number, work in list(self._work.items()):
            while ascending and ascending[0][1] < number:
                ascending.popleft()
            if not ascending:
                return
            if number < ascending[0][0] or work.closed or work.cancelled:
                continue
            work.cancelled = True
            if work.started:
                self._newly_cancelled.append(number)
            else:
                self.fail(number, ItemErrorKind.CANCELLED, "cancelled before it was started")

    def _receive_end(self, last_number: int) -> None:
        if last_number < self._last_seen:
            raise RemoteProtocolError(
                f"the end names input {last_number} the last, but input {self._last_seen} came"
            )
        self._step(ServerEvent.CLIENT_END)
        self._last_number = last_number

    # ---------------------------------------------------------------- handlers

    @property
    def startable(self) -> bool:
        """Whether `next_input` may have something."""
        return bool(self._unstarted) and self._held_bytes < self._offer.ahead_bytes

    def next_input(self) -> Input | None:
        """The next input to hand to the handler; None while there is none, or too much output
        waits already (docs section 7).
        """
        while self.startable:
            work = self._unstarted.popleft()
            if not work.closed:
                work.started = True
                return work.input
        return None

    def take_cancelled(self) -> Sequence[int]:
        """Started inputs that the client has cancelled since the last call.

        Each still needs its `close` or `fail`.
        """
        numbers, self._newly_cancelled = self._newly_cancelled, []
        return numbers

    def output(self, number: int, payload: bytes, *, last: bool) -> None:
        """An output of an input; `last` answers it.

        An output that is larger than the client accepts fails its input instead. What belongs
        to an attempt that is over, or to an input that was answered, is dropped.
        """
        work = self._work.get(number)
        if work is None or work.closed:
            return
        if len(payload) > self._item_bytes_out:
            self.fail(
                number,
                ItemErrorKind.TOO_LARGE,
                f"an output of {len(payload)} bytes, and the client accepts {self._item_bytes_out}",
            )
            return
        work.outputs.append(payload)
        work.closed = last
        self._held_bytes += len(payload)
        if not self._ordered:
            self._emittable.append(work)

    def close(self, number: int) -> None:
        """An input is answered by the outputs that it has had."""
        work = self._work.get(number)
        if work is not None and not work.closed:
            work.closed = True
            if not self._ordered:
                self._emittable.append(work)

    def fail(self, number: int, kind: ItemErrorKind, text: str, *, retryable: bool = False) -> None:
        """An input failed, and with it nothing else."""
        work = self._work.get(number)
        if work is None or work.closed:
            return
        work.closed = True
        work.failure = ItemFailure(
            number, kind, text, work.next_index + len(work.outputs), retryable
        )
        if not self._ordered:
            self._emittable.append(work)

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
        self._work.clear()
        self._unstarted.clear()
        self._emittable.clear()
        self._farewell = StreamFailure(kind, text, retry_after_ms)

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
        outputs: list[OutputRun] = []
        parts: list[OutputPart] = []
        errors: list[ItemFailure] = []
        if self._emittable and self._pacer.may_send:
            self._gather(outputs, parts, errors)
        if outputs or parts or errors:
            self._pacer.sent()
        if self.state is ServerState.FINISHING and not self._work:
            self.state = local_step(SERVER, self.state, ServerEvent.END)
            self._farewell = ServerEnd(self._last_number, self._received, self._answered)
        drain, self._drain = self._drain, None
        farewell, self._farewell = self._farewell, None
        due = self._pacer.acknowledgement_due and self.state is not ServerState.LINGERING
        if not (greeting or outputs or parts or errors or drain or farewell or due):
            return None
        return ServerFrame(
            welcome=greeting,
            outputs=outputs,
            parts=parts,
            errors=errors,
            frames_read=self._pacer.report(),
            drain=drain,
            error=farewell if isinstance(farewell, StreamFailure) else None,
            end=farewell if isinstance(farewell, ServerEnd) else None,
        )

    def _gather(
        self, outputs: list[OutputRun], parts: list[OutputPart], errors: list[ItemFailure]
    ) -> None:
        """Answers for one frame: all that may go out and fit (docs sections 6 to 8)."""
        run_first = run_next = 0
        run: list[bytes] = []
        for answer in self._answers():
            if isinstance(answer, ItemFailure):
                errors.append(answer)
            elif answer.first_index or not answer.last or len(answer.payloads) != 1:
                parts.append(answer)
            else:
                if not run or answer.number != run_next:
                    run_first, run = answer.number, []
                    outputs.append(OutputRun(run_first, run))
                run.append(answer.payloads[0])
                run_next = answer.number + 1

    def _answers(self) -> Iterator[OutputPart | ItemFailure]:
        size = 0
        while self._emittable:
            work = self._emittable[0]
            number = work.input.number
            while work.outputs:
                length = len(work.outputs[0])
                if not self._credit.allows_output or (
                    size and size + length + ITEM_OVERHEAD_BYTES > self._frame_bytes_out
                ):
                    return
                payload = work.outputs.popleft()
                size += length + ITEM_OVERHEAD_BYTES
                self._credit.spend(length)
                self._held_bytes -= length
                last = work.closed and work.failure is None and not work.outputs
                if last:
                    self._answer(work)
                yield OutputPart(number, work.next_index, (payload,), last)
                work.next_index += 1
            if work.closed and number in self._work:
                failure = work.failure
                length = len(failure.text) if failure else 0
                if size and size + length + ITEM_OVERHEAD_BYTES > self._frame_bytes_out:
                    return
                size += length + ITEM_OVERHEAD_BYTES
                self._answer(work)
                yield failure or OutputPart(number, work.next_index, (), True)
            elif self._ordered and not work.closed:
                return
            self._emittable.popleft()

    def _answer(self, work: _Work) -> None:
        del self._work[work.input.number]
        self._unanswered_bytes -= len(work.input.payload)
        self._answered += 1


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
