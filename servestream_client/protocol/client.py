"""The client's side of one stream: what must outlive every attempt, and the attempt under way.

A pure state machine. The driver around it moves inputs in (`push`, `finish`), outputs out
(`take`), and frames both ways (`next_frame`, `receive`); each of these returns at once. After any
of them, there may be more frames to send and more outputs to take.

The rules implemented here are sections 4 to 11 of docs/protocol.md, seen from the client.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from servestream_client.config import FlowControl
from servestream_client.errors import (
    ItemErrorKind,
    LocalProtocolError,
    RemoteProtocolError,
    printable,
)
from servestream_client.protocol.credit import CreditGrant
from servestream_client.protocol.frames import (
    PROTOCOL_VERSION,
    STREAM_ID_BYTES,
    ClientEnd,
    ClientFrame,
    CodecId,
    Credit,
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
    StreamFailure,
    Welcome,
)
from servestream_client.protocol.numbers import NumberSet
from servestream_client.protocol.pacing import FRAME_TARGET_BYTES, ITEM_OVERHEAD_BYTES, Pacer
from servestream_client.protocol.states import (
    CLIENT,
    ClientEvent,
    ClientState,
    local_step,
    peer_step,
)

__all__ = ["ClientCounters", "ClientSession", "Delivery"]

_OVER = frozenset({ClientState.ENDED, ClientState.LEFT, ClientState.REFUSED, ClientState.FAILED})


@dataclass(frozen=True, slots=True)
class Delivery:
    """One thing for the consumer: an output, or the failure that stands in an input's place.

    Attributes:
        number: the input's number.
        index: which output of that input.
        payload: the output; None where there is a failure.
        failure: why there is no output.
        last: nothing further comes for this input.
        item: of a failed input, what `push` was given with it.
        cause: of an input that failed on this side, the exception.
    """

    number: int
    index: int
    payload: bytes | None
    failure: ItemFailure | None
    last: bool
    item: object = None
    cause: Exception | None = None


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
    """

    attempts: int = 0
    welcomes: int = 0
    sent: int = 0
    replayed: int = 0
    received: int = 0
    duplicates: int = 0
    stale: int = 0


class _Entry:
    """One unanswered input: a member of the replay set."""

    __slots__ = ("cancelled", "failure", "item", "next_index", "number", "payload", "sent_on")

    def __init__(self, number: int, payload: bytes, item: object) -> None:
        self.number = number
        self.payload = payload
        self.item = item
        self.next_index = 0
        self.sent_on = 0
        self.cancelled = False
        self.failure: tuple[ItemFailure, Exception | None] | None = None


class _Attempt:
    """What belongs to one call and dies with it."""

    __slots__ = (
        "cancelled",
        "deadline_ms",
        "end_sent",
        "grant",
        "in_flight_bytes",
        "in_flight_items",
        "inputs_sent",
        "limits",
        "number",
        "open_sent",
        "pacer",
        "progressed",
        "unsent",
    )

    def __init__(
        self, number: int, limits: Limits | None, budget: Credit, pacing: int, deadline_ms: int
    ) -> None:
        self.number = number
        self.limits = limits
        self.pacer = Pacer(limits.unacknowledged_frames if limits else pacing)
        self.grant = CreditGrant(budget)
        self.deadline_ms = deadline_ms
        self.unsent: deque[_Entry] = deque()
        self.cancelled: list[int] = []
        self.in_flight_items = 0
        self.in_flight_bytes = 0
        self.inputs_sent = 0
        self.open_sent = False
        self.end_sent = False
        self.progressed = False


