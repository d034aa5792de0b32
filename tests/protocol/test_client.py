"""The client's side of a stream, by examples."""

from random import Random

import pytest
from anatomy import anatomy

from servestream_client.config import FlowControl
from servestream_client.errors import ItemErrorKind, LocalProtocolError, RemoteProtocolError
from servestream_client.protocol.client import ClientSession, Delivery
from servestream_client.protocol.client.answers import AnswerReceiver
from servestream_client.protocol.frames import (
    PROTOCOL_VERSION,
    ClientEnd,
    ClientFrame,
    CodecId,
    Credit,
    Drain,
    HandlerKind,
    Heartbeat,
    InputRun,
    ItemFailure,
    Limits,
    NumberRange,
    Order,
    OutputPart,
    OutputRun,
    RefusalKind,
    Refused,
    Running,
    ServerEnd,
    ServerFrame,
    StateToken,
    StreamErrorKind,
    StreamFailure,
    Welcome,
)
from servestream_client.protocol.states import ClientState

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


# ------------------------------------------------------------------ opening


def test_a_stream_id_has_sixteen_bytes():
    with pytest.raises(LocalProtocolError, match="16 bytes"):
        ClientSession(stream_id=b"short", codec=CODEC, flow=FlowControl())


def test_nothing_is_sent_without_an_attempt():
    session = make_client()
    session.push(b"x")
    assert session.next_frame() is None


def test_the_open_says_who_asks_for_what():
    session = ClientSession(
        stream_id=STREAM_ID,
        codec=CODEC,
        flow=FlowControl(
            window_items=7,
            window_bytes=70,
            output_items=5,
            output_bytes=50,
            max_item_bytes=9,
            max_unacknowledged_frames=3,
        ),
        application="digits",
        ordered=False,
        parameters={"a": "b"},
    )
    session.begin(deadline_ms=1234)
    frame = session.next_frame()
    opened = frame.open
    assert (opened.stream_id, opened.attempt, opened.codec) == (STREAM_ID, 1, CODEC)
    assert (opened.protocol_version, opened.application) == (PROTOCOL_VERSION, "digits")
    assert (opened.order, opened.first_number, opened.deadline_ms) == (Order.ANY, 1, 1234)
    assert opened.parameters == {"a": "b"}
    assert opened.limits == Limits(
        window_items=7,
        window_bytes=70,
        unacknowledged_frames=3,
        frame_bytes=9 + 512 * KIB,
        item_bytes=9,
    )
    assert frame.credit == Credit(5, 50)


def test_the_open_travels_alone_to_a_stranger():
    session = make_client()
    push_all(session, b"x", b"y")
    session.begin()
    frame = session.next_frame()
    assert frame.open is not None
    assert not frame.inputs
    assert session.next_frame() is None


def test_the_open_carries_inputs_where_the_limits_are_known():
    session = make_client()
    push_all(session, b"x", b"y")
    session.begin(known=Limits())
    frame = session.next_frame()
    assert frame.open is not None
    assert frame.inputs == (InputRun(1, [b"x", b"y"]),)


def test_inputs_with_the_open_keep_to_the_known_limits():
    session = make_client()
    push_all(session, b"x", b"y", b"z")
    session.begin(known=Limits(window_items=2))
    assert numbers_in([session.next_frame()]) == [1, 2]


def test_an_open_with_inputs_is_a_paced_frame():
    session = make_client(max_unacknowledged_frames=2)
    session.push(b"x")
    open_attempt(session, known=Limits())
    session.push(FULL)
    assert numbers_in([session.next_frame()]) == [2]
    session.push(FULL)
    assert session.next_frame() is None


def test_nothing_follows_the_open_before_the_welcome():
    session = make_client()
    session.push(b"x")
    session.begin(known=Limits())
    session.next_frame()
    session.push(b"y")
    session.cancel(1)
    session.ledger.finish()
    assert session.next_frame() is None


def test_the_welcome_lets_the_waiting_inputs_go():
    session = make_client()
    push_all(session, b"x", b"y")
    attempt = session.begin().number
    session.next_frame()
    session.receive(attempt, ServerFrame(welcome=Welcome(replica="a")))
    assert session.state is ClientState.STREAMING
    assert session.welcome.replica == "a"
    assert session.counters.welcomes == 1
    assert inputs_in([session.next_frame()]) == [(1, b"x"), (2, b"y")]


def test_a_second_attempt_may_not_begin_beside_the_first():
    session = make_client()
    session.begin()
    with pytest.raises(LocalProtocolError, match="BEGIN"):
        session.begin()


def test_the_first_frame_must_welcome_or_refuse():
    session = make_client()
    session.push(b"x")
    session.begin(known=Limits())
    session.next_frame()
    expect_breach(session, answers(1, b"X"), "neither welcomes nor refuses")
    assert session.delivery.take() is None


@pytest.mark.parametrize(
    "frame",
    [ServerFrame(welcome=Welcome()), ServerFrame(refused=Refused(RefusalKind.OVERLOADED))],
    ids=["welcome", "refused"],
)
def test_a_second_greeting_is_the_servers_error(frame):
    expect_breach(streaming(), frame, "second opening frame")


def test_answers_may_come_with_the_welcome():
    session = make_client()
    session.push(b"x")
    session.begin(known=Limits())
    session.next_frame()
    session.receive(
        1, ServerFrame(welcome=Welcome(), outputs=[OutputRun(1, [b"X"])], frames_read=1)
    )
    assert take_all(session) == [output(1, b"X")]


@pytest.mark.parametrize(
    ("welcome", "kind"),
    [
        (Welcome(protocol_version=PROTOCOL_VERSION + 1), RefusalKind.VERSION),
        (Welcome(application="letters"), RefusalKind.APPLICATION),
        (Welcome(handler_kind=HandlerKind.STATEFUL), RefusalKind.VERSION),
    ],
    ids=["version", "application", "stateful"],
)
def test_a_server_that_does_not_fit_is_left(welcome, kind):
    session = make_client(application="digits")
    session.push(b"x")
    session.begin()
    session.next_frame()
    session.receive(1, ServerFrame(welcome=welcome))
    assert session.state is ClientState.REFUSED
    assert session.refusal.kind is kind
    assert session.over
    assert session.counters.welcomes == 0
    assert session.welcome is None
    assert session.next_frame() is None


@pytest.mark.parametrize(("wanted", "named"), [("", "letters"), ("digits", ""), ("a", "a")])
def test_applications_differ_only_if_both_have_a_name(wanted, named):
    session = make_client(application=wanted)
    open_attempt(session, application=named)
    assert session.state is ClientState.STREAMING


def test_a_strangers_application_name_is_escaped():
    session = make_client(application="digits")
    session.begin()
    session.next_frame()
    session.receive(1, ServerFrame(welcome=Welcome(application="\x1b[2J")))
    assert "\x1b" not in session.refusal.text


def test_a_refusal_is_kept_until_the_next_attempt():
    session = make_client()
    session.push(b"x")
    session.begin()
    session.next_frame()
    refused = Refused(RefusalKind.OVERLOADED, "full", 500)
    session.receive(1, ServerFrame(refused=refused))
    assert (session.state, session.refusal) == (ClientState.REFUSED, refused)
    assert session.over
    assert session.next_frame() is None
    session.lost(1)
    open_attempt(session)
    assert session.refusal is None
    assert numbers_in(frames_out(session)) == [1]


@pytest.mark.parametrize("welcomed", [False, True], ids=["instead of welcome", "later"])
def test_a_stream_error_ends_the_attempt(welcomed):
    session = make_client()
    session.begin()
    session.next_frame()
    if welcomed:
        session.receive(1, ServerFrame(welcome=Welcome()))
    failure = StreamFailure(StreamErrorKind.OVERLOADED, "shed", 10)
    session.receive(1, ServerFrame(error=failure))
    assert (session.state, session.failure) == (ClientState.FAILED, failure)
    assert session.over
    assert session.next_frame() is None


def test_answers_beside_a_stream_error_are_taken():
    session = streaming(b"x", b"y")
    session.receive(1, answers(1, b"X", error=StreamFailure(StreamErrorKind.INTERNAL)))
    assert take_all(session) == [output(1, b"X")]
    assert session.ledger.unanswered == 1


# ------------------------------------------------------------------ inputs and the window


def test_inputs_are_numbered_from_one():
    session = make_client()
    assert [session.push(b"x"), session.push(b"y"), session.push(b"z")] == [1, 2, 3]
    assert session.ledger.accepted == session.ledger.unanswered == session.ledger.unsent == 3


def test_no_input_follows_the_finish():
    session = make_client()
    session.ledger.finish()
    with pytest.raises(LocalProtocolError, match="finish"):
        session.push(b"x")


def test_the_window_counts_inputs():
    session = make_client(window_items=2)
    push_all(session, b"", b"")
    assert not session.ledger.has_place
    assert not session.ledger.fits(0)


def test_the_window_counts_bytes():
    session = make_client(window_bytes=10)
    session.push(bytes(6))
    assert session.ledger.has_place
    assert session.ledger.fits(4)
    assert not session.ledger.fits(5)
    session.push(bytes(4))
    assert not session.ledger.has_place


def test_one_input_is_always_allowed_however_large():
    session = make_client(window_bytes=10)
    assert session.ledger.fits(1000)
    session.push(bytes(1000))
    assert not session.ledger.fits(0)
    assert not session.ledger.has_place


