"""What came of a run, for people and for machines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from chaos.checker import Violation
from chaos.faults import KILLS
from chaos.nemesis import Fired
from chaos.pauses import Pause, Quantiles
from chaos.streams import Totals

__all__ = ["NODE_DEATH", "Report", "save"]

NODE_DEATH = "node-death"
"""A fault that only two nodes know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run, in one ingress mode or with one scenario.

    Attributes:
        name: of the run: its ingress mode, or its scenario.
        seed: that decided everything.
        seconds: how long there was load.
        watchdog: whether the clients had one.
        totals: of all streams and calls.
        fired: the faults, in order.
        skipped: faults, by kind, for which there was nobody.
        deployments_failed: redeploys that Serve did not bring about. No fault of the client's.
        pauses: of all times between two results.
        pauses_after: of each stream's longest pause after a fault, by its kind.
        calls: how long `predict` took.
        notable: the pauses that can be seen.
        timeline: seconds, and items until then.
        violation_counts: by kind.
        violations: the first of them, in detail.
        leftovers: what is left of the run.
        notes: what else was measured, in words.
    """

    name: str
    seed: int
    seconds: float
    watchdog: bool
    totals: Totals
    fired: Sequence[Fired]
    skipped: Mapping[str, int]
    deployments_failed: Sequence[str]
    pauses: Quantiles
    pauses_after: Mapping[str, Quantiles]
    calls: Quantiles
    notable: Sequence[Pause]
    timeline: Sequence[tuple[float, int]]
    violation_counts: Mapping[str, int]
    violations: Sequence[Violation]
    leftovers: Sequence[str]
    notes: Sequence[str] = field(default=())

    @property
    def good(self) -> bool:
        """Whether nothing happened that must not."""
        return not self.violation_counts and not self.leftovers

    @property
    def faults(self) -> Counter[str]:
        """How many of each kind."""
        return Counter(fault.kind for fault in self.fired)

    @property
    def kills(self) -> int:
        """Processes that got SIGKILL."""
        return sum(number for kind, number in self.faults.items() if kind in (*KILLS, NODE_DEATH))

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.totals.items / self.seconds if self.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        values = asdict(self)
        values |= {"good": self.good, "faults": dict(self.faults), "kills": self.kills}
        return values


def save(reports: Sequence[Report], path: Path, *, options: Mapping[str, Any]) -> None:
    """Write the reports of all runs, and what they were asked to do."""
    values = {"options": dict(options), "runs": [report.to_json() for report in reports]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_rounded(values), indent=1) + "\n", encoding="utf-8")


def _rounded(values: Any) -> Any:  # noqa: ANN401 — JSON
    """Floats to the tenth of a millisecond."""
    if isinstance(values, float):
        return round(values, 4)
    if isinstance(values, dict):
        return {key: _rounded(each) for key, each in values.items()}
    if isinstance(values, list | tuple):
        return [_rounded(each) for each in values]
    return values
