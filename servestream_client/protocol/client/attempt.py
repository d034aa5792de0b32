"""One attempt: what belongs to a single call, and dies with it.

Invariant: nothing is sent beyond the window, the pacing and the frame size that hold on this call;
one input goes out alone whatever its size. The ledger's carried inputs are in exactly one of two
places here: they wait (`unsent`), or are in flight, which `in_flight_items` and `in_flight_bytes`
count.
"""

from __future__ import annotations

from collections.abc import Sequence

from servestream_client.errors import FrameLostError, ItemErrorKind, RemoteProtocolError
from servestream_client.protocol import coming
from servestream_client.protocol.client.cancels import CancelNotices
from servestream_client.protocol.client.counters import ClientCounters
from servestream_client.protocol.client.delivery import DeliveryQueue
from servestream_client.protocol.client.opening import Offer, open_of
from servestream_client.protocol.client.standstill import Standstill
from servestream_client.protocol.coming import Announcements
from servestream_client.protocol.credit import CreditGrant
from servestream_client.protocol.frames import (
    BlockedOn,
    ClientEnd,
    ClientFrame,
    Coming,
    Heartbeat,
    InputRun,
    Limits,
    Running,
    ServerEnd,
    Welcome,
)
from servestream_client.protocol.pacing import FRAME_TARGET_BYTES, Pacer
from servestream_client.protocol.pulse import Pulse
from servestream_client.protocol.runs import Run, RunQueue

__all__ = ["Attempt"]

OVERDUE_INTERVALS = 3
"""Of heartbeats, that a server gets beyond an input's time until it should have let go of it."""


