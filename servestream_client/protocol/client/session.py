"""The state machine over a stream's ledger, its delivery queue, and the attempt under way.

Invariant: each step is in the table of `protocol.states`; a frame of an older attempt changes
nothing but a count.

Pure: the driver around it moves inputs in (`push`, `Ledger.finish`), outputs out (`DeliveryQueue`),
and frames both ways (`next_frame`, `receive`). Each returns at once, and may leave more to do.
It has many doors of a few lines each, and is the longer for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from servestream_client.config import FlowControl, Watchdog
from servestream_client.cursor import CursorState
from servestream_client.errors import ItemErrorKind, LocalProtocolError, RemoteProtocolError
from servestream_client.protocol import coming
from servestream_client.protocol.client.answers import AnswerReceiver
from servestream_client.protocol.client.attempt import Attempt
from servestream_client.protocol.client.counters import ClientCounters
from servestream_client.protocol.client.delivery import DeliveryQueue
from servestream_client.protocol.client.ledger import UNKNOWN_BYTES, Ledger
from servestream_client.protocol.client.opening import Offer, first_word, limits_of, milliseconds
from servestream_client.protocol.client.partial import Partial
from servestream_client.protocol.client.stream_state import StreamState
from servestream_client.protocol.frames import (
    SINGLE_OUTPUT,
    STREAM_ID_BYTES,
    ClientFrame,
    CodecId,
    Coming,
    Credit,
    ItemFailure,
    Limits,
    Load,
    RefusalKind,
    Refused,
    ServerFrame,
    StreamErrorKind,
    StreamFailure,
    Welcome,
)
from servestream_client.protocol.runs import Run
from servestream_client.protocol.states import (
    CLIENT,
    ClientEvent,
    ClientState,
    local_step,
    peer_step,
)

__all__ = ["ClientSession"]

MOVE_GRACE_MS = 3_600_000
"""What a server gets to answer what it has, when the client moves by itself: nothing presses."""

_NOBODYS_FAULT = frozenset(
    {StreamErrorKind.SILENCE, StreamErrorKind.SUPERSEDED, StreamErrorKind.OVERLOADED}
)
"""Why a server may give a stream up without anything being wrong with its inputs."""

_OVER = frozenset({ClientState.ENDED, ClientState.LEFT, ClientState.REFUSED, ClientState.FAILED})


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
        frees_places: see `Ledger`.
        tracked: its consumer takes cursors.
        position: of the cursor with which it begins.
        begun: the state in that, with which the numbers of its inputs go on behind `position`.
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
        frees_places: bool = False,
        tracked: bool = False,
        position: int = 0,
        begun: CursorState | None = None,
        watchdog: Watchdog | None = None,
    ) -> None:
        if len(stream_id) != STREAM_ID_BYTES:
            raise LocalProtocolError(f"a stream id has {STREAM_ID_BYTES} bytes")
        self.stream_id = stream_id
        self.flow: FlowControl = flow
        self.watchdog: Watchdog = watchdog or Watchdog(heartbeat_interval=None, item_timeout=None)
        self.application: str = application
        self.ordered: bool = ordered
        self.ledger: Ledger = Ledger(flow, ordered=ordered, frees_places=frees_places)
        """Its inputs."""
        budget = Credit(flow.output_items, flow.output_bytes)
        self.delivery: DeliveryQueue = DeliveryQueue(self.ledger, budget)
        """The answers that its consumer has not taken."""
        self.attempt: Attempt | None = None
        """The one under way."""
        self.counters: ClientCounters = ClientCounters()
        self._answers = AnswerReceiver(self.delivery, self.counters, flow)
        self._offer = Offer(
            stream_id=stream_id,
            codec=codec,
            application=application,
            ordered=ordered,
            parameters=dict(parameters or {}),
            isolated=isolated,
            limits=limits_of(flow),
            heartbeat_ms=milliseconds(self.watchdog.heartbeat_interval),
            item_timeout_ms=milliseconds(self.watchdog.item_timeout),
            compression=flow.compression_level,
        )
        self.carried: StreamState = StreamState(
            self.ledger, tracked=tracked, position=position, begun=begun
        )
        """The state that it carries."""
        self.state: ClientState = ClientState.IDLE
        self.welcome: Welcome | None = None
        """The last welcome of this stream."""
        self.load: Load | None = None
        """What a server of this stream last said of its load."""
        self.refusal: Refused | None = None
        self.failure: StreamFailure | None = None
        """Why, in the states REFUSED and FAILED."""
        self.elsewhere: Sequence[str] = ()
        """Targets that a server which is leaving has told of."""
        self.grace_ms: int | None = None
        """Once the server said that it is leaving: how long it still serves what was sent."""

    # ---------------------------------------------------------------- inputs

    def push(self, payload: bytes, item: object = None) -> int:
        """The same as `push_all`, for one input. Call `Ledger.fits` first."""
        return self.push_all((payload,), (item,), len(payload))

    def push_partial(self, payload: bytes, item: object, partial: Partial, held: Credit) -> int:
        """The same for an input that another stream has dropped in its middle; `held` are those of
        its outputs that its consumer has not taken.
        """
        number = self.ledger.append((payload,), (item,), len(payload))
        self.ledger.partials[number] = partial
        self.delivery.adopt(number, held)
        if self.attempt is not None:
            self.attempt.add_partial(number, payload, partial)
        return number

    def push_all(self, payloads: Sequence[bytes], items: Sequence[object], size: int) -> int:
        """Accept inputs, at least one, and return the first one's number. See `Ledger.room`.

        Args:
            payloads: as the codec made them; each at most `FlowControl.max_item_bytes`.
            items: as many, handed back with a failure of their input.
            size: of the payloads together.
        """
        first = self.ledger.append(payloads, items, size)
        if self.attempt is not None:
            self.attempt.unsent.append(Run(first, payloads, size))
        return first

    def push_at(self, number: int, payload: bytes) -> None:
        """The same under a number of the caller's, see `may_push_at`, of an unordered stream."""
        if self.ledger.ordered or not self.may_push_at(number):
            raise LocalProtocolError("push_at needs an unordered stream, and a number above all")
        self.ledger.append_at(number, payload)
        if self.attempt is not None:
            self.attempt.unsent.append(Run(number, (payload,), len(payload)))

    def may_push_at(self, number: int) -> bool:
        """Whether an input may have this number: they ascend during an attempt."""
        attempt = self.attempt
        return number not in self.ledger.replay and (attempt is None or attempt.may_push_at(number))

    def push_failure(
        self,
        kind: ItemErrorKind,
        text: str,
        item: object = None,
        cause: BaseException | None = None,
        *,
        size: int = UNKNOWN_BYTES,
    ) -> int:
        """Accept an input that cannot be sent: its failure is delivered in its place. Call
        `Ledger.fits` first, with `size`: the bytes that it counts for until then.
        """
        number = self.ledger.append_unsendable(item, size)
        self.delivery.fail_here(number, kind, text, cause)
        return number

    def cancel(self, number: int) -> None:
        """Nobody wants the outputs of this input any more. It still gets one answer, but its
        payload and item are let go at once: no attempt will carry it.
        """
        if not self.ledger.cancel(number):
            return
        if self.attempt is None or not self.attempt.cancel(number):
            self.delivery.fail_here(number, ItemErrorKind.CANCELLED, "cancelled before it was sent")

    @property
    def may_quarantine(self) -> bool:
        """Whether inputs can be answered on another stream: each by itself, with one output."""
        return self.welcome is not None and self.welcome.handler_kind in SINGLE_OUTPUT

    def quarantine(self, numbers: Iterable[int], *, in_part: bool = False) -> list[int]:
        """Between two attempts: have these inputs answered elsewhere, see `resolve_quarantined`,
        and `Ledger.quarantine`.
        """
        if self.attempt is not None:
            raise LocalProtocolError("inputs are quarantined between attempts")
        return self.ledger.quarantine(numbers, in_part=in_part)

    def restore(self, number: int, payload: bytes) -> None:
        """See `StreamState.restore`."""
        self.carried.restore(number, payload, self.attempt)

    def state_at(self, position: int) -> CursorState | None:
        """What a cursor holds of the state; see `FoldHistory.at`."""
        return self.carried.at(position, self.stream_id, self.counters.attempts)

    def resolve_quarantined(
        self, number: int, payload: bytes | None, failure: ItemFailure | None
    ) -> None:
        """The only answer to an input in quarantine: its output, or why there is none."""
        resolved = self.delivery.resolve_quarantined(number, payload, failure)
        self.counters.isolated += resolved
        self.counters.outside += resolved

    def drop(self, number: int) -> Partial | None:
        """Between two attempts: forget an input, of which nothing more will be delivered. Its
        caller has it answered in another way. Only for a stream that is not ordered.

        Returns:
            What it takes to go on with it, if outputs came: see `push_partial`.
        """
        if self.attempt is not None or self.ledger.ordered:
            raise LocalProtocolError("inputs are dropped between attempts, from unordered streams")
        return self.ledger.drop(number)

    # ---------------------------------------------------------------- attempts

    def begin(self, *, known: Limits | None = None, deadline_ms: int = 0) -> Attempt:
        """Start the next attempt: everything unanswered goes again, under its old numbers.

        Args:
            known: the limits that this target set when it welcomed this client before; with them
                the open frame may carry inputs at once.
            deadline_ms: what is left until the stream's deadline; 0: it has none.
        """
        self.state = local_step(CLIENT, self.state, ClientEvent.BEGIN)
        self.refusal = self.failure = self.grace_ms = None
        self.counters.attempts += 1
        for number in self.ledger.cancelled_and_carried:
            self.delivery.fail_here(number, ItemErrorKind.CANCELLED, "cancelled")
        self.attempt = Attempt(
            self.carried.attempts_before + self.counters.attempts,
            self._offer,
            self.delivery,
            self.counters,
            known=known,
            deadline_ms=deadline_ms,
        )
        return self.attempt

    def lost(self, attempt: int) -> None:
        """The call of this attempt is over, or abandoned. What it did not answer goes again."""
        if self.attempt is not None and self.attempt.number == attempt:
            self.state = local_step(CLIENT, self.state, ClientEvent.LOST)
            self.attempt = None

    def move(self) -> bool:
        """Take leave of the present attempt's server in good order, as after a drain; False where
        the attempt is at its end, or has not begun, or is `pinned`, or in the midst of an input.
        """
        attempt = self.attempt
        if attempt is None or self.state is not ClientState.STREAMING:
            return False
        if attempt.end_sent or attempt.pinned or attempt.cuts.begun:
            return False
        self.state = local_step(CLIENT, self.state, ClientEvent.MOVE)
        self.grace_ms = MOVE_GRACE_MS
        attempt.take_leave()
        if attempt.may_leave:
            self.state = local_step(CLIENT, self.state, ClientEvent.LEAVE)
        return True

    def _step(self, event: ClientEvent) -> None:
        self.state = peer_step(CLIENT, self.state, event)

    # ---------------------------------------------------------------- frames out

    @property
    def has_output(self) -> bool:
        """Whether it is worth while to ask for the `next_frame`, or the attempt is `over`."""
        attempt, state = self.attempt, self.state
        if attempt is None or state in _OVER:
            return True
        if state is ClientState.OPENING:
            return not attempt.open_sent
        if state is ClientState.STREAMING and (attempt.may_send or attempt.may_end):
            return True
        return attempt.notices_due

    @property
    def large(self) -> int:
        """The bytes of the frame that goes next, if it must be announced and is not yet; else 0."""
        attempt = self.attempt
        if attempt is None or attempt.unsent.frame_bytes <= attempt.announcements.covered:
            return 0  # which is nearly always so
        return attempt.large() if self.state is ClientState.STREAMING else 0

    def next_frame(
        self, *, hold: bool = False, beside: int = 0, alone: bool = True
    ) -> ClientFrame | None:
        """The next frame to send, or None while there is nothing to say.

        A frame that was taken counts as sent: send it.

        Args:
            hold: a `large` frame is not to go yet.
            beside: bytes on the connection that may go ahead of what follows this frame.
            alone: no other call is to be asked before a large frame goes.
        """
        attempt = self.attempt
        if attempt is None or self.state in _OVER:
            return None
        if self.state is ClientState.OPENING:
            return None if attempt.open_sent else attempt.open_frame(beside)
        streaming = self.state is ClientState.STREAMING
        large = self.large
        chunk = attempt.cut() if streaming else None
        inputs = attempt.gather() if streaming and not large and chunk is None else ()
        ends = streaming and attempt.may_end
        if not (inputs or chunk or ends or attempt.notices_due or (large and not hold)):
            return None
        end = attempt.end() if ends else None
        own = streaming and not hold and (large > 0 or alone)
        announced = attempt.announce(beside, own=own)
        return ClientFrame(
            inputs=inputs,
            frames_read=attempt.pacer.report(),
            credit=attempt.allowance.grant(),
            cancelled=attempt.cancelled.take(attempt.limits) if attempt.cancelled else (),
            taken_through=self.ledger.taken_through,
            end=end,
            heartbeat=attempt.heartbeat(),
            coming=announced,
            input_credit=attempt.allowance.grant_each(),
            want_token=attempt.take_want(),
            chunk=chunk,
            compression=attempt.compression,
        )

    # ---------------------------------------------------------------- frames in

    def receive(self, attempt: int, frame: ServerFrame) -> None:
        """Take in a frame that came on the call of `attempt`.

        Frames of an older attempt are ignored. Afterwards look at `over`, `delivery` and
        `next_frame`.

        Raises:
            RemoteProtocolError: the server broke the protocol. What it said up to there holds;
                abandon the attempt with `lost`.
        """
        current = self.attempt
        if current is None or current.number != attempt:
            self.counters.stale += 1
            return
        current.pulse.on_received()
        if self.state in _OVER:  # what comes after the last word is dropped
            if self.state is ClientState.LEFT and frame.end is not None:  # it crossed the leaving
                current.reports.check_end(frame.end, end_sent=current.end_sent)
                self._step(ClientEvent.END)
            return
        awaited = current.awaited
        current.awaited = frame.coming and coming.bounded(frame.coming, self.flow.max_frame_bytes)
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
            self._answers.receive(current, frame)
        if frame.tokens or frame.no_token:
            self.failure = self.carried.receive(current, frame, self.counters)
            if self.failure is not None:
                self._step(ClientEvent.FAILURE)
                return
        current.reports.receive(frame.running, frame.heartbeat)
        self.load = frame.load or self.load
        self._receive_parting(current, frame)

    def _receive_first(self, attempt: Attempt, frame: ServerFrame) -> None:
        said = first_word(self._offer, frame)
        attempt.opening = False
        if isinstance(said, Welcome):
            said = self.carried.welcomed(said)
        if isinstance(said, Welcome):
            self._step(ClientEvent.WELCOME)
            self.welcome = said
            self.counters.welcomes += 1
            self.counters.token_refusals = 0
            attempt.welcomed(said)
        elif isinstance(said, Refused):
            self.refusal = said
            self.counters.token_refusals += said.kind is RefusalKind.TOKEN
            self._step(ClientEvent.REFUSAL)
        else:
            self.failure = said
            self._step(ClientEvent.FAILURE)

    def _receive_parting(self, attempt: Attempt, frame: ServerFrame) -> None:
        if frame.drain is not None:
            self._step(ClientEvent.DRAIN)
            self.grace_ms, self.elsewhere = frame.drain.grace_ms, frame.drain.endpoints
        if frame.error is not None:
            self.failure = frame.error
            self._step(ClientEvent.FAILURE)
        elif frame.end is not None:
            attempt.reports.check_end(frame.end, end_sent=attempt.end_sent)
            self._step(ClientEvent.END)
        elif self.state is ClientState.DRAINING and attempt.may_leave:
            self.state = local_step(CLIENT, self.state, ClientEvent.LEAVE)

    # ---------------------------------------------------------------- the present attempt

    @property
    def over(self) -> bool:
        """The attempt has said all: half-close the call and read it to its end."""
        return self.state in _OVER

    @property
    def idle(self) -> bool:
        """Whether the server, having welcomed the present attempt, owes nothing that it may send:
        no input is unanswered, or the consumer does not take what there is.
        """
        attempt = self.attempt
        return (
            attempt is not None
            and self.state is ClientState.STREAMING
            and (not attempt.in_flight.items or attempt.waits_for_consumer)
        )

    @property
    def waits_for_state(self) -> bool:
        """Whether it leaves its server, and lacks nothing but the state."""
        attempt = self.attempt
        if attempt is None or self.state is not ClientState.DRAINING or attempt.fold is None:
            return False
        return not attempt.in_flight.items and not attempt.may_leave

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
    def progressed(self) -> bool:
        """Whether the present attempt brought anything new."""
        return self.attempt is not None and self.attempt.progressed

    @property
    def awaited(self) -> Coming | None:
        """What the present attempt's server has announced, until it comes (docs section 12)."""
        return self.attempt.awaited if self.attempt is not None else None

    @property
    def late_chunks(self) -> str:
        """What is to be said of a link on which the rest of an answer did not come in time; empty:
        none was to come.
        """
        return "" if self.attempt is None else self.attempt.assembly.said("the answer to input")

    @property
    def suspects(self) -> Sequence[int]:
        """See `Attempt`; none between two of them."""
        return self.attempt.suspects if self.attempt is not None else ()
