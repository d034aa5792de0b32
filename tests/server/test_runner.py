"""One attempt at its server: the reader reads to the end, and nothing outlasts the attempt."""

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

import pytest

from servestream_client.protocol.frames import (
    ClientEnd,
    ClientFrame,
    CodecId,
    Credit,
    InputRun,
    Open,
    RefusalKind,
    Running,
    StreamErrorKind,
)
from servestream_client.protocol.server import ServerOffer
from servestream_client.protocol.states import ServerState
from servestream_client.server import runner as runner_module
from servestream_client.server.active_attempts import ActiveAttempts
from servestream_client.server.runner import LINGER_SECONDS, OPEN_SECONDS, AttemptRunner
from servestream_client.wire import stream_pb2 as pb
from servestream_client.wire.convert import client_frame_to_wire, server_frame_from_wire
from simulation.loop import VirtualLoop, isolated

CODEC = CodecId("bytes")
OPEN = ClientFrame(
    open=Open(stream_id=bytes(16), attempt=1, codec=CODEC, heartbeat_interval_ms=10_000),
    credit=Credit(100, 10_000),
)
INPUT = ClientFrame(inputs=[InputRun(1, [b"x"])])
LAST = ClientFrame(inputs=[InputRun(1, [b"x"])], end=ClientEnd(1))
HALF_CLOSE = None


class Workers:
    """Answer at once, if they are to."""

    def __init__(self, *, answer: bool = True) -> None:
        self.answer = answer
        self.ended: list[AttemptRunner] = []

    def offer(self, attempt: AttemptRunner) -> None:
        while self.answer and (run := attempt.session.intake.next_run(10)) is not None:
            attempt.session.outbox.outputs(run.first, run.payloads)

    def cancel(self, attempt: AttemptRunner, numbers: Sequence[int] | None = None) -> None:
        if numbers is None:
            self.ended.append(attempt)

    def running(self, attempt: AttemptRunner) -> Running:
        return Running()


class Admission:
    def __init__(self, decision: str = "welcome") -> None:
        self.decision = decision

    async def decide(self, attempt: AttemptRunner, opened: Open) -> bool:
        if self.decision == "fails":
            raise ZeroDivisionError("a bug")
        if self.decision == "waits":
            await asyncio.Event().wait()
        if self.decision == "refuse":
            attempt.session.refuse(RefusalKind.OVERLOADED, "no")
            return False
        attempt.session.welcome()
        return True


class Requests:
    """What the client says, a frame a second; then nothing, or what its call ends with.

    Attributes:
        read: how much of that was read.
    """

    def __init__(self, *frames: ClientFrame | pb.ClientFrame | BaseException | None) -> None:
        self.frames = frames
        self.read = 0

    async def __aiter__(self) -> Iterator[pb.ClientFrame]:
        for frame in self.frames:
            await asyncio.sleep(1)
            self.read += 1
            if frame is HALF_CLOSE:
                return
            if isinstance(frame, BaseException):
                raise frame
            yield client_frame_to_wire(frame) if isinstance(frame, ClientFrame) else frame
        await asyncio.Event().wait()


class Attempt:
    def __init__(self, *frames: object, decision: str = "welcome", answer: bool = True) -> None:
        self.workers = Workers(answer=answer)
        self.active = ActiveAttempts()
        self.requests = Requests(*frames)
        self.runner = AttemptRunner(
            ServerOffer(codec=CODEC),
            self.workers,
            self.requests,
            admission=Admission(decision),
            active=self.active,
        )
        self.said: list[str] = []
        self.failure: StreamErrorKind | None = None

    async def run(self, seconds: float | None = None) -> None:
        """To its end, or for so long, whereupon gRPC closes it; of which nothing is left then."""
        frames = self.runner.frames()
        reading = asyncio.ensure_future(self._read(frames))
        await asyncio.wait({reading}, timeout=seconds)
        reading.cancel()
        await asyncio.wait({reading})
        await frames.aclose()
        if not reading.cancelled():
            reading.result()
        self.assert_over()

    async def _read(self, frames) -> None:
        async for message in frames:
            frame = server_frame_from_wire(message)
            names = ("welcome", "refused", "drain", "outputs", "end", "error")
            self.said += [name for name in names if getattr(frame, name)]
            if frame.error is not None:
                self.failure = frame.error.kind

    def assert_over(self) -> None:
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert asyncio.get_running_loop().timers == []
        assert self.runner.session.over
        assert self.workers.ended[-1] is self.runner
        assert vars(self.active) == vars(ActiveAttempts())


