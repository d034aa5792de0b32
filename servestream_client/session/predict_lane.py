"""A stream that carries single predictions, each of which somebody waits for."""

from __future__ import annotations

import asyncio
from typing import Protocol

from servestream_client.errors import (
    Delivered,
    StreamError,
)
from servestream_client.protocol.client import Delivery
from servestream_client.protocol.frames import Load, OutputRun, Welcome
from servestream_client.session.driver import OpenLane, StreamDriver
from servestream_client.session.encoding import THE_ONLY_INPUT
from servestream_client.session.outage import Outage
from servestream_client.session.outcome import AttemptFailed, item_error, own_failure
from servestream_client.usercode import as_value, unforeseen

__all__ = ["Call", "LaneOwner", "PredictLane"]


class Call:
    """One prediction that somebody waits for."""

    __slots__ = ("future", "item", "lane", "made", "number", "payload")

    def __init__(self, item: object, payload: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.item: object = item
        self.payload: bytes = payload
        self.future: asyncio.Future[bytes] = loop.create_future()
        self.made: float = loop.time()
        self.lane: PredictLane | None = None  # the one that carries it
        self.number: int = 0

    def let_go(self) -> None:
        """Keep nothing of what was to be sent."""
        self.item, self.payload = None, b""

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(as_value(error, "the stream"))

    @property
    def sent(self) -> bool:
        """Whether a server may have got the input."""
        return self.lane is not None and self.number <= self.lane.driver.session.ledger.sent_through

    def delivered(self) -> Delivered:
        """What became of the input, as far as it is known."""
        session = self.lane.driver.session if self.lane is not None else None
        return Delivered(
            accepted=1,
            unsent=0 if self.sent else 1,
            stream_id=session.stream_id.hex() if session is not None else "",
            attempts=self.lane.driver.attempts if self.lane is not None else 0,
        )


class LaneOwner(Protocol):
    """Hands calls to lanes."""

    idle_seconds: float

    def has_room(self) -> None:
        """A lane may have room for another call."""
        ...

    def learnt(self, lane: PredictLane) -> None:
        """A lane has come to a server, or heard of its load."""
        ...

    def left(self, lane: PredictLane, error: BaseException | None) -> None:
        """A lane has ended."""
        ...


class PredictLane:
    """A stream that carries calls.

    Invariant: however its stream ends, each of its calls is settled.

    Args:
        owner: whose.
        open_stream: starts it.
        outage: that of a lane which failed while its first call waited.
        large: it is for large inputs.
        tentative: others have room, so it takes no call before it has come to a server: where all
            places are taken that may be long.
    """

    def __init__(
        self,
        owner: LaneOwner,
        open_stream: OpenLane,
        outage: Outage | None,
        *,
        large: bool,
        tentative: bool = False,
    ) -> None:
        self.large: bool = large
        self._tentative = tentative
        self.calls: dict[int, Call] = {}
        self.ended: bool = False
        self.retiring: bool = False
        self._owner = owner
        self._idle: asyncio.TimerHandle | None = None
        self._opened = asyncio.get_running_loop().time()
        self.driver: StreamDriver = open_stream(
            on_arrival=self._arrived, on_break=self._attempt_failed, outage=outage
        )
        self._session = self.driver.session
        self._ledger = self._session.ledger
        self._known: tuple[Welcome | None, Load | None] = None, None
        self._outage = self.driver.outage

    @property
    def replica(self) -> str:
        """The server that it is at, or was last; empty: none so far."""
        welcome = self._session.welcome
        return "" if welcome is None else welcome.replica

    @property
    def carried(self) -> int:
        """How many calls it carries."""
        return len(self.calls)

    def takes(self, call: Call, size: int) -> bool:
        """Whether it has room for a call, whose payload has so many bytes. While it goes on with
        another lane's outage, one that was made since has more patience than is left to it.
        """
        if self.retiring or (self._outage.inherited and call.made > self._opened):
            return False
        if self._tentative and not self.replica:
            return False
        return self._ledger.fits(size)  # asked of each lane for each call: no layer between

    def submit(self, call: Call) -> None:
        """Send a call's input; see `takes`."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        call.lane = self
        call.number = self.driver.inlet.push(call.payload, call.item)
        call.payload = b""  # the session keeps it as long as it may have to be sent again
        self.calls[call.number] = call

    def cancel(self, call: Call) -> None:
        """Nobody waits for it any more. Its number is free once any answer came."""
        if self.calls.get(call.number) is call:
            self.driver.cancel(call.number)

    def retire(self) -> None:
        """Take no further calls, and end once those under way are answered."""
        if not self.retiring:
            self.retiring = True
            self.driver.inlet.finish()

    # ---------------------------------------------------------------- from the driver

    def _arrived(self) -> None:
        try:
            self._deliver()
        except Exception as bug:  # which would leave calls waiting
            self._end(unforeseen(bug))
            self.driver.abandon(unforeseen(bug))

    def _deliver(self) -> None:
        welcome, load = self._known
        session = self._session
        if session.welcome is not welcome or session.load is not load:
            self._known = session.welcome, session.load
            self._owner.learnt(self)
            if self._tentative:
                self._rest()
        took = self.driver.outlet.deliver(self._take, self._take_run)
        if self.driver.finished:
            self._end(self.driver.error)
        elif took:
            self._owner.has_room()
            self._rest()

    def _rest(self) -> None:
        """Have it end after a while, if there is nothing to carry."""
        if not self.calls and not self.retiring and self._idle is None:
            # Not in the context of the call that happened to be the last.
            self._idle = asyncio.get_running_loop().call_later(
                self._owner.idle_seconds, self.retire, context=self.driver.context
            )

    def _take_run(self, run: OutputRun) -> None:
        for number, payload in enumerate(run.payloads, run.first_number):
            future = self.calls.pop(number).future
            if not future.done():
                future.set_result(payload)

    def _take(self, delivery: Delivery) -> None:
        """An item error, or an input that has not exactly one output."""
        call = self.calls[delivery.number]
        if delivery.last:
            del self.calls[delivery.number]
        if delivery.failure is None:
            if call.future.done():  # it was told already
                return
            outputs = "no output" if delivery.payload is None else "several outputs"
            text = f"the handler gives {outputs} for an input: use generate(), not predict()"
            call.fail(StreamError(text, call.delivered()))
            self.cancel(call)  # or its handler would go on
            return
        call.fail(item_error(delivery.failure, THE_ONLY_INPUT, call.item))

    def _end(self, error: BaseException | None) -> None:
        if self.ended:
            return
        self.ended = True
        self.retiring = True
        if self._idle is not None:
            self._idle.cancel()
        for call in self.calls.values():
            call.fail(own_failure(error, call.delivered()))
        self.calls.clear()
        self._owner.left(self, error)

    def _attempt_failed(self, _: AttemptFailed) -> None:
        if not self.calls:
            self.retire()  # there is nothing to come back for
