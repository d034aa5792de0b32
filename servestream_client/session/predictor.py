"""Single predictions: many concurrent calls on few long-lived streams.

A *lane* is an unordered stream that carries the calls of many tasks, each as one input. Lanes are
opened as the load grows, and given back once they have had nothing to do for a while. A lane
survives its replicas, and inputs that break them, like any stream.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from servestream_client.codecs import direct, encodes_bytes
from servestream_client.config import check_timeout
from servestream_client.errors import (
    Delivered,
    ItemErrorKind,
    OutputDecodeError,
    StreamTimeoutError,
)
from servestream_client.protocol.pacing import FRAME_TARGET_BYTES
from servestream_client.session.driver import OpenLane
from servestream_client.session.encoding import THE_ONLY_INPUT, encoded
from servestream_client.session.outage import LastOutage
from servestream_client.session.outcome import own_failure
from servestream_client.session.predict_lane import Call, PredictLane
from servestream_client.session.spread import ENOUGH, Spread
from servestream_client.turns import Turn, turn_of_loop
from servestream_client.usercode import contained, describe, unforeseen

__all__ = ["Predictor"]

_LAST = 1 << 40
"""Above any number of calls."""

_FREE_SECONDS = 1e-5
"""What a call's codec may take without counting: less than what else is done for a call."""

_QUICK = 2048
"""After so many in a row that took no longer, the next ones are let pass though the loop's turn is
spent: fewer callers than that wake up together, so one of them may turn out slow, and not more."""


