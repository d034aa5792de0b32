"""Frames to protobuf messages and back."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from effort import effort
from hypothesis import given, settings
from hypothesis import strategies as st

from servestream_client.errors import ItemErrorKind, RemoteProtocolError
from servestream_client.protocol import frames as f
from servestream_client.wire import convert
from servestream_client.wire import stream_pb2 as pb

REPEATABLE = settings(max_examples=effort(50, 2000))

UNKNOWN_VALUE = 77
DEFAULTS = f.Limits()


def plain(value: object) -> object:
    """Frames as tuples, so that it does not matter which sequence type holds what."""
    if dataclasses.is_dataclass(value):
        return (
            type(value).__name__,
            *(plain(getattr(value, field.name)) for field in dataclasses.fields(value)),
        )
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return tuple(plain(part) for part in value)
    return value


def client_trip(frame: f.ClientFrame) -> f.ClientFrame:
    data = convert.client_frame_to_wire(frame).SerializeToString()
    return convert.client_frame_from_wire(pb.ClientFrame.FromString(data))


def server_trip(frame: f.ServerFrame) -> f.ServerFrame:
    data = convert.server_frame_to_wire(frame).SerializeToString()
    return convert.server_frame_from_wire(pb.ServerFrame.FromString(data))


# ------------------------------------------------------------------ strategies, one a dataclass

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
# A run of numbers ends below 2^63.
NUMBERS = st.integers(1, 2**62)
INDEXES = st.integers(0, 2**62)
BYTES = st.binary(max_size=20)
# What is not printable is escaped on purpose; that is a test of its own.
TEXT = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=20)
TEXTS = st.lists(TEXT, max_size=3)
PAYLOADS = st.lists(BYTES, min_size=1, max_size=3)
MAYBE_U64 = st.none() | U64
WIRE_KINDS = st.sampled_from([kind for kind in ItemErrorKind if kind < 100])


def some(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(strategy, max_size=2)


LIMITS = st.builds(
    f.Limits,
    window_items=st.integers(1, 2**32 - 1),
    window_bytes=NUMBERS,
    unacknowledged_frames=st.integers(1, 2**32 - 1),
    frame_bytes=NUMBERS,
    item_bytes=NUMBERS,
    input_outputs=st.integers(1, 2**32 - 1),
    input_bytes=NUMBERS,
    token_bytes=NUMBERS,
    chunked_bytes=U64,
)
CREDITS = st.builds(f.Credit, outputs=U64, bytes=U64)
TOKENS = st.builds(f.StateToken, number=NUMBERS, token=BYTES, digest=BYTES)
HEARTBEATS = st.builds(f.Heartbeat, inputs_through=U64, outputs=U64, chunk_bytes=U64)
CHUNKS = st.builds(
    f.Chunk, number=NUMBERS, index=INDEXES, offset=U64, data=st.binary(min_size=1, max_size=20)
)
COMINGS = st.builds(f.Coming, bytes=U64, frame_bytes=U64, number=U64, acknowledge=st.booleans())
OPENS = st.builds(
    f.Open,
    stream_id=BYTES,
    attempt=U32,
    codec=st.builds(f.CodecId, id=TEXT, fingerprint=TEXT),
    protocol_version=U32,
    features=TEXTS,
    application=TEXT,
    order=st.sampled_from(f.Order),
    first_number=U64,
    limits=LIMITS,
    isolated=st.booleans(),
    token=st.none() | TOKENS,
    emit_from=st.none() | st.builds(f.Position, number=NUMBERS, index=NUMBERS),
    heartbeat_interval_ms=U32,
    deadline_ms=U64,
    parameters=st.dictionaries(TEXT, TEXT, max_size=3),
    item_timeout_ms=U64,
    emit_digest=BYTES,
)
METADATA = st.builds(
    f.ItemMetadata,
    deadline_ms=U64,
    priority=st.integers(-(2**31), 2**31 - 1),
    traceparent=TEXT,
    tracestate=TEXT,
    key=BYTES,
)
RESUMES = st.builds(
    f.Resume,
    digest=BYTES,
    checkpoint=st.none() | BYTES,
    outputs_from=INDEXES,
    outputs=st.lists(BYTES, max_size=3),
)
INPUT_RUNS = st.builds(
    f.InputRun,
    first_number=NUMBERS,
    payloads=PAYLOADS,
    first_start_index=INDEXES,
    metadata=some(METADATA),
    first_credit=st.none() | CREDITS,
    first_resume=st.none() | RESUMES,
    first_offset=U64,
).map(
    # Metadata for each payload, or for none.
    lambda run: replace(run, metadata=(list(run.metadata) * len(run.payloads))[: len(run.payloads)])
)
CLIENT_FRAMES = st.builds(
    f.ClientFrame,
    open=st.none() | OPENS,
    inputs=some(INPUT_RUNS),
    frames_read=U64,
    credit=st.none() | CREDITS,
    cancelled=some(st.builds(f.NumberRange, first=U64, last=U64)),
    want_token=st.booleans(),
    taken_through=U64,
    end=st.none() | st.builds(f.ClientEnd, last_number=U64),
    heartbeat=st.none() | HEARTBEATS,
    coming=st.none() | COMINGS,
    input_credit=some(st.builds(f.InputCredit, number=U64, outputs=U64, bytes=U64)),
    chunk=st.none() | CHUNKS,
)
WELCOMES = st.builds(
    f.Welcome,
    protocol_version=U32,
    application=TEXT,
    code_version=TEXT,
    replica=TEXT,
    handler_kind=st.sampled_from(f.HandlerKind),
    features=TEXTS,
    limits=LIMITS,
    endpoints=TEXTS,
    heartbeat_interval_ms=U32,
    restartable=st.booleans(),
    replay=st.sampled_from(f.Replay),
    fingerprint=st.text(max_size=20),
)
PARTS = st.builds(
    f.OutputPart,
    number=NUMBERS,
    first_index=INDEXES,
    payloads=st.lists(BYTES, max_size=3),
    last=st.booleans(),
    checkpoint=st.none() | BYTES,
    first_offset=U64,
)
FAILURES = st.builds(
    f.ItemFailure,
    number=NUMBERS,
    kind=WIRE_KINDS,
    text=TEXT,
    index=INDEXES,
    retryable=st.booleans(),
)
RUNNING = st.builds(
    f.Running,
    oldest_number=U64,
    oldest_age_ms=U64,
    started_through=U64,
    count=U32,
    blocked_on=st.sampled_from(f.BlockedOn),
)
SERVER_FRAMES = st.builds(
    f.ServerFrame,
    welcome=st.none() | WELCOMES,
    refused=st.none()
    | st.builds(
        f.Refused, kind=st.sampled_from(f.RefusalKind), text=TEXT, retry_after_ms=MAYBE_U64
    ),
    outputs=some(st.builds(f.OutputRun, first_number=NUMBERS, payloads=PAYLOADS, first_offset=U64)),
    parts=some(PARTS),
    errors=some(FAILURES),
    tokens=some(TOKENS),
    frames_read=U64,
    running=st.none() | RUNNING,
    drain=st.none() | st.builds(f.Drain, grace_ms=U64, endpoints=TEXTS),
    error=st.none()
    | st.builds(
        f.StreamFailure,
        kind=st.sampled_from(f.StreamErrorKind),
        text=TEXT,
        retry_after_ms=MAYBE_U64,
    ),
    end=st.none()
    | st.builds(f.ServerEnd, last_number=U64, inputs_received=U64, inputs_answered=U64),
    heartbeat=st.none() | HEARTBEATS,
    coming=st.none() | COMINGS,
    no_token=TEXT,
    load=st.none() | st.builds(f.Load, servers=U32, items=U64, item_us=U64, places=U64),
    chunk=st.none() | CHUNKS,
)


LIMITS_WITHOUT_DEFAULTS = f.Limits(
    window_items=1,
    window_bytes=2,
    unacknowledged_frames=3,
    frame_bytes=5,
    item_bytes=6,
    input_outputs=7,
    input_bytes=8,
    token_bytes=9,
    chunked_bytes=10,
)


def full(kind: type) -> f.ClientFrame | f.ServerFrame:
    """A frame of this kind in which no field has its default."""
    examples = {
        f.ClientFrame: f.ClientFrame(
            open=f.Open(
                stream_id=b"i",
                attempt=3,
                codec=f.CodecId("c", "f"),
                protocol_version=9,
                features=["x"],
                application="a",
                order=f.Order.ANY,
                first_number=4,
                limits=LIMITS_WITHOUT_DEFAULTS,
                isolated=True,
                token=f.StateToken(1, b"t", b"d"),
                emit_digest=b"e",
                emit_from=f.Position(1, 2),
                heartbeat_interval_ms=7,
                deadline_ms=8,
                parameters={"k": "v"},
                item_timeout_ms=10,
            ),
            inputs=[
                f.InputRun(
                    1,
                    [b"p"],
                    2,
                    [f.ItemMetadata(1, -2, "p", "s", b"k")],
                    first_credit=f.Credit(1, 2),
                    first_resume=f.Resume(b"d", b"c", 3, [b"o"]),
                    first_offset=5,
                )
            ],
            frames_read=1,
            credit=f.Credit(1, 2),
            cancelled=[f.NumberRange(1, 2)],
            want_token=True,
            taken_through=3,
            end=f.ClientEnd(4),
            heartbeat=f.Heartbeat(1, 2, 3),
            coming=f.Coming(4, 3, 2, acknowledge=True),
            chunk=f.Chunk(1, 2, 3, b"d"),
            input_credit=[f.InputCredit(1, 2, 3)],
        ),
        f.ServerFrame: f.ServerFrame(
            welcome=f.Welcome(
                protocol_version=9,
                application="a",
                code_version="c",
                replica="r",
                handler_kind=f.HandlerKind.BATCH,
                features=["x"],
                limits=LIMITS_WITHOUT_DEFAULTS,
                endpoints=["e"],
                heartbeat_interval_ms=7,
                restartable=True,
                replay=f.Replay.SEEK,
                fingerprint="f\n",
            ),
            refused=f.Refused(f.RefusalKind.TOKEN, "t", 0),
            outputs=[f.OutputRun(1, [b"p"], 4)],
            parts=[f.OutputPart(1, 2, [b"p"], last=True, checkpoint=b"c", first_offset=5)],
            errors=[f.ItemFailure(1, ItemErrorKind.POISON, "t", 2, retryable=True)],
            tokens=[f.StateToken(1, b"t", b"d")],
            no_token="none",
            frames_read=1,
            running=f.Running(
                oldest_number=1,
                oldest_age_ms=2,
                started_through=3,
                count=4,
                blocked_on=f.BlockedOn.CREDIT,
            ),
            drain=f.Drain(1, ["e"]),
            error=f.StreamFailure(f.StreamErrorKind.STATE, "t", 0),
            end=f.ServerEnd(1, 2, 3),
            heartbeat=f.Heartbeat(1, 2, 3),
            coming=f.Coming(4, 3, 2, acknowledge=True),
            chunk=f.Chunk(1, 2, 3, b"d"),
            load=f.Load(servers=1, items=2, item_us=3, places=4),
        ),
    }
    return examples[kind]


# ------------------------------------------------------------------ there and back


@REPEATABLE
@given(CLIENT_FRAMES)
def test_client_frames_come_back_as_they_were(frame):
    assert plain(client_trip(frame)) == plain(frame)


@REPEATABLE
@given(SERVER_FRAMES)
def test_server_frames_come_back_as_they_were(frame):
    assert plain(server_trip(frame)) == plain(frame)


@pytest.mark.parametrize(
    ("kind", "trip"), [(f.ClientFrame, client_trip), (f.ServerFrame, server_trip)]
)
def test_every_field_travels(kind, trip):
    frame = full(kind)
    left = [path for path in left_at_default(frame) if path.rpartition(".")[2] not in COMPRESSED]
    assert left == []
    assert plain(trip(frame)) == plain(frame)


COMPRESSED = {"compression", "size", "sizes"}
"""What a frame has while it is written; tests/wire/test_compressed.py is about it."""


def left_at_default(value: object, path: str = "") -> list[str]:
    """The fields of a frame, and of what is in it, that have their defaults."""
    if isinstance(value, (list, tuple)):
        return [found for part in value for found in left_at_default(part, path)]
    if not dataclasses.is_dataclass(value):
        return []
    found = []
    for field in dataclasses.fields(value):
        here, own = f"{path}.{field.name}", getattr(value, field.name)
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        empty = default is dataclasses.MISSING and not own
        found += [here] if empty or plain(own) == plain(default) else left_at_default(own, here)
    return found


MESSAGES = {
    "CodecId": "Codec",
    "ItemFailure": "ItemError",
    "StreamFailure": "StreamError",
}
"""Where a frame's name for a message is another one."""


