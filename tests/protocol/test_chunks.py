"""Large payloads go in chunks, which follow the link, and do not show in what is delivered."""

from dataclasses import replace

import pytest
from effort import effort
from hypothesis import given, settings
from hypothesis import strategies as st
from rated_link import CODEC, World, exchange

from servestream_client.config import FlowControl, Watchdog
from servestream_client.errors import FrameLostError, ItemErrorKind, RemoteProtocolError
from servestream_client.protocol.chunks import FEATURE, Assembly, Cutting
from servestream_client.protocol.client import ClientSession, LaneShare
from servestream_client.protocol.coming import LOWEST_RATE
from servestream_client.protocol.frames import (
    Chunk,
    ClientFrame,
    Credit,
    Drain,
    HandlerKind,
    Heartbeat,
    InputRun,
    ItemFailure,
    Limits,
    NumberRange,
    Open,
    Order,
    OutputPart,
    OutputRun,
    Replay,
    ServerFrame,
    StreamErrorKind,
    Welcome,
)
from servestream_client.protocol.server import ServerOffer, ServerSession

KIB = 1024
MIB = 1024 * KIB
REPEATABLE = settings(max_examples=effort(30, 1000))
WELCOME = Welcome(features=("coming", FEATURE), limits=Limits(chunked_bytes=100 * MIB))


# ------------------------------------------------------------------ pieces of a payload


@REPEATABLE
@given(payload=st.binary(min_size=1, max_size=300), sizes=st.lists(st.integers(1, 100)))
def test_what_is_cut_is_joined_to_what_it_was(payload, sizes):
    cutting, assembly = Cutting(7, 2, payload), Assembly()
    for size in sizes:
        if cutting.left <= size:
            break
        chunk = cutting.next(size)
        assert (chunk.number, chunk.index, len(chunk.data)) == (7, 2, size)
        assembly.receive(chunk, len(payload))
    assert assembly.received == cutting.offset == len(payload) - cutting.left
    if cutting.offset:
        assert assembly.join(7, 2, cutting.offset, cutting.rest) == payload


def test_what_is_joined_is_held_once():
    """A copy would take as much again."""
    assembly = Assembly()
    for offset in range(0, 8 * MIB, MIB):
        assembly.receive(Chunk(1, 0, offset, bytes(MIB)), 10 * MIB)
    buffer = assembly._buffer
    joined = assembly.join(1, 0, 8 * MIB, b"x")
    assert joined is buffer.getvalue()


@pytest.mark.parametrize(
    "chunk",
    [
        Chunk(1, 0, 4, b"x"),
        Chunk(1, 0, 2, b"x"),
        Chunk(2, 0, 3, b"x"),
        Chunk(1, 1, 3, b"x"),
    ],
    ids=["one between is missing", "one came twice", "another input", "another output"],
)
def test_a_chunk_that_does_not_follow_the_last_one_is_a_loss(chunk):
    assembly = Assembly()
    assembly.receive(Chunk(1, 0, 0, b"abc"), 100)
    with pytest.raises(FrameLostError, match=r"a gap: of (in|out)put"):
        assembly.receive(chunk, 100)


@pytest.mark.parametrize(
    ("number", "index", "offset"), [(1, 0, 4), (1, 0, 2), (2, 0, 3), (1, 1, 3)]
)
def test_a_rest_that_does_not_follow_the_last_chunk_is_a_loss(number, index, offset):
    assembly = Assembly()
    assembly.receive(Chunk(1, 0, 0, b"abc"), 100)
    with pytest.raises(FrameLostError, match="bytes came before, in chunks"):
        assembly.join(number, index, offset, b"x")


def test_what_begins_makes_void_what_came_of_another():
    assembly = Assembly()
    assembly.receive(Chunk(1, 0, 0, b"abc"), 100)
    assembly.receive(Chunk(2, 0, 0, b"d"), 100)
    assert assembly.join(2, 0, 1, b"e") == b"de"
    with pytest.raises(FrameLostError):
        assembly.join(2, 0, 1, b"e")


def test_chunks_hold_no_more_than_is_accepted():
    assembly = Assembly()
    assembly.receive(Chunk(3, 0, 0, bytes(60)), 100)
    with pytest.raises(RemoteProtocolError, match=r"input 3 has 101 bytes or more.*at most 100"):
        assembly.receive(Chunk(3, 0, 60, bytes(41)), 100)


