"""The traffic of one call: however it ends, all of it ends, and it says why."""

import asyncio
import random
from collections.abc import Callable
from contextlib import closing

import pytest

from servestream_client import ClientClosedError, FlowControl, StreamError, Watchdog
from servestream_client.protocol.client import Attempt, ClientSession
from servestream_client.protocol.frames import (
    Chunk,
    CodecId,
    Drain,
    OutputRun,
    RefusalKind,
    Refused,
    ServerEnd,
    ServerFrame,
    StreamErrorKind,
    StreamFailure,
    Welcome,
)
from servestream_client.protocol.states import ClientState
from servestream_client.session.exchange import Exchange
from servestream_client.signals import Signal
from servestream_client.transport.memory import CallFailed, MemoryLink
from servestream_client.transport.traffic import Line
from simulation.loop import VirtualLoop, isolated

CLOSE = 5.0


class Call:
    """An attempt's traffic with a scripted server.

    Attributes:
        told: what it was told, in order.
    """

    def __init__(
        self,
        server: Callable,
        *,
        link: type[MemoryLink] = MemoryLink,
        interval: float | None = None,
        max_age: float | None = None,
        inputs: int = 1,
        payload: bytes = b"x",
        more: bool = False,
    ) -> None:
        self.told: list[str] = []
        self.session = ClientSession(
            stream_id=bytes(16),
            codec=CodecId("bytes"),
            flow=FlowControl(),
            watchdog=Watchdog(heartbeat_interval=interval),
        )
        for _ in range(inputs):
            self.session.push(payload)
        if not more:
            self.session.ledger.finish()
        self.link = link(server)
        self.outbound = Signal()
        self.exchange = Exchange(
            session=self.session,
            attempt=self.session.begin(),
            link=self.link,
            outbound=self.outbound,
            notify=lambda: self.told.append("take"),
            answered=lambda: self.told.append("answered"),
            changed=lambda: self.told.append("changed"),
            open_timeout=30,
            max_age=max_age,
            close_timeout=CLOSE,
        )
        self.ending = self.exchange.ending

    async def run(self) -> float:
        """Until its end, which leaves no task and no timer; how long that took."""
        loop = asyncio.get_running_loop()
        began, before = loop.time(), asyncio.all_tasks()
        try:
            await self.exchange.run()
        finally:
            self.link.cancel()
            assert asyncio.all_tasks() == before
            assert loop.timers == []
        return loop.time() - began


def in_virtual_time(main: Callable) -> None:
    rng = random.Random(1)
    with closing(VirtualLoop(rng)) as loop, isolated(loop, rng):
        loop.run_until_complete(main())


async def answers(requests):
    """Welcome, all outputs, and the end."""
    last = 0
    yield ServerFrame(welcome=Welcome())
    read = 0
    async for frame in requests:
        read += frame.paced
        for run in frame.inputs:
            last = run.first_number + len(run.payloads) - 1
            yield ServerFrame(outputs=[OutputRun(run.first_number, run.payloads)], frames_read=read)
        if frame.end is not None:
            yield ServerFrame(end=ServerEnd(last, last, last), frames_read=read)
            return


async def mute(requests):
    async for _ in requests:
        pass
    await asyncio.Event().wait()
    yield


def after_welcome(*frames: ServerFrame, fails: Exception | None = None) -> Callable:
    """A server that says so much, and then nothing; or its call fails."""

    async def server(_):
        for frame in (ServerFrame(welcome=Welcome()), *frames):
            yield frame
        if fails is not None:
            raise fails
        await asyncio.Event().wait()

    return server


def test_a_stream_comes_to_its_end():
    async def main():
        call = Call(answers, inputs=3)
        await call.run()
        assert call.session.state is ClientState.ENDED
        assert call.told[0] == "answered"
        assert call.told.count("answered") == 1
        assert call.told.count("changed") == 3
        ending = call.ending
        assert ending.answered
        assert not ending.timed_out
        assert not ending.silent
        assert ending.violation is None

    in_virtual_time(main)


def test_no_answer_to_the_open_ends_it():
    async def main():
        call = Call(mute)
        assert await call.run() == pytest.approx(30)
        assert call.ending.unanswered
        assert call.told == []

    in_virtual_time(main)


