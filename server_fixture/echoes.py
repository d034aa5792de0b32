"""The fixture's services that need nothing but Ray, and the options of all its deployments.

Apart from the classifier: what a replica of these imports takes half as long without scikit-learn,
and tests start, and kill, many.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from servestream_client.codecs import BytesCodec
from servestream_client.testing.injector import FaultyService
from servestream_client.testing.ray_serve.ledger import enrol

__all__ = ["OPTIONS", "Echo", "Fragile", "NotAStream"]

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


class Echo(FaultyService[bytes, bytes]):
    """Gives back what it gets."""

    codec = BytesCodec()

    def __init__(self) -> None:
        self.plan = enrol()

    async def predict(self, item: bytes) -> bytes:
        return item


class Fragile(FaultyService[bytes, bytes]):
    """An echo whose replica some inputs destroy, each time they are tried."""

    codec = BytesCodec()

    def __init__(self) -> None:
        self.plan = enrol()

    def predict(self, item: bytes) -> bytes:
        if item == b"crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if item == b"hang":
            threading.Event().wait()
        return item


class NotAStream:
    """A deployment that does not speak the protocol."""

    def __call__(self) -> str:
        return "hello"
