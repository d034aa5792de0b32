r"""The Ray Serve applications: an echo and a classifier that fail by plan, and a fragile echo.

Started by `server_fixture.ServeFixture`, by ``python -m server_fixture``, or, from the
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
import signal
import threading
from typing import Any

from ray import serve
from ray.serve import Application, Deployment

from servestream_client.codecs import BytesCodec
from servestream_client.demo.service import Digits
from servestream_client.testing.injector import FaultyService
from servestream_client.testing.ray_serve.ledger import enrol

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


DEPLOYMENTS: dict[str, Deployment] = {
    "digits": serve.deployment(**OPTIONS)(Digits),
    "echo": serve.deployment(**OPTIONS)(Echo),
    "fragile": serve.deployment(**OPTIONS)(Fragile),
    "not_a_stream": serve.deployment(**OPTIONS)(NotAStream),
}


# For `serve run server_fixture.app:digits`.
digits: Application = DEPLOYMENTS["digits"].bind()
echo: Application = DEPLOYMENTS["echo"].bind()
