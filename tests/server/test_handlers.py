"""From a user's method to answers: decode, call, encode, in runs."""

import asyncio
import contextvars
import functools
import threading
import time
from collections.abc import Callable, Iterable, Sequence

import pytest
from attempts import FakeAttempt, for_a_while, until, workers_running

from servestream_client import BytesCodec
from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.frames import Credit, StreamErrorKind
from servestream_client.server import workers as workers_module
from servestream_client.server.handlers import batch_handler, item_handler
from servestream_client.server.workers import BatchWorkers, Call, Handler, ItemWorkers, Part

DECODE, ENCODE, HANDLER = ItemErrorKind.DECODE, ItemErrorKind.ENCODE, ItemErrorKind.HANDLER
PLACES = 4


@pytest.fixture(autouse=True)
async def no_worker_stays():
    yield
    await until(lambda: not workers_running())


class Picky(BytesCodec):
    """Takes no input that says undecodable, and no output that says unencodable or wrong type."""

    def decode_input(self, payload, /):
        if payload.startswith(b"undecodable"):
            raise ValueError(payload.decode())
        return payload

    def encode_output(self, output, /):
        if output.startswith(b"UNENCODABLE"):
            raise ValueError(output.decode())
        return output.decode() if output.startswith(b"WRONG TYPE") else output


def upper(item: bytes) -> bytes:
    """What every handler here does."""
    if item.startswith(b"raises"):
        raise ValueError(item.decode())
    return item.upper()


async def at_once(item):
    return upper(item)


async def after_a_while(item):
    await asyncio.sleep(0)
    return upper(item)


async def after_a_while_now_and_then(item):
    if item.endswith((b"2", b"5")):
        await asyncio.sleep(0)
    return upper(item)


async def batch_at_once(items):
    return [upper(item) for item in items]


async def batch_after_a_while(items):
    await asyncio.sleep(0)
    return [upper(item) for item in items]


def batch_in_thread(items):
    return tuple(upper(item) for item in items)


def coroutine_from_thread(item):
    return after_a_while(item)


ITEM_HANDLERS = {
    "async": at_once,
    "async, waits": after_a_while,
    "async, waits now and then": after_a_while_now_and_then,
    "plain": upper,
    "plain, returns a coroutine": coroutine_from_thread,
}
BATCH_HANDLERS = {
    "batch": batch_at_once,
    "batch, waits": batch_after_a_while,
    "batch, plain": batch_in_thread,
}


def handler_of(name: str) -> Handler:
    if name in ITEM_HANDLERS:
        return item_handler(ITEM_HANDLERS[name], Picky(), PLACES)
    return batch_handler(BATCH_HANDLERS[name], Picky(), PLACES)


class Bystander(ItemWorkers):
    """Workers without a place, for calls that a test makes by hand."""

    def __init__(self) -> None:
        super().__init__(None, places=0)
        self.suspensions = 0

    def suspended(self, call: Call, parts: Iterable[Part]) -> None:
        self.suspensions += 1
        super().suspended(call, parts)


async def answers_of(handler: Handler, *payloads: bytes, longest: int = 99) -> FakeAttempt:
    """What a handler makes of inputs that it gets in a run, and again of what it puts back."""
    bystander = Bystander()
    attempt = FakeAttempt(bystander)
    attempt.send(*payloads)
    call = Call(bystander)
    for _ in payloads:
        run = attempt.session.next_run(longest)
        if run is None:
            break
        await handler.handle(call, [Part(attempt, run)])
    attempt.wake_writer()
    await until(lambda: attempt.done)
    return attempt


# ------------------------------------------------------------------ each input, its own answer

TROUBLES = {"undecodable": DECODE, "raises": HANDLER, "unencodable": ENCODE, "wrong type": ENCODE}


