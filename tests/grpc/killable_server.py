"""A server process that dies by plan: ``killable_server.py PORT DIRECTORY FAULTS``."""

import asyncio
import json
import sys
from pathlib import Path

import grpc.aio

from servestream_client.server import GRPC_SERVER_OPTIONS, add_to_server
from servestream_client.testing.faults import Fault, FilePlan
from servestream_client.testing.injector import FaultyService


class Echo(FaultyService[bytes, bytes]):
    def __init__(self, plan: FilePlan) -> None:
        self.plan = plan

    async def predict(self, item: bytes) -> bytes:
        return item


async def main(port: str, directory: str, faults: str) -> None:
    planned = [Fault.from_json(values) for values in json.loads(faults)]
    server = grpc.aio.server(options=GRPC_SERVER_OPTIONS)
    add_to_server(Echo(FilePlan(Path(directory), planned)), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print("up", flush=True)
    await server.wait_for_termination()


asyncio.run(main(*sys.argv[1:]))
