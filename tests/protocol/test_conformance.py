"""What docs/protocol.md demands beyond the ordinary course: both ends against frames by hand."""

import pytest

from servestream_client.config import FlowControl, Watchdog
from servestream_client.errors import FrameLostError, ItemErrorKind, RemoteProtocolError
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.frames import (
    BlockedOn,
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
    Open,
    Order,
    OutputPart,
    OutputRun,
    RefusalKind,
    Running,
    ServerEnd,
    ServerFrame,
    StreamErrorKind,
    StreamFailure,
    Welcome,
)
from servestream_client.protocol.server import ServerOffer, ServerSession
from servestream_client.protocol.states import ClientState, ServerState

CODEC = CodecId("bytes")
PLENTY = Credit(1000, 1_000_000)
SINGLE = pytest.mark.parametrize("kind", [HandlerKind.ONE_TO_ONE, HandlerKind.BATCH])
ORDERS = pytest.mark.parametrize("order", [Order.INPUT, Order.ANY])


def serving(
    kind: HandlerKind = HandlerKind.ONE_TO_ONE, credit: Credit = PLENTY, **opened
) -> ServerSession:
    server = ServerSession(ServerOffer(codec=CODEC, handler_kind=kind))
    fields = {"stream_id": bytes(16), "attempt": 1, "codec": CODEC, **opened}
    server.receive(ClientFrame(open=Open(**fields), credit=credit))
    server.welcome()
    server.next_frame()
    return server


def inputs(first: int, *payloads: bytes, start: int = 0) -> ClientFrame:
    return ClientFrame(inputs=[InputRun(first, payloads, start)])


def parts_out(server: ServerSession) -> list[OutputPart]:
    return [part for frame in iter(server.next_frame, None) for part in frame.parts]


def client(*payloads: bytes, watchdog: Watchdog | None = None, **welcome) -> ClientSession:
    """A client on its first attempt that was welcomed and has sent these inputs."""
    session = ClientSession(stream_id=bytes(16), codec=CODEC, flow=FlowControl(), watchdog=watchdog)
    session.begin()
    session.next_frame()
    session.receive(1, ServerFrame(welcome=Welcome(**welcome)))
    for payload in payloads:
        session.push(payload)
    list(iter(session.next_frame, None))
    return session


# ------------------------------------------------------------------ outputs that were received


@SINGLE
@ORDERS
@pytest.mark.parametrize("start", [1, 2, 2**40])
def test_an_output_that_was_received_is_neither_computed_nor_sent_again(kind, order, start):
    server = serving(kind, credit=Credit(), order=order)
    server.receive(inputs(3, b"x", b"y", start=start))
    assert server.intake.startable_inputs == 1
    assert server.intake.next_run(9).payloads == [b"y"]
    assert parts_out(server) == [
        OutputPart(3, start, (), last=True)
    ]  # for which it needs no credit
    server.outbox.output(3, b"again", last=True)
    server.receive(ClientFrame(credit=PLENTY))
    server.outbox.output(4, b"Y", last=True)
    (frame,) = iter(server.next_frame, None)
    assert frame.outputs == [OutputRun(4, [b"Y"])]


@SINGLE
def test_such_an_input_keeps_its_turn_and_counts_in_the_end(kind):
    server = serving(kind)
    server.receive(inputs(1, b"x"))
    server.receive(inputs(2, b"y", start=1))
    server.receive(ClientFrame(end=ClientEnd(2)))
    assert parts_out(server) == []
    assert server.outbox.unanswered == 2
    server.intake.next_run(1)
    server.outbox.output(1, b"X", last=True)
    (frame,) = iter(server.next_frame, None)
    assert (frame.outputs, frame.parts) == ([OutputRun(1, [b"X"])], [OutputPart(2, 1, (), True)])
    assert frame.end == ServerEnd(2, 2, 2)