def test_bytes_that_were_sent_in_chunks_and_did_not_come_are_a_loss():
    assembly = Assembly()
    assembly.receive(Chunk(3, 0, 0, bytes(60)), 100)
    assembly.check_sent(60)
    with pytest.raises(FrameLostError, match="61 bytes were sent in chunks, of which 60 came"):
        assembly.check_sent(61)


# ------------------------------------------------------------------ over a link


def of(way: str, world: World) -> list[ClientFrame | ServerFrame]:
    return [frame for direction, frame in world.said if direction == way]


@REPEATABLE
@given(
    rate=st.floats(1.15, 10_000).map(lambda times: times * LOWEST_RATE),
    interval=st.sampled_from([1.0, 2.0, 10.0]),
    inputs=st.lists(
        st.sampled_from([1, 60 * KIB, 65 * KIB, 200 * KIB, 3000 * KIB]), min_size=1, max_size=6
    ),
    output=st.sampled_from([1, 70 * KIB, 400 * KIB, 3000 * KIB]),
    delay=st.sampled_from([0.0, 0.01, 0.1]),
)
def test_no_frame_is_larger_than_what_went_before_it_shows_of_the_link(
    rate, interval, inputs, output, delay
):
    world = World(rate, interval, lambda _: output, delay=delay * interval)
    exchange(world, inputs)
    assert not world.silent
    assert world.client.ledger.complete
    for way in ("up", "down"):
        largest = max(64 * KIB, interval * LOWEST_RATE)
        for frame in of(way, world):
            size = payload_bytes(frame)
            assert size <= 4 * largest or frame_before(world, way, frame).coming is not None
            largest = max(largest, size)


def payload_bytes(frame: ClientFrame | ServerFrame) -> int:
    runs = frame.inputs if isinstance(frame, ClientFrame) else frame.outputs
    size = sum(len(payload) for run in runs for payload in run.payloads)
    return size + (len(frame.chunk.data) if frame.chunk else 0)


def frame_before(world: World, way: str, frame: ClientFrame | ServerFrame):
    frames = of(way, world)
    return frames[frames.index(frame) - 1]


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize(("rate", "bytes_at_once"), [(50_000, 64 * KIB), (200_000, 256 * KIB)])
def test_on_a_slow_link_little_is_under_way_at_once(way, rate, bytes_at_once):
    """What comes beside it, on another stream of the connection, waits for so much at the most."""
    large, small = 3000 * KIB, 1
    world = World(rate, 10.0, lambda _: large if way == "down" else small)
    at_once = []

    def look() -> bool:
        pacer = world.client.attempt.pacer if way == "up" else world.server._pacer
        at_once.append(sum(pacer.sizes))
        return not world.client.ledger.unanswered

    world.client.push(bytes(large if way == "up" else small))
    world.speak()
    world.run(look)
    assert not world.silent
    assert max(at_once) <= bytes_at_once
    assert world.now < 1.3 * large / rate


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("delay", [0.0, 0.1])
def test_on_a_quick_link_chunks_are_soon_as_large_as_frames(way, delay):
    large, small = 1500 * KIB, 1
    world = World(1e9, 10.0, lambda _: large if way == "down" else small, delay=delay)
    exchange(world, [large if way == "up" else small] * 8)
    frames = [frame for frame in of(way, world) if payload_bytes(frame)]
    chunks = [len(frame.chunk.data) for frame in frames if frame.chunk]
    assert chunks[0] == 32 * KIB
    assert chunks[-1] == 512 * KIB
    assert chunks.count(512 * KIB) >= len(chunks) / 2
    whole = [frame.chunk is None and payload_bytes(frame) > MIB for frame in frames]
    assert all(whole[-4:]) == (not delay)  # where they are acknowledged at once


def test_where_chunks_take_long_they_become_smaller():
    world = World(40_000, 10.0, lambda _: 1)
    exchange(world, [400 * KIB])
    sizes = [len(frame.chunk.data) for frame in of("up", world) if frame.chunk]
    assert set(sizes) == {32 * KIB, 16 * KIB}
    assert sizes[-1] == 16 * KIB


# ------------------------------------------------------------------ the client's inputs


