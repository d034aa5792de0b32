"""Real grpc.aio servers on loopback, in the test's own event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc.aio
import pytest
from faces import FACES
from faulty import FaultyEcho, streams_running
from rows import rows_made

from servestream_client.server import GRPC_SERVER_OPTIONS, StreamService
from servestream_client.testing.faults import LocalPlan
from servestream_client.wire import stream_pb2 as pb

__all__ = ["rows_made"]


@pytest.fixture
async def listen() -> AsyncIterator[Callable]:
    """Start a server with some method handlers; returns its target."""
    servers: list[grpc.aio.Server] = []

    async def start(stream: Callable, *, method: str = "Stream", port: int = 0) -> str:
        # Not the generated registration: injected garbage is no message that it would serialise.
        handler = grpc.stream_stream_rpc_method_handler(
            stream,
            request_deserializer=pb.ClientFrame.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
        server = grpc.aio.server(options=GRPC_SERVER_OPTIONS)
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    "servestream.v1.StreamService", {method: handler}
                ),
            )
        )
        bound = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        servers.append(server)
        return f"127.0.0.1:{bound}"

    yield start
    await asyncio.gather(*(server.stop(None) for server in servers))


@pytest.fixture
def serve(listen: Callable) -> Callable:
    """Serve a `StreamService`; returns its target."""

    async def start(service: StreamService) -> str:
        return await listen(service.Stream)

    return start


@pytest.fixture
def plan() -> LocalPlan:
    return LocalPlan()


@pytest.fixture
async def echo(serve: Callable, plan: LocalPlan) -> str:
    """The target of an echo that fails by `plan`."""
    return await serve(FaultyEcho(plan))


@pytest.fixture(params=FACES)
def connect(request: pytest.FixtureRequest) -> Callable:
    """Makes a client; a test that uses it runs with either face."""
    return FACES[request.param]


@pytest.fixture
async def client(echo: str, connect: Callable) -> AsyncIterator:
    """A client of the echo, with either face."""
    async with connect(echo) as connected:
        yield connected


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    """Every task of a stream ends with it."""
    yield
    left = streams_running()
    if left:
        await asyncio.wait(left, timeout=5)
    assert not [task for task in left if not task.done()]
