"""`servestream bench`: load on somebody's own service, and what came of it."""

from __future__ import annotations

import asyncio
import enum
import io
import itertools
import math
import os
import random
import time
from array import array
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from servestream_client import environment
from servestream_client.cli.items import InputFormat, PayloadCodec, input_format
from servestream_client.cli.opening import open_source
from servestream_client.cli.problems import Problem, errors
from servestream_client.cli.sources import Source, payloads
from servestream_client.client import StreamClient
from servestream_client.config import FlowControl
from servestream_client.errors import ItemError
from servestream_client.events import AttemptWelcomed, Event, Hooks
from servestream_client.transport.targets import split_targets

__all__ = ["Figures", "Load", "Mode", "bench", "quantile"]

SEED = 20261123
"""Of random items: the same in every run."""

_SHOW_SECONDS = 0.2
_QUANTILES = (0.5, 0.9, 0.99, 0.999)


class Mode(enum.StrEnum):
    """What a worker is."""

    STREAM = "stream"
    PREDICT = "predict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to send where, and how fast."""

    target: str
    application: str
    codec: str
    mode: Mode
    source: str | None
    input_format: InputFormat
    item: str | None
    size: int
    concurrency: int
    rate: float | None
    duration: float
    warmup: float
    window: int
    metadata: list[tuple[str, str]]
    credentials: grpc.ChannelCredentials | None


@dataclass(slots=True)
class Figures(Hooks):
    """What was measured.

    Attributes:
        latencies: seconds, one for each answer, in the order of the answers.
        moments: seconds since the beginning, at which they came.
        failures: items that failed, by kind.
        resumes: attempts that took over from a broken one.
        replicas: welcomes by replica.
        seconds: how long it was measured.
    """

    latencies: array[float] = field(default_factory=lambda: array("d"))
    moments: array[float] = field(default_factory=lambda: array("d"))
    failures: Counter[str] = field(default_factory=Counter)
    resumes: int = 0
    replicas: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def on_event(self, event: Event, /) -> None:
        if isinstance(event, AttemptWelcomed):
            self.resumes += event.resumed
            self.replicas[event.replica] += 1

    @property
    def answers(self) -> int:
        """How many items were answered, failures included."""
        return len(self.latencies)

    @property
    def throughput(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds if self.seconds else 0.0


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def bench(load: Load, *, json: Path | None, plot: Path | None) -> int:
    """Run it, and show the figures.

    Returns:
        How many items failed.

    Raises:
        Problem: the items cannot be read, or nothing can be drawn here.
        ServeStreamError: as for `StreamClient`.
    """
    if load.rate is not None and not math.isfinite(load.rate):
        raise Problem("--rate must be finite; without it, items go as fast as results come back")
    if plot is not None:
        _check_plot(plot)
    for path in filter(None, (json, plot)):  # before the load, not after it
        _check_writable(path)
    items = _items(load)
    with _progress(load) as tell:
        figures = asyncio.run(_Run(load, items, tell).run())
    if not figures.answers:
        raise Problem(f"nothing was answered within {load.duration:g} s")
    if json is not None:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(_record(load, figures))) + b"\n")
    if plot is not None:
        _draw(load, figures, plot)
    Console(highlight=False).print(_table(load, figures))
    return figures.failures.total()


def _items(load: Load) -> list[bytes]:
    if load.source is not None:
        form = input_format(load.input_format, load.source, load.codec)
        with open_source(load.source, form, load.codec) as source:
            items = list(payloads(source))
        if not items:
            raise Problem(f"{load.source} has no items")
        return items
    if load.item is not None:
        form = input_format(load.input_format, "", load.codec)
        line = io.BytesIO(os.fsencode(load.item) or b"\n")
        items = list(payloads(Source(line, form, load.codec)))
        if not items:
            raise Problem("--item has nothing in it")
        return items
    if load.codec != "bytes":
        raise Problem(
            f"say what to send with --item or --input: {load.codec!r} takes no random bytes"
        )
    rng = random.Random(SEED)  # noqa: S311 — hides nothing
    return [rng.randbytes(load.size) for _ in range(64)]


class _Run:
    """The workers, and the clock."""

    def __init__(
        self, load: Load, items: Sequence[bytes], tell: Callable[[Figures, float], None]
    ) -> None:
        self._load = load
        self._items = itertools.cycle(items)
        self._tell = tell
        self._figures = Figures()
        self._began = 0.0
        self._ends = 0.0

    async def run(self) -> Figures:
        load = self._load
        client = StreamClient(
            split_targets(load.target),
            application=load.application,
            codec=PayloadCodec(load.codec),
            flow=replace(environment.policy(FlowControl), window_items=load.window),
            metadata=load.metadata,
            credentials=load.credentials,
            hooks=[self._figures],
            predict_streams=max(4, min(load.concurrency, 8)),
        )
        worker = self._stream if load.mode is Mode.STREAM else self._predict
        async with client:
            await client.predict(next(self._items))  # an error is said before any load
            self._began = time.perf_counter() + load.warmup
            self._ends = self._began + load.duration
            showing = asyncio.create_task(self._show())
            try:
                async with asyncio.TaskGroup() as group:
                    for number in range(load.concurrency):
                        group.create_task(worker(client, number))
            except ExceptionGroup as failed:  # the others were cancelled for it
                raise failed.exceptions[0] from None
            finally:
                showing.cancel()
        self._figures.seconds = min(time.perf_counter(), self._ends) - self._began
        return self._figures

    async def _show(self) -> None:
        while True:
            self._tell(self._figures, time.perf_counter() - self._began)
            await asyncio.sleep(_SHOW_SECONDS)

    async def _stream(self, client: StreamClient[bytes, bytes], number: int) -> None:
        due: deque[float] = deque()

        async def inputs() -> AsyncIterator[bytes]:
            async for moment in self._schedule(number):
                due.append(moment)
                yield next(self._items)

        async for result in client.stream(inputs(), return_exceptions=True):
            self._note(due.popleft(), result)

    async def _predict(self, client: StreamClient[bytes, bytes], number: int) -> None:
        async for moment in self._schedule(number):
            result: bytes | ItemError
            try:
                result = await client.predict(next(self._items))
            except ItemError as error:
                result = error
            self._note(moment, result)

    async def _schedule(self, number: int) -> AsyncIterator[float]:
        """When this worker's items are due: at a fixed pace, or at once."""
        load = self._load
        if load.rate is None:
            while (now := time.perf_counter()) < self._ends:
                yield now
            return
        interval = load.concurrency / load.rate
        start = time.perf_counter() + interval * number / load.concurrency
        for count in itertools.count():
            due = start + count * interval
            if max(due, time.perf_counter()) >= self._ends:
                return
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            yield due

    def _note(self, due: float, result: bytes | ItemError) -> None:
        now = time.perf_counter()
        if not self._began <= now <= self._ends:
            return
        self._figures.latencies.append(now - due)
        self._figures.moments.append(now - self._began)
        if isinstance(result, ItemError):
            self._figures.failures[result.kind.name.lower()] += 1


