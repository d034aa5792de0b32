"""A small Ray Serve with one application, which ends every stream after a while; and how it ends
when its own process is killed.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import psutil
import pytest

from server_fixture.fixture import FixtureError, import_path
from servestream_client import NotAServerError, RetryPolicy, StreamClient, WrongApplicationError
from servestream_client.demo.model import DigitsCodec, Image, Prediction
from servestream_client.testing.ray_serve import Ingress, ServeFixture
from servestream_client.testing.ray_serve.cluster import members

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

REQUEST_TIMEOUT = 3.0

# A client that is new gives up a target soon, and a busy machine may be later.
PATIENT = RetryPolicy(connect_attempts=100, connect_timeout=60.0)


@pytest.fixture(scope="module", params=list(Ingress))
def alone(request: pytest.FixtureRequest) -> Iterator[ServeFixture]:
    """The classifier, with one replica."""
    applications = [import_path("digits")]
    fixture = ServeFixture(applications, request.param, replicas=1, request_timeout=REQUEST_TIMEOUT)
    with fixture:
        yield fixture
        assert {"raylet"} <= names(fixture)
        # Its end is that of whoever has no time for one.
        os.kill(fixture.pid, signal.SIGKILL)
        with pytest.raises(FixtureError, match="died"):
            fixture.fired()
    assert list(members(fixture.id)) == []
    fixture.stop()
    with pytest.raises(FixtureError, match="not running"):
        fixture.fired()


def names(fixture: ServeFixture) -> set[str]:
    """Of its processes, but for those that have gone meanwhile."""
    found = set()
    for process in fixture.processes():
        with suppress(psutil.Error):
            found.add(process.name())
    return found


@pytest.mark.once_in(Ingress.PROXY)
@pytest.mark.row("no-method")
async def test_applications_that_cannot_answer(
    alone: ServeFixture, images: list[Image], offline: list[Prediction]
) -> None:
    """One application alone, which the default proxy gives every request; then a stranger."""
    with pytest.raises(WrongApplicationError):
        async with StreamClient(alone.target, application="nonsense", retry=PATIENT) as client:
            await anext(client.stream([b"x"]))

    alone.deploy(import_path("not_a_stream"))
    with pytest.raises(NotAServerError):
        async with StreamClient(alone.target, application="not_a_stream", retry=PATIENT) as client:
            await anext(client.stream([b"x"]))

    async with StreamClient(
        alone.target, application="digits", codec=DigitsCodec(), retry=PATIENT
    ) as client:
        assert [answer async for answer in client.stream(images[:20])] == offline[:20]

    assert ("haproxy" in names(alone)) == (alone.ingress is Ingress.HAPROXY)


@pytest.mark.once_in(Ingress.PROXY)
@pytest.mark.row("request-timeout")
async def test_a_stream_outlives_the_timeout_of_requests(
    alone: ServeFixture, images: list[Image], offline: list[Prediction], caplog
) -> None:
    """Serve's `request_timeout_s` bounds whole streams: a client resumes after each."""
    caplog.set_level("INFO", "servestream_client")
    expired = re.compile("DEADLINE_EXCEEDED.*timed out")

    def met() -> int:
        reasons = [str(record.args[-1]) for record in caplog.records if "attempt" in record.msg]
        return sum(1 for reason in reasons if expired.search(reason))

    sent: list[int] = []

    async def inputs() -> AsyncIterator[Image]:
        while met() < 3:
            sent.append(len(sent) % len(images))
            yield images[sent[-1]]
            await asyncio.sleep(0.05)

    async with StreamClient(
        alone.target, application="digits", codec=DigitsCodec(), retry=PATIENT
    ) as client:
        stream = client.stream(inputs())
        received = [answer async for answer in stream]
    assert received == [offline[number] for number in sent]
    assert stream.statistics().attempts >= 4