def test_a_place_is_held_until_the_last_output_was_taken():
    session = streaming(b"x", window_items=1)
    session.receive(1, part(1, 0, b"a", b"b", last=True))
    assert session.ledger.unanswered == 0
    assert not session.ledger.has_place
    session.delivery.take()
    assert not session.ledger.has_place
    session.delivery.take()
    assert session.ledger.has_place


def test_bytes_are_held_only_until_the_last_output_was_received():
    session = streaming(bytes(10), window_bytes=10)
    session.receive(1, part(1, 0, b"a"))
    assert not session.ledger.fits(1)
    session.receive(1, part(1, 1, b"b", last=True))
    assert session.ledger.fits(10)


def test_an_item_error_frees_place_and_bytes_likewise():
    session = streaming(bytes(10), window_items=1, window_bytes=10)
    session.receive(1, error(1))
    assert not session.ledger.has_place
    assert session.delivery.take().failure is not None
    assert session.ledger.has_place
    assert session.ledger.fits(10)


def test_taken_through_says_what_the_consumer_has():
    session = streaming(b"x", b"y", b"z", ordered=False)
    session.receive(1, ServerFrame(outputs=[OutputRun(1, [b"X"]), OutputRun(3, [b"Z"])]))
    assert session.ledger.taken_through == 0
    take_all(session)
    assert session.ledger.taken_through == 1
    session.receive(1, answers(2, b"Y"))
    take_all(session)
    assert session.ledger.taken_through == 3


def test_frames_carry_taken_through():
    session = streaming(b"x")
    session.receive(1, answers(1, b"X"))
    take_all(session)
    session.push(b"y")
    assert session.next_frame().taken_through == 1


# ------------------------------------------------------------------ the server's limits


def test_a_lower_window_of_the_server_is_obeyed_in_items():
    session = streaming(welcome={"limits": Limits(window_items=2)})
    push_all(session, b"1", b"2", b"3", b"4")
    assert numbers_in(frames_out(session)) == [1, 2]
    session.receive(1, answers(1, b"A"))
    assert numbers_in(frames_out(session)) == [3]


def test_a_lower_window_of_the_server_is_obeyed_in_bytes():
    session = streaming(welcome={"limits": Limits(window_bytes=10)})
    push_all(session, bytes(6), bytes(4), bytes(1), bytes(100), bytes(1))
    assert numbers_in(frames_out(session)) == [1, 2]
    session.receive(1, answers(1, b"A", frames_read=1))
    assert numbers_in(frames_out(session)) == [3]
    session.receive(1, answers(2, b"B"))
    assert numbers_in(frames_out(session)) == []
    session.receive(1, answers(3, b"C", frames_read=2))
    assert numbers_in(frames_out(session)) == [4]
    session.receive(1, answers(4, b"D", frames_read=3))
    assert numbers_in(frames_out(session)) == [5]


def test_a_place_at_the_server_is_free_only_with_the_last_output():
    session = streaming(b"1", b"2", welcome={"limits": Limits(window_items=1)})
    session.receive(1, part(1, 0, b"a"))
    assert numbers_in(frames_out(session)) == []
    session.receive(1, part(1, 1, last=True))
    assert numbers_in(frames_out(session)) == [2]


def test_a_lower_k_of_the_server_is_obeyed():
    session = streaming(welcome={"limits": Limits(unacknowledged_frames=1)})
    session.push(b"1")
    assert len(frames_out(session)) == 1
    session.push(b"2")
    assert session.next_frame() is None


def test_a_higher_k_of_the_server_changes_nothing():
    session = streaming(
        max_unacknowledged_frames=2, welcome={"limits": Limits(unacknowledged_frames=9)}
    )
    for _ in range(2):
        session.push(FULL)
        assert session.next_frame() is not None
    session.push(FULL)
    assert session.next_frame() is None


def test_a_lower_frame_limit_of_the_server_is_obeyed():
    session = streaming(welcome={"limits": Limits(frame_bytes=100)})
    push_all(session, bytes(40), bytes(40), bytes(40))
    assert [numbers_in([frame]) for frame in frames_out(session)] == [[1, 2], [3]]


def test_an_input_above_the_servers_limit_fails_at_the_client():
    session = streaming(welcome={"limits": Limits(item_bytes=5)})
    session.push(b"12345")
    session.push(b"123456", item="the large one")
    session.push(b"1")
    assert inputs_in(frames_out(session)) == [(1, b"12345"), (3, b"1")]
    session.receive(1, ServerFrame(outputs=[OutputRun(1, [b"A"]), OutputRun(3, [b"C"])]))
    first, second, third = take_all(session)
    assert (first, third) == (output(1, b"A"), output(3, b"C"))
    assert second.failure.kind is ItemErrorKind.INPUT_TOO_LARGE
    assert second.item == "the large one"
    assert session.counters.sent == 2


# ------------------------------------------------------------------ frames and pacing


def test_what_waits_travels_together():
    session = streaming()
    push_all(session, b"x", b"y", b"z")
    session.ledger.finish()
    frame = session.next_frame()
    assert frame.inputs == (InputRun(1, [b"x", b"y", b"z"]),)
    assert frame.end == ClientEnd(3)
    assert session.next_frame() is None


def test_a_lone_input_leaves_at_once():
    session = streaming()
    session.push(b"x")
    assert numbers_in([session.next_frame()]) == [1]


def test_a_frame_stays_within_64_kib():
    session = streaming()
    push_all(session, *[bytes(10 * KIB)] * 10)
    assert [numbers_in([frame]) for frame in frames_out(session)] == [
        [1, 2, 3, 4, 5, 6],
        [7, 8, 9, 10],
    ]


def test_many_empty_inputs_fill_a_frame_too():
    session = streaming(window_items=40_000, welcome={"limits": Limits(window_items=40_000)})
    push_all(session, *[b""] * 20_000)
    first, second = frames_out(session)
    assert len(inputs_in([first])) == 64 * KIB // 4
    assert len(inputs_in([second])) == 20_000 - 64 * KIB // 4


def test_an_item_above_64_kib_goes_alone():
    session = streaming()
    push_all(session, b"small", bytes(100 * KIB), FULL)
    assert [numbers_in([frame]) for frame in frames_out(session)] == [[1], [2], [3]]


def test_at_most_k_paced_frames_are_unacknowledged():
    session = streaming(max_unacknowledged_frames=3)
    for _ in range(3):
        session.push(FULL)
        assert numbers_in([session.next_frame()])
    session.push(FULL)
    assert session.next_frame() is None
    session.receive(1, ServerFrame(frames_read=1))
    assert numbers_in([session.next_frame()]) == [4]
    session.push(FULL)
    assert session.next_frame() is None


def test_inputs_that_fill_no_frame_wait_while_half_of_k_is_unacknowledged():
    session = streaming(max_unacknowledged_frames=3)
    for _ in range(2):
        session.push(b"x")
        assert numbers_in([session.next_frame()])
    push_all(session, b"y", b"z")
    assert session.next_frame() is None
    session.receive(1, ServerFrame(frames_read=1))
    assert numbers_in([session.next_frame()]) == [3, 4]
    session.push(b"x")
    assert session.next_frame() is None


def test_an_end_alone_is_not_paced():
    session = streaming(max_unacknowledged_frames=2)
    for _ in range(2):
        session.push(FULL)
        session.next_frame()
    session.ledger.finish()
    assert session.next_frame().end == ClientEnd(2)


def test_a_frame_for_the_acknowledgement_alone_goes_at_half_of_k():
    session = streaming(b"1", b"2", max_unacknowledged_frames=4)
    session.receive(1, answers(1, b"A"))
    assert session.next_frame() is None
    session.receive(1, answers(2, b"B"))
    frame = session.next_frame()
    assert (frame.frames_read, frame.paced) == (2, False)
    assert session.next_frame() is None


def test_an_acknowledgement_rides_on_a_frame_with_inputs():
    session = streaming(b"1")
    session.receive(1, answers(1, b"A"))
    session.push(b"2")
    assert session.next_frame().frames_read == 1


def test_frames_that_are_not_paced_are_not_counted():
    session = streaming(b"1", max_unacknowledged_frames=2)
    for _ in range(5):
        session.receive(1, ServerFrame(heartbeat=Heartbeat(), running=Running(count=1)))
    assert session.next_frame() is None


def test_acknowledging_more_than_was_sent_is_the_servers_error():
    expect_breach(streaming(b"1"), ServerFrame(frames_read=2), "acknowledged")


def test_counts_of_frames_start_afresh_on_each_attempt():
    session = streaming(b"1", b"2")
    session.receive(1, answers(1, b"A", frames_read=1))
    session.lost(1)
    open_attempt(session)
    assert session.next_frame().frames_read == 0
    expect_breach(session, ServerFrame(frames_read=2), "acknowledged", attempt=2)


# ------------------------------------------------------------------ answers


def test_outputs_come_to_the_consumer_with_number_and_index():
    session = streaming(b"x", b"y")
    session.receive(1, answers(1, b"X", b"Y"))
    assert take_all(session) == [output(1, b"X"), output(2, b"Y")]
    assert session.delivery.take() is None
    assert session.counters.received == 2


