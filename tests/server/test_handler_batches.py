"""`predict_batch`: as a whole, and singly where that fails."""

import asyncio
import functools
import threading
from collections.abc import Callable, Sequence

import pytest
from attempts import FakeAttempt, for_a_while, until, workers_running
from handling import (
    DECODE,
    ENCODE,
    HANDLER,
    PLACES,
    Bystander,
    Picky,
    answers_of,
    batch_after_a_while,
    batch_at_once,
    echo,
)

from servestream_client import BytesCodec
from servestream_client.errors import ItemErrorKind
from servestream_client.server import stuck
from servestream_client.server.batch_workers import BatchWorkers
from servestream_client.server.calls import Call, Part
from servestream_client.server.handlers import batch_handler

pytestmark = pytest.mark.usefixtures("quick_code")


@pytest.fixture(autouse=True)
async def no_worker_stays():
    yield
    await until(lambda: not workers_running())


def noting(calls: list[list[bytes]], predict_batch: Callable) -> Callable:
    """Notes what a batch handler is called with."""

    @functools.wraps(predict_batch)
    async def noted(items):
        calls.append(items)
        return await predict_batch(items)

    return noted


async def test_a_batch_gets_what_can_be_decoded_as_a_list():
    calls: list[list[bytes]] = []
    handler = batch_handler(noting(calls, batch_at_once), Picky(), PLACES)
    attempt = await answers_of(handler, b"a", b"undecodable", b"c")
    assert attempt.outputs == [b"A", DECODE, b"C"]
    assert calls == [[b"a", b"c"]]


async def test_a_batch_that_fails_is_tried_singly():
    calls: list[list[bytes]] = []
    handler = batch_handler(noting(calls, batch_at_once), Picky(), PLACES)
    attempt = await answers_of(handler, b"a", b"raises", b"c", b"unencodable")
    assert attempt.outputs == [b"A", HANDLER, b"C", ENCODE]
    assert calls == [
        [b"a", b"raises", b"c", b"unencodable"],
        *([item] for item in (b"a", b"raises", b"c", b"unencodable")),
    ]


async def test_a_batch_of_one_that_fails_is_not_tried_again():
    calls: list[list[bytes]] = []
    handler = batch_handler(noting(calls, batch_at_once), Picky(), PLACES)
    attempt = await answers_of(handler, b"undecodable", b"raises")
    assert attempt.outputs == [DECODE, HANDLER]
    assert calls == [[b"raises"]]


async def test_nothing_is_called_when_nothing_can_be_decoded():
    calls: list[list[bytes]] = []
    handler = batch_handler(noting(calls, batch_at_once), Picky(), PLACES)
    attempt = await answers_of(handler, b"undecodable 1", b"undecodable 2")
    assert attempt.outputs == [DECODE, DECODE]
    assert calls == []


@pytest.mark.parametrize("threaded", [False, True], ids=["asynchronous", "in a thread"])
@pytest.mark.parametrize("codec", [BytesCodec(), Picky()], ids=["bytes", "another codec"])
async def test_a_batch_handler_may_change_the_list_that_it_gets(codec, threaded):
    def emptying(items):
        answers = []
        while items:
            answers.append(items.pop(0))
        if b"raises" in answers:
            raise ValueError
        return answers

    async def asynchronous(items):
        return emptying(items)

    handler = batch_handler(emptying if threaded else asynchronous, codec, PLACES)
    attempt = await answers_of(handler, b"1", b"2", b"3")
    assert attempt.outputs == [b"1", b"2", b"3"]
    attempt = await answers_of(handler, b"1", b"raises", b"3")
    assert attempt.outputs == [b"1", HANDLER, b"3"]


