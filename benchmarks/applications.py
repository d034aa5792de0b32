"""The services as Ray Serve applications: what `ServeFixture` gets as ``module:builder``.

Import this in the fixture's process only; it imports Ray.
"""

from __future__ import annotations

from ray.serve import Application

from benchmarks.services import SERVICES
from server_fixture.builders import Builder, enrolled
from server_fixture.builders import waiting as growing

__all__ = ["growing"]

# Room for every stream and every unary call of the widest measurement on a single replica.
_PLACES = 2500


def _builder(name: str) -> Builder:
    return enrolled(SERVICES[name], places=_PLACES)


def _times(count: int, build: Builder) -> Builder:
    """With so many times the replicas that others have."""

    def built(*, replicas: int) -> Application:
        return build(replicas=count * replicas)

    return built


echo = _builder("echo")
echo_batch = _builder("echo_batch")
echo_large = _builder("echo_large")
tokens = _builder("tokens")
tokens_twice = _times(2, tokens)
waiting = _builder("waiting")
waiting_4 = _times(4, waiting)
waiting_8 = _times(8, waiting)
uneven_4 = _times(4, _builder("uneven"))