def begun(*payloads: bytes, ordered: bool = True, welcome: Welcome = WELCOME) -> ClientSession:
    session = ClientSession(
        stream_id=bytes(16),
        codec=CODEC,
        flow=FlowControl(max_item_bytes=100 * MIB, window_bytes=4 * MIB),
        ordered=ordered,
        watchdog=Watchdog(heartbeat_interval=10.0),
    )
    session.begin()
    session.next_frame()
    session.receive(1, ServerFrame(welcome=welcome))
    for payload in payloads:
        session.push(payload)
    return session


def sent(session: ClientSession) -> list[ClientFrame]:
    """All that goes, if each frame is acknowledged at once."""
    frames = []
    while (frame := session.next_frame()) is not None:
        frames.append(frame)
        session.receive(1, ServerFrame(frames_read=session.attempt.pacer.sent_frames))
    return frames


def test_an_input_is_sent_once_the_last_of_it_has_left():
    session = begun(b"first", bytes(100 * KIB), b"last")
    attempt = session.attempt
    assert session.next_frame().inputs == (InputRun(1, [b"first"]),)
    session.receive(1, ServerFrame(frames_read=1))
    chunk = session.next_frame().chunk
    assert (chunk.number, chunk.index, chunk.offset, len(chunk.data)) == (2, 0, 0, 32 * KIB)
    assert (attempt.in_flight.sent_through, list(attempt.suspects)) == (1, [1, 2])
    session.ledger.finish()
    frames = sent(session)
    assert [frame.chunk.offset for frame in frames if frame.chunk] == [32 * KIB, 64 * KIB]
    run = frames[-2].inputs[0]
    assert (run.first_number, run.first_offset, len(run.payloads[0])) == (2, 96 * KIB, 4 * KIB)
    assert attempt.in_flight.sent_through == 3
    assert [frame.end is not None for frame in frames] == [False] * 3 + [True]


def test_two_chunks_are_under_way_at_a_time_and_no_heartbeat_waits_for_them():
    session = begun(bytes(MIB))
    attempt = session.attempt
    assert [session.next_frame().chunk.offset for _ in range(2)] == [0, 32 * KIB]
    assert session.next_frame() is None
    attempt.pulse.due = True
    beat = session.next_frame()
    assert (beat.chunk, beat.heartbeat) == (None, Heartbeat(0, 0, 64 * KIB))


def test_a_new_attempt_sends_an_input_from_its_beginning():
    session = begun(bytes(MIB))
    assert session.next_frame().chunk.offset == 0
    session.lost(1)
    session.begin()
    session.next_frame()
    session.receive(2, ServerFrame(welcome=WELCOME))
    assert session.next_frame().chunk.offset == 0
    assert session.counters.replayed == 0  # nothing was sent twice, as far as inputs go


def test_an_input_that_is_cancelled_in_chunks_was_not_sent():
    session = begun(bytes(MIB), bytes(MIB), ordered=False)
    assert session.next_frame().chunk.number == 1
    session.cancel(1)
    delivery = session.delivery.take()
    assert (delivery.number, delivery.failure.kind) == (1, ItemErrorKind.CANCELLED)
    following = session.next_frame()
    assert (following.chunk.number, following.chunk.offset) == (2, 0)
    assert following.cancelled == [NumberRange(1, 1)]  # for what its server has of it


def test_a_server_that_leaves_gets_no_further_chunk():
    session = begun(bytes(MIB))
    session.next_frame()
    session.receive(1, ServerFrame(drain=Drain(1000)))
    assert session.over  # nothing was sent that is to be answered
    assert session.next_frame() is None


def test_a_client_that_leaves_by_itself_waits_for_the_end_of_an_input():
    """It would begin anew elsewhere, and perhaps be cut again each time."""
    session = begun(bytes(100 * KIB), bytes(MIB))
    session.next_frame()
    while session.attempt.cuts.begun:
        assert not session.move()
        session.receive(1, ServerFrame(frames_read=session.attempt.pacer.sent_frames))
        frame = session.next_frame()
    assert frame.inputs[0].first_number == 1
    assert session.move()
    assert not session.over


def test_one_that_is_larger_than_the_window_goes_alone():
    session = begun(b"x", bytes(10 * MIB))
    assert session.next_frame().inputs[0].payloads == [b"x"]
    session.receive(1, ServerFrame(frames_read=1))
    assert session.next_frame() is None
    session.receive(1, ServerFrame(outputs=[OutputRun(1, [b"X"])]))
    assert session.next_frame().chunk.number == 2


MANY = replace(
    WELCOME,
    features=("coming", "many", FEATURE),
    handler_kind=HandlerKind.ONE_TO_MANY,
    replay=Replay.CONTINUE,
)


