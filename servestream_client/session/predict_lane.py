"""A stream that carries single predictions, each of which somebody waits for."""

from __future__ import annotations

import asyncio
from typing import Protocol

from servestream_client.errors import (
    Delivered,
    StreamError,
)
from servestream_client.protocol.client import Delivery
from servestream_client.protocol.frames import OutputRun
from servestream_client.session.driver import OpenLane
from servestream_client.session.encoding import THE_ONLY_INPUT
from servestream_client.session.lane import Lane
from servestream_client.session.outage import Outage
from servestream_client.session.outcome import item_error, own_failure
from servestream_client.usercode import as_value

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


class PredictLane(Lane):
    """A stream that carries calls.

    Invariant: however its stream ends, each of its calls is settled.

    Args:
        owner: whose.
        open_stream: starts it.
        outage: that of a lane which failed while its first call waited.
        large: it is for large inputs.
        tentative: see `Lane`.
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
        self.calls: dict[int, Call] = {}
        self._owner = owner
        super().__init__(open_stream, outage, tentative=tentative)
        self._ledger = self._session.ledger

    @property
    def carried(self) -> int:
        """How many calls it carries."""
        return len(self.calls)

    def takes(self, call: Call, size: int) -> bool:
        """Whether it has room for a call, whose payload has so many bytes."""
        # Asked of each lane for each call: no layer between.
        return self.is_for(call.made) and self._ledger.fits(size)

    def submit(self, call: Call) -> None:
        """Send a call's input; see `takes`."""
        self._works()
        call.lane = self
        call.number = self.driver.inlet.push(call.payload, call.item)
        call.payload = b""  # the session keeps it as long as it may have to be sent again
        self.calls[call.number] = call

    def cancel(self, call: Call) -> None:
        """Nobody waits for it any more. Its number is free once any answer came."""
        if self.calls.get(call.number) is call:
            self.driver.cancel(call.number)

    # ---------------------------------------------------------------- from the driver

    def _deliver(self) -> None:
        if self._news():
            self._owner.learnt(self)
            if self._tentative:
                self._rests(self._owner.idle_seconds)
        took = self.driver.outlet.deliver(self._take, self._take_run)
        if self.driver.finished:
            self._end(self.driver.error)
            return
        if took or self._has_opened():
            self._owner.has_room()
        if took:
            self._rests(self._owner.idle_seconds)

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

    def _settle(self, error: BaseException | None) -> None:
        for call in self.calls.values():
            call.fail(own_failure(error, call.delivered()))
        self.calls.clear()
        self._owner.left(self, error)
