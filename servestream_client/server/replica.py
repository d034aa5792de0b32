"""What Ray Serve says of this process, if it is a replica. Ray is never imported here."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

__all__ = ["application_name", "in_replica", "ray_metrics", "replica_name", "server_count"]

_RUNNING = "RUNNING"


def application_name(configured: str | None) -> str:
    """The name that clients must ask for; empty: any will do.

    Args:
        configured: the service's own word; None: Serve's name for the application.
    """
    if configured is not None:
        return configured
    context = _context()
    return "" if context is None else str(context.app_name)


def replica_name() -> str:
    """Names this process: Serve's word for it, or host and process id."""
    context = _context()
    if context is None:
        return f"{socket.gethostname()}:{os.getpid()}"
    return str(context.replica_tag)


def server_count() -> Callable[[], Awaitable[int]] | None:
    """What asks how many replicas of this one's deployment take requests; None: this is none.

    It asks Serve's controller, in a thread. 0: that does not know.
    """
    context = _context()
    return None if context is None else partial(asyncio.to_thread, _running_replicas, context)


def in_replica() -> bool:
    """Whether this process is a replica of Ray Serve."""
    return _context() is not None


def ray_metrics() -> Any:  # noqa: ANN401 — Serve's own module
    """Serve's metrics, which say by themselves whose they are; None: this is no replica."""
    return None if _context() is None else sys.modules.get("ray.serve.metrics")


def _running_replicas(context: Any) -> int:  # noqa: ANN401 — Serve's own class
    status = sys.modules["ray.serve"].status()
    application = status.applications.get(context.app_name)
    deployment = application and application.deployments.get(context.deployment)
    if not deployment:
        return 0
    return int(deployment.replica_states.get(_RUNNING, 0))


def _context() -> Any:  # noqa: ANN401 — Serve's own class
    serve = sys.modules.get("ray.serve")
    if serve is None:
        return None
    try:
        return serve.get_replica_context()
    except Exception:  # outside a replica Serve raises an error of its own
        return None
