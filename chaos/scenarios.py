"""What happens to two nodes, under live streams, and what the streams make of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from chaos.checker import Violations
from chaos.cluster import Cluster
from chaos.deploying import Deployment
from chaos.nemesis import Fired
from chaos.pauses import Pauses
from chaos.probe import Probe
from chaos.report import NODE_DEATH
from chaos.run import Load
from chaos.streams import Worker
from chaos.terminal import Say

__all__ = ["BOTH", "SCENARIOS", "Scene", "Way"]

CALM_SECONDS = 5.0
"""Of undisturbed load before and after each scenario."""
MOVE_SECONDS = 5.0
"""For a stream to be served elsewhere, once its client has given a link up."""
_ON_ITS_WAY_SECONDS = 0.5
_VERDICT_SECONDS = 8.0
RECOVERY_SECONDS = 150.0
"""Until every stream must move again, once everything is there again."""
POLL_SECONDS = 0.2
DEAD_SECONDS = 75.0
"""Of a partition that makes Ray give the node up, which it does after a minute."""

BOTH = Deployment(version=1, replicas=2, per_node=1)
"""A replica on each node."""


@dataclass(frozen=True, slots=True)
class Way:
    """How some streams enter.

    Attributes:
        name: in words.
        proxies: those that they may enter by, node 1's first.
    """

    name: str
    proxies: tuple[str, ...]


@dataclass(slots=True)
class Path:
    """A stream's way through the cluster when a scenario began."""

    worker: Worker
    way: Way
    entry: int
    served: int
    tag: int

    @property
    def crosses(self) -> bool:
        """Whether it needs the second node."""
        return 2 in (self.entry, self.served)

    @property
    def movable(self) -> bool:
        """Whether it can do without."""
        return self.entry == 1 or len(self.way.proxies) > 1

    def __str__(self) -> str:
        order = "ordered" if self.worker.ordered else "unordered"
        return f"{self.way.name}, entered by {self.entry}, served on {self.served}, {order}"


@dataclass(slots=True)
class Scene:
    """All that a scenario needs.

    Attributes:
        cluster: to break.
        load: on it.
        ways: of the load's workers, in their order.
        heartbeat_limit: seconds of silence after which a client gives a link up; None: it never
            does.
        partition_seconds: how long a partition lasts.
        say: told what is being done.
        probe: of the first node's proxy.
    """

    cluster: Cluster
    load: Load
    ways: list[Way]
    heartbeat_limit: float | None
    partition_seconds: float
    say: Say
    probe: Probe
    fired: list[Fired] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    version: int = 1

    @property
    def violations(self) -> Violations:
        return self.load.shared.violations

    @property
    def pauses(self) -> Pauses:
        return self.load.shared.pauses

    def clock(self) -> float:
        return self.load.shared.clock()

    def fault(self, kind: str, detail: str) -> int:
        """Something is done. Returns its place among all."""
        self.fired.append(Fired(kind, self.clock(), detail))
        return self.pauses.fault(self.clock(), kind)

    def note(self, text: str) -> None:
        self.notes.append(text)

    async def wait(self, seconds: float) -> None:
        """Let the load go on."""
        deadline = self.clock() + seconds
        while (left := deadline - self.clock()) > 0:
            await asyncio.sleep(min(left, POLL_SECONDS))
            self.watch()

    def watch(self) -> None:
        """Look after the load, and say how far it is."""
        self.load.watch()
        doing = self.fired[-1].kind if self.fired else "nothing yet"
        self.say(
            f"{self.clock():5.0f} s, {self.load.shared.totals.items:,} items, {doing},"
            f" {len(self.violations)} violations"
        )

    async def until(self, reached: Callable[[], bool], seconds: float) -> bool:
        """Wait for something. False: it did not happen in time."""
        deadline = self.clock() + seconds
        while not reached():
            if self.clock() > deadline:
                return False
            await self.wait(POLL_SECONDS)
        return True

    async def meanwhile(self, what: Callable[[], object]) -> None:
        """Do what blocks, in a thread, while the load goes on."""
        doing = asyncio.ensure_future(asyncio.to_thread(what))
        try:
            while not doing.done():
                await asyncio.wait({doing}, timeout=POLL_SECONDS)
                self.watch()
        except BaseException:  # being cancelled as well: the event loop waits for the thread
            self.cluster.abort()
            raise
        doing.result()

    def paths(self) -> list[Path]:
        """Where every stream goes along at present."""
        found = []
        for worker, way in zip(self.load.workers, self.ways, strict=True):
            live = worker.live
            if live is not None and live.last is not None:
                served = self.cluster.node_of(live.last.pid)
                entry = self._entry(live.stream.statistics().endpoint) if live.stream else 0
                found.append(Path(worker, way, entry, served, live.check.tag))
        return found

    def _entry(self, endpoint: str) -> int:
        """Whose proxy a stream enters by; 0: nobody's."""
        machines = self.cluster.machines
        numbers = range(1, len(machines) + 1)
        return next((n for n in numbers if self.cluster.target(machines[n - 1]) in endpoint), 0)

    async def all_move(self, problem: str) -> None:
        """Every stream gets results again, or it is a violation."""
        since = self.clock()

        def moves() -> bool:
            return not [worker for worker in self.load.workers if _last(worker) <= since]

        if not await self.until(moves, RECOVERY_SECONDS):
            for worker in self.load.workers:
                if _last(worker) <= since:
                    self.violations.add("not moved", worker.name, problem)

    async def restore(self) -> None:
        """A replica on each node again, and every stream moving."""
        await self.meanwhile(self._bring_back)
        await self.all_move("it stood still although both nodes were there again")

    def _bring_back(self) -> None:
        if not self.cluster.worker_lives():
            self.cluster.end_worker()
            self.cluster.start_worker()
        self.cluster.deploy(Deployment(self.version, BOTH.replicas, BOTH.per_node))


