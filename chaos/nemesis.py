"""Does what the plan says to a Ray Serve that runs, and undoes what has to be undone."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import psutil

from chaos.deploying import Deployer, DeployerError, Deployment
from chaos.faults import Kind, Planned
from chaos.processes import Role, find
from servestream_client.testing import Cut, CutKind, Deaf, Delay, FaultProxy, Slice, Throttle
from servestream_client.testing.network import NetworkFault

__all__ = ["Fired", "Nemesis", "Release"]

_ROLES = {
    Kind.KILL_REPLICA: Role.REPLICA,
    Kind.STOP_REPLICA: Role.REPLICA,
    Kind.KILL_PROXY: Role.PROXY,
    Kind.STOP_PROXY: Role.PROXY,
    Kind.KILL_HAPROXY: Role.HAPROXY,
    Kind.STOP_HAPROXY: Role.HAPROXY,
    Kind.KILL_CONTROLLER: Role.CONTROLLER,
    Kind.STOP_CONTROLLER: Role.CONTROLLER,
}
_KILLS = (Kind.KILL_REPLICA, Kind.KILL_PROXY, Kind.KILL_HAPROXY, Kind.KILL_CONTROLLER)


POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Fired:
    """A fault that was done.

    Attributes:
        kind: what.
        at: seconds since the run began.
        detail: to whom.
    """

    kind: str
    at: float
    detail: str


@dataclass(slots=True)
class Release:
    """Which version of the application is deployed.

    Attributes:
        version: the newest that runs.
        replicas: how many are wanted.
        since: when the deployment of it was complete, in seconds since the run began.
    """

    version: int = 1
    replicas: int = 2
    since: float = 0.0


class Nemesis:
    """The faults of a run.

    Args:
        cluster_id: of the fixture, whose processes it may touch.
        proxy: of the connections that go through it.
        deployer: for what is deployed anew.
        clock: seconds since the run began.
        on_fault: called when a fault begins.
        serving: whether anybody is being served.
        deployed: what it begins with.
    """

    def __init__(
        self,
        cluster_id: str,
        proxy: FaultProxy,
        deployer: Deployer,
        *,
        clock: Callable[[], float],
        on_fault: Callable[[Fired], object],
        serving: Callable[[], bool],
        deployed: Deployment,
    ) -> None:
        self.release = Release()
        self.fired: list[Fired] = []
        self.skipped: Counter[str] = Counter()
        """Faults that found nobody to happen to, or that one under way forbade."""
        self.failures: list[str] = []
        """Deployments that did not come about. They are Serve's, not the client's."""
        self._cluster_id = cluster_id
        self._proxy = proxy
        self._deployer = deployer
        self._clock = clock
        self._on_fault = on_fault
        self._serving = serving
        self._deployed = deployed
        self._stopped: set[int] = set()
        self._lasting: set[asyncio.Task[None]] = set()
        self._deploying: asyncio.Task[None] | None = None

    async def run(self, planned: Iterator[Planned]) -> None:
        """Until it is cancelled.

        While nobody is served nothing further is done: Serve, killed again before it is back, may
        stay away for ever, and what a stream does then says nothing about the client.
        """
        for fault in planned:
            await asyncio.sleep(fault.wait)
            while not self._serving():  # noqa: ASYNC110 — many things may make it so
                await asyncio.sleep(POLL_SECONDS)
            await self.do(fault)

    async def do(self, fault: Planned) -> None:
        """One fault. Returns when it has begun."""
        if fault.kind in _ROLES:
            await self._to_process(fault)
        elif fault.kind in (Kind.REDEPLOY, Kind.SCALE):
            self._to_deployment(fault)
        else:
            await self._to_network(fault)

    async def heal(self) -> None:
        """End all that lasts, and let what is being deployed come to its end."""
        for task in self._lasting:
            task.cancel()
        await asyncio.gather(*self._lasting, return_exceptions=True)
        self.go_on()
        await asyncio.to_thread(self._proxy.clear)
        if self._deploying is not None:
            await self._deploying

    def abort(self) -> None:
        """Let nothing keep the run from ending: the system is about to be ended as well."""
        for task in self._lasting:
            task.cancel()
        self.go_on()
        # A thread waits for it, and the event loop for the thread.
        self._deployer.stop(grace=0.0)

    def go_on(self) -> None:
        """SIGCONT to whoever was stopped."""
        while self._stopped:
            with suppress(ProcessLookupError):
                os.kill(self._stopped.pop(), signal.SIGCONT)

    # ---------------------------------------------------------------- processes

    async def _to_process(self, fault: Planned) -> None:
        found = await asyncio.to_thread(find, self._cluster_id, _ROLES[fault.kind])
        alive = [each for each in found if each.pid not in self._stopped]
        if not alive:
            self.skipped[fault.kind] += 1
            return
        victim = alive[int(fault.choice * len(alive))]
        kills = fault.kind in _KILLS
        try:
            victim.send_signal(signal.SIGKILL if kills else signal.SIGSTOP)
        except psutil.Error:  # it has just gone by itself
            self.skipped[fault.kind] += 1
            return
        lasts = "" if kills else f" for {fault.lasts:.1f} s"
        self._note(fault.kind, f"process {victim.pid}, one of {len(alive)}{lasts}")
        if not kills:
            self._stopped.add(victim.pid)
            self._later(self._continue(victim, fault.lasts))

    async def _continue(self, victim: psutil.Process, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._stopped.discard(victim.pid)
        with suppress(psutil.Error):
            victim.send_signal(signal.SIGCONT)

    # ---------------------------------------------------------------- deployments

    def _to_deployment(self, fault: Planned) -> None:
        if self._deploying is not None and not self._deploying.done():
            self.skipped[fault.kind] += 1
            return
        release = self.release
        if fault.kind is Kind.REDEPLOY:
            version, replicas = release.version + 1, release.replicas
        else:
            others = [count for count in (1, 2, 3) if count != release.replicas]
            version, replicas = release.version, others[int(fault.choice * len(others))]
        wanted = replace(self._deployed, version=version, replicas=replicas)
        self._note(fault.kind, f"version {wanted.version}, {wanted.replicas} replicas")
        self._deploying = asyncio.create_task(self._deploy(wanted))

    async def _deploy(self, wanted: Deployment) -> None:
        try:
            await asyncio.to_thread(self._deployer.deploy, wanted)
        except DeployerError as error:
            self.failures.append(f"{self._clock():.1f} s: {error}")
            return
        since = self._clock() if wanted.version > self.release.version else self.release.since
        self.release = Release(wanted.version, wanted.replicas, since)

    # ---------------------------------------------------------------- the network

    async def _to_network(self, fault: Planned) -> None:
        if fault.kind is Kind.CUT:
            how = CutKind.RESET if fault.choice < 0.5 else CutKind.CLOSE
            if fault.choice % 0.5 < 0.25:
                cut = await asyncio.to_thread(self._proxy.cut, how)
                self._note(fault.kind, f"{cut} connections, {how}")
            else:  # in the middle of a frame, as likely as not
                once = Cut(after_bytes=int(fault.lasts * 1009), how=how)
                await asyncio.to_thread(self._proxy.add, once)
                self._note(fault.kind, repr(once))
                self._later(self._remove(once, fault.lasts))
            return
        lasting = _network_fault(fault)
        await asyncio.to_thread(self._proxy.add, lasting)
        self._note(fault.kind, f"{lasting!r} for {fault.lasts:.1f} s")
        self._later(self._remove(lasting, fault.lasts))

    async def _remove(self, fault: NetworkFault, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await asyncio.to_thread(self._proxy.remove, fault)

    # ---------------------------------------------------------------- all of them

    def _note(self, kind: Kind, detail: str) -> None:
        fired = Fired(kind, self._clock(), detail)
        self.fired.append(fired)
        self._on_fault(fired)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._lasting.add(task)
        task.add_done_callback(self._lasting.discard)


def _network_fault(fault: Planned) -> NetworkFault:
    if fault.kind is Kind.DEAF:
        return Deaf()
    if fault.kind is Kind.DELAY:
        return Delay(0.2 * fault.choice, jitter=0.1 * fault.choice)
    if fault.kind is Kind.THROTTLE:
        return Throttle(20_000 + int(200_000 * fault.choice))
    return Slice(1 + int(200 * fault.choice))
