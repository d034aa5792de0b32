"""A server that has welcomed a stream, as tests of its rooms want it."""

import pytest
from single_inputs import next_input

from servestream_client.errors import RemoteProtocolError
from servestream_client.protocol.frames import (
    ClientEnd,
    ClientFrame,
    CodecId,
    Credit,
    HandlerKind,
    InputRun,
    Open,
    ServerFrame,
)
from servestream_client.protocol.server import ServerOffer, ServerSession

KIB = 1024
CODEC = CodecId("bytes", "v1")
STREAM_ID = bytes(range(16))
FULL = bytes(64 * KIB)
"""Fills a frame."""
PLENTY = Credit(1_000_000, 1_000_000_000)


def make_server(**offer) -> ServerSession:
    return ServerSession(ServerOffer(codec=CODEC, **offer))


MANY = {"handler_kind": HandlerKind.ONE_TO_MANY}
SEVERAL = {"handler_kind": HandlerKind.UNSPECIFIED}
"""Any number of outputs an input, which are kept as those of handlers of single ones."""


def opening(**fields) -> Open:
    return Open(**{"stream_id": STREAM_ID, "attempt": 1, "codec": CODEC, **fields})


def serving(*payloads: bytes, credit: Credit = PLENTY, offer=None, **opened) -> ServerSession:
    """A server that has welcomed a stream and read these inputs in one frame."""
    server = make_server(**(offer or {}))
    server.receive(ClientFrame(open=opening(**opened), credit=credit))
    server.welcome()
    assert server.next_frame().welcome is not None
    if payloads:
        server.receive(inputs(1, *payloads))
    return server


def computing(*payloads: bytes, **options) -> ServerSession:
    """The same, with every input handed to the handler."""
    server = serving(*payloads, **options)
    while next_input(server) is not None:
        pass
    return server


def inputs(first: int, *payloads: bytes, start: int = 0, **fields) -> ClientFrame:
    return ClientFrame(inputs=[InputRun(first, payloads, start)], **fields)


def end(last: int) -> ClientFrame:
    return ClientFrame(end=ClientEnd(last))


def started(server: ServerSession) -> list[int]:
    numbers = []
    while (item := next_input(server)) is not None:
        numbers.append(item.number)
    return numbers


def frames_out(server: ServerSession) -> list[ServerFrame]:
    frames = []
    while (frame := server.next_frame()) is not None:
        frames.append(frame)
    return frames


def answers_in(frames: list[ServerFrame]) -> list[tuple[int, int, bytes | None]]:
    """Every output as (number, index, payload), and every item error with None for a payload."""
    found = []
    for frame in frames:
        for run in frame.outputs:
            found += [(run.first_number + n, 0, payload) for n, payload in enumerate(run.payloads)]
        for part in frame.parts:
            found += [
                (part.number, part.first_index + n, payload)
                for n, payload in enumerate(part.payloads)
            ]
        found += [(failure.number, failure.index, None) for failure in frame.errors]
    return found


def numbers_out(server: ServerSession) -> list[int]:
    return [number for number, _, _ in answers_in(frames_out(server))]


def expect_breach(server: ServerSession, frame: ClientFrame, match: str) -> None:
    with pytest.raises(RemoteProtocolError, match=match):
        server.receive(frame)


def run_started(server: ServerSession, limit: int) -> tuple[int, list[bytes], int]:
    run = server.intake.next_run(limit)
    return run.first, list(run.payloads), run.start_index
