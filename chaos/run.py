"""One run: load, faults, and the account of both."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from chaos.calls import Caller
from chaos.checker import Violations
from chaos.clients import connect
from chaos.faults import Kind, plan
from chaos.items import payload
from chaos.leftovers import Census
from chaos.nemesis import Fired, Nemesis, Release
from chaos.pauses import Pauses, quantiles
from chaos.report import Report
from chaos.streams import Pace, Shared, Worker
from chaos.terminal import Say
from servestream_client import StreamClient

__all__ = ["Clock", "Load", "Settings", "run"]

SERVING_SECONDS = 2.0
"""Since a result, for the service to count as one that serves."""

MakeNemesis = Callable[
    [Callable[[], float], Callable[[Fired], object], Callable[[], bool]], Nemesis
]

WATCH_SECONDS = 0.5
STALE_SECONDS = 90.0
"""After which nobody may be served by code that was replaced: Serve drains for 30 s and more."""
END_SECONDS = 30.0
"""Beyond the limit of a stream, until every worker must have come back."""
SETTLE_SECONDS = 90.0
EACH_KIND_TIMES = 6
"""How much longer a run may be that is to have each kind of fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a run does.

    Attributes:
        seconds: of load with faults.
        streams: at a time.
        rate: items a second, all streams together.
        length: inputs of a stream, on average.
        calls: of `predict`, a second.
        limit: seconds without progress after which a stream hangs.
        every: seconds between two faults, on average.
        seed: decides everything that is drawn.
        kinds: of faults.
        each_kind: whether to go on, for `EACH_KIND_TIMES` as long at the most, until each kind of
            fault was there once: on a slow machine there are fewer in the same time.
        stateful: whether the service has a state for each stream; there are no calls of `predict`
            then, and all streams are ordered.
    """

    seconds: float
    streams: int = 16
    rate: float = 6000.0
    length: int = 3000
    calls: float = 20.0
    limit: float = 120.0
    every: float = 5.0
    seed: int = 0
    kinds: Sequence[Kind] = ()
    each_kind: bool = False
    stateful: bool = False


class Clock:
    """Seconds since the load began."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self) -> float:
        return time.monotonic() - self._began


@dataclass(slots=True)
class Load:
    """The load of a run, and what watches it.

    Attributes:
        limit: seconds without progress after which a stream hangs.
        shared: of all workers.
    """

    limit: float
    shared: Shared
    workers: list[Worker] = field(default_factory=list)
    callers: list[Caller] = field(default_factory=list)
    timeline: list[tuple[float, int]] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        """Begin with everything."""
        everybody: list[Worker | Caller] = [*self.workers, *self.callers]
        self._tasks = [asyncio.create_task(each.run()) for each in everybody]

    def watch(self) -> None:
        """Look whether every stream moves, and note how far they are."""
        now = self.shared.clock()
        self.timeline.append((now, self.shared.totals.items))
        for worker in self.workers:
            since = worker.live.wanting_since() if worker.live is not None else None
            given_up = worker.live is None or worker.live.given_up
            if since is not None and now - since > self.limit and not given_up:
                self._tasks.append(asyncio.create_task(worker.give_up(now - since)))

    async def stop(self) -> None:
        """No further inputs; every stream must come to its end."""
        self.shared.stopping = True
        deadline = self.shared.clock() + self.limit + END_SECONDS
        while any(not task.done() for task in self._tasks) and self.shared.clock() < deadline:
            await asyncio.wait(self._tasks, timeout=WATCH_SECONDS)
            self.watch()
        for task in self._tasks:
            if not task.done():
                self.shared.violations.add("hung", "the load", f"{task!r} does not end")
                task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                self.shared.violations.add("failed", "the load", repr(outcome))

    async def abort(self) -> None:
        """End everything now: the run was interrupted."""
        self.shared.stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @asynccontextmanager
    async def under_way(self) -> AsyncIterator[None]:
        """From its start until every stream has come to its end; aborted if the body fails."""
        self.start()
        try:
            yield
        except BaseException:  # being cancelled as well
            await self.abort()
            raise
        await self.stop()

    async def reach(self, version: int) -> None:
        """Wait until every stream under way is served by this version of the code."""
        deadline = self.shared.clock() + SETTLE_SECONDS
        while True:
            self.watch()
            behind = [worker for worker in self.workers if _version(worker) != str(version)]
            if not behind:
                return
            if self.shared.clock() > deadline:
                break
            await asyncio.sleep(WATCH_SECONDS)
        for worker in behind:
            self.shared.violations.add(
                "old code", worker.name, f"still on version {_version(worker)}, not {version}"
            )


def _version(worker: Worker) -> str:
    if worker.live is None or worker.live.stream is None:
        return ""
    return worker.live.stream.statistics().code_version


