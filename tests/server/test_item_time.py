"""What is said of how long an item takes, while a handler warms up and later."""

import pytest

from servestream_client.server.item_time import ItemTime


def told(*calls: tuple[float, float]) -> float:
    """Of calls, by when they began, and what they took; in the order of their ends."""
    time = ItemTime()
    for began, seconds in sorted(calls, key=sum):
        time.took(seconds, began=began, ended=began + seconds)
    return time.value


@pytest.mark.parametrize(
    ("calls", "value"),
    [
        ([(0, 0.015)], 0),  # perhaps it warmed up
        ([(0, 0.2)], 0.2),
        ([(0, 0.015), (1, 0.0001)], 0.0001),
        ([(0, 0.2), (1, 0.0001)], 0.0001),
        ([(0, 0.0001), (1, 0.015)], 0.0001),
    ],
)
def test_a_first_call_that_is_slow_makes_no_slow_handler(calls, value):
    assert told(*calls) == value


def test_calls_that_wait_for_one_import_are_first_ones_all():
    cold = [(0.0, 0.015 + n / 1000) for n in range(5)]
    assert told(*cold) == 0
    assert told(*cold, (1, 0.0001)) == 0.0001
    slow = [(0.0, 0.3 + n / 1000) for n in range(16)]
    assert told(*slow) == 0.3
    assert told(*slow, (1, 0.0001)) == 0.0001


def test_later_ones_are_averaged():
    quick = [(n, 0.1) for n in range(5)]
    assert told(*quick) == 0.1
    assert told(*quick, (9, 0.3)) == pytest.approx(0.12)
    assert told(*quick, *((n, 0.3) for n in range(9, 60))) == pytest.approx(0.3, rel=0.01)
