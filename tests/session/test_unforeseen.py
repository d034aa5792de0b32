"""What nobody foresaw: wherever the client's own parts fail, whoever waits is told, and in the form
of a ServeStreamError with its cause. Internals are made to raise; nothing else is replaced.
"""

import asyncio
import threading
from collections.abc import Callable

import pytest

from servestream_client import (
    PredictionStream,
    RetryPolicy,
    ServeStreamError,
    StreamClient,
    StreamError,
    SyncStreamClient,
    Watchdog,
)
from servestream_client.protocol import client
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.client.delivery import DeliveryQueue
from servestream_client.server import StreamService
from servestream_client.session import attempts as attempts_module
from servestream_client.session.announcer import Announcer
from servestream_client.session.attempt import Attempt
from servestream_client.session.breaker import CircuitBreaker
from servestream_client.session.driver import StreamDriver
from servestream_client.session.exchange import Exchange
from servestream_client.session.feeder import InputFeeder
from servestream_client.session.predict_lane import PredictLane
from servestream_client.session.predictor import Predictor
from servestream_client.session.pump import InputPump
from servestream_client.testing import StreamServer
from servestream_client.transport.grpc_link import GrpcLink, GrpcTransport

ITEMS = [b"%d" % n for n in range(1, 40)]


class Echo(StreamService[bytes, bytes]):
    async def predict(self, item):
        return item


class BugError(Exception):
    """One in the package."""


def fails(*_: object, **__: object):
    raise BugError


async def fails_later(*_: object, **__: object):
    await asyncio.sleep(0)
    raise BugError


async def frames_fail(*_: object):
    await asyncio.sleep(0)
    raise BugError
    yield


LATE = {"_move", "tick"}
"""What comes only while a stream lasts."""

COMMON = [
    (ClientSession, "begin", fails),
    (ClientSession, "receive", fails),
    (ClientSession, "next_frame", fails),
    (client.Attempt, "tick", fails),
    (CircuitBreaker, "admit", fails_later),
    (CircuitBreaker, "_answered", fails),
    (GrpcTransport, "open", fails),
    (GrpcLink, "send", fails_later),
    (GrpcLink, "frames", frames_fail),
    (Exchange, "_limit_the_rest", fails),
    (Exchange, "_move", fails),
    (StreamDriver, "_changed", fails),
    (Attempt, "_changed", fails),
    (StreamDriver, "_make_attempts", fails_later),
    (Attempt, "_time_left_ms", fails),
    (Announcer, "stream_started", fails),
    (Announcer, "attempt_started", fails),
    (Announcer, "attempt_welcomed", fails),
    (attempts_module, "retrying", fails),
]
OF_STREAMS = [
    *COMMON,
    (DeliveryQueue, "take_run", fails),
    (ClientSession, "push_all", fails),
    (InputPump, "_place", fails_later),
]
OF_BLOCKING = [
    *COMMON,
    (DeliveryQueue, "take_run", fails),
    (InputFeeder, "fed", fails_later),
    (InputFeeder, "allow", fails),
]
OF_CALLS = [
    *(each for each in COMMON if each[1] not in LATE),
    (ClientSession, "push", fails),
    (DeliveryQueue, "take_run", fails),
    (Predictor, "_lane_for", fails),
    (PredictLane, "submit", fails),
]


def name(value: object) -> str:
    return getattr(value, "__name__", None) or str(value)


@pytest.fixture
def target():
    with StreamServer(Echo()) as server:
        yield server.target


async def without_end():
    for item in ITEMS:
        yield item
    await asyncio.Event().wait()


def plain_without_end():
    yield from ITEMS
    threading.Event().wait(20)


def break_it(monkeypatch: pytest.MonkeyPatch, owner: object, part: str, bug: Callable) -> dict:
    """Returns the options with which a client comes to that part."""
    monkeypatch.setattr(owner, part, bug)
    if part == "_move":
        return {"retry": RetryPolicy(max_attempt_age=0.001)}
    if part == "tick":
        return {"watchdog": Watchdog(heartbeat_interval=0.01)}
    return {}


