"""A standstill is counted once a tick in which anything could reach the server."""

from random import Random

import pytest

from servestream_client.protocol.client.standstill import STALLED_BEATS, Standstill
from servestream_client.protocol.frames import BlockedOn, Heartbeat, Running

IDLE = Running(count=0, started_through=9, blocked_on=BlockedOn.NOTHING)
BUSY = Running(count=1, started_through=9, blocked_on=BlockedOn.NOTHING)
BLOCKED = Running(count=0, started_through=9, blocked_on=BlockedOn.CREDIT)


def beats(standstill: Standstill, count: int, *, beat: int = 1, free: bool = True) -> list[bool]:
    found = []
    for _ in range(count):
        found.append(standstill.lasts(Heartbeat(9, beat), IDLE))
        standstill.tick(free=free)
    return found


def test_the_same_standstill_several_times_is_one():
    assert beats(Standstill(), STALLED_BEATS) == [False] * (STALLED_BEATS - 1) + [True]


def test_beats_that_come_together_are_one():
    standstill = Standstill()
    assert not any(standstill.lasts(Heartbeat(9, 1), IDLE) for _ in range(10))
    assert not any(beats(standstill, 10, free=False))


@pytest.mark.parametrize("other", [BUSY, BLOCKED])
def test_work_between_begins_the_count_anew(other):
    standstill = Standstill()
    beats(standstill, STALLED_BEATS - 1)
    assert not standstill.lasts(Heartbeat(9, 1), other)
    assert not any(beats(standstill, STALLED_BEATS - 1))


def test_another_position_begins_the_count_anew():
    standstill = Standstill()
    beats(standstill, STALLED_BEATS - 1)
    assert beats(standstill, STALLED_BEATS, beat=2) == [False] * (STALLED_BEATS - 1) + [True]


@pytest.mark.parametrize("seed", range(20))
def test_no_fewer_free_ticks_than_beats_that_count(seed):
    random = Random(seed)
    standstill = Standstill()
    since = 0  # free ticks since the position changed
    position = 0
    for _ in range(300):
        free = random.random() < 0.5
        standstill.tick(free=free)
        since += free
        if random.random() < 0.1:
            position += 1
            since = 0
        if standstill.lasts(Heartbeat(9, position), IDLE):
            assert since >= STALLED_BEATS - 1
