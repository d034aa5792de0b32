"""Medians, spreads, ratios, and how contenders take turns."""

import pytest

from benchmarks.cpu import CpuMeter, Role
from benchmarks.goals import GOALS, Goal, figure, goal
from benchmarks.measure import Contender, alternate, calibrate, in_turn, take_turns
from benchmarks.results import Unit
from benchmarks.servers import Mode
from benchmarks.statistics import brief, ratios, summarise
from benchmarks.suites import SUITES


def test_a_summary_is_the_median_and_how_far_it_goes():
    summary = summarise([5.0, 1.0, 2.0, 4.0, 3.0])
    assert summary == (3.0, 1.0, 2.0, 4.0, 5.0, 5)
    assert summarise([7.0]) == (7.0, 7.0, 7.0, 7.0, 7.0, 1)


def test_nothing_has_no_summary():
    with pytest.raises(ValueError, match="nothing"):
        summarise([])


def test_ratios_are_taken_round_by_round():
    # The ratio of the medians would be 1; every single round says 2 or 1/2.
    assert ratios([2.0, 10.0, 4.0], [1.0, 20.0, 2.0]) == [2.0, 0.5, 2.0]


@pytest.mark.parametrize(("ours", "raw"), [([1.0], []), ([1.0], [0.0]), ([1.0], [-1.0])])
def test_what_has_no_ratio_is_refused(ours, raw):
    with pytest.raises(ValueError, match=r"rounds|nothing"):
        ratios(ours, raw)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.1234, "0.123"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (1234.5, "1,234"),
        (-2, "-2.00"),
    ],
)
def test_a_figure_has_the_digits_that_count(value, text):
    assert brief(value) == text


def test_a_goal_is_reached_from_the_right_side():
    assert Goal(2.0).reached(2.0)
    assert not Goal(2.0).reached(1.99)
    assert Goal(2.0, at_most=True).reached(2.0)
    assert not Goal(2.0, at_most=True).reached(2.01)
    assert Goal(1.15, at_most=True).text(Unit.TIMES) == f"≤ {figure(1.15, Unit.TIMES)}"


def test_every_goal_belongs_to_a_suite_and_to_modes_that_it_runs_in():
    for (suite, name), goals in GOALS.items():
        modes = SUITES[suite].modes
        assert all(mode in modes for mode in goals if mode is not None), name
        assert any(goal(suite, name, mode) for mode in modes)
    assert goal("latency", "lone item on an open stream", Mode.PLAIN) == Goal(1.35, at_most=True)
    assert goal("latency", "no such figure", Mode.PLAIN) is None


def test_every_other_round_goes_backwards():
    assert [list(in_turn("abc", number)) for number in range(3)] == [
        ["a", "b", "c"],
        ["c", "b", "a"],
        ["a", "b", "c"],
    ]


async def test_contenders_alternate():
    order = []

    def way(name):
        async def once():
            order.append(name)
            return float(len(order))

        return once

    values = await alternate({name: way(name) for name in "ab"}, rounds=3)
    assert "".join(order) == "abbaab"
    assert values == {"a": [1.0, 4.0, 5.0], "b": [2.0, 3.0, 6.0]}


class Clock:
    """A contender's time, which passes as it works and not otherwise."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr("time.perf_counter", lambda: self.now)
        monkeypatch.setattr("gc.collect", lambda: 0)

    def contender(self, name, a_second, *, start=0.0, least=1):
        async def run(items):
            assert items >= least
            self.now += start + items / a_second

        return Contender(name, run, least)


@pytest.mark.parametrize("a_second", [3.0, 1_000.0, 1_000_000.0])
async def test_a_measurement_is_made_to_last_as_long_as_it_should(monkeypatch, a_second):
    clock = Clock(monkeypatch)
    items = await calibrate(clock.contender("any", a_second), 1.5)
    assert items == pytest.approx(1.5 * a_second, rel=0.2)


async def test_a_slow_start_does_not_make_a_measurement_short(monkeypatch):
    clock = Clock(monkeypatch)
    items = await calibrate(clock.contender("any", 10_000.0, start=0.1), 1.5)
    assert 1.0 < 0.1 + items / 10_000 < 2.0


async def test_a_contender_is_never_asked_for_less_than_it_can_do(monkeypatch):
    clock = Clock(monkeypatch)
    assert await calibrate(clock.contender("slow", 1.0, least=256), 1.5) == 256


async def test_rates_are_items_in_a_second(monkeypatch):
    clock = Clock(monkeypatch)
    contenders = [clock.contender("fast", 4_000.0), clock.contender("slow", 1_000.0)]
    meter = CpuMeter(list)
    rates = await take_turns(contenders, aim=1.0, rounds=4, meter=meter)
    assert ratios(rates["fast"], rates["slow"]) == pytest.approx([4.0] * 4)
    # Of the rounds, and not of what was tried before; nobody else carries anything here.
    assert {name: [*roles] for name, roles in meter.taken.items()} == {
        "fast": [Role.CLIENT],
        "slow": [Role.CLIENT],
    }
    assert all(len(values) == 4 for roles in meter.taken.values() for values in roles.values())
