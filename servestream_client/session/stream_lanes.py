"""The lanes of one stream: what it takes to use all servers of a deployment, and not one.

A *lane* is an unordered stream of its own beside the stream's attempts. While handlers are what the
stream waits for, its own attempts carry a share of its inputs, and what waits behind that goes on
lanes, in runs, to the one that will answer first. Answers come back into the stream's own delivery
queue: there is one window, one order, one budget of outputs. Rule: docs/protocol.md, section 19.

Invariant: an input that left the stream for a lane is carried by a lane, or waits in `_returned`,
until it is answered or the stream is over. No two have it, unless it is hedged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from servestream_client.events import LaneStatistics
from servestream_client.protocol import hedge, load
from servestream_client.protocol.frames import ItemFailure, Load
from servestream_client.session.driver import OpenLane, StreamDriver
from servestream_client.session.hedging import LOOK_SECONDS, Hedging
from servestream_client.session.lanes import LanesBeside
from servestream_client.session.outcome import as_own
from servestream_client.session.rate import Rate
from servestream_client.session.spread import ALONE, MOST_LANES, SLOW_US, Spread
from servestream_client.session.ways import OwnWay, StreamLane
from servestream_client.usercode import unforeseen

__all__ = ["StreamLanes"]

_LEAST = 16
"""What a lane may carry in any case."""

_QUEUES = 4
"""How often over a server's places may be filled by one lane: other streams come and go."""

_HORIZON = 1.0
"""Seconds for which a lane has something to do: what it has cannot go to a server that is new."""

_HORIZON_ALONE = 5.0
"""The same for a stream without lanes."""

_FAILURES = 3
"""Lanes in a row that gave up before the stream does."""


