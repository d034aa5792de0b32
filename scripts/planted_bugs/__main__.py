"""Plant bugs, one at a time, in a copy of the code, and see that a test catches each.

A test suite that cannot fail proves nothing. Every bug here is a replacement of one piece of text
by another; when the code has moved on and that piece is gone, or stands there twice, the bug must
be planted anew. Each names the test that is to fail, or to hang: with no bug planted it passes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from enum import Enum
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import track
from rich.table import Table

from .bug import LEFT_OUT, PACKAGE, ROOT, Bug
from .bugs import BUGS, as_markdown

TEST_SECONDS = 10
"""A test that hangs has noticed the bug as well; its process is ended then."""

RUN_SECONDS = 120
"""The same for whatever hangs outside of tests, beside what the tests themselves may take."""


class Outcome(Enum):
    """What became of a run of tests."""

    PASSED = "missed"
    FAILED = "caught"
    HUNG = "caught, by a test that hangs"


def run_tests(nodes: Sequence[str], bug: Bug | None = None) -> Outcome:
    """Run tests in a copy of the code, with a bug planted or without."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory)
        for name in (PACKAGE, "tests"):
            ignored = shutil.ignore_patterns(*LEFT_OUT)
            shutil.copytree(ROOT / name, copy / name, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", copy)
        if bug is not None:
            bug.plant(copy / PACKAGE)
        limit = (f"--timeout={TEST_SECONDS}", "--timeout-method=thread")
        try:
            run = subprocess.run(
                [
                    *(sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no"),
                    *("-p", "no:cacheprovider", "-p", "no:randomly", *limit),
                    *nodes,
                ],
                cwd=copy,
                # The copy stands before what is installed; were it not so, all would be missed.
                env={**os.environ, "PYTHONPATH": directory},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=RUN_SECONDS + TEST_SECONDS * len(nodes),
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Outcome.HUNG
    if run.returncode == pytest.ExitCode.OK:
        return Outcome.PASSED
    if run.returncode != pytest.ExitCode.TESTS_FAILED:
        raise SystemExit(f"{bug.name if bug else 'nothing planted'}: no test ran\n{run.stdout}")
    if bug is None:
        print(run.stdout)
    return Outcome.HUNG if "+ Timeout +" in run.stdout else Outcome.FAILED


def summary(bugs: Iterable[Bug], missed: Iterable[Bug]) -> Table:
    """How many bugs were planted in each file, and missed."""
    planted, lacking = Counter(b.path for b in bugs), Counter(b.path for b in missed)
    table = Table("in", "planted", "caught", "missed")
    for path, count in planted.items():
        table.add_row(path, str(count), str(count - lacking[path]), str(lacking[path] or ""))
    table.add_section()
    total, left = planted.total(), lacking.total()
    table.add_row("all", str(total), str(total - left), str(left or ""))
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="plant only bugs whose name has this")
    parser.add_argument(
        "--check", action="store_true", help="only see that each still has its place, and its test"
    )
    parser.add_argument("--markdown", action="store_true", help="only print the table of all")
    parser.add_argument("--jobs", type=int, default=2, help="test runs at a time")
    options = parser.parse_args()
    if options.markdown:
        print(as_markdown())
        return 0
    console = Console(highlight=False, soft_wrap=True)
    bugs = [bug for bug in BUGS if options.only in bug.name]
    if not bugs:
        parser.error(f"no bug has {options.only!r} in its name")
    stale = [(bug, bug.stale) for bug in bugs if bug.stale]
    for bug, why in stale:
        console.print(f"{bug.name}: {why}", style="red", markup=False)
    if stale or options.check:
        return 1 if stale else 0
    began = time.monotonic()
    with console.status("the tests, with nothing planted"):
        unbroken = run_tests(sorted({bug.node for bug in bugs}))
    if unbroken is not Outcome.PASSED:
        why = "these tests hang" if unbroken is Outcome.HUNG else "these tests fail"
        console.print(f"{why} although nothing is planted", style="red")
        return 1
    missed: list[Bug] = []
    pool = ThreadPoolExecutor(options.jobs)
    try:
        runs = {pool.submit(run_tests, [bug.node], bug): bug for bug in bugs}
        for run in track(as_completed(runs), "planted", total=len(bugs), console=console):
            bug, outcome = runs[run], run.result()
            if outcome is Outcome.PASSED:
                missed.append(bug)
            console.print(f"{bug.name} ({bug.path}): {outcome.value}")
    finally:
        pool.shutdown(cancel_futures=True)
    console.print(summary(bugs, missed))
    for bug in missed:
        console.print(f"missed: {bug.name} ({bug.path}), by {bug.node}", style="red", markup=False)
    console.print(f"{len(missed)} of {len(bugs)} missed, in {time.monotonic() - began:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
