"""What was measured, as JSON: a record for each suite and mode, so that parts can be redone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

FORMAT = 1

_NUMBERS = re.compile(r"\[[-+.,\de\s]+\]")
"""Lists of them, which go on a line each."""


class ResultsError(Exception):
    """The results of earlier runs cannot be read."""


class Unit(StrEnum):
    """What the values of a measurement are."""

    TIMES = "x"
    MILLISECONDS = "ms"
    KIBIBYTES = "KiB"
    MEBIBYTES = "MiB"
    PERCENT = "%"
    CPU = "s/million"
    """CPU seconds for a million items."""


@dataclass(kw_only=True)
class Measurement:
    """One figure, measured in several rounds.

    Attributes:
        name: of the figure; unique in its record.
        unit: of the values.
        values: one for each round.
        at: where the figure belongs on the horizontal axis of a plot.
    """

    name: str
    unit: Unit = Unit.TIMES
    values: list[float]
    at: float | None = None


@dataclass(kw_only=True)
class Series:
    """A line of a plot that is no figure.

    Attributes:
        name: of the line; unique in its record.
        x: its places.
        y: its values.
    """

    name: str
    x: list[float]
    y: list[float]


@dataclass(kw_only=True)
class Record:
    """What one run of a suite in a mode has measured.

    Attributes:
        suite: its name.
        mode: likewise.
        quick: whether it was a short run, for trying.
        date: of the run.
        environment: the machine and the versions.
        measurements: the figures.
        samples: what the figures were computed from, round by round, by what was sampled.
        series: lines for plots.
        notes: what else was seen.
    """

    suite: str
    mode: str
    quick: bool
    date: str
    environment: dict[str, str]
    measurements: list[Measurement] = field(default_factory=list)
    samples: dict[str, list[float]] = field(default_factory=dict)
    series: list[Series] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        """Under which the results have it."""
        return f"{self.suite}/{self.mode}"

    def get(self, name: str) -> Measurement | None:
        """A figure by its name."""
        return next((each for each in self.measurements if each.name == name), None)

    def line(self, name: str) -> Series | None:
        """A line by its name."""
        return next((each for each in self.series if each.name == name), None)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        measurements = [
            Measurement(**{**each, "unit": Unit(each["unit"])}) for each in values["measurements"]
        ]
        series = [Series(**each) for each in values["series"]]
        return cls(**{**values, "measurements": measurements, "series": series})


class Results:
    """All records, by `Record.key`."""

    def __init__(self, records: Mapping[str, Record] | None = None) -> None:
        self.records: dict[str, Record] = dict(records or {})

    def get(self, suite: str, mode: str) -> Record | None:
        return self.records.get(f"{suite}/{mode}")

    def add(self, record: Record) -> None:
        """Put a record in the place of the earlier one of its suite and mode."""
        self.records[record.key] = record

    @classmethod
    def load(cls, path: Path) -> Self:
        """The results of earlier runs; none if there is no such file.

        Raises:
            ResultsError: the file is there, and no file of results.
        """
        if not path.exists():
            return cls()
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values["format"] != FORMAT:
                raise ResultsError(f"{path.name} has format {values['format']}, not {FORMAT}")
            records = [Record.from_json(each) for each in values["records"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ResultsError(f"{path.name} is no file of results: {error!r}") from error
        return cls({record.key: record for record in records})

    def save(self, path: Path) -> None:
        """Write them, in an order that does not depend on when they were measured."""
        records = [asdict(self.records[key]) for key in sorted(self.records)]
        text = json.dumps({"format": FORMAT, "records": _rounded(records)}, indent=1)
        text = _NUMBERS.sub(lambda match: " ".join(match[0].split()), text)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")


def _rounded(values: Any) -> Any:  # noqa: ANN401 — JSON
    """Floats with six digits: what lies behind them is noise."""
    if isinstance(values, float):
        return float(f"{values:.6g}")
    if isinstance(values, dict):
        return {key: _rounded(each) for key, each in values.items()}
    if isinstance(values, list):
        return [_rounded(each) for each in values]
    return values
