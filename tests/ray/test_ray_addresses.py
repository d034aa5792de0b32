"""Somebody answers, but not the one who was asked for."""

from __future__ import annotations

import pytest

from server_fixture.fixture import FixtureError, ServeFixture
from servestream_client import (
    CodecMismatchError,
    RetryPolicy,
    StreamClient,
    WrongApplicationError,
)
from servestream_client.testing.ray_serve import Ingress

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600), pytest.mark.application("echo")]


# An application of which another test has killed every replica is not up at once.
PATIENT = RetryPolicy(connect_attempts=100, connect_timeout=60.0)


async def stream_one(serve: ServeFixture, application: str) -> None:
    async with StreamClient(serve.target, application=application, retry=PATIENT) as client:
        async for _ in client.stream([b"x"]):
            pass


@pytest.mark.row("no-such-application")
async def test_an_unknown_application_among_several(serve: ServeFixture) -> None:
    with pytest.raises(WrongApplicationError, match="no such application is deployed there"):
        await stream_one(serve, "nonsense")


@pytest.mark.row("no-application-named")
async def test_no_application_named_among_several(serve: ServeFixture) -> None:
    with pytest.raises(WrongApplicationError, match="this client names none: pass application="):
        await stream_one(serve, "")


async def test_another_codec(serve: ServeFixture) -> None:
    with pytest.raises(CodecMismatchError, match="digits"):
        await stream_one(serve, "digits")


@pytest.mark.once_in(Ingress.PROXY)
async def test_a_replica_can_be_killed_once(serve: ServeFixture) -> None:
    name = serve.replicas_alive("echo")[0].name
    serve.kill_replica(name)
    assert name not in {each.name for each in serve.replicas_alive("echo")}
    serve.wait_for_replicas(application="echo")
    with pytest.raises(FixtureError, match="dead already"):
        serve.kill_replica(name)
    with pytest.raises(FixtureError, match="no replica"):
        serve.kill_replica("nobody")
