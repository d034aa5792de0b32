"""A target with replicas behind an ingress, as seen by clients, in the memory of one process."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from servestream_client.client import StreamClient
from servestream_client.metadata import Metadata
from servestream_client.protocol.frames import ClientFrame, HandlerKind
from servestream_client.protocol.pulse import SILENT_INTERVALS
from servestream_client.server.kit import Kit
from servestream_client.session.driver import StreamDriver
from servestream_client.testing.faults import Fault, FaultInjector, LocalPlan
from servestream_client.transport.base import LinkStatus, Transport
from servestream_client.wire import stream_pb2 as pb
from simulation.call import CALL, SimulatedCall
from simulation.faults import BREAKING, STATUSES, Moment, NetworkFaultKind, Weather, draw_fate
from simulation.service import SimulatedService
from simulation.trace import Trace

__all__ = ["OLD_ATTEMPT", "SimulatedNetwork", "SimulatedReplica"]

OLD_ATTEMPT = "(left)"
"""In the place of a client's state, for a call that its client has left already."""

_NOBODY = LinkStatus("UNAVAILABLE", "failed to connect to all addresses")
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
        self.service: SimulatedService = self._network.make_service(self._network.admit)
        self.service.die = partial(self.crash, 0.5)
        injector = FaultInjector(self._network.plan, die=partial(self.crash, 0.5))
        self.kit: Kit = Kit(self.service, self._network.kind, injector, replica=self.name)

    def drain(self, grace: float) -> None:
        """Ask every client to go elsewhere, and stop once they had their time."""
        if not self.up or self.leaving:
            return
        self.leaving = True
        network, life = self._network, self._lives
        network.trace.note(self.name, f"drains, with {grace:g} s of grace")
        for call in self.calls:
            network.note_fault(NetworkFaultKind.DRAIN, call)
            call.broken = True
        self.kit.drain(grace)
        network.later(grace + 1.0, lambda: self.crash(0.1) if self._lives == life else None)

    def crash(self, seconds: float) -> None:
        """Die now, and begin anew later."""
        if not self.up:
            return
        network = self._network
        network.trace.note(self.name, "crashes")
        self.up = False
        network.services.append(self.service)
        status = network.rng.choice(
            (
                STATUSES[NetworkFaultKind.CUT_INTERNAL],
                STATUSES[NetworkFaultKind.CUT_CANCELLED],
                STATUSES[NetworkFaultKind.CUT_UNAVAILABLE],
            )
        )
        for call in list(self.calls):
            call.crash(status)
        network.later(seconds, self.start)