def cut_after(session: ClientSession, *outputs: bytes) -> list[ClientFrame]:
    """All that the next attempt sends, after so many outputs of the first input."""
    sent(session)
    session.receive(1, ServerFrame(parts=[OutputPart(1, 0, outputs, last=False)]))
    session.lost(1)
    session.begin()
    session.next_frame()
    session.receive(2, ServerFrame(welcome=MANY))
    frames = []
    while (frame := session.next_frame()) is not None:
        frames.append(frame)
        session.receive(2, ServerFrame(frames_read=session.attempt.pacer.sent_frames))
    return frames


def test_an_input_in_chunks_goes_on_whatever_its_size():
    *_, last = cut_after(begun(bytes(5 * MIB), welcome=MANY), b"one")
    (run,) = last.inputs
    assert (run.first_number, run.first_start_index) == (1, 1)
    assert run.first_offset + len(run.payloads[0]) == 5 * MIB


def test_the_rest_of_an_input_is_announced_with_what_it_takes_to_go_on():
    session = begun(bytes(MIB), welcome=MANY)
    *_, before, last = cut_after(session, bytes(900 * KIB))
    (run,) = last.inputs
    assert run.first_resume.size > 900 * KIB
    assert before.coming.frame_bytes >= run.first_resume.size + len(run.payloads[0])


@pytest.mark.parametrize("ordered", [True, False])
def test_what_has_begun_to_leave_in_chunks_is_no_lanes(ordered):
    session = begun(bytes(MIB), b"two", b"three", ordered=ordered)
    lanes = LaneShare(session)
    lanes.bound(0)
    assert (lanes.waiting, lanes.next) == (3, 1)
    lanes.bound(1)
    assert session.next_frame().chunk.number == 1
    assert (lanes.waiting, lanes.next) == (2, 2)
    assert lanes.take(1, 100) == (2, [b"two"])
    assert lanes.take_one() == 3
    assert lanes.take(1, 100) is None
    assert lanes.waiting == 0
    assert session.next_frame().chunk.offset == 32 * KIB
    lanes.bound(0)  # it carries nothing any more
    assert (lanes.waiting, lanes.next) == (1, 1)
    assert lanes.take(1, 100) == (1, [bytes(MIB)])
    assert session.next_frame() is None


@pytest.mark.parametrize("said", [0, 9, 100 * MIB])
def test_a_server_without_chunks_gets_none_and_what_it_takes(said):
    welcome = Welcome(limits=Limits(chunked_bytes=said))
    session = begun(bytes(5 * MIB), bytes(MIB), welcome=welcome)
    (frame,) = sent(session)
    assert frame.chunk is None
    assert [len(run.payloads[0]) for run in frame.inputs] == [MIB]
    failure = session.delivery.take().failure
    assert (failure.kind, failure.number) == (ItemErrorKind.INPUT_TOO_LARGE, 1)
    assert "accepts 3145728" in failure.text


@pytest.mark.parametrize(
    ("interval", "size", "first"),
    [
        (0.1, MIB, 0),
        (1.0, MIB, 0),
        (2.0, MIB, 16 * KIB),
        (10.0, MIB, 32 * KIB),
        (1.0, 9 * MIB, 8 * KIB),
    ],
)
def test_where_heartbeats_are_short_items_go_whole_if_they_may(interval, size, first):
    session = ClientSession(
        stream_id=bytes(16),
        codec=CODEC,
        flow=FlowControl(),
        watchdog=Watchdog(heartbeat_interval=interval),
    )
    session.begin()
    session.next_frame()
    session.receive(1, ServerFrame(welcome=WELCOME))
    session.push(bytes(size))
    frame = session.next_frame()
    assert (frame.chunk and len(frame.chunk.data)) == (first or None)
    assert (frame.coming is not None) is not first  # or else it is announced


# ------------------------------------------------------------------ a server's inputs, and outputs


AMPLE = Credit(10, 100 * MIB)


def serving(
    *features: str,
    limits: Limits | None = None,
    ordered: bool = True,
    credit: Credit = AMPLE,
    **offered,
) -> ServerSession:
    offer = Limits(chunked_bytes=10 * MIB)
    server = ServerSession(ServerOffer(codec=CODEC, limits=offer, **offered))
    opened = Open(
        stream_id=bytes(16),
        attempt=1,
        codec=CODEC,
        features=features,
        limits=limits or Limits(chunked_bytes=20 * MIB),
        order=Order.INPUT if ordered else Order.ANY,
    )
    server.receive(ClientFrame(open=opened, credit=credit))
    server.welcome()
    server.next_frame()
    return server