class StreamLanes:
    """See the module.

    Args:
        stream: whose inputs they carry.
        open_lane: starts a lane's stream.
        lanes: how many ways there may be for inputs, the stream's own attempts included; None: one
            for each server.
        hedged: how large a share of the inputs may be, at the most.
        for_many: makes what takes over where an input may have many outputs.
    """

    def __init__(
        self,
        stream: StreamDriver,
        open_lane: OpenLane,
        lanes: int | None,
        hedged: float,
        for_many: Callable[[], LanesBeside],
    ) -> None:
        self._stream = stream
        self._session = stream.session
        self._sharing = stream.sharing
        self._open_lane = open_lane
        self._for_many = for_many
        self._spread = Spread(lanes or 1, lanes or MOST_LANES)
        self._lanes: list[StreamLane] = []
        self._returned: list[tuple[int, int]] = []  # by lanes that gave up: first and count
        self._own = OwnWay(stream)
        self._load: Load | None = None
        self._wanted = 1  # ways, the stream's own included
        self._places = 0
        self._failures = 0
        self._attempts = 0  # of lanes that have ended
        self._past: list[LaneStatistics] = []  # theirs
        self._ended = False
        self._looking = False
        self._hedging = Hedging(self._sharing, hedged, self._answered)
        self._timer: asyncio.TimerHandle | None = None  # while there are lanes
        self.active: bool = False
        """Whether to look at each change: with a single server the next frame is soon enough."""
        self._bounded = True  # what the stream's own attempts carry
        if stream.endpoints.load is not None:  # said to other streams
            self._learn(stream.endpoints.load)
        if self._bounded:
            self._set_share()

    @property
    def attempts(self) -> int:
        """How many calls were made for lanes."""
        return self._attempts + sum(lane.driver.attempts for lane in self._lanes)

    @property
    def hedged(self) -> int:
        """How many inputs went to a second server, since the first was late by far."""
        return self._hedging.hedged

    def statistics(self) -> Sequence[LaneStatistics]:
        """Of each way; may be asked for in any thread."""
        beside = [lane.statistics() for lane in list(self._lanes)]
        return self._own.statistics(ended=self._ended), *beside, *self._past

    # ---------------------------------------------------------------- from the stream

    def look(self) -> None:
        """Something has changed: hand out what may go on lanes."""
        if self._ended or self._looking:
            return
        session = self._session
        if self._sharing.stateful:  # its state is at one server
            self._sharing.bound(None)
            self.active = False
            return
        many = session.welcome is not None and not self._stream.quarantine.allowed
        if many and not (self._lanes or self._returned):  # or lanes find out what that is now
            self._hand_over()
            return
        if session.load is not self._load and session.load is not None:
            self._load = session.load
            self._learn(session.load)
        elif self._bounded and session.welcome is not None and self._load is None:
            self._bounded = load.FEATURE in session.welcome.features
        if not (self._bounded or self._returned):
            self._sharing.bound(None)
            self.active = bool(self._lanes)
            return
        self._looking = True
        try:
            self._hand_out(_now())
        finally:
            self._looking = False
            self.active = self._wanted > 1 or bool(self._lanes or self._returned)

    def _hand_over(self) -> None:
        self.end()
        self._stream.lanes = self._for_many()
        self._stream.lanes.look()

    def end(self) -> None:
        """The stream's outcome is settled."""
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        self._returned.clear()
        for lane in list(self._lanes):  # each leaves at once
            lane.driver.abandon()

    async def aclose(self) -> None:
        """Wait until nothing is left."""
        await asyncio.gather(*(lane.driver.aclose() for lane in list(self._lanes)))

    # ---------------------------------------------------------------- how many, and how much

    def _learn(self, now: Load) -> None:
        self._spread.learn(now)
        self._places = now.places
        # So long as nothing is known of the handler, it may be slow.
        self._bounded = now.item_us >= SLOW_US or not now.item_us
        self._wanted = self._spread.limit if now.item_us >= SLOW_US else 1

    def _set_share(self) -> None:
        """What the stream's own attempts carry. Alone it leaves something over for servers that
        come: what was sent cannot go to them.
        """
        share = self._most(self._own.rate)
        if not self._lanes:
            share = max(share, ALONE, int(self._own.rate.value * _HORIZON_ALONE))
        else:  # what they bring counts in the same budget
            share = min(share, self._own.carried + self._sharing.room_for(self._sharing.next))
        self._sharing.bound(share)

    def _most(self, rate: Rate) -> int:
        """How many inputs one way may carry."""
        return max(_LEAST, _QUEUES * self._places, int(rate.value * _HORIZON))

    # ---------------------------------------------------------------- inputs

    def _hand_out(self, now: float) -> None:
        self._own.look(now)
        if self._bounded:
            self._set_share()
        while waiting := self._waiting:
            room = self._sharing.room_for(self._first)
            lane = self._lane(now) if room else None
            if lane is None:
                break
            most = self._most(lane.rate)
            items, size = lane.driver.inlet.room
            count = min(waiting, room, items, most - lane.carried, max(1, most // _QUEUES))
            run = self._next(count, size)
            if run is None:
                break
            lane.submit(*run, now)
            self._reserve()
            if self._bounded:
                self._set_share()  # of what is left
        if not self._may_hedge() and not waiting and self._session.ledger.finished:
            for lane in list(self._lanes):
                if not lane.carried:
                    lane.retire()

    def _may_hedge(self) -> bool:
        """Whether a lane with nothing to do may have something, since it is late elsewhere."""
        session, hedging = self._session, self._hedging
        if not self._lanes or session.welcome is None or hedging.budget < 1:
            return False
        if hedge.FEATURE not in session.welcome.features:
            return False
        if self._timer is None:
            context = self._stream.context
            self._timer = asyncio.get_running_loop().call_later(
                LOOK_SECONDS, self._time_passed, context=context
            )
        return not session.ledger.complete

    def _time_passed(self) -> None:
        self._timer = None
        try:
            self._hedge()
        except Exception as bug:  # which would leave the stream waiting
            self._stream.abandon(unforeseen(bug))

    def _hedge(self) -> None:
        """Send what is late by far to a second server. Where answers come in any order, that is
        for the end, when nothing else is left to do.
        """
        if self._ended or not self._may_hedge():
            return
        now, lanes = _now(), self._lanes
        self._own.look(now)  # which nobody does while handlers are quick
        if self._session.ordered or not self._waiting:
            at_a_server = [lane for lane in lanes if lane.replica and not lane.retiring]
            fastest = max(self._own.rate.value, *(lane.rate.value for lane in lanes))
            room = self._sharing.room_for(self._sharing.oldest)
            if self._hedging.look(now, self._own, at_a_server, room, fastest):
                self._reserve()
            self._keep_spare(now)
        self.look()

    def _keep_spare(self, now: float) -> None:
        """One lane more than else, while something is late that no other can get: what lanes have
        cannot go to the stream's own attempt, whose numbers ascend.
        """
        spare = next((lane for lane in self._lanes if lane.spare and not lane.retiring), None)
        if spare is None:
            if self._hedging.nowhere and self._spread.may_open(now):
                self._lanes.append(StreamLane(self._open_lane, self, spare=True))
        elif spare.replica and self._hedging.nowhere:  # it came where the late one is
            self._spread.missed(now)
            spare.retire()
        elif spare.done:
            spare.retire()

    def _answered(self) -> int:
        counters = self._session.counters
        return counters.received + counters.by_lanes

    @property
    def _waiting(self) -> int:
        if self._returned:
            return self._returned[0][1]
        if self._wanted < 2 or not self._stream.quarantine.allowed:
            return 0
        return self._sharing.waiting

    @property
    def _first(self) -> int:
        """Which input is the next to go on a lane."""
        return self._returned[0][0] if self._returned else self._sharing.next

    def _next(self, count: int, size: int) -> tuple[int, Sequence[bytes]] | None:
        if not self._returned:
            return self._sharing.take(count, size)
        first, left = self._returned.pop(0)
        if count < left:
            self._returned.insert(0, (first + count, left - count))
        numbers = range(first, first + min(count, left))
        return first, [self._sharing.payload(number) for number in numbers]

    def _lane(self, now: float) -> StreamLane | None:
        """The lane that will answer first, if any has room. One that is new has none before it is
        known where it came: it may be of no use there.
        """
        taking = [lane for lane in self._lanes if not (lane.retiring or lane.spare)]
        fit = [
            lane
            for lane in taking
            if lane.replica and lane.carried < self._most(lane.rate) and lane.driver.inlet.has_place
        ]
        if fit:
            return min(fit, key=lambda lane: (lane.carried + 1) / max(1.0, lane.rate.value))
        if len(taking) + 1 >= max(self._wanted, 2) or not self._spread.may_open(now):
            return None
        self._lanes.append(StreamLane(self._open_lane, self))
        return None

    # ---------------------------------------------------------------- from the lanes

    def learnt(self, lane: StreamLane) -> None:
        """A lane has come to a server, or heard of its load."""
        said = lane.driver.session.load
        if said is not None:
            self._spread.learn(said)
            if self._wanted > 1:
                self._wanted = self._spread.limit
        lanes = [lane for lane in self._lanes if not lane.spare]
        ways: list[OwnWay | StreamLane] = [self._own, *lanes]
        misplaced = self._spread.misplaced(ways, _now())
        if self._returned and self._spread.limit < 2:
            misplaced = misplaced[:-1]  # what another had can go on a lane only
        for each in misplaced:
            each.retire()
        self.look()

    def answered(self, first: int, payloads: Sequence[bytes]) -> None:
        """Outputs of consecutive inputs came."""
        self._failures = 0
        self._reserve()
        self._sharing.resolve(first, payloads)
        self._hedging.settle()

    def failed(self, number: int, failure: ItemFailure) -> None:
        """An input has failed."""
        self._failures = 0
        self._reserve()
        self._sharing.fail(number, failure)
        self._hedging.settle()

    def _reserve(self) -> None:
        self._sharing.reserve(sum(lane.carried for lane in self._lanes))

    def left(
        self,
        lane: StreamLane,
        error: BaseException | None,
        inputs: Sequence[tuple[int, int]],
        *,
        broken: bool,
    ) -> None:
        """A lane has ended.

        Args:
            lane: which.
            error: why, if it failed.
            inputs: that it lets go of: runs of them, by their first and their count.
            broken: what it brought could not be handed on.
        """
        self._lanes.remove(lane)
        self._returned.extend(self._hedging.left(inputs))
        self._reserve()
        self._attempts += lane.driver.attempts
        self._past = [*self._past, lane.statistics()][-MOST_LANES:]
        if self._ended:
            return
        if not lane.replica:
            self._spread.missed(_now())
        if error is not None and self._returned:
            self._failures += 1
        if error is not None and (broken or self._failures >= _FAILURES):
            self._stream.abandon(as_own(error, "a lane of the stream ended"))
            return
        self.look()


def _now() -> float:
    return asyncio.get_running_loop().time()
