"""How long streams stood still, and after which fault."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["Pause", "Pauses", "Quantiles", "quantiles"]

NOTABLE_SECONDS = 0.25
"""Pauses from here on are drawn."""
MOST_NOTABLE = 20_000
_SLACK_SECONDS = 0.5
"""A pause that began so shortly before a fault is due to it: its last answer was not delayed."""


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Of some pauses, in seconds."""

    count: int
    p50: float
    p90: float
    p99: float
    max: float


def quantiles(values: Iterable[float]) -> Quantiles:
    """Zeros where there are no values."""
    ranked = sorted(values)
    if not ranked:
        return Quantiles(0, 0.0, 0.0, 0.0, 0.0)

    def at(share: float) -> float:
        return ranked[min(len(ranked) - 1, int(share * len(ranked)))]

    return Quantiles(len(ranked), at(0.5), at(0.9), at(0.99), ranked[-1])


@dataclass(frozen=True, slots=True)
class Pause:
    """One stream without a result that it wanted.

    Attributes:
        began: seconds since the run began.
        seconds: how long.
        after: the kind of fault before it; empty: none yet.
    """

    began: float
    seconds: float
    after: str


@dataclass(slots=True)
class Pauses:
    """The pauses of all streams of a run.

    A pause goes from when a consumer wanted a result, of an input that had been pulled already,
    until it got one. It is due to the last fault that began before it, or just after.
    """

    notable: list[Pause] = field(default_factory=list)
    _all: array[float] = field(default_factory=lambda: array("d"))
    # The longest of each stream after each fault, since a fault is judged by its worst.
    _worst: dict[tuple[int, int], float] = field(default_factory=dict)
    _faults: list[tuple[float, str]] = field(default_factory=list)

    def fault(self, at: float, kind: str) -> int:
        """A fault begins. Returns its place among all."""
        self._faults.append((at, kind))
        return len(self._faults) - 1

    def longest(self, place: int, stream: int) -> float:
        """How long a stream stood still, at the most, between a fault and the next."""
        return self._worst.get((place, stream), 0.0)

    def note(self, stream: int, began: float, ended: float) -> None:
        """A stream got a result that it had wanted since `began`."""
        seconds = max(0.0, ended - began)
        self._all.append(seconds)
        if seconds < 0.001:
            return  # most results come in runs
        place = len(self._faults) - 1
        while place >= 0 and self._faults[place][0] > began + _SLACK_SECONDS:
            place -= 1
        key = (place, stream)
        if seconds > self._worst.get(key, 0.0):
            self._worst[key] = seconds
        if seconds >= NOTABLE_SECONDS and len(self.notable) < MOST_NOTABLE:
            self.notable.append(Pause(began, seconds, self._faults[place][1] if place >= 0 else ""))

    def overall(self) -> Quantiles:
        """Of all times between two results."""
        return quantiles(self._all)

    def after(self) -> Mapping[str, Quantiles]:
        """By kind of fault: of the longest pause of each stream until the next fault."""
        grouped: dict[str, list[float]] = {}
        for (place, _), seconds in self._worst.items():
            kind = self._faults[place][1] if place >= 0 else "no fault yet"
            grouped.setdefault(kind, []).append(seconds)
        return {kind: quantiles(values) for kind, values in sorted(grouped.items())}
