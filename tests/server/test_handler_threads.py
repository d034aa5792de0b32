"""A plain `def predict`, in threads."""

import asyncio
import threading
import time

import pytest
from attempts import FakeAttempt, for_a_while, until, workers_running
from handling import (
    DECODE,
    HANDLER,
    PLACES,
    Picky,
    answers_of,
)

from servestream_client import BytesCodec
from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.server.outbox import Outbox
from servestream_client.server import stuck
from servestream_client.server.handlers import batch_handler, item_handler
from servestream_client.server.item_workers import ItemWorkers

pytestmark = pytest.mark.usefixtures("quick_code")


@pytest.fixture(autouse=True)
async def no_worker_stays():
    yield
    await until(lambda: not workers_running())


async def test_a_run_is_handled_in_one_thread_and_in_order():
    seen: list[tuple[bytes, int]] = []

    def predict(item):
        seen.append((item, threading.get_ident()))
        return item

    attempt = await answers_of(item_handler(predict, BytesCodec(), PLACES), b"a", b"b", b"c")
    assert attempt.outputs == [b"a", b"b", b"c"]
    assert [item for item, _ in seen] == [b"a", b"b", b"c"]
    (thread,) = {thread for _, thread in seen}
    assert thread != threading.get_ident()


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("awaits", [False, True], ids=["plain", "awaitable"])
async def test_the_way_to_a_thread_is_told_apart_from_the_handler(monkeypatch, awaits, coarse):
    release = asyncio.Event()
    waits: list[float] = []  # since when
    if coarse:  # as uvloop's clock, which counts milliseconds, and more so
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", lambda: float(int(time.monotonic())))

    async def later(item):
        waits.append(time.perf_counter())
        await release.wait()
        return item

    def predict(item):
        if awaits:
            return later(item)
        time.sleep(0.1)  # a thread's work
        return item

    workers = ItemWorkers(item_handler(predict, BytesCodec(), PLACES), places=PLACES)
    told: list[tuple[float, float]] = []
    took = workers._took

    def noted(call, parts, began, ended):
        told.append((call.hop_seconds, ended - began))
        took(call, parts, began, ended)

    monkeypatch.setattr(workers, "_took", noted)
    stream = FakeAttempt(workers)
    stream.send(b"a")
    if awaits:
        await until(lambda: bool(waits))
        await asyncio.sleep(0.2)  # which is the handler's, and no way
        waited = 0.9 * (time.perf_counter() - waits[0])
        release.set()
    await until(lambda: bool(told))
    ((way, altogether),) = told
    assert 0 < way < altogether
    assert workers.item_time.value == pytest.approx(altogether - way)
    assert workers.item_time.value >= (waited if awaits else 0.1)


@pytest.mark.parametrize("error", [StopIteration, asyncio.CancelledError, GeneratorExit])
@pytest.mark.parametrize("plural", [False, True], ids=["items", "batches"])
async def test_what_cannot_cross_from_a_thread_is_an_error_all_the_same(error, plural):
    def predict(item):
        if item == b"2":
            raise error
        return item

    def predict_batch(items):
        return [predict(item) for item in items]

    if plural:
        handler = batch_handler(predict_batch, BytesCodec(), PLACES)
    else:
        handler = item_handler(predict, BytesCodec(), PLACES)
    attempt = await answers_of(handler, b"1", b"2", b"3")
    assert attempt.outputs == [b"1", HANDLER, b"3"]


async def test_no_thread_is_asked_when_nothing_can_be_decoded():
    def predict(item):
        raise AssertionError("it was asked")

    handler = item_handler(predict, Picky(), PLACES)
    attempt = await answers_of(handler, b"undecodable 1", b"undecodable 2")
    assert attempt.outputs == [DECODE, DECODE]


# ------------------------------------------------------------------ what takes too long


