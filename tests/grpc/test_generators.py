"""Services of many outputs, over real sockets."""

import asyncio
import threading

import pytest
from helpers import collect

from servestream_client import FlowControl, ItemError, ItemErrorKind, StreamClient
from servestream_client.server import Replay, StreamService
from servestream_client.testing import StreamServer


class Async(StreamService[bytes, bytes]):
    replay = Replay.SEEK

    async def generate(self, item, resume):
        for n in range(resume.index, 1000):
            if n % 50 == 0:
                await asyncio.sleep(0)
            yield item + b"%d" % n


class Plain(StreamService[bytes, bytes]):
    replay = Replay.SEEK

    def generate(self, item, resume):
        assert threading.current_thread() is not threading.main_thread()
        for n in range(resume.index, 1000):
            yield item + b"%d" % n


SERVICES = pytest.mark.parametrize("service", [Async, Plain])
INPUTS = [b"a", b"b", b"c"]
EXPECTED = [item + b"%d" % n for item in INPUTS for n in range(1000)]


@SERVICES
async def test_every_input_has_all_its_outputs_in_order(serve, connect, service):
    async with connect(await serve(service())) as client:
        assert await collect(client.stream(INPUTS)) == EXPECTED


@SERVICES
@pytest.mark.parametrize("ordered", [True, False])
async def test_a_stream_goes_on_after_kills_where_it_was_cut(service, ordered):
    with StreamServer(service) as server:
        flow = FlowControl(output_items=100)  # so that most of it is still to come
        async with StreamClient(server.target, flow=flow) as client:
            outputs = []
            stream = client.stream(INPUTS, ordered=ordered)
            async for output in stream:
                outputs.append(output)
                if len(outputs) in (100, 1500):
                    server.kill()
            if ordered:
                assert outputs == EXPECTED
            for item in INPUTS:
                of_item = [output for output in outputs if output.startswith(item)]
                assert of_item == [item + b"%d" % n for n in range(1000)]
            assert stream.statistics().resumes >= 2


async def test_what_a_generator_raises_comes_behind_its_outputs(serve, connect):
    class Failing(StreamService[bytes, bytes]):
        async def generate(self, item, resume):
            yield b"1"
            raise ValueError("no")

    async with connect(await serve(Failing())) as client:
        first, second = await collect(client.stream([b"x"], return_exceptions=True))
    assert first == b"1"
    assert isinstance(second, ItemError)
    assert second.kind is ItemErrorKind.HANDLER