@pytest.mark.parametrize(
    "kind", [kind for kind in vars(f).values() if dataclasses.is_dataclass(kind)]
)
def test_frames_and_messages_have_the_same_fields(kind):
    message = pb.DESCRIPTOR.message_types_by_name[MESSAGES.get(kind.__name__, kind.__name__)]
    unread = {"encoding"}  # which the sizes stand for
    assert {field.name for field in dataclasses.fields(kind)} - {"compression"} == (
        set(message.fields_by_name) - unread
    )


def test_every_message_is_a_frame_or_part_of_one():
    names = {kind.__name__ for kind in vars(f).values() if dataclasses.is_dataclass(kind)}
    assert {MESSAGES.get(name, name) for name in names} == set(pb.DESCRIPTOR.message_types_by_name)


def test_an_empty_message_is_an_empty_frame():
    assert plain(convert.client_frame_from_wire(pb.ClientFrame())) == plain(f.ClientFrame())
    assert plain(convert.server_frame_from_wire(pb.ServerFrame())) == plain(f.ServerFrame())


def test_an_empty_part_of_a_message_is_still_there():
    message = pb.ClientFrame()
    message.end.SetInParent()
    message.credit.SetInParent()
    frame = convert.client_frame_from_wire(message)
    assert (frame.end, frame.credit) == (f.ClientEnd(0), f.Credit(0, 0))


