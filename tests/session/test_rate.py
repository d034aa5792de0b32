"""How fast somebody answers."""

import pytest

from servestream_client.session.rate import Rate


def test_nothing_is_known_at_first():
    assert Rate().value == 0


def test_only_the_time_in_which_something_is_owed_counts():
    rate = Rate()
    for begin in (0.0, 100.0, 1000.0):
        rate.owes(begin)
        rate.answered(5, begin + 0.5, all_done=True)
    assert rate.value == pytest.approx(10)


def test_it_follows_what_changes():
    rate, now = Rate(), 0.0
    rate.owes(now)
    for each in (100, 10):
        for _ in range(100):
            now += 0.1
            rate.answered(each // 10, now, all_done=False)
        assert rate.value == pytest.approx(each, rel=0.05)


def test_asking_again_changes_nothing():
    rate = Rate()
    rate.owes(0.0)
    rate.owes(9.0)
    rate.answered(10, 10.0, all_done=True)
    assert rate.value == pytest.approx(1)


def test_the_first_answers_say_nothing_yet():
    """They come in a burst, and nobody knows how long those had waited."""
    rate = Rate()
    rate.owes(0.0)
    rate.answered(4, 0.01, all_done=False)
    assert rate.value == 0
    rate.answered(4, 0.05, all_done=False)
    assert rate.value == 0
    rate.answered(12, 0.25, all_done=False)
    assert rate.value == pytest.approx(80)
