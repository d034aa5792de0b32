"""What is written at once is what protobuf would have written, as far as a reader can tell."""

import copy
import random

import pytest

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.frames import (
    Chunk,
    ClientFrame,
    Credit,
    InputRun,
    ItemFailure,
    ItemMetadata,
    OutputPart,
    OutputRun,
    Resume,
    ServerFrame,
)
from servestream_client.wire import stream_pb2 as pb
from servestream_client.wire.convert import client_frame_to_wire, server_frame_to_wire
from servestream_client.wire.written import Written, client_frame_bytes, written_server_frame

KIB = 1024
SIZES = [0, 1, 127, 128, 499, 500, 16_383, 16_384, 100_000]
"""About where a length takes one more byte, and where writing at once begins."""


def payloads(pick: random.Random, first: int) -> list[bytes]:
    sizes = [first, *(pick.choice(SIZES) for _ in range(pick.randint(0, 12)))]
    return [pick.randbytes(size) for size in sizes]


def client_frame(pick: random.Random) -> ClientFrame:
    runs = []
    for number in range(pick.randint(0, 3)):
        run = InputRun(1000 * number + 1, payloads(pick, pick.choice(SIZES)))
        if pick.random() < 0.5:
            run.first_start_index = 7
            run.first_credit = Credit(3, 5)
            run.first_resume = Resume(b"digest", b"checkpoint", 6, (b"output",))
        if pick.random() < 0.3:
            run.first_offset = 70_000
        if pick.random() < 0.3:
            run.metadata = [ItemMetadata(1, 2, "a", "b", b"c") for _ in run.payloads]
        runs.append(run)
    return ClientFrame(
        inputs=runs,
        frames_read=pick.choice([0, 300]),
        credit=Credit(1, 2),
        chunk=chunk(pick),
    )


def chunk(pick: random.Random) -> Chunk | None:
    if pick.random() < 0.5:
        return None
    return Chunk(pick.choice([1, 300]), pick.choice([0, 5]), 70_000, bytes(pick.choice(SIZES[1:])))


def server_frame(pick: random.Random) -> ServerFrame:
    runs = [
        OutputRun(1000 * number + 1, payloads(pick, pick.choice(SIZES)), pick.choice([0, 70_000]))
        for number in range(pick.randint(0, 3))
    ]
    return ServerFrame(
        outputs=runs,
        parts=[OutputPart(5000, 1, (b"part",), last=True)] if pick.random() < 0.5 else (),
        errors=[ItemFailure(6000, ItemErrorKind.HANDLER, "no")] if pick.random() < 0.5 else (),
        frames_read=pick.choice([0, 300]),
        chunk=chunk(pick),
    )


@pytest.mark.parametrize("seed", range(60))
def test_a_clients_frame_reads_the_same(seed):
    frame = client_frame(random.Random(seed))
    assert pb.ClientFrame.FromString(client_frame_bytes(frame)) == client_frame_to_wire(frame)


@pytest.mark.parametrize("seed", range(60))
def test_a_servers_frame_reads_the_same(seed):
    frame = server_frame(random.Random(seed))
    written = written_server_frame(frame)
    assert pb.ServerFrame.FromString(written.SerializeToString()) == server_frame_to_wire(frame)


@pytest.mark.parametrize(
    ("count", "size", "at_once"),
    [(1, 100 * KIB, True), (100, KIB, True), (40, KIB, False), (2000, 100, False), (1, 1, False)],
)
def test_only_where_it_is_quicker(count, size, at_once):
    frame = ServerFrame(outputs=[OutputRun(1, [bytes(size)] * count)])
    assert isinstance(written_server_frame(frame), Written) is at_once


def test_a_frame_without_payloads_is_a_message():
    assert isinstance(written_server_frame(ServerFrame(frames_read=1)), pb.ServerFrame)
    assert (
        pb.ClientFrame.FromString(client_frame_bytes(ClientFrame(frames_read=1))).frames_read == 1
    )


def test_lengths_without_a_place_of_their_own_are_written_as_well():
    many = [bytes(size) for size in range(500, 5200)]
    frame = ClientFrame(inputs=[InputRun(1, many)])
    assert list(pb.ClientFrame.FromString(client_frame_bytes(frame)).inputs[0].payloads) == many


def test_who_asks_more_of_what_is_written_gets_the_messages_answer():
    frame = ServerFrame(outputs=[OutputRun(7, [bytes(100 * KIB)])], frames_read=3)
    written = written_server_frame(frame)
    assert written.frames_read == 3
    assert written.ByteSize() == server_frame_to_wire(frame).ByteSize()
    assert [run.first_number for run in written.outputs] == [7]
    assert copy.copy(written).SerializeToString() == written.SerializeToString()
    assert not hasattr(written, "no_such_field")
