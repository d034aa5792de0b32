"""An echo in a process of its own; prints its port. ``slow`` is never answered."""

import asyncio

import grpc.aio

from servestream_client.server import GRPC_SERVER_OPTIONS, StreamService, add_to_server


class Echo(StreamService[bytes, bytes]):
    async def predict(self, item: bytes) -> bytes:
        if item == b"slow":
            await asyncio.Event().wait()
        return item


async def main() -> None:
    server = grpc.aio.server(options=GRPC_SERVER_OPTIONS)
    add_to_server(Echo(), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


asyncio.run(main())
