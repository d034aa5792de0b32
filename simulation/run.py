"""One run: from a seed to an outcome."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from servestream_client.client import StreamClient
from servestream_client.codecs import BytesCodec
from servestream_client.outputs import SeamKind
from servestream_client.protocol import chunk_size, frame_size
from servestream_client.server.runner import OPEN_SECONDS
from servestream_client.session.request import Request
from simulation.check import (
    check_calls,
    check_predicts,
    check_services,
    check_stream,
    final_leftovers,
    leftovers,
)
from simulation.check_fold import check_fold
from simulation.check_many import check_generations, check_many, check_parked, check_workers
from simulation.counting import (
    APART,
    DEATHS,
    GENERATORS,
    PARKED,
    RESUMES,
    STATES,
    Counting,
    seams_of,
)
from simulation.fold_service import fold_service
from simulation.items import SimulatedCodec
from simulation.loop import Deadlock, Overdue, VirtualLoop, isolated
from simulation.network import SimulatedNetwork
from simulation.readers import GenerationRecord, read_all
from simulation.schedule import EARLY, Scenario, StreamPlan, draw_scenario
from simulation.service import Authors, Living, SimulatedService
from simulation.trace import Trace
from simulation.workload import PredictRecord, StreamRecord, consume, predict_all

__all__ = ["Outcome", "simulate"]

VIRTUAL_LIMIT = 600.0
"""Seconds in which everything must have ended. Faults stop after 20, and the slowest of what is
asked for takes less than 200."""

MOST_CALLBACKS = 2_000_000

_MISSED_HEARTBEATS = 4

_ENDING_SECONDS = 100.0
"""For servers to find out that everybody has gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a run.

    Attributes:
        seed: of the run.
        digest: of its trace; equal seeds have equal digests.
        faults: how many struck, by kind and by the state of the client's attempt.
        items: answers that callers got.
        many: what happened to inputs with many outputs, counted by name.
        attempts: calls that were made.
        seconds: virtual ones.
        callbacks: of the event loop.
        violations: promises that were broken.
        trace: what happened.
    """

    seed: int
    digest: str
    faults: Mapping[tuple[str, str], int]
    items: int
    many: Mapping[str, int]
    attempts: int
    seconds: float
    callbacks: int
    violations: Sequence[str]
    trace: Trace = field(repr=False)


class Run:
    """The parts of a run."""

    def __init__(self, scenario: Scenario) -> None:
        seed = scenario.seed
        self.scenario = scenario
        self.loop = VirtualLoop(
            _rng(seed, "loop"),
            disorder=scenario.disorder,
            cost=scenario.cost,
            limit=VIRTUAL_LIMIT,
            most_callbacks=MOST_CALLBACKS,
        )
        self.trace = Trace(self.loop.time)
        self.violations: list[str] = []
        window = scenario.flow.window_items
        self.streams = [
            StreamRecord(plan, window, _deaths(seed, plan)) for plan in scenario.streams
        ]
        self.predicts = PredictRecord(scenario.predicts)
        self.generations = [GenerationRecord(plan) for plan in scenario.generations.readers]
        self.parked = Counting[Request]()
        self.authors = Authors()
        codec = SimulatedCodec() if scenario.own_codec else BytesCodec()
        service_rng = _rng(seed, "service")
        make: Callable[..., Living] = SimulatedService
        if scenario.folding:
            make = fold_service(batches=scenario.service.fold.batches)
        self.network = SimulatedNetwork(
            self.loop,
            _rng(seed, "network"),
            scenario.weather,
            faults=scenario.faults,
            kind=scenario.service.kind,
            make_service=lambda admission, version: make(
                scenario.service,
                scenario.items,
                codec,
                service_rng,
                admission,
                self.authors,
                version,
            ),
            trace=self.trace,
        )
        self.codec = codec

    def client(self) -> StreamClient[bytes, bytes]:
        """One that reaches the simulated network."""
        client = StreamClient(
            "simulation:1",
            codec=self.codec,
            flow=self.scenario.flow,
            retry=self.scenario.retry,
            predict_streams=self.scenario.predict_streams,
            watchdog=self.scenario.watchdog,
        )
        self.network.serve(client)
        return client

    async def main(self) -> None:
        """All users at once, then the end of everything, and what is to be seen then."""
        client = self.client()
        users = self._users(client)
        if self.scenario.closes is not None:
            await asyncio.wait(users, timeout=self.scenario.closes)
            await client.aclose()
            self.violations += leftovers(self.loop, self.network)
        for user in users:
            await user
        await self.finish(client)

    async def finish(self, client: StreamClient[bytes, bytes]) -> None:
        """The end of everything, and what is left then."""
        await client.aclose()
        self.violations += leftovers(self.loop, self.network)
        self.violations += await self._deaf_servers()
        await self.network.aclose()
        await asyncio.sleep(_ENDING_SECONDS)
        self.violations += final_leftovers(self.loop)
        self.violations += check_workers(self.network)

    async def _deaf_servers(self) -> list[str]:
        """Servers that never heard of their client's leaving must find it out by themselves."""
        interval = self.scenario.watchdog.heartbeat_interval
        if interval is None:
            return []
        await asyncio.sleep(_MISSED_HEARTBEATS * interval + OPEN_SECONDS + _ENDING_SECONDS)
        return [f"{call} is still served" for call in self.network.served_calls]

    def _users(self, client: StreamClient[bytes, bytes]) -> list[asyncio.Task[None]]:
        seed, loop = self.scenario.seed, self.loop
        users = [
            loop.create_task(
                consume(client, record, _rng(seed, f"user {record.plan.items.key}")),
                name=f"sim user {record.plan.items.key}",
            )
            for record in self.streams
        ]
        if self.generations:
            client._generate_lanes()._parked = self.parked
            items = self.scenario.generations.items
            reading = read_all(client, items, self.generations)
            users.append(loop.create_task(reading, name="sim generations"))
        if self.scenario.predicts.items.count:
            predicting = predict_all(client, self.predicts, _rng(seed, "callers"))
            users.append(loop.create_task(predicting, name="sim predictions"))
        return users

    def check(self) -> None:
        """Look at what everybody has got."""
        scenario, network = self.scenario, self.network
        for record in self.streams:
            checked = check_many if record.plan.many else check_stream
            checked = check_fold if scenario.folding else checked
            self.violations += checked(record, scenario, network)
        self.violations += check_generations(
            self.generations, scenario, network, self.authors.replica
        )
        self.violations += check_parked(self.parked)
        self.violations += check_predicts(self.predicts, scenario, network)
        # A stream goes on under its name when its user has died and come back, if it is stateful,
        # or it was not known yet whether it is.
        again = Counter[bytes]()
        for record in self.streams:
            again.update({name: times - 1 for name, times in record.names.items()})
        self.violations += check_calls(network, scenario, again)
        self.violations += check_services(network, scenario.service.concurrency)
        self.violations += self.loop.problems

    def outcome(self) -> Outcome:
        answers = sum(len(record.got) for record in self.streams) + len(self.predicts.results)
        answers += sum(len(record.got) for record in self.generations)
        return Outcome(
            seed=self.scenario.seed,
            digest=self.trace.digest,
            faults=dict(self.network.books.faults),
            items=answers,
            many=self._many(),
            attempts=len(self.network.calls),
            seconds=self.loop.time(),
            callbacks=self.loop.callbacks,
            violations=tuple(self.violations),
            trace=self.trace,
        )

    def _many(self) -> Mapping[str, int]:
        """What happened to inputs with many outputs, counted."""
        kinds = Counter(seam.kind for record in self.generations for seam in record.seams)
        return {
            GENERATORS: len(self.authors.replicas),
            RESUMES: self.network.books.resumes,
            **{seams_of(kind): kinds[kind] for kind in SeamKind},
            PARKED: self.parked.added,
            APART: sum(record.apart for record in self.streams),
            DEATHS: sum(record.deaths for record in self.streams),
            STATES: sum(record.states for record in self.streams),
        }


