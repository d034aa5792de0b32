"""How a replica's streams are doing, as Ray's metrics; where there is no replica, nothing is done.

A call of Ray's costs more than many an input does. So what is counted anyway is handed over once a
second, and of the handlers' calls some are sampled: at most 16 a second, and of each the first
input, once its handler has ended. A call counts as one however many inputs it has, so that those
with few weigh more.

In a replica of Serve all streams are in one event loop; were there two, the gauges would tell of
the one that spoke last.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple, TypeAlias

from servestream_client.server.active_attempts import Account, ActiveAttempt, ActiveAttempts
from servestream_client.server.calls import Part
from servestream_client.usercode import describe

__all__ = [
    "BATCH_SIZE",
    "ITEMS",
    "ITEM_SECONDS",
    "RUNNING_ITEMS",
    "STREAMS",
    "WAITING_ITEMS",
    "Exporter",
    "Kind",
    "Metric",
    "RayMetrics",
    "Record",
    "Sample",
    "Samples",
]

logger: logging.Logger = logging.getLogger(__name__)

_SECONDS = 1.0
"""How often something is handed over."""

_BETWEEN_SAMPLES = 1 / 16
_SAMPLES_AT_ONCE = 4
"""Where there are few calls, those that begin at one time are all of them."""

# fmt: off
_SECOND_BUCKETS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
)
# fmt: on

_OK = "ok"


class Kind(Enum):
    """Of a metric: the name of Ray's class, and of the method that takes a measurement."""

    GAUGE = "Gauge", "set"
    COUNTER = "Counter", "inc"
    HISTOGRAM = "Histogram", "observe"


class Metric(NamedTuple):
    """What is measured.

    Attributes:
        tags: what each measurement has, besides what Serve adds.
        boundaries: of a histogram's buckets.
    """

    kind: Kind
    name: str
    description: str
    tags: tuple[str, ...] = ()
    boundaries: tuple[float, ...] = ()


Record: TypeAlias = Callable[[Metric, float, Mapping[str, str]], None]
"""Takes a measurement, with its tags."""

STREAMS = Metric(Kind.GAUGE, "servestream_streams", "Streams that are open.")
RUNNING_ITEMS = Metric(
    Kind.GAUGE, "servestream_running_items", "Items handed to a handler that have no answer."
)
WAITING_ITEMS = Metric(
    Kind.GAUGE, "servestream_waiting_items", "Items received and not yet handed to a handler."
)
ITEMS = Metric(
    Kind.COUNTER,
    "servestream_items",
    "Items whose answer was sent; outcome: ok, or the kind of the item's error.",
    ("outcome",),
)
BATCH_SIZE = Metric(
    Kind.HISTOGRAM,
    "servestream_batch_size",
    "Items in a call of predict_batch. Sampled: at most 16 calls a second.",
    boundaries=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
)
ITEM_SECONDS = Metric(
    Kind.HISTOGRAM,
    "servestream_item_seconds",
    "Seconds that the handler took for an item. Sampled: at most 16 calls a second.",
    ("outcome",),
    boundaries=_SECOND_BUCKETS,
)


class Sample(NamedTuple):
    """A call that is watched, by its first input."""

    part: Part
    number: int


class Samples:
    """What is known of single calls since it was last taken.

    Invariant: from one `due` to the next no call is watched, and `due` advances by a sixteenth of
    a second a call, from three of these ago at the earliest.

    Attributes:
        due: when the next call may be watched, in the time that calls are measured in; infinity:
            nobody wants to know. Whoever calls compares, which is all that most calls cost.
        batches: whether calls are batches, whose size says something.
    """

    __slots__ = ("_seconds", "_sizes", "batches", "due")

    def __init__(self) -> None:
        self.due: float = math.inf
        self.batches: bool = False
        self._sizes: list[int] = []
        self._seconds: list[tuple[str, float]] = []

    def begin(self, parts: Sequence[Part], now: float) -> Sample:
        """A call begins, and `due` is over."""
        earliest = now - (_SAMPLES_AT_ONCE - 1) * _BETWEEN_SAMPLES
        self.due = max(self.due, earliest) + _BETWEEN_SAMPLES
        if self.batches:
            self._sizes.append(sum(len(run.payloads) for _, run in parts))
        part = parts[0]
        number = part.run.first
        part.attempt.session.outbox.failures.watched[number] = None
        return Sample(part, number)

    def end(self, sample: Sample, seconds: float) -> None:
        """The call has ended, and each of its inputs took so long."""
        outbox = sample.part.attempt.session.outbox
        watched = outbox.failures.watched
        if sample.number not in watched:
            return  # its stream has ended
        kind = watched.pop(sample.number)
        if not outbox.awaits(sample.number):  # or else it was given back
            self._seconds.append((_OK if kind is None else kind.name.lower(), seconds))

    def take(self) -> tuple[Sequence[int], Sequence[tuple[str, float]]]:
        """The sizes of batches, and how items ended and how long each took."""
        taken = self._sizes, self._seconds
        self._sizes, self._seconds = [], []
        return taken


