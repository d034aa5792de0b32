"""What is said of a few rounds: their median, and how far they lie apart."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Summary(NamedTuple):
    """Of the values of all rounds: their median, the lowest and the highest, and the quartiles."""

    median: float
    low: float
    lower_quartile: float
    upper_quartile: float
    high: float
    rounds: int


def summarise(values: Sequence[float]) -> Summary:
    """
    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("nothing was measured")
    lower, upper = values[0], values[0]
    if len(values) > 1:
        lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return Summary(statistics.median(values), min(values), lower, upper, max(values), len(values))


def ratios(ours: Sequence[float], raw: Sequence[float]) -> list[float]:
    """Round by round: ours over raw.

    Raises:
        ValueError: not as many of the one as of the other, or a raw value that is not positive.
    """
    if len(ours) != len(raw):
        raise ValueError(f"{len(ours)} rounds of ours and {len(raw)} of the raw stub")
    if any(value <= 0 for value in raw):
        raise ValueError("a ratio to nothing")
    return [mine / theirs for mine, theirs in zip(ours, raw, strict=True)]


def brief(value: float) -> str:
    """A figure with about three digits that count: 0.123, 1.23, 12.3, 123."""
    if value == 0:
        return "0"
    digits = 3 if abs(value) < 1 else 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:,.{digits}f}"
