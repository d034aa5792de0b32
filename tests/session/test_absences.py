"""Whether this process was away, by a clock that the test sets."""

import pytest

from servestream_client.session import absence
from servestream_client.session.absence import Absences, Deadline


class Clock:
    now = 100.0


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(absence, "_now", lambda: clock.now)
    return clock


def test_a_timer_in_time_is_no_absence(clock):
    absences = Absences(10.0)
    for _ in range(5):
        absences.expect(5.0)
        clock.now += 5.3
        absences.look()
        assert absences.said == ""


def test_an_absence_is_said_while_it_is_recent(clock):
    absences = Absences(10.0)
    absences.expect(5.0)
    clock.now += 35.0
    assert "for 30.0 s" in absences.said  # before the timer could fire
    absences.look()
    absences.expect(5.0)
    clock.now += 5.0
    absences.look()
    assert "for 30.0 s" in absences.said
    clock.now += 36.0 - 1
    absences.expect(1.0)
    assert "for 30.0 s" in absences.said
    clock.now += 1.1
    assert absences.said == ""


def test_without_heartbeats_nobody_misses_anybody(clock):
    absences = Absences(None)
    clock.now += 1e6
    assert absences.said == ""


class Loop:
    """Takes timers, and lets the test fire them."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.timers: list[tuple[float, object]] = []

    def time(self) -> float:
        return self.clock.now

    def call_at(self, when, callback):
        self.timers.append((when, callback))


async def test_a_deadline_that_fires_late_gives_what_came_meanwhile_its_time(clock, monkeypatch):
    loop = Loop(clock)
    passed = []
    deadline = Deadline(15.0, lambda: passed.append(clock.now))
    with monkeypatch.context() as patched:
        patched.setattr(absence.asyncio, "get_running_loop", lambda: loop)
        deadline.start()
    (when, look) = loop.timers.pop()
    assert when == 115.0
    clock.now = 400.0
    with monkeypatch.context() as patched:
        patched.setattr(absence.asyncio, "get_running_loop", lambda: loop)
        look()
    assert passed == []
    (when, look) = loop.timers.pop()
    assert when == 415.0
    clock.now = 900.0
    look()  # late again: once is enough
    assert passed == [900.0]


async def test_a_deadline_in_time_is_one(clock, monkeypatch):
    loop = Loop(clock)
    passed = []
    deadline = Deadline(15.0, lambda: passed.append(clock.now))
    with monkeypatch.context() as patched:
        patched.setattr(absence.asyncio, "get_running_loop", lambda: loop)
        deadline.start()
    (_, look) = loop.timers.pop()
    clock.now = 115.2
    look()
    assert passed == [115.2]