class Predictor:
    """Hands calls to lanes.

    Args:
        open_stream: starts a lane's stream.
        open_large: starts that of a lane for inputs that fill a frame; None: the same.
        encode: item to payload.
        decode: payload to output.
        max_item_bytes: the largest payload to send.
        spread: how many streams, and where.
        idle_seconds: how long a lane without calls is kept.
    """

    def __init__(
        self,
        open_stream: OpenLane,
        open_large: OpenLane | None = None,
        *,
        encode: Callable[[object], bytes],
        decode: Callable[[bytes], object],
        max_item_bytes: int,
        spread: Spread,
        idle_seconds: float,
    ) -> None:
        self.idle_seconds: float = idle_seconds
        self._open_stream = open_stream
        self._open_large = open_large or open_stream
        self._encode = direct(encode)
        self._decode = decode
        self._turn: Turn | None = None
        self._quick_inputs = self._quick_outputs = 0  # the last ones in a row
        self._as_is = encodes_bytes(encode) and encodes_bytes(decode)
        self._max_item_bytes = max_item_bytes
        self._spread = spread
        self._lanes: list[PredictLane] = []
        self._waiting: OrderedDict[Call, None] = OrderedDict()  # nobody's who has gone
        self._last_outage = LastOutage()

    async def predict(self, item: object, *, timeout: float | None) -> object:
        """The output for one input.

        Raises:
            ItemError: the input failed.
            StreamError: the stream that carried it failed.
            ConfigurationError: the timeout cannot work.
        """
        if self._as_is:
            return await self.answer(item, self.encode(item), timeout)
        check_timeout(timeout)
        # Many may be called, or get their answers, in one turn of the event loop.
        turn, waited = self._turn or self._turn_of_loop(), 0.0
        if turn.busy and self._quick_inputs < _QUICK:
            waited = await self._turn_comes(timeout)
        began = turn.clock()
        try:
            payload = self.encode(item)
        finally:
            self._quick_inputs += 1
            if (spent := turn.clock() - began) > _FREE_SECONDS:
                self._quick_inputs = 0
                turn.spend(spent)
        answer = await self.answer(item, payload, timeout, waited=waited)
        if turn.busy and self._quick_outputs < _QUICK:
            await turn.ready()
        began = turn.clock()
        try:
            return self.decode(answer, item)
        finally:
            self._quick_outputs += 1
            if (spent := turn.clock() - began) > _FREE_SECONDS:
                self._quick_outputs = 0
                turn.spend(spent)

    def _turn_of_loop(self) -> Turn:
        self._turn = turn_of_loop()
        return self._turn

    async def _turn_comes(self, timeout: float | None) -> float:
        """Wait until an input may be encoded; returns how long that took."""
        loop, turn = asyncio.get_running_loop(), self._turn or self._turn_of_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(timeout):
                await turn.ready()
        except TimeoutError as error:
            text = f"{_no_answer(timeout)}: other inputs were encoded all the time"
            raise StreamTimeoutError(text, Delivered(accepted=1, unsent=1)) from error
        return loop.time() - began

    async def answer(
        self,
        item: object,
        payload: bytes,
        timeout: float | None,
        *,
        waited: float = 0.0,
        call: Call | None = None,
    ) -> bytes:
        """The same between the codec's two parts, which may run in any thread.

        Args:
            item: the input.
            payload: it, encoded.
            timeout: seconds.
            waited: how many of these have passed.
            call: what stands for it, where somebody looks.

        Raises:
            ItemError: the input failed.
            StreamError: the stream that carried it failed.
            ConfigurationError: the timeout cannot work.
        """
        check_timeout(timeout)
        call = call or Call(item, payload)
        try:
            self._waiting[call] = None
            self.has_room()
            if timeout is None:
                return await call.future
            async with asyncio.timeout(timeout - waited):
                return await call.future
        except TimeoutError as error:
            if call.future.done() and not call.future.cancelled():
                return call.future.result()  # it came just then, or is that very error
            raise StreamTimeoutError(_no_answer(timeout), call.delivered()) from error
        finally:
            if not call.future.done() or call.future.cancelled():
                self._forget(call)

    def encode(self, item: object) -> bytes:
        """
        Raises:
            ItemError: the codec cannot encode it, or it is too large.
        """
        return encoded(self._encode, item, self._max_item_bytes)

    def decode(self, payload: bytes, item: object) -> object:
        """
        Raises:
            OutputDecodeError: the codec cannot decode it.
        """
        try:
            return self._decode(payload)
        except BaseException as error:
            failure = contained(error, "the codec")
            raise OutputDecodeError(
                THE_ONLY_INPUT, ItemErrorKind.OUTPUT_DECODE, describe(failure), input=item
            ) from failure

    def _forget(self, call: Call) -> None:
        """The caller has gone, and with it goes what was to be sent."""
        call.future.cancel()
        call.let_go()
        if call.lane is not None:
            call.lane.cancel(call)
        elif call in self._waiting:
            del self._waiting[call]
            self.has_room()  # those behind it may fit where it did not

    # ---------------------------------------------------------------- lanes

    def orphaned(self) -> None:
        """No further calls will come: no lane is kept for them."""
        self.idle_seconds = 0.0
        for lane in list(self._lanes):
            if not lane.calls:
                lane.retire()

    def has_room(self) -> None:
        """Hand out the calls that wait, as far as there is room. What goes wrong with one of them
        is that call's, whatever led here.
        """
        while self._waiting:
            call = next(iter(self._waiting))
            try:
                lane = self._lane_for(call)
                if lane is None:
                    return
                lane.submit(call)
            except Exception as error:
                call.fail(unforeseen(error))
            self._waiting.pop(call, None)

    def _lane_for(self, call: Call) -> PredictLane | None:
        size = len(call.payload)
        large = size > FRAME_TARGET_BYTES
        best: PredictLane | None = None
        least = open_lanes = 0
        for lane in self._lanes:
            if lane.retiring:
                continue
            open_lanes += 1
            if lane.takes(call, size):
                # Small inputs do not queue behind large ones.
                rank = len(lane.calls) + (_LAST if lane.large != large else 0)
                if best is None or rank < least:
                    best, least = lane, rank
        slow = best is not None and best.driver.slow
        if slow:  # nor is anything sent where those go slowly
            lanes = [lane for lane in self._lanes if lane.takes(call, size)]
            best = min(
                lanes, key=lambda lane: (lane.driver.slow, lane.large != large, len(lane.calls))
            )
            slow = best.driver.slow
        spread = self._spread
        if best is not None and least < spread.enough(open_lanes) and not slow:
            return best
        now = asyncio.get_running_loop().time()
        if open_lanes < spread.limit and (best is None or slow or spread.may_open(now)):
            open_stream = self._open_large if large else self._open_stream
            outage = self._last_outage.of(call.made, now)
            tentative = best is not None and least < ENOUGH and not slow
            lane = PredictLane(self, open_stream, outage, large=large, tentative=tentative)
            self._lanes.append(lane)
            return best if tentative else lane
        return best

    def learnt(self, lane: PredictLane) -> None:
        """A lane has come to a server, or heard of its load."""
        load = lane.driver.session.load
        if load is not None:
            self._spread.learn(load)
        kind = [each for each in self._lanes if each.large == lane.large]
        for misplaced in self._spread.misplaced(kind, asyncio.get_running_loop().time()):
            misplaced.retire()

    def left(self, lane: PredictLane, error: BaseException | None) -> None:
        """A lane has ended."""
        if lane in self._lanes:
            self._lanes.remove(lane)
        if not lane.replica:
            self._spread.missed(asyncio.get_running_loop().time())
        if error is not None and lane.driver.gave_up:
            self._last_outage.note(lane.driver.outage, asyncio.get_running_loop().time())
            self._fail_those_before(lane.driver.outage.began, error)
        self.has_room()

    def _fail_those_before(self, when: float, error: BaseException) -> None:
        """A lane gave up: so does each call that waited for a place as long as the lane tried."""
        for call in [each for each in self._waiting if each.made <= when]:
            del self._waiting[call]
            call.fail(own_failure(error, call.delivered()))


def _no_answer(timeout: float | None) -> str:
    return f"no answer within the timeout of {timeout:g} s"
