"""What a suite gets to work with, and what a suite is."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.cpu import CpuMeter, Role
from benchmarks.measure import Contender, MeasurementError, Way, alternate, take_turns
from benchmarks.results import Measurement, Record, Series, Unit
from benchmarks.servers import Mode, Servers
from benchmarks.statistics import ratios

ATTEMPTS = 3
"""At a measurement that fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How thorough a run is.

    Attributes:
        rounds: that the contenders take turns in.
        seconds: that each measurement aims at.
        quick: whether suites shall leave out what takes long.
    """

    rounds: int = 5
    seconds: float = 1.5
    quick: bool = False


class Bench:
    """The servers of a mode, the settings, and where the figures go.

    Args:
        servers: running; with what the suite asked for.
        settings: of the run.
        record: takes the figures.
        say: called with what is being done.
        show: called with each figure.
    """

    def __init__(
        self,
        servers: Servers,
        settings: Settings,
        record: Record,
        *,
        say: Callable[[str], None] = lambda _: None,
        show: Callable[[Measurement], None] = lambda _: None,
    ) -> None:
        self.servers = servers
        self.settings = settings
        self.record = record
        self.say = say
        self._show = show

    async def alternate(
        self, ways: Mapping[str, Way], *, unit: str, where: str = ""
    ) -> dict[str, list[float]]:
        """What each way measures, by round; recorded as samples.

        What fails is noted, and measured again a few times.

        Args:
            ways: that take turns.
            unit: of what they measure.
            where: what they are measured at, to tell the samples from others.
        """
        say = (lambda text: self.say(f"{where}, {text}")) if where else self.say
        again = {name: self._again(way, f"{where}, {name}") for name, way in ways.items()}
        values = await alternate(again, rounds=self.settings.rounds, say=say)
        self.sampled(values, unit=unit, where=where)
        return values

    async def rates(
        self, contenders: Sequence[Contender], *, where: str = "", cpu: Sequence[str] = ()
    ) -> dict[str, list[float]]:
        """Items in a second, by contender and round; recorded as samples, with the CPU seconds.

        Args:
            contenders: that take turns.
            where: what they are measured at.
            cpu: those whose CPU seconds are figures.
        """
        say = (lambda text: self.say(f"{where}, {text}")) if where else self.say
        meter = CpuMeter(self.servers.carriers)
        values = await take_turns(
            contenders,
            aim=self.settings.seconds,
            rounds=self.settings.rounds,
            meter=meter,
            say=say,
        )
        self.sampled(values, unit="items/s", where=where)
        for name, roles in meter.taken.items():
            for role, each in roles.items():
                self.sampled({f"{name}, {role}": each}, unit="CPU s/million", where=where)
        for role in Role:
            for name in cpu:
                text = f"{where}, CPU of the {role}, {name}".removeprefix(", ")
                if seconds := meter.taken[name].get(role):
                    self.measured(Measurement(name=text, unit=Unit.CPU, values=seconds))
        return values

    def _again(self, way: Way, what: str) -> Way:
        async def measure() -> float:
            for _ in range(ATTEMPTS - 1):
                try:
                    return await way()
                except MeasurementError as error:
                    self.note(f"{what}: {error}; measured again".removeprefix(", "))
            return await way()

        return measure

    def sampled(self, values: Mapping[str, Sequence[float]], *, unit: str, where: str = "") -> None:
        """Record what figures will be computed from."""
        for name, each in values.items():
            self.record.samples[f"{where}, {name} [{unit}]".removeprefix(", ")] = list(each)

    def compare(
        self, name: str, ours: Sequence[float], raw: Sequence[float], *, at: float | None = None
    ) -> None:
        """Record a ratio, ours over raw.

        Args:
            name: of the figure.
            ours: by round.
            raw: likewise.
            at: where it belongs on the horizontal axis of a plot.
        """
        self.measured(Measurement(name=name, values=ratios(ours, raw), at=at))

    def measured(self, measurement: Measurement) -> None:
        """Record a figure."""
        self.record.measurements.append(measurement)
        self._show(measurement)

    def note(self, text: str) -> None:
        """Record something that was seen, in words."""
        self.record.notes.append(text)
        self.say(text)

    def line(self, name: str, x: Sequence[float], y: Sequence[float]) -> None:
        """Record a line for a plot."""
        self.record.series.append(Series(name=name, x=list(x), y=list(y)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One thing that can be measured.

    Attributes:
        name: for the command line.
        about: one line about it.
        run: does it.
        modes: in which it says something.
        applications: that shall run.
        replicas: of each.
        fresh: whether it needs servers that nothing has run on.
    """

    name: str
    about: str
    run: Callable[[Bench], Coroutine[None, None, None]]
    modes: tuple[Mode, ...] = tuple(Mode)
    applications: tuple[str, ...] = ("echo",)
    replicas: int = 1
    fresh: bool = False
