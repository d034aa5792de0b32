"""Cancellation at every await point, under many schedules."""

import pytest
from effort import effort

from simulation.sweep import Victim, sweep

pytestmark = pytest.mark.timeout(effort(300, 3600))

SEEDS = range(1, effort(3, 100))


# AnyIO starts a task's code in a wrapper; Python reports code whose wrapper is cancelled before it.
@pytest.mark.filterwarnings("ignore:coroutine '_Exchange._write' was never awaited")
@pytest.mark.parametrize("victim", list(Victim), ids=lambda victim: victim.name.lower())
def test_nothing_is_left_wherever_it_strikes(victim):
    steps = 0
    for seed in SEEDS:
        swept = sweep(seed, victim)
        steps += swept.steps
        assert not swept.outcomes, {
            (seed, at): outcome.violations for at, outcome in swept.outcomes.items()
        }
    assert steps > len(SEEDS)
