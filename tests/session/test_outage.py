"""The clock of an outage, with times given by hand."""

import math

import pytest

from servestream_client.session.outage import Outage
from servestream_client.transport.classify import Decision, Verdict

DOWN = Verdict(Decision.RESUME, "nobody answers")
BUSY = Verdict(Decision.WAIT, "busy")


def test_it_runs_from_the_first_failure_of_a_row():
    outage = Outage(10)
    assert outage.deadline == outage.began == math.inf
    outage.failed(5, DOWN)
    outage.failed(9, BUSY)
    assert (outage.began, outage.deadline, outage.verdict) == (5, 15, BUSY)
    assert not outage.passed(14.9)
    assert outage.passed(15)


def test_it_stands_still_while_a_server_has_the_stream():
    outage = Outage(10)
    outage.failed(0, DOWN)
    outage.welcomed(4)
    assert outage.deadline == math.inf
    assert not outage.passed(1000)
    outage.failed(1000, DOWN)
    assert outage.deadline == 1006
    assert outage.spent(1001) == 5


def test_a_welcome_alone_starts_nothing_afresh():
    outage = Outage(10)
    for cycle in range(5):
        outage.failed(100 * cycle, DOWN)
        outage.welcomed(100 * cycle + 2)
    assert outage.spent(1000) == 10
    outage.failed(1000, DOWN)
    assert outage.passed(1000)


def test_progress_starts_it_afresh():
    outage = Outage(10)
    outage.failed(0, DOWN)
    outage.failed(9, DOWN, progressed=True)
    assert (outage.began, outage.deadline) == (9, 19)
    outage.over()
    assert outage.deadline == outage.began == math.inf


@pytest.mark.parametrize(("silent_for", "deadline"), [(0, 205), (30, 175), (1000, 110)])
def test_silence_at_an_attempts_end_was_no_health(silent_for, deadline):
    outage = Outage(100)
    outage.failed(10, DOWN)
    outage.welcomed(10)
    outage.failed(105, DOWN, silent_for=silent_for)
    assert outage.deadline == deadline


def test_the_first_failure_has_its_patience_whole_however_late_it_was_noticed():
    outage = Outage(10)
    outage.welcomed(0)
    outage.failed(100, DOWN, silent_for=30)
    assert outage.deadline == 110


def test_an_heir_goes_on_where_it_was():
    outage = Outage(10)
    outage.failed(0, DOWN)
    heir = outage.heir(4)
    assert (heir.inherited, heir.began, heir.deadline, heir.verdict) == (True, 0, 10, DOWN)
    heir.over()
    assert not heir.inherited
    assert outage.deadline == 10  # a clock of its own


def test_an_heir_spent_no_more_than_its_inputs_waited():
    outage = Outage(10)
    outage.failed(0, DOWN)
    heir = outage.heir(10, at_most=3)
    assert (heir.began, heir.deadline) == (7, 17)


def test_where_nothing_is_out_nothing_is_inherited():
    outage = Outage(10)
    outage.failed(0, DOWN)
    outage.over()
    heir = outage.heir(4)
    assert (heir.inherited, heir.deadline) == (False, math.inf)


def test_without_a_limit_it_has_no_deadline():
    outage = Outage(math.inf)
    outage.failed(0, DOWN)
    assert outage.deadline == math.inf
    assert not outage.passed(1e12)
