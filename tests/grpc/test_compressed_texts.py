"""Payloads that travel compressed, over sockets: they come back, and fewer bytes go."""

import sys

import grpc
import grpc.aio
import pytest
from own_servers import serving

from servestream_client import ConfigurationError, FlowControl, StreamClient, SyncStreamClient
from servestream_client.server.kit import Interceptor
from servestream_client.testing import Echo
from servestream_client.wire import compressed
from servestream_client.wire.compressed import MODULE

pytest.importorskip(MODULE)

TEXTS = [b"text %d, which looks much like those before and after it; " % n * 20 for n in range(500)]
LONG = b"a line of a long text, which travels in chunks\n" * 100_000
SIZE = sum(map(len, TEXTS))
COMPRESSING = FlowControl(compression_level=1, max_item_bytes=2 * len(LONG))


class Weighing(grpc.aio.ServerInterceptor):
    """Counts the bytes of a service's messages, both ways."""

    def __init__(self):
        self.came, self.went = 0, 0

    async def intercept_service(self, continuation, details):
        handler = await continuation(details)

        async def frames(requests, context):
            async def counted():
                async for request in requests:
                    self.came += request.ByteSize()
                    yield request

            async for frame in handler.stream_stream(counted(), context):
                self.went += frame.ByteSize()
                yield frame

        return grpc.stream_stream_rpc_method_handler(
            frames, handler.request_deserializer, handler.response_serializer
        )


async def weighed(flow: FlowControl | None, items: list[bytes]) -> tuple[int, int]:
    """How many bytes a stream sends and receives that brings its items back."""
    weighing = Weighing()
    async with serving(Echo(), [weighing]) as target, StreamClient(target, flow=flow) as client:
        assert [output async for output in client.stream(items, lanes=1)] == items
    return weighing.came, weighing.went


async def test_texts_travel_in_a_fraction_of_their_bytes():
    came, went = await weighed(COMPRESSING, TEXTS)
    assert came * 4 < SIZE
    assert went * 4 < SIZE


async def test_unless_it_is_asked_for_nothing_is_compressed():
    came, went = await weighed(None, TEXTS)
    assert min(came, went) > SIZE


async def test_a_service_without_the_module_serves_them_as_they_are(monkeypatch):
    monkeypatch.setattr("servestream_client.server.kit.available", lambda: False)
    came, went = await weighed(COMPRESSING, TEXTS)
    assert min(came, went) > SIZE


async def test_a_service_that_reads_its_frames_gets_them_as_they_are():
    seen = []

    class Noting(Interceptor):
        async def frames(self, serve, requests):
            async for frame in serve(requests):
                seen.extend(payload for run in frame.outputs for payload in run.payloads)
                yield frame

    class Read(Echo):
        def _interceptor(self):
            return Noting()

    async with serving(Read()) as target, StreamClient(target, flow=COMPRESSING) as client:
        assert [output async for output in client.stream(TEXTS, lanes=1)] == TEXTS
    assert seen == TEXTS


class Large(Echo):
    flow = FlowControl(max_item_bytes=2 * len(LONG))


async def test_large_texts_do_in_chunks():
    weighing = Weighing()
    async with (
        serving(Large(), [weighing]) as target,
        StreamClient(target, flow=COMPRESSING) as client,
    ):
        assert [output async for output in client.stream([LONG, b"x", LONG])] == [LONG, b"x", LONG]
        assert await client.predict(LONG) == LONG
    assert 0 < weighing.came * 4 < len(LONG)
    assert 0 < weighing.went * 4 < len(LONG)


async def test_without_the_module_it_cannot_be_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, MODULE, None)
    compressed._zstd.cache_clear()
    match = r"compression_level=1 needs .*zstd.*pip install 'servestream-client\[zstd\]'"
    try:
        for kind in (StreamClient, SyncStreamClient):
            with pytest.raises(ConfigurationError, match=match):
                kind("127.0.0.1:1", flow=COMPRESSING)
        async with StreamClient("127.0.0.1:1") as client:
            with pytest.raises(ConfigurationError, match=match):
                client.with_options(flow=FlowControl(compression_level=1))
    finally:
        compressed._zstd.cache_clear()