def test_a_server_hands_out_what_was_joined():
    server = serving(FEATURE)
    server.receive(ClientFrame(chunk=Chunk(1, 0, 0, b"abc")))
    assert server.intake.next_run(1) is None
    assert server.intake.through == 0
    server.receive(ClientFrame(inputs=[InputRun(1, [b"d", b"e"], first_offset=3)]))
    assert list(server.intake.next_run(2).payloads) == [b"abcd", b"e"]


def test_chunks_are_acknowledged_like_other_frames():
    server = serving(FEATURE)
    server.receive(ClientFrame(chunk=Chunk(1, 0, 0, b"abc")))
    assert server.next_frame() is None
    server.receive(ClientFrame(chunk=Chunk(1, 0, 3, b"abc")))
    assert server.next_frame().frames_read == 2


def test_a_server_notices_that_the_last_chunk_is_missing():
    server = serving(FEATURE)
    server.receive(ClientFrame(chunk=Chunk(1, 0, 0, b"abc")))
    server.receive(ClientFrame(heartbeat=Heartbeat(0, 0, 3)))
    with pytest.raises(FrameLostError):
        server.receive(ClientFrame(heartbeat=Heartbeat(0, 0, 4)))


@pytest.mark.parametrize(
    ("features", "chunk", "match"),
    [
        ((), Chunk(1, 0, 0, b"x"), "not agreed on chunks"),
        ((FEATURE,), Chunk(1, 1, 0, b"x"), "a chunk of input 1"),
        ((FEATURE,), Chunk(0, 0, 0, b"x"), "a chunk of input 0"),
        ((FEATURE,), Chunk(1, 0, 0, bytes(10 * MIB + 1)), "at most 10485760"),
    ],
    ids=["not agreed", "an output", "too low", "too large"],
)
def test_chunks_that_cannot_come_are_a_breach(features, chunk, match):
    server = serving(*features)
    with pytest.raises(RemoteProtocolError, match=match):
        server.receive(ClientFrame(chunk=chunk))


def outputs_of(server: ServerSession) -> list[ServerFrame]:
    frames = []
    while (frame := server.next_frame()) is not None:
        frames.append(frame)
        server.receive(ClientFrame(frames_read=server._pacer.sent_frames))
    return frames


def test_large_outputs_leave_in_chunks_and_in_their_turn():
    server = serving(FEATURE)
    server.receive(ClientFrame(inputs=[InputRun(1, [b"a", b"b", b"c"])]))
    server.intake.next_run(3)
    for number, size in ((3, 1), (1, 10), (2, 70 * KIB)):
        server.outbox.output(number, bytes(size), last=True)
    first, *chunks, rest = outputs_of(server)
    assert [run.first_number for run in first.outputs] == [1]
    assert [(c.chunk.number, c.chunk.offset) for c in chunks[:2]] == [(2, 0), (2, 32 * KIB)]
    assert rest.outputs == [OutputRun(3, [b"\0"])]
    (joined,) = chunks[2:]
    (run,) = joined.outputs
    assert (run.first_number, run.first_offset, len(run.payloads[0])) == (2, 64 * KIB, 6 * KIB)
    assert server.under_way == 0
    assert server.outbox.credit.outputs_sent == 3


def test_in_any_order_others_go_between_the_chunks_of_one():
    server = serving(FEATURE, ordered=False)
    server.receive(ClientFrame(inputs=[InputRun(1, [b"a"] * 5)]))
    server.intake.next_run(5)
    server.outbox.output(1, bytes(100 * KIB), last=True)
    server.outbox.output(2, b"two", last=True)
    frame = server.next_frame()
    assert frame.outputs == [OutputRun(2, [b"two"])]
    assert (frame.chunk.number, frame.chunk.offset) == (1, 0)
    assert 31 * KIB < len(frame.chunk.data) < 32 * KIB
    server.outbox.output(3, bytes(90 * KIB), last=True)
    server.outbox.output(4, b"four", last=True)
    frames = outputs_of(server)
    assert not frames[0].outputs  # a large one waits for the one before it, and who is behind it
    cut = [frame.chunk.number for frame in frames if frame.chunk]
    assert cut == sorted(cut)
    assert set(cut) == {1, 3}
    runs = [run for frame in frames for run in frame.outputs]
    assert [run.first_number for run in runs] == [1, 4, 3]
    assert [run.first_offset > 0 for run in runs] == [True, False, True]
    assert server.outbox.answered == 4


