"""Whether this process was away, by a clock that the test sets."""

import pytest

from servestream_client.session import absence
from servestream_client.session.absence import Absences


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
