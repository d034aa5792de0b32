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

from ray import serve
from ray.serve import Application

from server_fixture.echoes import OPTIONS, Echo
from servestream_client.demo.service import Digits

digits: Application = serve.deployment(**OPTIONS)(Digits).bind()
echo: Application = serve.deployment(**OPTIONS)(Echo).bind()
