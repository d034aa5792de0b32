"""The services that are measured: each speaks the client's protocol and, raw, plain gRPC.

They know nothing of Ray; `benchmarks.applications` deploys them on Ray Serve, and
`benchmarks.plain_server` serves them without it.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from pathlib import Path

import servestream_client
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
    """One item to one item, with the package's defaults. Its version is the build that it runs."""

    code_version = str(Path(servestream_client.__file__).resolve().parents[1])

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


class Waiting(RawServicer, StreamService[bytes, bytes]):
    """Takes so many items at a time, and its time for each, in which the machine has nothing to do:
    80 items a second.
    """

    max_concurrency = 4
    seconds = 0.05

    async def predict(self, item: bytes) -> bytes:
        await asyncio.sleep(self.seconds)
        return echo(item)


class Uneven(Waiting):
    """The same; the first replica of a cluster to be asked is ten times slower than the others."""

    _asked = False

    async def predict(self, item: bytes) -> bytes:
        if not self._asked:
            self._asked, self.seconds = True, self.seconds * (10 if _is_first() else 1)
        return await super().predict(item)


def _is_first() -> bool:
    """Whether no other replica of this cluster has asked: those of a node have one parent."""
    mark = Path(tempfile.gettempdir(), f"servestream-bench-slow-{os.getppid()}")
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    atexit.register(mark.unlink, missing_ok=True)
    return True


SERVICES: dict[str, type[StreamService[bytes, bytes]]] = {
    "echo": Echo,
    "echo_batch": EchoBatch,
    "echo_large": EchoLarge,
    "echo_there": Echo,
    "tokens": Tokens,
    "uneven": Uneven,
    "waiting": Waiting,
}
"""What can be deployed, by the name of its application."""