def test_no_retry_after_differs_from_at_once():
    never_said = server_trip(f.ServerFrame(refused=f.Refused(f.RefusalKind.OVERLOADED)))
    at_once = server_trip(f.ServerFrame(refused=f.Refused(f.RefusalKind.OVERLOADED, "", 0)))
    assert never_said.refused.retry_after_ms is None
    assert at_once.refused.retry_after_ms == 0


# ------------------------------------------------------------------ what the wire leaves open


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(f.Limits)])
def test_a_limit_of_zero_is_the_default(name):
    given_limits = dataclasses.replace(LIMITS_WITHOUT_DEFAULTS, **{name: 0})
    filled = dataclasses.replace(given_limits, **{name: getattr(DEFAULTS, name)})
    opened = f.Open(stream_id=b"", attempt=1, codec=f.CodecId("c"), limits=given_limits)
    welcome = f.Welcome(limits=given_limits)
    assert client_trip(f.ClientFrame(open=opened)).open.limits == filled
    assert server_trip(f.ServerFrame(welcome=welcome)).welcome.limits == filled


def test_absent_limits_are_the_defaults():
    opened = pb.ClientFrame(open=pb.Open())
    welcome = pb.ServerFrame(welcome=pb.Welcome())
    assert convert.client_frame_from_wire(opened).open.limits == DEFAULTS
    assert convert.server_frame_from_wire(welcome).welcome.limits == DEFAULTS


