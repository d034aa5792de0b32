"""A service that waits, as for a device of its own: more replicas do more, on two cores too.

Without Ray, so that tests may import what they expect.
"""

from __future__ import annotations

import asyncio
import os

from servestream_client.server import StreamService

__all__ = ["MOST", "PLACES", "SECONDS", "Waiting", "replica_of"]

PLACES = 4
SECONDS = 0.2
MOST = 4
"""Replicas, where it scales."""


def replica_of(output: bytes) -> int:
    """The process that computed an output, which says so behind its item."""
    return int(output.rpartition(b" ")[2])


class Waiting(StreamService[bytes, bytes]):
    """Takes so many items at a time, and so long for each."""

    max_concurrency = PLACES

    async def predict(self, item: bytes) -> bytes:
        await asyncio.sleep(SECONDS)
        return b"%s %d" % (item, os.getpid())
