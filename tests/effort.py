"""How much is done of what only repeats: enough for every change, or what `make test-long` does.

Hypothesis's profile decides, `quick` or `long` (``pytest --hypothesis-profile=long``), also for
tests that draw from seeds of their own.
"""

from __future__ import annotations

from typing import TypeVar

from hypothesis import settings

T = TypeVar("T")

LIMITS = {"quick": 180, "long": 3600}
"""Seconds of one test of Hypothesis. It stops at the limit wherever it is, and then says of the
code under test what is true of the machine: that it is too slow."""

settings.register_profile(
    "quick", max_examples=100, deadline=None, derandomize=True, print_blob=True
)
settings.register_profile("long", settings.get_profile("quick"), derandomize=False)
settings.load_profile("quick")


def effort(quick: T, long: T) -> T:
    """One of these. Called at the top of a module, not in this one or in a conftest."""
    return long if _profile() == "long" else quick


def seconds() -> int:
    """The limit of one test of Hypothesis."""
    return LIMITS.get(_profile(), LIMITS["quick"])


def _profile() -> str:
    return settings.get_current_profile_name()