def test_such_an_input_cannot_be_cancelled_any_more():
    server = serving()
    server.receive(inputs(1, b"x"))
    server.receive(inputs(2, b"y", start=1))
    server.receive(ClientFrame(cancelled=[NumberRange(1, 2)]))
    (frame,) = iter(server.next_frame, None)
    assert [error.number for error in frame.errors] == [1]
    assert frame.parts == [OutputPart(2, 1, (), True)]


def test_a_handler_of_many_outputs_goes_on_at_the_index():
    server = serving(HandlerKind.ONE_TO_MANY)
    server.receive(inputs(1, b"x", start=1))
    assert server.intake.next_run(9).start_index == 1


def test_an_item_error_keeps_its_place_behind_outputs_that_wait_for_credit():
    server = serving(credit=Credit(1, 100), order=Order.ANY)
    server.receive(inputs(1, b"a", b"b", b"bad"))
    server.intake.next_run(3)
    server.outbox.outputs(1, [b"A", b"B"])
    server.outbox.fail(3, ItemErrorKind.HANDLER, "bad")
    (frame,) = iter(server.next_frame, None)
    assert (frame.outputs, frame.errors) == ([OutputRun(1, [b"A"])], [])
    server.receive(ClientFrame(cancelled=[NumberRange(2, 2)]))  # its output is on its way
    assert server.next_frame() is None
    server.receive(ClientFrame(credit=Credit(2, 100)))
    (frame,) = iter(server.next_frame, None)
    assert (frame.outputs, len(frame.errors)) == ([OutputRun(2, [b"B"])], 1)


# ------------------------------------------------------------------ limits


def test_more_frames_than_the_client_may_have_under_way_are_its_error():
    server = serving(limits=Limits(unacknowledged_frames=3))
    for number in range(1, 4):
        server.receive(inputs(number, b"x"))
    with pytest.raises(RemoteProtocolError, match="4 paced frames came unacknowledged"):
        server.receive(inputs(4, b"x"))


def test_an_acknowledgement_makes_room_for_further_frames():
    server = serving(limits=Limits(unacknowledged_frames=1))
    for number in range(1, 20):
        server.receive(inputs(number, b"x"))
        assert server.next_frame().frames_read == number


@pytest.mark.parametrize(("asked", "patience"), [(20, 100), (1, 100), (100, 100), (250, 250)])
def test_a_server_is_as_patient_as_what_it_granted(asked, patience):
    """A client that asks for more than it gets need not be quicker than its server is."""
    server = serving(heartbeat_interval_ms=asked)
    assert server.heartbeat_ms == patience
    for _ in range(6):  # three intervals, in ticks of half a one
        server.tick(Running())
        assert not server.silent
    server.tick(Running())
    assert server.silent


def test_what_does_not_fit_every_server_travels_with_no_open():
    session = client(b"x")
    session.lost(1)
    session.push(bytes(100_000))
    session.begin(known=Limits())
    assert [run.payloads for run in session.next_frame().inputs] == [[b"x"]]
    session = client()
    session.lost(1)
    session.push_all([b"x" * 40_000] * 4, [None] * 4, 160_000)  # each of which would fit
    session.begin(known=Limits())
    assert [len(run.payloads) for run in session.next_frame().inputs] == [1]


def test_the_open_of_a_stream_with_nothing_unanswered_names_the_next_number():
    session = client(b"x", b"y")
    session.receive(1, ServerFrame(outputs=[OutputRun(1, [b"X", b"Y"])]))
    session.lost(1)
    session.begin()
    assert session.next_frame().open.first_number == 3


def test_a_frame_with_nothing_in_it_is_a_sign_of_life():
    session, server = client(), serving()
    session.receive(1, ServerFrame())
    server.receive(ClientFrame())
    assert (session.state, server.state) == (ClientState.STREAMING, ServerState.SERVING)
    assert (session.next_frame(), server.next_frame()) == (None, None)


# ------------------------------------------------------------------ what the client cannot resume


