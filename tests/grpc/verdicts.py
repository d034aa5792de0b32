"""What a user reads when a call fails, and servers that make it fail."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio
import pytest

from servestream_client import RetryPolicy, StreamClient, StreamError
from servestream_client.events import AttemptEnded, Event, Hooks
from servestream_client.server import StreamService, add_to_server
from servestream_client.testing import Echo

ONCE = RetryPolicy(attempts=1, connect_attempts=1, connect_timeout=0, open_timeout=10.0)
# gRPC hears a proxy's answer, or only a reset, by chance; on a busy machine one or the other for a
# while. Waits grow so that the attempts are not all made within that while.
HASTY = RetryPolicy(
    attempts=200, connect_attempts=200, connect_timeout=0, initial=0.001, maximum=0.05
)


async def failure(target: str, *, retry: RetryPolicy = ONCE, item: bytes = b"one", **options):
    """The error of a client that is new there."""
    async with StreamClient(target, retry=retry, **options) as client:
        with pytest.raises(StreamError) as caught:
            await client.predict(item)
    text = str(caught.value)
    print(f"{type(caught.value).__name__}: {text}")
    assert text.startswith(target)
    assert "delivered: no output" in text
    return caught.value


class Reasons(Hooks):
    """Why attempts failed."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def on_event(self, event: Event, /) -> None:
        if isinstance(event, AttemptEnded) and event.reason:
            self.said.append(event.reason)

    def __contains__(self, text: str) -> bool:
        return any(text in reason for reason in self.said)


@asynccontextmanager
async def grpc_server(
    service: StreamService | None = None,
    *,
    options=(),
    credentials: grpc.ServerCredentials | None = None,
) -> AsyncIterator[str]:
    """A gRPC server as anybody makes one, with gRPC's own limits."""
    server = grpc.aio.server(options=options)
    if service is not None:
        add_to_server(service, server)
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def echo_server(**options):
    return grpc_server(Echo(), **options)
