"""Stream 1,797 images to a real Ray Serve while its replicas are killed, and check every answer.

    python examples/demo.py
    python examples/demo.py --ingress haproxy --kills 5 --seed 7

Starts Ray Serve on this machine with two replicas of a classifier (half a minute), streams the
images, kills the replica that serves the stream with SIGKILL a few times, compares every answer
with an offline run of the same model, and ends everything it started. Exits with 0 only if
nothing was lost, duplicated, out of order or different, and nothing is left running.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from server_fixture.fixture import FixtureError, ServeFixture
from server_fixture.model import DigitsCodec, Image, Prediction, digits
from server_fixture.trial import Report, Trial, answers_offline, kill_places
from servestream_client import StreamClient, StreamError
from servestream_client.testing.ray_serve.cluster import Ingress, members

TICK_SECONDS = 0.1
LINE_SECONDS = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    options.images = min(options.images or len(digits()[0]), len(digits()[0]))
    if options.kills * 2 > options.images:
        parser.error(f"{options.kills} kills are too many for {options.images} images")
    console = Console(highlight=False)
    try:
        return _demo(options, console)
    except KeyboardInterrupt:
        console.print("interrupted; everything that was started has been ended")
        return 130
    except (FixtureError, StreamError) as error:
        console.print(f"[red]{type(error).__name__}[/]: {escape(str(error))}")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--ingress",
        type=Ingress,
        choices=list(Ingress),
        default=Ingress.PROXY,
        help="Serve's own proxy (default), or HAProxy",
    )
    parser.add_argument(
        "--kills", type=_at_least(0), default=3, metavar="N", help="replicas to kill (default: 3)"
    )
    parser.add_argument(
        "--images", type=_count, default=None, metavar="N", help="how many, or all (the default)"
    )
    parser.add_argument(
        "--seed", type=int, default=None, help="decides where to kill (default: a random one)"
    )
    return parser


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"a whole number from {least} on, not {text!r}")
        return int(text)

    return number


def _count(text: str) -> int | None:
    return None if text == "all" else _at_least(1)(text)


def _demo(options: argparse.Namespace, console: Console) -> int:
    seed = options.seed if options.seed is not None else secrets.randbelow(1_000_000)
    images = list(digits()[0][: options.images])
    places = kill_places(random.Random(seed), inputs=len(images), kills=options.kills)  # noqa: S311
    console.print(
        f"seed {seed}: {len(images)} images, kills after"
        f" {', '.join(map(str, places)) or 'no'} answers; ingress: {options.ingress}"
    )
    with _waiting(console, "classifying every image offline, to compare with"):
        offline = answers_offline(images)
    with _waiting(console, "starting Ray Serve (about 30 s)") as phase:
        fixture = ServeFixture(("digits",), options.ingress, on_phase=phase)
        fixture.start()
    try:
        report = asyncio.run(_stream(fixture, images, offline, places, console))
        started = len(fixture.processes())
    finally:
        with _waiting(console, "ending Ray Serve"):
            fixture.stop()
    left = [process.pid for process in members(fixture.id)]
    console.print(_table(report, seed))
    return _conclude(report, started, left, console)


async def _stream(
    fixture: ServeFixture,
    images: Sequence[Image],
    offline: Sequence[Prediction],
    places: Sequence[int],
    console: Console,
) -> Report:
    trial = Trial(images, offline, places=places, kill=fixture.kill_replica)
    with _progress(trial, len(images), console) as show:
        ticking = asyncio.create_task(_tick(show))
        try:
            async with StreamClient(
                fixture.target, application="digits", codec=DigitsCodec()
            ) as client:
                return await trial.run(client)
        finally:
            ticking.cancel()
            show(last=True)


async def _tick(show: Callable[[], None]) -> None:
    while True:
        show()
        await asyncio.sleep(TICK_SECONDS)


# ---------------------------------------------------------------- what is shown


@contextmanager
def _waiting(console: Console, what: str) -> Iterator[Callable[[str], None]]:
    """Say what is being waited for: with a spinner on a terminal, in plain lines elsewhere."""
    if not console.is_terminal:
        console.print(f"{what} ...")
        yield lambda phase: console.print(f"  {phase} ...")
        return
    with console.status(f"{what} ...") as status:
        yield lambda phase: status.update(f"{what}: {phase} ...")


@contextmanager
def _progress(trial: Trial, total: int, console: Console) -> Iterator[Callable[..., None]]:
    """Yields what brings the display up to date."""
    announced = 0

    def announce() -> None:
        nonlocal announced
        for kill in trial.kills[announced:]:
            console.print(
                f"[red]SIGKILL[/] to replica {kill.replica} (process {kill.pid}) after"
                f" {kill.after} answers"
            )
        announced = len(trial.kills)

    if not console.is_terminal:
        yield _plain_lines(trial, total, console, announce)
        return
    columns = (
        TextColumn("received"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("sent {task.fields[sent]}"),
        TextColumn("resumes {task.fields[resumes]}"),
        TextColumn("replica {task.fields[replica]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=total, **_fields(trial))

        def show(*, last: bool = False) -> None:
            announce()
            progress.update(task, completed=len(trial.answers), **_fields(trial))
            if last:
                progress.refresh()

        yield show


def _plain_lines(
    trial: Trial, total: int, console: Console, announce: Callable[[], None]
) -> Callable[..., None]:
    ticks = 0

    def show(*, last: bool = False) -> None:
        nonlocal ticks
        announce()
        if last or ticks % round(LINE_SECONDS / TICK_SECONDS) == 0:
            fields = " ".join(f"{name} {value}" for name, value in _fields(trial).items())
            console.print(f"received {len(trial.answers)}/{total} {fields}")
        ticks += 1

    return show


def _fields(trial: Trial) -> dict[str, Any]:
    statistics = trial.statistics()
    if statistics is None:
        return {"sent": 0, "resumes": 0, "replica": "-"}
    return {
        "sent": statistics.sent,
        "resumes": statistics.resumes,
        "replica": statistics.replica or "-",
    }


def _table(report: Report, seed: int) -> Table:
    counts, statistics = report.tally, report.statistics
    table = Table(title=f"seed {seed}")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("how it is counted")
    for name, value, how in (
        ("inputs", report.inputs, "images given to the stream"),
        ("predictions", report.predictions, "answers that came out of it"),
        ("lost", counts.lost, "images whose checksum no answer carries"),
        ("duplicated", counts.duplicated, "answers with a checksum that had come already"),
        ("foreign", counts.foreign, "answers with a checksum that no image has"),
        ("out of order", counts.out_of_order, "answers that came after one to a later image"),
        ("differing", counts.differing, "label or votes other than offline, one by one"),
        ("kills", len(report.kills), "replicas that got SIGKILL while they served the stream"),
        ("resumes", statistics.resumes, "times that another replica took over"),
        ("replayed", statistics.replayed, "inputs sent again after a kill"),
        ("longest pause", f"{report.longest_pause:.2f} s", "between two answers"),
        ("duration", f"{report.seconds:.1f} s", "first to last answer, with the first wait"),
    ):
        table.add_row(name, str(value), how)
    return table


def _conclude(report: Report, started: int, left: Sequence[int], console: Console) -> int:
    problems = report.problems()
    if left:
        problems.append(f"{len(left)} processes are left: {', '.join(map(str, left))}")
    else:
        console.print(f"all {started} processes of Ray Serve have ended; none is left")
    for problem in problems:
        console.print(f"[red]wrong:[/] {problem}")
    if not problems:
        console.print("[green]every answer came once, in its place, and equals the offline run[/]")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