async def run(
    name: str,
    settings: Settings,
    *,
    target: str,
    behind_proxy: str,
    make_nemesis: MakeNemesis,
    say: Say,
) -> Report:
    """Load and faults, until the time is over and everything has come to its end.

    Args:
        name: of the run.
        settings: what to do.
        target: where the service is.
        behind_proxy: the same through the fault proxy.
        make_nemesis: called with the clock, with what is to be told of faults, and with what says
            whether the service serves.
        say: told how far it is.
    """
    census = await _warm(target, behind_proxy)
    clock = Clock()
    shared = Shared(clock, Violations(clock), Pauses())
    load = Load(settings.limit, shared)
    nemesis = make_nemesis(
        clock,
        lambda fault: shared.pauses.fault(fault.at, fault.kind),
        lambda: clock() - shared.last_result < SERVING_SECONDS,
    )
    rng = random.Random(settings.seed)  # noqa: S311 — decides what to break, hides nothing
    async with connect(target) as direct, connect(behind_proxy) as proxied:
        _fill(load, settings, direct, proxied, rng)
        async with load.under_way():
            async with _under_fire(nemesis, settings, rng) as fire:
                while not _is_over(clock(), nemesis, settings):
                    await asyncio.wait({fire}, timeout=WATCH_SECONDS)
                    if fire.done():
                        fire.result()  # it has no end but by an error
                    _watch(load, nemesis.release)
                    say(_progress(load, nemesis, settings))
            say("faults are over; waiting for the streams")
            if nemesis.release.version > 1:
                await load.reach(nemesis.release.version)
        seconds = clock()
    return Report(
        name=name,
        seed=settings.seed,
        seconds=seconds,
        watchdog=True,
        totals=shared.totals,
        fired=nemesis.fired,
        skipped=dict(nemesis.skipped),
        deployments_failed=nemesis.failures,
        pauses=shared.pauses.overall(),
        pauses_after=shared.pauses.after(),
        calls=quantiles(wait for caller in load.callers for wait in caller.waits),
        notable=shared.pauses.notable,
        timeline=load.timeline,
        violation_counts=dict(shared.violations.counts),
        violations=shared.violations.details,
        leftovers=await _left(census),
    )


async def _warm(target: str, behind_proxy: str) -> Census:
    """One call each way: what gRPC keeps for good is there when it is counted."""
    for each in (target, behind_proxy):
        async with connect(each) as client:
            async for _ in client.stream([payload(0, 1)]):
                pass
    gc.collect()
    return Census.take()


async def _left(census: Census) -> list[str]:
    # What was done in threads is over; those are kept for more.
    await asyncio.get_running_loop().shutdown_default_executor()
    return await census.left()


@asynccontextmanager
async def _under_fire(
    nemesis: Nemesis, settings: Settings, rng: random.Random
) -> AsyncIterator[asyncio.Task[None]]:
    planned = plan(settings.kinds, every=settings.every, rng=random.Random(rng.random()))  # noqa: S311
    fire = asyncio.create_task(nemesis.run(planned))
    try:
        yield fire
    except BaseException:  # being cancelled as well
        fire.cancel()
        nemesis.abort()
        raise
    fire.cancel()
    await asyncio.gather(fire, return_exceptions=True)
    healing = asyncio.create_task(nemesis.heal())
    try:
        await asyncio.shield(healing)
    except BaseException:
        nemesis.abort()
        raise


def _fill(
    load: Load,
    settings: Settings,
    direct: StreamClient[bytes, bytes],
    proxied: StreamClient[bytes, bytes],
    rng: random.Random,
) -> None:
    """Streams of every kind, each kind both ways."""
    rate = settings.rate / settings.streams
    paces = (Pace.STEADY, Pace.BURST, Pace.STEADY, Pace.SLOW)
    for number in range(settings.streams):
        through = number % 3 == 2
        endless = number < 2
        pace = Pace.STEADY if endless else paces[number % len(paces)]
        ordered = number // 2 % 2 == 0 if not endless else number == 0
        ordered |= settings.stateful
        words = (
            "endless" if endless else pace.value,
            "ordered" if ordered else "unordered",
            "through the proxy" if through else "direct",
        )
        worker = Worker(
            f"stream {number} ({', '.join(words)})",
            proxied if through else direct,
            pace,
            ordered=ordered,
            length=None if endless else settings.length,
            rate=rate,
            rng=random.Random(rng.random()),  # noqa: S311
            shared=load.shared,
            stateful=settings.stateful,
        )
        load.workers.append(worker)
    if settings.stateful:
        return
    for name, client in (("predict (direct)", direct), ("predict (proxied)", proxied)):
        caller = Caller(
            name,
            client,
            rate=settings.calls / 2,
            limit=settings.limit,
            rng=random.Random(rng.random()),  # noqa: S311
            shared=load.shared,
        )
        load.callers.append(caller)


def _is_over(now: float, nemesis: Nemesis, settings: Settings) -> bool:
    """Whether no further faults are to come."""
    missing = {*settings.kinds} - {fault.kind for fault in nemesis.fired}
    longer = EACH_KIND_TIMES if settings.each_kind and missing else 1
    return now >= settings.seconds * longer


def _watch(load: Load, release: Release) -> None:
    load.watch()
    if release.version > 1 and load.shared.clock() - release.since > STALE_SECONDS:
        load.shared.oldest_version = release.version


def _progress(load: Load, nemesis: Nemesis, settings: Settings) -> str:
    (then, before), (now, after) = load.timeline[-min(5, len(load.timeline))], load.timeline[-1]
    rate = (after - before) / (now - then) if now > then else 0.0
    last = f", last {nemesis.fired[-1].kind}" if nemesis.fired else ""
    return (
        f"{now:5.0f} of {settings.seconds:.0f} s, {after:,} items, {rate:,.0f}/s,"
        f" {len(nemesis.fired)} faults{last}, {len(load.shared.violations)} violations"
    )
