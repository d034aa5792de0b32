"""What is shown while runs go on, and in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from servestream_client.protocol.states import ClientState
from simulation.books import OLD_ATTEMPT
from simulation.counting import COUNTED
from simulation.faults import FAULT_NAMES

__all__ = ["Report", "Summary", "Tally"]

PLAIN_WIDTH = 160
"""Of a table that goes into a file."""

SHOWN_SEEDS = 10
"""That failed, at the end."""

STATES: Sequence[str] = (*(state.name for state in ClientState), OLD_ATTEMPT)


class Summary(Protocol):
    """What is kept of an outcome."""

    @property
    def seed(self) -> int: ...
    @property
    def faults(self) -> Mapping[tuple[str, str], int]: ...
    @property
    def items(self) -> int: ...
    @property
    def many(self) -> Mapping[str, int]: ...
    @property
    def attempts(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def violations(self) -> Sequence[str]: ...


class Tally:
    """Sums over runs."""

    def __init__(self) -> None:
        self.seeds: int = 0
        self.items: int = 0
        self.attempts: int = 0
        self.seconds: float = 0.0
        self.faults: Counter[tuple[str, str]] = Counter()
        self.many: Counter[str] = Counter()
        self.failed: dict[int, Sequence[str]] = {}

    def add(self, summary: Summary) -> None:
        """Count a run in."""
        self.seeds += 1
        self.items += summary.items
        self.attempts += summary.attempts
        self.seconds += summary.seconds
        self.faults.update(summary.faults)
        self.many.update(summary.many)
        if summary.violations:
            self.failed[summary.seed] = summary.violations

    def to_json(self, commit: str, elapsed: float) -> dict[str, Any]:
        """For a file."""
        return {
            "commit": commit,
            "seeds": self.seeds,
            "elapsed_seconds": round(elapsed, 3),
            "virtual_seconds": round(self.seconds, 3),
            "answers": self.items,
            "attempts": self.attempts,
            "many": {name: self.many[name] for name in COUNTED},
            "faults": {
                kind: {state: self.faults[kind, state] for state in STATES} for kind in FAULT_NAMES
            },
            "violations": {str(seed): list(texts) for seed, texts in sorted(self.failed.items())},
        }


class Report:
    """A progress bar and colours on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        if console is None and not self._console.is_terminal:
            self._console.width = PLAIN_WIDTH

    def line(self, text: str) -> None:
        self._console.print(escape(text), soft_wrap=True)

    @contextmanager
    def progress(self, seeds: int) -> Iterator[Progress | None]:
        """A bar of the seeds done; None where nobody looks at one."""
        if not self._console.is_terminal:
            yield None
            return
        columns = (
            TextColumn("simulating"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as progress:
            progress.add_task("seeds", total=seeds)
            yield progress

    def violations(self, summary: Summary, lines: Sequence[str], commit: str) -> None:
        """What went wrong in a run, and how to see it again."""
        self._console.print(
            f"[red]seed {summary.seed} broke a promise[/] (commit {escape(commit)})"
        )
        for text in summary.violations:
            self.line(f"  {text}")
        if lines:
            self.line("  the last that happened:")
        for each in lines:
            self.line(f"  {each}")
        self.line(f"  replay: python -m simulation --seed {summary.seed} --trace")

    def table(self, tally: Tally) -> None:
        """Faults by kind and by the state that they met a client in; what was never met as well."""
        table = Table(title="faults injected, by the state of the client's attempt")
        table.add_column("fault")
        for state in STATES:
            table.add_column(state, justify="right")
        table.add_column("all", justify="right")
        for kind in FAULT_NAMES:
            counts = [tally.faults[kind, state] for state in STATES]
            table.add_row(kind, *map(_cell, counts), _cell(sum(counts)))
        self._console.print(table)

    def total(self, tally: Tally, elapsed: float) -> None:
        """The sums."""
        failed = f"[red]{len(tally.failed)} failed[/]" if tally.failed else "[green]none failed[/]"
        self._console.print(
            f"{tally.seeds} seeds, {failed}: {tally.items} answers, {tally.attempts} attempts,"
            f" {sum(tally.faults.values())} faults, {tally.seconds / 3600:.1f} virtual hours in"
            f" {elapsed:.1f} s ({tally.seeds / max(elapsed, 1e-9):.0f} seeds/s)"
        )
        counts = ", ".join(f"{name}: {tally.many[name]}" for name in COUNTED)
        self.line(f"besides: {counts}")

    def failed(self, tally: Tally) -> None:
        """The seeds that failed, once more, at the end, since often only that is kept of a log."""
        for seed, texts in sorted(tally.failed.items())[:SHOWN_SEEDS]:
            self.line(f"seed {seed} broke a promise: {texts[0]}")
            self.line(f"  replay: python -m simulation --seed {seed} --trace")


def _cell(count: int) -> str:
    return str(count) if count else "[yellow]0[/]"