def test_a_second_large_output_waits_for_the_first():
    server = serving(FEATURE, ordered=False)
    server.receive(ClientFrame(inputs=[InputRun(1, [b"a"] * 3)]))
    server.intake.next_run(3)
    server.outbox.output(1, bytes(300 * KIB), last=True)
    assert [server.next_frame().chunk.offset for _ in range(2)] == [0, 32 * KIB]
    server.outbox.output(2, bytes(300 * KIB), last=True)
    assert server.next_frame() is None


def test_a_large_output_has_its_turns_beside_others():
    """However many there are, and whether they fit into a frame beside it."""
    for size in (10, 10 * KIB, 40 * KIB):
        server = serving(FEATURE, ordered=False, credit=Credit(10_000, 100 * MIB))
        server.receive(ClientFrame(inputs=[InputRun(1, [b"a"] * 2000)]))
        server.intake.next_run(2000)
        server.outbox.output(1, bytes(3 * MIB), last=True)
        others, sent, chunks = iter(range(2, 2001)), 0, 0
        while chunks < 10 and sent < 200:
            for _ in range(4):  # there are always some
                server.outbox.output(next(others), bytes(size), last=True)
            while (frame := server.next_frame()) is not None:
                chunks += frame.chunk is not None
                sent += 1
            server.receive(ClientFrame(frames_read=server._pacer.acknowledged + 1))
        assert chunks == 10
        assert sent <= 40


@pytest.mark.parametrize("kind", [HandlerKind.ONE_TO_ONE, HandlerKind.ONE_TO_MANY])
@pytest.mark.parametrize("size", [10, 20 * KIB, 40 * KIB])
def test_what_an_error_says_beside_a_large_output_is_not_lost(kind, size):
    server = serving(FEATURE, "many", ordered=False, handler_kind=kind)
    server.receive(ClientFrame(inputs=[InputRun(1, [b"a"] * 3)]))
    server.intake.next_run(3)
    server.outbox.output(1, bytes(200 * KIB), last=True)
    server.outbox.fail(2, ItemErrorKind.HANDLER, "x" * size)
    frames = outputs_of(server)
    server.outbox.fail(3, ItemErrorKind.HANDLER, "x" * size)
    frames += outputs_of(server)
    failed = [failure.number for frame in frames for failure in frame.errors]
    assert failed == [2, 3]
    assert server.outbox.unanswered == 0
    assert sum(len(frame.chunk.data) for frame in frames if frame.chunk) > 150 * KIB


def test_inputs_are_started_while_a_large_output_is_on_its_way():
    server = serving(FEATURE, ordered=False)
    server.receive(ClientFrame(inputs=[InputRun(1, [b"a"] * 3)]))
    server.intake.next_run(1)
    server.outbox.output(1, bytes(6 * MIB), last=True)
    assert server.intake.next_run(1) is None  # more waits than may
    server.next_frame()
    assert server.intake.next_run(1) is not None
    server.outbox.output(2, bytes(6 * MIB), last=True)
    assert server.intake.next_run(1) is None


@pytest.mark.parametrize("kind", [HandlerKind.ONE_TO_ONE, HandlerKind.ONE_TO_MANY])
@pytest.mark.parametrize("frames", [1, 2])
def test_a_stream_that_is_given_up_sends_nothing_more_of_a_large_output(kind, frames):
    server = serving(FEATURE, "many", ordered=False, handler_kind=kind)
    server.receive(ClientFrame(inputs=[InputRun(1, [b"a"])]))
    server.intake.next_run(1)
    server.outbox.output(1, bytes(90 * KIB), last=True)
    for _ in range(frames):
        assert server.next_frame().chunk is not None
    server.receive(ClientFrame(frames_read=frames))
    server.give_up(StreamErrorKind.SILENCE, "gone")
    frame = server.next_frame()
    assert (frame.chunk, frame.outputs, frame.parts, frame.error.text) == (None, (), (), "gone")
    assert server.next_frame() is None
    assert server.under_way == 0


