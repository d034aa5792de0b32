"""A server process that some inputs destroy, each in its way.

``poisoned_server.py PORT [CGROUP [SERVICE]]``: it enters the memory cgroup of that directory first,
if it is not empty, and serves `Upper`, or what is named.
"""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio

from servestream_client.server import GRPC_SERVER_OPTIONS, Replay, StreamService, add_to_server

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


class Counting(StreamService[bytes, bytes]):
    """Of ``name:count``, as many outputs."""

    replay = Replay.SEEK

    async def generate(self, item: bytes, resume: object) -> AsyncIterator[bytes]:
        name, count = item.split(b":")
        for index in range(resume.index, int(count)):
            poison = POISONS.get(name)
            if poison is not None and index == 3:
                poison()
            yield b"%b %d" % (name, index)
            await asyncio.sleep(0)


async def main(port: str, cgroup: str = "", service: str = "Upper") -> None:
    if cgroup:
        (Path(cgroup) / "cgroup.procs").write_text(str(os.getpid()))
    server = grpc.aio.server(options=GRPC_SERVER_OPTIONS)
    add_to_server({"Upper": Upper, "Counting": Counting}[service](), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print("up", flush=True)
    await server.wait_for_termination()


asyncio.run(main(*sys.argv[1:]))
