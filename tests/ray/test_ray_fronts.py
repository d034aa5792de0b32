"""nginx and Envoy with TLS before Ray Serve, by docs/how-to/behind-a-reverse-proxy.md."""

from __future__ import annotations

from pathlib import Path

import pytest
from fronts import Certificates, Front

from server_fixture.fixture import ServeFixture
from servestream_client import RetryPolicy, StreamClient
from servestream_client.demo.model import DigitsCodec, Image, Prediction
from servestream_client.demo.trial import Trial
from servestream_client.testing.ray_serve import Ingress

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600), pytest.mark.application("digits")]

# Every replica may be dead at a time.
PATIENT = RetryPolicy(attempts=200, give_up_after=250.0)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("nginx", marks=pytest.mark.once_in(Ingress.PROXY)),
        pytest.param("envoy", marks=pytest.mark.once_in(Ingress.HAPROXY)),
    ],
)
async def test_a_replica_dies_and_then_the_front(
    serve: ServeFixture,
    images: list[Image],
    offline: list[Prediction],
    tmp_path: Path,
    kind: str,
) -> None:
    certificates = Certificates(tmp_path)
    # The page has two nodes, and this is one.
    with Front(kind, [serve.target] * 2, certificates) as front:

        def kill(served: str) -> int:
            pid = serve.kill_replica(served)
            front.kill()
            front.start()
            return pid

        trial = Trial(images, offline, places=[600], kill=kill)
        async with StreamClient(
            front.target,
            application="digits",
            codec=DigitsCodec(),
            retry=PATIENT,
            credentials=certificates.credentials(),
        ) as client:
            report = await trial.run(client)
    assert report.problems() == []
    assert report.statistics.resumes >= 1
    assert trial.answers == offline
