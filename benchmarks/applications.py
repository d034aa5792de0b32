"""The services as Ray Serve applications: what `ServeFixture` gets as ``module:builder``.

Import this in the fixture's process only; it imports Ray.
"""

from __future__ import annotations

from ray.serve import Application

from benchmarks.services import SERVICES
from server_fixture.builders import Builder, enrolled

# Room for every stream and every unary call of the widest measurement on a single replica.
_PLACES = 2500


def _builder(name: str) -> Builder:
    return enrolled(SERVICES[name], places=_PLACES)


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
