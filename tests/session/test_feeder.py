"""Inputs in a thread: no more than allowed, nothing lost, ended in order."""

import asyncio
import threading

import pytest

from servestream_client.errors import InputsError
from servestream_client.session.feeder import InputFeeder
from servestream_client.session.source import InputsFailed

PLENTY = 1_000_000


async def drained(feeder: InputFeeder) -> list:
    items = []
    while (fed := await feeder.fed()).items:
        items += zip(fed.items, fed.payloads, strict=True)
        feeder.allow(PLENTY, PLENTY)
    return items


def started(inputs, *, inputs_allowed=PLENTY, bytes_allowed=PLENTY) -> InputFeeder:
    feeder: InputFeeder[bytes] = InputFeeder(inputs)
    feeder.start(lambda item: b"%d" % item, len)
    feeder.allow(inputs_allowed, bytes_allowed)
    return feeder


async def blocked(feeder: InputFeeder) -> None:
    """Until the thread waits for leave, or has ended."""
    async with asyncio.timeout(20):
        while not feeder._ended and not feeder._turn._waiters:
            await asyncio.sleep(0)


async def test_all_inputs_come_in_order_with_their_payloads():
    feeder = started(range(10_000))
    assert await drained(feeder) == [(number, b"%d" % number) for number in range(10_000)]
    assert feeder.pulled == 10_000


async def test_nothing_is_pulled_before_it_is_allowed():
    pulled = []
    feeder: InputFeeder[bytes] = InputFeeder(pulled.append(n) or n for n in range(10))
    feeder.start(lambda item: b"%d" % item, len)
    assert feeder._thread is None
    assert pulled == []


async def test_no_more_is_pulled_than_allowed():
    feeder = started(range(100), inputs_allowed=3)
    await blocked(feeder)
    assert feeder.pulled == 3
    assert len((await feeder.fed()).items) == 3
    feeder.allow(2, PLENTY)
    await blocked(feeder)
    assert feeder.pulled == 5
    await feeder.aclose()


async def test_bytes_are_bounded_as_well_but_for_the_last_input():
    feeder = started((1000 + n for n in range(100)), bytes_allowed=10)
    await blocked(feeder)
    assert feeder.pulled == 3  # 4, 8, and then 12 bytes
    await feeder.fed()
    feeder.allow(PLENTY, 0)
    await blocked(feeder)
    assert feeder.pulled == 4  # one is always allowed
    await feeder.aclose()


async def test_what_was_taken_in_part_does_not_count_twice():
    """Leave is given beyond what was handed over, not beyond what was pulled."""
    feeder = started(range(100), inputs_allowed=3)
    await blocked(feeder)
    feeder.allow(3, PLENTY)  # of which none was handed over
    await blocked(feeder)
    assert feeder.pulled == 3
    await feeder.aclose()


@pytest.mark.parametrize("error", [ValueError("mine"), SystemExit(1), KeyboardInterrupt()])
async def test_an_error_comes_after_what_was_pulled_before_it(error):
    def inputs():
        yield 1
        yield 2
        raise error

    feeder = started(inputs())
    seen = []
    with pytest.raises(InputsFailed) as caught:
        while True:
            seen += (await feeder.fed()).items
    assert caught.value.error is error
    assert seen == [1, 2]


async def test_closing_runs_a_generators_end_in_its_own_thread():
    threads = []

    def inputs():
        threads.append(threading.current_thread())
        try:
            while True:
                yield 1
        finally:
            threads.append(threading.current_thread())

    feeder = started(inputs(), inputs_allowed=5)
    await blocked(feeder)
    await feeder.aclose()
    assert len(threads) == 2
    assert len(set(threads)) == 1
    assert threads[0] is not threading.current_thread()
    assert not threads[0].is_alive() or feeder._ended


async def test_closing_does_not_wait_for_inputs_that_block():
    entered, go_on = threading.Event(), threading.Event()

    def inputs():
        yield 1
        entered.set()
        go_on.wait(30)
        yield 2

    feeder = started(inputs())
    assert await feeder.fed() == ((1,), (b"1",), 1, False)
    assert await asyncio.to_thread(entered.wait, 30)
    await feeder.aclose()
    assert not feeder._ended
    go_on.set()
    feeder._thread.join(30)
    assert feeder._ended
    assert feeder.pulled <= 2


async def test_closing_before_the_thread_began_closes_the_generator():
    closed = []

    def inputs():
        try:
            yield 1
        finally:
            closed.append(True)

    generator = inputs()
    feeder: InputFeeder[bytes] = InputFeeder(generator)
    feeder.start(lambda item: b"%d" % item, len)
    await feeder.aclose()
    assert list(generator) == []


async def test_an_error_at_the_end_of_a_generator_is_logged(caplog):
    def inputs():
        try:
            while True:
                yield 1
        finally:
            raise ValueError("mine")

    feeder = started(inputs(), inputs_allowed=1)
    await blocked(feeder)
    await feeder.aclose()
    assert "closing the inputs failed" in caplog.text


async def test_inputs_that_are_an_old_kind_of_sequence():
    class Old:
        def __getitem__(self, index):
            if index == 3:
                raise IndexError
            return index

    assert [item for item, _ in await drained(started(Old()))] == [0, 1, 2]


@pytest.mark.parametrize("inputs", [5, None, b"bytes", "text"])
async def test_no_inputs(inputs):
    with pytest.raises(InputsError):
        InputFeeder(inputs)


async def test_bytes_that_are_their_own_payloads_are_handed_over_as_they_are():
    feeder: InputFeeder[bytes] = InputFeeder([b"a", b"bb", bytearray(b"c"), b"too long", b"d"])
    feeder.start(lambda item: b"<%s>" % bytes(item), len, as_is=2)
    feeder.allow(2, PLENTY)
    await blocked(feeder)
    taken = await feeder.fed()
    assert taken == ([b"a", b"bb"], [b"a", b"bb"], 3, True)
    feeder.allow(PLENTY, PLENTY)
    await blocked(feeder)
    taken = await feeder.fed()
    assert [*taken.items] == [b"c", b"too long", b"d"]
    assert [*taken.payloads] == [b"<c>", b"<too long>", b"d"]
    assert (taken.size, taken.as_is) == (3 + 10 + 1, False)
    assert not (await feeder.fed()).items


async def test_of_bytes_too_no_more_is_pulled_than_allowed():
    feeder: InputFeeder[bytes] = InputFeeder(iter([bytes(4)] * 100))
    feeder.start(bytes, len, as_is=PLENTY)
    feeder.allow(PLENTY, 10)
    await blocked(feeder)
    assert feeder.pulled == 3, "4, 8, and then 12 bytes"
    await feeder.aclose()


async def test_nothing_is_lost_between_a_thread_that_hands_over_and_one_that_takes():
    items = [b"%d" % number for number in range(200_000)]
    feeder: InputFeeder[bytes] = InputFeeder(iter(items))
    feeder.start(bytes, len, as_is=PLENTY)
    feeder.allow(PLENTY, PLENTY)
    assert [item for item, _ in await drained(feeder)] == items
