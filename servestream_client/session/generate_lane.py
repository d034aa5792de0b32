"""A stream that carries generations, each of which has a reader of its own."""

from __future__ import annotations

from typing import Protocol

from servestream_client.events import LaneStatistics
from servestream_client.protocol.client import Delivery, Part
from servestream_client.protocol.frames import OutputRun
from servestream_client.session.driver import OpenLane
from servestream_client.session.encoding import THE_ONLY_INPUT
from servestream_client.session.lane import Lane
from servestream_client.session.outage import Outage
from servestream_client.session.outcome import AttemptFailed, item_error, own_failure
from servestream_client.session.request import Request

__all__ = ["GenerateLane", "LaneOwner"]


class LaneOwner(Protocol):
    """Hands requests to lanes."""

    idle_seconds: float

    def has_room(self) -> None:
        """A lane may have room for another request."""
        ...

    def broke(self, lane: GenerateLane, failed: AttemptFailed) -> None:
        """An attempt of a lane has failed, and the next has not begun."""
        ...

    def answered(self, request: Request) -> None:
        """A request has its last output."""
        ...

    def learnt(self, lane: GenerateLane) -> None:
        """A lane has come to a server, or heard of its load."""
        ...

    def left(self, lane: GenerateLane, error: BaseException | None) -> None:
        """A lane has ended."""
        ...


class GenerateLane(Lane):
    """A stream that carries requests.

    Invariant: however its stream ends, each of its requests is settled, or has been taken back by
    its owner. What a request's reader has not acknowledged is held against its own credit alone.

    Args:
        owner: whose.
        open_stream: starts it.
        outage: that of a lane which failed while its first request waited.
        suspected: its requests may break their servers.
        tentative: see `Lane`.
    """

    def __init__(
        self,
        owner: LaneOwner,
        open_stream: OpenLane,
        outage: Outage | None,
        *,
        suspected: bool = False,
        tentative: bool = False,
    ) -> None:
        self.suspected: bool = suspected
        self.requests: dict[int, Request] = {}
        self._owner = owner
        super().__init__(open_stream, outage, tentative=tentative)

    @property
    def carried(self) -> int:
        """How many requests it carries."""
        return len(self.requests)

    def statistics(self) -> LaneStatistics:
        """What it carried so far."""
        return LaneStatistics(
            replica=self.replica,
            endpoint=self.driver.place,
            received=self._session.counters.received,
            under_way=len(self.requests),
            attempts=self.driver.attempts,
            ended=self.ended,
        )

    def takes(self, request: Request) -> bool:
        """Whether it has room for a request."""
        return self.is_for(request.made) and self._session.ledger.fits(len(request.payload))

    def submit(self, request: Request) -> None:
        """Send a request's input, or what it takes to go on with it; see `takes`."""
        self._works()
        inlet = self.driver.inlet
        request.lane = self
        if request.timing is not None:
            request.timing.stream_id = self.driver.stream_id
        if request.partial is None:
            request.number = inlet.push(request.payload, request.item)
        else:
            partial, request.partial = request.partial, None
            request.number = inlet.push_partial(
                request.payload, request.item, partial, request.held
            )
        self.requests[request.number] = request

    def take_back(self, request: Request) -> None:
        """Between two attempts: carry a request no more. It has then what it takes to go on, and
        what is held of it counts nowhere, until it is submitted again.
        """
        number = request.number
        request.sent |= number <= self.driver.session.ledger.sent_through
        del self.requests[number]
        outlet = self.driver.outlet
        request.partial = self.driver.inlet.drop(number)
        if request.held.outputs:
            outlet.forget_held(number)
        request.lane, request.number = None, 0

    def taken(self, request: Request, count: int, size: int) -> None:
        """The reader of a request has so many outputs more."""
        self.driver.outlet.ack_outputs(request.number, count, size)

    def cancel(self, request: Request) -> None:
        """Nobody reads the outputs of a request any more."""
        if self.requests.get(request.number) is request:
            self.driver.cancel(request.number)

    # ---------------------------------------------------------------- from the driver

    def _deliver(self) -> None:
        if self._news():
            self._owner.learnt(self)
            if self._tentative:
                self._rests(self._owner.idle_seconds)
        answered = len(self.requests)
        self.driver.outlet.deliver(self._take, self._take_run, self._take_part)
        if self.driver.finished:
            self._end(self.driver.error)
        elif len(self.requests) < answered:
            self._owner.has_room()
            if self.suspected and not self.requests:  # and nothing more will come
                self.retire()
            else:
                self._rests(self._owner.idle_seconds)
        elif self.suspected or self._has_opened():
            self._owner.has_room()  # perhaps others wait no longer for what it carries

    def _take_run(self, run: OutputRun) -> None:
        for number, payload in enumerate(run.payloads, run.first_number):
            request = self.requests.pop(number)
            if not request.ended:
                request.add(Part(number, 0, (payload,), last=True))
                self._answered(request)

    def _take_part(self, part: Part) -> None:
        request = self.requests[part.number]
        if request.ended:  # nobody reads them
            self.driver.outlet.count(part)
        else:
            request.add(part)
        if part.last:
            del self.requests[part.number]
            self._answered(request)

    def _take(self, delivery: Delivery) -> None:
        """The end of a request's outputs, or why there are no more."""
        request = self.requests.pop(delivery.number)
        failure = delivery.failure
        if failure is None:
            self._answered(request)
            return
        request.end(item_error(failure, THE_ONLY_INPUT, request.item))

    def _answered(self, request: Request) -> None:
        if not request.ended:
            self._owner.answered(request)
            request.end()

    def _settle(self, error: BaseException | None) -> None:
        for request in self.requests.values():
            request.end(own_failure(error, request.delivered()))
        self.requests.clear()
        self._owner.left(self, error)

    def _attempt_failed(self, failed: AttemptFailed) -> None:
        self._owner.broke(self, failed)
        super()._attempt_failed(failed)
        self._owner.has_room()  # of what was taken back