@pytest.mark.parametrize(
    "places", [[1], [3], [5], [1, 2], [4, 5], [2, 4], [1, 2, 3, 4, 5]], ids=str
)
@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("name", [*ITEM_HANDLERS, *BATCH_HANDLERS])
async def test_what_goes_wrong_within_a_run_fails_its_own_input_only(name, trouble, places):
    payloads = [b"%d" % number for number in range(1, 6)]
    for place in places:
        payloads[place - 1] = f"{trouble} {place}".encode()
    attempt = await answers_of(handler_of(name), *payloads)
    assert attempt.outputs == [
        TROUBLES[trouble] if number in places else b"%d" % number for number in range(1, 6)
    ]
    for place in places:
        said = "made a str, not bytes" if trouble == "wrong type" else f"{trouble} {place}"
        assert said.lower() in attempt.texts[place].lower()


@pytest.mark.parametrize("name", [*ITEM_HANDLERS, *BATCH_HANDLERS])
async def test_troubles_of_all_kinds_in_one_run(name):
    payloads = [b"undecodable", b"1", b"raises", b"2", b"unencodable", b"wrong type", b"5", b"6"]
    attempt = await answers_of(handler_of(name), *payloads)
    assert attempt.outputs == [DECODE, b"1", HANDLER, b"2", ENCODE, ENCODE, b"5", b"6"]


@pytest.mark.parametrize("name", [*ITEM_HANDLERS, *BATCH_HANDLERS])
async def test_payloads_of_a_kind_of_bytes_will_do(name):
    class Kind(bytes):
        __slots__ = ()

    class Own(BytesCodec):
        def encode_output(self, output, /):
            return Kind(output)

    made = ITEM_HANDLERS.get(name) or BATCH_HANDLERS[name]
    make = item_handler if name in ITEM_HANDLERS else batch_handler
    attempt = await answers_of(make(made, Own(), PLACES), b"a", b"b")
    assert attempt.outputs == [b"A", b"B"]


@pytest.mark.parametrize("places", [1, 3])
@pytest.mark.parametrize("name", [*ITEM_HANDLERS, *BATCH_HANDLERS])
async def test_many_inputs_of_several_streams_get_each_their_own_answer(name, places):
    if name in ITEM_HANDLERS:
        workers = ItemWorkers(handler_of(name), places=places)
    else:
        workers = BatchWorkers(handler_of(name), places=places, max_batch=7, batch_wait=0.0)
    streams = [FakeAttempt(workers, each) for each in "abc"]
    for count in (1, 5, 40):
        for stream in streams:
            stream.send_many(count)
        await for_a_while()
    await until(lambda: all(stream.done for stream in streams))
    for stream in streams:
        said = [f"{stream.name}{number}".upper().encode() for number in range(1, 47)]
        assert stream.answers == list(enumerate(said, 1))


# ------------------------------------------------------------------ async def predict


async def test_inputs_that_need_not_wait_are_handled_in_one_go():
    bystander = Bystander()
    attempt = FakeAttempt(bystander)
    attempt.send(b"a", b"b", b"c")
    handler = item_handler(at_once, BytesCodec(), PLACES)
    await handler.handle(Call(bystander), [Part(attempt, attempt.session.next_run(9))])
    assert bystander.suspensions == 0
    assert attempt.session.startable_inputs == 0
    frame = attempt.session.next_frame()
    assert [list(run.payloads) for run in frame.outputs] == [[b"A", b"B", b"C"]]


async def test_an_input_that_waits_holds_up_neither_those_before_nor_those_behind_it():
    release = asyncio.Event()
    began = []

    async def predict(item):
        began.append(item)
        if item == b"a2":
            await release.wait()
        return item

    workers = ItemWorkers(item_handler(predict, BytesCodec(), PLACES), places=2)
    workers._run_length = 8
    attempt = FakeAttempt(workers, "a", ordered=False)
    attempt.send_many(8)
    await until(lambda: len(attempt.answers) == 7)
    assert began == [b"a%d" % n for n in range(1, 9)]
    assert attempt.answers[0] == (1, b"a1")
    release.set()
    await until(lambda: attempt.done)
    assert attempt.answers[-1] == (2, b"a2")