class ClientSession:
    """One stream at its client.

    Args:
        stream_id: 16 random bytes.
        codec: what both ends must agree on.
        flow: how much may be under way.
        application: the wanted application; empty: any.
        ordered: whether outputs come in input order.
        parameters: for the handler, as they are.
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
    ) -> None:
        if len(stream_id) != STREAM_ID_BYTES:
            raise LocalProtocolError(f"a stream id has {STREAM_ID_BYTES} bytes")
        self.stream_id = stream_id
        self.counters = ClientCounters()
        self.state = ClientState.IDLE
        self.welcome: Welcome | None = None
        """The last welcome of this stream."""
        self.refusal: Refused | None = None
        """In state REFUSED: by whom and why."""
        self.failure: StreamFailure | None = None
        """In state FAILED: why."""

        self.grace_ms: int | None = None
        """Once the server said that it is leaving: how long it still serves what was sent."""

        self._codec = codec
        self._flow = flow
        self._application = application
        self._ordered = ordered
        self._parameters = dict(parameters or {})
        self._budget = Credit(flow.output_items, flow.output_bytes)

        self._attempt: _Attempt | None = None
        self._entries: dict[int, _Entry] = {}  # unanswered, ascending: the replay set
        self._order: deque[int] = deque()  # if ordered: the numbers of _entries, head first
        self._replay_bytes = 0
        self._last_number = 0
        self._finished = False
        self._places = 0  # inputs whose last output the consumer has not taken
        self._ready: deque[Delivery] = deque()
        self._held_outputs = 0
        self._held_bytes = 0
        self._taken = NumberSet()

    # ---------------------------------------------------------------- inputs

    @property
    def has_place(self) -> bool:
        """Whether the user's iterator may be pulled for one more input (docs section 6)."""
        return (
            self._places < self._flow.window_items and self._replay_bytes < self._flow.window_bytes
        )

    def fits(self, size: int) -> bool:
        """Whether a payload of `size` bytes may be pushed now; one is allowed whatever its size."""
        return self._places < self._flow.window_items and (
            not self._entries or self._replay_bytes + size <= self._flow.window_bytes
        )

    def push(self, payload: bytes, item: object = None) -> int:
        """Accept the next input and return its number. Call `fits` first.

        Args:
            payload: as the codec made it; at most `FlowControl.max_item_bytes`.
            item: handed back with a failure of this input.
        """
        entry = self._append(payload, item)
        if self._attempt is not None:
            self._attempt.unsent.append(entry)
        return entry.number

    def push_failure(
        self, kind: ItemErrorKind, text: str, item: object = None, cause: Exception | None = None
    ) -> int:
        """Accept an input that cannot be sent: its failure is delivered in its place."""
        entry = self._append(b"", item)
        self._fail_here(entry, kind, text, cause)
        return entry.number

    def finish(self) -> None:
        """No further inputs will come."""
        self._finished = True

    def cancel(self, number: int) -> None:
        """Nobody wants the outputs of this input any more. It still gets one answer."""
        entry = self._entries.get(number)
        if entry is None or entry.cancelled or entry.failure is not None:
            return
        entry.cancelled = True
        attempt = self._attempt
        if attempt is not None and entry.sent_on == attempt.number:
            attempt.cancelled.append(number)
        else:
            self._fail_here(entry, ItemErrorKind.CANCELLED, "cancelled before it was sent")

    def _append(self, payload: bytes, item: object) -> _Entry:
        if self._finished:
            raise LocalProtocolError("input after finish()")
        self._last_number += 1
        self._places += 1
        entry = _Entry(self._last_number, payload, item)
        self._entries[entry.number] = entry
        self._replay_bytes += len(payload)
        if self._ordered:
            self._order.append(entry.number)
        return entry

    # ---------------------------------------------------------------- what is known

    @property
    def accepted(self) -> int:
        """How many inputs were pushed."""
        return self._last_number

    @property
    def unanswered(self) -> int:
        """How many inputs still lack their last output."""
        return len(self._entries)

    @property
    def unsent(self) -> int:
        """How many unanswered inputs were never sent."""
        return sum(not entry.sent_on for entry in self._entries.values())

    @property
    def taken_through(self) -> int:
        """Every input up to this one is answered, and its outputs were taken."""
        return self._taken.through

    @property
    def complete(self) -> bool:
        """Every input there will ever be is answered. Outputs may still wait to be taken."""
        return self._finished and not self._entries

    @property
    def held_outputs(self) -> int:
        """Outputs that wait to be taken."""
        return self._held_outputs

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
        for entry in list(self._entries.values()):
            if entry.failure is not None:
                continue
            if entry.cancelled:
                self._fail_here(entry, ItemErrorKind.CANCELLED, "cancelled")
            else:
                attempt.unsent.append(entry)
        self._attempt = attempt
        return attempt.number

    def lost(self, attempt: int) -> None:
        """The call of this attempt is over, or abandoned. What it did not answer goes again."""
        if self._attempt is not None and self._attempt.number == attempt:
            self.state = local_step(CLIENT, self.state, ClientEvent.LOST)
            self._attempt = None

    # ---------------------------------------------------------------- frames out

    def next_frame(self) -> ClientFrame | None:
        """The next frame to send, or None while there is nothing to say.

        Whoever takes a frame must send it: it counts as sent.
        """
        attempt = self._attempt
        if attempt is None or self.over:
            return None
        if self.state is ClientState.OPENING:
            return None if attempt.open_sent else self._open_frame(attempt)
        inputs = self._gather(attempt) if self.state is ClientState.STREAMING else ()
        end = self._end_to_send(attempt)
        held = Credit(self._held_outputs, self._held_bytes)
        if not (
            inputs
            or end
            or attempt.cancelled
            or attempt.pacer.acknowledgement_due
            or attempt.grant.due(held)
        ):
            return None
        cancelled, attempt.cancelled = attempt.cancelled, []
        return ClientFrame(
            inputs=inputs,
            frames_read=attempt.pacer.report(),
            credit=attempt.grant.grant(held),
            cancelled=_ranges(cancelled),
            taken_through=self._taken.through,
            end=end,
        )

    def _offer(self) -> Limits:
        flow = self._flow
        return Limits(
            window_items=flow.window_items,
            window_bytes=flow.window_bytes,
            unacknowledged_frames=flow.max_unacknowledged_frames,
            frame_bytes=flow.max_frame_bytes,
            item_bytes=flow.max_item_bytes,
        )

    def _open_frame(self, attempt: _Attempt) -> ClientFrame:
        attempt.open_sent = True
        frame_open = Open(
            stream_id=self.stream_id,
            attempt=attempt.number,
            codec=self._codec,
            application=self._application,
            order=Order.INPUT if self._ordered else Order.ANY,
            first_number=attempt.unsent[0].number if attempt.unsent else self._last_number + 1,
            limits=self._offer(),
            deadline_ms=attempt.deadline_ms,
            parameters=self._parameters,
        )
        return ClientFrame(
            open=frame_open,
            inputs=self._gather(attempt),
            credit=attempt.grant.grant(Credit(self._held_outputs, self._held_bytes)),
            taken_through=self._taken.through,
        )

    def _gather(self, attempt: _Attempt) -> tuple[InputRun, ...]:
        """Inputs for one frame: all that wait and fit (docs sections 5, 6 and 8)."""
        if attempt.limits is None or not attempt.unsent or not attempt.pacer.may_send:
            return ()
        runs = tuple(self._runs(attempt, attempt.limits))
        if runs:
            attempt.pacer.sent()
        return runs

    def _runs(self, attempt: _Attempt, limits: Limits) -> Iterator[InputRun]:
        room = min(FRAME_TARGET_BYTES, limits.frame_bytes)
        payloads: list[bytes] = []
        first: _Entry | None = None
        size = 0
        while attempt.unsent:
            entry = attempt.unsent[0]
            if entry.failure is not None:  # cancelled before it was sent
                attempt.unsent.popleft()
                continue
            length = len(entry.payload)
            if self.state is ClientState.OPENING and (
                length > limits.item_bytes or entry.next_index
            ):
                break  # what was known of an earlier server may not hold for this one
            if length > limits.item_bytes:
                attempt.unsent.popleft()
                self._fail_here(
                    entry,
                    ItemErrorKind.INPUT_TOO_LARGE,
                    f"{length} bytes encoded, and the server accepts {limits.item_bytes}",
                )
                continue
            if attempt.in_flight_items and (
                attempt.in_flight_items >= limits.window_items
                or attempt.in_flight_bytes + length > limits.window_bytes
            ):
                break
            if size and size + length + ITEM_OVERHEAD_BYTES > room:
                break
            attempt.unsent.popleft()
            size += length + ITEM_OVERHEAD_BYTES
            if first is not None and (
                entry.number != first.number + len(payloads) or entry.next_index
            ):
                yield InputRun(first.number, payloads, first.next_index)
                first, payloads = None, []
            if first is None:
                first = entry
            payloads.append(entry.payload)
            self._note_sent(attempt, entry, length)
        if first is not None:
            yield InputRun(first.number, payloads, first.next_index)

    def _note_sent(self, attempt: _Attempt, entry: _Entry, length: int) -> None:
        if entry.sent_on:
            self.counters.replayed += 1
        else:
            self.counters.sent += 1
        entry.sent_on = attempt.number
        attempt.in_flight_items += 1
        attempt.in_flight_bytes += length
        attempt.inputs_sent += 1

    def _end_to_send(self, attempt: _Attempt) -> ClientEnd | None:
        if (
            self._finished
            and self.state is ClientState.STREAMING
            and not attempt.unsent
            and not attempt.end_sent
        ):
            attempt.end_sent = True
            return ClientEnd(self._last_number)
        return None

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
        if self.state is ClientState.OPENING:
            self._receive_first(current, frame)
            if self.over:
                return
        elif frame.welcome is not None or frame.refused is not None:
            raise RemoteProtocolError("a second opening frame")
        current.pacer.acknowledge(frame.frames_read)
        if frame.paced:
            self._step(ClientEvent.ANSWER)
            current.pacer.read()
            self._receive_answers(current, frame)
        if frame.drain is not None:
            self._step(ClientEvent.DRAIN)
            self.grace_ms = frame.drain.grace_ms
        if frame.error is not None:
            self.failure = frame.error
            self._step(ClientEvent.FAILURE)
        elif frame.end is not None:
            self._check_end(current, frame.end)
            self._step(ClientEvent.END)
        elif self.state is ClientState.DRAINING and current.in_flight_items == 0:
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
            else:
                self.refusal = misfit
                self._step(ClientEvent.REFUSAL)
        elif frame.refused is not None:
            self.refusal = frame.refused
            self._step(ClientEvent.REFUSAL)
        elif frame.error is not None:
            self.failure = frame.error
            self._step(ClientEvent.FAILURE)
        else:
            raise RemoteProtocolError("the first frame neither welcomes nor refuses the stream")

    def _interrupt(self, attempt: _Attempt) -> None:
        """Fail the inputs that were cut in their middle, if who welcomed us cannot go on there.

        Two halves of different answers are never spliced (docs section 14).
        """
        if self.welcome is not None and self.welcome.restartable:
            return
        for entry in attempt.unsent:
            if entry.next_index and entry.failure is None:
                self._fail_here(
                    entry,
                    ItemErrorKind.INTERRUPTED,
                    f"cut after {entry.next_index} outputs, and its handler can neither start in"
                    " the middle nor repeat itself",
                )

    def _misfit(self, welcome: Welcome) -> Refused | None:
        """Why this client cannot be served by who welcomed it (docs section 4)."""
        if welcome.protocol_version != PROTOCOL_VERSION:
            return Refused(
                RefusalKind.VERSION,
                f"the server speaks version {welcome.protocol_version} of the protocol, this"
                f" client version {PROTOCOL_VERSION}",
            )
        if self._application and welcome.application not in ("", self._application):
            return Refused(
                RefusalKind.APPLICATION,
                f"application {printable(welcome.application, 200)!r} answered",
            )
        if welcome.handler_kind is HandlerKind.STATEFUL:
            return Refused(
                RefusalKind.VERSION, "the handler is stateful, which this client cannot resume"
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
        # Which of a frame's outputs the server counted last, and let exceed the credit, does not
        # show: it may have been the largest (docs section 7).
        for size in sorted(_sizes(frame)):
            attempt.grant.receive(size)
        if self._ordered and len(answers) > 1:
            answers.sort(key=_place)
        for answer in answers:
            if isinstance(answer, OutputRun):
                for number, payload in enumerate(answer.payloads, answer.first_number):
                    self._receive_output(attempt, number, 0, payload, last=True)
            elif isinstance(answer, OutputPart):
                self._receive_part(attempt, answer)
            else:
                self._receive_failure(attempt, answer)

    def _receive_part(self, attempt: _Attempt, part: OutputPart) -> None:
        if not part.payloads:
            if not part.last:
                raise RemoteProtocolError(f"an empty part for input {part.number}")
            entry = self._answerable(attempt, part.number, part.first_index)
            if entry is not None:
                self._answered(attempt, entry)
                self._ready.append(Delivery(part.number, part.first_index, None, None, True))
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
        entry = self._answerable(attempt, number, index)
        if entry is None:
            return
        entry.next_index += 1
        self._held_outputs += 1
        self._held_bytes += len(payload)
        self._ready.append(Delivery(number, index, payload, None, last))
        if last:
            self._answered(attempt, entry)

    def _receive_failure(self, attempt: _Attempt, failure: ItemFailure) -> None:
        entry = self._answerable(attempt, failure.number, failure.index)
        if entry is None:
            return
        self._ready.append(Delivery(failure.number, failure.index, None, failure, True, entry.item))
        self._answered(attempt, entry)

    def _answerable(self, attempt: _Attempt, number: int, index: int) -> _Entry | None:
        """The input that an answer is for, or None if the answer is a duplicate.

        Raises:
            RemoteProtocolError: there is no such input, or something before this answer is
                missing.
        """
        entry = self._entries.get(number)
        if entry is None:
            if not 1 <= number <= self._last_number:
                raise RemoteProtocolError(f"an answer to input {number}, which was never sent")
            self.counters.duplicates += 1
            return None
        if entry.sent_on != attempt.number:
            raise RemoteProtocolError(
                f"an answer to input {number}, which was not sent on this attempt"
            )
        if index < entry.next_index:
            self.counters.duplicates += 1
            return None
        if index > entry.next_index:
            raise RemoteProtocolError(
                f"a gap: output {index} of input {number} came before output {entry.next_index}"
            )
        if self._ordered and number != self._order[0]:
            raise RemoteProtocolError(
                f"a gap: an answer to input {number} came before one to input {self._order[0]}"
            )
        self.counters.received += 1
        attempt.progressed = True
        return entry

    def _answered(self, attempt: _Attempt, entry: _Entry) -> None:
        attempt.in_flight_items -= 1
        attempt.in_flight_bytes -= len(entry.payload)
        self._remove(entry)
        if self._ordered:
            self._order.popleft()
            self._release_failures()

    def _check_end(self, attempt: _Attempt, end: ServerEnd) -> None:
        """The end frame cross-checks what both sides counted (docs section 9)."""
        if not attempt.end_sent:
            raise RemoteProtocolError("the server ended a stream that had not ended")
        said = (end.last_number, end.inputs_received, end.inputs_answered)
        known = (self._last_number, attempt.inputs_sent, attempt.inputs_sent)
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
        while self._ready:
            delivery = self._ready.popleft()
            if delivery.payload is not None:
                self._held_outputs -= 1
                self._held_bytes -= len(delivery.payload)
            if delivery.last:
                self._places -= 1
                self._taken.add(delivery.number)
            if delivery.payload is not None or delivery.failure is not None:
                return delivery
        return None

    # ---------------------------------------------------------------- failures on this side

    def _fail_here(
        self, entry: _Entry, kind: ItemErrorKind, text: str, cause: Exception | None = None
    ) -> None:
        """Answer an input without the server; when ordered, once its turn has come."""
        entry.failure = (ItemFailure(entry.number, kind, text, entry.next_index), cause)
        if self._ordered:
            self._release_failures()
        else:
            self._deliver_failure(entry)

    def _release_failures(self) -> None:
        while self._order:
            entry = self._entries[self._order[0]]
            if entry.failure is None:
                return
            self._order.popleft()
            self._deliver_failure(entry)

    def _deliver_failure(self, entry: _Entry) -> None:
        if entry.failure is None:
            raise LocalProtocolError(f"input {entry.number} has not failed")
        failure, cause = entry.failure
        self._remove(entry)
        self._ready.append(
            Delivery(entry.number, failure.index, None, failure, True, entry.item, cause)
        )

    def _remove(self, entry: _Entry) -> None:
        del self._entries[entry.number]
        self._replay_bytes -= len(entry.payload)


def _ranges(numbers: list[int]) -> list[NumberRange]:
    """Numbers as ranges, neighbours joined."""
    ranges: list[NumberRange] = []
    for number in sorted(numbers):
        if ranges and ranges[-1].last == number - 1:
            ranges[-1] = NumberRange(ranges[-1].first, number)
        else:
            ranges.append(NumberRange(number, number))
    return ranges


def _sizes(frame: ServerFrame) -> Iterator[int]:
    """The sizes of a frame's outputs, in bytes."""
    for run in frame.outputs:
        yield from map(len, run.payloads)
    for part in frame.parts:
        yield from map(len, part.payloads)


def _place(answer: OutputRun | OutputPart | ItemFailure) -> tuple[int, int]:
    """Where an answer stands among those of its frame."""
    if isinstance(answer, OutputRun):
        return answer.first_number, 0
    if isinstance(answer, OutputPart):
        return answer.number, answer.first_index
    return answer.number, answer.index