def _last(worker: Worker) -> float:
    """When a worker's stream got its last result."""
    return worker.live.asked if worker.live is not None else 0.0


# ---------------------------------------------------------------- the scenarios


async def partition(scene: Scene) -> None:
    """A node is cut off, for less than it takes Ray to notice, and is there again."""
    await _cut_off(scene, scene.partition_seconds, "partition")
    # A node that Ray had given up learns of it now, and ends itself.
    await scene.until(lambda: not scene.cluster.worker_lives(), _VERDICT_SECONDS)
    await scene.restore()


async def long_partition(scene: Scene) -> None:
    """A node is cut off until Ray gives it up; it ends itself, and is started anew."""
    await _cut_off(scene, DEAD_SECONDS, "long-partition")
    # The node needs a while to learn that it was declared dead.
    await scene.until(lambda: not scene.cluster.worker_lives(), 40.0)
    await scene.restore()


async def _cut_off(scene: Scene, seconds: float, what: str) -> None:
    _, second = scene.cluster.machines
    paths = scene.paths()
    place = scene.fault(what, f"node 2, for {seconds:g} s")
    scene.cluster.network.partition(second)
    began = scene.clock()
    again: dict[int, float] = {}

    def see_who_moves() -> bool:
        for path in paths:
            # What was on its way before the cable was cut may still come.
            if path.tag not in again and _last(path.worker) > began + _ON_ITS_WAY_SECONDS:
                again[path.tag] = _last(path.worker) - began
        return False

    try:
        await scene.until(see_who_moves, seconds)
        ended = scene.clock()
        stood = {
            path.tag: max(scene.pauses.longest(place, path.tag), ended - _last(path.worker))
            for path in paths
        }
    finally:
        scene.cluster.network.heal(second)
    silence = scene.probe.silence(began, ended)
    limit = scene.heartbeat_limit
    told = "no heartbeats" if limit is None else f"heartbeat limit {limit:g} s"
    scene.note(f"{what} of {ended - began:.0f} s, {told}:")
    scene.note(f"  node 1's proxy itself answered no health check for {silence:.1f} s of it")
    late: list[tuple[Path, str]] = []
    for path in paths:
        first = again.get(path.tag)
        moved = "no result" if first is None else f"first result after {first:.1f} s"
        text = f"{path}: {moved}, stood still for {stood[path.tag]:.1f} s"
        scene.note(f"  {text}")
        if limit is not None and (first is None or first > limit + MOVE_SECONDS):
            late.append((path, text))
    _judge(scene, late)


def _judge(scene: Scene, late: list[tuple[Path, str]]) -> None:
    """Whether streams that had no result in time are to blame on the client.

    To move is its part. But Serve may stall everything that goes through a proxy which has calls
    under way to a node that is cut off; streams that never needed that node show it.
    """
    if any(not path.crosses for path, _ in late):
        scene.note("  inconclusive: even streams that have nothing to do with node 2 stood still")
        return
    for path, text in late:
        if path.movable:
            scene.violations.add("not moved", path.worker.name, text)


async def node_death(scene: Scene) -> None:
    """SIGKILL for a node, and its return."""
    paths = scene.paths()
    place = scene.fault(NODE_DEATH, "SIGKILL for the raylet of node 2")
    killed = scene.clock()
    await scene.meanwhile(scene.cluster.kill_worker)
    movable = [path for path in paths if path.movable]
    back = await scene.until(
        lambda: all(_last(path.worker) > killed + 1.0 for path in movable), RECOVERY_SECONDS
    )
    scene.note(f"death of node 2; after {scene.clock() - killed:.1f} s whoever can has moved:")
    for path in movable:
        if not back and _last(path.worker) <= killed + 1.0:
            scene.violations.add("not moved", path.worker.name, "it stayed with a dead node")
    await scene.wait(CALM_SECONDS)
    returned = scene.fault("node-return", "node 2 is started again")
    await scene.restore()
    for path in paths:
        longest = max(scene.pauses.longest(each, path.tag) for each in (place, returned))
        waited = "" if path.movable else ", until the node was there again"
        scene.note(f"  {path}: stood still for {longest:.1f} s{waited}")


async def moved(scene: Scene) -> None:
    """The only replica moves from one node to the other and back, as new code does."""
    for number in (1, 2):
        scene.version += 1
        wanted = Deployment(scene.version, 1, resources={f"node{number}": 0.1})
        place = scene.fault("move", f"the only replica to node {number}")
        began = scene.clock()
        await scene.meanwhile(lambda wanted=wanted: scene.cluster.deploy(wanted))  # type: ignore[misc]
        followed = await scene.until(
            lambda number=number: all(path.served == number for path in scene.paths()),  # type: ignore[misc]
            RECOVERY_SECONDS,
        )
        worst = max(scene.pauses.longest(place, path.tag) for path in scene.paths())
        scene.note(
            f"the only replica moves to node {number}: after {scene.clock() - began:.1f} s it is"
            f" there and all streams have followed; the longest pause was {worst:.1f} s"
        )
        for path in scene.paths():
            if not followed and path.served != number:
                scene.violations.add("not moved", path.worker.name, f"{path}, not on {number}")
    scene.version += 1
    await scene.restore()


SCENARIOS: dict[str, Callable[[Scene], Awaitable[None]]] = {
    "partition": partition,
    "node-death": node_death,
    "moved": moved,
    "long-partition": long_partition,
}
