"""The other end: what a deployment is made of.

Subclass `StreamService`, or `StatefulService` where inputs depend on those before them, set its
codec, override one handler, and serve it: under Ray Serve
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
from servestream_client.server.stateful import StatefulService, Tokens

__all__ = [
    "GRPC_SERVER_OPTIONS",
    "GRPC_SERVICER_FUNCTIONS",
    "Output",
    "RefusalKind",
    "Refuse",
    "Replay",
    "Resume",
    "StatefulService",
    "StreamRequest",
    "StreamService",
    "Tokens",
    "add_to_server",
]
