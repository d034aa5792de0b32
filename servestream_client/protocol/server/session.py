"""The server's side of one attempt: what came, what is computed, what may go out.

A pure state machine, like its sibling. The runner around it moves frames (`receive`,
`next_frame`); workers take inputs (`Intake.next_run`), and handlers give their results
(`Outbox.outputs`, `output`, `close`, `fail`). It lives as long as one call: what must survive is
the client's to carry.

Invariant: what happens follows the table of `protocol.states`, and the parts of a frame take effect
in one order: what the client has read and grants, its inputs, where it stands, what it cancels, its
end. The rules are docs/protocol.md, sections 4 to 13 and 16, seen from the server.
"""

from __future__ import annotations

import math
from dataclasses import replace

from servestream_client.errors import LocalProtocolError, RemoteProtocolError
from servestream_client.protocol import chunks, coming, load
from servestream_client.protocol.coming import BESIDE_BYTES
from servestream_client.protocol.frames import (
    BlockedOn,
    ClientFrame,
    Coming,
    Drain,
    HandlerKind,
    Heartbeat,
    Load,
    Open,
    OutputRun,
    RefusalKind,
    Refused,
    Running,
    ServerEnd,
    ServerFrame,
    StateToken,
    StreamErrorKind,
    StreamFailure,
    Welcome,
)
from servestream_client.protocol.pacing import Pacer
from servestream_client.protocol.pulse import Pulse
from servestream_client.protocol.server import opening
from servestream_client.protocol.server.cuts import OutputCuts
from servestream_client.protocol.server.fold import FoldOutbox
from servestream_client.protocol.server.intake import Intake
from servestream_client.protocol.server.opening import ServerOffer
from servestream_client.protocol.server.outbox import Outbox
from servestream_client.protocol.server.parts import PartsOutbox
from servestream_client.protocol.sizes import Sizes
from servestream_client.protocol.states import (
    SERVER,
    ServerEvent,
    ServerState,
    local_step,
    peer_step,
)

__all__ = ["ServerSession"]

_OVER = frozenset({ServerState.CLOSED, ServerState.ABANDONED})

_PARTING = frozenset({ServerState.FINISHING, ServerState.DRAINING})
"""In which no other inputs come, or hardly any."""