async def test_of_a_run_in_a_thread_only_the_input_that_hangs_fails():
    go = threading.Event()

    def predict(item):
        if item == b"a3":
            go.wait(20)
        return item.upper()

    workers = ItemWorkers(item_handler(predict, BytesCodec(), PLACES), places=PLACES)
    workers._run_length = 8  # all of them in one go
    stream = FakeAttempt(workers, "a")
    stream.may_take(0.3)
    stream.send_many(6)
    await until(lambda: stream.done)
    go.set()
    assert stream.outputs == [b"A1", b"A2", ItemErrorKind.TIMEOUT, b"A4", b"A5", b"A6"]
    assert stream.left == []


async def test_what_needs_no_encoding_is_answered_before_the_input_that_hangs_fails(monkeypatch):
    """Each input of a stateful stream stands on the one before it."""
    go, order = threading.Event(), list[int]()

    def predict(item):
        if item == b"a3":
            go.wait(20)
        return item

    workers = ItemWorkers(item_handler(predict, BytesCodec(), PLACES), places=PLACES)
    workers._run_length = 8  # all of them in one go
    stream = FakeAttempt(workers, "a")
    outputs, fail = Outbox.outputs, Outbox.fail

    def outputs_noted(self, first, payloads):
        order.extend(range(first, first + len(payloads)))
        outputs(self, first, payloads)

    def fail_noted(self, number, *rest, **options):
        order.append(number)
        fail(self, number, *rest, **options)

    monkeypatch.setattr(Outbox, "outputs", outputs_noted)
    monkeypatch.setattr(Outbox, "fail", fail_noted)
    stream.may_take(0.3)
    stream.send_many(4)
    await until(lambda: stream.done)
    go.set()
    assert order[:3] == [1, 2, 3]


async def test_undecodable_neighbours_of_an_input_that_hangs_keep_their_own_error():
    go = threading.Event()

    def predict(item):
        if item == b"hangs":
            go.wait(20)
        return item.upper()

    workers = ItemWorkers(item_handler(predict, Picky(), PLACES), places=PLACES)
    workers._run_length = 8
    stream = FakeAttempt(workers)
    stream.may_take(0.3)
    stream.send(b"undecodable", b"a", b"hangs", b"undecodable", b"b")
    await until(lambda: stream.done)
    go.set()
    assert stream.outputs == [DECODE, b"A", ItemErrorKind.TIMEOUT, DECODE, b"B"]


async def test_an_input_that_ended_in_time_is_answered_however_late_the_event_loop_hears_of_it():
    def predict(item):
        time.sleep(0.05)  # a thread's work
        return item.upper()

    workers = ItemWorkers(item_handler(predict, BytesCodec(), PLACES), places=PLACES)
    stream = FakeAttempt(workers, "a")
    stream.may_take(0.2)
    stream.send_many(1)
    await for_a_while()
    time.sleep(0.4)  # noqa: ASYNC251 — keeps the event loop busy over its end and its time
    await until(lambda: stream.done)
    assert stream.outputs == [b"A1"]


async def test_what_was_given_back_for_a_client_that_is_gone_is_not_computed():
    go = threading.Event()
    calls = []

    def predict(item):
        calls.append(item)
        if item.startswith(b"hang"):
            go.wait(20)
        return item

    workers = ItemWorkers(item_handler(predict, BytesCodec(), 1), places=1)
    workers._run_length = 8
    stream = FakeAttempt(workers)
    stream.may_take(0.1)
    stream.send(b"hang", b"x", b"y")
    await until(lambda: bool(workers._given_back))
    stream.go()
    go.set()
    await until(lambda: not workers_running())
    assert calls == [b"hang"]


async def test_a_place_that_is_kept_for_long_costs_no_time(monkeypatch):
    monkeypatch.setattr(stuck, "STUCK_SECONDS", 0.0)
    go = threading.Event()
    workers = ItemWorkers(item_handler(lambda _: go.wait(60), BytesCodec(), PLACES), places=PLACES)
    stream = FakeAttempt(workers)
    stream.may_take(0.1)
    stream.send(b"hangs")
    try:
        await until(lambda: stream.done)
        await until(lambda: workers._limits.idle)  # nothing is looked for any more
    finally:
        go.set()
    await until(lambda: not workers_running())