def test_a_frame_is_taken_in_order_of_number_whichever_field_an_answer_stands_in():
    session = streaming(b"1", b"2", b"3", b"4", b"5")
    session.receive(
        1,
        ServerFrame(
            outputs=[OutputRun(5, [b"E"]), OutputRun(1, [b"A"])],
            parts=[OutputPart(4, 1, [b"d1"], True), OutputPart(4, 0, [b"d0"], False)],
            errors=[
                ItemFailure(3, ItemErrorKind.DECODE, "three"),
                ItemFailure(2, ItemErrorKind.HANDLER, "two"),
            ],
        ),
    )
    assert [(d.number, d.index, d.payload) for d in take_all(session)] == [
        (1, 0, b"A"),
        (2, 0, None),
        (3, 0, None),
        (4, 0, b"d0"),
        (4, 1, b"d1"),
        (5, 0, b"E"),
    ]


def test_unordered_outputs_are_delivered_as_they_come():
    session = streaming(b"x", b"y", b"z", ordered=False)
    session.receive(1, answers(3, b"Z"))
    session.receive(1, answers(1, b"X", b"Y"))
    assert take_all(session) == [output(3, b"Z"), output(1, b"X"), output(2, b"Y")]


@pytest.mark.parametrize("number", [0, 3])
@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_an_answer_to_an_input_that_never_was_is_the_servers_error(ordered, number):
    session = streaming(b"x", b"y", ordered=ordered)
    expect_breach(session, answers(number, b"?"), "never sent")


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_an_answer_to_an_input_that_waits_is_the_servers_error(ordered):
    session = streaming(b"x", ordered=ordered)
    session.push(b"y")
    expect_breach(session, answers(2, b"Y"), "not sent on this attempt")


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_an_answer_to_an_input_sent_only_on_an_older_attempt_is_the_servers_error(ordered):
    session = streaming(b"x", ordered=ordered)
    session.lost(1)
    open_attempt(session)
    expect_breach(session, answers(1, b"X"), "not sent on this attempt", attempt=2)
    assert session.ledger.unanswered == 1


def test_a_gap_between_inputs_is_the_servers_error_and_what_came_before_is_kept():
    session = streaming(b"x", b"y", b"z")
    expect_breach(
        session, ServerFrame(outputs=[OutputRun(1, [b"X"]), OutputRun(3, [b"Z"])]), "a gap"
    )
    assert take_all(session) == [output(1, b"X")]
    assert session.ledger.unanswered == 2


def test_an_item_error_out_of_turn_is_a_gap_too():
    expect_breach(streaming(b"x", b"y"), error(2), "a gap")


def test_a_gap_within_an_input_is_the_servers_error():
    session = streaming(b"x", ordered=False)
    session.receive(1, part(1, 0, b"a"))
    expect_breach(session, part(1, 2, b"c"), "a gap: output 2 of input 1")
    expect_breach(session, error(1, index=2), "a gap")
    expect_breach(session, part(1, 2, last=True), "a gap")


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_duplicates_are_dropped_and_counted(ordered):
    session = streaming(b"x", b"y", b"z", ordered=ordered)
    session.receive(1, answers(1, b"X"))
    session.receive(1, answers(1, b"X", b"Y"))
    session.receive(1, ServerFrame(outputs=[OutputRun(3, [b"Z"]), OutputRun(3, [b"Z"])]))
    session.receive(1, error(2))
    assert take_all(session) == [output(1, b"X"), output(2, b"Y"), output(3, b"Z")]
    assert (session.counters.received, session.counters.duplicates) == (3, 3)
    assert session.delivery.held_outputs == 0


def test_duplicate_parts_are_dropped_and_counted():
    session = streaming(b"x")
    session.receive(1, part(1, 0, b"a", b"b"))
    session.receive(1, part(1, 1, b"b", b"c"))
    session.receive(1, part(1, 0, b"a"))
    session.receive(1, part(1, 3, last=True))
    session.receive(1, part(1, 3, last=True))
    assert [(d.index, d.payload, d.last) for d in take_all(session)] == [
        (0, b"a", False),
        (1, b"b", False),
        (2, b"c", False),
        (3, None, True),
    ]
    assert session.counters.duplicates == 3
    assert session.ledger.complete is False
    assert session.ledger.unanswered == 0


def test_a_duplicate_of_what_an_older_attempt_brought_is_dropped():
    session = streaming(b"x", b"y")
    session.receive(1, answers(1, b"X"))
    session.lost(1)
    open_attempt(session)
    frames_out(session)
    session.receive(2, answers(1, b"X", b"Y"))
    assert take_all(session) == [output(1, b"X"), output(2, b"Y")]
    assert session.counters.duplicates == 1


def test_an_output_above_the_clients_limit_is_the_servers_error():
    session = streaming(b"x", max_item_bytes=5)
    expect_breach(session, answers(1, b"123456"), "6 bytes")
    assert session.delivery.take() is None
    assert session.ledger.unanswered == 1


def test_a_rejected_output_is_neither_received_nor_progress():
    session = streaming(b"x", max_item_bytes=5)
    expect_breach(session, answers(1, b"123456"), "6 bytes")
    assert not session.progressed
    assert session.counters.received == 0


def test_a_token_from_a_handler_without_state_is_the_servers_error():
    expect_breach(streaming(b"x"), ServerFrame(tokens=[StateToken(1, b"t")]), "token")


def test_only_what_is_new_is_progress():
    session = streaming(b"x", b"y")
    assert not session.progressed
    session.receive(1, answers(1, b"X"))
    assert session.progressed
    session.lost(1)
    assert not session.progressed
    open_attempt(session)
    frames_out(session)
    session.receive(2, answers(1, b"X"))
    assert not session.progressed
    session.receive(2, error(2))
    assert session.progressed


# ------------------------------------------------------------------ several outputs an input


def test_an_input_may_have_several_outputs():
    session = streaming(b"x", b"y")
    session.receive(1, part(1, 0, b"a", b"b"))
    session.receive(1, part(1, 2, b"c", last=True))
    session.receive(1, answers(2, b"Y"))
    assert take_all(session) == [
        output(1, b"a", last=False),
        output(1, b"b", index=1, last=False),
        output(1, b"c", index=2),
        output(2, b"Y"),
    ]


def test_an_input_may_have_no_outputs():
    session = streaming(b"x", b"y", window_items=2)
    session.receive(1, part(1, 0, last=True))
    assert session.ledger.unanswered == 1
    assert take_all(session) == [Delivery(1, 0, None, None, last=True)]
    assert session.ledger.taken_through == 1
    assert session.ledger.has_place


def test_an_empty_part_that_answers_nothing_is_the_servers_error():
    expect_breach(streaming(b"x"), part(1, 0), "an empty part")


def test_an_item_error_may_follow_outputs():
    session = streaming(b"x")
    session.receive(1, part(1, 0, b"a"))
    session.receive(1, error(1, index=1))
    first, second = take_all(session)
    assert first == output(1, b"a", last=False)
    assert (second.index, second.last, second.failure.kind) == (1, True, ItemErrorKind.HANDLER)


def test_unordered_inputs_may_interleave_their_outputs():
    session = streaming(b"x", b"y", ordered=False)
    session.receive(1, part(2, 0, b"y0"))
    session.receive(1, part(1, 0, b"x0"))
    session.receive(1, part(2, 1, b"y1", last=True))
    session.receive(1, part(1, 1, b"x1", last=True))
    assert [(d.number, d.index) for d in take_all(session)] == [(2, 0), (1, 0), (2, 1), (1, 1)]


def test_a_cut_input_goes_on_in_its_middle_where_the_handler_can():
    session = streaming(b"x", b"y", welcome={"restartable": True})
    session.receive(1, part(1, 0, b"a", b"b"))
    session.lost(1)
    open_attempt(session, restartable=True)
    assert session.next_frame().inputs == (InputRun(1, [b"x", b"y"], 2),)
    session.receive(2, part(1, 2, b"c", last=True))
    assert [(d.index, d.payload) for d in take_all(session)] == [(0, b"a"), (1, b"b"), (2, b"c")]


def test_each_input_that_goes_on_in_its_middle_begins_a_run():
    session = streaming(b"1", b"2", b"3", ordered=False, welcome={"restartable": True})
    session.receive(1, part(2, 0, b"b0"))
    session.lost(1)
    open_attempt(session, restartable=True)
    assert session.next_frame().inputs == (InputRun(1, [b"1"]), InputRun(2, [b"2", b"3"], 1))


def test_a_cut_input_is_interrupted_where_the_handler_cannot_go_on():
    session = make_client()
    session.push(b"x", item="the item")
    session.push(b"y")
    open_attempt(session)
    frames_out(session)
    session.receive(1, part(1, 0, b"a", b"b"))
    session.lost(1)
    open_attempt(session)
    assert numbers_in(frames_out(session)) == [2]
    first, second, third = take_all(session)
    assert (first.payload, second.payload) == (b"a", b"b")
    assert third.failure.kind is ItemErrorKind.INTERRUPTED
    assert (third.number, third.index, third.last, third.item) == (1, 2, True, "the item")


def test_halves_are_not_spliced_when_the_next_server_turns_out_unable_to_go_on():
    # The last welcome decides, and this one came before the input was sent again.
    session = streaming(b"x", welcome={"restartable": True})
    session.receive(1, part(1, 0, b"a"))
    session.lost(1)
    open_attempt(session, restartable=False)
    assert numbers_in(frames_out(session)) == []
    assert kinds(take_all(session)) == [(1, None), (1, ItemErrorKind.INTERRUPTED)]


