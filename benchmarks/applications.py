"""The services as Ray Serve applications: what `ServeFixture` gets as ``module:builder``.

Import this in the fixture's process only; it imports Ray.
"""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve import Application

from benchmarks.services import SERVICES
from server_fixture.app import OPTIONS
from server_fixture.builders import Builder, builder
from servestream_client.testing.ray_serve.ledger import enrol

# Room for every stream and every unary call of the widest measurement on a single replica.
_OPTIONS: dict[str, Any] = {**OPTIONS, "max_ongoing_requests": 2500}


def _builder(name: str) -> Builder:
    service = SERVICES[name]

    class Enrolled(service):  # type: ignore[valid-type, misc]
        """The service, in a replica that can be found."""

        def __init__(self) -> None:
            enrol()

    Enrolled.__name__ = Enrolled.__qualname__ = service.__name__
    return builder(serve.deployment(**_OPTIONS)(Enrolled))


def _twice(build: Builder) -> Builder:
    def built(*, replicas: int) -> Application:
        return build(replicas=2 * replicas)

    return built


echo = _builder("echo")
echo_batch = _builder("echo_batch")
echo_large = _builder("echo_large")
tokens = _builder("tokens")
tokens_twice = _twice(tokens)
"""With twice as many replicas as others have."""
