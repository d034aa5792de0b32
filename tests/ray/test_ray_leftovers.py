"""The fixture leaves nothing of a start that fails.

That it leaves nothing else, the other fixtures say when they end: test_ray_alone.py, conftest.py.
"""

from __future__ import annotations

import pytest

from server_fixture.fixture import FixtureError, ServeFixture
from servestream_client.testing.ray_serve.cluster import members

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


def test_a_start_that_fails_says_why_and_leaves_nothing() -> None:
    fixture = ServeFixture(("no_such_application",))
    with pytest.raises(FixtureError, match="there is no application 'no_such_application'"):
        fixture.start()
    assert list(members(fixture.id)) == []
