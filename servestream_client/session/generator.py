"""Generations: inputs with many outputs each, on few long-lived streams.

A *lane* is an unordered stream that carries the inputs of many readers. One whose reader has
stopped stops no other: it has credit of its own, and after a cut it is *parked*, so that it takes
no place until its reader goes on. An input that is suspected of breaking its servers moves to a
lane with few others, and in the end to one of its own. Where there are fewer servers than such
lanes, it is tried while no other suspect is.

Invariant: a request that has not ended is carried by one lane, waits for one or for its turn, or is
parked.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from servestream_client.config import FlowControl
from servestream_client.events import LaneStatistics
from servestream_client.protocol.frames import Load
from servestream_client.session.blame import Control, poison
from servestream_client.session.driver import OpenLane
from servestream_client.session.generate_lane import GenerateLane
from servestream_client.session.isolation import LONE_BREAKS, pause_after
from servestream_client.session.outage import LastOutage, Outage
from servestream_client.session.outcome import AttemptFailed, own_failure
from servestream_client.session.request import Request
from servestream_client.session.spread import ENOUGH, MOST_LANES, Spread
from servestream_client.session.telling import CallTeller
from servestream_client.usercode import unforeseen

__all__ = ["FEW_OUTPUTS", "Generator"]

FEW_OUTPUTS = 16
"""An attempt that brought fewer outputs of an input speaks against it, if it breaks."""

_SUSPECT_BREAKS = 2
"""After so many in a row an input moves to a lane for suspects."""

_ASIDE_FOR = 4
"""An input that broke its server alone lets so many others go first before it is tried again."""

_WIDTH = 8
"""Into so many lanes those of one that broke are spread."""

_AGAIN_SECONDS = 0.1
"""How often it is looked whether requests need not wait for other servers any more."""


class Generator:
    """Hands requests to lanes.

    Args:
        open_stream: starts a lane's stream.
        open_suspects: starts that of a lane for inputs that may break their servers.
        answered: how many answers the target has given to this client.
        flow: how much of one request may be held.
        spread: how many streams, those for suspects not counted, and where.
        idle_seconds: how long a lane without requests is kept.
        patience: for how many seconds requests beyond a server's share wait for lanes at servers
            that have none; 0: they go where there is one.
    """

    def __init__(
        self,
        open_stream: OpenLane,
        open_suspects: OpenLane,
        answered: Callable[[], int],
        *,
        flow: FlowControl,
        spread: Spread,
        idle_seconds: float,
        patience: float = 0.0,
    ) -> None:
        self.teller: CallTeller | None = None
        self._patience = patience
        self._patient_until = _now() + patience
        self._again: asyncio.TimerHandle | None = None  # while requests wait for that
        self.idle_seconds: float = idle_seconds
        self._open_stream = open_stream
        self._open_suspects = open_suspects
        self._target_answered = answered
        self._flow = flow
        self._spread_over = spread
        self._lanes: list[GenerateLane] = []
        self._waiting: OrderedDict[Request, None] = OrderedDict()
        self._parked: set[Request] = set()
        self.known_good: bytes | None = None
        """The payload of an input that was answered."""
        self._attempts = 0  # of lanes that ended
        self._past: deque[LaneStatistics] = deque(maxlen=MOST_LANES)  # theirs
        self._control: Request | None = None  # that, tried again beside a suspect
        self._alone: Request | None = None  # the suspect that is tried without others
        self._alone_since = 0  # its outputs, when that began
        self._alone_breaks = 0  # since then, while others may have been there
        self._in_turn: deque[Request] = deque()  # those that wait for that
        self._last_apart = Outage(math.inf)  # of those that were tried apart last
        self._last_outage = LastOutage()

    @property
    def attempts(self) -> int:
        """How many calls were made."""
        return self._attempts + sum(each.driver.attempts for each in self._lanes)

    def statistics(self) -> Sequence[LaneStatistics]:
        """Of each lane; may be asked for in any thread."""
        return *(lane.statistics() for lane in list(self._lanes)), *list(self._past)

    # ---------------------------------------------------------------- from the readers

    def submit(self, request: Request) -> None:
        """Have it answered."""
        self._waiting[request] = None
        self.has_room()

    def forget(self, request: Request) -> None:
        """It waits for a lane, or is parked, and nobody reads its outputs any more."""
        self._parked.discard(request)
        with suppress(ValueError):
            self._in_turn.remove(request)
        if self._waiting.pop(request, request) is None:
            self.has_room()  # those behind it may fit where it did not

    def reads_on(self, request: Request) -> None:
        """The reader of a parked request has taken something."""
        if request in self._parked and request.reads(self._flow):
            self._parked.remove(request)
            request.made = _now()  # so far it waited for no server
            self.submit(request)

    def make_way(self, request: Request) -> None:
        """It must not wait behind others on its lane of which none has credit."""
        lane = request.lane
        if lane is not None and lane.driver.inlet.waits_behind(request.number):
            lane.driver.move()

    def suspect(self, requests: Sequence[Request], outage: Outage) -> None:
        """Have requests answered of which one may break its server: on lanes with few others.

        Args:
            requests: at least one; they may have been cut.
            outage: that of the stream that they come from.
        """
        for request in requests:
            request.owner = self
        width = max(1, math.ceil(len(requests) / _WIDTH))
        for first in range(0, len(requests), width):
            self._try_apart(requests[first : first + width], outage)

    def abandon(self) -> None:
        """Nobody reads anything any more."""
        if self._again is not None:
            self._again.cancel()
        self._waiting.clear()
        self._parked.clear()
        self._in_turn.clear()
        for lane in list(self._lanes):
            lane.driver.abandon()

    async def aclose(self) -> None:
        """`abandon`, and wait until nothing is left."""
        for lane in list(self._lanes):
            await lane.driver.aclose()

    def orphaned(self) -> None:
        """No further requests will come: no lane is kept for them. Those that wait patiently for
        lanes still need them; then it is to be said again.
        """
        if self._waiting and self._patience:
            return
        self.idle_seconds = 0.0
        for lane in list(self._lanes):
            if not lane.requests:
                lane.retire()

    # ---------------------------------------------------------------- lanes

    def has_room(self) -> None:
        """Hand out the requests that wait, as far as there is room. What goes wrong with one of
        them is that one's, whoever asked.
        """
        self._try_next()
        while self._waiting:
            request = next(iter(self._waiting))
            try:
                lane = self._lane_for(request)
                if lane is None:
                    return
                del self._waiting[request]  # which no other call is to hand out as well
                lane.submit(request)
            except Exception as error:
                self._waiting.pop(request, None)
                request.end(unforeseen(error))

    def _lane_for(self, request: Request) -> GenerateLane | None:
        open_lanes = [lane for lane in self._lanes if not (lane.retiring or lane.suspected)]
        carried = self._carried_at(open_lanes)
        best = min(
            (lane for lane in open_lanes if lane.takes(request)),
            key=lambda lane: (carried[lane.replica or lane], _load(lane)),
            default=None,
        )
        if best is None or _load(best) >= self._spread_over.enough(len(open_lanes)):
            best = self._further_lane(request, best, len(open_lanes))
        if best is not None and self._has_its_share(best, carried):
            self._look_again()
            return None
        return best

    def _further_lane(
        self, request: Request, best: GenerateLane | None, lanes: int
    ) -> GenerateLane | None:
        """Open one, if it is time to. Returns the one to take."""
        spread = self._spread_over
        if lanes >= spread.limit or not (best is None or spread.may_open(_now())):
            return best
        patient = _now() < self._patient_until  # or the next one would take all that waits
        tentative = best is not None and (patient or _load(best) < ENOUGH)
        outage = self._last_outage.of(request.made, _now())
        lane = GenerateLane(self, self._open_stream, outage, tentative=tentative)
        self._lanes.append(lane)
        return best if tentative else lane

    def _carried_at(self, lanes: Sequence[GenerateLane]) -> Counter[str | GenerateLane]:
        """How many requests each server has, or a lane that has come to none."""
        carried = Counter[str | GenerateLane]()
        for lane in lanes:
            carried[lane.replica or lane] += _load(lane)
        return carried

    def _has_its_share(self, lane: GenerateLane, carried: Counter[str | GenerateLane]) -> bool:
        """Whether further requests had better wait for other servers: those that come at once would
        else all go to the first.
        """
        servers = self._spread_over.servers
        reached = sum(isinstance(place, str) for place in carried)
        if reached >= servers or _now() >= self._patient_until:
            return False
        if not lane.replica:  # it may come where another one is
            return _load(lane) > 0
        all_requests = carried.total() + len(self._waiting)
        return carried[lane.replica] >= math.ceil(all_requests / servers)

    def _look_again(self) -> None:
        if self._again is None:
            # Not in the context of whoever happened to ask.
            self._again = asyncio.get_running_loop().call_later(
                _AGAIN_SECONDS, self._patience_passes, context=contextvars.Context()
            )

    def _patience_passes(self) -> None:
        self._again = None
        self.has_room()

    def answered(self, request: Request) -> None:
        """A request has its last output."""
        if request is not self._control:
            self.known_good = request.payload

    def learnt(self, lane: GenerateLane) -> None:
        """A lane has come to a server, or heard of its load."""
        load = lane.driver.session.load
        if load is not None:
            self.learn(load)
        kind = [each for each in self._lanes if not each.suspected]
        for misplaced in self._spread_over.misplaced(kind, _now()):
            misplaced.retire()
        if self._waiting:
            self.has_room()

    def learn(self, load: Load) -> None:
        """A server has said something of its load."""
        servers = self._spread_over.servers
        self._spread_over.learn(load)
        if self._spread_over.servers > servers:
            self._patient_until = _now() + self._patience

    def left(self, lane: GenerateLane, error: BaseException | None) -> None:
        """A lane has ended."""
        if lane in self._lanes:
            self._lanes.remove(lane)
            self._attempts += lane.driver.attempts
            self._past.append(lane.statistics())
        if not (lane.replica or lane.suspected):
            self._spread_over.missed(_now())
        if error is not None and lane.driver.gave_up:
            self._last_outage.note(lane.driver.outage, _now())
            began = lane.driver.outage.began
            for request in [each for each in self._waiting if each.made <= began]:
                del self._waiting[request]  # it has waited as long as the lane has tried
                request.end(own_failure(error, request.delivered()))
        self.has_room()

    # ---------------------------------------------------------------- between two attempts

    def broke(self, lane: GenerateLane, failed: AttemptFailed) -> None:
        """An attempt of a lane has failed, and the next has not begun."""
        for request in list(lane.requests.values()):
            if request.lacks_credit(self._flow) and not request.ended:
                lane.take_back(request)
                self._parked.add(request)
        if not failed.counted:
            return
        suspects = [
            suspect
            for number in failed.suspects
            if (suspect := lane.requests.get(number)) is not None and not suspect.ended
        ]
        accused = set(suspects)
        for request in list(lane.requests.values()):
            few = request.received - request.broke_at < FEW_OUTPUTS
            request.broke_at = request.received
            request.breaks = request.breaks + 1 if few and request in accused else 0
            if not few:
                request.lone_breaks = 0
        if not lane.suspected:
            moving = [each for each in suspects if each.breaks >= _SUSPECT_BREAKS]
            self._spread(lane, moving)
        elif len(suspects) > 1:
            self._spread(lane, [each for each in suspects if each.breaks])
        elif suspects and suspects[0].breaks:
            if self._is_alone(lane):
                self._judge(lane, suspects[0], failed)
            else:
                self._have_tried_alone(lane, suspects[0])

    def _spread(self, lane: GenerateLane, requests: list[Request]) -> None:
        """Move requests to lanes for suspects, so that the next break tells more."""
        for request in requests:
            lane.take_back(request)
        if requests:
            self.suspect(requests, lane.driver.outage)

    def _try_apart(self, requests: Sequence[Request], outage: Outage) -> None:
        self._last_apart = outage
        try:
            lane = GenerateLane(self, self._open_suspects, outage.heir(_now()), suspected=True)
        except Exception as error:  # the client was closed just now
            for request in requests:
                request.end(own_failure(unforeseen(error), request.delivered()))
            return
        self._lanes.append(lane)
        for request in requests:
            lane.submit(request)

    def _judge(self, lane: GenerateLane, request: Request, failed: AttemptFailed) -> None:
        """An input broke its server alone."""
        if request is self._control:  # the server is broken, whatever it gets
            lane.take_back(request)
            request.end()
            return
        answered = self._target_answered() - request.received  # what others have had
        if request.lone_breaks == 0:
            request.answered_before = answered
        request.lone_breaks += 1
        if answered == request.answered_before and not self._in_turn:
            lane.driver.stand_back(pause_after(request.lone_breaks))
        if answered > request.answered_before:
            if request.lone_breaks >= LONE_BREAKS:
                lane.take_back(request)
                request.end(poison(request, failed))
                while self._in_turn:  # what these were suspected of is explained
                    cleared = self._in_turn.popleft()
                    cleared.breaks = cleared.lone_breaks = 0
                    self._waiting[cleared] = None
        elif self._in_turn:  # whether these are answered will tell
            lane.take_back(request)
            self._in_turn.insert(min(_ASIDE_FOR, len(self._in_turn)), request)
            self._alone = None
        elif self.known_good is not None and self._control is None:
            self._control = Control(self.known_good, self._control_ended)
            self._try_apart((self._control,), lane.driver.outage)

    # ---------------------------------------------------------------- at one server

    def _is_alone(self, lane: GenerateLane) -> bool:
        """Whether no other suspect was at a lane's server, which broke."""
        return not any(
            other.replica == lane.replica and other.requests
            for other in self._lanes
            if other is not lane
            and other.suspected
            and self._control not in other.requests.values()
        )

    def _have_tried_alone(self, lane: GenerateLane, request: Request) -> None:
        """An input may have broken its server, or another suspect there has. One of them goes on,
        and the others wait until that is answered, or to blame.
        """
        if self._alone is None or not self._still_alone(self._alone):
            self._begin_alone(request)
        elif request is not self._alone:
            lane.take_back(request)
            self._in_turn.append(request)
        else:  # or those that have not come to the server would never be answered
            self._alone_breaks += 1
            lane.driver.stand_back(pause_after(self._alone_breaks))

    def _begin_alone(self, request: Request) -> None:
        self._alone, self._alone_since, self._alone_breaks = request, request.received, 1

    def _still_alone(self, request: Request) -> bool:
        """Whether others are to wait for a suspect: not for one whose reader has stopped, or that
        has come further than what breaks servers does.
        """
        return not (
            request.ended
            or request.lane is None
            or request.lacks_credit(self._flow)
            or request.received - self._alone_since >= FEW_OUTPUTS
        )

    def _try_next(self) -> None:
        """Those that cannot even begin, since the client was closed, fail one after the other."""
        while self._in_turn:
            if self._alone is not None and self._still_alone(self._alone):
                return
            request = self._in_turn.popleft()
            self._begin_alone(request)
            self._try_apart((request,), self._last_apart)

    def _control_ended(self) -> None:
        self._control = None


def _now() -> float:
    return asyncio.get_running_loop().time()


def _load(lane: GenerateLane) -> int:
    return len(lane.requests)
