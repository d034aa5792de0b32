"""Tests that the simulation finds code that is broken on purpose."""

import pytest

from simulation.run import Outcome, simulate

__all__ = ["broken", "first_violation"]


def broken(test):
    """For a test of broken code, which leaves tasks that nobody ends."""
    unraisable = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    return pytest.mark.loop_errors(unraisable(test))


def first_violation(text: str = "", most: int = 300, *, first: int = 0, **kind: bool) -> Outcome:
    """The first run that breaks a promise in such words; `first` is a seed shortly before one, and
    `kind` as for `simulate`.
    """
    for seed in range(first, first + most):
        outcome = simulate(seed, **kind)
        if any(text in each for each in outcome.violations):
            return outcome
    pytest.fail(f"{most} seeds found nothing of this kind")