async def test_a_bad_input_of_one_stream_is_blamed_in_that_stream_only():
    calls: list[list[bytes]] = []
    handler = batch_handler(noting(calls, batch_after_a_while), Picky(), PLACES)
    bystander = Bystander()
    payloads = {"a": [b"1", b"undecodable"], "b": [b"raises", b"2"], "c": [b"3", b"unencodable"]}
    parts = []
    for name, own in payloads.items():
        attempt = FakeAttempt(bystander, name)
        attempt.send(*own)
        parts.append(Part(attempt, attempt.session.intake.next_run(9)))
    await handler.handle(Call(bystander), parts)
    for part in parts:
        part.attempt.wake_writer()
    await until(lambda: all(part.attempt.done for part in parts))
    assert [part.attempt.outputs for part in parts] == [
        [b"1", DECODE],
        [HANDLER, b"2"],
        [b"3", ENCODE],
    ]
    assert calls[0] == [b"1", b"raises", b"2", b"3", b"unencodable"]


class Column:
    """A length and places, as an array has: no `Sequence`, and no truth."""

    def __init__(self, values: Sequence[bytes]) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, place: int) -> bytes:
        return self.values[place]

    def __bool__(self) -> bool:
        raise ValueError("the truth of an array is ambiguous")

    def __eq__(self, other: object) -> bool:
        raise ValueError("an array is compared by its elements")

    __hash__ = None


@pytest.mark.parametrize("make", [list, tuple, Column])
async def test_a_batch_may_answer_with_whatever_has_a_length_and_places(make):
    async def predict_batch(items):
        return make([item.upper() for item in items])

    attempt = await answers_of(batch_handler(predict_batch, BytesCodec(), PLACES), b"a", b"b")
    assert attempt.outputs == [b"A", b"B"]


class Short(Column):
    """It has fewer values than it says."""

    def __iter__(self):
        return iter(self.values[1:])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda items: None, "no sequence"),
        (lambda items: {item: item for item in items}, "no sequence"),
        (set, "no sequence"),
        (lambda items: "ab", "no sequence"),
        (b"".join, "no sequence"),
        (lambda items: bytearray(b"ab"), "no sequence"),
        (lambda items: memoryview(b"ab"), "no sequence"),
        (lambda items: items[1:], "outputs for"),
        (lambda items: [*items, b"one more"], "outputs for"),
        (Short, "which says that it has 1 outputs and gives 0"),
    ],
    ids=[
        "None",
        "mapping",
        "set",
        "text",
        "bytes",
        "bytearray",
        "view",
        "too few",
        "too many",
        "lies",
    ],
)
@pytest.mark.parametrize("threaded", [False, True], ids=["async", "plain"])
async def test_a_batch_that_answers_wrongly_fails_each_of_its_inputs(make, said, threaded):
    async def asynchronous(items):
        return make(items)

    handler = batch_handler(make if threaded else asynchronous, BytesCodec(), PLACES)
    attempt = await answers_of(handler, b"a", b"b")
    assert attempt.outputs == [HANDLER, HANDLER]
    assert said in attempt.texts[1]


async def test_a_batch_all_of_whose_inputs_are_cancelled_is_cancelled():
    running, cancelled = [], []

    async def predict_batch(items):
        running.append(items)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(items)
            raise

    handler = batch_handler(predict_batch, BytesCodec(), 1)
    workers = BatchWorkers(handler, places=1, max_batch=8, batch_wait=0.0)
    one, other = FakeAttempt(workers, "a"), FakeAttempt(workers, "b")
    one.send_many(2)
    other.send_many(2)
    await until(lambda: len(running) == 1)
    one.cancel(1, 2)
    other.cancel(1)
    await for_a_while()
    assert cancelled == []
    other.cancel(2)
    await until(lambda: one.done and other.done)
    assert cancelled == [[b"a1", b"a2", b"b1", b"b2"]]
    assert one.outputs == other.outputs == [ItemErrorKind.CANCELLED] * 2
    assert len(running) == 1, "it was tried singly, although nobody wants it"


