"""An `async def predict`: only what waits is waited for."""

import asyncio

import pytest
from attempts import FakeAttempt, until, workers_running
from handling import (
    HANDLER,
    PLACES,
    Bystander,
    Picky,
    after_a_while,
    answers_of,
    at_once,
)
from single_inputs import next_input

from servestream_client import BytesCodec
from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.frames import Credit, StreamErrorKind
from servestream_client.server.calls import Call, Part
from servestream_client.server.handlers import item_handler
from servestream_client.server.item_workers import ItemWorkers

pytestmark = pytest.mark.usefixtures("quick_code")


@pytest.fixture(autouse=True)
async def no_worker_stays():
    yield
    await until(lambda: not workers_running())


async def test_inputs_that_need_not_wait_are_handled_in_one_go():
    bystander = Bystander()
    attempt = FakeAttempt(bystander)
    attempt.send(b"a", b"b", b"c")
    handler = item_handler(at_once, BytesCodec(), PLACES)
    await handler.handle(Call(bystander), [Part(attempt, attempt.session.intake.next_run(9))])
    assert bystander.suspensions == 0
    assert attempt.session.intake.startable_inputs == 0
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
    run = attempt.session.intake.next_run(9)
    handling = asyncio.ensure_future(handler.handle(Call(bystander), [Part(attempt, run)]))
    await until(lambda: bystander.suspensions == 1)
    assert (run.first, run.last) == (1, 2)
    assert attempt.session.intake.startable_inputs == 3
    assert next_input(attempt.session).number == 3
    assert next_input(attempt.session).number == 4
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
