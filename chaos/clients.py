"""Clients that outlast what is done to the system."""

from __future__ import annotations

from typing import Any

from servestream_client import RetryPolicy, StreamClient, Watchdog

__all__ = ["HEARTBEAT_SECONDS", "connect"]

HEARTBEAT_SECONDS = 2.0
"""Between two heartbeats."""

PATIENCE = RetryPolicy(
    # Serve's proxy and HAProxy need up to half a minute to come back, and may be killed again.
    attempts=10_000,
    connect_attempts=10_000,
    give_up_after=600.0,
)


def connect(
    target: str | list[str],
    *,
    watchdog: bool = True,
    **options: Any,  # noqa: ANN401 — options of any kind
) -> StreamClient[bytes, bytes]:
    """A client of the application.

    Args:
        target: as for `StreamClient`.
        watchdog: whether it notices a link on which nothing comes any more.
        options: others of `StreamClient`.
    """
    interval = HEARTBEAT_SECONDS if watchdog else None
    return StreamClient(
        target,
        application="chaos",
        retry=PATIENCE,
        watchdog=Watchdog(heartbeat_interval=interval),
        **options,
    )