class Attempt:
    """One call of a stream.

    Args:
        number: which of the stream's attempts.
        offer: what the stream asks for.
        delivery: where answers go that need no server; its ledger has the inputs.
        counters: of the stream.
        known: the limits that this target set when it welcomed this client before.
        deadline_ms: what is left until the stream's deadline; 0: it has none.
    """

    __slots__ = (
        "_counters",
        "_crowded",
        "_cursor",
        "_deadline_ms",
        "_delivery",
        "_frame_room",
        "_inputs_sent",
        "_ledger",
        "_offer",
        "_standstill",
        "announcements",
        "announces",
        "awaited",
        "cancelled",
        "end_sent",
        "grant",
        "in_flight_bytes",
        "in_flight_items",
        "limits",
        "number",
        "open_sent",
        "pacer",
        "progressed",
        "pulse",
        "running",
        "sent_through",
        "unsent",
    )

    def __init__(
        self,
        number: int,
        offer: Offer,
        delivery: DeliveryQueue,
        counters: ClientCounters,
        *,
        known: Limits | None = None,
        deadline_ms: int = 0,
    ) -> None:
        self._offer = offer
        self._delivery = delivery
        self._ledger = delivery.ledger
        self._counters = counters
        self.number: int = number
        self._deadline_ms = deadline_ms
        self.limits: Limits | None = known
        """What this server allows, as far as it is known."""
        self._frame_room = _frame_room(self.limits)
        self.pacer: Pacer = Pacer((known or offer.limits).unacknowledged_frames)
        self.pulse: Pulse = Pulse()
        self.grant: CreditGrant = CreditGrant(delivery.budget)
        self.announcements: Announcements = Announcements()
        self.announces: bool = False
        """Whether the server understands announcements."""
        self._crowded = False  # see `crowd`
        self.awaited: Coming | None = None
        """What the server said of its next frame, until it comes (docs section 12)."""
        self.running: Running | None = None
        """On what it works, by its last word."""

        self.unsent: RunQueue = RunQueue()
        """What waits for a frame."""
        for run in self._ledger.resume():
            self.unsent.append(run)
        self.cancelled: CancelNotices = CancelNotices()
        """Of what the server is to hear so."""
        self.sent_through: int = 0
        """The last input that was sent: they go out in ascending order."""
        self.in_flight_items: int = 0
        self.in_flight_bytes: int = 0
        self._inputs_sent = 0
        self._cursor = 0  # if ordered: no answer below this number is missing here
        self.open_sent: bool = False
        self.end_sent: bool = False
        self.progressed: bool = False
        """Whether it brought anything new."""
        self._standstill = Standstill()

    # ---------------------------------------------------------------- opening

    def open_frame(self, beside: int) -> ClientFrame:
        """The first frame: nothing follows it before the welcome.

        Args:
            beside: bytes on the connection that may go ahead of what follows it.
        """
        self.open_sent = True
        return ClientFrame(
            open=open_of(
                self._offer,
                attempt=self.number,
                first_number=self.unsent.head.first if self.unsent else self._ledger.accepted + 1,
                deadline_ms=self._deadline_ms,
            ),
            inputs=self.gather(opening=True),
            credit=self.grant.grant(self._delivery.held),
            taken_through=self._ledger.taken_through,
            coming=Coming(beside) if beside else None,
        )

    def welcomed(self, welcome: Welcome) -> None:
        """The server takes the stream: its limits hold, and both keep their promises."""
        if not welcome.restartable:
            self._interrupt()
        self.limits = welcome.limits.within(self._offer.limits)
        self._frame_room = _frame_room(self.limits)
        self.pacer.limit = self.limits.unacknowledged_frames
        heartbeat_ms = self._offer.heartbeat_ms
        self.announces = coming.FEATURE in welcome.features
        if self.announces:
            self.announcements.begin(heartbeat_ms)
        if heartbeat_ms:
            self.pulse.begin(own_ms=heartbeat_ms, peer_ms=welcome.heartbeat_interval_ms)

    def _interrupt(self) -> None:
        """Fail the inputs that were cut in their middle: the server cannot go on there.

        Two halves of different answers are never spliced (docs section 14).
        """
        for number, index in sorted(self._ledger.next_index.items()):
            if number > self.sent_through and number not in self._ledger.decided:
                self.unsent.remove(number)
                self._delivery.fail_here(
                    number,
                    ItemErrorKind.INTERRUPTED,
                    f"cut after {index} outputs, and its handler can neither start in the middle"
                    " nor repeat itself",
                )

    # ---------------------------------------------------------------- inputs

    @property
    def may_send(self) -> bool:
        """Whether inputs wait, and the pacing lets a frame of them go."""
        waiting = self.unsent.frame_bytes
        return waiting > 0 and self.pacer.may_send(full=waiting >= self._frame_room)

    def gather(self, *, opening: bool = False) -> tuple[InputRun, ...]:
        """Inputs for one frame: all that wait and fit (docs sections 5, 6 and 8).

        Args:
            opening: they are to ride with the open.
        """
        if self.limits is None or not self.may_send:
            return ()
        before = self.in_flight_bytes
        runs = self._runs(self.limits, opening=opening)
        if runs:
            self.pacer.sent(self.in_flight_bytes - before)
        return runs

    def _runs(self, limits: Limits, *, opening: bool) -> tuple[InputRun, ...]:
        frame_room = self._frame_room
        if opening:
            frame_room = min(frame_room, coming.unannounced(self._offer.heartbeat_ms))
        used, runs = 0, list[InputRun]()
        while self.unsent:
            head = self.unsent.head
            if opening and (
                head.start_index
                or head.size > limits.item_bytes
                or len(head.payloads[0]) > frame_room
            ):
                break  # what was known of an earlier server may not hold, and an open is urgent
            if head.size > limits.item_bytes and self._fail_too_large(head, limits):
                continue
            count = self._fitting(limits, head, frame_room, used)
            if not count:
                break
            run = self.unsent.take(count)
            used += run.frame_bytes
            self._note_sent(run)
            runs.append(InputRun(run.first, run.payloads, run.start_index))
        return tuple(runs)

    def _fail_too_large(self, run: Run, limits: Limits) -> bool:
        """Fail those inputs of a run that the server does not accept; False if there are none."""
        payloads = enumerate(run.payloads, run.first)
        large = [(number, size) for number, p in payloads if (size := len(p)) > limits.item_bytes]
        self.unsent.remove_each([number for number, _ in large])
        for number, size in large:
            self._delivery.fail_here(
                number,
                ItemErrorKind.INPUT_TOO_LARGE,
                f"{size} bytes encoded, and the server accepts {limits.item_bytes}",
            )
        return bool(large)

    def _fitting(self, limits: Limits, run: Run, frame_room: int, used: int) -> int:
        """How many of a run's inputs fit into the window and into the frame.

        One is always allowed when none is unanswered, and one goes alone into a frame.
        """
        items, size = self.in_flight_items, self.in_flight_bytes
        in_window = min(limits.window_items - items, run.within(limits.window_bytes - size))
        in_frame = run.within_frame(frame_room - used)
        return min(max(in_window, items == 0), max(in_frame, used == 0))

    def _note_sent(self, run: Run) -> None:
        count = len(run.payloads)
        replayed = self._ledger.note_sent(run.first, count)
        self._counters.replayed += replayed
        self._counters.sent += count - replayed
        self.sent_through = run.last
        self.in_flight_items += count
        self.in_flight_bytes += run.size
        self._inputs_sent += count

    def answered(self, count: int, size: int) -> None:
        """Inputs in flight, of so many bytes together, have their last answer."""
        self.in_flight_items -= count
        self.in_flight_bytes -= size

    def may_push_at(self, number: int) -> bool:
        """Whether an input with this number would come after all that was sent or waits."""
        return number > max(self.sent_through, self.unsent.last)

    def cancel(self, number: int) -> bool:
        """Nobody wants the outputs of an input that it carries; False if it was not sent, and will
        not be.
        """
        if number <= self.sent_through:
            self.cancelled.add(number)
            return True
        self.unsent.remove(number)
        return False

    @property
    def suspects(self) -> Sequence[int]:
        """What its server has got, as far as it was sent, and not answered; or of that the one
        that does not end.
        """
        if overdue := self.overdue:
            return (overdue,)
        ledger = self._ledger
        return [
            number
            for number, _ in ledger.replay
            if number <= self.sent_through and not ledger.elsewhere(number)
        ]

    def turn(self) -> int:
        """Of an ordered stream: the input that is to be answered next here."""
        self._cursor = max(self._cursor, self._ledger.turn)
        while self._ledger.elsewhere(self._cursor):
            self._cursor += 1
        return self._cursor

    # ---------------------------------------------------------------- what there is to say

    @property
    def notices_due(self) -> bool:
        """Whether there is something to say besides inputs and the end."""
        delivery = self._delivery
        return (
            bool(self.cancelled)
            or self.pulse.due
            or self._crowded
            or self.pacer.acknowledgement_due
            or self.grant.due(delivery.held, grant_one=delivery.head_of_line_blocked)
        )

    @property
    def may_end(self) -> bool:
        """Whether no further inputs come, and all were sent to a server that stays."""
        ledger = self._ledger
        return ledger.finished and not ledger.quarantined and not self.unsent and not self.end_sent

    def end(self) -> ClientEnd:
        """The end goes out, behind the last of the inputs."""
        self.end_sent = True
        return ClientEnd(self._ledger.accepted)

    def large(self) -> int:
        """The bytes of the frame of inputs that goes next, if it is yet to be announced; else 0."""
        size = self.unsent.frame_bytes
        if size <= self.announcements.covered or self.limits is None:
            return 0  # which is nearly always so
        head, room = self.unsent.head, self._frame_room
        size = max(min(size, room), len(head.payloads[0]))
        goes = self.may_send and self._fitting(self.limits, head, room, 0)
        return size if goes and self.announcements.lacks(size) else 0

    def announce(self, beside: int, *, own: bool) -> Coming | None:
        """What the frame now made says of what comes after it.

        Args:
            beside: bytes on the connection that may go ahead of what follows this frame.
            own: that may be a large frame of inputs of this call's.
        """
        self.announcements.sent()
        self._crowded = False
        if own and (large := self.large()):
            number = self.unsent.head.first
            return self.announcements.announce(large, number, beside=beside, urgent=beside > 0)
        return Coming(beside) if beside and self.announces else None

    @property
    def large_under_way(self) -> int:
        """Bytes of announced frames that the server has not acknowledged."""
        return sum(size for size in self.pacer.sizes if self.announcements.large(size))

    # ---------------------------------------------------------------- the server's word

    @property
    def silent(self) -> bool:
        """Whether the server was not heard for too long (docs section 12)."""
        return self.pulse.dead

    def crowd(self) -> None:
        """Other calls' bytes are about to go ahead of what goes next: the server is to know."""
        self._crowded = True

    def tick(self, beside: int = 0, *, free: bool = True) -> None:
        """Half of the heartbeat interval has passed, or more: look at `silent`, and for a frame.

        Args:
            beside: bytes that come for other calls, ahead of what comes for this one.
            free: no large frame of another call goes, ahead of what goes for this one.
        """
        self._standstill.tick(free=free)
        self.pulse.tick(beside + (self.awaited.bytes if self.awaited else 0))

    @property
    def overdue(self) -> int:
        """The input on which the server, by its own word, works for longer than it may without
        letting go of it; 0: there is none.
        """
        offer, running = self._offer, self.running
        if running is None or not offer.item_timeout_ms:
            return 0
        number, age = running.oldest_number, running.oldest_age_ms
        if age <= offer.item_timeout_ms + OVERDUE_INTERVALS * offer.heartbeat_ms:
            return 0
        return number if number <= self.sent_through and self._ledger.carries(number) else 0

    def check_positions(self, beat: Heartbeat, running: Running | None) -> None:
        """A heartbeat says where its sender stands, so the loss of a last frame is noticed (docs
        section 12).

        Raises:
            FrameLostError: it stands elsewhere than what came would have it.
        """
        received = self.grant.received_outputs
        if beat.outputs > received:
            raise FrameLostError(
                f"a gap: the server has sent {beat.outputs} outputs, of which {received} came"
            )
        if (
            running is None  # an earlier one may have been true, and the inputs come since
            or not self.in_flight_items
            or beat.inputs_through != self.sent_through
        ):
            return
        if running.blocked_on is BlockedOn.INPUT:
            raise FrameLostError(
                f"a gap: the server has answered all inputs, but no answer came to"
                f" {self.in_flight_items} of them"
            )
        if self._standstill.lasts(beat, running, self.sent_through):
            raise FrameLostError(
                f"the server has {self.in_flight_items} inputs, works on none of them, and"
                " sends nothing: it waits for what was lost"
            )

    def check_end(self, end: ServerEnd) -> None:
        """The end frame cross-checks what both sides counted (docs section 9).

        Raises:
            RemoteProtocolError: the counts do not match.
            FrameLostError: some inputs did not reach the server.
        """
        if not self.end_sent:
            raise RemoteProtocolError("the server sent its end before the client's end")
        accepted, sent = self._ledger.accepted, self._inputs_sent
        said = (end.last_number, end.inputs_received, end.inputs_answered)
        if end.last_number == accepted and end.inputs_answered == end.inputs_received < sent:
            raise FrameLostError(
                f"a gap: {sent} inputs were sent, of which {end.inputs_received}"
                " reached the server before its end"
            )
        if said != (accepted, sent, sent) or self.in_flight_items:
            raise RemoteProtocolError(
                f"the counts in the end frame do not match: last input {end.last_number},"
                f" {end.inputs_received} received and {end.inputs_answered} answered,"
                f" where {accepted} was the last, {sent} were sent"
                f" and {self.in_flight_items} lack an answer"
            )


def _frame_room(limits: Limits | None) -> int:
    """What a frame gathers at the most, in bytes."""
    return min(FRAME_TARGET_BYTES, limits.frame_bytes) if limits else FRAME_TARGET_BYTES
