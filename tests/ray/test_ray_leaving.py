"""A redeploy under live streams, on a real Ray Serve in both ingress modes."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from chaos.deploying import Deployer, Deployment
from chaos.items import payload, read
from chaos.processes import gcs_address, raylet
from server_fixture.fixture import ServeFixture
from servestream_client import PredictionStream, RetryPolicy, StreamClient
from servestream_client.testing.ray_serve import Ingress

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

STREAMS = 50
PATIENT = RetryPolicy(attempts=1000, give_up_after=300.0)


class Live:
    """A stream whose inputs come slowly, until it is told to end."""

    def __init__(self, client: StreamClient[bytes, bytes], tag: int, end: asyncio.Event) -> None:
        self.tag = tag
        self.sent = 0
        self.versions: Counter[int] = Counter()
        self.last_version = 0
        self._end = end
        self.stream: PredictionStream[bytes] = client.stream(self._inputs())

    async def _inputs(self):
        while not self._end.is_set():
            self.sent += 1
            yield payload(self.tag, self.sent)
            await asyncio.sleep(0.02)

    async def run(self) -> None:
        number = 0
        async for output in self.stream:
            number += 1
            answer = read(output)
            assert (answer.stream, answer.number) == (self.tag, number)
            self.versions[answer.version] += 1
            self.last_version = answer.version
        assert number == self.sent


@pytest.mark.parametrize("ingress", list(Ingress))
async def test_a_redeploy_under_50_live_streams_loses_nothing(
    ingress: Ingress, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "servestream_client")
    with ServeFixture(("chaos.app:chaos",), ingress) as fixture:
        deployer = Deployer(gcs_address(fixture.id), raylet(fixture.id).environ())
        await asyncio.to_thread(deployer.start)
        try:
            async with StreamClient(fixture.target, application="chaos", retry=PATIENT) as client:
                end = asyncio.Event()
                lives = [Live(client, tag, end) for tag in range(STREAMS)]
                running = [asyncio.ensure_future(live.run()) for live in lives]
                await until(lambda: all(live.versions[1] > 20 for live in lives), running)
                redeploy = asyncio.to_thread(deployer.deploy, Deployment(version=2, replicas=2))
                await redeploy
                # Each reaches the new code, and none needs its client made anew for that.
                await until(lambda: all(live.last_version == 2 for live in lives), running)
                end.set()
                await asyncio.gather(*running)
        finally:
            await asyncio.to_thread(deployer.stop)
    reasons = Counter(record.args[-1] for record in caplog.records if "attempt" in record.msg)
    print(ingress, reasons)
    # The health checks that cease are heeded: streams move in order, before they are cut.
    assert reasons["the server is leaving, or the attempt was old"] >= STREAMS
    assert all(live.versions[1] and live.versions[2] for live in lives)


async def until(condition, running) -> None:
    """Until something holds, or one of the streams has failed."""
    while not condition():
        done, _ = await asyncio.wait(running, timeout=0.1, return_when="FIRST_COMPLETED")
        for each in done:
            each.result()
            raise AssertionError("a stream has ended early")
