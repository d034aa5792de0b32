"""One Ray Serve for each ingress mode, which all tests of that mode share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rows import rows_made

from server_fixture.fixture import ServeFixture
from servestream_client.demo.model import Image, Prediction, digits
from servestream_client.demo.trial import answers_offline
from servestream_client.testing.ray_serve.cluster import Ingress, members

__all__ = ["rows_made"]


@pytest.fixture(scope="session", params=list(Ingress))
def shared(request: pytest.FixtureRequest) -> Iterator[ServeFixture]:
    """Three applications with two replicas each."""
    fixture = ServeFixture(("digits", "echo", "fragile"), request.param)
    with fixture:
        yield fixture
    assert not list(members(fixture.id))


@pytest.fixture
def serve(shared: ServeFixture) -> Iterator[ServeFixture]:
    """The shared Ray Serve, with every replica alive and no fault planned."""
    shared.clear_faults()
    shared.wait_for_replicas()
    yield shared
    shared.clear_faults()


@pytest.fixture(scope="session")
def images() -> list[Image]:
    """Every image there is: 1,797."""
    return list(digits()[0])


@pytest.fixture(scope="session")
def offline(images: list[Image]) -> list[Prediction]:
    """What the classifier says of each image in this process."""
    return answers_offline(images)