def test_unknown_enumeration_values_become_zero():
    opened = pb.ClientFrame(open=pb.Open(order=UNKNOWN_VALUE))
    assert convert.client_frame_from_wire(opened).open.order is f.Order.UNSPECIFIED
    frame = convert.server_frame_from_wire(
        pb.ServerFrame(
            welcome=pb.Welcome(handler_kind=UNKNOWN_VALUE, replay=UNKNOWN_VALUE),
            refused=pb.Refused(kind=UNKNOWN_VALUE),
            running=pb.Running(blocked_on=UNKNOWN_VALUE),
            error=pb.StreamError(kind=UNKNOWN_VALUE),
            errors=[pb.ItemError(number=1, kind=UNKNOWN_VALUE)],
        )
    )
    assert frame.welcome.handler_kind is f.HandlerKind.UNSPECIFIED
    assert frame.welcome.replay is f.Replay.UNSPECIFIED
    assert frame.refused.kind is f.RefusalKind.UNSPECIFIED
    assert frame.running.blocked_on is f.BlockedOn.UNSPECIFIED
    assert frame.error.kind is f.StreamErrorKind.UNSPECIFIED
    assert frame.errors[0].kind is ItemErrorKind.UNKNOWN


@pytest.mark.parametrize("kind", [kind for kind in ItemErrorKind if kind >= 100])
def test_the_clients_own_kinds_of_item_errors_never_come_from_the_wire(kind):
    message = pb.ServerFrame(errors=[pb.ItemError(number=1, kind=int(kind))])
    assert convert.server_frame_from_wire(message).errors[0].kind is ItemErrorKind.UNKNOWN


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"),
    [
        (f.Order, pb.Order, "ORDER_"),
        (f.HandlerKind, pb.HandlerKind, "HANDLER_KIND_"),
        (f.RefusalKind, pb.RefusalKind, "REFUSAL_KIND_"),
        (f.StreamErrorKind, pb.StreamErrorKind, "STREAM_ERROR_KIND_"),
        (f.BlockedOn, pb.BlockedOn, "BLOCKED_ON_"),
        (f.Replay, pb.Replay, "REPLAY_"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_enumerations_have_the_names_and_values_of_the_wire(ours, theirs, prefix):
    assert {prefix + member.name: member.value for member in ours} == dict(theirs.items())


def test_item_error_kinds_have_the_names_and_values_of_the_wire():
    ours = {kind.name: kind.value for kind in ItemErrorKind if 0 < kind < 100}
    theirs = {
        name.removeprefix("ITEM_ERROR_KIND_"): value
        for name, value in pb.ItemErrorKind.items()
        if value
    }
    assert ours == theirs


# ------------------------------------------------------------------ what means nothing


@pytest.mark.parametrize(
    "message",
    [
        pb.ClientFrame(inputs=[pb.InputRun(first_number=1)]),
        pb.ClientFrame(inputs=[pb.InputRun(first_number=0, payloads=[b"x"])]),
        pb.ClientFrame(inputs=[pb.InputRun(first_number=1, payloads=[b"x"], encoding=1)]),
        pb.ClientFrame(inputs=[pb.InputRun(first_number=2**63 - 1, payloads=[b"x", b"y"])]),
        pb.ClientFrame(
            inputs=[
                pb.InputRun(first_number=1, payloads=[b"x", b"y"], metadata=[pb.ItemMetadata()])
            ]
        ),
        pb.ClientFrame(
            inputs=[pb.InputRun(first_number=1, payloads=[b"x"], first_start_index=2**63)]
        ),
        pb.ClientFrame(cancelled=[pb.NumberRange()] * 70_000),
        pb.ClientFrame(
            inputs=[pb.InputRun(first_number=1, payloads=[b"x"]), pb.InputRun(first_number=2)]
        ),
        pb.ClientFrame(input_credit=[pb.InputCredit()] * 70_000),
        pb.ClientFrame(
            inputs=[
                pb.InputRun(
                    first_number=1,
                    payloads=[b"x"],
                    first_resume=pb.Resume(outputs_from=2**63 - 1, outputs=[b"x", b"y"]),
                )
            ]
        ),
    ],
    ids=[
        "no payloads",
        "number 0",
        "encoding",
        "past the last number",
        "too little metadata",
        "past the last start index",
        "ranges without end",
        "second run",
        "credit without end",
        "past the last index of a resume",
    ],
)
def test_inputs_that_mean_nothing_are_the_clients_error(message):
    with pytest.raises(RemoteProtocolError):
        convert.client_frame_from_wire(message)


@pytest.mark.parametrize(
    "message",
    [
        pb.ServerFrame(outputs=[pb.OutputRun(first_number=1)]),
        pb.ServerFrame(outputs=[pb.OutputRun(first_number=0, payloads=[b"x"])]),
        pb.ServerFrame(outputs=[pb.OutputRun(first_number=1, payloads=[b"x"], encoding=1)]),
        pb.ServerFrame(parts=[pb.OutputPart(number=0, payloads=[b"x"])]),
        pb.ServerFrame(parts=[pb.OutputPart(number=1, payloads=[b"x"], encoding=1)]),
        pb.ServerFrame(parts=[pb.OutputPart(number=1, first_index=2**63, last=True)]),
        pb.ServerFrame(
            parts=[pb.OutputPart(number=1, first_index=2**63 - 1, payloads=[b"x", b"y"])]
        ),
        pb.ServerFrame(errors=[pb.ItemError(number=0)]),
        pb.ServerFrame(errors=[pb.ItemError(number=1, index=2**63)]),
    ],
    ids=[
        "run without payloads",
        "run of number 0",
        "run's encoding",
        "part of number 0",
        "part's encoding",
        "empty part past the last index",
        "part that passes the last index",
        "error of number 0",
        "error past the last index",
    ],
)
def test_answers_that_mean_nothing_are_the_servers_error(message):
    with pytest.raises(RemoteProtocolError):
        convert.server_frame_from_wire(message)


def test_a_last_part_may_be_empty():
    message = pb.ServerFrame(parts=[pb.OutputPart(number=1, first_index=2, last=True)])
    assert plain(convert.server_frame_from_wire(message).parts) == plain(
        [f.OutputPart(1, 2, [], last=True)]
    )


def test_an_empty_checkpoint_differs_from_none():
    for checkpoint in (None, b""):
        part = f.OutputPart(1, 0, [b"x"], last=False, checkpoint=checkpoint)
        resume = f.Resume(bytes(8), checkpoint, 1, [])
        run = f.InputRun(1, [b"x"], 1, first_resume=resume)
        assert server_trip(f.ServerFrame(parts=[part])).parts[0].checkpoint == checkpoint
        assert client_trip(f.ClientFrame(inputs=[run])).inputs[0].first_resume == resume


def test_unknown_fields_are_ignored():
    # Field 99, a varint of 1.
    data = pb.ServerFrame(frames_read=3).SerializeToString() + b"\x98\x06\x01"
    frame = convert.server_frame_from_wire(pb.ServerFrame.FromString(data))
    assert plain(frame) == plain(f.ServerFrame(frames_read=3))


# ------------------------------------------------------------------ text from a peer

NASTY = "\x1b[2J\r\x00\u202e"


def texts_of(text: str) -> list[str]:
    """Every text that a server can put before people, as it arrives."""
    frame = convert.server_frame_from_wire(
        pb.ServerFrame(
            welcome=pb.Welcome(application=text, code_version=text, replica=text),
            refused=pb.Refused(text=text),
            error=pb.StreamError(text=text),
            errors=[pb.ItemError(number=1, text=text)],
        )
    )
    welcome = frame.welcome
    return [
        welcome.application,
        welcome.code_version,
        welcome.replica,
        frame.refused.text,
        frame.error.text,
        frame.errors[0].text,
    ]


def test_a_servers_text_is_escaped():
    for text in texts_of(NASTY):
        assert text.isprintable()
        assert text.startswith("\\x1b[2J")


def test_a_servers_text_is_cut():
    for text in texts_of("a" * 1_000_000):
        assert len(text) <= 2000
        assert text.endswith("…")


def test_text_that_fits_is_left_as_it_is():
    assert set(texts_of("größer: 5 > 3")) == {"größer: 5 > 3"}
