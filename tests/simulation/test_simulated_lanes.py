"""Streams and single calls over a whole deployment, in virtual time: real client, real kits."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from effort import effort

from servestream_client import FlowControl, StreamClient
from servestream_client.protocol.frames import HandlerKind
from servestream_client.server import StreamService
from simulation.call import SimulatedCall
from simulation.faults import Weather
from simulation.loop import VirtualLoop, isolated
from simulation.network import SimulatedNetwork
from simulation.run import quiet
from simulation.trace import Trace

CALM = Weather(
    latency=0.001,
    spikes=0.0,
    capacity=64,
    until=0.0,
    trouble=0.0,
    budget=0,
    slow_open=0.0,
    half_open=False,
    late_cancel=0.0,
    deaf=0.0,
    cancels_task=False,
    replicas=1,
    random_routing=True,
    crashes=(),
    outages=(),
    drains=(),
    redeploys=(),
    admission=0.0,
    hides=False,
)

PLACES = 4
SECONDS = 0.2
A_SECOND = PLACES / SECONDS
"""Items that a replica computes."""


class Waiting(StreamService[bytes, bytes]):
    """Takes its time, and says where that was."""

    max_concurrency = PLACES
    seconds = SECONDS

    def __init__(self) -> None:
        self.replica = ""
        self.die: Callable[[], None] = lambda: None

    async def predict(self, item: bytes) -> bytes:
        await asyncio.sleep(self.seconds)
        return b"%s by %s" % (item, self.replica.encode())


class Network(SimulatedNetwork):
    """Routes as Ray Serve does: to the less busy one of two."""

    def _route(self, call: SimulatedCall) -> None:
        two = self.conditions.rng.sample(self.replicas, min(2, len(self.replicas)))
        call.reach(min(two, key=lambda replica: len(replica.calls)))


class Deployment:
    """Replicas, a client, and the loop that they run in."""

    def __init__(self, loop: VirtualLoop, seed: int, replicas: int, service: type) -> None:
        self.loop = loop
        self.network = Network(
            loop,
            random.Random(f"network {seed}"),
            replace(CALM, replicas=replicas),
            faults=(),
            kind=HandlerKind.ONE_TO_ONE,
            make_service=lambda _admission, _version: service(),
            trace=Trace(loop.time),
        )
        self.clients: list[StreamClient[bytes, bytes]] = []

    def client(self, **options) -> StreamClient[bytes, bytes]:
        self.clients.append(StreamClient("simulation:1", **options))
        self.network.serve(self.clients[-1])
        return self.clients[-1]


@pytest.fixture(params=range(effort(2, 10)))
def play(request):
    """Runs a function with a deployment, in virtual time; its result."""

    def run(main: Callable, *, replicas: int, service: type = Waiting):
        seed = request.param
        rng = random.Random(f"loop {seed}")
        loop = VirtualLoop(rng, limit=5000.0, most_callbacks=20_000_000)
        deployment = Deployment(loop, seed, replicas, service)

        async def all_of_it():
            result = await main(deployment)
            for client in deployment.clients:
                await client.aclose()
            await deployment.network.aclose()
            return result

        try:
            with quiet(), isolated(loop, rng):
                return loop.run_until_complete(all_of_it())
        finally:
            loop.close()

    return run


def items(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def by(output: bytes) -> str:
    return output.decode().partition(" by ")[2]


async def consumed(deployment, stream) -> tuple[float, list[bytes]]:
    """How long a stream took, and its outputs."""
    began = deployment.loop.time()
    outputs = [output async for output in stream]
    return deployment.loop.time() - began, outputs


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize(("replicas", "least"), [(4, 3.8), (8, 7.0)])
def test_a_stream_uses_all_replicas(play, replicas, least, ordered):
    count = int(60 * A_SECOND)  # a minute's work for one

    async def main(deployment):
        return await consumed(deployment, deployment.client().stream(items(count), ordered=ordered))

    seconds, outputs = play(main, replicas=replicas)
    given = [output.partition(b" ")[0] for output in outputs]
    assert (given if ordered else sorted(given, key=int)) == items(count)
    assert len({by(output) for output in outputs}) == replicas
    assert 60 / seconds >= least, f"{60 / seconds:.2f}x, {Counter(map(by, outputs))}"


def test_one_lane_is_one_replica(play):
    async def main(deployment):
        return await consumed(deployment, deployment.client().stream(items(200), lanes=1))

    _, outputs = play(main, replicas=4)
    assert len({by(output) for output in outputs}) == 1


def test_a_stream_goes_to_replicas_that_come(play):
    """A scale-up from 1 to 4, at once."""

    async def main(deployment):
        times: list[float] = []
        stream = deployment.client().stream(items(int(80 * A_SECOND)))
        scaled = 10.0
        deployment.loop.call_later(scaled, deployment.network.scale_to, 4, 1.0)
        began = deployment.loop.time()
        async for _ in stream:
            times.append(deployment.loop.time() - began)
        return scaled, times

    scaled, times = play(main, replicas=1)
    assert len(times) == int(80 * A_SECOND)
    after = [time for time in times if scaled + 10 <= time < scaled + 15]
    assert len(after) / 5 >= 0.9 * 4 * A_SECOND
    assert times[-1] < 10 + 70 / 4 * 1.25


def test_a_stream_loses_nothing_when_replicas_go(play):
    async def main(deployment):
        stream = deployment.client().stream(items(1200))
        deployment.loop.call_later(5.0, deployment.network.scale_to, 1, 2.0)
        return await consumed(deployment, stream)

    _, outputs = play(main, replicas=4)
    assert [output.partition(b" ")[0] for output in outputs] == items(1200)


@pytest.mark.parametrize("ordered", [True, False])
def test_a_slow_replica_costs_its_share_and_no_more(play, ordered):
    made: list[Waiting] = []

    class OneIsSlow(Waiting):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)
            if len(made) == 2:
                self.seconds = 10 * SECONDS

    async def main(deployment):
        stream = deployment.client().stream(items(3000), ordered=ordered)
        return await consumed(deployment, stream)

    seconds, outputs = play(main, replicas=4, service=OneIsSlow)
    assert len(outputs) == 3000
    best = 3000 / (3.1 * A_SECOND)
    assert best / seconds >= 0.8, f"{best / seconds:.2f}"


async def callers(deployment, count: int, seconds: float) -> list[tuple[float, str]]:
    """So many, each with one call after the other: when each was answered, and where."""
    client, done = deployment.client(), []
    began = deployment.loop.time()

    async def call() -> None:
        while (now := deployment.loop.time() - began) < seconds:
            output = await client.predict(b"%f" % now)
            done.append((deployment.loop.time() - began, by(output)))

    await asyncio.gather(*(call() for _ in range(count)))
    return done


@pytest.mark.parametrize("replicas", [2, 4, 8])
def test_single_calls_reach_all_replicas(play, replicas):
    count = 8 * replicas

    async def main(deployment):
        return await callers(deployment, count, 30)

    done = play(main, replicas=replicas)
    assert len({where for _, where in done}) == replicas
    late = sum(10 <= when < 30 for when, _ in done)
    assert late / 20 >= 0.95 * replicas * A_SECOND


def test_single_calls_go_to_replicas_that_come(play):
    async def main(deployment):
        deployment.loop.call_later(10, deployment.network.scale_to, 4, 1.0)
        return await callers(deployment, 32, 40)

    done = play(main, replicas=1)
    late = sum(20 <= when < 40 for when, _ in done)
    assert late / 20 >= 0.9 * 4 * A_SECOND


def test_a_stream_keeps_little_to_itself_before_anything_is_known(play):
    """What its own attempt has sent, no lane can carry, and the outputs of all wait for it."""

    async def main(deployment):
        stream = deployment.client().stream(b"x" for _ in itertools.count())
        most = 0
        while deployment.loop.time() < 3:
            await anext(stream)
            most = max(most, stream.statistics().lanes[0].under_way)
        await stream.aclose()
        return most

    assert play(main, replicas=4) <= 64


@pytest.mark.timeout(300)
def test_nothing_moves_on_a_deployment_that_does_not_change(play):
    """Ten minutes; streams and calls have found their places in the first one. The handler is slow,
    so that they are not too many items to play.
    """

    class Slow(Waiting):
        seconds = 5 * SECONDS

    async def main(deployment):
        client = deployment.client()
        before: list[int] = []
        deployment.loop.call_later(60, lambda: before.append(len(deployment.network.calls)))
        began = deployment.loop.time()

        def inputs():
            while deployment.loop.time() - began < 660:
                yield b"x"

        calling = asyncio.ensure_future(callers(deployment, 16, 660))
        async for _ in client.stream(inputs()):
            pass
        await calling
        return before[0], len(deployment.network.calls)

    before, after = play(main, replicas=4, service=Slow)
    assert after == before


def test_a_quick_handler_keeps_its_stream(play):
    class Quick(Waiting):
        seconds = 0.0

    async def main(deployment):
        return await consumed(deployment, deployment.client().stream(items(2000)))

    _, outputs = play(main, replicas=4, service=Quick)
    assert len({by(output) for output in outputs}) == 1


def test_no_more_is_pulled_than_the_window_has_room_for(play):
    async def main(deployment):
        flow = FlowControl(window_items=100)
        pulled = taken = most = 0

        def inputs():
            nonlocal pulled, most
            for item in items(1000):
                pulled += 1
                most = max(most, pulled - taken)
                yield item

        async for _ in deployment.client(flow=flow).stream(inputs()):
            taken += 1
        return most

    assert play(main, replicas=4) <= 101


def take_no_second_stream(deployment) -> None:
    """As a deployment all of whose places are taken: Serve lets further streams wait."""
    network = deployment.network
    route = network._route

    def one(call: SimulatedCall) -> None:
        if call is network.calls[0]:
            route(call)

    network._route = one


def test_calls_go_on_where_no_further_lane_finds_a_place(play):
    async def main(deployment):
        take_no_second_stream(deployment)
        return await callers(deployment, 12, 60)

    done = play(main, replicas=4)
    assert len(done) >= 0.95 * 60 * A_SECOND


def test_a_stream_goes_on_where_no_lane_finds_a_place(play):
    async def main(deployment):
        take_no_second_stream(deployment)
        return await consumed(deployment, deployment.client().stream(items(3000)))

    seconds, outputs = play(main, replicas=4)
    assert [output.partition(b" ")[0] for output in outputs] == items(3000)
    assert seconds <= 1.05 * 3000 / A_SECOND