def check(error: ServeStreamError) -> None:
    assert isinstance(error, StreamError)
    assert "did not foresee" in str(error)
    assert type(error.__cause__) is BugError


@pytest.mark.parametrize(("owner", "part", "bug"), OF_STREAMS, ids=name)
async def test_a_stream_tells_of_it(target, monkeypatch, owner, part, bug):
    options = break_it(monkeypatch, owner, part, bug)
    inputs = without_end() if part in LATE else ITEMS
    async with asyncio.timeout(20), StreamClient(target, **options) as client:
        with pytest.raises(ServeStreamError) as caught:
            async for _ in client.stream(inputs):
                pass
        check(caught.value)


@pytest.mark.parametrize(("owner", "part", "bug"), OF_BLOCKING, ids=name)
async def test_a_blocking_stream_tells_of_it(target, monkeypatch, owner, part, bug):
    options = break_it(monkeypatch, owner, part, bug)
    inputs = plain_without_end() if part in LATE else ITEMS
    with SyncStreamClient(target, **options) as client:
        with pytest.raises(ServeStreamError) as caught:
            await asyncio.to_thread(list, client.stream(inputs))
        check(caught.value)


@pytest.mark.parametrize(("owner", "part", "bug"), OF_CALLS, ids=name)
async def test_each_call_is_told_of_it(target, monkeypatch, owner, part, bug):
    options = break_it(monkeypatch, owner, part, bug)
    async with asyncio.timeout(20), StreamClient(target, **options) as client:
        results = await asyncio.gather(
            *(client.predict(item) for item in ITEMS), return_exceptions=True
        )
    for error in results:
        check(error)


async def test_a_writer_that_is_cancelled_from_outside_is_no_silence(target):
    """So are its other tasks: what cancels all tasks of the loop leaves nobody waiting."""
    for wanted in ("servestream writer", "servestream inputs of", "servestream "):
        async with asyncio.timeout(20), StreamClient(target) as client:
            stream = client.stream(without_end())
            assert [await anext(stream) for _ in ITEMS] == ITEMS
            (task, *_) = [
                each for each in asyncio.all_tasks() if each.get_name().startswith(wanted)
            ]
            task.cancel()
            with pytest.raises(ServeStreamError, match="cancelled"):
                await anext(stream)


async def test_a_stream_whose_task_never_came_to_run_has_ended(target):
    async with asyncio.timeout(20), StreamClient(target) as client:
        stream = client.stream(ITEMS)
        waiting = asyncio.ensure_future(anext(stream))
        while not (tasks := [t for t in asyncio.all_tasks() if t.get_name() == task_of(stream)]):
            await asyncio.sleep(0)
        tasks[0].cancel()
        with pytest.raises(ServeStreamError, match="cancelled"):
            await waiting


def task_of(stream: PredictionStream) -> str:
    return f"servestream {stream._driver.stream_id}"


async def test_a_control_flow_exception_is_never_an_outcome(target):
    """Whatever a stream is settled with, it cannot end a loop as if all had come."""
    async with asyncio.timeout(20), StreamClient(target) as client:
        for flow in (StopAsyncIteration(), StopIteration(3), GeneratorExit()):
            stream = client.stream(without_end())
            assert await anext(stream) == ITEMS[0]
            stream._driver.abandon(flow)
            with pytest.raises(RuntimeError) as caught:
                async for _ in stream:
                    pass
            assert caught.value.__cause__ is flow
            call = asyncio.ensure_future(client.predict(b"x"))
            await asyncio.sleep(0)
            (lane,) = client._lanes()._lanes
            for waiting in lane.calls.values():
                waiting.fail(flow)
            with pytest.raises(RuntimeError):
                await call
