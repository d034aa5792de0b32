"""A target with replicas behind an ingress, as seen by clients, in the memory of one process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

from servestream_client.client import StreamClient
from servestream_client.metadata import Metadata
from servestream_client.protocol.frames import HandlerKind
from servestream_client.server.kit import Kit
from servestream_client.session.endpoint_pool import EndpointPool
from servestream_client.testing.faults import Fault, LocalPlan
from servestream_client.testing.injector import FaultInjector
from servestream_client.transport.base import LinkStatus, Transport
from servestream_client.transport.names import Place, Seed
from simulation.books import Books
from simulation.call import CALL, SimulatedCall
from simulation.conditions import Conditions
from simulation.faults import BREAKING, STATUSES, Moment, NetworkFaultKind, Weather, draw_fate
from simulation.service import Living
from simulation.trace import Trace

__all__ = ["SimulatedNetwork", "SimulatedReplica"]

_NOBODY = LinkStatus("UNAVAILABLE", "failed to connect to all addresses")
_BETWEEN_REPLICAS = 0.5
"""Seconds, in a redeploy."""

_GONE = LinkStatus("INTERNAL", "The actor is unavailable")


class AdmissionFailed(Exception):  # noqa: N818 — a bug of the user's, by plan
    """What a service raises that cannot decide on a stream."""


class SimulatedReplica:
    """A process that serves, and dies now and then.

    Args:
        network: whose.
        index: which.
    """

    def __init__(self, network: SimulatedNetwork, index: int) -> None:
        self.calls: dict[SimulatedCall, None] = {}
        self.up: bool = True
        self.leaving: bool = False
        self.goes_for_good: bool = False
        """Whether it does not begin anew."""
        self.name: str = ""
        self._network = network
        self._index = index
        self._lives = 0
        self.start()

    def start(self) -> None:
        """Begin to serve, knowing nothing of an earlier life."""
        self._lives += 1
        self.up = True
        self.leaving = False
        self.name = f"replica {self._index}.{self._lives}"
        self.service: Living = self._network.make_service(
            self._network.admit, self._network.version
        )
        self.service.replica = self.name
        self.service.die = partial(self.crash, 0.5)
        injector = FaultInjector(self._network.plan, die=partial(self.crash, 0.5))
        self.kit: Kit = Kit(
            cast("Any", self.service),  # it has a handler, of whatever kind
            self._network.kind,
            injector,
            replica=self.name,
            count_servers=self._network.count_servers,
        )
        self._network.kits.append(self.kit)

    def drain(self, grace: float, kind: NetworkFaultKind = NetworkFaultKind.DRAIN) -> None:
        """Ask every client to go elsewhere, and stop once they had their time."""
        if not self.up or self.leaving:
            return
        self.leaving = True
        network, life = self._network, self._lives
        network.books.trace.note(self.name, f"drains, with {grace:g} s of grace")
        for call in self.calls:
            network.books.note_fault(kind, call)
            call.broken = True
        self.kit.drain(grace)
        network.conditions.later(
            grace + 1.0, lambda: self.crash(0.1) if self._lives == life else None
        )

    def freeze(self, seconds: float) -> None:
        """Let handlers stand still for a while, as where a machine has too much to do."""
        network = self._network
        for call in self.calls:
            network.books.note_fault(NetworkFaultKind.FREEZE, call)
        self.service.frozen_until = network.conditions.loop.time() + seconds

    def crash(self, seconds: float) -> None:
        """Die now, and begin anew later."""
        if not self.up:
            return
        network = self._network
        network.books.trace.note(self.name, "crashes")
        self.up = False
        network.services.append(self.service)
        status = network.conditions.rng.choice(
            (
                STATUSES[NetworkFaultKind.CUT_INTERNAL],
                STATUSES[NetworkFaultKind.CUT_CANCELLED],
                STATUSES[NetworkFaultKind.CUT_UNAVAILABLE],
            )
        )
        for call in list(self.calls):
            call.crash(status)
        network.conditions.later(seconds, self._begin_anew)

    def _begin_anew(self) -> None:
        if not self.goes_for_good:
            self.start()


class SimulatedNetwork:
    """See the module. `serve` comes before anything is opened.

    Args:
        loop: whose time it is.
        rng: draws delays, routes and fates.
        weather: how it behaves.
        faults: of the service.
        kind: of the service's handler.
        make_service: called for each life of a replica, with what decides on its streams, and the
            version of its code.
        trace: where to note what happens.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random,
        weather: Weather,
        *,
        faults: Sequence[Fault],
        kind: HandlerKind,
        make_service: Callable[[Callable[[], None], int], Living],
        trace: Trace,
    ) -> None:
        self.conditions: Conditions = Conditions(loop, rng, weather)
        self.books: Books = Books(trace, self._server_window)
        self.books.folding = kind is HandlerKind.STATEFUL
        self.plan: LocalPlan = LocalPlan(faults, on_fired=self._fired)
        self.kind = kind
        self.make_service = make_service
        self.calls: list[SimulatedCall] = []
        self.services: list[Living] = []
        """Of lives that are over."""
        self.kits: list[Kit] = []
        """Of all lives."""
        self.version: int = 0
        """Of the code with which replicas start."""
        self._trouble = weather.budget
        self._turn = 0
        self._down_until = 0.0
        self._endpoints = [_Endpoint() for _ in range(weather.endpoints)]
        self._made = weather.replicas
        self.replicas = [SimulatedReplica(self, index) for index in range(weather.replicas)]
        self._plan_weather()

    # ---------------------------------------------------------------- for the client

    def serve(self, client: StreamClient[bytes, bytes]) -> None:
        """Let a client reach this network, and nothing else."""
        self.books.client = client
        connection = client._connection
        places = [Place(f"endpoint {index}", str(index)) for index in range(len(self._endpoints))]
        connection.endpoints = EndpointPool(
            [Seed("simulated", tuple(places))], lambda place: self.transport(int(place.name))
        )

    def transport(self, endpoint: int = 0) -> Transport:
        """What opens calls by one of the ways."""
        return _SimulatedTransport(self, endpoint)

    async def probe(self, endpoint: int) -> str | None:
        """Whether a connection can be made by one of the ways."""
        way, now = self._endpoints[endpoint], self.conditions.loop.time
        await asyncio.sleep(5.0 if way.swallows and way.down(now()) else self.conditions.delay())
        return "it is down" if way.down(now()) or now() < self._down_until else None

    def open(self, endpoint: int) -> SimulatedCall:
        """Begin a call."""
        fate = None
        here = self.conditions
        if here.faulty and self._trouble > 0 and here.rng.random() < here.weather.trouble:
            self._trouble -= 1
            fate = draw_fate(here.rng, here.weather, stranger=self._stranger)
        call = SimulatedCall(here, self.books, len(self.calls) + 1, fate, endpoint)
        self.calls.append(call)
        here.later(here.delay(), partial(self._arrive, call))
        return call

    @property
    def _stranger(self) -> bool:
        return self.books.client is None or not self.books.client._connection.endpoints.known

    def _arrive(self, call: SimulatedCall) -> None:
        """A call comes to the ingress."""
        fate, way, now = call.fate, self._endpoints[call.endpoint], self.conditions.loop.time()
        if way.swallows and way.down(now):
            self.books.note_fault(NetworkFaultKind.OUTAGE, call)
            call.broken = True
            self.conditions.later(way.down_until - now, partial(self._arrive, call))
        elif way.down(now) or now < self._down_until:
            call.fail(NetworkFaultKind.OUTAGE, _NOBODY)
        elif fate is not None and fate.moment is Moment.OPEN and self.conditions.faulty:
            call.fate = None
            if fate.kind is NetworkFaultKind.SLOW_OPEN:
                self.books.note_fault(fate.kind, call)
                call.broken = True  # it may be slower than the client is patient
                self.conditions.later(fate.seconds, partial(self._route, call))
            elif fate.kind is NetworkFaultKind.STALL:
                self.books.note_fault(fate.kind, call)
                self.conditions.later(fate.seconds, partial(self._route, call))
            else:
                call.fail(fate.kind)
        else:
            self._route(call)

    def _route(self, call: SimulatedCall) -> None:
        replicas = self.replicas
        if self.conditions.weather.random_routing:
            replica = self.conditions.rng.choice(replicas)
        else:
            self._turn += 1
            replica = replicas[self._turn % len(replicas)]
        if replica.leaving and self.conditions.rng.random() < 0.8:  # mostly the ingress knows
            replica = next((each for each in replicas if each.up and not each.leaving), replica)
        if replica.up:
            call.reach(replica)
        elif self.conditions.rng.random() < 0.3:  # the ingress does not know it yet
            call.fail(NetworkFaultKind.CRASH, _GONE)
        elif any(each.up for each in replicas):
            call.reach(next(each for each in replicas if each.up))
        else:
            call.fail(NetworkFaultKind.OUTAGE, _NOBODY)

    # ---------------------------------------------------------------- time

    def _plan_weather(self) -> None:
        for seconds, index, length in self.conditions.weather.crashes:
            replica = self.replicas[index % len(self.replicas)]
            self.conditions.later(seconds, partial(replica.crash, length))
        for seconds, count, grace in self.conditions.weather.scales:
            self.conditions.later(seconds, partial(self.scale_to, count, grace))
        for seconds, index, length in self.conditions.weather.freezes:
            replica = self.replicas[index]
            self.conditions.later(seconds, partial(replica.freeze, length))
        for seconds, index, grace in self.conditions.weather.drains:
            replica = self.replicas[index % len(self.replicas)]
            self.conditions.later(seconds, partial(replica.drain, grace))
        for seconds, grace in self.conditions.weather.redeploys:
            self.conditions.later(seconds, partial(self._redeploy, grace))
        for seconds, length in self.conditions.weather.outages:
            self.conditions.later(seconds, partial(self._go_down, length))
        for seconds, index, length, swallows in self.conditions.weather.endpoint_outages:
            self.conditions.later(seconds, partial(self._cut_off, index, length, swallows))
        self.conditions.later(self.conditions.weather.until, self._clear_up)

    def admit(self) -> None:
        """A service decides on a stream.

        Raises:
            AdmissionFailed: it cannot.
        """
        call = CALL.get()
        here = self.conditions
        if call is None or not here.faulty or here.rng.random() >= here.weather.admission:
            return
        self.books.note_fault(NetworkFaultKind.ADMISSION, call)
        call.broken = True
        raise AdmissionFailed

    def _redeploy(self, grace: float) -> None:
        self.version += 1
        self.books.trace.note("target", f"version {self.version} comes")
        for index, replica in enumerate(self.replicas):
            self.conditions.later(
                index * _BETWEEN_REPLICAS, partial(replica.drain, grace, NetworkFaultKind.REDEPLOY)
            )

    def _go_down(self, seconds: float) -> None:
        self.books.trace.note("target", f"down for {seconds:.3f} s")
        self._down_until = self.conditions.loop.time() + seconds
        self._break(self.calls)

    def _cut_off(self, endpoint: int, seconds: float, swallows: bool) -> None:
        self.books.trace.note(f"endpoint {endpoint}", f"down for {seconds:.3f} s")
        way = self._endpoints[endpoint]
        way.down_until, way.swallows = self.conditions.loop.time() + seconds, swallows
        there = [call for call in self.calls if call.endpoint == endpoint]
        for call in there:
            call.broken |= call.status_seen is None  # its client may hear of it from another call
        self._break(there)

    def _break(self, calls: Sequence[SimulatedCall]) -> None:
        """Half of them."""
        for call in calls:
            if (
                call.serving is not None
                and not call.serving.done()
                and self.conditions.rng.random() < 0.5
            ):
                call.fail(NetworkFaultKind.OUTAGE, STATUSES[NetworkFaultKind.CUT_UNAVAILABLE])

    def _clear_up(self) -> None:
        """Faults end."""
        self.books.trace.note("network", "no further faults")
        self.conditions.faulty = False
        self.plan.drop_pending()

    def _fired(self, fault: Fault) -> None:
        call = CALL.get()
        if call is None:
            raise RuntimeError("a fault of the service fired outside of any call")
        self.books.note_fault(f"service: {fault.kind}", call)
        if fault.kind in BREAKING:
            call.broken = True

    def _server_window(self) -> int:
        return self.replicas[0].service.flow.window_items

    def scale_to(self, count: int, grace: float) -> None:
        """Have so many replicas: new ones come at once, the last ones leave with some grace."""
        self.books.trace.note("target", f"{len(self.replicas)} replicas become {count}")
        while len(self.replicas) < count:
            self._made += 1
            self.replicas.append(SimulatedReplica(self, self._made - 1))
        for replica in self.replicas[count:]:
            replica.goes_for_good = True
            replica.drain(grace, NetworkFaultKind.SCALE_DOWN)
        del self.replicas[count:]

    async def count_servers(self) -> int:
        """How many replicas take streams, as the controller knows it."""
        return sum(replica.up and not replica.leaving for replica in self.replicas)

    # ---------------------------------------------------------------- the end

    @property
    def open_links(self) -> list[SimulatedCall]:
        """Calls that their client has neither read to the end nor cancelled."""
        return [call for call in self.calls if call.status_seen is None]

    @property
    def served_calls(self) -> list[SimulatedCall]:
        """Calls that occupy a replica."""
        return [call for call in self.calls if call.serving is not None and not call.serving.done()]

    async def aclose(self) -> None:
        """End every server, in order, and wait for what it takes to end."""
        self.conditions.close()
        serving = [call.serving for call in self.calls if call.serving is not None]
        for call in self.calls:
            if call.serving is not None and not call.serving.done():
                call.hang_up()
        if serving:
            await asyncio.wait(serving)
        self.services.extend(replica.service for replica in self.replicas if replica.up)


class _Endpoint:
    """One way to the replicas."""

    down_until = 0.0
    swallows = False

    def down(self, now: float) -> bool:
        return now < self.down_until


class _SimulatedTransport:
    """Opens calls of a network."""

    def __init__(self, network: SimulatedNetwork, endpoint: int) -> None:
        self._network = network
        self._endpoint = endpoint

    def open(self, metadata: Metadata = (), *, apart: bool = False) -> SimulatedCall:  # noqa: ARG002 — nobody reads them
        return self._network.open(self._endpoint)

    async def probe(self) -> str | None:
        return await self._network.probe(self._endpoint)

    async def aclose(self) -> None:
        for call in self._network.open_links:
            if call.endpoint == self._endpoint:
                call.cancel()
