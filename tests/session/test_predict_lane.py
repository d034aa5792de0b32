"""One lane: however its stream ends, each of its calls is settled, and its owner hears so once."""

import asyncio
from collections.abc import Callable

import pytest
from pools import pool_of
from test_driver import answers, silent
from test_exchange import in_virtual_time

from servestream_client import (
    ClientClosedError,
    FlowControl,
    RetriesExhaustedError,
    RetryPolicy,
    StreamError,
)
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.frames import (
    CodecId,
    OutputRun,
    ServerEnd,
    ServerFrame,
    StreamErrorKind,
    StreamFailure,
    Welcome,
)
from servestream_client.session.driver import StreamDriver
from servestream_client.session.predict_lane import Call, PredictLane
from servestream_client.transport.memory import CallFailed, MemoryTransport

QUICK = RetryPolicy(attempts=2, connect_attempts=2, connect_timeout=0, initial=0.001, maximum=0.001)
IDLE = 5.0


class Owner:
    """Has one lane at a scripted server, and notes what it is told."""

    idle_seconds = IDLE

    def __init__(self, server: Callable) -> None:
        self.told: list[str] = []
        self.error: BaseException | None = None
        self.endpoints = pool_of(lambda: MemoryTransport(server))
        self.task: asyncio.Task[None] | None = None
        self.lane = PredictLane(self, self._open, None, large=False)

    def _open(self, *, on_arrival, on_break, outage) -> StreamDriver:
        driver = StreamDriver(
            session=ClientSession(
                stream_id=bytes(16), codec=CodecId("bytes"), flow=FlowControl(), ordered=False
            ),
            endpoints=self.endpoints,
            retry=QUICK,
            timeout=None,
            close_timeout=0.1,
            on_arrival=on_arrival,
            on_break=on_break,
            outage=outage,
        )
        self.task = driver.start()
        return driver

    def has_room(self) -> None:
        self.told.append("room")

    def learnt(self, lane: PredictLane) -> None:
        """Where it came is of no matter here."""

    def left(self, lane: PredictLane, error: BaseException | None) -> None:
        assert lane.ended
        assert lane.calls == {}
        self.told.append("left")
        self.error = error

    def call(self, payload: bytes = b"x") -> Call:
        call = Call(payload, payload)
        assert self.lane.takes(call, len(payload))
        self.lane.submit(call)
        return call

    async def ends(self) -> None:
        await asyncio.wait({self.task})
        await asyncio.sleep(0)


async def serves(requests):
    """Answers everything, and says farewell."""
    read = received = 0
    async for frame in requests:
        if frame.open is not None:
            yield ServerFrame(welcome=Welcome())
        read += frame.paced
        for run in frame.inputs:
            received += len(run.payloads)
            outputs = [OutputRun(run.first_number, run.payloads)]
            yield ServerFrame(outputs=outputs, frames_read=read)
        if frame.end is not None:
            counts = ServerEnd(frame.end.last_number, received, received)
            yield ServerFrame(end=counts, frames_read=read)


async def gives_up(requests):
    await anext(requests)
    yield ServerFrame(welcome=Welcome())
    yield ServerFrame(error=StreamFailure(StreamErrorKind.STATE, "no more"))


async def breaks(requests):
    await anext(requests)
    yield ServerFrame(welcome=Welcome())
    raise CallFailed("INTERNAL", "it died")


async def answers_one(requests):
    async for frame in answers(requests, 1):
        yield frame


class BugError(Exception):
    """One in the package."""


def fails(*_: object) -> None:
    raise BugError


ENDS = {
    "given up": (gives_up, lambda _: None, StreamError),
    "broken too often": (breaks, lambda _: None, RetriesExhaustedError),
    "closed": (
        silent,
        lambda owner: owner.lane.driver.abandon(ClientClosedError("no")),
        ClientClosedError,
    ),
    "left": (silent, lambda owner: owner.lane.driver.abandon(), StreamError),
    "cancelled": (silent, lambda owner: owner.task.cancel(), ClientClosedError),
    "a bug": (answers_one, lambda owner: setattr(owner, "has_room", fails), StreamError),
}


