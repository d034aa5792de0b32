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


def test_one_late_check_changes_no_period():
    assert after(0, 1, 2, 3, 9, 10) == 10 + 2
