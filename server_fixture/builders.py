"""The applications with as many replicas as are wanted."""

from __future__ import annotations

from typing import Protocol

from ray import serve
from ray.serve import Application, Deployment

from server_fixture.app import DEPLOYMENTS, OPTIONS
from server_fixture.generating import Continuing, Drifting, Restarting, Seeking
from servestream_client.server import StreamService
from servestream_client.testing.ray_serve.ledger import enrol

__all__ = [
    "Builder",
    "builder",
    "continuing",
    "digits",
    "drifting",
    "echo",
    "enrolled",
    "fragile",
    "not_a_stream",
    "restarting",
    "seeking",
]


class Builder(Protocol):
    """What a fixture calls, found by its name in a module."""

    def __call__(self, *, replicas: int) -> Application:
        """Build the application."""
        ...


def builder(deployment: Deployment) -> Builder:
    """What makes an application of a single deployment."""

    def build(*, replicas: int) -> Application:
        return deployment.options(num_replicas=replicas).bind()

    return build


def enrolled(service: type[StreamService[bytes, bytes]], *, places: int = 1000) -> Builder:
    """What makes an application of a service, in replicas that can be found, and killed.

    Args:
        service: its class.
        places: how many streams and calls a replica serves at once.
    """

    class Enrolled(service):  # type: ignore[valid-type, misc]
        """The service, which tells who started the cluster where it is."""

        def __init__(self) -> None:
            enrol()

    Enrolled.__name__ = Enrolled.__qualname__ = service.__name__
    return builder(serve.deployment(**{**OPTIONS, "max_ongoing_requests": places})(Enrolled))


digits = builder(DEPLOYMENTS["digits"])
echo = builder(DEPLOYMENTS["echo"])
fragile = builder(DEPLOYMENTS["fragile"])
not_a_stream = builder(DEPLOYMENTS["not_a_stream"])

restarting = enrolled(Restarting)
seeking = enrolled(Seeking)
continuing = enrolled(Continuing)
drifting = enrolled(Drifting)
