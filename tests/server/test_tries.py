"""A batch that failed or did not end: its inputs one by one, in one item timeout together."""

import asyncio
import random

import pytest
from attempts import FakeAttempt

from servestream_client import BytesCodec
from servestream_client.errors import ItemErrorKind
from servestream_client.server.batch_workers import BatchWorkers
from servestream_client.server.calls import GRACE_SECONDS
from servestream_client.server.handlers import batch_handler
from servestream_client.server.tries import Tries
from simulation.loop import VirtualLoop

TIMEOUT, HANDLER = ItemErrorKind.TIMEOUT, ItemErrorKind.HANDLER
LIMIT = 0.5
COUNT = 16


def served(predict_batch, count: int = COUNT, limit: float = LIMIT):
    """What becomes of a batch, and how many virtual seconds after it came."""

    async def main():
        workers = BatchWorkers(
            batch_handler(predict_batch, BytesCodec(), 1),
            places=1,
            max_batch=count,
            batch_wait=0.0,
        )
        stream = FakeAttempt(workers)
        stream.may_take(limit)
        began = loop.time()
        stream.send(*(b"%d" % n for n in range(count)))
        while not stream.done and not stream.left:
            await asyncio.sleep(0.001)
        took = loop.time() - began
        if workers._tasks:
            await asyncio.wait(workers._tasks)
        return stream, took

    loop = VirtualLoop(random.Random(1), limit=7200.0)
    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


def sleeper(seconds: dict[bytes, float], *, fails: bool = False, cleanup: float = 0.0, quick=0.01):
    calls = []

    async def predict_batch(items):
        calls.append(items)
        if fails and len(items) > 1:
            raise ValueError("one of these")
        try:
            await asyncio.sleep(max(seconds.get(item, quick) for item in items))
        except asyncio.CancelledError:
            await asyncio.sleep(cleanup)
            raise
        return [item + b"!" for item in items]

    predict_batch.calls = calls
    return predict_batch


@pytest.mark.parametrize("cleanup", [0.0, 0.02])
@pytest.mark.parametrize("place", [0, 7, 15])
async def test_one_that_hangs_among_quick_ones_fails_alone(place, cleanup):
    stream, took = await asyncio.to_thread(
        served, sleeper({b"%d" % place: 3600.0}, cleanup=cleanup)
    )
    expected = [b"%d!" % n for n in range(COUNT)]
    expected[place] = TIMEOUT
    assert stream.outputs == expected
    assert took <= 2 * LIMIT + GRACE_SECONDS
    assert "did not end in the time left to try it alone" in stream.texts[place + 1]


@pytest.mark.parametrize("hanging", [2, 3, 5])
async def test_several_that_hang_leave_the_others_time(hanging):
    slow = {b"%d" % n: 3600.0 for n in range(hanging)}
    stream, took = await asyncio.to_thread(served, sleeper(slow, quick=0.005))
    assert stream.outputs == [TIMEOUT] * hanging + [b"%d!" % n for n in range(hanging, COUNT)]
    assert took <= 2 * LIMIT + GRACE_SECONDS


async def test_none_ends_and_each_is_told_why():
    stream, took = await asyncio.to_thread(served, sleeper({}, quick=3600.0))
    assert stream.outputs == [TIMEOUT] * COUNT
    assert took <= 2 * LIMIT + GRACE_SECONDS
    assert stream.left == []
    assert "longer than the 0.5 s" in stream.texts[1]


async def test_what_fails_at_once_and_is_slow_alone_is_answered_as_far_as_there_is_time():
    stream, took = await asyncio.to_thread(served, sleeper({}, fails=True, quick=0.09))
    answered = [output for output in stream.outputs if output is not TIMEOUT]
    assert len(answered) >= 2
    assert TIMEOUT in stream.outputs
    assert "ValueError: one of these" in stream.texts[COUNT]
    assert "did not end in the time left" in stream.texts[COUNT]
    assert took <= 2 * LIMIT + GRACE_SECONDS


async def test_a_slow_one_among_quick_ones_is_answered_alone():
    stream, _ = await asyncio.to_thread(served, sleeper({b"0": 0.3}, fails=True, quick=0.002))
    assert stream.outputs == [b"%d!" % n for n in range(COUNT)]


async def test_cleaning_up_is_no_further_time():
    """It is cancelled at its end, and cleans up for almost as long as it may."""
    code = sleeper({b"3": 3600.0}, cleanup=0.9 * GRACE_SECONDS)
    stream, took = await asyncio.to_thread(served, code)
    assert took <= 2 * LIMIT + GRACE_SECONDS
    assert stream.left == []


async def test_one_that_will_not_be_cancelled_alone_costs_no_answers_of_the_others():
    async def predict_batch(items):
        if len(items) > 1:
            raise ValueError("one of these")
        ends = asyncio.get_running_loop().time() + (5.0 if items == [b"5"] else 0.001)
        while (left := ends - asyncio.get_running_loop().time()) > 0:
            try:
                await asyncio.sleep(left)
            except asyncio.CancelledError:
                continue
        return items

    stream, took = await asyncio.to_thread(served, predict_batch)
    assert stream.left == []
    assert stream.outputs[:6] == [b"0", b"1", b"2", b"3", b"4", TIMEOUT]
    assert set(stream.outputs[6:]) == {TIMEOUT}
    assert "did not end" in stream.texts[6]
    assert "no time was left" in stream.texts[7]
    assert took <= 2 * LIMIT + GRACE_SECONDS


async def test_without_a_limit_all_are_tried():
    stream, took = await asyncio.to_thread(served, sleeper({}, fails=True, quick=1.0), limit=0.0)
    assert stream.outputs == [b"%d!" % n for n in range(COUNT)]
    assert took >= COUNT


def test_turns_never_go_beyond_the_end():
    rng = random.Random(7)
    for _ in range(200):
        tries = Tries(rng.randrange(1, 20), until=1.0, shared=rng.random() < 0.7, reason="")
        now = 0.0
        while (turn := tries.next(now)) is not None:
            assert now < turn.until <= 1.0
            if rng.random() < 0.5:
                tries.cut_off(turn, now)
                now = turn.until
            else:
                now += rng.random() * (turn.until - now)


def test_what_cannot_be_cut_off_has_all_the_time():
    tries = Tries(3, until=10.0, shared=False, reason="")
    assert [tries.next(now) for now in (0.0, 4.0, 9.0)] == [(0, 10.0), (1, 10.0), (2, 10.0)]
    assert tries.next(9.5) is None


def test_what_was_cut_off_is_tried_again_if_there_is_more_time_than_it_had():
    tries = Tries(2, until=1.0, shared=True, reason="")
    first = tries.next(0.0)
    assert first == (0, 0.25)
    tries.cut_off(first, 0.0)
    second = tries.next(0.25)
    assert second.position == 1
    assert tries.next(0.3) == (0, 1.0)
    assert tries.next(0.3) is None
    tries = Tries(2, until=1.0, shared=True, reason="")
    tries.cut_off(tries.next(0.0), 0.0)
    tries.next(0.25)
    assert tries.next(0.8) is None