async def test_what_is_done_is_sent_while_another_input_of_the_run_waits():
    release = asyncio.Event()

    async def predict(item):
        if item == b"a3":
            await release.wait()
        return item

    workers = ItemWorkers(item_handler(predict, BytesCodec(), PLACES), places=1)
    workers._run_length = 8
    attempt = FakeAttempt(workers, "a")
    attempt.send_many(3)
    await until(lambda: attempt.outputs == [b"a1", b"a2"])
    release.set()
    await until(lambda: attempt.done)


async def test_what_stands_behind_an_input_that_waits_goes_back():
    bystander = Bystander()
    attempt = FakeAttempt(bystander)
    attempt.send(b"1", b"2", b"3", b"undecodable", b"5")
    release = asyncio.Event()

    async def predict(item):
        if item == b"2":
            await release.wait()
        return item

    handler = item_handler(predict, Picky(), PLACES)
    run = attempt.session.next_run(9)
    handling = asyncio.ensure_future(handler.handle(Call(bystander), [Part(attempt, run)]))
    await until(lambda: bystander.suspensions == 1)
    assert (run.first, run.last) == (1, 2)
    assert attempt.session.startable_inputs == 3
    assert attempt.session.next_input().number == 3
    assert attempt.session.next_input().number == 4
    release.set()
    await handling
    attempt.wake_writer()
    await until(lambda: len(attempt.answers) == 2)
    assert attempt.outputs == [b"1", b"2"]


async def test_a_cancelled_input_that_went_back_is_not_started():
    """It stood behind one that waits, in the same run."""
    release = asyncio.Event()
    began = []

    async def predict(item):
        began.append(item)
        await release.wait()
        return item

    workers = ItemWorkers(item_handler(predict, BytesCodec(), PLACES), places=1)
    workers._run_length = 8
    attempt = FakeAttempt(workers, "a")
    attempt.send_many(3)
    await until(lambda: began == [b"a1"])
    attempt.cancel(2)
    release.set()
    await until(lambda: attempt.done)
    assert attempt.outputs == [b"a1", ItemErrorKind.CANCELLED, b"a3"]
    assert began == [b"a1", b"a3"]


@pytest.mark.parametrize("number", [1, 2])
async def test_an_input_cancelled_in_the_moment_in_which_a_call_comes_to_wait_is_noticed(number):
    cancelled = []

    async def predict(item):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(item)
            raise

    workers = ItemWorkers(item_handler(predict, BytesCodec(), PLACES), places=1)
    workers._run_length = 8
    attempt = FakeAttempt(workers, "a", ordered=False)
    attempt.send_many(2)
    # The worker takes its first step, and this comes right behind it.
    asyncio.get_running_loop().call_soon(attempt.cancel, number)
    await until(lambda: attempt.answers == [(number, ItemErrorKind.CANCELLED)])
    assert cancelled == [b"a1"][: 2 - number]
    attempt.go()


async def test_one_cancelled_input_of_several_ends_its_own_call_only():
    release = asyncio.Event()
    running, cancelled = [], []

    async def predict(item):
        running.append(item)
        try:
            await release.wait()
        except asyncio.CancelledError:
            cancelled.append(item)
            raise
        return item

    workers = ItemWorkers(item_handler(predict, BytesCodec(), PLACES), places=PLACES)
    attempt = FakeAttempt(workers, "a")
    attempt.send_many(3)
    await until(lambda: len(running) == 3)
    attempt.cancel(2)
    await until(lambda: cancelled == [b"a2"])
    release.set()
    await until(lambda: attempt.done)
    assert attempt.outputs == [b"a1", ItemErrorKind.CANCELLED, b"a3"]


async def test_a_handler_may_wait_often_and_for_all_kinds_of_things():
    async def predict(item):
        await asyncio.sleep(0)
        async with asyncio.timeout(60):
            first, second = await asyncio.gather(at_once(item), after_a_while(item))
        with pytest.raises(ValueError, match="raises"):
            await after_a_while(b"raises")
        return first + second

    attempt = await answers_of(item_handler(predict, BytesCodec(), PLACES), b"a", b"b")
    assert attempt.outputs == [b"AA", b"BB"]


