"""Things by time."""

import asyncio
import gc
import random
import weakref

import pytest

from servestream_client.protocol.runs import Run
from servestream_client.server.agenda import Agenda, Alarm
from servestream_client.server.givenback import GivenBack


class Thing:
    pass


@pytest.mark.parametrize("seed", range(10))
def test_it_is_what_a_sorted_list_is(seed):
    rng = random.Random(seed)
    agenda: Agenda[int] = Agenda()
    model: dict[int, float] = {}
    for _ in range(2000):
        thing, when = rng.randrange(50), rng.random()
        event = rng.randrange(5)
        if event < 2:
            agenda.set(thing, when)
            model[thing] = when
        elif event < 4:
            agenda.discard(thing)
            model.pop(thing, None)
        else:
            due = sorted((at, each) for each, at in model.items() if at <= when / 10)
            assert list(agenda.take(when / 10)) == [each for _, each in due]
            for _, each in due:
                del model[each]
        assert len(agenda) == len(model)
        first = agenda.first()
        assert first == (min(zip(model.values(), model.keys(), strict=True)) if model else None)


def test_what_came_and_went_is_kept_by_nobody():
    agenda: Agenda[Thing] = Agenda()
    agenda.set(Thing(), 0.0)  # which stays, as one call that hangs
    gone = Thing()
    ref = weakref.ref(gone)
    agenda.set(gone, 1.0)
    agenda.discard(gone)
    del gone
    gc.collect()
    assert ref() is None
    for _ in range(10_000):
        thing = Thing()
        agenda.set(thing, 2.0)
        agenda.discard(thing)
    assert len(agenda._heap) < 30


async def test_an_alarm_rings_at_the_earliest_time_it_was_set_to():
    loop, rung = asyncio.get_running_loop(), asyncio.Event()
    alarm = Alarm(rung.set)
    now = loop.time()
    for when in (now + 3600, now + 0.01, now + 7200):
        alarm.set(when)
    assert alarm.when == now + 0.01
    await asyncio.wait_for(rung.wait(), 20)
    assert alarm.when == float("inf")
    alarm.set(loop.time() + 3600)
    alarm.cancel()
    assert alarm.when == float("inf")


def test_what_was_given_back_is_given_out_once_and_in_order():
    rng = random.Random(3)
    for _ in range(200):
        back = GivenBack()
        count = rng.randrange(1, 20)
        back.add(Run(1, [b"%d" % n for n in range(1, count + 1)], 0))
        dropped = {n for n in range(1, count + 1) if rng.random() < 0.3}
        assert set(back.drop(list(range(50)) if not dropped else sorted(dropped))) <= set(
            range(1, count + 1)
        )
        if not dropped:
            assert not back
            continue
        out = []
        while (run := back.take(rng.randrange(1, 5))) is not None:
            out += zip(range(run.first, run.last + 1), run.payloads, strict=True)
        assert out == [(n, b"%d" % n) for n in range(1, count + 1) if n not in dropped]
        assert not back
