"""The one sign that a replica is being stopped: health checks that cease."""

import pytest

from servestream_client.server.departure import HealthChecks


def after(*times: float) -> float | None:
    checks = HealthChecks()
    overdue = None
    for time in times:
        overdue = checks.called(time)
    return overdue


@pytest.mark.parametrize("times", [[0], [0, 10]])
def test_a_few_checks_tell_no_period(times):
    assert after(*times) is None


def test_a_check_is_overdue_half_a_period_late():
    assert after(0, 10, 20) == 20 + 15.5


def test_with_serves_defaults_some_seconds_are_left():
    """A check every 10 s, and 20 s to stop."""
    assert after(0, 10, 20) - 20 < 20 - 3


def test_the_first_checks_come_closer_to_one_another():
    """Ray Serve's own schedule for a new replica: at its start, at once, and then every period."""
    assert after(0, 0.3, 10.3) == 10.3 + 15.5


def test_a_check_that_was_late_makes_the_next_ones_patient():
    assert after(0, 1, 2, 3, 9, 10) == 10 + 9.5
    assert after(0, 1, 2, 3, 9, 10, 11, 12, 13, 14) == 14 + 2
