"""Serve's `request_timeout_s`, which bounds whole streams: a client resumes after each."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator

import pytest

from server_fixture.fixture import import_path
from servestream_client import StreamClient
from servestream_client.testing.ray_serve import Ingress, ServeFixture

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

REQUEST_TIMEOUT = 3.0


@pytest.fixture(params=list(Ingress))
def short(request: pytest.FixtureRequest) -> Iterator[ServeFixture]:
    """A Serve that ends every stream after a while."""
    applications = [import_path("echo")]
    with ServeFixture(applications, request.param, request_timeout=REQUEST_TIMEOUT) as fixture:
        yield fixture


@pytest.mark.row("request-timeout")
async def test_a_stream_outlives_the_timeout_of_requests(short, caplog) -> None:
    caplog.set_level("INFO", "servestream_client")
    expired = re.compile("DEADLINE_EXCEEDED.*timed out")

    def met() -> int:
        reasons = [str(record.args[-1]) for record in caplog.records if "attempt" in record.msg]
        return sum(1 for reason in reasons if expired.search(reason))

    sent: list[bytes] = []

    async def inputs() -> AsyncIterator[bytes]:
        while met() < 3:
            sent.append(b"%d" % len(sent))
            yield sent[-1]
            await asyncio.sleep(0.01)

    async with StreamClient(short.target, application="echo") as client:
        stream = client.stream(inputs())
        received = [output async for output in stream]
    assert received == sent
    assert stream.statistics().attempts >= 4