def simulate(seed: int, *, many: bool | None = None, folding: bool | None = None) -> Outcome:
    """Play the scenario of a seed; see `draw_scenario`."""
    collecting = gc.isenabled()
    gc.disable()  # when it comes, and what it finds, is no function of a seed
    try:
        with quiet():
            return play(Run(draw_scenario(seed, many=many, folding=folding)))
    finally:
        if collecting:
            gc.enable()


def play(run: Run) -> Outcome:
    """Let it happen, and look at what has."""
    try:
        with isolated(run.loop, _rng(run.scenario.seed, "process")), _frames(run.scenario.seed):
            run.loop.run_until_complete(run.main())
            run.check()
    except (Deadlock, Overdue) as stuck:
        run.violations.append(f"{type(stuck).__name__}: {stuck}")
        run.check()
    except Exception as error:
        run.violations.append(f"the simulation itself failed: {error!r}")
    finally:
        run.loop.close()
    return run.outcome()


@contextmanager
def _frames(seed: int) -> Iterator[None]:
    """In half of the runs frames are small, so that what is simulated is large beside them."""
    rng = _rng(seed, "frames")
    if rng.random() < 0.5:
        yield
        return
    least, most = rng.choice((50, 200)), rng.choice((300, 1000, 5000))
    small = [
        (frame_size, "FRAME_TARGET_BYTES", rng.choice((100, 500))),
        (chunk_size, "CHUNK_LEAST_BYTES", least),
        (chunk_size, "CHUNK_BYTES", rng.choice((least, most))),
        (chunk_size, "CHUNK_MOST_BYTES", most),
    ]
    before = [getattr(module, name) for module, name, _ in small]
    try:
        for module, name, size in small:
            setattr(module, name, size)
        yield
    finally:
        for (module, name, _), size in zip(small, before, strict=True):
            setattr(module, name, size)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the package's log to itself: what goes wrong by plan is no news."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _deaths(seed: int, plan: StreamPlan) -> tuple[int, ...]:
    """After how many answers a stream's user dies and comes back: of some of those that read to the
    end, and one answer for each input.
    """
    rng = _rng(seed, f"deaths {plan.items.key}")
    if plan.many or plan.consumption in EARLY or rng.random() < 0.6:
        return ()
    return tuple(sorted(rng.randrange(1, plan.items.count + 2) for _ in range(rng.randrange(1, 4))))


def _rng(seed: int, what: str) -> random.Random:
    return random.Random(f"{what} {seed}")
