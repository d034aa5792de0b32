"""The services that are measured: each speaks the client's protocol and, raw, plain gRPC.

They know nothing of Ray; `benchmarks.applications` deploys them on Ray Serve, and
`benchmarks.plain_server` serves them without it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Sequence

from benchmarks.tokens.plan import Plan, tokens
from benchmarks.wire import raw_pb2 as pb
from servestream_client.config import MIB, FlowControl
from servestream_client.server import Replay, Resume, StreamService

LARGE_FLOW = FlowControl(window_bytes=16 * MIB, output_bytes=16 * MIB)
"""For items of megabytes, at both ends: several of them under way."""


def echo(item: bytes) -> bytes:
    """What every handler here calls for every item."""
    return item


class RawServicer:
    """The raw RPCs, as one would write them by hand.

    Under Ray Serve a deployment's method is found by the RPC's name, and gets `grpc_context` only
    if it asks for it. A `grpc.aio` server passes it always.
    """

    async def Items(  # noqa: N802 — the RPC's name
        self, request_stream: AsyncIterable[pb.ItemsRequest], grpc_context: object = None
    ) -> AsyncIterator[pb.ItemsResponse]:
        """One item a message."""
        del grpc_context
        pid = os.getpid()
        async for request in request_stream:
            yield pb.ItemsResponse(payload=echo(request.payload), pid=pid)
            pid = 0

    async def Batches(  # noqa: N802
        self, request_stream: AsyncIterable[pb.BatchesRequest], grpc_context: object = None
    ) -> AsyncIterator[pb.BatchesResponse]:
        """Items batched by hand."""
        del grpc_context
        async for request in request_stream:
            yield pb.BatchesResponse(payloads=[echo(item) for item in request.payloads])

    async def Single(  # noqa: N802
        self, request: pb.SingleRequest, grpc_context: object = None
    ) -> pb.SingleResponse:
        """One item a call."""
        del grpc_context
        return pb.SingleResponse(payload=echo(request.payload))

    async def Tokens(  # noqa: N802
        self, request: pb.TokensRequest, grpc_context: object = None
    ) -> AsyncIterator[pb.TokensResponse]:
        """An item there, one output a message back."""
        del grpc_context
        async for token in tokens(Plan.unpack(request.payload)):
            yield pb.TokensResponse(payload=token)


class Echo(RawServicer, StreamService[bytes, bytes]):
    """One item to one item, with the package's defaults."""

    async def predict(self, item: bytes) -> bytes:
        return echo(item)


class EchoBatch(RawServicer, StreamService[bytes, bytes]):
    """A batch to a batch, with the package's defaults."""

    async def predict_batch(self, items: list[bytes]) -> Sequence[bytes]:
        return [echo(item) for item in items]


class Tokens(RawServicer, StreamService[bytes, bytes]):
    """Any number of outputs for an item, as its plan says."""

    max_concurrency = 2000
    replay = Replay.SEEK

    async def generate(self, item: bytes, resume: Resume[bytes]) -> AsyncIterator[bytes]:
        plan = Plan.unpack(item)
        async for token in tokens(plan._replace(start=plan.start + resume.index)):
            yield token


class EchoLarge(Echo):
    """For large items."""

    flow = LARGE_FLOW


SERVICES: dict[str, type[StreamService[bytes, bytes]]] = {
    "echo": Echo,
    "echo_batch": EchoBatch,
    "echo_large": EchoLarge,
    "tokens": Tokens,
}
"""What can be deployed, by the name of its application."""