def test_what_breaks_the_protocol_ends_it_and_is_kept_in_words():
    async def main():
        call = Call(after_welcome(ServerFrame(outputs=[OutputRun(9, [b"never sent"])])))
        await call.run()
        assert call.ending.violation
        assert call.told[-1] == "changed"

    in_virtual_time(main)


def test_a_call_that_fails_ends_it_with_nothing_to_say():
    async def main():
        call = Call(after_welcome(fails=CallFailed("INTERNAL", "it died")))
        await call.run()
        assert (await call.link.status()).code == "INTERNAL"
        assert not call.ending.timed_out

    in_virtual_time(main)


async def promising(_):
    """Promises a heartbeat every two seconds, and says no more."""
    yield ServerFrame(welcome=Welcome(heartbeat_interval_ms=2000))
    await asyncio.Event().wait()


def test_a_server_that_is_not_heard_for_three_intervals_is_silent():
    async def main():
        call = Call(promising, interval=2.0)
        assert 6 <= await call.run() <= 9
        assert call.ending.silent
        assert not call.ending.unanswered

    in_virtual_time(main)


ENDS = {
    "drain": (ServerFrame(drain=Drain(grace_ms=60_000)), 60 + CLOSE),
    "refused": (ServerFrame(refused=Refused(RefusalKind.OVERLOADED, "busy")), CLOSE),
}


@pytest.mark.parametrize("how", ENDS)
def test_a_farewell_is_bounded_in_time(how):
    frame, seconds = ENDS[how]

    async def server(requests):
        if frame.refused is None:
            yield ServerFrame(welcome=Welcome())
            async for request in requests:
                if request.inputs:
                    break  # so it owes an answer
        yield frame
        await asyncio.Event().wait()

    async def main():
        call = Call(server)
        assert await call.run() == pytest.approx(seconds, abs=0.1)
        assert call.ending.timed_out
        assert not call.ending.unanswered

    in_virtual_time(main)


def test_an_old_attempt_moves():
    async def main():
        call = Call(after_welcome(), max_age=100, more=True)
        assert await call.run() > 100
        assert call.ending.moved
        assert call.session.state is ClientState.DRAINING  # for the input that is under way

    in_virtual_time(main)


def test_one_that_leaves_waits_for_the_state_alone_for_a_limited_time(monkeypatch):
    monkeypatch.setattr(ClientSession, "waits_for_state", property(lambda session: True))

    async def main():
        call = Call(after_welcome(), max_age=100, more=True)
        assert 105 < await call.run() < 120
        assert call.ending.moved
        assert call.ending.timed_out

    in_virtual_time(main)


def test_an_attempt_that_cannot_move_tries_again(monkeypatch):
    refusals, honest = [1, 2], ClientSession.move

    def move(session):
        if refusals:
            refusals.pop()
            return False
        return honest(session)

    monkeypatch.setattr(ClientSession, "move", move)

    async def main():
        call = Call(after_welcome(), max_age=100, more=True)
        assert await call.run() > 300
        assert call.ending.moved

    in_virtual_time(main)


async def slow_reader(requests):
    """Takes chunks, and 40 s for each frame."""
    yield ServerFrame(welcome=Welcome(features=("coming", "chunks")))
    read = 0
    async for frame in requests:
        read += frame.paced
        await asyncio.sleep(40)
        yield ServerFrame(frames_read=read)


def test_an_attempt_that_is_old_leaves_behind_the_input_that_is_on_its_way():
    size = 100 * 1024

    async def main():
        call = Call(slow_reader, max_age=100, payload=bytes(size), inputs=2, more=True)
        assert await call.run() > 150
        assert call.ending.moved
        assert call.session.attempt.in_flight.sent_through == 1
        assert 0 < call.session.attempt.sizes.chunked_bytes < size

    in_virtual_time(main)


