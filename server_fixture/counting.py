"""A deployment without this package's kit, as others write them: one server-streaming method.

Its messages are those that protobuf brings along, so that nothing need be generated.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from google.protobuf.wrappers_pb2 import Int64Value

__all__ = [
    "LAST",
    "SERVICER_FUNCTION",
    "Counting",
    "CountingStub",
    "add_CountingServicer_to_server",
]

SERVICER_FUNCTION = "server_fixture.counting:add_CountingServicer_to_server"

LAST = 1000
_SERVICE = "tests.Counting"
_PAUSE_SECONDS = 0.002


class Counting:
    """Counts from the request's value on."""

    async def Count(self, request: Int64Value) -> AsyncIterator[Int64Value]:  # noqa: N802 — the RPC's name
        for number in range(max(1, request.value), LAST + 1):
            await asyncio.sleep(_PAUSE_SECONDS)
            yield Int64Value(value=number)


class CountingStub:
    """As it would be generated."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.Count: grpc.aio.UnaryStreamMultiCallable[Int64Value, Int64Value] = (
            channel.unary_stream(
                f"/{_SERVICE}/Count",
                request_serializer=Int64Value.SerializeToString,
                response_deserializer=Int64Value.FromString,
            )
        )


def add_CountingServicer_to_server(servicer: Any, server: Any) -> None:  # noqa: ANN401, N802 — as generated
    method = grpc.unary_stream_rpc_method_handler(
        servicer.Count,
        request_deserializer=Int64Value.FromString,
        response_serializer=Int64Value.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler(_SERVICE, {"Count": method})
    server.add_generic_rpc_handlers((handler,))