# ------------------------------------------------------------------ attempts


def test_a_resume_sends_exactly_the_unanswered_under_their_old_numbers():
    session = streaming(b"1", b"2", b"3", b"4", b"5", ordered=False)
    session.receive(1, ServerFrame(outputs=[OutputRun(1, [b"A"]), OutputRun(4, [b"D"])]))
    session.lost(1)
    assert session.state is ClientState.IDLE
    assert session.begin().number == 2
    opened = session.next_frame().open
    assert (opened.attempt, opened.first_number) == (2, 2)
    session.receive(2, ServerFrame(welcome=Welcome()))
    assert inputs_in(frames_out(session)) == [(2, b"2"), (3, b"3"), (5, b"5")]
    assert (session.counters.sent, session.counters.replayed) == (5, 3)


def test_a_resume_goes_on_with_what_was_never_sent():
    session = streaming(b"1", welcome={"limits": Limits(window_items=1)})
    push_all(session, b"2")
    session.lost(1)
    push_all(session, b"3")
    open_attempt(session)
    push_all(session, b"4")
    assert inputs_in(frames_out(session)) == [(1, b"1"), (2, b"2"), (3, b"3"), (4, b"4")]
    assert (session.counters.sent, session.counters.replayed) == (4, 1)


def test_several_resumes_lose_nothing():
    session = make_client()
    push_all(session, b"1", b"2", b"3")
    for attempt in (1, 2, 3):
        assert open_attempt(session) == attempt
        assert numbers_in(frames_out(session)) == list(range(attempt, 4))
        session.receive(attempt, answers(attempt, b"out"))
        session.lost(attempt)
    assert [d.number for d in take_all(session)] == [1, 2, 3]
    assert session.counters.attempts == session.counters.welcomes == 3


def test_with_nothing_unanswered_the_open_names_the_next_number():
    session = streaming(b"1", b"2")
    session.receive(1, answers(1, b"A", b"B"))
    session.lost(1)
    session.begin()
    assert session.next_frame().open.first_number == 3


def test_a_late_frame_of_an_older_attempt_changes_nothing():
    session = streaming(b"x", b"y", b"z", end=True)
    session.receive(1, answers(1, b"X"))
    session.lost(1)
    open_attempt(session)
    frames_out(session)
    before = anatomy(session)
    late = ServerFrame(
        welcome=Welcome(replica="late"),
        refused=Refused(RefusalKind.VERSION),
        outputs=[OutputRun(2, [b"Y", b"Z"]), OutputRun(99, [b"?"])],
        errors=[ItemFailure(2, ItemErrorKind.HANDLER)],
        tokens=[StateToken(1, b"")],
        frames_read=77,
        drain=Drain(),
        error=StreamFailure(StreamErrorKind.INTERNAL),
        end=ServerEnd(3, 3, 3),
    )
    session.receive(1, late)
    assert session.counters.stale == 1
    session.counters.stale = 0
    assert anatomy(session) == before


def test_a_late_frame_between_attempts_changes_nothing():
    session = streaming(b"x")
    session.lost(1)
    before = anatomy(session)
    session.receive(1, answers(1, b"X"))
    assert session.counters.stale == 1
    session.counters.stale = 0
    assert anatomy(session) == before


def test_word_of_an_older_attempts_loss_changes_nothing():
    session = streaming()
    session.lost(1)
    session.lost(1)
    open_attempt(session)
    session.lost(1)
    assert session.state is ClientState.STREAMING


# ------------------------------------------------------------------ credit


def test_every_frame_carries_the_total_granted():
    session = streaming(b"1", b"2", output_items=4, output_bytes=100)
    session.receive(1, answers(1, bytes(10), bytes(20)))
    session.delivery.take()
    session.push(b"3")
    assert session.next_frame().credit == Credit(2 + 4 - 1, 30 + 100 - 20)


def test_duplicates_count_as_received():
    session = streaming(b"1", b"2", output_items=4, output_bytes=100)
    session.receive(1, answers(1, bytes(10)))
    session.receive(1, answers(1, bytes(10)))
    take_all(session)
    session.push(b"3")
    assert session.next_frame().credit == Credit(2 + 4, 20 + 100)


def test_a_resume_grants_afresh_minus_what_is_held_unread():
    session = streaming(b"1", b"2", b"3", output_items=4, output_bytes=100)
    session.receive(1, answers(1, bytes(10), bytes(20)))
    session.lost(1)
    session.begin()
    assert session.next_frame().credit == Credit(4 - 2, 100 - 30)


def test_a_resume_with_a_full_buffer_grants_nothing_until_the_consumer_takes():
    session = streaming(b"1", b"2", b"3", output_items=2)
    session.receive(1, answers(1, b"A", b"B"))
    session.lost(1)
    session.begin()
    assert session.next_frame().credit.outputs == 0
    session.receive(2, ServerFrame(welcome=Welcome()))
    assert session.next_frame().credit.outputs == 0
    expect_breach(session, answers(3, b"C"), "beyond the credit", attempt=2)
    session.delivery.take()
    assert session.next_frame().credit.outputs == 1


def test_an_output_without_credit_is_the_servers_error():
    session = streaming(b"1", b"2", b"3", output_items=2)
    session.receive(1, answers(1, b"A"))
    expect_breach(session, answers(2, b"B", b"C"), "beyond the credit of 2 outputs")
    assert [d.number for d in take_all(session)] == [1]
    assert session.ledger.unanswered == 2


def test_a_duplicate_without_credit_is_the_servers_error_too():
    session = streaming(b"1", b"2", output_items=1)
    session.receive(1, answers(1, b"A"))
    expect_breach(session, answers(1, b"A"), "beyond the credit")


def test_the_bytes_may_be_exceeded_by_the_last_output_only():
    session = streaming(b"1", b"2", output_bytes=10)
    session.receive(1, answers(1, bytes(1000)))
    expect_breach(session, answers(2, b""), "beyond the credit")


def test_item_errors_and_the_end_need_no_credit():
    session = streaming(b"1", b"2", end=True, output_items=1)
    session.receive(1, answers(1, b"A"))
    session.receive(
        1,
        ServerFrame(errors=[ItemFailure(2, ItemErrorKind.HANDLER)], end=ServerEnd(2, 2, 2)),
    )
    assert session.state is ClientState.ENDED


def test_a_frame_for_credit_alone_goes_at_half_the_budget():
    session = streaming(b"1", b"2", b"3", b"4", output_items=4)
    session.receive(1, answers(1, b"A", b"B", b"C", b"D"))
    session.delivery.take()
    assert session.next_frame() is None
    session.delivery.take()
    frame = session.next_frame()
    assert (frame.credit.outputs, frame.paced) == (6, False)
    assert session.next_frame() is None


def test_held_outputs_are_those_not_taken():
    session = streaming(b"1", b"2", b"3")
    session.receive(1, answers(1, b"A", b"B"))
    session.receive(1, error(3))
    assert session.delivery.held_outputs == 2
    session.delivery.take()
    assert session.delivery.held_outputs == 1
    take_all(session)
    assert session.delivery.held_outputs == 0


# ------------------------------------------------------------------ end


def test_a_good_end_ends_the_stream():
    session = streaming(b"x", b"y", end=True)
    session.receive(1, answers(1, b"X"))
    assert not session.ledger.complete
    session.receive(1, answers(2, b"Y", end=ServerEnd(2, 2, 2)))
    assert session.state is ClientState.ENDED
    assert session.over
    assert session.ledger.complete
    assert session.next_frame() is None
    assert len(take_all(session)) == 2


def test_a_stream_without_inputs_ends_too():
    session = make_client()
    session.ledger.finish()
    assert session.ledger.complete
    open_attempt(session)
    assert session.next_frame().end == ClientEnd(0)
    session.receive(1, ServerFrame(end=ServerEnd(0, 0, 0)))
    assert session.state is ClientState.ENDED


def test_the_end_waits_until_every_input_is_sent():
    session = streaming(welcome={"limits": Limits(window_items=1)})
    push_all(session, b"x", b"y")
    session.ledger.finish()
    assert session.next_frame().end is None
    session.receive(1, answers(1, b"X"))
    frame = session.next_frame()
    assert (numbers_in([frame]), frame.end) == ([2], ClientEnd(2))


def test_the_end_is_said_once_an_attempt():
    session = streaming(b"x")
    session.ledger.finish()
    assert [frame.end for frame in frames_out(session)] == [ClientEnd(1)]
    session.lost(1)
    open_attempt(session)
    assert [frame.end for frame in frames_out(session)] == [ClientEnd(1)]


def test_the_end_counts_what_this_attempt_carried():
    session = streaming(b"x", b"y", b"z", end=True)
    session.receive(1, answers(1, b"X"))
    session.lost(1)
    open_attempt(session)
    frames_out(session)
    session.receive(2, answers(2, b"Y", b"Z", end=ServerEnd(3, 2, 2)))
    assert session.state is ClientState.ENDED


def test_inputs_that_failed_at_the_client_count_in_no_end():
    session = make_client()
    session.push(b"x")
    session.push_failure(ItemErrorKind.INPUT_ENCODE, "no")
    session.ledger.finish()
    open_attempt(session)
    frames_out(session)
    session.receive(1, answers(1, b"X", end=ServerEnd(2, 1, 1)))
    assert session.state is ClientState.ENDED


