"""Finds the inputs that break their servers, so that they break no more than a few.

Whatever a stream's server had got and not answered when it broke is suspected. What was suspected
twice in a row leaves the stream, which goes on with the rest, and is tried one at a time on another
stream. Rule and figures: docs/protocol.md, section 14.
"""

from __future__ import annotations

import asyncio
from functools import partial

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.client import Delivery
from servestream_client.protocol.frames import ItemFailure
from servestream_client.session.driver import OpenLane, StreamDriver
from servestream_client.session.lanes import BreakObserver
from servestream_client.session.outage import Outage
from servestream_client.session.outcome import AttemptFailed, as_own
from servestream_client.usercode import unforeseen

__all__ = ["LONE_BREAKS", "Isolation", "pause_after"]

MANY = 1 << 20

LONE_BREAKS = 3
"""An input is to blame after so many breaks in a row of a stream that carried nothing else, if
others were answered meanwhile."""


_STANDS_BACK = 4
"""So often an input stands back that has broken its server alone twice, while nobody else was
answered; each time twice as long. Or it may break it before anybody is, and is never found out."""

_SINGLY = 64
"""After so many in a row were answered alone, the others go in growing groups. A server starts
inputs in their order, so what broke it is most likely among the first."""

_ASIDE_FOR = 4
"""An input that broke its server alone lets so many others go first before it is tried again."""


class _Suspect:
    """An input that is tried alone; or a control, which was answered before."""

    __slots__ = ("answered_before", "control", "lone_breaks", "number")

    def __init__(self, number: int, control: bytes | None = None) -> None:
        self.number = number
        self.control = control  # the payload; those of others are their stream's
        self.lone_breaks = 0
        self.answered_before = 0  # by the target, when the first of these came


