"""A service on a plain `grpc.aio` server, in a process of its own.

Started by `benchmarks.servers` with the name of an application: one of `benchmarks.services`,
``digits:SIZE:WAIT`` for the classifier with such batches, or one of `benchmarks.folds`; what else
stands behind a colon tells one from another. Prints the port it listens on, and ends when its
standard input does: with whoever started it, at the latest.
"""

from __future__ import annotations

import asyncio
import sys

import grpc.aio

from benchmarks.services import SERVICES, RawServicer
from benchmarks.wire import raw_pb2_grpc
from servestream_client.server import StreamService, add_to_server

OPTIONS = [
    # As Ray Serve's own servers: whatever fits.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]


def service(application: str) -> StreamService:  # type: ignore[type-arg]  # of whatever items
    """The service that an application consists of."""
    name, *parameters = application.split(":")
    if name in SERVICES:
        return SERVICES[name]()
    if name == "folds":
        from benchmarks import folds  # noqa: PLC0415 — with Silero VAD it needs NumPy

        return folds.service(*parameters)
    if name != "digits":
        raise SystemExit(f"there is no application {application!r}")
    from benchmarks.digits import configured  # noqa: PLC0415 — the echo needs no scikit-learn

    size, wait = parameters
    return configured(int(size), float(wait))()


async def serve(application: str) -> None:
    """Serve an application until standard input ends."""
    served = service(application)
    server = grpc.aio.server(options=OPTIONS)
    add_to_server(served, server)
    if isinstance(served, RawServicer):
        raw_pb2_grpc.add_RawServiceServicer_to_server(served, server)  # type: ignore[arg-type]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
