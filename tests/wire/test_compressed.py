"""Payloads that travel compressed: docs/protocol.md, section 23."""

import random
import sys
import tracemalloc
from dataclasses import replace

import pytest
from effort import effort
from hypothesis import given, settings
from hypothesis import strategies as st

from servestream_client.errors import RemoteProtocolError
from servestream_client.protocol import frames as f
from servestream_client.protocol.compression import LEAST_BYTES, MOST_BYTES
from servestream_client.wire import compressed
from servestream_client.wire import stream_pb2 as pb
from servestream_client.wire.compressed import MODULE, unpacked
from servestream_client.wire.convert import (
    client_frame_from_wire,
    client_frame_to_wire,
    server_frame_from_wire,
    server_frame_to_wire,
)
from servestream_client.wire.written import client_frame_bytes, written_server_frame

zstd = pytest.importorskip(MODULE)

REPEATABLE = settings(max_examples=effort(50, 2000))

TEXT = b"what people write has much in common with what they wrote before; " * 16
NOISE = random.Random(5).randbytes(len(TEXT))


def as_message(frame: f.ClientFrame) -> pb.ClientFrame:
    return pb.ClientFrame.FromString(client_frame_bytes(frame))


def as_server_message(frame: f.ServerFrame) -> pb.ServerFrame:
    return pb.ServerFrame.FromString(written_server_frame(frame).SerializeToString())


CLIENTS = pytest.mark.parametrize("to_wire", [client_frame_to_wire, as_message])
SERVERS = pytest.mark.parametrize("to_wire", [server_frame_to_wire, as_server_message])


@CLIENTS
@pytest.mark.parametrize("count", [1, 3, 200])
def test_inputs_travel_as_one_and_come_back_as_they_were(to_wire, count):
    run = f.InputRun(7, [TEXT, b"", *[TEXT] * count])
    message = to_wire(f.ClientFrame(inputs=[run], compression=1))
    assert message.inputs[0].encoding == pb.ENCODING_ZSTD
    assert len(message.inputs[0].payloads) == 1
    assert message.ByteSize() < len(TEXT)
    (back,) = client_frame_from_wire(message).inputs
    assert (back.first_number, back.payloads, back.sizes) == (7, [TEXT, b"", *[TEXT] * count], ())


@SERVERS
def test_outputs_parts_and_chunks_do_too(to_wire):
    frame = f.ServerFrame(
        outputs=[f.OutputRun(3, [TEXT, TEXT])],
        parts=[f.OutputPart(4, 2, [TEXT, b"end"], last=True, checkpoint=b"c")],
        compression=3,
    )
    message = to_wire(frame)
    assert {message.outputs[0].encoding, message.parts[0].encoding} == {pb.ENCODING_ZSTD}
    back = server_frame_from_wire(message)
    assert list(back.outputs) == list(frame.outputs)
    assert list(back.parts) == list(frame.parts)


