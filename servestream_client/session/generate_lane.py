"""A stream that carries generations, each of which has a reader of its own."""

from __future__ import annotations

import asyncio
from typing import Protocol

from servestream_client.protocol.client import Delivery, Part
from servestream_client.protocol.frames import Load, OutputRun, Welcome
from servestream_client.session.driver import OpenLane, StreamDriver
from servestream_client.session.encoding import THE_ONLY_INPUT
from servestream_client.session.outage import Outage
from servestream_client.session.outcome import AttemptFailed, item_error, own_failure
from servestream_client.session.request import Request
from servestream_client.usercode import unforeseen

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


class GenerateLane:
    """A stream that carries requests.

    Invariant: however its stream ends, each of its requests is settled, or has been taken back by
    its owner. What a request's reader has not acknowledged is held against its own credit alone.

    Args:
        owner: whose.
        open_stream: starts it.
        outage: that of a lane which failed while its first request waited.
        suspected: its requests may break their servers.
        tentative: others have room, so it takes no request before it has come to a server.
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
        self._tentative = tentative
        self.requests: dict[int, Request] = {}
        self.ended: bool = False
        self.retiring: bool = False
        self._owner = owner
        self._idle: asyncio.TimerHandle | None = None
        self._opened = asyncio.get_running_loop().time()
        self._known: tuple[Welcome | None, Load | None] = None, None
        self.driver: StreamDriver = open_stream(
            on_arrival=self._arrived, on_break=self._attempt_failed, outage=outage
        )

    @property
    def replica(self) -> str:
        """The server that it is at, or was last; empty: none so far."""
        welcome = self.driver.session.welcome
        return "" if welcome is None else welcome.replica

    @property
    def carried(self) -> int:
        """How many requests it carries."""
        return len(self.requests)

    def takes(self, request: Request) -> bool:
        """Whether it has room for a request. While it goes on with another lane's outage, one that
        was made since has more patience than is left to it.
        """
        if self.retiring or (self.driver.outage.inherited and request.made > self._opened):
            return False
        if self._tentative and not self.replica:
            return False
        return self.driver.session.ledger.fits(len(request.payload))

    def submit(self, request: Request) -> None:
        """Send a request's input, or what it takes to go on with it; see `takes`."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        inlet = self.driver.inlet
        request.lane = self
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

    def retire(self) -> None:
        """Take no further requests, and end once those under way are answered."""
        if not self.retiring:
            self.retiring = True
            self.driver.inlet.finish()

    # ---------------------------------------------------------------- from the driver

    def _arrived(self) -> None:
        try:
            self._deliver()
        except Exception as bug:  # which would leave readers waiting
            self._end(unforeseen(bug))
            self.driver.abandon(unforeseen(bug))

    def _deliver(self) -> None:
        session = self.driver.session
        if self._known != (session.welcome, session.load):
            self._known = session.welcome, session.load
            self._owner.learnt(self)
            if self._tentative:
                self._rest()
        answered = len(self.requests)
        self.driver.outlet.deliver(self._take, self._take_run, self._take_part)
        if self.driver.finished:
            self._end(self.driver.error)
        elif len(self.requests) < answered:
            self._owner.has_room()
            self._rest()

    def _rest(self) -> None:
        """Have it end after a while, if there is nothing to carry."""
        if self.requests or self.retiring or self._idle is not None:
            return
        if self.suspected:  # and nothing will be
            self.retire()
        else:
            # Not in the context of whoever's request happened to be the last.
            self._idle = asyncio.get_running_loop().call_later(
                self._owner.idle_seconds, self.retire, context=self.driver.context
            )

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

    def _end(self, error: BaseException | None) -> None:
        if self.ended:
            return
        self.ended = True
        self.retiring = True
        if self._idle is not None:
            self._idle.cancel()
        for request in self.requests.values():
            request.end(own_failure(error, request.delivered()))
        self.requests.clear()
        self._owner.left(self, error)

    def _attempt_failed(self, failed: AttemptFailed) -> None:
        self._owner.broke(self, failed)
        if not self.requests:
            self.retire()  # there is nothing to come back for
        self._owner.has_room()  # of what was taken back