@pytest.mark.parametrize("kind", [HandlerKind.UNSPECIFIED, HandlerKind.STATEFUL])
def test_a_handler_of_unknown_kind_is_left(kind):
    session = ClientSession(stream_id=bytes(16), codec=CODEC, flow=FlowControl())
    session.begin()
    session.next_frame()
    session.receive(1, ServerFrame(welcome=Welcome(handler_kind=kind)))
    assert session.state is ClientState.REFUSED
    assert session.refusal.kind is RefusalKind.VERSION
    assert "kind" in session.refusal.text or "stateful" in session.refusal.text


# ------------------------------------------------------------------ loss


@pytest.mark.parametrize(
    "frame",
    [
        ServerFrame(outputs=[OutputRun(2, [b"Y"])]),
        ServerFrame(errors=[ItemFailure(2, ItemErrorKind.HANDLER)]),
        ServerFrame(parts=[OutputPart(2, 0, (), True)]),
        ServerFrame(parts=[OutputPart(1, 1, (b"b",), True)]),
        ServerFrame(heartbeat=Heartbeat(2, 1)),
        ServerFrame(heartbeat=Heartbeat(2, 0), running=Running(blocked_on=BlockedOn.INPUT)),
    ],
    ids=str,
)
def test_what_the_loss_of_a_frame_explains_is_a_loss(frame):
    session = client(b"x", b"y")
    with pytest.raises(FrameLostError):
        session.receive(1, frame)


@pytest.mark.parametrize("came", [0, 1, 2])
def test_an_end_of_a_server_that_did_not_get_all_is_a_loss(came):
    session = client(b"x", b"y", b"z")
    session.ledger.finish()
    list(iter(session.next_frame, None))
    if came:
        session.receive(1, ServerFrame(outputs=[OutputRun(1, [b"X"] * came)]))
    with pytest.raises(FrameLostError, match=f"3 inputs were sent, of which {came}"):
        session.receive(1, ServerFrame(end=ServerEnd(3, came, came)))


@pytest.mark.parametrize("end", [ServerEnd(3, 2, 3), ServerEnd(3, 3, 2), ServerEnd(2, 2, 2)])
def test_an_end_that_no_loss_explains_is_a_breach(end):
    session = client(b"x", b"y", b"z")
    session.ledger.finish()
    list(iter(session.next_frame, None))
    session.receive(1, ServerFrame(outputs=[OutputRun(1, [b"X", b"Y"])]))
    with pytest.raises(RemoteProtocolError) as caught:
        session.receive(1, ServerFrame(end=end))
    assert not isinstance(caught.value, FrameLostError)


def test_a_heartbeat_before_the_welcome_tells_that_the_welcome_was_lost():
    session = ClientSession(stream_id=bytes(16), codec=CODEC, flow=FlowControl())
    session.begin()
    session.next_frame()
    with pytest.raises(FrameLostError, match="no welcome"):
        session.receive(1, ServerFrame(heartbeat=Heartbeat()))


def test_what_a_server_waits_for_is_judged_by_the_frame_that_says_it():
    """Another server may report seldom: what it said before an input came is no longer true."""
    session = client()
    session.receive(
        1, ServerFrame(heartbeat=Heartbeat(), running=Running(blocked_on=BlockedOn.INPUT))
    )
    session.push(b"x")
    session.next_frame()
    session.receive(1, ServerFrame(heartbeat=Heartbeat(1, 0)))


@pytest.mark.parametrize("beat", [Heartbeat(0, 0), Heartbeat(9, 0), Heartbeat(2, 0)])
def test_positions_below_what_came_and_those_of_the_other_way_are_no_loss(beat):
    session = client(b"x", b"y")
    session.receive(1, ServerFrame(outputs=[OutputRun(1, [b"X"])]))
    session.receive(1, ServerFrame(heartbeat=beat))
    server = serving()
    server.receive(inputs(1, b"x", b"y"))
    server.receive(ClientFrame(heartbeat=Heartbeat(1, 99)))


# ------------------------------------------------------------------ texts


