"""What the command says while it runs and at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from servestream_client.cli.problems import errors
from servestream_client.cli.sources import Source
from servestream_client.events import StreamStatistics

__all__ = ["count", "progress", "summary"]

_SHOW_SECONDS = 0.1


def count(number: int, what: str) -> str:
    """So many of them."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def summary(
    counts: StreamStatistics,
    *,
    items: int,
    failed: int,
    results: int,
    seconds: float,
    blank: int,
) -> str:
    """What a run did, in one line.

    Args:
        counts: of its stream.
        items: that were answered.
        failed: of these.
        results: that were written.
        seconds: that it took.
        blank: lines that are no items.
    """
    parts = [f"{items:,} answered"]
    if failed:
        parts.append(f"[red]{failed:,} of them failed[/]")
    if results != items:
        parts.append(count(results, "result"))
    if counts.resumes:
        parts.append(f"{count(counts.resumes, 'resume')}, {counts.replayed:,} sent again")
    if blank:
        parts.append(f"{count(blank, 'blank line')} skipped")
    rate = f", {results / seconds:,.0f}/s" if seconds > 0 else ""
    return f"{', '.join(parts)}; {seconds:.1f} s{rate}"


@contextmanager
def progress(
    source: Source, *, mute: bool
) -> Iterator[Callable[[Callable[[], StreamStatistics]], None]]:
    """Yields what shows how far it is: on a terminal, and nowhere else."""
    console = errors()
    if mute or not console.is_terminal:
        yield lambda _: None
        return
    size = source.size
    columns = (
        SpinnerColumn(),
        *((BarColumn(), TextColumn("{task.percentage:>3.0f} %")) if size else ()),
        TextColumn("{task.fields[answered]:,} answered"),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TextColumn("{task.fields[resumes]} resumes"),
        TimeElapsedColumn(),
        *((TimeRemainingColumn(),) if size else ()),
    )
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task("", total=size or None, answered=0, rate=0.0, resumes=0)
        began = last = time.monotonic()

        def tell(statistics: Callable[[], StreamStatistics]) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last < _SHOW_SECONDS:
                return
            last = now
            counts = statistics()
            shown.update(
                task,
                completed=source.done if size else None,
                answered=counts.received,
                rate=counts.received / (now - began),
                resumes=counts.resumes,
            )

        yield tell
