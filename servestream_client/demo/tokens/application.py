"""The demo's Ray Serve application: a language model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from servestream_client.demo.tokens.service import Answering
from servestream_client.testing.ray_serve.ledger import enrol

if TYPE_CHECKING:
    from ray.serve import Application

__all__ = ["LanguageModel", "tokens"]


class LanguageModel(Answering):
    """It enrols with whoever started the cluster, who can then kill it."""

    def __init__(self) -> None:
        super().__init__()
        enrol()


def tokens(*, replicas: int) -> Application:
    """The application, for `servestream_client.testing.ray_serve.ServeFixture`."""
    from ray import serve  # noqa: PLC0415 — an extra

    deployment = serve.deployment(
        num_replicas=replicas,
        max_ongoing_requests=100,
        health_check_period_s=1,
        ray_actor_options={"num_cpus": 0.1},
    )(LanguageModel)
    return deployment.bind()
