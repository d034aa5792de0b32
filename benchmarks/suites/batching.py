"""What a batch buys and what it costs: throughput and latency of a real model.

The classifier of handwritten digits computes 64 images in little more time than one. It is served
with batches of several sizes, and waits for a batch to fill or does not; callers ask for one
prediction each, and ask again as soon as they have it. Everything is relative to batches of one
and a single caller.
"""

from __future__ import annotations

import statistics
from typing import NamedTuple

from benchmarks.bench import Bench, Suite
from benchmarks.measure import MeasurementError, in_turn
from benchmarks.results import Measurement
from benchmarks.servers import Mode, PlainServers
from benchmarks.statistics import ratios
from benchmarks.suites.predict import Callers, predicting

SIZES = (1, 4, 16, 64, 256)
WAITS = (0.0, 0.002, 0.01)
CALLERS = (1, 8, 64, 256)
QUICK_SIZES = (1, 16, 64)
QUICK_WAITS = (0.0, 0.002)
QUICK_CALLERS = (1, 64)
TYPICAL = 64
"""The size of batches that waits are compared at."""
MOST_ROUNDS = 3


class Setting(NamedTuple):
    """A way to serve, and how many ask."""

    size: int
    wait: float
    callers: int

    @property
    def line(self) -> str:
        """Which line of the plot it belongs to."""
        waiting = f", wait {1000 * self.wait:g} ms" if self.wait else ""
        return f"batches up to {self.size}{waiting}"

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return f"{self.line}, {self.callers} callers"


class Point(NamedTuple):
    """Requests in a second, and the median of what they took, in seconds."""

    throughput: float
    latency: float


async def run(bench: Bench) -> None:
    """Server by server, and in each with more and more callers."""
    servers = bench.servers
    if not isinstance(servers, PlainServers):
        raise MeasurementError("only measured on plain servers")
    quick = bench.settings.quick
    sizes, waits = (QUICK_SIZES, QUICK_WAITS) if quick else (SIZES, WAITS)
    numbers = QUICK_CALLERS if quick else CALLERS
    # A batch of one has nothing to wait for.
    ways = [(size, wait) for size in sizes for wait in waits if size > 1 or not wait]
    points: dict[Setting, list[Point]] = {}
    rounds = min(bench.settings.rounds, MOST_ROUNDS)
    for number in range(rounds):
        for size, wait in in_turn(ways, number):
            for callers in numbers:
                setting = Setting(size, wait, callers)
                bench.say(f"round {number + 1} of {rounds}: {setting.name}")
                points.setdefault(setting, []).append(await _point(bench, servers, setting))
            servers.release(_application(setting))
    _record(bench, points)


def _application(setting: Setting) -> str:
    return f"digits:{setting.size}:{setting.wait}"


async def _point(bench: Bench, servers: PlainServers, setting: Setting) -> Point:
    # Not at the top: scikit-learn's many objects would slow every garbage collection of a run.
    from servestream_client.demo.model import DigitsCodec, digits  # noqa: PLC0415

    image = digits()[0][0]
    application = _application(setting)
    async with servers.client(application, codec=DigitsCodec()) as client:
        callers = Callers([predicting(client, image)], setting.callers)
        throughput = await callers.measure(bench.settings.seconds)
        return Point(throughput, statistics.median(callers.seconds))


def _record(bench: Bench, points: dict[Setting, list[Point]]) -> None:
    lines: dict[str, list[Setting]] = {}
    for setting, measured in points.items():
        lines.setdefault(setting.line, []).append(setting)
        bench.sampled({setting.name: [point.throughput for point in measured]}, unit="requests/s")
        bench.sampled({setting.name: [point.latency for point in measured]}, unit="s")
    alone = points[Setting(1, 0.0, 1)]
    for line, settings in lines.items():
        ordered = sorted(settings, key=lambda setting: setting.callers)
        bench.line(
            line,
            [statistics.median(_throughputs(points[setting], alone)) for setting in ordered],
            [statistics.median(_latencies(points[setting], alone)) for setting in ordered],
        )
    most = max(setting.callers for setting in points)
    crowd = points[Setting(1, 0.0, most)]
    for size in sorted({setting.size for setting in points} - {1}):
        values = _throughputs(points[Setting(size, 0.0, most)], crowd)
        name = f"batches up to {size}, over batches of 1: throughput, {most} callers"
        bench.measured(Measurement(name=name, values=values, at=size))
    for wait in sorted({setting.wait for setting in points} - {0.0}):
        name = f"wait of {1000 * wait:g} ms, over none, batches up to {TYPICAL}"
        waiting, ready = points[Setting(TYPICAL, wait, 1)], points[Setting(TYPICAL, 0.0, 1)]
        values = _latencies(waiting, ready)
        bench.measured(Measurement(name=f"{name}: latency, 1 caller", values=values))
        waiting, ready = points[Setting(TYPICAL, wait, most)], points[Setting(TYPICAL, 0.0, most)]
        values = _throughputs(waiting, ready)
        bench.measured(Measurement(name=f"{name}: throughput, {most} callers", values=values))


def _throughputs(points: list[Point], reference: list[Point]) -> list[float]:
    return ratios([each.throughput for each in points], [each.throughput for each in reference])


def _latencies(points: list[Point], reference: list[Point]) -> list[float]:
    return ratios([each.latency for each in points], [each.latency for each in reference])


SUITE = Suite(
    name="batching",
    about="throughput and latency of a classifier, by the size of batches and the wait for them",
    run=run,
    modes=(Mode.PLAIN,),
    applications=(),
)
