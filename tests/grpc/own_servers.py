"""Services on `grpc.aio` servers as their users start them, with `add_to_server`."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc.aio

from servestream_client.server import GRPC_SERVER_OPTIONS, StreamService, add_to_server


@asynccontextmanager
async def serving(
    service: StreamService, interceptors: Sequence[grpc.aio.ServerInterceptor] = ()
) -> AsyncIterator[str]:
    """Its target."""
    server = grpc.aio.server(options=GRPC_SERVER_OPTIONS, interceptors=interceptors)
    add_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
