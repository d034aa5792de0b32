"""What the client is meant to reach."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.results import Unit
from benchmarks.servers import Mode
from benchmarks.statistics import brief

ANY = None
"""In the place of a mode: every mode."""


class Goal(NamedTuple):
    """A limit for the median of a figure."""

    limit: float
    at_most: bool = False

    def reached(self, median: float) -> bool:
        return median <= self.limit if self.at_most else median >= self.limit

    def text(self, unit: Unit) -> str:
        return f"{'≤' if self.at_most else '≥'} {figure(self.limit, unit)}"


def figure(value: float, unit: Unit) -> str:
    """A value with its unit."""
    return f"{brief(value)}{'×' if unit is Unit.TIMES else ' ' + unit.value}"  # noqa: RUF001


def _by_mode(proxy: float, haproxy: float, plain: float, *, at_most: bool = False) -> _Goals:
    return {
        Mode.PROXY: Goal(proxy, at_most),
        Mode.HAPROXY: Goal(haproxy, at_most),
        Mode.PLAIN: Goal(plain, at_most),
    }


_Goals = dict[Mode | None, Goal]

_MESSAGES = _by_mode(200, 60, 100)
_BY_HAND = _by_mode(2.5, 1.2, 1.1)

GOALS: dict[tuple[str, str], _Goals] = {
    ("throughput", "predict over one item a message"): _MESSAGES,
    ("throughput", "predict_batch over one item a message"): _MESSAGES,
    ("throughput", "predict over 256 by hand"): _BY_HAND,
    ("throughput", "predict_batch over 256 by hand"): _BY_HAND,
    ("payloads", "1 kB, over 256 by hand"): _by_mode(1.2, 1.1, 1.0),
    ("payloads", "10 kB, over 25 by hand"): {ANY: Goal(1)},
    ("payloads", "100 kB"): {ANY: Goal(1)},
    ("payloads", "2 MB"): {ANY: Goal(1)},
    ("streams", "500 streams, over 256 by hand"): {Mode.PLAIN: Goal(0.9)},
    ("latency", "lone item on an open stream"): _by_mode(1.05, 1.2, 1.35, at_most=True),
    ("latency", "stream of one item"): _by_mode(1.15, 1.4, 1.5, at_most=True),
    ("predict", "1000 callers"): _by_mode(250, 75, 25),
    ("tokens", "100 generations, as fast as they can"): _by_mode(50, 8, 5),
    ("tokens", "100 generations of 50 a second, share that comes, ours"): {Mode.PROXY: Goal(98)},
    ("tokens", "100 generations of 50 a second, p99 gap over the handlers', ours"): {
        Mode.PROXY: Goal(3, at_most=True)
    },
    ("tokens", "1,000 generations of 20 a second, share that comes, ours"): {Mode.PROXY: Goal(95)},
    ("tokens", "one generation, time to the first token"): {ANY: Goal(1.3, at_most=True)},
    ("tokens", "one generation, gap between tokens"): {ANY: Goal(1.15, at_most=True)},
    ("cuts", "from the cut to the next token, beyond raw"): {
        Mode.PROXY: Goal(20, at_most=True),
        Mode.HAPROXY: Goal(20, at_most=True),
    },
    ("tokens", "100 of 200 readers stop, rate of the others over before"): {ANY: Goal(0.95)},
    ("tokens", "100 of 200 readers stop, growth over the sum of the bounds"): {
        ANY: Goal(1, at_most=True)
    },
    ("lanes", "one stream, 4 replicas over 1"): {ANY: Goal(3.8)},
    ("lanes", "one stream, 8 replicas over 1"): {ANY: Goal(7)},
    ("lanes", "one of 4 replicas ten times slower, ordered over unordered"): {ANY: Goal(0.8)},
    ("lanes", "one replica, throughput over that with lanes=1"): {ANY: Goal(0.97)},
    ("lanes", "one replica, lone item over that with lanes=1"): {ANY: Goal(1.05, at_most=True)},
    ("lanes", "cost of a call, 10,000 at one time over 1,000"): {ANY: Goal(1.2, at_most=True)},
    ("lanes", "cost of a call, 100,000 at one time over 1,000"): {ANY: Goal(1.2, at_most=True)},
    ("scaling", "until 90 % of a fresh client's"): {ANY: Goal(10_000, at_most=True)},
    ("stateful", "one stream, Silero VAD, over one-to-one"): {ANY: Goal(0.8)},
    ("stateful", "100 streams, Silero VAD, step_batch over step"): {ANY: Goal(3)},
    ("stateful", "resume with a state of 1 kB, beyond one-to-one"): {ANY: Goal(10, at_most=True)},
    ("stateful", "resume with a state of 1 MB, beyond one-to-one"): {ANY: Goal(50, at_most=True)},
    ("failover", "beyond the raw stub"): {ANY: Goal(10, at_most=True)},
    ("pause", "beyond the raw stub"): {ANY: Goal(50, at_most=True)},
    ("memory", "growth, ours"): {ANY: Goal(10, at_most=True)},
    ("stubs", "replies of one call"): {ANY: Goal(0.9)},
    ("idle", "each stream, ours"): {ANY: Goal(16, at_most=True)},
    ("import", "time"): {ANY: Goal(1.3, at_most=True)},
    ("blocking", "blocking over async"): {ANY: Goal(0.9)},
    ("jobs", "a classifier, batches into SQLite over the stream alone"): {ANY: Goal(0.8)},
    ("growth", "1,000,000 items"): {ANY: Goal(1.2, at_most=True)},
}
"""By suite and figure, and then by mode."""


def goal(suite: str, name: str, mode: str) -> Goal | None:
    """The goal of a figure, if it has one."""
    goals = GOALS.get((suite, name), {})
    return goals.get(Mode(mode), goals.get(ANY))
