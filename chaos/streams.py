"""One stream after the other, consumed and checked."""

from __future__ import annotations

import asyncio
import enum
import random
from array import array
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from chaos.checker import StreamCheck, Violations
from chaos.items import Answer, payload
from chaos.pauses import Pauses
from chaos.state import dump
from servestream_client import ItemError, PredictionStream, ServeStreamError, StreamClient

__all__ = ["Live", "Pace", "Shared", "Totals", "Worker"]

BURST_SECONDS = 0.1
"""Between two bursts of inputs of a stream whose inputs come at a rate."""


class Pace(enum.StrEnum):
    """What a stream's two ends are like."""

    STEADY = "steady"
    """Inputs come at a rate, over the stream's whole life."""
    SLOW = "slow"
    """All inputs are there, and the consumer takes its time: window and credit are exhausted."""
    BURST = "burst"
    """All at once, as fast as it goes, and then a rest."""


@dataclass(slots=True)
class Totals:
    """What all streams came to."""

    streams: int = 0
    items: int = 0
    sent: int = 0
    resumes: int = 0
    replayed: int = 0
    duplicates: int = 0
    attempts: int = 0
    predictions: int = 0
    changed_version: int = 0
    """Streams that began on one version of the code and ended on another."""
    by_pid: dict[int, int] = field(default_factory=dict)
    by_version: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Shared:
    """What the workers of a run have in common.

    Attributes:
        clock: seconds since it began.
        oldest_version: answers of older code are a violation.
        last_result: when any stream got one.
        stopping: no further inputs.
    """

    clock: Callable[[], float]
    violations: Violations
    pauses: Pauses
    totals: Totals = field(default_factory=Totals)
    oldest_version: int = 0
    last_result: float = 0.0
    stopping: bool = False


class Live:
    """A stream under way, with what is needed to see whether it moves."""

    def __init__(self, check: StreamCheck, shared: Shared) -> None:
        self.check = check
        self.stream: PredictionStream[bytes] | None = None
        self.pulled = 0
        self.asked = shared.clock()
        """Since when its consumer wants something."""
        self.consuming = False
        """Whether its consumer is busy, and wants nothing."""
        # What was given up is not given up again, and what has ended does not hang.
        self.given_up = False
        self.ended = False
        self.complete = False
        """Whether its inputs have ended."""
        self.last: Answer | None = None
        self.versions: list[int] = []
        self._pulled_at = array("d", [0.0])
        self._shared = shared

    def pull(self) -> bytes:
        """The next input."""
        self.pulled += 1
        self._pulled_at.append(self._shared.clock())
        return payload(self.check.tag, self.pulled)

    def wanting_since(self) -> float | None:
        """Since when a result, or the end, is due; None: nothing is."""
        if self.consuming or self.ended:
            return None
        if self.check.oldest <= self.pulled:
            return max(self.asked, self._pulled_at[self.check.oldest])
        return self.asked if self.complete else None

    def take(self, output: bytes) -> None:
        """A result has come."""
        now = self._shared.clock()
        began = self.wanting_since()
        if began is not None:
            self._shared.pauses.note(self.check.tag, began, now)
        found = self.check.take(output, self.pulled)
        self.asked = self._shared.last_result = now
        if found is not None:
            self._look_at(found)

    def _look_at(self, found: Answer) -> None:
        self.last = found
        if not found.pid:
            return
        shared = self._shared
        totals = shared.totals
        totals.by_pid[found.pid] = totals.by_pid.get(found.pid, 0) + 1
        totals.by_version[found.version] = totals.by_version.get(found.version, 0) + 1
        if not self.versions or self.versions[-1] != found.version:
            self.versions.append(found.version)
        if found.version < shared.oldest_version:
            shared.violations.add(
                "old code", self.check.name, f"version {found.version} still answers"
            )


