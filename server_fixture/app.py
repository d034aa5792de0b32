r"""The Ray Serve application: an echo and a classifier, both failing by plan.

Started by `server_fixture.fixture.ServeFixture`, by ``python -m server_fixture``, or, from the
root of the repository, by Serve's own command line::

    serve run server_fixture/serve.yaml

`serve run` has no option that turns gRPC on, only such a file has. On a cluster whose Serve was
started with gRPC before, an application can be run by its import path::

    serve start --grpc-port 9000 --grpc-servicer-functions \
        servestream_client.wire.stream_pb2_grpc.add_StreamServiceServicer_to_server
    serve run server_fixture.app:digits --name digits
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import ray
from ray import serve
from ray.serve import Application, Deployment

from server_fixture.model import DigitsCodec, DigitsModel, Image, Prediction
from servestream_client.codecs import BytesCodec
from servestream_client.testing.faults import Fault, FaultyService, LocalPlan

LEDGER_NAME = "servestream-fixture-ledger"
NAMESPACE = "servestream-fixture"


class Ledger:
    """What must survive the replicas: the fault plan, and which process each of them is."""

    def __init__(self) -> None:
        self._plan = LocalPlan()
        self._pids: dict[str, int] = {}
        self._applications: dict[str, str] = {}

    def enrol(self, replica: str, pid: int, application: str) -> None:
        self._pids[replica] = pid
        self._applications[replica] = application

    def pids(self) -> dict[str, int]:
        """Every replica that ever served here, and its process."""
        return dict(self._pids)

    def applications(self) -> dict[str, str]:
        """Every replica that ever served here, and its application."""
        return dict(self._applications)

    def add(self, faults: Sequence[Fault]) -> None:
        self._plan.add(*faults)

    def clear(self) -> None:
        self._plan.clear()

    def pending(self) -> list[Fault]:
        return self._plan.pending_now()

    def fired(self) -> list[Fault]:
        return list(self._plan.fired)

    def claim(self, fault: Fault) -> bool:
        return self._plan.claim_now(fault)


def ledger() -> Any:  # noqa: ANN401 — Ray types no actor handle
    """The cluster's ledger, made by whoever asks first."""
    return (
        ray.remote(num_cpus=0, max_restarts=0)(Ledger)
        .options(name=LEDGER_NAME, namespace=NAMESPACE, get_if_exists=True, lifetime="detached")
        .remote()
    )


class LedgerPlan:
    """The ledger's fault plan, as replicas see it."""

    def __init__(self) -> None:
        self._ledger = ledger()

    async def pending(self) -> Sequence[Fault]:
        faults: list[Fault] = await self._ledger.pending.remote()
        return faults

    async def claim(self, fault: Fault) -> bool:
        claimed: bool = await self._ledger.claim.remote(fault)
        return claimed


def enrol() -> LedgerPlan:
    """Called last by a constructor, and only in a replica: who is enrolled can serve."""
    plan = LedgerPlan()
    context = serve.get_replica_context()
    ray.get(ledger().enrol.remote(context.replica_tag, os.getpid(), context.app_name))
    return plan


# Two replicas, and room on each for many streams: Serve's default of 5 would be the number of
# streams that a replica serves at once. Small shares of a CPU, so that it all fits two cores.
OPTIONS: dict[str, Any] = {
    "num_replicas": 2,
    "max_ongoing_requests": 1000,
    "graceful_shutdown_timeout_s": 2,
    "graceful_shutdown_wait_loop_s": 0.2,
    "health_check_period_s": 1,
    "ray_actor_options": {"num_cpus": 0.1},
}


class Digits(FaultyService[Image, Prediction]):
    """The classifier."""

    codec = DigitsCodec()
    code_version = "1"
    max_concurrency = 2

    def __init__(self) -> None:
        self._model = DigitsModel()
        self.plan = enrol()

    def predict(self, item: Image) -> Prediction:
        return self._model.predict(item)


class Echo(FaultyService[bytes, bytes]):
    """Gives back what it gets."""

    codec = BytesCodec()

    def __init__(self) -> None:
        self.plan = enrol()

    async def predict(self, item: bytes) -> bytes:
        return item


class NotAStream:
    """A deployment that does not speak the protocol."""

    def __call__(self) -> str:
        return "hello"


DEPLOYMENTS: dict[str, Deployment] = {
    "digits": serve.deployment(**OPTIONS)(Digits),
    "echo": serve.deployment(**OPTIONS)(Echo),
    "not_a_stream": serve.deployment(**OPTIONS)(NotAStream),
}


def build(name: str, *, replicas: int) -> Application:
    """One of the applications with another number of replicas."""
    return DEPLOYMENTS[name].options(num_replicas=replicas).bind()


# For `serve run server_fixture.app:digits`.
digits: Application = DEPLOYMENTS["digits"].bind()
echo: Application = DEPLOYMENTS["echo"].bind()
