"""The demo as people see it: what happens, and whether every answer was right."""

from __future__ import annotations

import asyncio
import random
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from servestream_client.client import StreamClient
from servestream_client.demo.model import DigitsCodec, DigitsModel, Image, Prediction, digits
from servestream_client.demo.phases import DemoError, concluded, left_over, waiting
from servestream_client.demo.restarts import JobReport, JobTrial, inputs_for, shots
from servestream_client.demo.trial import Report, Trial, answers_offline, kill_places
from servestream_client.testing.ray_serve import Ingress, ServeFixture

APPLICATION = "servestream_client.demo.service:digits"

CLIENT_KILLS = 3
"""How often the client of the job is killed..."""

REPLICA_KILLS = 1
"""...and how many replicas meanwhile."""

WINDOW = {"SERVESTREAM_FLOW_WINDOW_ITEMS": "64"}
"""Of the job, whose results come in order: with the usual window they would come by leaps where one
replica is ahead of the other, and what grows by leaps is soon at its end."""

TICK_SECONDS = 0.1
LINE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to show.

    Attributes:
        ingress: how requests reach the replicas.
        kills: how many replicas to kill with SIGKILL while they serve the stream.
        images: how many to stream; None: all 1,797. The job has images of its own.
        seed: decides where to kill.
    """

    ingress: Ingress = Ingress.PROXY
    kills: int = 3
    images: int | None = None
    seed: int = 0


def demo(settings: Settings, console: Console) -> bool:
    """Start Ray Serve, stream, kill, compare, and end everything that was started.

    First replicas are killed under a stream of this process, then the process of a resumable job.

    Returns:
        Whether nothing was lost, duplicated, out of order or different, and nothing is left.

    Raises:
        DemoError: so many kills do not fit into so few images.
        FixtureError: Ray Serve did not start.
        StreamError: the stream failed.
    """
    seed, total = settings.seed, len(digits()[0])
    images = list(digits()[0][: min(settings.images or total, total)])
    if settings.kills * 2 > len(images):
        raise DemoError(f"{settings.kills} kills are too many for {len(images)} images")
    rng = random.Random(seed)  # noqa: S311
    places = kill_places(rng, inputs=len(images), kills=settings.kills)
    console.print(
        f"seed {seed}: {len(images)} images, kills after"
        f" {', '.join(map(str, places)) or 'no'} answers; ingress: {settings.ingress}"
    )
    with waiting(console, "classifying every image offline, to compare with"):
        offline = answers_offline(images)
    with waiting(console, "starting Ray Serve (about 30 s)") as phase:
        fixture = ServeFixture([APPLICATION], settings.ingress, on_phase=phase)
        fixture.start()
    try:
        report = asyncio.run(_stream(fixture, images, offline, places, console))
        pauses = (1 + len(report.kills)) * report.longest_pause
        count = inputs_for(inputs=report.inputs, seconds=report.seconds, pauses=pauses)
        job = _job(fixture, count, rng, console)
        started = len(fixture.processes())
    finally:
        with waiting(console, "ending Ray Serve"):
            fixture.stop()
    console.print(_table(report, seed))
    console.print(_job_table(job, seed))
    return _conclude(report, job, fixture.id, started, console)


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


def _job(fixture: ServeFixture, count: int, rng: random.Random, console: Console) -> JobReport:
    """So many images from a file through `servestream call --resume` into another file."""
    every, codec = digits()[0], DigitsCodec()
    images = [every[place % len(every)] for place in range(count)]
    expected = [codec.encode_output(each) for each in DigitsModel().predict_batch(images)]

    def kill_one() -> tuple[str, int]:
        replica = rng.choice(fixture.replicas_alive()).name
        return replica, fixture.kill_replica(replica)

    with TemporaryDirectory(prefix="servestream-demo-") as name:
        source, output = Path(name, "images"), Path(name, "predictions")
        source.write_bytes(_frames([codec.encode_input(image) for image in images]))
        arguments = [
            *("call", fixture.target, "-a", "digits", "--codec", codec.id, "--resume"),
            *("-i", str(source), "--input-format", "frames"),
            *("-o", str(output), "--output-format", "frames"),
        ]
        settings = " ".join(f"{name}={value}" for name, value in WINDOW.items())
        console.print(f"{settings} servestream {' '.join(arguments)}", soft_wrap=True)
        with waiting(console, "the client as a job that is killed itself") as phase:
            fixture.wait_for_replicas()
            return JobTrial(
                [sys.executable, "-m", "servestream_client.cli", *arguments],
                output,
                size=len(_frames(expected[:1])),
                expected=_frames(expected),
                planned=shots(rng, inputs=count, clients=CLIENT_KILLS, replicas=REPLICA_KILLS),
                kill_replica=kill_one,
                tell=console.print,
                progress=lambda written: phase(f"written {written}/{count}"),
                environment=WINDOW,
            ).run()


def _frames(payloads: Sequence[bytes]) -> bytes:
    return b"".join(struct.pack(">I", len(payload)) + payload for payload in payloads)


# ---------------------------------------------------------------- what is shown


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
    return _figures(
        f"seed {seed}: replicas killed under a stream",
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
    )


def _job_table(job: JobReport, seed: int) -> Table:
    return _figures(
        f"seed {seed}: the client killed, too",
        ("inputs", job.inputs, "images in the file that the job reads"),
        ("kills of the client", job.kills, "times that its process got SIGKILL"),
        ("kills of replicas", len(job.replicas), "those that got SIGKILL meanwhile"),
        ("kept", ", ".join(map(str, job.kept)), "results done before each restart"),
        ("output", "identical" if job.identical else "differs", "compared with offline by bytes"),
        ("duration", f"{job.seconds:.1f} s", "of all runs of the command"),
    )


def _figures(title: str, *rows: tuple[str, object, str]) -> Table:
    table = Table(title=title)
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("how it is counted")
    for name, value, how in rows:
        table.add_row(name, str(value), how)
    return table


def _conclude(report: Report, job: JobReport, fixture: str, started: int, console: Console) -> bool:
    problems = report.problems() + job.problems() + left_over(fixture, started, console)
    return concluded(
        problems,
        "every answer came once, in its place, and equals offline; so does the file",
        console,
    )
