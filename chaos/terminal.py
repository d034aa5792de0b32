"""What is shown while it runs, and in the end."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.console import Lines, Say
from chaos.pauses import Quantiles
from chaos.report import Report

__all__ = ["Say", "Terminal"]

PLAIN_WIDTH = 120
"""Of a table that goes into a file."""
MOST_VIOLATIONS = 20
"""That are shown."""


class Terminal(Lines):
    """The same with a report."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(console, width=PLAIN_WIDTH)

    def report(self, report: Report) -> None:
        """Everything about one run."""
        self._console.print(_figures(report))
        self._console.print(_pauses(report))
        for note in report.notes:
            self.line(note)
        for failed in report.deployments_failed:
            self.line(f"a deployment did not come about: {failed}")
        for violation in report.violations[:MOST_VIOLATIONS]:
            self.problem(str(violation))
            for name, value in violation.state.items():
                self.line(f"    {name} = {value}")
        for left in report.leftovers:
            self.problem(f"left: {left}")
        verdict = "[green]no violation[/]" if report.good else "[red]violations[/]"
        self._console.print(f"{escape(report.name)}: {verdict}")


def _figures(report: Report) -> Table:
    totals = report.totals
    faults = ", ".join(f"{kind} {number}" for kind, number in sorted(report.faults.items()))
    wrong = ", ".join(f"{kind} {number}" for kind, number in report.violation_counts.items())
    rows = [
        ("seed", str(report.seed)),
        ("watchdog", "yes" if report.watchdog else "no"),
        ("seconds", f"{report.seconds:.1f}"),
        ("faults", f"{len(report.fired)}: {faults}"),
        ("processes killed", str(report.kills)),
        ("streams", f"{totals.streams:,}"),
        ("items", f"{totals.items:,} ({report.rate:,.0f}/s)"),
        ("predict calls", f"{totals.predictions:,}"),
        ("attempts, resumes", f"{totals.attempts:,}, {totals.resumes:,}"),
        ("replayed inputs", f"{totals.replayed:,}"),
        ("duplicates dropped", f"{totals.duplicates:,}"),
        ("replicas that answered", str(len(totals.by_pid))),
        ("versions that answered", str(len(totals.by_version))),
        ("streams over a redeploy", str(totals.changed_version)),
        ("violations", wrong or "0"),
        ("leftovers", str(len(report.leftovers)) if report.leftovers else "none"),
    ]
    table = Table(title=report.name, show_header=False, title_justify="left")
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, escape(value))
    return table


def _pauses(report: Report) -> Table:
    table = Table(title="pauses in seconds", title_justify="left")
    table.add_column("of")
    for head in ("number", "p50", "p90", "p99", "max"):
        table.add_column(head, justify="right")
    for name, values in _rows(report):
        seconds = (values.p50, values.p90, values.p99, values.max)
        table.add_row(escape(name), f"{values.count:,}", *(f"{each:.3f}" for each in seconds))
    return table


def _rows(report: Report) -> Sequence[tuple[str, Quantiles]]:
    after = [(f"a stream's longest after {k}", v) for k, v in report.pauses_after.items()]
    return [("any result", report.pauses), ("a predict call", report.calls), *after]