def test_texts_name_what_there_was():
    for frame, said in (
        (inputs(4, b"x"), "input 4 came, but the open frame names input 5 as the first"),
        (ClientFrame(end=ClientEnd(3)), "the end names input 3, but the open frame names input 5"),
    ):
        with pytest.raises(RemoteProtocolError, match=said):
            serving(first_number=5).receive(frame)
    for frame, said in (
        (inputs(6, b"x"), "input 6 came, but input 6 came before"),
        (ClientFrame(end=ClientEnd(5)), "the end names input 5, but input 6 came before"),
    ):
        server = serving(first_number=5)
        server.receive(inputs(6, b"x"))
        with pytest.raises(RemoteProtocolError, match=said):
            server.receive(frame)


# ------------------------------------------------------------------ after the last word

LATE = [
    ServerFrame(error=StreamFailure(StreamErrorKind.INTERNAL, "its grace is over")),
    ServerFrame(outputs=[OutputRun(1, [b"X"])]),
    ServerFrame(outputs=[OutputRun(9, [b"?"])]),
    ServerFrame(welcome=Welcome()),
    ServerFrame(drain=Drain()),
    ServerFrame(frames_read=99),
    ServerFrame(heartbeat=Heartbeat(1, 99)),
]


@pytest.mark.parametrize("late", LATE, ids=str)
@pytest.mark.parametrize(
    "last",
    [
        ServerFrame(outputs=[OutputRun(1, [b"X"])], drain=Drain(1000)),
        ServerFrame(error=StreamFailure(StreamErrorKind.OVERLOADED, "busy")),
        ServerFrame(outputs=[OutputRun(1, [b"X"])], end=ServerEnd(1, 1, 1)),
    ],
    ids=["left", "failed", "ended"],
)
def test_what_comes_after_the_last_word_is_dropped(last, late):
    session = client(b"x")
    if last.end is not None:
        session.ledger.finish()
        session.next_frame()
    session.receive(1, last)
    before = (
        session.state,
        session.failure,
        session.delivery.held_outputs,
        session.counters.duplicates,
    )
    session.receive(1, late)
    assert session.over
    assert before == (
        session.state,
        session.failure,
        session.delivery.held_outputs,
        session.counters.duplicates,
    )


def test_what_comes_after_a_refusal_is_dropped():
    session = ClientSession(stream_id=bytes(16), codec=CODEC, flow=FlowControl())
    session.begin()
    session.next_frame()
    session.receive(1, ServerFrame(welcome=Welcome(protocol_version=2)))
    session.receive(1, ServerFrame(error=StreamFailure(StreamErrorKind.INTERNAL)))
    assert session.state is ClientState.REFUSED


def test_a_drained_attempt_whose_grace_ends_speaks_against_no_input():
    session = client(b"x")
    session.receive(1, ServerFrame(drain=Drain(1000)))
    session.receive(1, ServerFrame(error=StreamFailure(StreamErrorKind.INTERNAL, "grace")))
    assert session.state is ClientState.FAILED
    assert not session.blamed


def test_an_error_beside_an_end_holds():
    session = client(b"x")
    session.ledger.finish()
    session.next_frame()
    session.receive(
        1, ServerFrame(error=StreamFailure(StreamErrorKind.INTERNAL), end=ServerEnd(1, 1, 1))
    )
    assert session.state is ClientState.FAILED


# ------------------------------------------------------------------ cancelled inputs and breaks


def test_an_input_cancelled_before_a_break_fails_at_the_client_and_is_not_named_again():
    session = client(b"x", b"y")
    session.cancel(2)
    assert session.next_frame().cancelled == [NumberRange(2, 2)]
    session.lost(1)
    session.begin(known=Limits())
    frame = session.next_frame()
    assert [(run.first_number, run.payloads) for run in frame.inputs] == [(1, [b"x"])]
    assert not frame.cancelled
    session.receive(2, ServerFrame(welcome=Welcome()))
    assert all(not frame.cancelled for frame in iter(session.next_frame, None))
    session.receive(2, ServerFrame(outputs=[OutputRun(1, [b"X"])]))
    taken = list(iter(session.delivery.take, None))
    assert [d.failure.kind if d.failure else d.payload for d in taken] == [
        b"X",
        ItemErrorKind.CANCELLED,
    ]
