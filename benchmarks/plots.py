"""The plots in docs/benchmarks, drawn from the results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.goals import goal
from benchmarks.results import Measurement, Record, Results
from benchmarks.servers import Mode
from benchmarks.statistics import brief, summarise

LABELS = {Mode.PROXY: "Serve, proxy", Mode.HAPROXY: "Serve, HAProxy", Mode.PLAIN: "no Serve"}
COLOURS = {Mode.PROXY: "#0b6e99", Mode.HAPROXY: "#d9730d", Mode.PLAIN: "#448361"}
OURS, RAW, GOAL = "#0b6e99", "#999999", "#c4314b"
SIZE = (9.0, 4.5)

Draw = Callable[[Results, Figure], bool]
"""Draws a figure; False if there is nothing to draw."""


def draw_all(results: Results, directory: Path) -> list[str]:
    """Draw every plot that there are results for, and return the names of their files."""
    directory.mkdir(parents=True, exist_ok=True)
    drawn: list[str] = []
    for name, draw in PLOTS.items():
        figure = Figure(figsize=SIZE, dpi=120, layout="constrained")
        if draw(results, figure):
            # Without metadata, so that the same results give the same file.
            figure.savefig(directory / f"{name}.png", metadata={"Software": None})
            drawn.append(f"{name}.png")
    return drawn


def _records(results: Results, suite: str) -> Iterator[tuple[Mode, Record]]:
    for mode in Mode:
        record = results.get(suite, mode)
        if record is not None:
            yield mode, record


def _bars(
    results: Results,
    figure: Figure,
    suite: str,
    *,
    names: Sequence[str],
    about: str,
    logarithmic: str = "",
) -> bool:
    """Figures side by side, a bar for each mode, with their spread and their goals."""
    records = list(_records(results, suite))
    if not records:
        return False
    axes = figure.add_subplot()
    width = 0.8 / len(records)
    for number, (mode, record) in enumerate(records):
        for place, name in enumerate(names):
            measurement = record.get(name)
            if measurement is None:
                continue
            x = place + (number - (len(records) - 1) / 2) * width
            summary = summarise(measurement.values)
            label = LABELS[mode] if place == 0 else None
            axes.bar(x, summary.median, width * 0.9, color=COLOURS[mode], label=label)
            axes.vlines(x, summary.low, summary.high, color="black", linewidth=1)
            axes.annotate(
                f"{brief(summary.median)}×",  # noqa: RUF001
                (x, summary.high),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=7,
            )
            wanted = goal(suite, name, mode)
            if wanted is not None:
                half = width * 0.45
                axes.hlines(wanted.limit, x - half, x + half, color=GOAL, linewidth=2)
    axes.plot([], [], color=GOAL, linewidth=2, label="goal")
    axes.axhline(1, color="black", linewidth=0.8, linestyle="--")
    axes.set_xticks(range(len(names)), [name.replace(" over ", "\nover ") for name in names])
    axes.tick_params(axis="x", labelsize=8)
    _finish(axes, about, logarithmic=logarithmic)
    return True


def _curves(
    results: Results,
    axes: Axes,
    suite: str,
    *,
    suffix: str = "",
    about: str,
    along: str,
    logarithmic: str = "xy",
) -> bool:
    """A line for each mode through the figures that have a place on the axis."""
    drawn = False
    for mode, record in _records(results, suite):
        points = sorted(
            (each for each in record.measurements if _belongs(each, suffix)),
            key=lambda each: each.at or 0.0,
        )
        if not points:
            continue
        drawn = True
        x = [each.at or 0.0 for each in points]
        summaries = [summarise(each.values) for each in points]
        axes.plot(
            x,
            [each.median for each in summaries],
            marker="o",
            color=COLOURS[mode],
            label=LABELS[mode],
        )
        axes.fill_between(
            x,
            [each.low for each in summaries],
            [each.high for each in summaries],
            color=COLOURS[mode],
            alpha=0.2,
            linewidth=0,
        )
        axes.set_xticks(x, [_number(each) for each in x])
    axes.axhline(1, color="black", linewidth=0.8, linestyle="--")
    axes.set_xlabel(along)
    if drawn:
        _finish(axes, about, logarithmic=logarithmic)
    return drawn


def _belongs(measurement: Measurement, suffix: str) -> bool:
    if measurement.at is None:
        return False
    return measurement.name.endswith(suffix) if suffix else "over" not in measurement.name


def _finish(axes: Axes, about: str, *, logarithmic: str = "", times: str = "y") -> None:
    """Title, grid, legend, and axes that show multiples."""
    for name, axis, scale in (
        ("x", axes.xaxis, axes.set_xscale),
        ("y", axes.yaxis, axes.set_yscale),
    ):
        ticks, labels = axis.get_ticklocs(), [label.get_text() for label in axis.get_ticklabels()]
        if name in logarithmic:
            scale("log")
            axis.set_minor_formatter(NullFormatter())
            if name in times:
                low, high = axis.get_view_interval()
                axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
            else:
                axis.set_ticks(ticks, labels)
        if name in times:
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))  # noqa: RUF001
    axes.set_title(about, fontsize=10)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)


def _number(value: float) -> str:
    for unit, suffix in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{suffix}"
    return f"{value:g}"


# ---------------------------------------------------------------- the plots


def throughput(results: Results, figure: Figure) -> bool:
    """Bars."""
    return _bars(
        results,
        figure,
        "throughput",
        names=[
            f"{ours} over {raw}"
            for ours in ("predict", "predict_batch")
            for raw in ("one item a message", "64 by hand", "256 by hand")
        ],
        about="items in a second over a raw stream's, higher is better",
        logarithmic="y",
    )


def latency(results: Results, figure: Figure) -> bool:
    """Bars."""
    return _bars(
        results,
        figure,
        "latency",
        names=[
            "lone item on an open stream",
            "stream of one item",
            "first stream of a fresh client",
        ],
        about="time over a raw stream's, lower is better",
    )


def payloads(results: Results, figure: Figure) -> bool:
    """A line for each mode."""
    return _curves(
        results,
        figure.add_subplot(),
        "payloads",
        about="items in a second over a raw stream's, one item a message",
        along="bytes of an item",
    )


def streams(results: Results, figure: Figure) -> bool:
    """Over either raw stream."""
    left, right = figure.subplots(1, 2)
    about = "items in a second of all streams\nover raw ones"
    along = "streams at once"
    drawn = _curves(results, left, "streams", about=f"{about}, one item a message", along=along)
    return drawn and _curves(
        results,
        right,
        "streams",
        suffix="over 256 by hand",
        about=f"{about}, 256 items a message by hand",
        along=along,
    )


def predict(results: Results, figure: Figure) -> bool:
    """A line for each mode."""
    return _curves(
        results,
        figure.add_subplot(),
        "predict",
        about="requests in a second, predict() over a unary RPC",
        along="callers at once",
    )


def growth(results: Results, figure: Figure) -> bool:
    """One line."""
    return _curves(
        results,
        figure.add_subplot(),
        "growth",
        about="time of an item over that in a stream of 100,000 items",
        along="items in the stream",
        logarithmic="x",
    )


def pause(results: Results, figure: Figure) -> bool:
    """A dot for each kill."""
    records = list(_records(results, "pause"))
    if not records:
        return False
    axes = figure.add_subplot()
    for place, (mode, record) in enumerate(records):
        measurement = record.get("beyond the raw stub")
        if measurement is not None:
            values = measurement.values
            spread = [place + 0.02 * (number - len(values) / 2) for number in range(len(values))]
            axes.plot(spread, values, "o", color=COLOURS[mode], alpha=0.7)
            axes.hlines(
                summarise(values).median, place - 0.2, place + 0.2, color=COLOURS[mode], linewidth=2
            )
            wanted = goal("pause", measurement.name, mode)
            if wanted is not None:
                axes.hlines(wanted.limit, place - 0.3, place + 0.3, color=GOAL, linewidth=2)
    axes.plot([], [], color=GOAL, linewidth=2, label="goal")
    axes.axhline(0, color="black", linewidth=0.8, linestyle="--")
    axes.set_xticks(range(len(records)), [LABELS[mode] for mode, _ in records])
    axes.set_xlim(-0.6, len(records) - 0.4)
    axes.set_ylabel("ms")
    about = "pause when the replica dies, beyond a raw stub's bare reconnect"
    _finish(axes, about, times="")
    return True


def memory(results: Results, figure: Figure) -> bool:
    """A panel for each mode, the stop shaded."""
    records = list(_records(results, "memory"))
    if not records:
        return False
    panels = figure.subplots(1, len(records), squeeze=False)[0]
    for axes, (mode, record) in zip(panels, records, strict=True):
        for kind, colour in (("raw", RAW), ("ours", OURS)):
            line, stop = record.line(kind), record.line(f"{kind}, stopped")
            if line is None or stop is None:
                continue
            axes.plot([x - stop.x[0] for x in line.x], line.y, color=colour, label=kind)
            axes.axvspan(0, stop.x[1] - stop.x[0], color=RAW, alpha=0.1, linewidth=0)
        wanted = goal("memory", "growth, ours", mode)
        if wanted is not None:
            axes.axhline(wanted.limit, color=GOAL, linewidth=1, label="goal for ours")
        axes.set_xlabel("s since the consumer stopped")
        axes.set_ylabel("MiB more than before")
        _finish(axes, LABELS[mode], times="")
    figure.suptitle(
        "memory of client, ingress and replica; shaded: the consumer reads nothing", fontsize=10
    )
    return True


def batching(results: Results, figure: Figure) -> bool:
    """A line for each way to serve, through ever more callers."""
    record = results.get("batching", Mode.PLAIN)
    if record is None:
        return False
    axes = figure.add_subplot()
    sizes = sorted({_size(series.name) for series in record.series})
    for series in record.series:
        waits = series.name.partition(", wait ")[2]
        shade = 0.15 + 0.75 * sizes.index(_size(series.name)) / max(1, len(sizes) - 1)
        axes.plot(
            series.x,
            series.y,
            marker="o",
            markersize=4,
            color=(0.9 - 0.85 * shade, 0.75 - 0.45 * shade, 0.85 - 0.25 * shade),
            linestyle={"": "-", "2 ms": "--"}.get(waits, ":"),
            label=series.name,
        )
    axes.set_xlabel("throughput")
    axes.set_ylabel("median latency")
    about = "a classifier, over batches of 1 and a single caller; along a line, more callers"
    _finish(axes, about, logarithmic="xy", times="xy")
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return True


def _size(line: str) -> int:
    return int(line.removeprefix("batches up to ").partition(",")[0])


PLOTS: dict[str, Draw] = {
    "throughput": throughput,
    "payloads": payloads,
    "streams": streams,
    "latency": latency,
    "predict": predict,
    "pause": pause,
    "memory": memory,
    "growth": growth,
    "batching": batching,
}
"""By the names of their files."""