class Exporter:
    """Hands over what there is to say, once a second.

    Invariant: an answer that was sent is counted once. While attempts are here, and for one look
    after that, so that the last word is that there is none, something is handed over every second.

    Args:
        active: whose attempts they are.
        samples: what is known of single calls.
        record: takes it. What it raises is logged once, and harms nobody.
    """

    def __init__(self, active: ActiveAttempts, samples: Samples, record: Record) -> None:
        self._active = active
        self._samples = samples
        self._record = record
        self._gone: Counter[str] = Counter()  # outcomes on attempts that are over
        self._told: Counter[str] = Counter()
        self._looks = False  # no handle of the timer: it would keep a loop that was closed
        self._failed = False
        samples.due = -math.inf
        active.on_first.append(self._begin)
        active.on_gone.append(self._count_gone)

    def _begin(self) -> None:
        if not self._looks:
            self._looks = True
            self._look_later()

    def _look_later(self) -> None:
        # Not in the context of the call that happened to come.
        loop = asyncio.get_running_loop()
        loop.call_later(_SECONDS, self._look, context=contextvars.Context())

    def _count_gone(self, attempt: ActiveAttempt) -> None:
        _count(self._gone, attempt.account)

    def _look(self) -> None:
        accounts = self._active.accounts
        self._looks = bool(accounts)
        if self._looks:
            self._look_later()
        self._tell(accounts)

    def _tell(self, accounts: Sequence[Account]) -> None:
        self._say(STREAMS, len(accounts))
        self._say(RUNNING_ITEMS, sum(account.running for account in accounts))
        self._say(WAITING_ITEMS, sum(account.waiting for account in accounts))
        outcomes = self._gone.copy()
        for account in accounts:
            _count(outcomes, account)
        for outcome, count in outcomes.items():
            more = count - self._told[outcome]  # Ray's counters take no 0
            if more and self._say(ITEMS, more, {"outcome": outcome}):
                self._told[outcome] = count
        sizes, seconds = self._samples.take()
        for size in sizes:
            self._say(BATCH_SIZE, size)
        for outcome, taken in seconds:
            self._say(ITEM_SECONDS, taken, {"outcome": outcome})

    def _say(self, metric: Metric, value: float, tags: Mapping[str, str] | None = None) -> bool:
        try:
            self._record(metric, value, tags or {})
        except Exception as error:
            if not self._failed:
                logger.warning("metrics cannot be recorded: %s: %s", metric.name, describe(error))
            self._failed = True
            return False
        return True


class RayMetrics:
    """Records with Ray. A metric is made when it is first recorded.

    Args:
        module: `ray.serve.metrics`, whose classes add the application, the deployment and the
            replica.
    """

    def __init__(self, module: Any) -> None:  # noqa: ANN401 — Ray is not imported here
        self._module = module
        self._methods: dict[Metric, Callable[..., None]] = {}

    def __call__(self, metric: Metric, value: float, tags: Mapping[str, str]) -> None:
        method = self._methods.get(metric)
        if method is None:
            method = self._methods[metric] = self._make(metric)
        method(value, tags=dict(tags))

    def _make(self, metric: Metric) -> Callable[..., None]:
        class_name, method = metric.kind.value
        options: dict[str, object] = {"description": metric.description, "tag_keys": metric.tags}
        if metric.boundaries:
            options["boundaries"] = list(metric.boundaries)
        made: Callable[..., None] = getattr(
            getattr(self._module, class_name)(metric.name, **options), method
        )
        return made


def _count(outcomes: Counter[str], account: Account) -> None:
    failed = 0
    for kind, count in account.failed.items():
        outcomes[kind.name.lower()] += count
        failed += count
    outcomes[_OK] += account.answered - failed
