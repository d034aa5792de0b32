"""The demo's Ray Serve application: a classifier of handwritten digits."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from servestream_client.codecs import Codec
from servestream_client.demo.model import DigitsCodec, DigitsModel, Image, Prediction
from servestream_client.testing.faults import FaultPlan
from servestream_client.testing.injector import FaultyService
from servestream_client.testing.ray_serve.ledger import enrol

if TYPE_CHECKING:
    from ray.serve import Application

__all__ = ["Digits", "digits"]


class Digits(FaultyService[Image, Prediction]):
    """The classifier. It enrols with what started the cluster, which can then kill it."""

    codec: Codec[Image, Prediction] = DigitsCodec()
    code_version: ClassVar[str] = "1"
    max_concurrency: ClassVar[int | None] = 2

    def __init__(self) -> None:
        self._model = DigitsModel()
        self.plan: FaultPlan = enrol()

    def predict(self, item: Image) -> Prediction:
        return self._model.predict(item)


def digits(*, replicas: int) -> Application:
    """The application, for `servestream_client.testing.ray_serve.ServeFixture`."""
    from ray import serve  # noqa: PLC0415 — an extra

    deployment = serve.deployment(
        num_replicas=replicas,
        max_ongoing_requests=100,
        health_check_period_s=1,
        ray_actor_options={"num_cpus": 0.1},
    )(Digits)
    return deployment.bind()
