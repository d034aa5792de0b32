"""A server process that some inputs destroy, each in its way: ``poisoned_server.py PORT [CGROUP]``.

With a memory cgroup's directory it enters that first.
"""

import asyncio
import os
import signal
import sys
import threading
import time
from pathlib import Path

import grpc.aio

from servestream_client.server import GRPC_SERVER_OPTIONS, StreamService, add_to_server

HEALTH_CHECK_SECONDS = 2.0


def crash() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def corrupt() -> None:
    os.abort()


def leave() -> None:
    os._exit(0)


def hoard() -> None:
    """Until the kernel has had enough."""
    kept = []
    while True:
        kept.append(b"x" * 10_000_000)


def freeze() -> None:
    """Keep the event loop; somebody else's health check ends that, as Ray Serve's does."""
    threading.Timer(HEALTH_CHECK_SECONDS, crash).start()
    time.sleep(3600)


POISONS = {
    b"crash": crash,
    b"corrupt": corrupt,
    b"leave": leave,
    b"freeze": freeze,
    b"hoard": hoard,
}


class Upper(StreamService[bytes, bytes]):
    async def predict(self, item: bytes) -> bytes:
        poison = POISONS.get(item)
        if poison is not None:
            poison()
        return item.upper()


async def main(port: str, cgroup: str = "") -> None:
    if cgroup:
        (Path(cgroup) / "cgroup.procs").write_text(str(os.getpid()))
    server = grpc.aio.server(options=GRPC_SERVER_OPTIONS)
    add_to_server(Upper(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print("up", flush=True)
    await server.wait_for_termination()


asyncio.run(main(*sys.argv[1:]))
