"""Each input has its own answer, whatever the shape of its handler."""

import asyncio
import contextvars

import pytest
from attempts import FakeAttempt, for_a_while, until, workers_running
from handling import (
    BATCH_HANDLERS,
    DECODE,
    ENCODE,
    HANDLER,
    ITEM_HANDLERS,
    PLACES,
    Bystander,
    answers_of,
    echo,
    handler_of,
)

from servestream_client import BytesCodec
from servestream_client.server.batch_workers import BatchWorkers
from servestream_client.server.calls import Call, Part
from servestream_client.server.handlers import batch_handler, item_handler
from servestream_client.server.item_workers import ItemWorkers

pytestmark = pytest.mark.usefixtures("quick_code")


@pytest.fixture(autouse=True)
async def no_worker_stays():
    yield
    await until(lambda: not workers_running())


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
    run = attempt.session.intake.next_run(9)
    attempt.session.half_close()
    await handler_of(name).handle(Call(bystander), [Part(attempt, run)])
    assert attempt.session.next_frame() is None
    assert attempt.session.intake.next_run(9) is None


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