def test_a_server_forgets_what_will_not_come():
    for frame in (
        ClientFrame(cancelled=[NumberRange(1, 1)]),
        ClientFrame(inputs=[InputRun(2, [b"x"])]),
    ):
        server = serving(FEATURE)
        server.receive(ClientFrame(chunk=Chunk(1, 0, 0, b"abc")))
        assert "3 bytes of it had come" in server.intake.late_chunks
        server.receive(frame)
        assert not server.intake.late_chunks


def test_the_rest_of_what_was_not_agreed_on_is_a_breach():
    server = serving()
    with pytest.raises(RemoteProtocolError, match="not agreed on"):
        server.receive(ClientFrame(inputs=[InputRun(1, [b"x"], first_offset=3)]))


@pytest.mark.parametrize("features", [(), (FEATURE,)], ids=["not agreed", "agreed"])
def test_a_client_without_chunks_gets_no_larger_output_than_it_takes_whole(features):
    server = serving(*features)
    server.receive(ClientFrame(inputs=[InputRun(1, [b"a"])]))
    server.intake.next_run(1)
    server.outbox.output(1, bytes(5 * MIB), last=True)
    frames = outputs_of(server)
    errors = [error for frame in frames for error in frame.errors]
    if features:
        assert not errors
        assert frames[-1].outputs
    else:
        assert [(error.number, error.kind) for error in errors] == [(1, ItemErrorKind.TOO_LARGE)]
        assert not any(frame.chunk for frame in frames)


def test_an_output_that_is_dropped_in_chunks_lets_others_go():
    server = ServerSession(
        ServerOffer(codec=CODEC, handler_kind=HandlerKind.ONE_TO_MANY, replay=Replay.SEEK)
    )
    opened = Open(
        stream_id=bytes(16),
        attempt=1,
        codec=CODEC,
        features=(FEATURE, "many"),
        limits=Limits(chunked_bytes=20 * MIB, input_bytes=MIB),
        order=Order.ANY,
    )
    server.receive(ClientFrame(open=opened, credit=Credit(10, 100 * MIB)))
    server.welcome()
    server.next_frame()
    server.receive(ClientFrame(inputs=[InputRun(1, [b"a", b"b"])]))
    server.intake.next_run(2)
    server.parts.output(1, bytes(200 * KIB))
    assert server.next_frame().chunk.number == 1
    server.receive(ClientFrame(cancelled=[NumberRange(1, 1)], frames_read=1))
    server.parts.output(2, bytes(70 * KIB), last=True)
    frames = outputs_of(server)
    assert [frame.chunk.number for frame in frames if frame.chunk] == [2, 2]
    assert [failure.number for frame in frames for failure in frame.errors] == [1]
    assert frames[-1].parts[0].first_offset == 64 * KIB


def test_what_is_left_of_an_output_in_chunks_is_under_way():
    """A server that leaves gives it time."""
    server = serving(FEATURE)
    server.receive(ClientFrame(inputs=[InputRun(1, [b"a"])]))
    server.intake.next_run(1)
    server.outbox.output(1, bytes(100 * KIB), last=True)
    assert server.under_way == 0
    server.next_frame()
    assert server.under_way == 100 * KIB
    outputs_of(server)
    server.receive(ClientFrame(frames_read=4))
    assert server.under_way == 0


def test_no_chunk_leaves_without_credit():
    server = serving(FEATURE)
    server.receive(ClientFrame(inputs=[InputRun(1, [b"a"] * 11)]))
    server.intake.next_run(11)
    for number in range(1, 12):
        server.outbox.output(number, bytes(10 if number < 11 else MIB), last=True)
    frames = outputs_of(server)
    assert all(frame.chunk is None for frame in frames)
    server.receive(ClientFrame(credit=Credit(11, 100 * MIB)))
    assert server.next_frame().chunk.number == 11


def test_an_output_in_chunks_is_not_held_up_by_its_inputs_being_cancelled():
    server = serving(FEATURE, ordered=False)
    server.receive(ClientFrame(inputs=[InputRun(1, [b"a"])]))
    server.intake.next_run(1)
    server.outbox.output(1, bytes(100 * KIB), last=True)
    assert server.next_frame().chunk.offset == 0
    server.receive(ClientFrame(cancelled=[NumberRange(1, 1)], frames_read=1))
    *_, last = outputs_of(server)
    assert last.outputs[0].first_offset == 96 * KIB


# ------------------------------------------------------------------ the client's outputs