async def test_a_handlers_own_timeout_is_its_inputs_error_and_cancels_nothing_else():
    async def predict(item):
        if item == b"a2":
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        return item

    workers = ItemWorkers(item_handler(predict, BytesCodec(), PLACES), places=1)
    workers._run_length = 8
    attempt = FakeAttempt(workers, "a")
    attempt.send_many(4)
    await until(lambda: attempt.done)
    assert attempt.outputs == [b"a1", HANDLER, b"a3", b"a4"]
    assert "TimeoutError" in attempt.texts[2]


async def test_a_handler_that_awaits_a_cancelled_task_fails_its_input():
    async def predict(item):
        if item == b"2":
            task = asyncio.ensure_future(asyncio.Event().wait())
            await asyncio.sleep(0)
            task.cancel()
            await task
        return item

    attempt = await answers_of(item_handler(predict, BytesCodec(), PLACES), b"1", b"2", b"3")
    assert attempt.outputs == [b"1", HANDLER, b"3"]


# ------------------------------------------------------------------ plain def predict


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


# ------------------------------------------------------------------ batches


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
        parts.append(Part(attempt, attempt.session.next_run(9)))
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
    ],
    ids=["None", "mapping", "set", "text", "bytes", "bytearray", "view", "too few", "too many"],
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


# ------------------------------------------------------------------ the stream's context

WHOSE = contextvars.ContextVar("WHOSE", default="nobody")


def whose(item):
    return WHOSE.get().encode()


async def whose_at_once(item):
    return whose(item)


async def whose_after_a_while(item):
    await asyncio.sleep(0)
    return whose(item)


async def whose_of_batch(items):
    return [whose(item) for item in items]


def whose_of_batch_in_thread(items):
    return [whose(item) for item in items]


@pytest.mark.parametrize(
    "function",
    [whose, whose_at_once, whose_after_a_while, whose_of_batch, whose_of_batch_in_thread],
)
async def test_what_the_streams_context_holds_is_there_in_handlers(function):
    if "batch" in function.__name__:
        handler = batch_handler(function, BytesCodec(), PLACES)
        workers = BatchWorkers(handler, places=1, max_batch=2, batch_wait=0.0)
    else:
        workers = ItemWorkers(item_handler(function, BytesCodec(), PLACES), places=2)
    streams = [FakeAttempt(workers, name) for name in ("one", "other")]
    for stream in streams:
        stream.context.run(WHOSE.set, stream.name)
        stream.send_many(2)
        await until(lambda: stream.done)  # noqa: B023
    assert [stream.outputs for stream in streams] == [[b"one"] * 2, [b"other"] * 2]


# ------------------------------------------------------------------ what does not fit


@pytest.mark.parametrize("name", [*ITEM_HANDLERS, *BATCH_HANDLERS])
async def test_answers_of_a_stream_that_has_left_are_dropped(name):
    bystander = Bystander()
    attempt = FakeAttempt(bystander)
    attempt.send(b"1", b"undecodable", b"3")
    run = attempt.session.next_run(9)
    attempt.session.half_close()
    await handler_of(name).handle(Call(bystander), [Part(attempt, run)])
    assert attempt.session.next_frame() is None
    assert attempt.session.next_run(9) is None


async def test_a_handler_for_an_unread_stream_stops_at_what_may_wait():
    handled = []

    async def predict(item):
        handled.append(item)
        return bytes(10)

    workers = ItemWorkers(item_handler(predict, BytesCodec(), PLACES), places=2)
    attempt = FakeAttempt(workers, "a", credit=Credit(0, 0), ahead_bytes=30)
    attempt.send_many(50)
    await until(lambda: not workers_running())
    assert 3 <= len(handled) <= 4  # a run that was begun is finished, and none is long yet
    attempt.grant(100)
    await until(lambda: attempt.done)


# ------------------------------------------------------------------ with workers