async def talkative(requests):
    """Sends an answer in chunks, one after the other."""
    yield ServerFrame(welcome=Welcome(features=("coming", "chunks")))
    async for frame in requests:
        if frame.inputs:
            break
    for offset in range(0, 4000, 1000):
        yield ServerFrame(chunk=Chunk(1, 0, offset, bytes(1000)))
    yield ServerFrame(outputs=[OutputRun(1, [bytes(10)], first_offset=4000)])
    async for _ in requests:
        pass


def test_calls_beside_hear_of_what_comes_in_chunks():
    """It keeps what comes for them waiting, and they must not take that for silence."""

    async def main():
        call, seen = Call(talkative, more=True, max_age=100), []
        traffic = call.exchange.line._traffic
        monitor = Line(traffic)
        note = call.exchange.line.heard

        def heard(size):
            note(size)
            seen.append((traffic.passed, monitor.coming_beside > 0))

        call.exchange.line.heard = heard
        await call.run()
        assert seen[:5] == [(0, False), *((passed, True) for passed in (1000, 2000, 3000, 4000))]
        assert not seen[5][1]

    in_virtual_time(main)


# ---------------------------------------------------------------- what nobody foresaw


class BugError(Exception):
    """One in the package."""


class Failing(MemoryLink):
    async def send(self, frame) -> bool:
        await asyncio.sleep(1)
        raise BugError


class Cancelled(MemoryLink):
    async def send(self, frame) -> bool:
        raise asyncio.CancelledError


WRITERS = [(Failing, StreamError), (Cancelled, ClientClosedError)]


@pytest.mark.parametrize(("link", "error"), WRITERS)
def test_a_writer_that_ends_ends_it_and_says_why(link, error):
    async def main():
        call = Call(mute, link=link)
        with pytest.raises(error) as caught:
            await call.run()
        assert link is Cancelled or type(caught.value.__cause__) is BugError

    in_virtual_time(main)


@pytest.mark.parametrize(("kind", "part"), [(Attempt, "tick"), (ClientSession, "move")])
def test_a_timer_that_fails_ends_it_and_says_why(kind, part, monkeypatch):
    def fails(*_: object, **__: object):
        raise BugError

    async def main():
        call = Call(after_welcome(), interval=2.0, max_age=1.0)
        monkeypatch.setattr(kind, part, fails)
        with pytest.raises(BugError):
            await call.run()

    in_virtual_time(main)


def test_who_interrupts_it_leaves_nothing_behind():
    async def main():
        call = Call(after_welcome(), interval=2.0, max_age=100)
        running = asyncio.ensure_future(call.exchange.run())
        await asyncio.sleep(1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        call.link.cancel()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert asyncio.get_running_loop().timers == []

    in_virtual_time(main)


def test_what_one_task_is_sending_no_other_sends():
    async def main():
        sending = asyncio.Event()

        class Slow(MemoryLink):
            async def send(self, frame) -> bool:
                await sending.wait()
                return await super().send(frame)

        call = Call(answers, link=Slow)
        first = asyncio.ensure_future(call.exchange.send_next())
        await asyncio.sleep(0)
        assert not await call.exchange.send_next()
        sending.set()
        assert await first
        call.link.cancel()

    in_virtual_time(main)


class Withholding(MemoryLink):
    """Holds back what is sent while it is told to."""

    go: asyncio.Event | None = None

    async def send(self, frame):
        if self.go is not None:
            await self.go.wait()
        return await super().send(frame)


def test_a_write_that_outlasts_the_exchange_counts_no_time():
    """As that of an input, which is sent in the task that pushed it."""

    async def main():
        breaks = asyncio.Event()

        async def fails(requests):
            yield ServerFrame(welcome=Welcome())
            await breaks.wait()
            yield ServerFrame(error=StreamFailure(StreamErrorKind.INTERNAL, "no"))

        call = Call(fails, link=Withholding, inputs=0, more=True)
        running = asyncio.ensure_future(call.exchange.run())
        await asyncio.sleep(1)
        call.link.go = asyncio.Event()
        call.session.push(b"x")
        writing = asyncio.ensure_future(call.exchange.send_next())
        await asyncio.sleep(1)
        breaks.set()
        await running
        assert not writing.done()
        call.link.go.set()
        await writing
        assert asyncio.get_running_loop().timers == []
        call.link.cancel()

    in_virtual_time(main)