@pytest.mark.parametrize(
    ("end", "soon"),
    [(end, soon) for end in ENDS for soon in (True, False) if end != "a bug" or soon],
)
def test_however_its_stream_ends_each_call_is_settled(end, soon):
    """Before anything was sent, and with calls under way."""
    server, ending, error = ENDS[end]

    async def main():
        owner = Owner(server)
        calls = [owner.call() for _ in range(3)]
        if not soon:
            await asyncio.sleep(1)
        ending(owner)
        await owner.ends()
        assert owner.told[-1] == "left"
        assert owner.told.count("left") == 1
        outcomes = [call.future.exception() for call in calls]
        failures = [each for each in outcomes if each is not None]
        assert len(failures) == (2 if end == "a bug" else 3)
        assert all(isinstance(failure, error) for failure in failures)
        # An exception has one traceback, and one who catches it.
        assert len(set(map(id, [owner.error, *failures]))) == len(failures) + 1
        assert not owner.lane.takes(Call(b"", b""), 0)

    in_virtual_time(main)


async def outcome(call: Call) -> bytes:
    async with asyncio.timeout(60):
        return await call.future


def test_a_lane_without_calls_ends_once_it_has_been_idle_for_long_enough():
    async def main():
        owner = Owner(serves)
        assert await outcome(owner.call(b"1")) == b"1"
        await asyncio.sleep(IDLE - 1)
        assert await outcome(owner.call(b"2")) == b"2"  # its time counts afresh
        await asyncio.sleep(IDLE - 1)
        assert not owner.lane.retiring
        await asyncio.sleep(2)
        assert owner.lane.ended
        assert owner.told == ["room", "room", "left"]
        assert owner.error is None

    in_virtual_time(main)


def test_a_lane_that_retires_answers_what_it_has_and_takes_no_more():
    async def main():
        owner = Owner(serves)
        calls = [owner.call(b"%d" % number) for number in range(3)]
        owner.lane.retire()
        owner.lane.retire()
        assert not owner.lane.takes(Call(b"", b""), 0)
        assert [await outcome(call) for call in calls] == [b"0", b"1", b"2"]
        await owner.ends()
        assert owner.told[-1] == "left"

    in_virtual_time(main)


def test_a_lane_without_calls_does_not_come_back_after_a_break():
    async def main():
        breaking = asyncio.Event()

        async def server(requests):
            async for frame in answers(requests, 1):
                yield frame
                if frame.outputs:
                    break
            await breaking.wait()
            raise CallFailed("INTERNAL", "it died")

        owner = Owner(server)
        assert await outcome(owner.call()) == b"x"
        breaking.set()
        await owner.ends()
        assert owner.lane.ended
        assert owner.error is None
        assert owner.lane.driver.attempts == 1

    in_virtual_time(main)


def test_a_call_that_nobody_waits_for_is_cancelled_and_costs_the_others_nothing():
    async def main():
        cancelled = []

        async def server(requests):
            async for frame in requests:
                cancelled.extend(frame.cancelled)
                if frame.open is not None:
                    yield ServerFrame(welcome=Welcome())
                if cancelled:
                    yield ServerFrame(outputs=[OutputRun(1, [b"late"]), OutputRun(2, [b"x"])])
                    return

        owner = Owner(server)
        left, other = owner.call(), owner.call()
        await asyncio.sleep(1)
        left.future.cancel()
        owner.lane.cancel(left)
        assert await outcome(other) == b"x"
        owner.lane.cancel(other)  # it has its answer: there is nothing to cancel
        assert [(each.first, each.last) for each in cancelled] == [(1, 1)]
        await owner.lane.driver.aclose()

    in_virtual_time(main)
