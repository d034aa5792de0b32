"""Frames that are written at once: who gets them, and who gets messages that can be read."""

import grpc
import grpc.aio
import pytest
from own_servers import serving

from servestream_client import StreamClient
from servestream_client.server.kit import Interceptor
from servestream_client.testing import Echo
from servestream_client.wire import stream_pb2 as pb
from servestream_client.wire.written import Written

ITEMS = [b"%d" % number + bytes(10_000) for number in range(200)]


async def served(target: str) -> list[bytes]:
    async with StreamClient(target) as client:
        return [output async for output in client.stream(ITEMS)]


class Reading(grpc.aio.ServerInterceptor):
    """Notes what a service's frames are, and how large they say that they are."""

    def __init__(self):
        self.kinds, self.bytes, self.outputs = set(), 0, 0

    async def intercept_service(self, continuation, details):
        handler = await continuation(details)

        async def frames(requests, context):
            async for frame in handler.stream_stream(requests, context):
                self.kinds.add(type(frame))
                self.bytes += frame.ByteSize()
                self.outputs += sum(len(run.payloads) for run in frame.outputs)
                yield frame

        return grpc.stream_stream_rpc_method_handler(
            frames, handler.request_deserializer, handler.response_serializer
        )


async def test_a_server_that_only_sends_frames_gets_them_written():
    reading = Reading()
    async with serving(Echo(), [reading]) as target:
        assert await served(target) == ITEMS
    assert Written in reading.kinds


async def test_an_interceptor_of_the_servers_reads_what_is_written():
    reading = Reading()
    async with serving(Echo(), [reading]) as target:
        await served(target)
    assert reading.outputs == len(ITEMS)
    assert sum(map(len, ITEMS)) < reading.bytes < 1.1 * sum(map(len, ITEMS))


@pytest.mark.parametrize("reads", [True, False])
async def test_a_service_whose_own_interceptor_reads_frames_makes_messages(reads):
    kinds = set()

    class Noting(Interceptor):
        async def frames(self, serve, requests):
            async for frame in serve(requests):
                kinds.add(type(frame))
                yield frame

    class Intercepted(Echo):
        def _interceptor(self):
            return Noting() if reads else Interceptor()

    reading = Reading()
    async with serving(Intercepted(), [reading]) as target:
        assert await served(target) == ITEMS
    assert kinds == ({pb.ServerFrame} if reads else set())
    assert (Written in reading.kinds) is not reads
