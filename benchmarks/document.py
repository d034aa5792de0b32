"""The tables in docs/benchmarks.md, written between their markers from the results."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.goals import figure, goal
from benchmarks.results import Measurement, Record, Results
from benchmarks.servers import Mode
from benchmarks.statistics import summarise

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"

HEADS = {Mode.PROXY: "Serve, proxy", Mode.HAPROXY: "Serve, HAProxy", Mode.PLAIN: "no Serve"}

PLOTS = {
    "throughput": "throughput",
    "payloads": "sizes of items",
    "streams": "many streams",
    "latency": "latency",
    "predict": "single requests",
    "pause": "a replica's death",
    "memory": "memory",
    "growth": "long streams",
    "batching": "batches",
}
"""What the plots show, by suite; a plot is there once its suite was measured."""

_TABLE = re.compile(r"(<!-- table: ([a-z]+) -->\n).*?(<!-- end -->)", flags=re.DOTALL)


class DocumentError(Exception):
    """The document has no place for something, or one for something unknown."""


def with_tables(text: str, results: Results, suites: Sequence[str]) -> str:
    """The document with its tables as the results have them.

    Raises:
        DocumentError: its markers are not those of the suites, ``goals`` and ``machine``.
    """
    wanted = {"goals", "machine", *suites}
    found = [match[2] for match in _TABLE.finditer(text)]
    if set(found) != wanted or len(found) != len(wanted):
        raise DocumentError(f"there are places for {sorted(found)}, and not for {sorted(wanted)}")

    def table(match: re.Match[str]) -> str:
        name = match[2]
        if name == "goals":
            lines = list(_goals(results, suites))
        elif name == "machine":
            lines = list(_machine(results))
        else:
            lines = list(_figures(results, name))
            if lines and name in PLOTS:
                lines += ["", f"![{PLOTS[name]}](benchmarks/{name}.png)"]
        return "\n".join([match[1].rstrip(), *(lines or ["Not measured yet."]), match[3]])

    return _TABLE.sub(table, text)


def write(results: Results, suites: Sequence[str], path: Path = DOCUMENT) -> None:
    """Bring the document's tables up to date.

    Raises:
        DocumentError: it has no places for them.
    """
    text = path.read_text(encoding="utf-8")
    path.write_text(with_tables(text, results, suites), encoding="utf-8")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _goals(results: Results, suites: Sequence[str]) -> Iterator[str]:
    rows: list[str] = []
    for suite in suites:
        for mode in Mode:
            record = results.get(suite, mode)
            for each in record.measurements if record else ():
                wanted = goal(suite, each.name, mode)
                if record is None or wanted is None:
                    continue
                mark = "reached" if wanted.reached(summarise(each.values).median) else "**missed**"
                text = wanted.text(each.unit)
                rows.append(_row(suite, each.name, HEADS[mode], cell(record, each), text, mark))
    if rows:
        yield _row("suite", "figure", "mode", "median (lowest to highest)", "goal", "")
        yield "|---|---|---|---|---|---|"
        yield from rows


def _figures(results: Results, suite: str) -> Iterator[str]:
    """Figures down, modes across; and the notes below."""
    records = {mode: record for mode in Mode if (record := results.get(suite, mode)) is not None}
    names = list(
        dict.fromkeys(each.name for record in records.values() for each in record.measurements)
    )
    if not names:
        return
    yield _row("figure", *(HEADS[mode] for mode in records))
    yield "|---" * (1 + len(records)) + "|"
    for name in names:
        cells = (
            cell(record, each) if (each := record.get(name)) is not None else ""
            for record in records.values()
        )
        yield _row(name, *cells)
    for mode, record in records.items():
        for note, times in Counter(record.notes).items():
            yield f"\n{HEADS[mode]}: {note}{f' ({times} times)' if times > 1 else ''}."


def cell(record: Record, measurement: Measurement) -> str:
    """A figure with its spread."""
    summary = summarise(measurement.values)
    median = figure(summary.median, measurement.unit)
    quick = ", quick run" if record.quick else ""
    if summary.rounds == 1:
        return f"**{median}**{quick}"
    low, high = figure(summary.low, measurement.unit), figure(summary.high, measurement.unit)
    return f"**{median}** ({low} to {high}{quick})"


def _machine(results: Results) -> Iterator[str]:
    """What all records say of themselves; several values if they differ."""
    said: dict[str, dict[str, None]] = {}
    for key in sorted(results.records):
        record = results.records[key]
        for name, value in (*record.environment.items(), ("date", record.date)):
            said.setdefault(name, {})[value] = None
    if said:
        yield _row("what", "")
        yield "|---|---|"
        yield from (
            _row(name.replace("_", " "), ", ".join(values)) for name, values in said.items()
        )
