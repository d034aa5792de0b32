"""The ways of one stream's inputs: its own attempts, and its lanes."""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Protocol

from servestream_client.errors import ItemErrorKind
from servestream_client.events import LaneStatistics
from servestream_client.protocol.client import Delivery
from servestream_client.protocol.frames import ItemFailure, OutputRun
from servestream_client.session.driver import OpenLane, StreamDriver
from servestream_client.session.lane import Lane
from servestream_client.session.lane_part import LanePart
from servestream_client.session.rate import Rate

__all__ = ["OwnWay", "StreamLane", "WayOwner"]


class WayOwner(Protocol):
    """Hands inputs to lanes."""

    def learnt(self, lane: StreamLane) -> None:
        """A lane has come to a server, or heard of its load."""
        ...

    def answered(self, first: int, payloads: Sequence[bytes]) -> None:
        """Outputs of consecutive inputs came."""
        ...

    def failed(self, number: int, failure: ItemFailure) -> None:
        """An input has failed."""
        ...

    def left(
        self,
        lane: StreamLane,
        error: BaseException | None,
        inputs: Sequence[tuple[int, int]],
        *,
        broken: bool,
    ) -> None:
        """A lane has ended."""
        ...


class OwnWay:
    """The stream's own attempts, as a lane among lanes; it stays where it is."""

    retiring = False

    def __init__(self, stream: StreamDriver) -> None:
        self._stream = stream
        self._session = stream.session
        self._sharing = stream.sharing
        self._received = 0
        self.rate: Rate = Rate()

    @property
    def replica(self) -> str:
        welcome = self._session.welcome
        return "" if welcome is None else welcome.replica

    @property
    def carried(self) -> int:
        return self._sharing.carried

    def statistics(self, *, ended: bool) -> LaneStatistics:
        """What it carried so far."""
        counters = self._session.counters
        return LaneStatistics(
            replica=self.replica,
            endpoint=self._stream.place,
            received=counters.received,
            under_way=self.carried,
            attempts=counters.attempts,
            ended=ended,
        )

    def silent(self, now: float) -> float:
        """For how many seconds it has owed something, and answered nothing."""
        return self.rate.silent(now)

    def lend(self, number: int, count: int) -> int:
        """See `LaneShare.lend`."""
        return self._sharing.lend(number, count)

    def cancel(self, number: int) -> None:
        """Its server has heard it: see `LaneShare.resolve`."""

    def retire(self) -> None:
        """It is the oldest, and so stands before all others."""

    def look(self, now: float) -> None:
        """Count what came."""
        received, carried = self._session.counters.received, self.carried
        if received > self._received:
            self.rate.answered(received - self._received, now, all_done=not carried)
            self._received = received
        if carried:
            self.rate.owes(now)


class StreamLane(Lane):
    """One lane.

    Invariant: `_parts` are the inputs that it carries, by its own numbers, ascending; each knows
    which of them lack an answer.

    Args:
        open_lane: starts its stream.
        owner: whose it is.
        spare: it gets only what is late elsewhere.
    """

    def __init__(self, open_lane: OpenLane, owner: WayOwner, *, spare: bool = False) -> None:
        self.spare: bool = spare
        self._owner = owner
        self.rate: Rate = Rate()
        self._parts: list[LanePart] = []
        self._carried = self._received = 0
        super().__init__(open_lane, None)

    @property
    def carried(self) -> int:
        """How many inputs it carries."""
        return self._carried

    @property
    def done(self) -> bool:
        """Whether it had something to carry, and has nothing."""
        return not self._carried and self.driver.session.ledger.accepted > 0

    def statistics(self) -> LaneStatistics:
        """What it carried so far."""
        return LaneStatistics(
            replica=self.replica,
            endpoint=self.driver.place,
            received=self._received,
            under_way=self._carried,
            attempts=self.driver.attempts,
            ended=self.ended,
        )

    def submit(self, first: int, payloads: Sequence[bytes], now: float) -> None:
        """Have consecutive inputs of the stream answered."""
        session = self.driver.session
        own, attempt = session.ledger.accepted + 1, session.counters.attempts
        self._parts.append(LanePart(own, first, len(payloads), attempt))
        self._carried += len(payloads)
        self.rate.owes(now)
        nothing = (None,) * len(payloads)
        self.driver.inlet.push_all(payloads, nothing, sum(map(len, payloads)))

    def silent(self, now: float) -> float:
        """For how many seconds it has owed something, and answered nothing."""
        return self.rate.silent(now)

    def seconds(self, fastest: float) -> float:
        """How long it would take to answer one more input; infinity: that is not known.

        Args:
            fastest: how many another answers in a second, for one that is new; 0: nobody knows.
        """
        rate = self.rate.value or fastest
        return (self._carried + 1) / rate if rate else math.inf

    def lend(self, number: int, count: int) -> int:
        """How many of the stream's inputs from this one on, of so many at the most, it has under
        way, none of which another attempt of its had before: another may have these as well.
        """
        attempt = self.driver.session.counters.attempts
        part = next((part for part in self._parts if part.owes(number)), None)
        if part is None or part.attempt != attempt:
            return 0
        return next((n for n in range(1, count) if not part.owes(number + n)), count)

    def cancel(self, number: int) -> None:
        """Nobody waits for its answer to this input of the stream any more, if it has that."""
        for part in self._parts:
            if part.owes(number) and not self.ended:
                self.driver.cancel(part.own_number(number))
                return

    # ---------------------------------------------------------------- from the driver

    def _deliver(self) -> None:
        if self.ended:
            return
        if self._news():
            self._owner.learnt(self)
        self.driver.outlet.deliver(self._take, self._take_run)
        if self.driver.finished:
            self._end(self.driver.error)

    def _settle(self, error: BaseException | None) -> None:
        left = [run for part in self._parts for run in part.left()]
        self._owner.left(self, error, left, broken=not self.driver.finished)

    def _take_run(self, run: OutputRun) -> None:
        number, payloads = run.first_number, run.payloads
        while payloads:
            part = self._parts[self._place(number)]
            count = min(len(payloads), part.last - number + 1)
            first = self._answered(part, number, count)
            self._owner.answered(first, payloads[:count])
            number, payloads = number + count, payloads[count:]
        self._tidy()

    def _take(self, delivery: Delivery) -> None:
        """An item error, or an input that has not exactly one output."""
        number, place = delivery.number, self._place(delivery.number)
        part = self._parts[place] if place >= 0 else None
        if part is None or not part.lacks(number):
            return  # it was told already
        first = self._answered(part, number, 1)
        failure = delivery.failure
        if failure is None:
            text = "it has not exactly one output"
            failure = ItemFailure(number, ItemErrorKind.HANDLER, text)
            self.driver.inlet.cancel(number)  # what else comes is of no use
        self._owner.failed(first, failure)
        self._tidy()

    def _answered(self, part: LanePart, number: int, count: int) -> int:
        # Before anybody hears of it, who may have something else to send.
        self._carried -= count
        self._received += count
        self.rate.answered(count, _now(), all_done=not self._carried)
        return part.answered(number, count)

    def _place(self, number: int) -> int:
        """The part that might have a number; -1: none."""
        return bisect_right(self._parts, number, key=LanePart.own_first) - 1

    def _tidy(self) -> None:
        parts = self._parts
        while parts and not parts[0].lacking:
            del parts[0]


def _now() -> float:
    return asyncio.get_running_loop().time()
