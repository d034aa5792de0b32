"""One attempt: what belongs to a single call, and dies with it.

Invariant: nothing is sent beyond the window, the pacing and the frame size that hold on this call;
one input goes out alone whatever its size. The ledger's carried inputs are in exactly one of two
places here: they wait (`unsent`), or are `in_flight`. The one that goes next waits until the rest
of it has left, whatever has left in chunks.

Longer than other files: window, pacing, frame size and state decide together about what goes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol import chunks, coming, compression, continuation, state
from servestream_client.protocol.chunks import Assembly
from servestream_client.protocol.client.allowance import Allowance
from servestream_client.protocol.client.attempt_fold import AttemptFold
from servestream_client.protocol.client.cancels import CancelNotices
from servestream_client.protocol.client.counters import ClientCounters
from servestream_client.protocol.client.cuts import InputCuts
from servestream_client.protocol.client.delivery import DeliveryQueue
from servestream_client.protocol.client.in_flight import InFlight
from servestream_client.protocol.client.opening import Offer, open_of
from servestream_client.protocol.client.partial import Partial
from servestream_client.protocol.client.reports import Reports
from servestream_client.protocol.coming import Announcements
from servestream_client.protocol.continuation import NEVER, ResumeTerms, terms_of
from servestream_client.protocol.frames import (
    Chunk,
    ClientEnd,
    ClientFrame,
    Coming,
    Credit,
    Heartbeat,
    InputRun,
    Limits,
    Welcome,
)
from servestream_client.protocol.pacing import ITEM_OVERHEAD_BYTES, Pacer
from servestream_client.protocol.pulse import Pulse
from servestream_client.protocol.runs import Run, RunQueue
from servestream_client.protocol.sizes import Sizes

__all__ = ["Attempt"]


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
        "_features",
        "_ledger",
        "_offer",
        "_opened_at",
        "allowance",
        "announcements",
        "assembly",
        "awaited",
        "cancelled",
        "cuts",
        "end_sent",
        "fold",
        "identity",
        "in_flight",
        "limits",
        "number",
        "opening",
        "pacer",
        "progressed",
        "pulse",
        "replica",
        "reports",
        "sizes",
        "terms",
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
        self.pacer: Pacer = Pacer((known or offer.limits).unacknowledged_frames)
        self.sizes: Sizes = Sizes(self.pacer)
        """How much goes at a time."""
        if known is not None:
            self._size_frames(known)
        self.pulse: Pulse = Pulse()
        self.allowance: Allowance = Allowance(delivery)
        """What its server may send."""
        self.announcements: Announcements = self.sizes.announcements
        self._crowded = False  # see `crowd`
        self.awaited: Coming | None = None
        """What the server said of its next frame, until it comes (docs section 12)."""

        self._features: Sequence[str] | None = None  # those of the welcome, once it is there
        self.terms: ResumeTerms = NEVER
        """On which its server goes on with inputs that were cut."""
        self.replica: str = ""
        """Of its server, by its own word."""
        self.identity: object = (offer.stream_id, number)
        """Which one it is among those of all streams."""

        self.unsent: RunQueue = RunQueue(self._ledger.resume())
        """What waits for a frame."""
        self.cancelled: CancelNotices = CancelNotices()
        """Of what the server is to hear so."""
        self.in_flight: InFlight = InFlight(self._ledger)
        """What was sent, and of that what lacks an answer."""
        self.cuts: InputCuts = InputCuts(self.unsent, self.sizes)
        """The large input that goes next."""
        self.assembly: Assembly = Assembly()
        """What came of a large output."""
        self.fold: AttemptFold | None = None
        """Of a stateful stream, once that is known."""
        if self._ledger.fold is not None:
            self.fold = AttemptFold(self._ledger, self.in_flight)
        self.reports: Reports = Reports(
            offer, self._ledger, self.in_flight, self.allowance, self.assembly
        )
        """What its server says of itself."""
        self._cursor = 0  # if ordered: no answer below this number is missing here
        self.opening: bool = True
        """Its server has said nothing yet."""
        self._opened_at = 0  # the first number that its open frame has named, once it is sent
        self.end_sent: bool = False
        self.progressed: bool = False
        """Whether it brought anything new."""

    @property
    def announces(self) -> bool:
        """Whether its server understands announcements."""
        return self.announcements.begun

    # ---------------------------------------------------------------- opening

    @property
    def open_sent(self) -> bool:
        """Whether the first frame is out."""
        return self._opened_at > 0

    def open_frame(self, beside: int) -> ClientFrame:
        """The first frame: nothing follows it before the welcome.

        Args:
            beside: bytes on the connection that may go ahead of what follows it.
        """
        fold = self.fold
        if fold is not None:
            first = fold.fold.first_number
        else:
            first = self.unsent.head.first if self.unsent else self._ledger.accepted + 1
        self._opened_at = first
        return ClientFrame(
            open=open_of(
                self._offer,
                attempt=self.number,
                first_number=first,
                deadline_ms=self._deadline_ms,
                **({} if fold is None else {"going_on": fold.opening()}),
            ),
            inputs=self.gather(opening=True) if fold is None else (),
            credit=self.allowance.grant(),
            taken_through=self._ledger.taken_through,
            coming=Coming(beside) if beside else None,
        )

    def welcomed(self, welcome: Welcome) -> None:
        """The server takes the stream: its limits hold, and both keep their promises."""
        self._features = welcome.features
        self.terms, self.replica = terms_of(welcome), welcome.replica
        limits = welcome.limits.within(self._offer.limits)
        if chunks.FEATURE not in welcome.features:
            limits = replace(limits, chunked_bytes=0)
        self.limits = limits
        self._size_frames(limits)
        self.pacer.limit = limits.unacknowledged_frames
        heartbeat_ms = self._offer.heartbeat_ms
        if coming.FEATURE in welcome.features:
            self.announcements.begin(heartbeat_ms)
        if chunks.FEATURE in welcome.features:
            free = self.announcements.free
            self.sizes.chunk.begin(limits.frame_bytes, limits.item_bytes, free)
        if heartbeat_ms:
            self.pulse.begin(own_ms=heartbeat_ms, peer_ms=welcome.heartbeat_interval_ms)
        if self._ledger.fold is not None:
            self.terms = state.TERMS
            if self.fold is None:
                self.fold = AttemptFold(self._ledger, self.in_flight)
            return
        self._interrupt_all(self.limits)
        if continuation.holds(welcome):
            self._begin_each()

    @property
    def compression(self) -> int:
        """The level at which its inputs are compressed; 0: they are not."""
        level, features = self._offer.compression, self._features
        return level if level and features and compression.FEATURE in features else 0

    def _size_frames(self, limits: Limits) -> None:
        self.sizes.frame.begin(limits.frame_bytes, limits.window_bytes)
        self.sizes.frame.share(min(limits.window_items, self._ledger.window_items))

    def note_time(self, now: float) -> None:
        """A frame went out or came in, just now, in seconds by whatever clock. Afterwards the
        window may have room.
        """
        if not self.sizes.note_time(now):
            return
        frame, ledger = self.sizes.frame, self._ledger
        ledger.open_window(frame.quick)
        most = ledger.window_items if self.limits is None else self.limits.window_items
        frame.share(min(most, ledger.window_items))

    def _begin_each(self) -> None:
        """Each input has its own credit from now on, also those that went out with the open."""
        own = self._offer.limits
        self.allowance.begin_each(Credit(own.input_outputs, own.input_bytes))
        for number in self.in_flight:
            if not self._ledger.is_cancelled(number):
                self.allowance.begin(Run(number, (b"",), 0))

    def _interrupt_all(self, limits: Limits) -> None:
        """The same for all inputs that were cut in their middle: none of them was sent here yet."""
        for number, partial in sorted(self._ledger.partials.items()):
            if self._ledger.carries(number) and self._interrupts(number, partial, limits):
                self.unsent.remove(number)

    def _interrupts(self, number: int, partial: Partial, limits: Limits) -> bool:
        """Fail an input that was cut in its middle, where the server cannot go on with it; False if
        it can. Two halves of different answers are never spliced (docs section 18).
        """
        why = partial.why_not(self.terms, limits, len(self._ledger.payload(number)))
        if why:
            text = f"cut after {partial.index} outputs, {why}"
            self._delivery.fail_here(number, ItemErrorKind.INTERRUPTED, text)
        return bool(why)

    # ---------------------------------------------------------------- inputs

    @property
    def may_send(self) -> bool:
        """Whether inputs wait, and the pacing lets a frame of them go."""
        waiting, size = self.unsent, self.sizes.frame
        full = waiting.frame_bytes >= size.bytes or self._many_may_go
        return waiting.frame_bytes > 0 and self.pacer.may_send(full=full)

    @property
    def _many_may_go(self) -> bool:
        """Whether as many inputs wait, and may go, as a frame takes at the most."""
        most, share = self.sizes.frame.items, self._ledger.share
        if self.unsent.count < most or self.limits is None:
            return False
        window = self.limits.window_items
        return (window if share is None else min(window, share)) - self.in_flight.items >= most

    def gather(self, *, opening: bool = False) -> tuple[InputRun, ...]:
        """Inputs for one frame: all that wait and fit (docs sections 5, 6 and 8).

        Args:
            opening: they are to ride with the open.
        """
        if self.limits is None or not self.may_send:
            return ()
        flight = self.in_flight
        items, size = flight.sent, flight.bytes
        runs = self._runs(self.limits, opening=opening)
        if runs:
            items, size = flight.sent - items, flight.bytes - size - runs[0].first_offset
            self.pacer.sent(size)
            self.sizes.frame.sent(size + items * ITEM_OVERHEAD_BYTES, items)
        return runs

    def _runs(self, limits: Limits, *, opening: bool) -> tuple[InputRun, ...]:
        frame_room = self.sizes.frame.bytes
        if opening:
            frame_room = min(frame_room, coming.unannounced(self._offer.heartbeat_ms))
        used, items, runs = 0, self.sizes.frame.items, list[InputRun]()
        while self.unsent:
            if not runs and self.cuts.due(limits):
                break
            head = self.unsent.head
            if opening and (
                head.start_index or head.size > limits.largest or len(head.payloads[0]) > frame_room
            ):
                break  # what was known of an earlier server may not hold, and an open is urgent
            if head.size > limits.largest and self._fail_too_large(head, limits):
                continue
            count = min(items, self._fitting(limits, head, frame_room, used))
            if not count:
                break
            run = self.unsent.take(count)
            items -= count
            used += run.frame_bytes
            runs.append(self._send(run))
        return tuple(runs)

    def _send(self, run: Run) -> InputRun:
        replayed = self.in_flight.add(run, 0 if self.fold is None else self.fold.sent(run))
        self._counters.replayed += replayed
        self._counters.sent += len(run.payloads) - replayed
        made = InputRun(
            run.first,
            run.payloads,
            run.start_index,
            first_credit=self.allowance.begin(run),
            first_resume=run.resume if self.allowance.of_each else None,
        )
        self.cuts.leave_the_rest(made)
        return made

    def cut(self) -> Chunk | None:
        """The next chunk of a large input, if there is one and it may go (docs section 22)."""
        limits, cuts = self.limits, self.cuts
        if limits is None or not (cuts.due(limits) and self.sizes.chunk_may_go):
            return None
        return cuts.next() if self._fitting(limits, self.unsent.head, self.sizes.room, 0) else None

    def _fail_too_large(self, run: Run, limits: Limits) -> bool:
        """Fail those inputs of a run that the server does not accept; False if there are none."""
        payloads, fold = enumerate(run.payloads, run.first), self._ledger.fold
        through = 0 if fold is None else fold.answered_through  # with an answer, and sent again
        large = [
            (number, size)
            for number, p in payloads
            if (size := len(p)) > limits.largest and number > through
        ]
        self.unsent.remove_each([number for number, _ in large])
        for number, size in large:
            self._delivery.fail_here(
                number,
                ItemErrorKind.INPUT_TOO_LARGE,
                f"{size} bytes encoded, and the server accepts {limits.largest}",
            )
        return bool(large)

    def _fitting(self, limits: Limits, run: Run, frame_room: int, used: int) -> int:
        """How many of a run's inputs fit into the window and into the frame, which one may have for
        itself.
        """
        in_frame = run.within_frame(frame_room - used)
        in_window = self.in_flight if self.fold is None else self.fold
        return min(in_window.fitting(run, limits), max(in_frame, used == 0))

    def answered(self, first: int, count: int, size: int) -> None:
        """Inputs in flight, of so many bytes together, have their last answer."""
        self.in_flight.answered(first, count, size)
        self.allowance.forget(first, count)

    def add_partial(self, number: int, payload: bytes, partial: Partial) -> None:
        """An input of which outputs came elsewhere is to go on here, if its server can."""
        welcomed = self._features is not None
        if welcomed and self.limits and self._interrupts(number, partial, self.limits):
            return
        self.unsent.append(Run(number, (payload,), len(payload), partial.index, partial.resume()))

    def may_push_at(self, number: int) -> bool:
        """Whether an input with this number would come after all that was sent or waits, and not
        before the first one that the open frame has named.
        """
        behind = max(self.in_flight.sent_through, self.unsent.last)
        return number > behind and number >= self._opened_at

    def cancel(self, number: int) -> bool:
        """Nobody wants the outputs of an input that it carries; False if it was not sent, and will
        not be.
        """
        if number <= self.in_flight.sent_through:
            self.cancelled.add(number)
            self.allowance.forget(number)
            return True
        self.unsent.remove(number)
        if self.cuts.forget(number):
            self.cancelled.add(number)  # for what its server keeps of it
        return False

    @property
    def suspects(self) -> Sequence[int]:
        """What its server has got, as far as it was sent, and not answered, be it in part; or of
        that the one that does not end.
        """
        if overdue := self.reports.overdue:
            return (overdue,)
        begun = (self.unsent.head.first,) if self.cuts.begun else ()
        return [*self.in_flight, *begun]

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
        return (
            bool(self.cancelled)
            or self.pulse.due
            or self._crowded
            or self.pacer.acknowledgement_due
            or self.allowance.due
            or (self.fold is not None and self._looks(self.fold))
        )

    def _looks(self, fold: AttemptFold, *, leaves: bool = False) -> bool:
        return fold.look(self.unsent, self.limits, leaves=leaves)

    def take_want(self) -> bool:
        """Whether the frame now made asks for a state."""
        return self.fold is not None and (self._looks(self.fold) and self.fold.take_want())

    def take_leave(self) -> None:
        """It is to leave a server that stays: ask for the state."""
        if self.fold is not None:
            self._looks(self.fold, leaves=True)

    @property
    def waits_for_consumer(self) -> bool:
        """Whether its server may send no output of what it has until the consumer takes some."""
        if not self.allowance.of_each:
            return self._delivery.full
        if self._ledger.ordered:  # the others wait for this one
            return self.allowance.exhausted(self.turn())
        return all(map(self.allowance.exhausted, self.in_flight))

    @property
    def may_leave(self) -> bool:
        """Whether no input in flight is to be waited for before a server is left: each of those
        lacks credit, which its consumer has not given, and can go on elsewhere.
        """
        if not self.in_flight.items or not self.allowance.of_each:
            covered = self.fold is None or not self.fold.items or self.fold.declined
            return not self.in_flight.items and covered
        return all(
            self.allowance.exhausted(number)
            and number in self._ledger.partials
            and self._goes_on_elsewhere(number)
            for number in self.in_flight
        )

    @property
    def pinned(self) -> bool:
        """Whether an input in flight can go on nowhere else. A consumer who stops would then keep a
        server from being left, and what is not sent from being sent.
        """
        return self.allowance.of_each and not all(map(self._goes_on_elsewhere, self.in_flight))

    def _goes_on_elsewhere(self, number: int) -> bool:
        """Whether an input in flight can, once outputs of it have come."""
        partial, limits = self._ledger.partials.get(number), self.limits
        if partial is None or limits is None:
            return self.terms.resumable
        return not partial.why_not(self.terms, limits, len(self._ledger.payload(number)))

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
        head, room = self.unsent.head, self.sizes.frame.bytes
        if self.cuts.due(self.limits):
            return 0
        size = max(min(size, room), len(head.payloads[0]) + head.resume_bytes)
        if left := self.cuts.left:
            size = left + head.resume_bytes
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
        """Bytes of announced frames, and of inputs with the open, that the server has not
        acknowledged.
        """
        sizes = self.pacer.sizes
        return sum(size for size in sizes if self.opening or self.announcements.large(size))

    def heartbeat(self) -> Heartbeat | None:
        """What the frame now made says of where the client stands, if that is due."""
        pulse, due = self.pulse, self.pulse.due
        pulse.on_sent()
        if not due:
            return None
        if self.fold is not None:
            self.fold.ask_again()
        return Heartbeat(
            self.in_flight.sent_through, self.allowance.received_outputs, self.sizes.chunked_bytes
        )

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
        self.reports.tick(free=free)
        self.pulse.tick(beside + (self.awaited.bytes if self.awaited else 0))
