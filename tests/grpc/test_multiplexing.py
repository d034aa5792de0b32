"""More streams at a time than a connection carries."""

import asyncio

import grpc.aio
import pytest
from helpers import collect, until

from servestream_client import StreamClient
from servestream_client.server import GRPC_SERVER_OPTIONS, StreamService, add_to_server

LIMIT = 10
STREAMS = 45


class Together(StreamService[bytes, bytes]):
    """Answers nobody before so many ask at once."""

    max_concurrency = 100

    def __init__(self) -> None:
        self.running = 0
        self.peers: set[str] = set()
        self.release = asyncio.Event()

    async def Stream(self, request_stream, grpc_context=None):
        self.peers.add(grpc_context.peer())
        async for frame in super().Stream(request_stream, grpc_context):
            yield frame

    async def predict(self, item: bytes) -> bytes:
        self.running += 1
        await self.release.wait()
        self.running -= 1
        return item


@pytest.fixture
async def service():
    """A server that lets each connection carry few streams, and its target."""
    service = Together()
    options = [*GRPC_SERVER_OPTIONS, ("grpc.max_concurrent_streams", LIMIT)]
    server = grpc.aio.server(options=options)
    add_to_server(service, server)
    service.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield service
    await server.stop(None)


def connections(client: StreamClient) -> int:
    return client._connection.endpoints.endpoints[0].transport.connections


async def test_streams_beyond_the_limit_of_a_connection_are_all_served_at_once(service):
    async with StreamClient(service.target, streams_per_connection=LIMIT) as client:
        streams = [
            asyncio.ensure_future(collect(client.stream([b"%d" % number])))
            for number in range(STREAMS)
        ]
        await until(lambda: service.running == STREAMS)
        assert connections(client) == len(service.peers) == 5
        service.release.set()
        assert await asyncio.gather(*streams) == [[b"%d" % number] for number in range(STREAMS)]
        await until(lambda: connections(client) == 1)
        assert await collect(client.stream([b"one more"])) == [b"one more"]
        assert connections(client) == 1


async def test_calls_that_are_left_give_their_connections_back(service):
    async with StreamClient(service.target, streams_per_connection=LIMIT) as client:
        for _ in range(3):
            streams = [client.stream([b"x"]) for _ in range(25)]
            steps = [asyncio.ensure_future(anext(stream)) for stream in streams]
            await until(lambda: service.running == 25)
            assert connections(client) >= 3  # more, where one is taken for a slow one
            for stream in streams:
                await stream.aclose()
            await asyncio.gather(*steps, return_exceptions=True)
            await until(lambda: connections(client) == 1)
            service.running = 0
        service.release.set()
        assert await collect(client.stream([b"one more"])) == [b"one more"]


async def test_streams_of_predict_count_as_well(service):
    client = StreamClient(service.target, streams_per_connection=2, predict_streams=6)
    async with client:
        calls = [asyncio.ensure_future(client.predict(b"%d" % number)) for number in range(96)]
        await until(lambda: service.running == 96)
        assert connections(client) == 3
        service.release.set()
        assert await asyncio.gather(*calls) == [b"%d" % number for number in range(96)]


async def test_closing_the_client_closes_every_connection(service):
    client = StreamClient(service.target, streams_per_connection=LIMIT)
    steps = [asyncio.ensure_future(anext(client.stream([b"x"]))) for _ in range(STREAMS)]
    await until(lambda: service.running == STREAMS)
    transport = client._connection.endpoints.endpoints[0].transport
    await client.aclose()
    assert transport.connections == 0
    results = await asyncio.gather(*steps, return_exceptions=True)
    assert all(isinstance(result, Exception) for result in results)
