"""The opening at its client: what is asked for, what a first frame comes to, and what fits."""

import pytest
from streaming import (
    CODEC,
    FULL,
    KIB,
    STREAM_ID,
    answers,
    expect_breach,
    frames_out,
    inputs_in,
    make_client,
    numbers_in,
    open_attempt,
    output,
    push_all,
    streaming,
    take_all,
)

from servestream_client.config import FlowControl
from servestream_client.errors import FrameLostError, LocalProtocolError, RemoteProtocolError
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.client.opening import (
    Offer,
    first_word,
    incompatibility,
    limits_of,
    milliseconds,
    open_of,
)
from servestream_client.protocol.frames import (
    PROTOCOL_VERSION,
    CodecId,
    Credit,
    HandlerKind,
    Heartbeat,
    InputRun,
    Limits,
    Order,
    OutputRun,
    RefusalKind,
    Refused,
    ServerFrame,
    StreamErrorKind,
    StreamFailure,
    Welcome,
)
from servestream_client.protocol.states import ClientState

OFFER = Offer(bytes(16), CodecId("bytes", "print"), application="digits")
WELCOME = Welcome(application="digits", handler_kind=HandlerKind.ONE_TO_ONE)
REFUSED = Refused(RefusalKind.DRAINING, "leaving")
FAILED = StreamFailure(StreamErrorKind.INTERNAL, "broken")


def test_the_open_says_what_is_the_same_on_each_attempt_and_what_is_not():
    offer = Offer(
        bytes(16),
        CodecId("bytes"),
        ordered=False,
        parameters={"a": "b"},
        isolated=True,
        limits=Limits(window_items=7),
        heartbeat_ms=100,
        item_timeout_ms=200,
    )
    opened = open_of(offer, attempt=3, first_number=5, deadline_ms=300)
    assert (opened.attempt, opened.first_number, opened.deadline_ms) == (3, 5, 300)
    assert (opened.order, opened.isolated, opened.parameters) == (Order.ANY, True, {"a": "b"})
    assert (opened.heartbeat_interval_ms, opened.item_timeout_ms) == (100, 200)
    assert opened.limits.window_items == 7
    assert open_of(OFFER, attempt=1, first_number=1, deadline_ms=0).order is Order.INPUT


@pytest.mark.parametrize(
    ("said", "comes_to"),
    [
        ({"welcome": WELCOME}, WELCOME),
        ({"welcome": WELCOME, "error": FAILED}, WELCOME),
        ({"refused": REFUSED}, REFUSED),
        ({"error": FAILED}, FAILED),
    ],
)
def test_a_first_frame_comes_to_one_thing(said, comes_to):
    assert first_word(OFFER, ServerFrame(**said)) is comes_to


def test_a_welcome_that_does_not_fit_comes_to_a_refusal():
    said = first_word(OFFER, ServerFrame(welcome=Welcome(application="letters")))
    assert isinstance(said, Refused)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"refused": REFUSED, "welcome": WELCOME}, RemoteProtocolError),
        ({"refused": REFUSED, "error": FAILED}, RemoteProtocolError),
        ({}, RemoteProtocolError),
        ({"heartbeat": Heartbeat(0, 0)}, FrameLostError),
    ],
)
def test_what_no_first_frame_may_say(said, error):
    with pytest.raises(error):
        first_word(OFFER, ServerFrame(**said))


@pytest.mark.parametrize(
    ("welcome", "kind"),
    [
        ({"protocol_version": 99, "application": "letters"}, RefusalKind.VERSION),
        ({"application": "letters", "kind": HandlerKind.STATEFUL}, RefusalKind.APPLICATION),
        ({"kind": HandlerKind.STATEFUL}, RefusalKind.VERSION),
        ({"kind": HandlerKind.UNSPECIFIED}, RefusalKind.VERSION),
        ({"application": ""}, None),
        ({"kind": HandlerKind.ONE_TO_MANY}, None),
        ({"kind": HandlerKind.BATCH}, None),
        ({}, None),
    ],
)
def test_what_fits(welcome, kind):
    fields = {"application": "digits", **welcome}
    fields["handler_kind"] = fields.pop("kind", HandlerKind.ONE_TO_ONE)
    refused = incompatibility(OFFER, Welcome(**fields))
    assert (refused.kind if refused else None) is kind


def test_limits_are_what_is_configured():
    flow = FlowControl(window_items=5, max_unacknowledged_frames=3, max_item_bytes=77)
    limits = limits_of(flow)
    assert (limits.window_items, limits.unacknowledged_frames, limits.item_bytes) == (5, 3, 77)


@pytest.mark.parametrize(("seconds", "said"), [(None, 0), (1.5, 1500), (1e-9, 1)])
def test_no_time_is_said_as_none(seconds, said):
    assert milliseconds(seconds) == said


# ------------------------------------------------------------------ through a session


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
        chunked_bytes=9,
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