async def test_an_ordered_stream_does_not_stall_when_two_workers_put_inputs_back():
    """Later inputs start before an earlier one that went back, and their outputs fill what may
    wait: the one whose turn it is starts nevertheless."""

    async def predict(item):
        if int(item) in (1, 2, 3, 6):
            await asyncio.sleep(0)
        return item.rjust(20)

    workers = ItemWorkers(item_handler(predict, BytesCodec(), PLACES), places=2)
    workers._run_length = 3
    attempt = FakeAttempt(workers, ahead_bytes=35)
    attempt.send_many(12)
    await until(lambda: attempt.done)
    assert [number for number, _ in attempt.answers] == list(range(1, 13))


async def test_what_went_back_is_not_started_once_the_stream_was_given_up():
    began = []

    async def predict(item):
        began.append(item)
        await asyncio.Event().wait()

    workers = ItemWorkers(item_handler(predict, BytesCodec(), PLACES), places=PLACES)
    workers._run_length = 8
    attempt = FakeAttempt(workers, "a")
    attempt.send_many(3)

    def give_up():
        attempt.session.give_up(StreamErrorKind.SUPERSEDED, "a higher attempt came")
        workers.cancel(attempt)

    asyncio.get_running_loop().call_soon(give_up)
    await until(lambda: began and not workers_running())
    assert began == [b"a1"]


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


@pytest.mark.parametrize("method", ["decode_input", "encode_output"])
async def test_a_codec_that_raises_stop_iteration_fails_its_item(method):
    class Codec(BytesCodec):
        pass

    def convert(self, value, /):
        if value == b"a2":
            raise StopIteration
        return value

    setattr(Codec, method, convert)
    workers = ItemWorkers(item_handler(echo, Codec(), PLACES), places=1)
    workers._run_length = 8
    attempt = FakeAttempt(workers, "a")
    attempt.send_many(4)
    await until(lambda: attempt.done)
    kind = DECODE if method == "decode_input" else ENCODE
    assert attempt.outputs == [b"a1", kind, b"a3", b"a4"]


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


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("kind", ["items", "batches"])
async def test_a_handler_that_cancels_its_own_task_fails_its_inputs_only(kind, waits):
    async def predict(value):
        if b"a1" in value:  # a batch, or an item
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            if waits:
                await asyncio.sleep(0)
            raise asyncio.CancelledError
        return value

    workers = (
        ItemWorkers(item_handler(predict, BytesCodec(), PLACES), places=1)
        if kind == "items"
        else BatchWorkers(
            batch_handler(predict, BytesCodec(), PLACES), places=1, max_batch=1, batch_wait=0.0
        )
    )
    one, other = FakeAttempt(workers, "a"), FakeAttempt(workers, "b")
    one.send_many(2)
    other.send_many(2)
    await until(lambda: one.done and other.done)
    assert one.outputs == [HANDLER, b"a2"]
    assert other.outputs == [b"b1", b"b2"]


@pytest.mark.parametrize("kind", ["items", "batches"])
@pytest.mark.parametrize("places", [1, 2])
async def test_a_handler_that_cancels_its_own_task_and_answers_ends_only_its_worker(kind, places):
    async def predict(value):
        if b"a1" in value:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        return value

    workers = (
        ItemWorkers(item_handler(predict, BytesCodec(), PLACES), places=places)
        if kind == "items"
        else BatchWorkers(
            batch_handler(predict, BytesCodec(), PLACES),
            places=places,
            max_batch=1,
            batch_wait=0.0,
        )
    )
    one, other = FakeAttempt(workers, "a"), FakeAttempt(workers, "b")
    one.send_many(3)
    other.send_many(2)
    await until(lambda: one.done and other.done)
    assert one.outputs[1:] == [b"a2", b"a3"]
    assert other.outputs == [b"b1", b"b2"]


async def echo(item):
    return item


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


async def test_a_batch_in_a_thread_that_hangs_costs_the_attempts_that_gave_to_it(monkeypatch):
    monkeypatch.setattr(workers_module, "STUCK_SECONDS", 0.0)
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
    assert "every handler" in other.left[0]
    go.set()
    await until(lambda: not workers.stuck)


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
    monkeypatch.setattr(workers_module, "STUCK_SECONDS", 0.0)
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
