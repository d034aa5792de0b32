"""The other end: what a deployment is made of.

Subclass `StreamService`, set its codec, override one handler, and serve it: under Ray Serve
decorated with ``@serve.deployment``, or on any ``grpc.aio`` server with `add_to_server`.
"""

from servestream_client.server.service import (
    GRPC_SERVER_OPTIONS,
    GRPC_SERVICER_FUNCTIONS,
    Output,
    RefusalKind,
    Refuse,
    Replay,
    Resume,
    StreamRequest,
    StreamService,
    add_to_server,
)

__all__ = [
    "GRPC_SERVER_OPTIONS",
    "GRPC_SERVICER_FUNCTIONS",
    "Output",
    "RefusalKind",
    "Refuse",
    "Replay",
    "Resume",
    "StreamRequest",
    "StreamService",
    "add_to_server",
]
