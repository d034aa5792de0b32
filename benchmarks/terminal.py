"""What is shown while it runs, and in the end."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.bench import Suite
from benchmarks.console import Lines
from benchmarks.goals import figure, goal
from benchmarks.results import Measurement, Record
from benchmarks.statistics import summarise

PLAIN_WIDTH = 140
"""Of a table that goes into a file."""


class Terminal(Lines):
    """A spinner and colours on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(console, width=PLAIN_WIDTH)

    def headline(self, text: str) -> None:
        self._console.print(f"[bold]{escape(text)}[/]")

    def measured(self, record: Record, measurement: Measurement) -> None:
        cells = row(record, measurement)
        spread = f"({cells['spread']})" if cells["spread"] else ""
        wanted = f" goal {cells['goal']}" if cells["goal"] else ""
        self._console.print(
            f"  {escape(measurement.name)}: [bold]{cells['median']}[/] {spread}{wanted}"
            f" {_coloured(cells['mark'])}"
        )

    def suites(self, suites: Sequence[Suite]) -> None:
        """A table of what can be measured."""
        table = Table(box=None, pad_edge=False)
        for head in ("suite", "modes", "what is measured"):
            table.add_column(head)
        for suite in suites:
            table.add_row(suite.name, ", ".join(suite.modes), suite.about)
        self._console.print(table)

    def summary(self, records: Sequence[Record]) -> None:
        """A table of all figures, with their goals."""
        if not records:
            return
        table = Table(title="ours over raw: median of the rounds, lowest to highest")
        for head in ("suite", "mode", "figure"):
            table.add_column(head)
        for head in ("median", "spread", "goal"):
            table.add_column(head, justify="right")
        table.add_column("")
        for record in records:
            for each in record.measurements:
                cells = row(record, each)
                table.add_row(
                    record.suite,
                    record.mode,
                    escape(each.name),
                    cells["median"],
                    cells["spread"],
                    cells["goal"],
                    _coloured(cells["mark"]),
                )
            table.add_section()
        self._console.print(table)


def row(record: Record, measurement: Measurement) -> dict[str, str]:
    """The cells of a figure, as text."""
    summary = summarise(measurement.values)
    wanted = goal(record.suite, measurement.name, record.mode)
    median = figure(summary.median, measurement.unit)
    several = summary.rounds > 1
    mark = "" if wanted is None else "reached" if wanted.reached(summary.median) else "missed"
    return {
        "median": median,
        "spread": f"{figure(summary.low, measurement.unit)} to"
        f" {figure(summary.high, measurement.unit)}"
        if several
        else "",
        "goal": "" if wanted is None else wanted.text(measurement.unit),
        "mark": mark,
    }


def _coloured(mark: str) -> str:
    colour = {"reached": "green", "missed": "red"}.get(mark)
    return f"[{colour}]{mark}[/]" if colour else mark
