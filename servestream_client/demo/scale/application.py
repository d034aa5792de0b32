"""The demo's Ray Serve applications: the same autoscaling deployment, once for each way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from servestream_client.demo.scale.service import MOST, PLACES, Forest
from servestream_client.testing.ray_serve.ledger import enrol

if TYPE_CHECKING:
    from ray.serve import Application

__all__ = ["calls", "stream", "unary"]


class Enrolled(Forest):
    """It enrols with whoever started the cluster, who can then count it."""

    def __init__(self) -> None:
        super().__init__()
        enrol()


def unary(*, replicas: int) -> Application:  # noqa: ARG001 — Serve decides how many
    """For plain stubs."""
    return _scaling()


def calls(*, replicas: int) -> Application:  # noqa: ARG001
    """For `client.predict`."""
    return _scaling()


def stream(*, replicas: int) -> Application:  # noqa: ARG001
    """For `client.stream`."""
    return _scaling()


def _scaling() -> Application:
    from ray import serve  # noqa: PLC0415 — an extra

    deployment = serve.deployment(
        max_ongoing_requests=1000,
        health_check_period_s=1,
        graceful_shutdown_timeout_s=5,
        ray_actor_options={"num_cpus": 0.1},
        autoscaling_config={
            "min_replicas": 1,
            "max_replicas": MOST,
            "target_ongoing_requests": PLACES,
            "upscale_delay_s": 2,
            "downscale_delay_s": 5,
            "look_back_period_s": 5,
            "metrics_interval_s": 2,
            "policy": {"policy_function": "servestream_client.server.autoscaling:policy"},
        },
    )(Enrolled)
    return deployment.bind()