def in_virtual_time(main: Callable) -> float:
    """How many seconds it took."""
    rng = random.Random(1)
    with closing(VirtualLoop(rng)) as loop, isolated(loop, rng):
        loop.run_until_complete(main())
        return loop.time()


# frames, decision, what is said
COURSES = {
    "served": ([OPEN, LAST, HALF_CLOSE], "welcome", ["welcome", "outputs", "end"]),
    "refused": ([OPEN, HALF_CLOSE], "refuse", ["refused"]),
    "a bug in the decision": ([OPEN], "fails", ["error"]),
    "a breach": (
        [OPEN, ClientFrame(inputs=[InputRun(9, [b"x"])])],
        "welcome",
        ["welcome", "error"],
    ),
    "no open": ([INPUT], "welcome", ["error"]),
    "a call that breaks": ([OPEN, asyncio.CancelledError()], "welcome", ["welcome"]),
    "requests that fail": ([OPEN, ZeroDivisionError("a bug")], "welcome", ["welcome", "error"]),
    "a client that goes": ([OPEN, INPUT, HALF_CLOSE], "welcome", ["welcome"]),
}


@pytest.mark.parametrize("course", COURSES)
def test_nothing_is_left_of_it_however_it_ends(course):
    frames, decision, said = COURSES[course]

    async def main():
        attempt = Attempt(*frames, decision=decision, answer=course == "served")
        await attempt.run()
        assert attempt.said == said

    in_virtual_time(main)


@pytest.mark.parametrize("seconds", [0.5, 1.5, 2.5, 3.5])
@pytest.mark.parametrize("decision", ["welcome", "waits"])
def test_nothing_is_left_of_it_wherever_it_is_closed(seconds, decision):
    async def main():
        await Attempt(OPEN, INPUT, decision=decision, answer=False).run(seconds)

    in_virtual_time(main)


def test_it_reads_on_after_its_last_word_until_the_client_has_said_all():
    """Whoever stops reading blocks the client's writes, and with them the way to its answer."""

    async def main():
        attempt = Attempt(OPEN, INPUT, INPUT, INPUT, HALF_CLOSE, answer=False)
        await attempt.run()
        assert attempt.said == ["welcome", "error"]  # the second has a number that was there
        assert attempt.requests.read == 5
        assert attempt.runner.session.state is ServerState.CLOSED

    assert in_virtual_time(main) == pytest.approx(5, abs=0.1)


def test_who_does_not_half_close_is_waited_for_so_long():
    async def main():
        await Attempt(OPEN, LAST).run()

    assert in_virtual_time(main) == pytest.approx(2 + LINGER_SECONDS, abs=0.1)


def test_a_call_that_says_nothing_at_all_gives_back_its_place():
    async def main():
        attempt = Attempt()
        await attempt.run()
        assert attempt.failure is StreamErrorKind.SILENCE

    assert in_virtual_time(main) == pytest.approx(OPEN_SECONDS + LINGER_SECONDS, abs=0.1)


@pytest.mark.parametrize("at", [1, 2])
def test_a_frame_that_cannot_be_sent_is_told_in_its_place(at, monkeypatch):
    """Of the first frame nothing was said before."""
    sent = []

    def converted(frame):
        sent.append(frame)
        if len(sent) == at:
            raise ValueError("no such frame")
        return to_wire(frame)

    to_wire = runner_module.server_frame_to_wire
    monkeypatch.setattr(runner_module, "server_frame_to_wire", converted)

    async def main():
        attempt = Attempt(OPEN, INPUT)
        await attempt.run()
        assert attempt.failure is StreamErrorKind.INTERNAL
        assert attempt.said == ["welcome", "error"][at == 1 :]

    in_virtual_time(main)


def test_a_grace_that_is_over_ends_it_and_the_shorter_one_holds():
    async def main():
        attempt = Attempt(OPEN, INPUT, answer=False)
        loop = asyncio.get_running_loop()
        loop.call_later(3, attempt.runner.drain, 30)
        loop.call_later(4, attempt.runner.drain, 5)
        loop.call_later(5, attempt.runner.drain, 60)
        await attempt.run()
        assert attempt.said == ["welcome", "drain", "drain", "error"]

    assert in_virtual_time(main) == pytest.approx(4 + 5 + LINGER_SECONDS, abs=0.1)


def test_what_has_stopped_computes_nothing_more():
    async def main():
        attempt = Attempt(OPEN, INPUT, ClientFrame(inputs=[InputRun(2, [b"y"])]))
        asyncio.get_running_loop().call_later(2.5, attempt.runner.stop)
        await attempt.run(5)
        assert attempt.said == ["welcome", "outputs"]
        assert attempt.requests.read == 3

    in_virtual_time(main)
