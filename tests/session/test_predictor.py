"""Single predictions over links in memory: what becomes of a call, whatever its lane meets."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest
from pools import pool_of

from servestream_client import (
    FlowControl,
    ItemError,
    RetriesExhaustedError,
    RetryPolicy,
    StreamError,
    StreamTimeoutError,
)
from servestream_client.errors import ClientClosedError, ItemErrorKind
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.frames import (
    ClientFrame,
    CodecId,
    Drain,
    OutputPart,
    OutputRun,
    ServerEnd,
    ServerFrame,
    Welcome,
)
from servestream_client.session.driver import StreamDriver
from servestream_client.session.isolation import Isolation
from servestream_client.session.predictor import Predictor
from servestream_client.session.spread import Spread
from servestream_client.transport.memory import CallFailed, MemoryTransport

QUICK = RetryPolicy(initial=0.0001, maximum=0.0001)
LONG = 3600.0  # seconds that no test lasts


class Harness:
    """A predictor whose streams all go to one scripted server."""

    def __init__(
        self,
        server: Callable,
        *,
        lanes: int = 1,
        retry: RetryPolicy = QUICK,
        flow: FlowControl | None = None,
        encode: Callable[[object], bytes] = bytes,
    ) -> None:
        self._flow = flow or FlowControl()
        self.drivers: list[StreamDriver] = []
        self._endpoints = pool_of(lambda: MemoryTransport(server))
        self._retry = retry
        self.predictor = Predictor(
            self._open_stream,
            encode=encode,
            decode=lambda payload: payload,
            max_item_bytes=1000,
            spread=Spread(lanes, lanes),
            idle_seconds=LONG,
        )

    def _open_stream(self, **hooks) -> StreamDriver:
        driver = self._open(isolated=False, **hooks)
        driver.observer = Isolation(driver, partial(self._open, isolated=True))
        return driver

    def _open(self, *, isolated, on_arrival, on_break, outage) -> StreamDriver:
        driver = StreamDriver(
            session=ClientSession(
                stream_id=bytes(16),
                codec=CodecId("bytes"),
                flow=self._flow,
                ordered=False,
                isolated=isolated,
            ),
            endpoints=self._endpoints,
            retry=self._retry,
            timeout=None,
            close_timeout=0.1,
            eager=not isolated,
            on_arrival=on_arrival,
            on_break=on_break,
            outage=outage,
        )
        driver.start()
        self.drivers.append(driver)
        return driver

    def call(self, item: bytes, timeout: float | None = None) -> asyncio.Task:
        return asyncio.ensure_future(self.predictor.predict(item, timeout=timeout))

    async def aclose(self) -> None:
        for driver in self.drivers:
            await driver.aclose(ClientClosedError("the test is over"))


@pytest.fixture
async def predict_with():
    made = []

    def make(server: Callable, **options: object) -> Harness:
        made.append(Harness(server, **options))
        return made[-1]

    yield make
    for harness in made:
        await harness.aclose()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


async def exchange(
    requests: AsyncIterator[ClientFrame], answer: Callable[[int, bytes], ServerFrame | None]
) -> AsyncIterator[ServerFrame]:
    """Welcome, and answer each input as told."""
    read = 0
    async for frame in requests:
        if frame.open is not None:
            yield ServerFrame(welcome=Welcome())
        read += frame.paced
        for run in frame.inputs:
            for number, payload in enumerate(run.payloads, run.first_number):
                answered = answer(number, payload)
                if answered is not None:
                    yield answered
        yield ServerFrame(frames_read=read)


def upper(number: int, payload: bytes) -> ServerFrame:
    return ServerFrame(outputs=[OutputRun(number, [payload.upper()])])


async def upper_server(requests):
    async for frame in exchange(requests, upper):
        yield frame


async def silent_server(requests):
    async for frame in exchange(requests, lambda *_: None):
        yield frame


async def test_each_call_gets_its_own_answer(predict_with):
    harness = predict_with(upper_server)
    calls = [harness.call(b"item %d" % n) for n in range(50)]
    assert await asyncio.gather(*calls) == [b"ITEM %d" % n for n in range(50)]
    assert len(harness.drivers) == 1


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([OutputPart(1, 0, (), last=True)], "no output"),
        ([OutputPart(1, 0, (b"a", b"b"), last=True)], "several outputs"),
        (
            [OutputPart(1, 0, (b"a",), last=False), OutputPart(1, 1, (), last=True)],
            "several outputs",
        ),
    ],
    ids=["none", "two", "one and an end"],
)
async def test_an_input_that_has_not_exactly_one_output_fails_its_call(predict_with, parts, said):
    async def server(requests):
        async for frame in exchange(requests, lambda *_: ServerFrame(parts=parts)):
            yield frame

    harness = predict_with(server)
    with pytest.raises(StreamError, match=f"gives {said} for an input"):
        await harness.predictor.predict(b"x", timeout=20)


async def test_an_input_with_several_outputs_is_cancelled_once_its_call_has_failed(predict_with):
    cancelled = []

    async def server(requests):
        async def seen():
            async for frame in requests:
                cancelled.extend(frame.cancelled)
                yield frame

        part = OutputPart(1, 0, (b"a", b"b"), last=False)
        async for frame in exchange(seen(), lambda *_: ServerFrame(parts=[part])):
            yield frame

    harness = predict_with(server)
    with pytest.raises(StreamError, match=r"use generate\(\)"):
        await harness.predictor.predict(b"x", timeout=20)
    await until(lambda: [(each.first, each.last) for each in cancelled] == [(1, 1)])


async def test_a_break_sends_the_calls_again(predict_with):
    calls = 0

    async def server(requests):
        nonlocal calls
        calls += 1
        answer = upper if calls > 1 else lambda *_: None
        async for frame in exchange(requests, answer):
            yield frame
            if calls == 1 and frame.frames_read:
                raise CallFailed("UNAVAILABLE", "broke")

    harness = predict_with(server)
    assert await asyncio.gather(harness.call(b"a"), harness.call(b"b")) == [b"A", b"B"]
    assert calls == 2
    assert len(harness.drivers) == 1


async def test_what_breaks_its_server_is_blamed_and_the_others_are_answered(predict_with):
    async def server(requests):
        async for frame in exchange(requests, poisoned):
            yield frame

    def poisoned(number, payload):
        if payload == b"poison":
            raise CallFailed("INTERNAL", "broke")
        return upper(number, payload)

    harness = predict_with(server)
    items = [b"a", b"poison", b"b", b"c"]
    results = await asyncio.gather(*map(harness.call, items), return_exceptions=True)
    poison = results.pop(1)
    assert results == [b"A", b"B", b"C"]
    assert isinstance(poison, ItemError)
    assert (poison.kind, poison.input) == (ItemErrorKind.POISON, b"poison")


async def test_a_server_that_breaks_on_everything_is_not_called_poisoned(predict_with):
    async def server(requests):
        async for frame in exchange(requests, broken):
            yield frame

    def broken(*_):
        raise CallFailed("INTERNAL", "broke")

    harness = predict_with(server, retry=RetryPolicy(attempts=5, initial=0.0001, maximum=0.0001))
    results = await asyncio.gather(*map(harness.call, [b"a", b"b"]), return_exceptions=True)
    assert {type(result) for result in results} == {RetriesExhaustedError}


async def test_a_suspects_account_says_that_it_was_sent(predict_with):
    """It may have been computed, although its own stream has sent nothing yet."""
    isolated = asyncio.Event()

    async def server(requests):
        opened = await anext(requests)
        if opened.open.isolated:
            isolated.set()
            await asyncio.Event().wait()
        yield ServerFrame(welcome=Welcome())
        if not opened.inputs:
            await anext(requests)
        raise CallFailed("INTERNAL", "broke")

    harness = predict_with(server)
    calls = [harness.call(b"%d" % n) for n in range(2)]
    await asyncio.wait_for(isolated.wait(), 20)
    for driver in harness.drivers:
        await driver.aclose(StreamError("that is enough"))
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [error.delivered.unsent for error in errors] == [0, 0]


async def test_a_lane_that_has_got_over_anothers_outage_takes_whatever_comes(predict_with):
    down = False

    def answer(number, payload):
        if down:
            raise CallFailed("UNAVAILABLE", "down")
        return upper(number, payload)

    async def server(requests):
        if down:
            raise CallFailed("UNAVAILABLE", "down")
        async for frame in exchange(requests, answer):
            yield frame

    harness = predict_with(
        server,
        flow=FlowControl(window_items=1),
        retry=RetryPolicy(attempts=30, initial=0.0001, maximum=0.0001),
    )
    assert await harness.call(b"good") == b"GOOD"
    down = True
    carried = harness.call(b"carried")
    await until(lambda: harness.drivers[0].outage.began < float("inf"))
    waiting = harness.call(b"waiting")
    await until(carried.done)
    assert isinstance(carried.exception(), RetriesExhaustedError)
    down = False
    assert await waiting == b"WAITING"
    assert await asyncio.wait_for(harness.call(b"new"), 20) == b"NEW"
    assert len(harness.drivers) == 2


async def test_an_answer_that_comes_with_the_timeout_is_the_answer(predict_with):
    harness = predict_with(silent_server)
    loop = asyncio.get_running_loop()
    call = harness.call(b"x", timeout=50)
    await until(lambda: harness.drivers and harness.drivers[0].session.ledger.sent_through == 1)
    (lane,) = harness.predictor._lanes
    now, real = loop.time(), loop.time
    # Both are due in the same turn of the event loop, the answer first.
    loop.call_at(now + 40, lane.calls[1].future.set_result, b"answer")
    loop.time = lambda: real() + 100
    try:
        assert await call == b"answer"
    finally:
        loop.time = real


async def test_a_timeout_says_whether_the_input_was_sent(predict_with):
    harness = predict_with(silent_server)
    call = harness.call(b"x", timeout=0.01)
    with pytest.raises(StreamTimeoutError, match=r"timeout of 0\.01 s") as caught:
        await call
    assert caught.value.delivered.accepted == 1


# ------------------------------------------------------------------ suspects


class Suspicious:
    """Echoes, and breaks on poison. Its first calls may end otherwise, once they have inputs."""

    def __init__(self, *endings: str) -> None:
        self.endings = list(endings)
        self.tried: list[bytes] = []
        """The inputs that came alone."""
        self.alone = 0
        self.most_alone = 0

    async def __call__(self, requests: AsyncIterator[ClientFrame]) -> AsyncIterator[ServerFrame]:
        isolated, read, received = False, 0, 0
        try:
            async for frame in requests:
                if frame.open is not None:
                    isolated = frame.open.isolated
                    yield ServerFrame(welcome=Welcome())
                read += frame.paced
                payloads = [payload for run in frame.inputs for payload in run.payloads]
                received += len(payloads)
                self.tried += payloads if isolated else []
                self.alone += len(payloads) * isolated
                self.most_alone = max(self.most_alone, self.alone)
                if b"poison" in payloads:
                    raise CallFailed("INTERNAL", "broke")
                if payloads and self.endings:
                    if self.endings.pop(0) == "breaks":
                        raise CallFailed("INTERNAL", "broke by chance")
                    yield ServerFrame(drain=Drain(0))
                    return
                outputs = [OutputRun(run.first_number, run.payloads) for run in frame.inputs]
                self.alone = 0
                yield ServerFrame(outputs=outputs, frames_read=read)
                if frame.end is not None:
                    yield ServerFrame(end=ServerEnd(frame.end.last_number, received, received))
        finally:
            self.alone = 0


async def test_a_server_that_leaves_clears_no_suspicion(predict_with):
    server = Suspicious("breaks", "leaves", "breaks")
    calls = map(predict_with(server).call, [b"a", b"b"])
    assert await asyncio.gather(*calls) == [b"a", b"b"]
    assert server.tried == [b"a", b"b"]


async def test_suspects_are_tried_one_at_a_time_and_blamed_after_three_breaks(predict_with):
    server = Suspicious()
    calls = map(predict_with(server).call, [b"poison", b"a", b"b"])
    poison, *others = await asyncio.gather(*calls, return_exceptions=True)
    assert others == [b"a", b"b"]
    assert isinstance(poison, ItemError)
    assert poison.kind is ItemErrorKind.POISON
    assert server.tried == [b"poison", b"a", b"b", b"poison", b"poison"]
    assert server.most_alone == 1


@pytest.mark.parametrize("endings", [["breaks"], ["leaves", "leaves", "leaves"]], ids=str)
async def test_neither_a_single_break_nor_a_server_that_leaves_makes_suspects(
    predict_with, endings
):
    server = Suspicious(*endings)
    calls = map(predict_with(server).call, [b"a", b"b"])
    assert await asyncio.gather(*calls) == [b"a", b"b"]
    assert server.endings == server.tried == []


class Thing:
    """An item that can be seen to be let go."""

    def __bytes__(self) -> bytes:
        return bytes(100)


def alive(things: "list[weakref.ref[Thing]]") -> int:
    gc.collect()
    return sum(thing() is not None for thing in things)


@pytest.mark.parametrize("window", [1, 10, 4096], ids=["waiting", "some of each", "sent"])
@pytest.mark.parametrize("ends", ["timeout", "cancelled"])
async def test_calls_that_nobody_waits_for_leave_at_once_with_what_they_carried(
    predict_with, window, ends
):
    harness = predict_with(silent_server, flow=FlowControl(window_items=window))
    first = harness.call(b"first")
    await until(lambda: harness.drivers and harness.drivers[0].session.ledger.sent_through == 1)

    def call() -> "tuple[asyncio.Task, weakref.ref[Thing]]":
        thing = Thing()
        timeout = 0.001 if ends == "timeout" else None
        return harness.call(thing, timeout=timeout), weakref.ref(thing)

    calls = [call() for _ in range(50)]
    things = [thing for _, thing in calls]
    await asyncio.sleep(0)
    if ends == "cancelled":
        for task, _ in calls:
            task.cancel()
        del task
    await asyncio.wait([task for task, _ in calls])
    assert all(task.cancelled() or task.exception() for task, _ in calls)
    calls.clear()  # their tracebacks know what they were called with
    await until(lambda: not alive(things))
    session = harness.drivers[0].session
    assert not harness.predictor._waiting
    assert sum(len(payload) for _, payload in session.ledger.replay) == len(b"first")
    assert session.ledger.unsent == 0
    first.cancel()


async def test_a_call_that_waits_in_vain_does_not_keep_those_behind_it(predict_with):
    flow = FlowControl(window_bytes=100, max_item_bytes=1000)
    harness = predict_with(silent_server, flow=flow)
    first = harness.call(b"x" * 50)
    large = harness.call(b"x" * 80)
    small = harness.call(b"x" * 10)
    await until(lambda: len(harness.predictor._waiting) == 2)
    large.cancel()
    await until(lambda: not harness.predictor._waiting)
    assert harness.drivers[0].session.ledger.accepted == 2
    for call in (first, small):
        call.cancel()


async def test_what_was_cancelled_is_not_sent_again_and_answered_all_the_same(predict_with):
    seen: list[list[bytes]] = []
    release = asyncio.Event()

    async def server(requests):
        seen.append([])
        second = len(seen) > 1

        def note(number: int, payload: bytes) -> ServerFrame | None:
            seen[-1].append(payload)
            return upper(number, payload) if second else None

        frames = exchange(requests, note)
        async for frame in frames:
            yield frame
            if not second and len(seen[0]) == 3:
                await release.wait()
                raise CallFailed("UNAVAILABLE", "broke")

    harness = predict_with(server)
    calls = [harness.call(item) for item in (b"one", b"two", b"three")]
    await until(lambda: seen and len(seen[0]) == 3)
    calls[1].cancel()
    await asyncio.wait({calls[1]})
    release.set()
    assert await calls[0] == b"ONE"
    assert await calls[2] == b"THREE"
    assert seen == [[b"one", b"two", b"three"], [b"one", b"three"]]
    assert harness.drivers[0].session.ledger.unanswered == 0
    assert harness.drivers[0].session.ledger.fits(1)
