"""`servestream demo-state`: the trial with a live display, and its report."""

from __future__ import annotations

import asyncio
import os
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.table import Table

from servestream_client.client import StreamClient
from servestream_client.demo.phases import DemoError, concluded, left_over, waiting
from servestream_client.demo.state.speech import CHUNK, RATE, chunks, recording
from servestream_client.demo.state.trial import Listening, Report, Trial
from servestream_client.demo.state.vad import STATE_BYTES, Vad
from servestream_client.demo.tokens.trial import WhoServes
from servestream_client.server.sealing import KEYS_VARIABLE, new_key
from servestream_client.testing.ray_serve import Ingress, ServeFixture
from servestream_client.testing.ray_serve.cluster import members

__all__ = ["Settings", "demo", "kill_places"]

APPLICATION = "servestream_client.demo.state.application:vad"
REPLICAS = 2
TICK_SECONDS = 0.2
_KILLED_UP_TO = 0.85
_WAVE = 60
_SPEECH = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to do.

    Attributes:
        ingress: how requests reach the replicas.
        streams: how many recordings.
        seconds: of each.
        speed: how many times as fast as it was spoken they are sent.
        kills: replicas to kill.
        seed: decides where.
    """

    ingress: Ingress
    streams: int
    seconds: float
    speed: float
    kills: int
    seed: int


def demo(settings: Settings, console: Console) -> bool:
    """Run it. Returns whether all was well."""
    with waiting(console, "reading the sentences, and listening offline"):
        model = Vad()
        streams = []
        for number in range(settings.streams):
            pieces = chunks(recording(number, settings.seconds))
            streams.append(Listening(pieces, model.offline(pieces)))
    total = sum(len(each.chunks) for each in streams)
    rng = random.Random(settings.seed)  # noqa: S311 — hides nothing
    places = kill_places(rng, total=total, kills=settings.kills)
    # What the replicas of this cluster seal states with; there are no others.
    os.environ.setdefault(KEYS_VARIABLE, new_key())
    fixture = ServeFixture([APPLICATION], settings.ingress, replicas=REPLICAS)
    with waiting(console, f"starting Ray Serve with {REPLICAS} replicas"):
        fixture.start()
    try:
        started = len(list(members(fixture.id)))
        report = asyncio.run(_listen(fixture, settings, streams, places, console))
    finally:
        with waiting(console, "ending Ray Serve"):
            fixture.stop()
    console.print(_table(report, settings.seed))
    problems = report.problems() + left_over(fixture.id, started, console)
    return concluded(problems, "every probability is the offline one, bit for bit", console)


def kill_places(rng: random.Random, *, total: int, kills: int) -> list[int]:
    """After how many probabilities to kill: one place in each of as many equal stretches.

    Raises:
        DemoError: there are too few for so many kills.
    """
    stretch = int(total * _KILLED_UP_TO) // max(1, kills)
    if kills and stretch < 100:
        raise DemoError(f"{kills} kills are too many for {total} chunks")
    return [number * stretch + rng.randint(stretch // 4, stretch) for number in range(kills)]


async def _listen(
    fixture: ServeFixture,
    settings: Settings,
    streams: Sequence[Listening],
    places: Sequence[int],
    console: Console,
) -> Report:
    who = WhoServes()
    trial = Trial(
        streams,
        speed=settings.speed,
        places=places,
        who=who,
        kill=fixture.kill_replica,
        ready=fixture.wait_for_replicas,
    )
    with _progress(trial, console) as show:
        ticking = asyncio.create_task(_tick(show))
        try:
            async with StreamClient(fixture.target, application="vad", hooks=[who]) as client:
                return await trial.run(client, CHUNK / RATE)
        finally:
            ticking.cancel()
            show()


async def _tick(show: Callable[[], None]) -> None:
    while True:
        show()
        await asyncio.sleep(TICK_SECONDS)


@contextmanager
def _progress(trial: Trial, console: Console) -> Iterator[Callable[[], None]]:
    """Yields what brings the display up to date."""
    announced = ticks = 0

    def announce() -> None:
        nonlocal announced
        for kill in trial.kills[announced:]:
            console.print(
                f"[red]SIGKILL[/] to replica {kill.replica} (process {kill.pid}) after"
                f" {kill.after:,} probabilities"
            )
        announced = len(trial.kills)

    def line() -> None:
        nonlocal ticks
        announce()
        if ticks % 10 == 0:
            console.print(f"{trial.outputs:,} probabilities")
        ticks += 1

    if not console.is_terminal:
        yield line
        return
    with Live(console=console, auto_refresh=False) as live:

        def show() -> None:
            announce()
            live.update(_view(trial), refresh=True)

        yield show


def _view(trial: Trial) -> Table:
    table = Table(expand=True, show_edge=False)
    table.add_column("stream", width=6)
    table.add_column("speech, as it is heard", no_wrap=True)
    table.add_column("chunks", justify="right", width=8)
    for number, each in enumerate(trial.streams, 1):
        table.add_row(str(number), _wave(each.outputs[-_WAVE:]), f"{len(each.outputs):,}")
    return table


def _wave(outputs: Sequence[bytes]) -> str:
    levels = " ▁▂▃▄▅▆▇█"
    found = [struct.unpack("<f", output)[0] for output in outputs]
    return "".join(levels[round(each * (len(levels) - 1))] for each in found)


def _table(report: Report, seed: int) -> Table:
    table = Table(title=f"seed {seed}")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("how it is counted")
    found = [struct.unpack("<f", one)[0] for each in report.streams for one in each.outputs]
    speech = sum(one > _SPEECH for one in found)
    rows: list[tuple[str, object, str]] = [
        ("streams", len(report.streams), "recordings, all at the same time"),
        ("chunks", f"{report.chunks:,}", "of 32 ms, each answered by a probability"),
        ("  with speech", f"{speech / max(1, report.chunks):.0%}", "a probability above one half"),
        (
            "differing",
            sum(each.differing for each in report.streams),
            "probabilities other than the offline ones, bit by bit",
        ),
        ("kills", len(report.kills), "replicas that got SIGKILL while they listened"),
        ("resumes", report.total(lambda each: each.resumes), "of streams, at another replica"),
        (
            "sent again",
            f"{report.total(lambda each: each.replayed):,}",
            "chunks, to be computed again or for the first time",
        ),
        (
            "states",
            f"{report.total(lambda each: each.tokens):,}",
            f"of {STATE_BYTES:,} bytes, sealed",
        ),
        (
            "  share",
            f"{report.token_share:.1%}",
            "of all bytes of chunks, probabilities and states",
        ),
        ("duration", f"{report.seconds:.1f} s", "first chunk to last probability"),
    ]
    for name, value, how in rows:
        table.add_row(name, str(value), how)
    return table