@pytest.mark.parametrize(
    "end",
    [ServerEnd(1, 2, 2), ServerEnd(3, 2, 2), ServerEnd(2, 1, 2), ServerEnd(2, 2, 1)],
    ids=["last too low", "last too high", "received", "answered"],
)
def test_an_end_that_does_not_add_up_is_the_servers_error(end):
    session = streaming(b"x", b"y", end=True)
    session.receive(1, answers(1, b"X", b"Y"))
    expect_breach(session, ServerFrame(end=end), "counts in the end frame do not match")
    assert session.state is not ClientState.ENDED


def test_an_end_with_an_answer_missing_is_the_servers_error():
    session = streaming(b"x", b"y", end=True)
    session.receive(1, answers(1, b"X"))
    expect_breach(session, ServerFrame(end=ServerEnd(2, 2, 2)), "1 lack an answer")
    assert session.ledger.unanswered == 1


def test_an_end_with_an_input_half_answered_is_the_servers_error():
    session = streaming(b"x", end=True)
    session.receive(1, part(1, 0, b"a"))
    expect_breach(session, ServerFrame(end=ServerEnd(1, 1, 1)), "1 lack an answer")


def test_an_end_before_the_clients_is_the_servers_error():
    session = streaming(b"x")
    session.receive(1, answers(1, b"X"))
    expect_breach(session, ServerFrame(end=ServerEnd(1, 1, 1)), "before the client's end")


def test_an_end_of_the_older_attempt_does_not_count_for_the_next():
    session = streaming(b"x", end=True)
    session.lost(1)
    open_attempt(session)
    expect_breach(
        session, ServerFrame(end=ServerEnd(1, 1, 1)), "before the client's end", attempt=2
    )


def test_a_stream_is_complete_only_when_finished_and_answered():
    session = streaming(b"x")
    session.receive(1, answers(1, b"X"))
    assert not session.ledger.complete
    session.ledger.finish()
    assert session.ledger.complete


# ------------------------------------------------------------------ drain


def test_after_a_drain_no_inputs_go_out():
    session = streaming(b"x")
    session.receive(1, ServerFrame(drain=Drain(1000)))
    session.push(b"y")
    session.ledger.finish()
    assert session.state is ClientState.DRAINING
    assert session.next_frame() is None


def test_a_drained_client_leaves_once_what_it_sent_is_answered():
    session = streaming(b"x", b"y")
    session.receive(1, ServerFrame(drain=Drain(1000)))
    push_all(session, b"z")
    session.receive(1, answers(1, b"X"))
    assert session.state is ClientState.DRAINING
    session.receive(1, error(2))
    assert session.state is ClientState.LEFT
    assert session.over
    assert session.next_frame() is None
    session.lost(1)
    open_attempt(session)
    assert inputs_in(frames_out(session)) == [(3, b"z")]


def test_a_drain_with_nothing_under_way_lets_the_client_leave_at_once():
    session = streaming()
    session.push(b"x")
    session.receive(1, ServerFrame(drain=Drain()))
    assert session.state is ClientState.LEFT


def test_answers_beside_the_drain_are_taken_first():
    session = streaming(b"x")
    session.receive(1, answers(1, b"X", drain=Drain()))
    assert session.state is ClientState.LEFT
    assert take_all(session) == [output(1, b"X")]


def test_a_draining_client_still_acknowledges():
    session = streaming(b"x", b"y", max_unacknowledged_frames=2)
    session.receive(1, ServerFrame(drain=Drain()))
    session.receive(1, answers(1, b"X"))
    assert session.next_frame().frames_read == 1


@pytest.mark.parametrize(
    "late",
    [
        answers(1, b"X"),
        error(1),
        ServerFrame(drain=Drain(5)),
        ServerFrame(error=StreamFailure(StreamErrorKind.INTERNAL, "its grace is over")),
        ServerFrame(welcome=Welcome()),
        ServerFrame(frames_read=99),
    ],
    ids=["a duplicate", "an item error", "a drain", "a stream error", "a welcome", "a count"],
)
def test_what_crosses_the_clients_leaving_is_dropped(late):
    session = streaming(b"x")
    session.receive(1, answers(1, b"X", drain=Drain(1000)))
    session.receive(1, late)
    assert session.state is ClientState.LEFT
    assert session.grace_ms == 1000
    assert session.failure is None
    assert take_all(session) == [output(1, b"X")]


def test_an_end_that_crossed_the_drain_is_a_good_end():
    session = streaming(b"x", end=True)
    session.receive(1, ServerFrame(drain=Drain()))
    session.receive(1, answers(1, b"X"))
    assert session.state is ClientState.LEFT
    session.receive(1, ServerFrame(end=ServerEnd(1, 1, 1)))
    assert session.state is ClientState.ENDED


# ------------------------------------------------------------------ item errors


def test_an_item_error_stands_in_its_inputs_place_with_the_item():
    session = make_client()
    for item in ("one", "two", "three"):
        session.push(item.encode(), item)
    open_attempt(session)
    frames_out(session)
    failure = ItemFailure(2, ItemErrorKind.DECODE, "no", 0, retryable=True)
    session.receive(
        1, ServerFrame(outputs=[OutputRun(1, [b"A"]), OutputRun(3, [b"C"])], errors=[failure])
    )
    assert take_all(session) == [
        output(1, b"A"),
        Delivery(2, 0, None, failure, last=True, item="two", size=3),
        output(3, b"C"),
    ]
    assert session.counters.received == 3


def test_an_input_that_cannot_be_sent_fails_in_its_turn():
    session = make_client()
    cause = ValueError("cannot encode")
    session.push(b"1")
    session.push_failure(ItemErrorKind.INPUT_ENCODE, "no", "the item", cause)
    session.push(b"3")
    assert session.delivery.take() is None
    open_attempt(session)
    assert inputs_in(frames_out(session)) == [(1, b"1"), (3, b"3")]
    session.receive(1, ServerFrame(outputs=[OutputRun(1, [b"A"]), OutputRun(3, [b"C"])]))
    first, second, third = take_all(session)
    assert (first, third) == (output(1, b"A"), output(3, b"C"))
    assert (second.item, second.cause, second.last) == ("the item", cause, True)
    assert second.failure.kind is ItemErrorKind.INPUT_ENCODE
    assert session.ledger.taken_through == 3


def test_several_failures_in_a_row_come_once_their_turn_has_come():
    session = streaming(b"1")
    session.push_failure(ItemErrorKind.INPUT_ENCODE, "two")
    session.push_failure(ItemErrorKind.INPUT_ENCODE, "three")
    session.receive(1, part(1, 0, b"a"))
    assert kinds(take_all(session)) == [(1, None)]
    session.receive(1, part(1, 1, last=True))
    assert [d.number for d in take_all(session)] == [1, 2, 3]


def test_unordered_failures_come_at_once():
    session = make_client(ordered=False)
    session.push(b"1")
    session.push_failure(ItemErrorKind.INPUT_ENCODE, "two")
    assert kinds(take_all(session)) == [(2, ItemErrorKind.INPUT_ENCODE)]
    assert session.ledger.unanswered == 1


def test_a_failure_holds_its_place_until_it_is_taken():
    session = make_client(window_items=1)
    session.push_failure(ItemErrorKind.INPUT_ENCODE, "no")
    assert not session.ledger.has_place
    session.delivery.take()
    assert session.ledger.has_place


def test_a_failed_input_is_not_sent_on_later_attempts():
    session = streaming(b"1")
    session.push_failure(ItemErrorKind.INPUT_ENCODE, "two")
    session.lost(1)
    open_attempt(session)
    assert numbers_in(frames_out(session)) == [1]


# ------------------------------------------------------------------ cancelling


def test_an_input_cancelled_before_it_was_sent_is_not_sent():
    session = streaming(ordered=False)
    session.push(b"1", item="one")
    session.push(b"2")
    session.cancel(1)
    (delivery,) = take_all(session)
    assert (delivery.number, delivery.item) == (1, None)
    assert delivery.failure.kind is ItemErrorKind.CANCELLED
    frame = session.next_frame()
    assert numbers_in([frame]) == [2]
    assert not frame.cancelled


def test_an_ordered_cancel_before_sending_waits_its_turn():
    session = streaming(b"1")
    session.push(b"2")
    session.cancel(2)
    assert session.delivery.take() is None
    session.receive(1, answers(1, b"A"))
    assert kinds(take_all(session)) == [(1, None), (2, ItemErrorKind.CANCELLED)]
    assert session.ledger.unanswered == 0


def test_a_cancelled_last_input_does_not_hold_up_the_end():
    session = streaming(b"1", welcome={"limits": Limits(window_items=1)})
    session.push(b"2")
    session.cancel(2)
    session.ledger.finish()
    assert session.next_frame().end == ClientEnd(2)


def test_an_input_cancelled_after_it_was_sent_is_named_to_the_server_once():
    session = streaming(b"1", b"2")
    session.cancel(2)
    session.cancel(2)
    frame = session.next_frame()
    assert list(frame.cancelled) == [NumberRange(2, 2)]
    assert not frame.paced
    assert session.next_frame() is None
    assert session.ledger.unanswered == 2


def test_a_cancelled_input_still_gets_its_one_answer():
    session = streaming(b"1", b"2")
    session.cancel(1)
    session.cancel(2)
    session.receive(1, answers(1, b"A"))
    session.receive(1, error(2, kind=ItemErrorKind.CANCELLED))
    assert kinds(take_all(session)) == [(1, None), (2, ItemErrorKind.CANCELLED)]


