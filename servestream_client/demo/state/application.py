"""The demo's Ray Serve application: the detector."""

from __future__ import annotations

from typing import TYPE_CHECKING

from servestream_client.demo.state.service import VoiceActivity
from servestream_client.testing.ray_serve.ledger import enrol

if TYPE_CHECKING:
    from ray.serve import Application

__all__ = ["Detector", "vad"]


class Detector(VoiceActivity):
    """It enrols with whoever started the cluster, who can then kill it."""

    def __init__(self) -> None:
        super().__init__()
        enrol()


def vad(*, replicas: int) -> Application:
    """The application, for `servestream_client.testing.ray_serve.ServeFixture`."""
    from ray import serve  # noqa: PLC0415 — an extra

    deployment = serve.deployment(
        num_replicas=replicas,
        max_ongoing_requests=200,
        health_check_period_s=1,
        ray_actor_options={"num_cpus": 0.1},
    )(Detector)
    return deployment.bind()
