"""What `ray_stream_server` serves unless told otherwise."""

from __future__ import annotations

from ray import serve

from servestream_client.testing.server import Echo

__all__ = ["echo"]


_deployment = serve.deployment(
    num_replicas=2,
    max_ongoing_requests=100,
    graceful_shutdown_timeout_s=2,
    health_check_period_s=1,
    ray_actor_options={"num_cpus": 0.1},
)

echo: serve.Application = _deployment(Echo).bind()