def test_a_cancelled_input_is_not_sent_again():
    session = streaming(b"1", b"2")
    session.cancel(1)
    session.lost(1)
    open_attempt(session)
    assert numbers_in(frames_out(session)) == [2]
    assert kinds(take_all(session)) == [(1, ItemErrorKind.CANCELLED)]


@pytest.mark.parametrize("number", [0, 1, 3, 10**18])
def test_cancelling_what_is_not_unanswered_changes_nothing(number):
    session = streaming(b"1", b"2")
    session.receive(1, answers(1, b"A"))
    before = anatomy(session)
    session.cancel(number)
    assert anatomy(session) == before


# ------------------------------------------------------------------ runs of inputs


def test_inputs_are_accepted_together_under_consecutive_numbers():
    session = streaming(b"1")
    assert session.push_all([b"2", b"3"], ["two", "three"], 2) == 2
    assert session.push_all([b"4"], ["four"], 1) == 4
    assert session.ledger.accepted == session.ledger.unanswered == 4
    assert session.next_frame().inputs == (InputRun(2, [b"2", b"3", b"4"]),)


def test_inputs_accepted_together_wait_for_an_attempt_like_any():
    session = make_client()
    session.push_all([b"1", b"2"], [None, None], 2)
    session.push(b"3")
    open_attempt(session)
    assert inputs_in(frames_out(session)) == [(1, b"1"), (2, b"2"), (3, b"3")]


def test_each_input_of_a_run_comes_back_with_its_own_failure():
    session = make_client()
    session.push_all([b"1", b"2", b"3"], ["one", "two", "three"], 3)
    open_attempt(session)
    frames_out(session)
    session.receive(1, ServerFrame(outputs=[OutputRun(1, [b"A"])], errors=[failed(2), failed(3)]))
    assert [d.item for d in take_all(session)] == [None, "two", "three"]


def failed(number: int) -> ItemFailure:
    return ItemFailure(number, ItemErrorKind.HANDLER, "bad")


def test_no_run_follows_the_finish():
    session = make_client()
    session.ledger.finish()
    with pytest.raises(LocalProtocolError, match="finish"):
        session.push_all([b"x"], [None], 1)


def test_the_caller_may_go_on_with_its_own_list():
    session = streaming()
    payloads, items = [b"1", b"2"], ["one", "two"]
    session.push_all(payloads, items, 2)
    payloads.clear()
    items.clear()
    session.lost(1)
    open_attempt(session)
    assert inputs_in(frames_out(session)) == [(1, b"1"), (2, b"2")]


def test_room_is_what_the_window_leaves_in_items_and_bytes():
    session = make_client(window_items=5, window_bytes=100)
    assert session.ledger.room == (5, 100)
    session.push_all([bytes(10), bytes(20)], [None, None], 30)
    assert session.ledger.room == (3, 70)
    session.push_failure(ItemErrorKind.INPUT_ENCODE, "no", size=7)
    assert session.ledger.room == (2, 63)


def test_room_grows_in_bytes_with_the_answer_and_in_items_with_the_taking():
    session = streaming(bytes(10), bytes(20), window_items=5, window_bytes=100)
    session.receive(1, answers(1, b"A"))
    assert session.ledger.room == (3, 80)
    session.delivery.take()
    assert session.ledger.room == (4, 80)


def test_a_large_input_leaves_no_room():
    session = make_client(window_bytes=10)
    session.push(bytes(1000))
    assert session.ledger.room[1] < 0


def test_a_run_of_inputs_is_cut_where_the_servers_window_ends():
    session = streaming(welcome={"limits": Limits(window_items=3)})
    session.push_all([b"1", b"2", b"3", b"4", b"5"], [None] * 5, 5)
    assert numbers_in(frames_out(session)) == [1, 2, 3]
    session.receive(1, answers(1, b"A", b"B"))
    assert numbers_in(frames_out(session)) == [4, 5]
    assert session.counters.sent == 5


def test_a_run_of_inputs_is_cut_where_the_servers_window_ends_in_bytes():
    session = streaming(welcome={"limits": Limits(window_bytes=10)})
    session.push_all([bytes(4), bytes(6), b"", bytes(1)], [None] * 4, 11)
    assert numbers_in(frames_out(session)) == [1, 2, 3]
    session.receive(1, answers(1, b"A"))
    assert numbers_in(frames_out(session)) == [4]


def test_inputs_above_the_servers_limit_fail_out_of_the_midst_of_a_run():
    session = streaming(welcome={"limits": Limits(item_bytes=5)}, ordered=False)
    payloads = [bytes(6), b"2", bytes(7), bytes(8), b"5", bytes(9)]
    session.push_all(payloads, list("abcdef"), sum(map(len, payloads)))
    assert inputs_in(frames_out(session)) == [(2, b"2"), (5, b"5")]
    too_large = take_all(session)
    assert [(d.number, d.item) for d in too_large] == [(1, "a"), (3, "c"), (4, "d"), (6, "f")]
    assert {d.failure.kind for d in too_large} == {ItemErrorKind.INPUT_TOO_LARGE}
    assert session.counters.sent == 2


def test_an_input_cancelled_out_of_the_midst_of_a_run_is_not_sent():
    session = streaming()
    session.push_all([b"1", b"2", b"3", b"4"], [None] * 4, 4)
    session.cancel(2)
    session.cancel(4)
    assert inputs_in(frames_out(session)) == [(1, b"1"), (3, b"3")]
    session.receive(1, ServerFrame(outputs=[OutputRun(1, [b"A"]), OutputRun(3, [b"C"])]))
    cancelled = ItemErrorKind.CANCELLED
    assert kinds(take_all(session)) == [(1, None), (2, cancelled), (3, None), (4, cancelled)]


def test_a_resume_of_a_run_counts_what_was_sent_before_and_what_was_not():
    session = streaming(welcome={"limits": Limits(window_items=2)})
    session.push_all([b"1", b"2", b"3", b"4"], [None] * 4, 4)
    frames_out(session)
    assert (session.counters.sent, session.counters.replayed) == (2, 0)
    session.lost(1)
    open_attempt(session)
    assert numbers_in(frames_out(session)) == [1, 2, 3, 4]
    assert (session.counters.sent, session.counters.replayed) == (4, 2)


# ------------------------------------------------------------------ runs of outputs


def run_taken(session: ClientSession, limit: int) -> tuple[int, list[bytes]]:
    run = session.delivery.take_run(limit)
    return run.first_number, list(run.payloads)


def test_outputs_are_taken_together():
    session = streaming(b"1", b"2", b"3")
    session.receive(1, answers(1, b"A", b"B", b"C"))
    assert run_taken(session, 10) == (1, [b"A", b"B", b"C"])
    assert session.delivery.take_run(10) is None
    assert not session.delivery.ready


def test_outputs_are_taken_together_up_to_a_limit():
    session = streaming(b"1", b"2", b"3", b"4", b"5")
    session.receive(1, answers(1, b"A", b"B", b"C", b"D", b"E"))
    assert run_taken(session, 2) == (1, [b"A", b"B"])
    assert session.delivery.take() == output(3, b"C")
    assert run_taken(session, 2) == (4, [b"D", b"E"])
    assert not session.delivery.ready


def test_whatever_is_not_a_run_is_left_to_be_taken_singly():
    session = streaming(b"1", b"2", b"3", b"4")
    session.receive(
        1,
        ServerFrame(
            outputs=[OutputRun(1, [b"A"]), OutputRun(4, [b"D"])],
            parts=[OutputPart(2, 0, [b"b", b"c"], True)],
            errors=[failed(3)],
        ),
    )
    assert session.delivery.take_run(9).first_number == 1
    assert session.delivery.take_run(9) is None
    assert session.delivery.take() == output(2, b"b", last=False)
    assert session.delivery.take() == output(2, b"c", index=1)
    assert session.delivery.take_run(9) is None
    assert session.delivery.take().failure.number == 3
    assert run_taken(session, 9) == (4, [b"D"])


def test_a_run_holds_its_places_until_it_is_released():
    session = streaming(b"1", b"2", b"3", window_items=3)
    session.receive(1, answers(1, b"A", b"B", b"C"))
    run, ledger = session.delivery.take_run(3), session.ledger
    assert (ledger.room[0], ledger.has_place, ledger.taken_through) == (0, False, 0)
    session.delivery.ack_consumed(OutputRun(1, run.payloads[:2]))
    assert (ledger.room[0], ledger.has_place, ledger.taken_through) == (2, True, 2)
    session.delivery.ack_consumed(OutputRun(3, run.payloads[2:]))
    assert (ledger.room[0], ledger.taken_through) == (3, 3)


def test_a_run_holds_its_credit_until_it_is_released():
    session = streaming(b"1", b"2", b"3", output_items=4, output_bytes=100)
    session.receive(1, answers(1, bytes(10), bytes(20), bytes(30)))
    run = session.delivery.take_run(3)
    assert session.delivery.held_outputs == 3
    assert session.next_frame() is None
    session.push(b"4")
    assert session.next_frame().credit == Credit(4, 100)
    session.delivery.ack_consumed(OutputRun(1, run.payloads[:2]))
    assert session.delivery.held_outputs == 1
    assert session.next_frame().credit == Credit(3 + 4 - 1, 60 + 100 - 30)
    session.delivery.ack_consumed(OutputRun(3, run.payloads[2:]))
    session.receive(1, ServerFrame(frames_read=2))
    session.push(b"5")
    assert session.next_frame().credit == Credit(3 + 4, 60 + 100)
    assert session.delivery.held_outputs == 0