@pytest.mark.parametrize("size", [LEAST_BYTES, 64 * 1024, 512 * 1024])
def test_chunks_do_too(size):
    data = (TEXT * (size // len(TEXT) + 1))[:size]
    message = as_message(f.ClientFrame(chunk=f.Chunk(1, 0, 5, memoryview(data)), compression=1))
    assert (message.chunk.encoding, message.chunk.size) == (pb.ENCODING_ZSTD, size)
    assert client_frame_from_wire(message).chunk == f.Chunk(1, 0, 5, data)
    server = as_server_message(f.ServerFrame(chunk=f.Chunk(1, 0, 5, data), compression=1))
    assert len(server.chunk.data) < size
    assert server_frame_from_wire(server).chunk == f.Chunk(1, 0, 5, data)


@pytest.mark.parametrize(
    "payloads",
    [[NOISE], [TEXT[: LEAST_BYTES - 1]], [b""], [TEXT * (MOST_BYTES // len(TEXT) + 1)]],
    ids=["noise", "few bytes", "none", "too many"],
)
def test_what_does_not_pay_goes_as_it_is(payloads):
    message = as_message(f.ClientFrame(inputs=[f.InputRun(1, payloads)], compression=1))
    assert message.inputs[0].encoding == pb.ENCODING_UNSPECIFIED
    assert list(message.inputs[0].payloads) == payloads
    assert not message.inputs[0].sizes


def test_nothing_is_compressed_that_is_not_to_be():
    message = as_message(f.ClientFrame(inputs=[f.InputRun(1, [TEXT])]))
    assert message.inputs[0].encoding == pb.ENCODING_UNSPECIFIED


@REPEATABLE
@given(st.lists(st.binary(max_size=400), min_size=1, max_size=50), st.integers(1, 19))
def test_whatever_there_is_comes_back(payloads, level):
    payloads = [payload * 3 for payload in payloads]
    frame = f.ClientFrame(inputs=[f.InputRun(1, payloads)], compression=level)
    (back,) = client_frame_from_wire(as_message(frame)).inputs
    assert list(back.payloads) == payloads


# ------------------------------------------------------------------ what a peer may send

PACKED = zstd.compress(TEXT)


@pytest.mark.parametrize(
    ("packed", "sizes", "text"),
    [
        (PACKED, [len(TEXT) - 1], "not the"),
        (PACKED, [len(TEXT) + 1], "not the"),
        (PACKED, [], "between 1 and"),
        (PACKED, [0], "between 1 and"),
        (PACKED, [MOST_BYTES + 1], "4194304 are allowed"),
        (PACKED, [MOST_BYTES, 1], "4194304 are allowed"),
        (PACKED[:-3], [len(TEXT)], "not the"),
        (PACKED + b"more", [len(TEXT)], "not the"),
        (b"no frame of zstd", [len(TEXT)], "cannot be read"),
        (b"", [len(TEXT)], "not the"),
    ],
)
def test_what_is_not_what_it_is_said_to_be_is_a_breach(packed, sizes, text):
    run = pb.InputRun(first_number=1, payloads=[packed], encoding=pb.ENCODING_ZSTD, sizes=sizes)
    with pytest.raises(RemoteProtocolError, match=text):
        client_frame_from_wire(pb.ClientFrame(inputs=[run]))


def test_nobody_is_made_to_unpack_more_than_was_said():
    packed = zstd.compress(bytes(MOST_BYTES))  # some hundred bytes
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError, match="not the 10 bytes"):
            unpacked(packed, [10])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < MOST_BYTES // 16


def test_a_window_beyond_what_may_be_unpacked_is_not_kept():
    options = {
        zstd.CompressionParameter.window_log: 25,
        zstd.CompressionParameter.content_size_flag: 0,
    }
    packer = zstd.ZstdCompressor(options=options)
    packed = packer.compress(TEXT) + packer.flush()
    with pytest.raises(RemoteProtocolError, match="cannot be read"):
        unpacked(packed, [len(TEXT)])


def test_all_that_a_frame_would_unpack_to_is_looked_at_before_any_of_it():
    packed = zstd.compress(bytes(MOST_BYTES // 2))
    run = pb.InputRun(
        payloads=[packed], encoding=pb.ENCODING_ZSTD, sizes=[MOST_BYTES // 2], first_number=1
    )
    message = pb.ClientFrame(inputs=[run] * 1000)
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError, match="compressed payloads of 2097152000 bytes"):
            client_frame_from_wire(message)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < MOST_BYTES
    part = pb.OutputPart(number=1, payloads=[packed], encoding=1, sizes=[MOST_BYTES // 2 + 1])
    output = pb.OutputRun(first_number=2, payloads=[packed], encoding=1, sizes=[MOST_BYTES // 2])
    with pytest.raises(RemoteProtocolError, match="a frame with compressed payloads"):
        server_frame_from_wire(pb.ServerFrame(outputs=[output], parts=[part]))


def test_no_more_is_compressed_than_a_frame_may_unpack_to():
    half = TEXT * (MOST_BYTES // 2 // len(TEXT) + 1)
    frame = f.ClientFrame(inputs=[f.InputRun(n, [half]) for n in (1, 2, 3)], compression=1)
    message = as_message(frame)
    assert [run.encoding for run in message.inputs] == [pb.ENCODING_ZSTD, 0, 0]
    assert [run.payloads for run in client_frame_from_wire(message).inputs] == [[half]] * 3


@pytest.mark.parametrize("payloads", [[], [PACKED, PACKED]])
def test_compressed_payloads_are_one(payloads):
    run = pb.OutputRun(first_number=1, payloads=payloads, encoding=pb.ENCODING_ZSTD, sizes=[1])
    with pytest.raises(RemoteProtocolError, match="where one holds them all"):
        server_frame_from_wire(pb.ServerFrame(outputs=[run]))


def test_a_chunk_stands_for_no_more_than_that_either():
    chunk = pb.Chunk(number=1, data=PACKED, encoding=pb.ENCODING_ZSTD, size=MOST_BYTES + 1)
    with pytest.raises(RemoteProtocolError, match="4194304 are allowed"):
        client_frame_from_wire(pb.ClientFrame(chunk=chunk))
    chunk.size = MOST_BYTES
    run = pb.InputRun(first_number=1, payloads=[PACKED], encoding=1, sizes=[len(TEXT)])
    with pytest.raises(RemoteProtocolError, match="a frame with compressed payloads"):
        client_frame_from_wire(pb.ClientFrame(chunk=chunk, inputs=[run]))


def test_an_encoding_that_nobody_knows_is_a_breach():
    chunk = pb.Chunk(number=1, data=PACKED, encoding=7, size=len(TEXT))
    with pytest.raises(RemoteProtocolError, match="encoding 7, which was not agreed on"):
        client_frame_from_wire(pb.ClientFrame(chunk=chunk))


def test_without_the_module_nothing_can_be_read(monkeypatch):
    monkeypatch.setitem(sys.modules, MODULE, None)
    compressed._zstd.cache_clear()
    try:
        assert not compressed.available()
        with pytest.raises(RemoteProtocolError, match="not agreed on"):
            unpacked(PACKED, [len(TEXT)])
    finally:
        compressed._zstd.cache_clear()


def test_a_frame_that_is_compressed_is_not_compressed_again():
    frame = f.ClientFrame(inputs=[f.InputRun(1, [TEXT])], compression=1)
    once = compressed.compressed_client_frame(frame)
    assert once.compression == 0
    assert client_frame_to_wire(once) == client_frame_to_wire(frame)
    assert replace(frame, compression=1) == frame  # which is left as it was