# ---------------------------------------------------------------- what is shown


@contextmanager
def _progress(load: Load) -> Iterator[Callable[[Figures, float], None]]:
    console = errors()
    if not console.is_terminal:
        yield lambda _figures, _seconds: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[answers]:,} answered, {task.fields[resumes]} resumes"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("warming up", total=load.duration, answers=0, resumes=0)

        def tell(figures: Figures, seconds: float) -> None:
            progress.update(
                task,
                description="measuring" if seconds >= 0 else "warming up",
                completed=max(0.0, seconds),
                answers=figures.answers,
                resumes=figures.resumes,
            )

        yield tell


def _table(load: Load, figures: Figures) -> Table:
    table = Table(title=f"{load.mode}, {_pace(load)}, {figures.seconds:.1f} s", show_header=False)
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_row("answered", f"{figures.answers:,}")
    table.add_row("throughput", f"{figures.throughput:,.1f}/s")
    for name, seconds in _latencies(figures).items():
        table.add_row(f"latency {name}", f"{seconds * 1000:,.2f} ms")
    for kind, count in figures.failures.most_common():
        table.add_row(f"failed: {kind}", f"{count:,}")
    table.add_row("resumes", f"{figures.resumes:,}")
    table.add_row("replicas", f"{len(figures.replicas):,}")
    return table


def _pace(load: Load) -> str:
    workers = f"{load.concurrency} worker{'s' if load.concurrency > 1 else ''}"
    return f"{workers}, {f'{load.rate:g} items/s' if load.rate else 'as fast as it goes'}"


def _latencies(figures: Figures) -> dict[str, float]:
    ordered = sorted(figures.latencies)
    named = {f"p{100 * share:g}": quantile(ordered, share) for share in _QUANTILES}
    return {**named, "max": ordered[-1]}


def _record(load: Load, figures: Figures) -> dict[str, object]:
    """As JSON; seconds, and counts."""
    return {
        "target": load.target,
        "application": load.application,
        "mode": load.mode,
        "concurrency": load.concurrency,
        "rate": load.rate,
        "seconds": figures.seconds,
        "answered": figures.answers,
        "throughput": figures.throughput,
        "latency": _latencies(figures),
        "failures": dict(figures.failures),
        "resumes": figures.resumes,
        "replicas": dict(figures.replicas),
    }


def _check_writable(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
    except OSError as error:
        raise Problem(f"{path}: {error.strerror}") from None


def _check_plot(path: Path) -> None:
    try:
        import matplotlib as mpl
    except ModuleNotFoundError:
        raise Problem("--plot needs matplotlib: pip install 'servestream-client[plot]'") from None
    mpl.use("Agg")
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise Problem(f"--plot draws .png, .svg and .pdf, not {path.name!r}")


def _draw(load: Load, figures: Figures, path: Path) -> None:
    """Throughput and latency over time, and the latency's distribution."""
    from matplotlib import pyplot as plt

    seconds = max(1, round(figures.seconds))
    buckets: list[list[float]] = [[] for _ in range(seconds)]
    for moment, latency in zip(figures.moments, figures.latencies, strict=True):
        buckets[min(seconds - 1, int(moment))].append(latency * 1000)
    figure, (above, middle, below) = plt.subplots(3, figsize=(8, 9), layout="constrained")
    figure.suptitle(f"{load.mode}, {_pace(load)}")
    above.step(range(seconds), [len(bucket) for bucket in buckets], where="mid")
    above.set(xlabel="second", ylabel="answers/s", ylim=(0, None))
    for share in (0.5, 0.99):
        values = [quantile(sorted(bucket), share) if bucket else float("nan") for bucket in buckets]
        middle.plot(range(seconds), values, marker=".", label=f"p{100 * share:g}")
    middle.set(xlabel="second", ylabel="latency, ms", yscale="log")
    middle.legend()
    ordered = sorted(latency * 1000 for latency in figures.latencies)
    shares = [(number + 1) / len(ordered) for number in range(len(ordered))]
    below.plot(ordered, shares)
    below.set(xlabel="latency, ms", ylabel="share of answers", xscale="log", ylim=(0, 1))
    for axes in (above, middle, below):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)