def test_what_is_not_released_is_not_granted_again_on_a_resume():
    session = streaming(b"1", b"2", b"3", output_items=4, output_bytes=100)
    session.receive(1, answers(1, bytes(10), bytes(20)))
    session.delivery.take_run(2)
    session.lost(1)
    session.begin()
    assert session.next_frame().credit == Credit(4 - 2, 100 - 30)


def test_runs_may_be_released_in_another_order():
    session = streaming(b"1", b"2", b"3", b"4")
    session.receive(1, answers(1, b"A", b"B", b"C", b"D"))
    first, second = session.delivery.take_run(2), session.delivery.take_run(2)
    session.delivery.ack_consumed(second)
    assert session.ledger.taken_through == 0
    session.delivery.ack_consumed(first)
    assert session.ledger.taken_through == 4


NOT_SENT = "not sent on this attempt"

# Inputs 1 and 2 are answered, 3 to 7 were sent, 8 waits, and 9 never was. What is special about a
# run, the run, and what is taken of it and what the server is blamed for: in order, in any order.
SPECIAL_RUNS = {
    "as it should be": (3, [b"c", b"d"], ([3, 4], ""), ([3, 4], "")),
    "all there is": (3, [b"o"] * 5, ([3, 4, 5, 6, 7], ""), ([3, 4, 5, 6, 7], "")),
    "duplicates at its beginning": (1, [b"o"] * 4, ([3, 4], ""), ([3, 4], "")),
    "duplicates only": (1, [b"a", b"b"], ([], ""), ([], "")),
    "a gap before it": (4, [b"d", b"e"], ([], "a gap"), ([4, 5], "")),
    "an end that was not sent": (
        3,
        [b"o"] * 6,
        ([3, 4, 5, 6, 7], NOT_SENT),
        ([3, 4, 5, 6, 7], NOT_SENT),
    ),
    "a gap, and not sent": (7, [b"g", b"h"], ([], "a gap"), ([7], NOT_SENT)),
    "an end that never was": (7, [b"g", b"h", b"i"], ([], "a gap"), ([7], NOT_SENT)),
    "nothing that ever was": (9, [b"i"], ([], "never sent"), ([], "never sent")),
    "one too large": (3, [b"c", bytes(11), b"e"], ([3], "11 bytes"), ([3], "11 bytes")),
    "large only together": (3, [bytes(10)] * 3, ([3, 4, 5], ""), ([3, 4, 5], "")),
}


@pytest.mark.parametrize("case", SPECIAL_RUNS)
@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_a_special_run_is_taken_as_far_as_its_outputs_may_be(ordered, case):
    first, payloads, in_order, in_any_order = SPECIAL_RUNS[case]
    taken, breach = in_order if ordered else in_any_order
    session = half_answered(ordered=ordered)
    if breach:
        expect_breach(session, answers(first, *payloads), breach)
    else:
        session.receive(1, answers(first, *payloads))
    assert take_all(session) == [output(number, payloads[number - first]) for number in taken]
    assert session.counters.received == 2 + len(taken)
    assert session.ledger.unanswered == 6 - len(taken)
    assert session.delivery.held_outputs == 0


def half_answered(*, ordered: bool) -> ClientSession:
    """A client of eight inputs: two are answered and taken, five more were sent."""
    session = streaming(
        *(b"%d" % n for n in range(1, 8)),
        ordered=ordered,
        max_item_bytes=10,
        welcome={"limits": Limits(window_items=7)},
    )
    session.receive(1, answers(1, b"a", b"b"))
    take_all(session)
    session.push(b"8")
    return session


def test_a_run_goes_on_behind_a_failure_of_the_clients_own():
    session = streaming(b"1", b"2")
    session.push_failure(ItemErrorKind.INPUT_ENCODE, "three")
    push_all(session, b"4", b"5")
    frames_out(session)
    session.receive(1, answers(1, b"A", b"B"))
    session.receive(1, answers(4, b"D", b"E"))
    assert kinds(take_all(session)) == [
        (1, None),
        (2, None),
        (3, ItemErrorKind.INPUT_ENCODE),
        (4, None),
        (5, None),
    ]


def test_a_run_that_answers_what_failed_at_the_client_is_the_servers_error():
    session = streaming(b"1", b"2")
    session.push_failure(ItemErrorKind.INPUT_ENCODE, "three")
    session.push(b"4")
    frames_out(session)
    # With the second answer the failure's turn has come, so that it is answered already.
    session.receive(1, answers(1, b"A", b"B", b"?", b"D"))
    assert session.counters.duplicates == 1
    session = streaming(b"1", b"2")
    session.push_failure(ItemErrorKind.INPUT_ENCODE, "three")
    session.push(b"4")
    frames_out(session)
    expect_breach(session, answers(3, b"?", b"D"), "not sent on this attempt")


def test_a_run_that_answers_a_half_answered_input_anew_is_a_duplicate_there():
    session = streaming(b"1", b"2", ordered=False)
    session.receive(1, part(1, 0, b"a"))
    session.receive(1, answers(1, b"a", b"B"))
    assert [d.number for d in take_all(session)] == [1, 2]
    assert session.counters.duplicates == 1
    assert session.ledger.unanswered == 1


def test_a_cancelled_input_may_be_answered_within_a_run():
    session = streaming(b"1", b"2", b"3")
    session.cancel(2)
    session.receive(1, answers(1, b"A", b"B", b"C"))
    assert kinds(take_all(session)) == [(1, None), (2, None), (3, None)]
    session.lost(1)
    open_attempt(session)
    assert session.delivery.take() is None


class OneByOne(AnswerReceiver):
    """Takes no run in as a whole."""

    def _all_new(self, *_: object) -> bool:
        return False


class Twins:
    """Two clients that see and do the same: one may take runs in as a whole, the other must not."""

    def __init__(self, random: Random, *, ordered: bool) -> None:
        self.random = random
        flow = FlowControl(
            window_items=random.randint(3, 12),
            output_items=random.choice([4, 8, 4096]),
            output_bytes=random.choice([20, 4096]),
            max_item_bytes=10,
        )
        self.client, self.twin = (
            ClientSession(stream_id=STREAM_ID, codec=CODEC, flow=flow, ordered=ordered)
            for _ in range(2)
        )
        self.twin._answers = OneByOne(self.twin.delivery, self.twin.counters, flow.max_item_bytes)
        self.attempt = 0
        self.paced = 0  # frames that both have sent on this attempt

    @property
    def both(self) -> tuple[ClientSession, ClientSession]:
        return self.client, self.twin

    def outcome(self, step) -> object:
        """What a step comes to, which must be the same."""
        found = []
        for session in self.both:
            try:
                found.append(step(session))
            except RemoteProtocolError as error:
                found.append(str(error))
        assert found[0] == found[1]
        return found[0]

    def same(self) -> None:
        for name in ("counters", "state", "progressed", "suspects", "idle"):
            assert getattr(self.client, name) == getattr(self.twin, name), name
        for name in ("room", "unanswered", "unsent", "taken_through", "sent_through", "complete"):
            assert getattr(self.client.ledger, name) == getattr(self.twin.ledger, name), name
        assert self.client.delivery.held_outputs == self.twin.delivery.held_outputs

    def step(self) -> None:
        match self.random.choice(["push", "push", "answer", "answer", "take", "cancel", "break"]):
            case "push":
                if self.client.ledger.has_place:
                    if self.random.random() < 0.1:
                        self.outcome(lambda s: s.push_failure(ItemErrorKind.INPUT_ENCODE, "no"))
                    else:
                        count = self.random.randint(1, self.client.ledger.room[0])
                        items = [b"x"] * count
                        self.outcome(lambda s: s.push_all(items, items, count))
                self.speak()
            case "answer":
                self.answer()
            case "take":
                self.outcome(take_all)
            case "cancel":
                number = self.random.randint(1, self.client.ledger.accepted + 1)
                self.outcome(lambda s: s.cancel(number))
            case "break":
                if self.random.random() < 0.3:
                    self.begin()

    def begin(self) -> None:
        if self.attempt:
            self.outcome(lambda s: s.lost(self.attempt))
        self.attempt = self.outcome(lambda s: s.begin(known=Limits()).number)
        self.paced = 0
        self.speak()
        limits = Limits(window_items=self.random.randint(1, 12))
        welcome = Welcome(limits=limits, restartable=self.random.random() < 0.5)
        self.outcome(lambda s: s.receive(self.attempt, ServerFrame(welcome=welcome)))
        self.speak()

    def speak(self) -> None:
        self.paced += sum(frame.paced for frame in self.outcome(frames_out))

    def answer(self) -> None:
        """Of consecutive inputs, and mostly of such as lack one."""
        random, open_inputs = self.random, list(self.client.suspects) or [1]
        first = open_inputs[0] if random.random() < 0.6 else random.choice(open_inputs)
        count, sizes = random.randint(1, 6), [0, 1, 2]
        if random.random() < 0.8:
            count = sum(number in open_inputs for number in range(first, first + count))
        else:
            first = max(0, first + random.choice([0, 0, -1, -2, 1]))
            sizes = random.choice([[0, 1, 2], [4, 10], [0, 11]])
        payloads = [bytes(random.choice(sizes)) for _ in range(count)]
        frame = answers(first, *payloads, frames_read=self.paced)
        if random.random() < 0.1:
            frame = part(first, 0, *payloads[:2], last=random.random() < 0.5)
        if self.outcome(lambda s: s.receive(self.attempt, frame)) is not None:
            self.begin()  # a breach ends the attempt


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_runs_come_to_the_same_as_their_outputs_one_by_one(ordered, seed):
    twins = Twins(Random(seed), ordered=ordered)
    twins.begin()
    for _ in range(150):
        twins.step()
        twins.same()


