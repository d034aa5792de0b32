"""The demo of a deployment that scales, as people see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from servestream_client.demo.model import DigitsModel, digits
from servestream_client.demo.phases import concluded, left_over, waiting
from servestream_client.demo.scale.service import MOST, SERVICERS, TREES
from servestream_client.demo.scale.trial import Trial, Way
from servestream_client.testing.ray_serve import Ingress, ServeFixture

__all__ = ["Settings", "demo"]

APPLICATIONS = [
    f"servestream_client.demo.scale.application:{name}" for name in ("unary", "calls", "stream")
]
IMAGES = 200
GOING_SECONDS = 180.0
"""For how long it is watched, at the most, that replicas go. A busy machine takes its time."""

TICK_SECONDS = 0.5
LINE_SECONDS = 5.0

_BARS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to show.

    Attributes:
        ingress: how requests reach the replicas.
        seconds: for each of the three ways.
        callers: calls at a time.
        plot: where to draw it; None: nowhere.
    """

    ingress: Ingress = Ingress.PROXY
    seconds: float = 40.0
    callers: int = 16
    plot: Path | None = None


def demo(settings: Settings, console: Console) -> bool:
    """Classify offline, start Ray Serve, let it scale three times, and end what was started.

    Returns:
        Whether every answer is the offline one, in its order, the client reached as many replicas
        as unary stubs, and nothing is left.

    Raises:
        FixtureError: Ray Serve did not start.
        StreamError: a call or the stream failed.
    """
    images = list(digits()[0][:IMAGES])
    with waiting(console, f"classifying {IMAGES} images offline ({TREES} trees)"):
        offline = DigitsModel(TREES).predict_batch(images)
    with waiting(console, "starting Ray Serve (about 30 s)") as phase:
        fixture = ServeFixture(
            APPLICATIONS, settings.ingress, replicas=1, servicers=SERVICERS, on_phase=phase
        )
        fixture.start()
    trial = Trial(
        fixture.target,
        images,
        offline,
        seconds=settings.seconds,
        callers=settings.callers,
        count=lambda application: len(fixture.replicas_alive(application)),
    )
    try:
        asyncio.run(_run(trial, settings, console))
        started = len(fixture.processes())
    finally:
        with waiting(console, "ending Ray Serve"):
            fixture.stop()
    console.print(_table(trial))
    if settings.plot is not None:
        _draw(trial, settings.plot, console)
    problems = _problems(trial) + left_over(fixture.id, started, console)
    return concluded(
        problems, "every answer is the offline one, and work went where the replicas are", console
    )


async def _run(trial: Trial, settings: Settings, console: Console) -> None:
    with _progress(trial, settings, console) as show:
        ticking = asyncio.create_task(_tick(show))
        try:
            await trial.run()
        finally:
            ticking.cancel()
            show()
    with waiting(console, "one call a second, until the replicas have gone"):
        await trial.watch_them_go(GOING_SECONDS)


async def _tick(show: Callable[[], None]) -> None:
    while True:
        show()
        await asyncio.sleep(TICK_SECONDS)


def _problems(trial: Trial) -> list[str]:
    unary = trial.ways[0]
    found = [f"{way.name}: {way.wrong} answers are wrong" for way in trial.ways if way.wrong]
    found += [
        f"{way.name}: {way.most_replicas} replicas, and unary stubs had {unary.most_replicas}"
        for way in trial.ways[1:]
        if way.most_replicas < unary.most_replicas
    ]
    if trial.gone is None:
        found.append(f"replicas were still there {GOING_SECONDS:g} s after the load had gone")
    return found


# ---------------------------------------------------------------- what is shown


@contextmanager
def _progress(trial: Trial, settings: Settings, console: Console) -> Iterator[Callable[[], None]]:
    """Yields what brings the display up to date."""
    if not console.is_terminal:
        yield _plain_lines(trial, console)
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda: live.update(_view(trial, settings), refresh=True)


def _plain_lines(trial: Trial, console: Console) -> Callable[[], None]:
    told = {way.name: 0 for way in trial.ways}

    def show() -> None:
        for way in trial.ways:
            for sample in way.samples[told[way.name] :]:
                if round(sample.at) % round(LINE_SECONDS) == 0:
                    console.print(
                        f"{way.name}: {sample.at:3.0f} s, {sample.replicas} replicas,"
                        f" {sample.rate:.0f} images/s"
                    )
            told[way.name] = len(way.samples)

    return show


def _view(trial: Trial, settings: Settings) -> Table:
    most = max((each.rate for way in trial.ways for each in way.samples), default=0.0)
    table = Table(expand=True, show_edge=False, title=f"{settings.seconds:g} s each")
    for name in ("way", "replicas", "images/s"):
        table.add_column(name)
    table.add_column("now", justify="right")
    for way in trial.ways:
        replicas = [float(sample.replicas) for sample in way.samples]
        rates = [sample.rate for sample in way.samples]
        last = way.samples[-1] if way.samples else None
        now = "" if last is None else f"{last.replicas} replicas, {last.rate:.0f}/s"
        table.add_row(way.name, _bars(replicas, MOST), _bars(rates, most), now)
    return table


def _bars(values: Sequence[float], most: float) -> str:
    top = len(_BARS) - 1
    return "".join(_BARS[round(top * min(1.0, value / most))] if most else " " for value in values)


def _table(trial: Trial) -> Table:
    table = Table(title="three ways to the same deployment")
    for name in ("", *(way.name for way in trial.ways)):
        table.add_column(name, justify="right" if name else "left")

    def row(name: str, cell: Callable[[Way], str]) -> None:
        table.add_row(name, *(cell(way) for way in trial.ways))

    row("images", lambda way: str(way.answers))
    row("wrong, or out of order", lambda way: str(way.wrong))
    row("replicas, at the most", lambda way: str(way.most_replicas))
    row(f"{MOST} replicas after", lambda way: _seconds(way.reached(MOST)))
    row("images/s at first", lambda way: f"{way.rates()[0]:.0f}")
    row("images/s at best", lambda way: f"{way.rates()[1]:.0f}")
    row("one replica again after", lambda way: _seconds(trial.gone if way is trial.ways[2] else -1))
    return table


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    return "" if seconds < 0 else f"{seconds:.0f} s"


def _draw(trial: Trial, path: Path, console: Console) -> None:
    if find_spec("matplotlib") is None:
        console.print("no plot: matplotlib is not installed")
        return
    from matplotlib.figure import Figure  # noqa: PLC0415 — slow, and an extra

    figure = Figure(figsize=(9, 8), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True)
    for way in trial.ways:
        at = [sample.at for sample in way.samples]
        axes[0].step(at, [sample.replicas for sample in way.samples], where="post", label=way.name)
        axes[1].plot(at, [sample.rate for sample in way.samples])
        latencies = [1000 * sample.latency for sample in way.samples]
        axes[2].plot(at, [each or float("nan") for each in latencies])
    for each, name in zip(axes, ("replicas", "images/s", "latency of a call [ms]"), strict=True):
        each.set_ylabel(name)
        each.set_ylim(bottom=0)
        each.grid(alpha=0.3)
    axes[0].legend()
    axes[2].set_xlabel("seconds under load")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    console.print(f"drawn: {path}")
