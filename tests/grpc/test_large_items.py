"""Large items over real sockets: in chunks, cut in their midst, and in little memory."""

import asyncio
import random
from pathlib import Path

import pytest
from own_servers import serving
from test_windows import sizes_of

from servestream_client import FlowControl, RetryPolicy, StreamClient, SyncStreamClient
from servestream_client.protocol.chunks import Cutting
from servestream_client.server import Replay, Resume, StreamService, kit
from servestream_client.testing import Direction, Echo, StreamServer, Throttle
from servestream_client.transport import grpc_link

MB = 1_000_000
FLOW = FlowControl(max_item_bytes=200 * MB)
QUICK = RetryPolicy(initial=0.001, maximum=0.01, attempts=200)


def item(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(1000) * (size // 1000)


class LargeEcho(Echo):
    flow = FLOW


class Sizes(StreamService[bytes, bytes]):
    """Answers with as many bytes as it is asked for."""

    flow = FLOW

    async def predict(self, item: bytes) -> bytes:
        return bytes(int(item))


class Pieces(StreamService[bytes, bytes]):
    """Gives an input back in four pieces."""

    flow = FLOW
    replay = Replay.SEEK

    async def generate(self, item: bytes, resume: Resume[bytes]):
        quarter = len(item) // 4
        for index in range(resume.index, 4):
            yield item[index * quarter : (index + 1) * quarter]


async def test_items_of_all_sizes_come_as_they_were(monkeypatch):
    inputs = sizes_of("client_frame_bytes", grpc_link, monkeypatch)
    outputs = sizes_of("written_server_frame", kit, monkeypatch)
    sizes = [1000, 64_000, 66_000, 1 * MB, 20 * MB, 1000, 5 * MB, 100_000]
    items = [item(size, seed) for seed, size in enumerate(sizes)]
    async with (
        serving(LargeEcho()) as target,
        StreamClient(target, flow=FLOW) as client,
    ):
        assert [output async for output in client.stream(items)] == items
        found = [output async for output in client.stream(items, ordered=False)]
        assert sorted(found) == sorted(items)
        assert await asyncio.gather(*map(client.predict, items)) == items
    for seen in (inputs, outputs):
        assert max(seen) < 2.2 * MB  # the largest chunk, and what is around it


def test_the_blocking_client_does_the_same():
    items = [item(size, size) for size in (1000, 8 * MB, 1000)]
    with StreamServer(LargeEcho()) as server, SyncStreamClient(server.target, flow=FLOW) as client:
        assert list(client.stream(items)) == items


@pytest.mark.parametrize("way", ["up", "down"])
async def test_what_is_cut_in_its_midst_is_sent_again_and_delivered_once(way, monkeypatch):
    items = [item(6 * MB, seed) for seed in range(3)]
    service = LargeEcho() if way == "up" else Sizes()
    inputs = items if way == "up" else [b"%d" % len(each) for each in items]
    honest, cut = Cutting.next, []
    with StreamServer(service) as server:

        def cutting_links(cutting: Cutting, size: int):
            if cutting.offset > MB and len(cut) < 4 and cutting not in cut:
                cut.append(cutting)
                server.proxy.cut()
            return honest(cutting, size)

        monkeypatch.setattr(Cutting, "next", cutting_links)
        async with StreamClient(server.target, flow=FLOW, retry=QUICK) as client:
            stream = client.stream(inputs)
            outputs = [output async for output in stream]
            assert len(cut) == 4
            assert 1 <= stream.statistics().resumes <= 4  # two may be cut on one link
    assert [len(output) for output in outputs] == [len(each) for each in items]
    if way == "up":
        assert outputs == items


async def test_large_outputs_of_one_input_are_told_apart():
    whole = item(8 * MB, 8)
    with StreamServer(Pieces()) as server:
        flow = FlowControl(max_item_bytes=200 * MB, bytes_per_input=10 * MB)
        async with StreamClient(server.target, flow=flow, retry=QUICK) as client:
            pieces = [output async for output in client.generate(whole)]
    assert [len(piece) for piece in pieces] == [2 * MB] * 4
    assert b"".join(pieces) == whole


async def test_small_answers_go_past_a_large_one_on_their_own_stream():
    with StreamServer(Sizes()) as server:
        async with StreamClient(server.target, flow=FLOW, predict_streams=1) as client:
            await client.predict(b"1")
            server.add_faults(Throttle(500_000, Direction.DOWN))
            arriving = asyncio.ensure_future(client.predict(b"%d" % (3 * MB)))
            for _ in range(3):
                answers = await asyncio.gather(*(client.predict(b"2") for _ in range(10)))
                assert answers == [bytes(2)] * 10
                assert not arriving.done()
            assert len(await arriving) == 3 * MB


MEMORY = Path("/proc/self/clear_refs")


def forget_the_peak() -> None:
    MEMORY.write_text("5")


def memory(what: str) -> int:
    """Of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(what)]
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not MEMORY.exists(), reason="the peak of memory is measured where it can be")
async def test_an_item_takes_hardly_more_memory_than_itself():
    """Both ends are in this process: the input, what its server makes of it, and the output."""
    size = 150 * MB
    with StreamServer(LargeEcho()) as server:
        async with StreamClient(server.target, flow=FLOW) as client:
            for warm_up in (item(3 * MB, 0), item(3 * MB, 1)):
                await client.predict(warm_up)
            large = item(size, 2)
            forget_the_peak()
            before = memory("VmRSS")
            (output,) = [output async for output in client.stream([large])]
            peak = memory("VmHWM") - before
            assert output == large
    assert peak < 2 * size + 64 * MB
