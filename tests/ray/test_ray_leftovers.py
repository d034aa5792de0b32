"""The fixture ends everything that it started, also when it is ended itself."""

from __future__ import annotations

import os
import signal

import pytest

from server_fixture.fixture import FixtureError, ServeFixture
from servestream_client.testing.ray_serve.cluster import Ingress, members

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


def test_stopping_leaves_nothing_after_its_process_was_killed() -> None:
    fixture = ServeFixture(("echo",), Ingress.HAPROXY, replicas=1)
    with fixture:
        assert {"haproxy", "raylet"} <= {process.name() for process in fixture.processes()}
        os.kill(fixture.pid, signal.SIGKILL)
        with pytest.raises(FixtureError, match="died"):
            fixture.fired()
    assert list(members(fixture.id)) == []
    fixture.stop()
    with pytest.raises(FixtureError, match="not running"):
        fixture.fired()


def test_a_start_that_fails_says_why_and_leaves_nothing() -> None:
    fixture = ServeFixture(("no_such_application",))
    with pytest.raises(FixtureError, match="there is no application 'no_such_application'"):
        fixture.start()
    assert list(members(fixture.id)) == []
