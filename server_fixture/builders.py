"""The applications with as many replicas as are wanted."""

from __future__ import annotations

from typing import Protocol

from ray import serve
from ray.serve import Application, Deployment

from server_fixture.counting import Counting
from server_fixture.echoes import OPTIONS, Echo, Fragile, NotAStream
from server_fixture.folding import Folding
from server_fixture.generating import Continuing, Drifting, Restarting, Seeking
from server_fixture.waiting import MOST, PLACES, Waiting
from servestream_client.server import StreamService
from servestream_client.testing.ray_serve.ledger import enrol

__all__ = [
    "Builder",
    "builder",
    "continuing",
    "counting",
    "digits",
    "drifting",
    "echo",
    "enrolled",
    "folding",
    "fragile",
    "growing",
    "not_a_stream",
    "restarting",
    "seeking",
    "waiting",
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


def enrolled(
    service: type[StreamService[bytes, bytes]], *, places: int = 1000, **others: object
) -> Builder:
    """What makes an application of a service, in replicas that can be found, and killed.

    Args:
        service: its class.
        places: how many streams and calls a replica serves at once.
        others: further options of the deployment.
    """
    options = {**OPTIONS, "max_ongoing_requests": places, **others}
    return builder(serve.deployment(**options)(_enrolled(service)))


def _enrolled(service: type[StreamService[bytes, bytes]]) -> type[StreamService[bytes, bytes]]:
    class Enrolled(service):  # type: ignore[valid-type, misc]
        """The service, which tells who started the cluster where it is."""

        def __init__(self) -> None:
            enrol()

    Enrolled.__name__ = Enrolled.__qualname__ = service.__name__
    return Enrolled


class _CountingReplica(Counting):
    """Tells who started the cluster where it is."""

    def __init__(self) -> None:
        enrol()


def growing(service: type[StreamService[bytes, bytes]]) -> Builder:
    """What makes an application of a service that goes from one replica to four, by what there is
    to do.
    """
    options = {name: value for name, value in OPTIONS.items() if name != "num_replicas"}
    scaling = {
        "min_replicas": 1,
        "max_replicas": MOST,
        "initial_replicas": 1,
        "target_ongoing_requests": PLACES,
        "upscale_delay_s": 2,
        "downscale_delay_s": 10,
        "look_back_period_s": 5,
        "metrics_interval_s": 2,
        "policy": {"policy_function": "servestream_client.server.autoscaling:policy"},
    }
    deployment = serve.deployment(**options, autoscaling_config=scaling)(_enrolled(service))

    def build(*, replicas: int) -> Application:  # noqa: ARG001 — Serve decides
        return deployment.bind()

    return build


def digits(*, replicas: int) -> Application:
    """The classifier."""
    from servestream_client.demo.service import Digits

    return builder(serve.deployment(**OPTIONS)(Digits))(replicas=replicas)


echo = builder(serve.deployment(**OPTIONS)(Echo))
fragile = builder(serve.deployment(**OPTIONS)(Fragile))
counting = builder(serve.deployment(**OPTIONS)(_CountingReplica))
not_a_stream = builder(serve.deployment(**OPTIONS)(NotAStream))

waiting = growing(Waiting)
restarting = enrolled(Restarting)
seeking = enrolled(Seeking)
continuing = enrolled(Continuing)
drifting = enrolled(Drifting)
folding = enrolled(Folding)
