"""What a server says of itself, held against what came: docs/protocol.md, sections 9 and 12.

Invariant: looking changes nothing but the count of a standstill.
"""

from __future__ import annotations

from servestream_client.errors import FrameLostError, RemoteProtocolError
from servestream_client.protocol.chunks import Assembly
from servestream_client.protocol.client.allowance import Allowance
from servestream_client.protocol.client.in_flight import InFlight
from servestream_client.protocol.client.ledger import Ledger
from servestream_client.protocol.client.opening import Offer
from servestream_client.protocol.client.standstill import Standstill
from servestream_client.protocol.frames import BlockedOn, Heartbeat, Running, ServerEnd

__all__ = ["OVERDUE_INTERVALS", "Reports"]

OVERDUE_INTERVALS = 3
"""Of heartbeats, that a server gets beyond an input's time until it should have let go of it."""


class Reports:
    """The reports of one attempt's server.

    Args:
        offer: what the stream asks for.
        ledger: its inputs.
        in_flight: those of this attempt.
        allowance: the outputs that came on it.
        assembly: what came of a large one.
    """

    __slots__ = (
        "_allowance",
        "_assembly",
        "_in_flight",
        "_ledger",
        "_offer",
        "_running",
        "_standstill",
    )

    def __init__(
        self,
        offer: Offer,
        ledger: Ledger,
        in_flight: InFlight,
        allowance: Allowance,
        assembly: Assembly,
    ) -> None:
        self._offer = offer
        self._ledger = ledger
        self._in_flight = in_flight
        self._allowance = allowance
        self._assembly = assembly
        self._running: Running | None = None  # on what it works, by its last word
        self._standstill = Standstill()

    def tick(self, *, free: bool) -> None:
        """See `Standstill`."""
        self._standstill.tick(free=free)

    def receive(self, running: Running | None, beat: Heartbeat | None) -> None:
        """On what the server works, and where it stands, so that the loss of a last frame is
        noticed.

        Raises:
            FrameLostError: it stands elsewhere than what came would have it.
        """
        self._running = running or self._running
        if beat is not None:
            self._check_positions(beat, running)

    @property
    def overdue(self) -> int:
        """The input on which the server, by its own word, works for longer than it may without
        letting go of it; 0: there is none.
        """
        offer, running = self._offer, self._running
        if running is None or not offer.item_timeout_ms:
            return 0
        number, age = running.oldest_number, running.oldest_age_ms
        if age <= offer.item_timeout_ms + OVERDUE_INTERVALS * offer.heartbeat_ms:
            return 0
        sent = number <= self._in_flight.sent_through
        return number if sent and self._ledger.carries(number) else 0

    def _check_positions(self, beat: Heartbeat, running: Running | None) -> None:
        self._assembly.check_sent(beat.chunk_bytes)
        received, in_flight = self._allowance.received_outputs, self._in_flight
        if beat.outputs > received:
            raise FrameLostError(
                f"a gap: the server has sent {beat.outputs} outputs, of which {received} came"
            )
        if (
            running is None  # an earlier one may have been true, and the inputs come since
            or not in_flight.items
            or beat.inputs_through != in_flight.sent_through
        ):
            return
        if running.blocked_on is BlockedOn.INPUT:
            raise FrameLostError(
                f"a gap: the server has answered all inputs, but no answer came to"
                f" {in_flight.items} of them"
            )
        if self._standstill.lasts(beat, running):
            raise FrameLostError(
                f"the server has {in_flight.items} inputs, works on none of them, and"
                " sends nothing: it waits for what was lost"
            )

    def check_end(self, end: ServerEnd, *, end_sent: bool) -> None:
        """The end frame cross-checks what both sides counted.

        Args:
            end: what the server says.
            end_sent: whether the client has said the same.

        Raises:
            RemoteProtocolError: the counts do not match.
            FrameLostError: some inputs did not reach the server.
        """
        if not end_sent:
            raise RemoteProtocolError("the server sent its end before the client's end")
        accepted, sent, unanswered = (
            self._ledger.accepted,
            self._in_flight.sent,
            self._in_flight.items,
        )
        said = (end.last_number, end.inputs_received, end.inputs_answered)
        if end.last_number == accepted and end.inputs_answered == end.inputs_received < sent:
            raise FrameLostError(
                f"a gap: {sent} inputs were sent, of which {end.inputs_received}"
                " reached the server before its end"
            )
        if said != (accepted, sent, sent) or unanswered:
            raise RemoteProtocolError(
                f"the counts in the end frame do not match: last input {end.last_number},"
                f" {end.inputs_received} received and {end.inputs_answered} answered,"
                f" where {accepted} was the last, {sent} were sent"
                f" and {unanswered} lack an answer"
            )