def test_a_client_delivers_what_was_joined():
    session = begun(b"a", b"b")
    sent(session)
    for frame in (
        ServerFrame(chunk=Chunk(1, 0, 0, b"abc")),
        ServerFrame(chunk=Chunk(1, 0, 3, b"def")),
        ServerFrame(outputs=[OutputRun(1, [b"g", b"h"], first_offset=6)]),
    ):
        assert session.delivery.take() is None
        session.receive(1, frame)
    found = [session.delivery.take() for _ in range(2)]
    assert [delivery.payload for delivery in found] == [b"abcdefg", b"h"]
    assert session.attempt.allowance.received_outputs == 2


def test_a_client_joins_parts_as_well():
    session = begun(b"a")
    sent(session)
    session.receive(1, ServerFrame(parts=[OutputPart(1, 0, [b"one"], last=False)]))
    session.receive(1, ServerFrame(chunk=Chunk(1, 1, 0, b"tw")))
    session.receive(1, ServerFrame(parts=[OutputPart(1, 1, [b"o"], last=True, first_offset=2)]))
    found = [session.delivery.take() for _ in range(2)]
    assert [delivery.payload for delivery in found] == [b"one", b"two"]


@pytest.mark.parametrize(
    ("frames", "kind"),
    [
        ([ServerFrame(outputs=[OutputRun(1, [b"g"], first_offset=6)])], FrameLostError),
        ([ServerFrame(chunk=Chunk(1, 0, 5, b"x"))], FrameLostError),
        ([ServerFrame(heartbeat=Heartbeat(1, 0, 9))], FrameLostError),
        ([ServerFrame(chunk=Chunk(1, 0, 0, bytes(101 * MIB)))], RemoteProtocolError),
        (
            [
                ServerFrame(chunk=Chunk(1, 0, 0, b"abc")),
                ServerFrame(parts=[OutputPart(1, 0, [], last=True, first_offset=3)]),
            ],
            RemoteProtocolError,
        ),
    ],
    ids=["no chunk before", "not the first", "one was lost", "too large", "no rest"],
)
def test_what_does_not_fit_together_breaks_the_attempt(frames, kind):
    session = begun(b"a")
    sent(session)
    with pytest.raises(RemoteProtocolError) as caught:
        for frame in frames:
            session.receive(1, frame)
    assert type(caught.value) is kind


def test_a_client_forgets_what_will_not_come():
    session = begun(b"a", b"b")
    sent(session)
    session.receive(1, ServerFrame(chunk=Chunk(1, 0, 0, b"abc")))
    assert "3 bytes of it had come" in session.late_chunks
    assert session.attempt.assembly.expected == 12
    session.receive(1, ServerFrame(errors=[ItemFailure(1, ItemErrorKind.HANDLER, "no")]))
    assert not session.late_chunks
    assert session.attempt.assembly.expected == 0


def test_a_server_that_takes_no_chunks_for_its_small_frames_may_send_them():
    limits = Limits(frame_bytes=1024, item_bytes=512, chunked_bytes=100 * MIB)
    session = begun(b"a", welcome=replace(WELCOME, limits=limits))
    sent(session)
    session.receive(1, ServerFrame(chunk=Chunk(1, 0, 0, b"ab")))
    session.receive(1, ServerFrame(outputs=[OutputRun(1, [b"c"], first_offset=2)]))
    assert session.delivery.take().payload == b"abc"


def test_chunks_that_were_not_agreed_on_are_a_breach_of_a_servers_as_well():
    session = begun(b"a", welcome=replace(WELCOME, features=("coming",)))
    sent(session)
    with pytest.raises(RemoteProtocolError, match="not agreed on chunks"):
        session.receive(1, ServerFrame(chunk=Chunk(1, 0, 0, b"abc")))


@pytest.mark.parametrize("number", [0, 2, 9])
def test_a_chunk_for_an_input_that_was_not_sent_is_a_breach(number):
    session = begun(b"a")
    sent(session)
    with pytest.raises(RemoteProtocolError, match=r"chunk (came|for)|a chunk"):
        session.receive(1, ServerFrame(chunk=Chunk(number, 0, 0, b"abc")))


def test_frames_with_chunks_come_in_pairs_of_acknowledgements():
    session = begun(b"a")
    sent(session)
    for offset in (0, 3):
        assert session.next_frame() is None
        session.receive(1, ServerFrame(chunk=Chunk(1, 0, offset, b"abc")))
    assert session.next_frame().frames_read == 2