class SimulatedNetwork:
    """See the module. Set `client` before anything is opened.

    Args:
        loop: whose time it is.
        rng: draws delays, routes and fates.
        weather: how it behaves.
        faults: of the service.
        kind: of the service's handler.
        make_service: called for each life of a replica, with what decides on its streams.
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
        make_service: Callable[[Callable[[], None]], SimulatedService],
        trace: Trace,
    ) -> None:
        self.loop = loop
        self.rng = rng
        self.weather = weather
        self.plan: LocalPlan = LocalPlan(faults, on_fired=self._fired)
        self.kind = kind
        self.make_service = make_service
        self.trace = trace
        self.client: StreamClient[bytes, bytes] | None = None
        self.faults: Counter[tuple[str, str]] = Counter()
        """How many, by kind and by the state of the client's attempt."""
        self.calls: list[SimulatedCall] = []
        self.services: list[SimulatedService] = []
        """Of lives that are over."""
        self.violations: list[str] = []
        self.sent: Counter[bytes] = Counter()
        """How many inputs each stream has sent, each counted once."""
        self._sent_through: Counter[bytes] = Counter()
        self.faulty: bool = True
        self._unanswered: Counter[SimulatedCall] = Counter()
        self._trouble = weather.budget
        self._turn = 0
        self._down_until = 0.0
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._timers_set = 0
        self.replicas = [SimulatedReplica(self, index) for index in range(weather.replicas)]
        self._plan_weather()

    # ---------------------------------------------------------------- for the client

    def serve(self, client: StreamClient[bytes, bytes]) -> None:
        """Let a client reach this network, and nothing else."""
        self.client = client
        connection = client._connection
        connection.endpoint.make_transport = self.transport

    def transport(self) -> Transport:
        """What opens calls."""
        return _SimulatedTransport(self)

    def open(self) -> SimulatedCall:
        """Begin a call."""
        fate = None
        if self.faulty and self._trouble > 0 and self.rng.random() < self.weather.trouble:
            self._trouble -= 1
            fate = draw_fate(self.rng, self.weather, stranger=self._stranger)
        call = SimulatedCall(self, len(self.calls) + 1, fate)
        self.calls.append(call)
        self.later(self.delay(), partial(self._arrive, call))
        return call

    @property
    def _stranger(self) -> bool:
        return self.client is None or not self.client._connection.endpoint.known

    def _arrive(self, call: SimulatedCall) -> None:
        """A call comes to the ingress."""
        fate = call.fate
        if self.loop.time() < self._down_until:
            call.fail(NetworkFaultKind.OUTAGE, _NOBODY)
        elif fate is not None and fate.moment is Moment.OPEN and self.faulty:
            call.fate = None
            if fate.kind is NetworkFaultKind.SLOW_OPEN:
                self.note_fault(fate.kind, call)
                call.broken = True  # it may be slower than the client is patient
                self.later(fate.seconds, partial(self._route, call))
            elif fate.kind is NetworkFaultKind.STALL:
                self.note_fault(fate.kind, call)
                self.later(fate.seconds, partial(self._route, call))
            else:
                call.fail(fate.kind)
        else:
            self._route(call)

    def _route(self, call: SimulatedCall) -> None:
        replicas = self.replicas
        if self.weather.random_routing:
            replica = self.rng.choice(replicas)
        else:
            self._turn += 1
            replica = replicas[self._turn % len(replicas)]
        if replica.leaving and self.rng.random() < 0.8:  # mostly the ingress knows
            replica = next((each for each in replicas if each.up and not each.leaving), replica)
        if replica.up:
            call.reach(replica)
        elif self.rng.random() < 0.3:  # the ingress does not know it yet
            call.fail(NetworkFaultKind.CRASH, _GONE)
        elif any(each.up for each in replicas):
            call.reach(next(each for each in replicas if each.up))
        else:
            call.fail(NetworkFaultKind.OUTAGE, _NOBODY)

    # ---------------------------------------------------------------- time

    def delay(self) -> float:
        """Seconds that one message takes."""
        dice = self.rng.random()
        weather = self.weather
        if dice < weather.spikes:
            return min(0.3, weather.latency * 100 * self.rng.random())
        return weather.latency * (0.2 + 1.6 * dice)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Do something after a while, unless the network is gone by then."""
        self._timers_set += 1
        number = self._timers_set

        def run() -> None:
            del self._timers[number]
            callback()

        self._timers[number] = self.loop.call_later(seconds, run)

    def _plan_weather(self) -> None:
        for seconds, index, length in self.weather.crashes:
            replica = self.replicas[index % len(self.replicas)]
            self.later(seconds, partial(replica.crash, length))
        for seconds, index, grace in self.weather.drains:
            replica = self.replicas[index % len(self.replicas)]
            self.later(seconds, partial(replica.drain, grace))
        for seconds, length in self.weather.outages:
            self.later(seconds, partial(self._go_down, length))
        self.later(self.weather.until, self._clear_up)

    def admit(self) -> None:
        """A service decides on a stream.

        Raises:
            AdmissionFailed: it cannot.
        """
        call = CALL.get()
        if call is None or not self.faulty or self.rng.random() >= self.weather.admission:
            return
        self.note_fault(NetworkFaultKind.ADMISSION, call)
        call.broken = True
        raise AdmissionFailed

    def _go_down(self, seconds: float) -> None:
        self.trace.note("target", f"down for {seconds:.3f} s")
        self._down_until = self.loop.time() + seconds
        for call in self.calls:
            if call.serving is not None and not call.serving.done() and self.rng.random() < 0.5:
                call.fail(NetworkFaultKind.OUTAGE, STATUSES[NetworkFaultKind.CUT_UNAVAILABLE])

    def _clear_up(self) -> None:
        """Faults end."""
        self.trace.note("network", "no further faults")
        self.faulty = False
        self.plan.drop_pending()

    # ---------------------------------------------------------------- what is noted

    def note_fault(self, kind: str, call: SimulatedCall) -> None:
        """A fault strikes a call."""
        state = self.state_of(call)
        self.faults[str(kind), state] += 1
        self.trace.note(call.name, f"fault: {kind}, client {state}")

    def _fired(self, fault: Fault) -> None:
        call = CALL.get()
        if call is None:
            raise RuntimeError("a fault of the service fired outside of any call")
        self.note_fault(f"service: {fault.kind}", call)
        if fault.kind in BREAKING:
            call.broken = True

    @property
    def patience(self) -> float:
        """Seconds of silence that the client bears for sure: it counts in ticks."""
        watchdog = self.client._streams.watchdog if self.client is not None else None
        interval = watchdog.heartbeat_interval if watchdog is not None else None
        return math.inf if interval is None else (SILENT_INTERVALS - 1) * interval

    def state_of(self, call: SimulatedCall) -> str:
        """The state of the client's attempt that a call is."""
        driver = self._driver(call)
        if call.status_seen is not None or driver is None:
            return OLD_ATTEMPT
        return driver.session.state.name

    def _driver(self, call: SimulatedCall) -> StreamDriver | None:
        drivers: Iterable[StreamDriver] = self.client._connection.drivers if self.client else ()
        for driver in drivers:
            exchange = driver.exchange
            if exchange is not None and exchange.link is call:
                return driver
        return None

    def note_inputs(self, call: SimulatedCall, frame: ClientFrame) -> None:
        """The client hands inputs over."""
        through = self._sent_through[call.stream_id]
        for run in frame.inputs:
            last = run.first_number + len(run.payloads) - 1
            self.sent[call.stream_id] += max(0, last - max(through, run.first_number - 1))
            through = max(through, last)
        self._sent_through[call.stream_id] = through

    def note_received(self, call: SimulatedCall, message: pb.ClientFrame) -> None:
        """The server reads inputs: there must not be more than fit."""
        self._unanswered[call] += sum(len(run.payloads) for run in message.inputs)
        if self._unanswered[call] > self.window:
            self.violate(
                f"{call}: {self._unanswered[call]} inputs unanswered, in a window of {self.window}"
            )

    def note_answers(self, call: SimulatedCall, message: pb.ServerFrame) -> None:
        """The server answers."""
        count = sum(len(run.payloads) for run in message.outputs) + len(message.errors)
        if count:
            self._unanswered[call] -= count

    @property
    def window(self) -> int:
        """Inputs that a server may have unanswered, of one stream."""
        client = self.client._streams.flow.window_items if self.client is not None else 0
        return min(client, self.replicas[0].service.flow.window_items)

    def look_at_client(self, call: SimulatedCall) -> None:
        """The client has taken a frame in: it must not hold more than its budget."""
        driver = self._driver(call)
        if driver is None:
            return
        session, flow = driver.session, driver.session.flow
        # What was tried on another stream comes beside the credit that was given on this one.
        times = 2 if session.counters.isolated else 1
        outputs = flow.output_items * times
        size = (flow.output_bytes + flow.max_item_bytes) * times
        if session.delivery.held_outputs > outputs:
            self.violate(f"{call}: {session.delivery.held_outputs} outputs held of {outputs}")
        if session.delivery.held_bytes > size:
            self.violate(f"{call}: {session.delivery.held_bytes} bytes held of {size}")
        if session.ledger.replay.size > max(flow.window_bytes, flow.max_item_bytes):
            self.violate(
                f"{call}: {session.ledger.replay.size} bytes to replay of {flow.window_bytes}"
            )

    def call_ended(self, call: SimulatedCall) -> None:
        """It is over for its client."""

    def violate(self, text: str) -> None:
        """A promise is broken."""
        self.violations.append(text)
        self.trace.note("violation", text)

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
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        serving = [call.serving for call in self.calls if call.serving is not None]
        for call in self.calls:
            if call.serving is not None and not call.serving.done():
                call.hang_up()
        if serving:
            await asyncio.wait(serving)
        self.services.extend(replica.service for replica in self.replicas if replica.up)


class _SimulatedTransport:
    """Opens calls of a network."""

    def __init__(self, network: SimulatedNetwork) -> None:
        self._network = network

    def open(self, metadata: Metadata = (), *, apart: bool = False) -> SimulatedCall:  # noqa: ARG002 — nobody reads them
        return self._network.open()

    async def aclose(self) -> None:
        for call in self._network.open_links:
            call.cancel()
