"""Items a second over time, with what was done to the system meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from chaos.report import Report

__all__ = ["draw"]

WIDTH, HEIGHT = 11.0, 5.0
LINE, PAUSE, WRONG = "#0b6e99", "#d9730d", "#c4314b"
COLOURS = {"kill": "#c4314b", "stop": "#9065b0", "redeploy": "#448361", "scale": "#448361"}
OTHER = "#999999"


def draw(reports: Sequence[Report], path: Path) -> None:
    """Write a picture of all runs, one below the other."""
    figure = Figure(figsize=(WIDTH, HEIGHT * len(reports)), dpi=120, layout="constrained")
    rows = figure.subplots(2 * len(reports), 1, squeeze=False, height_ratios=[3, 2] * len(reports))
    for number, report in enumerate(reports):
        _throughput(rows[2 * number][0], report)
        _pauses(rows[2 * number + 1][0], report)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None} if path.suffix == ".png" else None)


def _throughput(axes: Axes, report: Report) -> None:
    points = report.timeline
    times = [(a[0] + b[0]) / 2 for a, b in pairwise(points)]
    rates = [(b[1] - a[1]) / max(1e-9, b[0] - a[0]) for a, b in pairwise(points)]
    axes.plot(times, rates, color=LINE, linewidth=1)
    axes.set_ylim(bottom=0)
    _span(axes, report)
    axes.set_ylabel("items a second")
    axes.set_title(
        f"{report.name}: {report.totals.items:,} items, {len(report.fired)} faults,"
        f" {report.kills} processes killed, {sum(report.violation_counts.values())} violations",
        fontsize=10,
    )
    _marks(axes, report)
    axes.legend(loc="upper left", fontsize=7, ncols=5)
    axes.grid(alpha=0.3)


def _marks(axes: Axes, report: Report) -> None:
    named: set[str] = set()
    for fault in report.fired:
        family = fault.kind.partition("-")[0]
        name = family if family in COLOURS else "network"
        colour = COLOURS.get(family, OTHER)
        axes.axvline(
            fault.at,
            color=colour,
            linewidth=0.8,
            alpha=0.7,
            label=None if name in named else name,
        )
        named.add(name)
    for violation in report.violations:
        axes.plot(violation.seconds, 0, marker="x", color=WRONG)


def _pauses(axes: Axes, report: Report) -> None:
    for pause in report.notable:
        axes.plot(
            [pause.began, pause.began + pause.seconds],
            [pause.seconds, pause.seconds],
            color=PAUSE,
            linewidth=1,
            alpha=0.5,
        )
    axes.set_yscale("log")
    axes.set_xlabel("seconds")
    axes.set_ylabel("pauses of streams,\nseconds")
    _span(axes, report)
    _marks(axes, report)
    axes.grid(alpha=0.3)


def _span(axes: Axes, report: Report) -> None:
    """The same for both, so that what happened stands below what it did."""
    axes.set_xlim(0, max(report.seconds, 1.0))
