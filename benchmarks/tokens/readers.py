"""The ways to read a generation: the client's, and that of a raw stub."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack

from benchmarks.servers import RawConnection, Servers
from benchmarks.tokens.plan import Plan
from benchmarks.wire import raw_pb2 as pb
from servestream_client import StreamClient

APPLICATION = "tokens"

ON_A_CONNECTION = 50
"""Raw calls; HAProxy lets no more than 100 through."""

Taken = Callable[[bytes], object]
"""Called with each token."""

Read = Callable[[Plan, Taken], Coroutine[None, None, None]]
"""Reads a generation to its end."""

Connect = Callable[[AsyncExitStack], Awaitable[Sequence[Read]]]
"""Opens connections that the stack closes; readers are spread over them."""


def ours(client: StreamClient[bytes, bytes]) -> Read:
    """The client's `generate`."""

    async def read(plan: Plan, taken: Taken) -> None:
        async with client.generate(plan.pack()) as generation:
            async for token in generation:
                taken(token)

    return read


def raw(connection: RawConnection) -> Read:
    """A server-streaming call, one token a message."""

    async def read(plan: Plan, taken: Taken) -> None:
        request = pb.TokensRequest(payload=plan.pack())
        call = connection.stub.Tokens(request, metadata=connection.metadata)
        try:
            async for reply in call:
                taken(reply.payload)
        finally:
            call.cancel()

    return read


def contenders(
    servers: Servers, readers: int, *, application: str = APPLICATION
) -> dict[str, Connect]:
    """Both, for so many readers at once."""

    async def connect_ours(stack: AsyncExitStack) -> Sequence[Read]:
        return [ours(await stack.enter_async_context(servers.client(application)))]

    async def connect_raw(stack: AsyncExitStack) -> Sequence[Read]:
        return [
            raw(await stack.enter_async_context(servers.raw(application)))
            for _ in range(-(-readers // ON_A_CONNECTION))
        ]

    return {"raw": connect_raw, "ours": connect_ours}