class Worker:
    """Runs one stream after the other, until told to stop.

    Args:
        name: in words.
        client: whose streams.
        pace: of the streams.
        ordered: whether the results come in order.
        length: inputs of a stream; None: it goes on until the run stops.
        rate: items a second, on average.
        rng: decides lengths and tags.
        shared: of the run.
        stateful: whether the service is.
    """

    def __init__(
        self,
        name: str,
        client: StreamClient[bytes, bytes],
        pace: Pace,
        *,
        ordered: bool,
        length: int | None,
        rate: float,
        rng: random.Random,
        shared: Shared,
        stateful: bool = False,
    ) -> None:
        self.live: Live | None = None
        self.name = name
        self._client = client
        self._pace = pace
        self.ordered: bool = ordered
        self._length = length
        self._rate = rate
        self._rng = rng
        self._shared = shared
        self._stateful = stateful
        self._number = 0

    async def run(self) -> None:
        """Streams in turn."""
        while not self._shared.stopping:
            began = self._shared.clock()
            await self._one()
            if self._pace is Pace.BURST and self.live is not None:
                await self._rest(began + self.live.pulled / self._rate)
            elif self.live is not None and not self.live.check.taken:
                await asyncio.sleep(0.1)  # it failed at once, and has been noted

    async def _one(self) -> None:
        self._number += 1
        tag = self._rng.getrandbits(64)
        name = f"{self.name} #{self._number}"
        shared = self._shared
        check = StreamCheck(
            tag,
            name,
            ordered=self.ordered,
            violations=shared.violations,
            stateful=self._stateful,
        )
        live = self.live = Live(check, shared)
        length = None if self._length is None else int(self._length * self._rng.uniform(0.3, 1.7))
        stream = self._client.stream(self._inputs(live, length), ordered=self.ordered)
        live.stream = stream
        try:
            async with stream:
                await self._consume(live, stream)
            check.end(live.pulled)
        except ItemError as error:
            shared.violations.add("item error", name, str(error))
        except ServeStreamError as error:
            if not live.given_up:  # that has been said
                shared.violations.add("failed", name, f"{type(error).__name__}: {error}")
        except Exception as error:  # a bug, of the client or in here
            shared.violations.add("failed", name, f"{type(error).__name__}: {error}")
        self._settle(live, stream)

    async def _consume(self, live: Live, stream: PredictionStream[bytes]) -> None:
        totals = self._shared.totals
        dally = max(1, int(self._rate * BURST_SECONDS)) if self._pace is Pace.SLOW else 0
        async for output in stream:
            live.take(output)
            totals.items += 1
            if dally and live.check.taken % dally == 0 and not self._shared.stopping:
                live.consuming = True
                await asyncio.sleep(BURST_SECONDS)
                live.consuming = False
                live.asked = self._shared.clock()

    async def _inputs(self, live: Live, length: int | None) -> AsyncIterator[bytes]:
        """Inputs in bursts, at the stream's rate; or all at once."""
        due = self._shared.clock()
        burst = max(1, int(self._rate * BURST_SECONDS))
        while not self._shared.stopping and (length is None or live.pulled < length):
            for _ in range(burst):
                yield live.pull()
            if self._pace is Pace.STEADY:
                # What an outage held up is not made good for: it would come as one burst.
                due = max(due + BURST_SECONDS, self._shared.clock() - BURST_SECONDS)
                await self._rest(due)
        live.asked = max(live.asked, self._shared.clock())
        live.complete = True

    async def _rest(self, until: float) -> None:
        """Sleep, but not beyond the end."""
        while not self._shared.stopping and (left := until - self._shared.clock()) > 0:  # noqa: ASYNC110 — there is a time to wait for
            await asyncio.sleep(min(left, 0.5))

    def _settle(self, live: Live, stream: PredictionStream[bytes]) -> None:
        live.ended = True
        totals, statistics = self._shared.totals, stream.statistics()
        totals.streams += 1
        totals.sent += statistics.sent
        totals.resumes += statistics.resumes
        totals.replayed += statistics.replayed
        totals.duplicates += statistics.duplicates
        totals.attempts += statistics.attempts
        totals.changed_version += len(live.versions) > 1
        if live.complete and not live.given_up and statistics.received != live.pulled:
            self._shared.violations.add(
                "statistics",
                live.check.name,
                f"received {statistics.received} of {live.pulled} in the stream's own account",
            )

    async def give_up(self, seconds: float) -> None:
        """Its stream hangs: say so with its state, and end it."""
        live = self.live
        if live is None or live.stream is None or live.given_up:
            return
        live.given_up = True
        self._shared.violations.add(
            "hung",
            live.check.name,
            f"no progress for {seconds:.0f} s; {live.check.taken} of {live.pulled} answered",
            state=dump(live.stream),
        )
        await live.stream.aclose()
