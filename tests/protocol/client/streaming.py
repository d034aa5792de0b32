"""A stream at its client, as tests of its rooms want it."""

import pytest

from servestream_client.config import FlowControl
from servestream_client.errors import ItemErrorKind, RemoteProtocolError
from servestream_client.protocol.client import ClientSession, Delivery
from servestream_client.protocol.frames import (
    ClientFrame,
    CodecId,
    ItemFailure,
    Limits,
    OutputPart,
    OutputRun,
    ServerFrame,
    Welcome,
)

KIB = 1024
CODEC = CodecId("bytes", "v1")
STREAM_ID = bytes(range(16))
FULL = bytes(64 * KIB)
"""Fills a frame."""


def make_client(*, ordered: bool = True, application: str = "", **flow: int) -> ClientSession:
    return ClientSession(
        stream_id=STREAM_ID,
        codec=CODEC,
        flow=FlowControl(**flow),
        application=application,
        ordered=ordered,
    )


def open_attempt(session: ClientSession, *, known: Limits | None = None, **welcome) -> int:
    """Begin an attempt and have it welcomed; Limits fields and Welcome fields may be given."""
    attempt = session.begin(known=known).number
    session.next_frame()
    session.receive(attempt, ServerFrame(welcome=Welcome(**welcome)))
    return attempt


def streaming(*payloads: bytes, end: bool = False, **options) -> ClientSession:
    """A client on its first attempt (number 1) that has sent these inputs."""
    welcome = options.pop("welcome", {})
    session = make_client(**options)
    open_attempt(session, **welcome)
    push_all(session, *payloads)
    if end:
        session.ledger.finish()
    frames_out(session)
    return session


def push_all(session: ClientSession, *payloads: bytes) -> None:
    for payload in payloads:
        session.push(payload)


def frames_out(session: ClientSession) -> list[ClientFrame]:
    frames = []
    while (frame := session.next_frame()) is not None:
        frames.append(frame)
    return frames


def inputs_in(frames: list[ClientFrame]) -> list[tuple[int, bytes]]:
    return [
        (number, payload)
        for frame in frames
        for run in frame.inputs
        for number, payload in enumerate(run.payloads, run.first_number)
    ]


def numbers_in(frames: list[ClientFrame]) -> list[int]:
    return [number for number, _ in inputs_in(frames)]


def take_all(session: ClientSession) -> list[Delivery]:
    taken = []
    while (delivery := session.delivery.take()) is not None:
        taken.append(delivery)
    return taken


def answers(first: int, *payloads: bytes, **fields) -> ServerFrame:
    return ServerFrame(outputs=[OutputRun(first, payloads)], **fields)


def part(number: int, first_index: int, *payloads: bytes, last: bool = False) -> ServerFrame:
    return ServerFrame(parts=[OutputPart(number, first_index, payloads, last)])


def error(number: int, index: int = 0, kind: ItemErrorKind = ItemErrorKind.HANDLER) -> ServerFrame:
    return ServerFrame(errors=[ItemFailure(number, kind, "bad", index)])


def output(number: int, payload: bytes, *, index: int = 0, last: bool = True) -> Delivery:
    return Delivery(number, index, payload, None, last)


def kinds(deliveries: list[Delivery]) -> list[tuple[int, ItemErrorKind | None]]:
    return [(d.number, d.failure.kind if d.failure else None) for d in deliveries]


def expect_breach(session: ClientSession, frame: ServerFrame, match: str, attempt: int = 1) -> None:
    with pytest.raises(RemoteProtocolError, match=match):
        session.receive(attempt, frame)


def failed(number: int) -> ItemFailure:
    return ItemFailure(number, ItemErrorKind.HANDLER, "bad")
