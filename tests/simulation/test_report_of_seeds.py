"""What is shown in the end."""

import io
from types import SimpleNamespace

from rich.console import Console

from simulation.report import SHOWN_SEEDS, Report, Tally


def test_seeds_that_failed_are_named_at_the_end():
    tally = Tally()
    for seed in range(2 * SHOWN_SEEDS):
        tally.add(
            SimpleNamespace(
                seed=seed, faults={}, items=1, many={}, attempts=1, seconds=1.0, violations=["lost"]
            )
        )
    shown = io.StringIO()
    Report(Console(file=shown, width=100)).failed(tally)
    lines = shown.getvalue().splitlines()
    assert lines[:2] == [
        "seed 0 broke a promise: lost",
        "  replay: python -m simulation --seed 0 --trace",
    ]
    assert len(lines) == 2 * SHOWN_SEEDS