# ------------------------------------------------------------------ what a predictor asks


def test_sent_through_counts_what_went_out_on_any_attempt():
    session = streaming(b"1", b"2", welcome={"limits": Limits(window_items=2)})
    session.push(b"3")
    assert session.ledger.sent_through == 2
    session.lost(1)
    session.begin()
    assert session.ledger.sent_through == 2


def test_suspects_are_what_this_server_has_got_and_not_answered():
    session = streaming(b"1", b"2", b"3", ordered=False)
    session.push(b"4")
    session.receive(1, answers(2, b"B"))
    assert list(session.suspects) == [1, 3]
    frames_out(session)
    assert list(session.suspects) == [1, 3, 4]
    session.lost(1)
    assert list(session.suspects) == []
    session.begin()
    session.next_frame()
    assert list(session.suspects) == []
    session.receive(2, ServerFrame(welcome=Welcome(limits=Limits(window_items=2))))
    frames_out(session)
    assert list(session.suspects) == [1, 3]


def settled(session: ClientSession, number: int, payload: bytes) -> None:
    session.resolve_quarantined(number, payload, None)


@pytest.mark.parametrize("ordered", [True, False])
def test_an_input_that_was_set_aside_goes_on_no_attempt(ordered):
    session = streaming(b"1", b"2", b"3", ordered=ordered, end=True)
    session.lost(1)
    assert session.quarantine([2]) == [2]
    open_attempt(session)
    frames = frames_out(session)
    assert numbers_in(frames) == [1, 3]
    assert list(session.suspects) == [1, 3]
    assert not any(frame.end for frame in frames)  # since there is no saying what is still to come
    settled(session, 2, b"B")
    assert session.has_output
    assert session.next_frame().end == ClientEnd(3)


def test_answers_behind_an_input_that_was_set_aside_wait_for_it():
    session = streaming(b"1", b"2", b"3", b"4")
    session.lost(1)
    session.quarantine([1, 3])
    open_attempt(session)
    frames_out(session)
    session.receive(2, answers(2, b"B"))
    session.receive(2, error(4))
    assert take_all(session) == []
    assert session.delivery.held_outputs == 1
    assert session.ledger.unanswered == 4
    settled(session, 3, b"C")
    assert take_all(session) == []
    settled(session, 1, b"A")
    taken = take_all(session)
    assert [(d.number, d.payload) for d in taken] == [(1, b"A"), (2, b"B"), (3, b"C"), (4, None)]
    assert session.delivery.held_outputs == 0
    assert session.ledger.taken_through == 4
    assert session.counters.isolated == 2


def test_order_is_demanded_of_what_this_attempt_carries():
    session = streaming(b"1", b"2", b"3", b"4")
    session.lost(1)
    session.quarantine([2])
    open_attempt(session)
    frames_out(session)
    session.receive(2, answers(1, b"A"))
    expect_breach(session, answers(4, b"D"), "a gap: an answer to input 4", attempt=2)


def test_an_input_without_output_cannot_be_answered_before_its_turn():
    session = streaming(b"1", b"2")
    session.lost(1)
    session.quarantine([1])
    open_attempt(session)
    frames_out(session)
    expect_breach(session, part(2, 0, last=True), "before its turn", attempt=2)


def test_what_waits_is_not_sent_again_and_comes_once():
    session = streaming(b"1", b"2", b"3")
    session.lost(1)
    session.quarantine([1])
    open_attempt(session)
    frames_out(session)
    session.receive(2, answers(2, b"B"))
    session.lost(2)
    open_attempt(session)
    assert numbers_in(frames_out(session)) == [3]
    session.receive(3, answers(2, b"B"))
    assert session.counters.duplicates == 1
    session.receive(3, answers(3, b"C"))
    settled(session, 1, b"A")
    assert [d.payload for d in take_all(session)] == [b"A", b"B", b"C"]


def test_a_failure_that_was_found_elsewhere_is_that_inputs():
    session = make_client()
    session.push(b"1", "the input")
    open_attempt(session)
    frames_out(session)
    session.lost(1)
    session.quarantine([1])
    session.resolve_quarantined(1, None, ItemFailure(7, ItemErrorKind.POISON, "breaks"))
    (delivery,) = take_all(session)
    assert (delivery.number, delivery.failure.number, delivery.item) == (1, 1, "the input")


def test_an_answer_that_comes_too_late_from_elsewhere_is_dropped():
    session = streaming(b"1", b"2")
    settled(session, 1, b"A")
    assert take_all(session) == []
    session.lost(1)
    session.quarantine([1])
    settled(session, 1, b"A")
    settled(session, 1, b"A")
    assert len(take_all(session)) == 1


def test_only_what_lacks_all_of_its_answer_is_set_aside():
    session = streaming(b"1", b"2", b"3", ordered=False, welcome={"restartable": True})
    session.receive(1, part(1, 0, b"a"))
    session.receive(1, answers(2, b"B"))
    with pytest.raises(LocalProtocolError, match="between attempts"):
        session.quarantine([3])
    session.lost(1)
    assert session.quarantine([1, 2, 3, 4]) == [3]


@pytest.mark.parametrize(
    ("kind", "may"),
    [
        (HandlerKind.ONE_TO_ONE, True),
        (HandlerKind.BATCH, True),
        (HandlerKind.ONE_TO_MANY, False),
    ],
)
def test_inputs_that_depend_on_others_are_not_set_aside(kind, may):
    session = make_client()
    assert not session.may_quarantine
    open_attempt(session, handler_kind=kind)
    assert session.may_quarantine is may


def test_the_control_is_the_first_input_that_was_answered():
    session = streaming(b"1", b"2", b"3", ordered=False)
    assert session.ledger.known_good is None
    session.receive(1, error(3))
    session.receive(1, answers(1, b"A"))
    assert session.ledger.known_good == (3, b"3")


def test_an_input_may_have_a_higher_number_than_its_turn_would_give_it():
    session = make_client(ordered=False)
    session.push_at(7, b"g")
    open_attempt(session)
    assert inputs_in(frames_out(session)) == [(7, b"g")]
    with pytest.raises(LocalProtocolError, match="above all"):
        session.push_at(7, b"g")
    with pytest.raises(LocalProtocolError, match="ordered"):
        make_client().push_at(1, b"a")


def test_inputs_that_failed_at_the_client_are_no_suspects():
    session = streaming(b"1")
    session.push_failure(ItemErrorKind.INPUT_ENCODE, "no")
    session.push(b"3")
    frames_out(session)
    assert list(session.suspects) == [1, 3]


def test_a_withdrawn_input_is_forgotten():
    session = streaming(bytes(10), bytes(20), bytes(30), ordered=False, window_items=3)
    session.lost(1)
    session.drop(2)
    assert session.delivery.take() is None
    assert session.ledger.unanswered == 2
    assert session.ledger.room == (1, 4 * KIB * KIB - 40)
    open_attempt(session)
    assert numbers_in(frames_out(session)) == [1, 3]
    session.receive(2, ServerFrame(outputs=[OutputRun(1, [b"A"]), OutputRun(3, [b"C"])]))
    take_all(session)
    assert session.ledger.taken_through == 3


def test_a_withdrawn_input_counts_in_no_end():
    session = streaming(b"1", b"2", ordered=False, end=True)
    session.lost(1)
    session.drop(2)
    assert not session.ledger.complete
    session.drop(1)
    assert session.ledger.complete


@pytest.mark.parametrize("how", ["partly answered", "cancelled"])
def test_nothing_of_a_withdrawn_input_comes_back(how):
    session = streaming(b"1", b"2", ordered=False, welcome={"restartable": True})
    if how == "cancelled":
        session.cancel(1)
    else:
        session.receive(1, part(1, 0, b"a"))
        take_all(session)
    session.lost(1)
    session.drop(1)
    open_attempt(session, restartable=True)
    assert session.next_frame().inputs == (InputRun(2, [b"2"]),)
    assert session.delivery.take() is None


def test_an_answer_to_a_withdrawn_input_is_a_duplicate():
    session = streaming(b"1", b"2", ordered=False)
    session.lost(1)
    session.drop(1)
    open_attempt(session)
    frames_out(session)
    session.receive(2, answers(1, b"A", b"B"))
    assert [d.number for d in take_all(session)] == [2]
    assert session.counters.duplicates == 1


@pytest.mark.parametrize("reason", ["ordered", "under way"])
def test_inputs_are_dropped_only_between_attempts_and_from_unordered_streams(reason):
    session = streaming(b"1", ordered=reason == "ordered")
    if reason == "ordered":
        session.lost(1)
    with pytest.raises(LocalProtocolError, match="dropped"):
        session.drop(1)
    assert session.ledger.unanswered == 1