class Isolation:
    """Stands by one stream.

    Args:
        stream: whose inputs may be suspected.
        open_lane: starts a stream for those that are.
        in_part: stands by the stream where an input may have many outputs; None: nobody does.
    """

    def __init__(
        self, stream: StreamDriver, open_lane: OpenLane, in_part: BreakObserver | None = None
    ) -> None:
        self.stalled: bool = False
        """Whether it waits for the consumer to take something."""

        self._stream = stream
        self._open_lane = open_lane
        self._in_part = in_part
        self._suspected: frozenset[int] = frozenset()  # by the last break
        self._waiting: list[_Suspect] = []
        self._trying: dict[int, _Suspect] = {}  # by number, on the lane as in the stream
        self._known_good: tuple[int, bytes] | None = None  # one that was answered
        self._width = 1  # how many are tried at once
        self._answered = 0  # since something broke
        self._lane: StreamDriver | None = None
        self._lanes = 0
        self._attempts = 0  # of earlier lanes
        self._ended = False
        self._last_outage: Outage | None = None  # the clock of the last lane

    @property
    def attempts(self) -> int:
        """How many calls were made for suspects."""
        lane = self._lane.session.counters.attempts if self._lane is not None else 0
        in_part = self._in_part.attempts if self._in_part is not None else 0
        return self._attempts + lane + in_part

    # ---------------------------------------------------------------- from the stream

    def on_attempt_failed(self, failed: AttemptFailed) -> None:
        """An attempt of the stream broke."""
        quarantine = self._stream.quarantine
        if failed.counted and self._in_part is not None and quarantine.allowed_in_part:
            self._in_part.on_attempt_failed(failed)
        if not (failed.counted and quarantine.allowed):
            return
        suspects = frozenset(failed.suspects)
        common = quarantine.enter(sorted(suspects & self._suspected))
        self._suspected = suspects.difference(common)
        if common:
            self._waiting.extend(_Suspect(number) for number in common)
            self._narrow()
            self._go_on()

    def capacity_changed(self) -> None:
        """The consumer took something."""
        self._go_on()

    def cancelled(self, number: int) -> None:
        """Nobody wants the outputs of this input any more."""
        suspect = self._trying.get(number)
        if suspect is not None and suspect.control is None and self._lane is not None:
            self._lane.cancel(number)
        if self._in_part is not None:
            self._in_part.cancelled(number)

    def end(self) -> None:
        """The stream's outcome is settled."""
        self._ended = True
        self._waiting.clear()
        if self._lane is not None:
            self._lane.abandon()
        if self._in_part is not None:
            self._in_part.end()

    async def aclose(self) -> None:
        """Wait until nothing is left."""
        if self._lane is not None:
            await self._lane.aclose()
        if self._in_part is not None:
            await self._in_part.aclose()

    # ---------------------------------------------------------------- the lane

    def _go_on(self) -> None:
        """Send what may be tried next, or let the lane end."""
        quarantine = self._stream.quarantine
        self.stalled = False
        while not self._ended and self._waiting and len(self._trying) < self._width:
            suspect = self._next()
            if suspect is None:
                self.stalled = not self._trying
                return
            if quarantine.is_cancelled(suspect.number):
                self._waiting.remove(suspect)
                self._fail(suspect, ItemErrorKind.CANCELLED, "cancelled")
                continue
            payload = (
                quarantine.payload(suspect.number) if suspect.control is None else suspect.control
            )
            lane = self._lane_for(suspect.number, len(payload))
            if lane is None:
                break
            self._waiting.remove(suspect)
            self._trying[suspect.number] = suspect
            lane.inlet.push_at(suspect.number, payload)
        if not self._waiting and not self._trying:
            self._finish_lane()

    def _next(self) -> _Suspect | None:
        """Which to try next: the first whose answer has room, or for which the consumer waits."""
        can_buffer, under_way = self._stream.quarantine.can_buffer, len(self._trying)
        return next(
            (
                each
                for each in self._waiting
                if each.control is not None or can_buffer(each.number, under_way)
            ),
            None,
        )

    def _lane_for(self, number: int, size: int) -> StreamDriver | None:
        """A lane that takes an input now. Numbers are kept, and ascend during an attempt: a lane
        that has come too far ends, and another begins.
        """
        lane = self._lane
        if lane is not None and not lane.inlet.may_push_at(number):
            if self._trying:
                return None
            self._finish_lane()
            lane = None
        if lane is None:
            self._lanes += 1
            # An outage goes on where the last lane left it, or the stream itself.
            outage = self._last_outage or self._stream.outage
            lane = self._lane = self._open_lane(
                on_arrival=partial(self._arrived, self._lanes),
                on_break=self._lane_failed,
                outage=outage.heir(asyncio.get_running_loop().time()),
            )
            self._last_outage = lane.outage
        return lane if lane.inlet.fits(size) else None

    def _finish_lane(self) -> None:
        lane = self._lane
        if lane is not None:
            lane.inlet.finish()
            self._forget_lane()

    def _forget_lane(self) -> None:
        """It has nothing to do any more, and ends by itself."""
        self._attempts = self.attempts
        self._lane = None

    def _arrived(self, lane_number: int) -> None:
        try:
            self._take(lane_number)
        except Exception as bug:  # which would be the lane's, and leave the stream waiting
            self._stream.abandon(unforeseen(bug))

    def _take(self, lane_number: int) -> None:
        lane = self._lane
        if lane is None or lane_number != self._lanes:
            return
        arrived = lane.outlet.deliver(self._answer)
        if lane.finished:
            self._forget_lane()
            self._stream.abandon(as_own(lane.error, "the stream of a suspected input ended"))
        elif arrived:
            if not self._trying and self._answered >= _SINGLY:
                self._width *= 2
            self._go_on()

    def _answer(self, delivery: Delivery) -> None:
        suspect = self._trying.pop(delivery.number, None)
        if suspect is not None:
            self._settle(suspect, delivery)
            self._answered += 1

    def _settle(self, suspect: _Suspect, delivery: Delivery) -> None:
        if not delivery.last or (delivery.payload is None and delivery.failure is None):
            if self._lane is not None:
                self._lane.inlet.cancel(suspect.number)  # what else comes is of no use
            self._fail(suspect, ItemErrorKind.HANDLER, "it has not exactly one output")
        elif suspect.control is None:
            quarantine = self._stream.quarantine
            if self._known_good is None and not quarantine.is_cancelled(suspect.number):
                self._known_good = suspect.number, quarantine.payload(suspect.number)
            quarantine.resolve(suspect.number, delivery.payload, delivery.failure)

    def _fail(self, suspect: _Suspect, kind: ItemErrorKind, text: str) -> None:
        failure = ItemFailure(suspect.number, kind, text)
        self._stream.quarantine.resolve(suspect.number, None, failure)

    # ---------------------------------------------------------------- blame

    def _lane_failed(self, failed: AttemptFailed) -> None:
        lane = self._lane
        if lane is None or not (failed.counted and failed.suspects):
            return
        tried = dict(self._trying)
        if not tried:
            return
        if len(tried) > 1:
            self._take_back(lane)
            self._waiting[:0] = tried.values()
            self._narrow()
        elif not self._judge(lane, next(iter(tried.values())), failed):
            return
        self._go_on()

    def _narrow(self) -> None:
        self._width, self._answered = 1, 0

    def _judge(self, lane: StreamDriver, suspect: _Suspect, failed: AttemptFailed) -> bool:
        """An input broke its server alone; whether something else is to be tried next."""
        answered = self._stream.endpoints.answered
        if suspect.control is not None:  # the server is broken, whatever it gets
            self._take_back(lane)
            return True
        if suspect.lone_breaks == 0:
            suspect.answered_before = answered
        suspect.lone_breaks += 1
        if suspect.lone_breaks >= LONE_BREAKS and answered > suspect.answered_before:
            self._take_back(lane)
            self._width = MANY  # what the others were suspected of is explained
            self._waiting.sort(key=_number)
            self._fail(
                suspect,
                ItemErrorKind.POISON,
                f"its server broke {suspect.lone_breaks} times in a row on this input alone, and"
                f" answered others meanwhile; last: {failed.verdict.reason}",
            )
            return True
        known_good = self._stream.quarantine.known_good or self._known_good
        lonely = answered == suspect.answered_before and self._needs_control(suspect)
        if known_good is not None and lonely:
            self._waiting.insert(0, _Suspect(*known_good))
        if not self._waiting:
            if answered == suspect.answered_before:
                lane.stand_back(pause_after(suspect.lone_breaks))
            return False  # it is tried again, as often as the retry policy allows
        self._take_back(lane)
        self._narrow()
        # Behind some others: whether these are answered will tell.
        self._waiting.insert(min(_ASIDE_FOR, len(self._waiting)), suspect)
        return True

    def _needs_control(self, suspect: _Suspect) -> bool:
        """Whether nobody else may be left who could be answered."""
        if any(each.control is not None for each in self._waiting):
            return False
        return not self._waiting or suspect.lone_breaks >= LONE_BREAKS - 1

    def _take_back(self, lane: StreamDriver) -> None:
        for number in self._trying:
            lane.inlet.drop(number)
        self._trying.clear()


def _number(suspect: _Suspect) -> int:
    return suspect.number


def pause_after(lone_breaks: int) -> int:
    """By how many of the longest delays an input stands back that broke its server alone so often,
    while nobody else was answered.
    """
    return 2 ** (lone_breaks - 2) if 2 <= lone_breaks < 2 + _STANDS_BACK else 0
