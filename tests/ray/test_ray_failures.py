"""What each failure looks like to a client: the rows of docs/failures.md, on a real Ray Serve.

Every test says which status came, by the reason of the attempt that failed.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace

import psutil
import pytest

from chaos.deploying import Deployer, Deployment
from chaos.items import payload, read
from chaos.processes import Role, find, gcs_address, raylet
from server_fixture.fixture import ServeFixture
from servestream_client import PredictionStream, RetriesExhaustedError, RetryPolicy, StreamClient
from servestream_client.testing.ray_serve import Ingress

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600), pytest.mark.application("chaos")]

PATIENT = RetryPolicy(attempts=1000, give_up_after=300.0)
PROXY, HAPROXY = Ingress.PROXY, Ingress.HAPROXY


class Serve:
    """The application of the chaos runs, and who deploys it."""

    def __init__(self, fixture: ServeFixture) -> None:
        self.fixture = fixture
        self.deployer = Deployer(gcs_address(fixture.id), raylet(fixture.id).environ())
        self.deployed = Deployment(version=1, replicas=2)

    def redeploy(self, **wanted: int) -> int:
        """Another version of the code, and how it is to be deployed; returns the version."""
        # No version that the chaos run had before.
        version = max(self.deployed.version, 100) + 1
        self.deployed = Deployment(version=version, **{"replicas": 2, **wanted})
        self.deployer.deploy(self.deployed)
        return self.deployed.version

    def restore(self) -> None:
        """Whatever the test before has left."""
        if replace(self.deployed, version=1) != Deployment(version=1, replicas=2):
            self.redeploy()

    def kill(self, role: Role) -> None:
        processes = find(self.fixture.id, role)
        # Of HAProxy there may be an older process, which serves the streams that it has.
        struck = processes if role is Role.HAPROXY else processes[:1]
        for process in struck:
            process.kill()
        psutil.wait_procs(struck, timeout=10)


@pytest.fixture
def ingress(shared: ServeFixture) -> Ingress:
    return shared.ingress


@pytest.fixture(scope="module")
def own(shared: ServeFixture) -> Iterator[Serve]:
    """The shared one, on which these run last."""
    serve = Serve(shared)
    serve.deployer.start()
    try:
        yield serve
    finally:
        serve.deployer.stop()


@pytest.fixture
async def client(own: Serve) -> AsyncIterator[StreamClient[bytes, bytes]]:
    await asyncio.to_thread(own.restore)
    async with StreamClient(own.fixture.target, application="chaos", retry=PATIENT) as client:
        await client.predict(payload(0, 1))
        yield client


class Live:
    """A stream under way, whose inputs come one by one until it is told to end."""

    def __init__(self, client: StreamClient[bytes, bytes], tag: int = 7) -> None:
        self.tag = tag
        self.sent = self.received = 0
        self.version = 0  # that answered last
        self._end = asyncio.Event()
        self.stream: PredictionStream[bytes] = client.stream(self._inputs())
        self.task = asyncio.ensure_future(self._run())

    async def _inputs(self):
        while not self._end.is_set():
            self.sent += 1
            yield payload(self.tag, self.sent)
            await asyncio.sleep(0.02)

    async def _run(self) -> None:
        async for output in self.stream:
            self.received += 1
            answer = read(output)
            assert answer[:2] == (self.tag, self.received)
            self.version = answer.version

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.wait({self.task}, timeout=0.05)
            if self.task.done():
                self.task.result()
                raise AssertionError("the stream has ended early")

    async def goes_on(self) -> None:
        seen = self.received
        await self.until(lambda: self.received > seen + 20)

    async def end(self) -> None:
        self._end.set()
        await self.task
        assert self.received == self.sent


async def both_answer(client: StreamClient[bytes, bytes]) -> None:
    """Return once streams were answered by two replicas."""
    pids: set[int] = set()

    async def ask() -> None:
        async for output in client.stream([payload(0, 1)]):
            pids.add(read(output).pid)

    while len(pids) < 2:
        # Together: one alone always goes to the replica where nothing else is.
        await asyncio.gather(*(ask() for _ in range(4)))


def reasons(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [str(record.args[-1]) for record in caplog.records if "attempt" in record.msg]


async def survives(client, caplog, strike: Callable[[], object]) -> list[str]:
    """A live stream goes on after that; returns why its attempts failed."""
    caplog.set_level("INFO", "servestream_client")
    live = Live(client)
    await live.goes_on()
    caplog.clear()
    await asyncio.to_thread(strike)
    await live.goes_on()
    await live.end()
    return reasons(caplog)


def matches(pattern: str, found: list[str]) -> bool:
    return any(re.search(pattern, reason) for reason in found)


@pytest.mark.row("replica-died-default-proxy", shared=PROXY)
@pytest.mark.row("replica-died-haproxy", shared=HAPROXY)
async def test_a_replica_is_killed(client, own, ingress, caplog) -> None:
    serving = client.stream([payload(1, 1)])
    async for _ in serving:
        pass
    status = {PROXY: "INTERNAL.*actor died", HAPROXY: "CANCELLED.*RST_STREAM"}[ingress]
    found: list[str] = []
    # Until it was the one that served the stream, and the stream had not left it before.
    while not matches(f"the replica died .{status}", found):
        found = await survives(client, caplog, lambda: own.kill(Role.REPLICA))
        print(found)


async def test_the_controller_is_killed(client, own, caplog) -> None:
    """The stream does not notice, but for health checks that cease for a while."""
    found = await survives(client, caplog, lambda: own.kill(Role.CONTROLLER))
    assert [each for each in found if "is leaving" not in each] == []


async def test_the_proxy_is_killed(client, own, ingress, caplog) -> None:
    role = {PROXY: Role.PROXY, HAPROXY: Role.HAPROXY}[ingress]
    found = await survives(client, caplog, lambda: own.kill(role))
    assert matches("the connection broke, or is refused .UNAVAILABLE", found)


@pytest.mark.once_in(Ingress.PROXY)
@pytest.mark.row("application-gone", shared=HAPROXY)
async def test_the_application_is_deleted_and_comes_back(client, own, caplog) -> None:
    def strike() -> None:
        own.deployer.delete()
        own.redeploy()

    found = await survives(client, caplog, strike)
    print(found)
    assert found


@pytest.mark.once_in(Ingress.HAPROXY)
async def test_a_redeploy_under_50_live_streams_loses_nothing(client, own, caplog) -> None:
    caplog.set_level("INFO", "servestream_client")
    # The grace is that of the replicas that go: on a busy machine 50 streams need some.
    await asyncio.to_thread(own.redeploy, grace=30)
    await both_answer(client)
    lives = [Live(client, tag) for tag in range(50)]
    for live in lives:
        await live.goes_on()
    caplog.clear()
    version = await asyncio.to_thread(own.redeploy)
    for live in lives:  # none needs its client made anew for that
        await live.until(lambda live=live: live.version == version)
    for live in lives:
        await live.end()
    found = Counter(reasons(caplog))
    print(found)
    # The health checks that cease are heeded: streams move in order, before they are cut.
    assert found["the server is leaving"] >= 50


@pytest.mark.once_in(Ingress.PROXY)
async def test_more_streams_than_places(client, own, ingress, caplog) -> None:
    """Without a limit to the queue a stream waits without a word, and the open timeout tells."""
    await asyncio.to_thread(own.redeploy, replicas=1, ongoing=2)
    quick = client.with_options(retry=RetryPolicy(attempts=2, open_timeout=3.0))
    lives = [Live(client) for _ in range(2)]
    for live in lives:
        await live.goes_on()
    errors: list[str] = []
    # A live stream leaves the replica when it drains, as one does whose health check comes late,
    # and its place is free for a while.
    while not matches("max_ongoing_requests", errors):
        try:
            async for _ in quick.stream([payload(1, 1)]):
                pass
        except RetriesExhaustedError as error:
            errors.append(str(error))
    print(errors)
    for live in lives:
        await live.end()


@pytest.mark.once_in(Ingress.PROXY)
@pytest.mark.row("overloaded", shared=PROXY)
async def test_a_queue_that_is_full(client, own, ingress, caplog) -> None:
    await asyncio.to_thread(own.redeploy, replicas=1, ongoing=2, queued=1)
    caplog.set_level("INFO", "servestream_client")
    lives = [Live(client) for _ in range(2)]
    for live in lives:
        await live.goes_on()
    caplog.clear()
    quick = client.with_options(retry=RetryPolicy(attempts=2, open_timeout=3.0))
    waiting = [asyncio.ensure_future(anext(quick.stream([payload(1, 1)]))) for _ in range(4)]
    await asyncio.wait(waiting)
    errors = [str(each.exception()) for each in waiting]
    print(ingress, errors)
    if ingress is PROXY:
        assert matches("overloaded .RESOURCE_EXHAUSTED", errors)
    else:
        assert matches("max_ongoing_requests", errors)
    for live in lives:
        await live.end()
