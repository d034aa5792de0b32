"""The command line."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from command_line import parser, positive
from simulation.pool import SHOWN_LINES, results
from simulation.report import Report, Tally
from simulation.run import simulate

ROOT = Path(__file__).resolve().parents[1]

SHOWN_FAILURES = 5
"""Runs that are shown in full."""

DEFAULT_SEEDS = 1000
ENDLESS = 10**9
"""Seeds, where only the time is limited."""

_EPILOG = """\
examples:
  python -m simulation --seeds 10000              ten thousand seeds on all cores
  python -m simulation --seeds 500 --first 70000  others
  python -m simulation --seconds 600              as many as fit into ten minutes
  python -m simulation --seed 4711 --trace        one run again, and everything that happened in it

A run is a function of its seed and of the code: the same commit replays it exactly, on any machine.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate what was asked for. Returns the process's exit code."""
    options = _parser().parse_args(arguments)
    report = Report()
    if options.seed is not None:
        return _replay(options.seed, report, traced=options.trace)
    count = options.seeds or (DEFAULT_SEEDS if options.seconds is None else ENDLESS)
    seeds = range(options.first, options.first + count)
    tally, began = Tally(), time.monotonic()
    try:
        _simulate_all(seeds, options.jobs, options.seconds, tally, report)
    except KeyboardInterrupt:
        report.line("interrupted")
    elapsed = time.monotonic() - began
    report.table(tally)
    report.total(tally, elapsed)
    report.failed(tally)
    if options.json:
        text = json.dumps(tally.to_json(_commit(), elapsed), indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")
    return 1 if tally.failed else 0


def _simulate_all(
    seeds: range, jobs: int, limit: float | None, tally: Tally, report: Report
) -> None:
    ends = None if limit is None else time.monotonic() + limit
    with report.progress(len(seeds)) as progress, closing(results(seeds, jobs)) as all_results:
        for result in all_results:
            tally.add(result)
            if progress is not None:
                progress.advance(progress.task_ids[0])
            if result.violations and len(tally.failed) <= SHOWN_FAILURES:
                report.violations(result, result.lines, _commit())
            if ends is not None and time.monotonic() >= ends:
                return


def _replay(seed: int, report: Report, *, traced: bool) -> int:
    outcome = simulate(seed)
    if traced:
        for line in outcome.trace.lines():
            report.line(line)
    report.line(
        f"seed {seed}: digest {outcome.digest}, {outcome.items} answers, {outcome.attempts}"
        f" attempts, {outcome.seconds:.3f} virtual seconds"
    )
    for (kind, state), count in sorted(outcome.faults.items()):
        report.line(f"  {count} x {kind}, client {state}")
    if outcome.violations:
        lines = () if traced else outcome.trace.lines(SHOWN_LINES)
        report.violations(outcome, lines, _commit())
    return 1 if outcome.violations else 0


def _commit() -> str:
    """Which code this is, as far as git knows."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],  # noqa: S607
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()


def _parser() -> argparse.ArgumentParser:
    made = parser(
        "simulation",
        "Play scenarios of client, servers and a faulty network on virtual time, and check the"
        " promises.",
        _EPILOG,
    )
    made.add_argument(
        "--seeds",
        type=positive,
        default=None,
        metavar="N",
        help="how many; without --seconds, 1000",
    )
    made.add_argument("--first", type=int, default=0, metavar="F", help="the first of them")
    made.add_argument("--seed", type=int, metavar="S", help="only this one")
    made.add_argument(
        "--jobs", type=positive, default=os.cpu_count() or 1, metavar="J", help="processes"
    )
    made.add_argument(
        "--seconds", type=float, metavar="LIMIT", help="begin no further runs after so long"
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="where to write the sums")
    made.add_argument("--trace", action="store_true", help="with --seed: show all that happened")
    return made


if __name__ == "__main__":
    sys.exit(main())
