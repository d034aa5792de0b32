"""The services as Ray Serve applications: what `ServeFixture` gets as ``module:builder``.

Import this in the fixture's process only; it imports Ray.
"""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve import Application

from benchmarks.services import SERVICES
from server_fixture.app import OPTIONS
from servestream_client.testing.ray_serve.ledger import enrol

# Room for every stream and every unary call of the widest measurement on a single replica.
_OPTIONS: dict[str, Any] = {**OPTIONS, "max_ongoing_requests": 2500}


def _application(name: str, replicas: int) -> Application:
    service = SERVICES[name]

    class Enrolled(service):  # type: ignore[valid-type, misc]
        """The service, in a replica that can be found."""

        def __init__(self) -> None:
            enrol()

    Enrolled.__name__ = Enrolled.__qualname__ = service.__name__
    return serve.deployment(**_OPTIONS)(Enrolled).options(num_replicas=replicas).bind()


def echo(*, replicas: int) -> Application:
    """`benchmarks.services.Echo`."""
    return _application("echo", replicas)


def echo_batch(*, replicas: int) -> Application:
    """`benchmarks.services.EchoBatch`."""
    return _application("echo_batch", replicas)


def echo_large(*, replicas: int) -> Application:
    """`benchmarks.services.EchoLarge`."""
    return _application("echo_large", replicas)