async def test_a_batch_that_is_cancelled_while_it_is_tried_singly_stops_there():
    calls = []

    async def predict_batch(items):
        calls.append(items)
        if len(items) > 1:
            raise ValueError("no")
        await asyncio.Event().wait()

    handler = batch_handler(predict_batch, BytesCodec(), 1)
    workers = BatchWorkers(handler, places=1, max_batch=8, batch_wait=0.0)
    attempt = FakeAttempt(workers, "a")
    attempt.send_many(3)
    await until(lambda: len(calls) == 2)
    attempt.go()
    await until(lambda: not workers_running())
    assert calls == [[b"a1", b"a2", b"a3"], [b"a1"]]


async def test_batches_of_two_streams_run_side_by_side_where_there_are_places():
    calls, go = [], asyncio.Event()

    async def predict_batch(items):
        calls.append(items)
        await go.wait()
        return items

    handler = batch_handler(predict_batch, BytesCodec(), PLACES)
    workers = BatchWorkers(handler, places=2, max_batch=1, batch_wait=0.0)
    streams = [FakeAttempt(workers, name) for name in "ab"]
    for stream in streams:
        stream.send_many(1)
    await until(lambda: calls == [[b"a1"], [b"b1"]])
    go.set()
    await until(lambda: all(stream.done for stream in streams))


async def test_of_many_outputs_that_cannot_be_encoded_each_is_its_own_error():
    async def predict_batch(items):
        return [None for _ in items]

    handler = batch_handler(predict_batch, BytesCodec(), PLACES)
    workers = BatchWorkers(handler, places=1, max_batch=2000, batch_wait=0.0)
    attempt = FakeAttempt(workers, "a")
    attempt.send_many(2000)
    await until(lambda: attempt.done)
    assert set(attempt.outputs) == {ENCODE}


async def test_a_large_batch_of_inputs_that_came_one_by_one_is_answered():
    handler = batch_handler(echo, BytesCodec(), PLACES)
    workers = BatchWorkers(handler, places=1, max_batch=2000, batch_wait=0.0)
    attempt = FakeAttempt(workers, "a")
    for _ in range(1500):
        attempt.send_many(1)
    await until(lambda: attempt.done)
    attempt.send_many(1)
    await until(lambda: attempt.done)


async def test_a_batch_in_a_thread_that_hangs_costs_the_attempts_that_gave_to_it(monkeypatch):
    monkeypatch.setattr(stuck, "STUCK_SECONDS", 0.0)
    go = threading.Event()

    def predict_batch(items):
        go.wait(20)
        return items

    workers = BatchWorkers(
        batch_handler(predict_batch, BytesCodec(), 1), places=1, max_batch=8, batch_wait=0
    )
    one, other = FakeAttempt(workers, "a"), FakeAttempt(workers, "b")
    for stream in (one, other):
        stream.may_take(0.3)
    one.send_many(3)
    await until(lambda: bool(one.left))
    assert "do not end" in one.left[0]
    assert workers.stuck
    other.send_many(1)  # has nowhere to go
    await until(lambda: bool(other.left))
    assert "all handler slots" in other.left[0]
    go.set()
    await until(lambda: not workers.stuck)


async def test_a_batch_has_one_limit():
    calls = []

    async def predict_batch(items):
        calls.append(items)
        await asyncio.sleep(0.1)
        return items

    workers = BatchWorkers(
        batch_handler(predict_batch, BytesCodec(), 1), places=1, max_batch=8, batch_wait=0
    )
    patient, hasty = FakeAttempt(workers, "a"), FakeAttempt(workers, "b")
    hasty.may_take(0.02)
    first = FakeAttempt(workers, "c")
    first.send_many(1)
    patient.send_many(2)
    hasty.send_many(1)
    await until(lambda: patient.done and hasty.done and first.done)
    assert patient.outputs == [b"a1", b"a2"]
    assert hasty.outputs == [ItemErrorKind.TIMEOUT]
    assert [b"b1"] in calls