class ServerSession:
    """One attempt at its server.

    Attributes:
        intake: the inputs that came; workers take them there.
        outbox: the answers; handlers put them there.
        parts: the same, where the handler gives many outputs.
        fold: the same, where it is stateful.
    """

    def __init__(self, offer: ServerOffer) -> None:
        self.state: ServerState = ServerState.AWAITING_OPEN
        self.opened: Open | None = None
        """The client's open, once it came."""

        many = offer.handler_kind is HandlerKind.ONE_TO_MANY
        self.parts: PartsOutbox | None = PartsOutbox(offer.ahead_bytes) if many else None
        stateful = offer.handler_kind is HandlerKind.STATEFUL
        self.fold: FoldOutbox | None = FoldOutbox() if stateful else None
        self.outbox: Outbox | PartsOutbox = self.parts or self.fold or Outbox()
        self.intake: Intake = Intake(offer, self.outbox)
        self._offer = offer
        self._pacer = Pacer(offer.limits.unacknowledged_frames)
        self._sizes = Sizes(self._pacer)
        self._most_bytes = 0  # of a frame, as the client said
        self._urgent = False  # the frame at hand is to be acknowledged at once
        self._pulse = Pulse()
        self._announcements = self._sizes.announcements
        self._cuts = OutputCuts(self.outbox, self._pacer, self._sizes)
        self.awaited: Coming | None = None
        """What the client has announced, until it comes (docs section 12)."""

        self._running = Running()
        self.heartbeat_ms: int = 0
        """The interval that this end promised; 0: none."""

        self._compression = 0  # at which level outputs are compressed
        self._reports = False  # the client balances by what is said of the load
        self._load: Load | None = None  # that is to be said
        self._load_said: Load | None = None

        self._first_frame: ClientFrame | None = None  # until the service has decided
        self._greeting: Welcome | Refused | None = None
        self._drain: Drain | None = None
        self._farewell: StreamFailure | ServerEnd | None = None
        self._last_number = 0

    # ---------------------------------------------------------------- what is known

    @property
    def over(self) -> bool:
        """Nobody will send or read anything more: stop computing and end the call."""
        return self.state in _OVER

    # ---------------------------------------------------------------- frames in

    def receive(self, frame: ClientFrame) -> None:
        """Take in a frame. Afterwards look at `state`, `intake` and `next_frame`.

        In state DECIDING, call `welcome` or `refuse`; what came along with the open is taken in
        by `welcome`.

        Raises:
            RemoteProtocolError: the client broke the protocol. Tell it with `give_up`.
        """
        if self.state is ServerState.LINGERING:
            return  # what came before the client read our last frame is dropped unread
        self._pulse.on_received()
        self._urgent = self.awaited is not None and self.awaited.acknowledge
        self.awaited = frame.coming and coming.bounded(frame.coming, self._offer.limits.frame_bytes)
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
        self._greeting = opening.incompatibility(self._offer, frame.open)
        if self._greeting is not None:
            self._step(ServerEvent.REFUSE)
            return
        self._first_frame = frame
        self._step(ServerEvent.OPEN)

    def welcome(self) -> None:
        """The service takes the stream.

        If inputs that came with the open exceed the limits, which their client cannot have
        known, the stream is refused after all; the client comes again with the open alone.
        """
        opened, first = self.opened, self._first_frame
        if opened is None or first is None:
            raise LocalProtocolError(f"welcome in state {self.state.name}")
        terms = opening.agree(self._offer, opened)
        if opening.exceeds(first.inputs, terms.limits):
            self.refuse(RefusalKind.OVERLOADED, "more inputs than fit came with the open", 0)
            return
        self.state = local_step(SERVER, self.state, ServerEvent.WELCOME)
        self._first_frame = None
        self._greeting = opening.welcome(self._offer, terms)
        self.intake.begin(terms)
        self.outbox.begin(terms)
        self._pacer.limit = terms.limits.unacknowledged_frames
        self._most_bytes = terms.frame_bytes
        budget = self._offer.ahead_bytes
        if first.credit is not None:
            budget = min(budget, first.credit.bytes)
        self._sizes.frame.begin(terms.frame_bytes, budget)
        self._reports = load.FEATURE in terms.features
        self._compression = terms.compression
        self.heartbeat_ms = terms.heartbeat_ms
        if self.heartbeat_ms:
            # A client that asks for more than it is granted need not be the quicker one itself.
            self._pulse.begin(own_ms=self.heartbeat_ms, peer_ms=self.heartbeat_ms)
        # The client sends nothing before it has the welcome, which large frames of others may
        # delay.
        before = self.awaited.bytes if self.awaited is not None else 0
        self.awaited = None
        if coming.FEATURE in terms.features:
            self._announcements.begin(self.heartbeat_ms)
            self.awaited = Coming(before + coming.UNHEARD_BYTES)
        self._cuts.begin(ordered=terms.ordered)
        if chunks.FEATURE in terms.features:
            free = self._announcements.free
            self._sizes.chunk.begin(terms.frame_bytes, opened.limits.item_bytes, free)
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
            self.outbox.credit.raise_to(frame.credit)
        if frame.input_credit and self.parts is not None:
            self.parts.grant(frame.input_credit)
        if frame.paced:
            self._step(ServerEvent.INPUT)
            self._pacer.read(urgent=self._urgent)
            self._pacer.check()
            self.intake.receive(frame)
        if frame.heartbeat is not None:
            self.intake.check_sent(frame.heartbeat)
        if frame.want_token and self.fold is not None:
            self.fold.want(self.intake.through)
        if frame.cancelled:
            if self.fold is not None:
                raise RemoteProtocolError("single inputs of a stateful stream cannot be cancelled")
            self.intake.receive_cancelled(frame.cancelled)
        if frame.end is not None:
            self.intake.check_end(frame.end.last_number)
            self._step(ServerEvent.CLIENT_END)
            self._last_number = frame.end.last_number

    # ---------------------------------------------------------------- leaving

    def drain(self, grace_ms: int) -> None:
        """Leave: ask the client to go elsewhere once it has its answers."""
        self.state = local_step(SERVER, self.state, ServerEvent.DRAIN)
        if self.state is ServerState.LINGERING:
            return  # the last word is spoken
        self._drain = Drain(grace_ms, self._offer.endpoints)

    def give_up(self, kind: StreamErrorKind, text: str, retry_after_ms: int | None = None) -> None:
        """The stream fails here; say so, and compute nothing more."""
        if self.state is ServerState.LINGERING:
            return  # the last word is spoken
        self.state = local_step(SERVER, self.state, ServerEvent.FAIL)
        self._drop_everything()
        self._farewell = StreamFailure(kind, text, retry_after_ms)

    def _drop_everything(self) -> None:
        self.outbox.clear()
        self._cuts.clear()
        self.intake.close()

    # ---------------------------------------------------------------- time

    @property
    def silent(self) -> bool:
        """Whether the client was not heard for too long: it, or the link, is gone."""
        return self._pulse.dead

    @property
    def under_way(self) -> int:
        """Payload bytes that were sent and that the client has not acknowledged, or are about to
        be, of an output that has begun to leave.
        """
        return sum(self._pacer.sizes) + min(self._cuts.left, BESIDE_BYTES)

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

    def report(self, now: Load) -> bool:
        """How busy this server is now.

        Returns:
            Whether that is said with the next frame, for which it may be time.
        """
        if not self._reports or self.over or not load.worth_saying(now, self._load_said):
            return False
        self._load = now
        return True

    def _blocked_on(self) -> BlockedOn:
        if self.outbox.lacks_credit:
            return BlockedOn.CREDIT
        if self._running.count or self.intake.startable:
            return BlockedOn.HANDLER
        if not self.outbox.unanswered:
            return BlockedOn.INPUT
        return BlockedOn.NOTHING if self.outbox.waiting else BlockedOn.HANDLER

    def note_time(self, now: float) -> None:
        """A frame went out or came in, just now, in seconds by whatever clock."""
        if self._sizes.note_time(now):
            self.outbox.gather_up_to(self._sizes.frame.bytes)

    # ---------------------------------------------------------------- frames out

    def next_frame(self) -> ServerFrame | None:
        """The next frame to send, or None while there is nothing to say.

        A frame that was taken counts as sent: send it.
        """
        if self.over:
            return None
        greeting, self._greeting = self._greeting, None
        if isinstance(greeting, Refused):
            return ServerFrame(refused=greeting)
        outbox, pacer = self.outbox, self._pacer
        waiting = outbox.waiting
        self._cuts.look()
        large = self._large if waiting else 0
        alone = self._token_goes_alone
        chunk, answers = (None, None) if large or alone else self._cuts.gather()
        token = self._gather_token(sent=answers is not None or chunk is not None)
        self._say_failure()
        if self.state is ServerState.FINISHING and not outbox.unanswered and self._may_end():
            self.state = local_step(SERVER, self.state, ServerEvent.END)
            self._farewell = ServerEnd(self._last_number, self.intake.received, outbox.answered)
        drain, farewell, self._drain, self._farewell = self._drain, self._farewell, None, None
        lingering = self.state is ServerState.LINGERING
        due = not lingering and (
            pacer.acknowledgement_due or self._pulse.due or large > 0 or self._load is not None
        )
        paced = answers is not None or chunk is not None or token is not None
        if not (greeting or paced or drain or farewell or due):
            return None
        beat = running = announced = None
        if self._pulse.due and not farewell:
            sent = outbox.credit.outputs_sent
            beat = Heartbeat(self.intake.through, sent, self._sizes.chunked_bytes)
            running = replace(
                self._running,
                started_through=self.intake.started_through,
                blocked_on=self._blocked_on(),
            )
        self._pulse.on_sent()
        self._announcements.sent()
        if waiting and (large := self._large):
            announced = self._announcements.announce(large, outbox.next_number)
        frame = ServerFrame(
            welcome=greeting,
            frames_read=pacer.report(),
            running=running,
            drain=drain,
            error=farewell if isinstance(farewell, StreamFailure) else None,
            end=farewell if isinstance(farewell, ServerEnd) else None,
            heartbeat=beat,
            coming=announced,
            load=self._take_load(),
            chunk=chunk,
            compression=self._compression,
        )
        if answers is not None:
            frame.outputs = [OutputRun(run.first, run.payloads) for run in answers.runs]
            frame.parts = answers.parts
            frame.errors = answers.errors
            self._cuts.leave_the_rest(frame)
        if token is not None:
            frame.tokens = (token,)
        return frame

    @property
    def last_input(self) -> int:
        """The last input that came, if it is the last that comes, or this server is leaving; else
        0. Behind it a stateful handler's state is wanted in any case.
        """
        return self.intake.through if self.state in _PARTING else 0

    def _may_end(self) -> bool:
        """Whether nothing is missing to the end: of a stateful handler, not the last state."""
        fold = self.fold
        if fold is None:
            return True
        fold.conclude()
        self._say_failure()
        return fold.failure is None and not (fold.token_waits or fold.owes(last=self.last_input))

    def _say_failure(self) -> None:
        """A stateful stream fails behind what was answered before: that leaves first."""
        fold = self.fold
        if fold is not None and fold.failure is not None and not self.outbox.waiting:
            self.give_up(fold.failure.kind, fold.failure.text)

    @property
    def _token_is_large(self) -> bool:
        """Whether a frame of answers and the state that is next would exceed what the client
        takes.
        """
        fold, most = self.fold, self._most_bytes
        return fold is not None and fold.next_token_bytes + self._sizes.frame.bytes > most

    @property
    def _token_goes_alone(self) -> bool:
        """Whether a state has a frame of its own, which is the next one."""
        return self.fold is not None and self.fold.token_ready and self._token_is_large

    def _gather_token(self, *, sent: bool) -> StateToken | None:
        """The state that goes out now, behind the answers; None if there is none.

        Args:
            sent: answers go with this frame, which is paced.
        """
        fold = self.fold
        if fold is None or not fold.token_ready or self.state is ServerState.LINGERING:
            return None
        if self._token_is_large if sent else not self._pacer.may_send(full=True):
            return None
        token = fold.take_token()
        if not sent:
            self._pacer.sent(len(token.token))
        return token

    def _take_load(self) -> Load | None:
        now, self._load = self._load, None
        self._load_said = now or self._load_said
        return now

    @property
    def _large(self) -> int:
        """The bytes of the frame that goes next, if it must be announced and is not yet; else 0."""
        outbox, announcements = self.outbox, self._announcements
        if outbox.held_bytes <= announcements.covered or not outbox.waiting:
            return 0
        if self._cuts.next_is_large:
            return 0
        size = outbox.next_frame_bytes - self._cuts.offset
        goes = outbox.credit.allows_output and self._pacer.may_send(full=outbox.fills_frame)
        return size if goes and announcements.lacks(size) else 0
