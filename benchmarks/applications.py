"""The services as Ray Serve applications: what `ServeFixture` gets as ``module:builder``.

Import this in the fixture's process only; it imports Ray.
"""

from __future__ import annotations

from ray import serve
from ray.serve import Application

from benchmarks import other_build
from benchmarks.digits import DigitsBatch
from benchmarks.services import SERVICES, RawServicer
from server_fixture import builders
from server_fixture.builders import Builder, builder, enrolled
from server_fixture.echoes import OPTIONS
from server_fixture.waiting import Waiting
from servestream_client.testing.ray_serve.ledger import enrol

# Room for every stream and every unary call of the widest measurement on a single replica.
_PLACES = 2500


def _builder(name: str) -> Builder:
    return enrolled(SERVICES[name], places=_PLACES)


def _times(count: int, build: Builder) -> Builder:
    """With so many times the replicas that others have."""

    def built(*, replicas: int) -> Application:
        return build(replicas=count * replicas)

    return built


def _there(name: str) -> Builder:
    """On the other build."""

    def built(*, replicas: int) -> Application:
        actors = {
            **OPTIONS["ray_actor_options"],
            "runtime_env": {"env_vars": other_build.environment()},
        }
        build = enrolled(SERVICES[name], places=_PLACES, ray_actor_options=actors)
        return build(replicas=replicas)

    return built


class Growing(Waiting, RawServicer):
    """With the raw RPC by which it is seen that HAProxy leads to it."""


class Digits(DigitsBatch, RawServicer):
    """The classifier, likewise."""

    def __init__(self) -> None:
        super().__init__()
        enrol()


digits = builder(serve.deployment(**OPTIONS)(Digits))
growing = builders.growing(Growing)
echo = _builder("echo")
echo_batch = _builder("echo_batch")
echo_large = _builder("echo_large")
echo_there = _there("echo_there")
tokens = _builder("tokens")
tokens_twice = _times(2, tokens)
waiting = _builder("waiting")
waiting_4 = _times(4, waiting)
waiting_8 = _times(8, waiting)
uneven_4 = _times(4, _builder("uneven"))
