"""The server's side of one attempt, by examples."""

from random import Random

import pytest

from servestream_client.errors import ItemErrorKind, LocalProtocolError, RemoteProtocolError
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
    ItemMetadata,
    Limits,
    NumberRange,
    Open,
    Order,
    OutputPart,
    OutputRun,
    RefusalKind,
    Refused,
    ServerEnd,
    ServerFrame,
    StateToken,
    StreamErrorKind,
    StreamFailure,
)
from servestream_client.protocol.server import Input, ServerOffer, ServerSession
from servestream_client.protocol.states import ServerState

KIB = 1024
CODEC = CodecId("bytes", "v1")
STREAM_ID = bytes(range(16))
FULL = bytes(64 * KIB)
"""Fills a frame."""
PLENTY = Credit(1_000_000, 1_000_000_000)


def make_server(**offer) -> ServerSession:
    return ServerSession(ServerOffer(codec=CODEC, **offer))


MANY = {"handler_kind": HandlerKind.ONE_TO_MANY}


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
    while server.next_input() is not None:
        pass
    return server


def inputs(first: int, *payloads: bytes, start: int = 0, **fields) -> ClientFrame:
    return ClientFrame(inputs=[InputRun(first, payloads, start)], **fields)


def end(last: int) -> ClientFrame:
    return ClientFrame(end=ClientEnd(last))


def started(server: ServerSession) -> list[int]:
    numbers = []
    while (item := server.next_input()) is not None:
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


# ------------------------------------------------------------------ opening


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"protocol_version": PROTOCOL_VERSION + 1}, RefusalKind.VERSION),
        ({"protocol_version": 0}, RefusalKind.VERSION),
        ({"stream_id": b"short"}, RefusalKind.BAD_OPEN),
        ({"stream_id": bytes(17)}, RefusalKind.BAD_OPEN),
        ({"attempt": 0}, RefusalKind.BAD_OPEN),
        ({"first_number": 0}, RefusalKind.BAD_OPEN),
        ({"application": "letters"}, RefusalKind.APPLICATION),
        ({"codec": CodecId("protobuf", "v1")}, RefusalKind.CODEC),
        ({"codec": CodecId("bytes", "v2")}, RefusalKind.CODEC),
        ({"token": StateToken(1, b"t")}, RefusalKind.TOKEN),
    ],
)
def test_what_does_not_fit_is_refused(fields, kind):
    server = make_server(application="digits")
    server.receive(ClientFrame(open=opening(**fields), inputs=[InputRun(1, [b"x"])]))
    assert server.state is ServerState.LINGERING
    frame = server.next_frame()
    assert (frame.refused.kind, frame.welcome) == (kind, None)
    assert server.next_frame() is None
    assert server.next_input() is None


def test_misfits_are_checked_in_the_order_of_the_specification():
    fields = {
        "protocol_version": 9,
        "stream_id": b"",
        "application": "letters",
        "codec": CodecId("other"),
        "token": StateToken(1, b"t"),
    }
    mended = {
        "protocol_version": PROTOCOL_VERSION,
        "stream_id": STREAM_ID,
        "application": "digits",
        "codec": CODEC,
    }
    found = []
    for name, value in [("", None), *mended.items()]:
        if name:
            fields[name] = value
        server = make_server(application="digits")
        server.receive(ClientFrame(open=opening(**fields)))
        found.append(server.next_frame().refused.kind)
    assert found == [
        RefusalKind.VERSION,
        RefusalKind.BAD_OPEN,
        RefusalKind.APPLICATION,
        RefusalKind.CODEC,
        RefusalKind.TOKEN,
    ]


@pytest.mark.parametrize(("wanted", "named"), [("", "letters"), ("digits", ""), ("a", "a")])
def test_applications_differ_only_if_both_have_a_name(wanted, named):
    server = make_server(application=named)
    server.receive(ClientFrame(open=opening(application=wanted)))
    assert server.state is ServerState.DECIDING


def test_a_clients_words_are_escaped_in_a_refusal():
    server = make_server(application="digits")
    server.receive(ClientFrame(open=opening(application="\x1b[2J" + "a" * 5000)))
    text = server.next_frame().refused.text
    assert "\x1b" not in text
    assert len(text) < 1000


def test_the_first_frame_must_open():
    expect_breach(make_server(), inputs(1, b"x"), "does not open")


def test_nothing_goes_out_before_the_service_has_decided():
    server = make_server()
    server.receive(ClientFrame(open=opening()))
    assert server.state is ServerState.DECIDING
    assert server.next_frame() is None


def test_a_welcome_says_who_serves_and_what_holds():
    offer = {
        "application": "digits",
        "code_version": "7",
        "replica": "r1",
        "handler_kind": HandlerKind.BATCH,
        "restartable": True,
        "limits": Limits(window_items=10, window_bytes=5000, unacknowledged_frames=9),
    }
    server = make_server(**offer)
    server.receive(
        ClientFrame(
            open=opening(limits=Limits(window_items=20, window_bytes=4000, item_bytes=5)),
        )
    )
    server.welcome()
    assert server.state is ServerState.SERVING
    welcome = server.next_frame().welcome
    assert welcome.protocol_version == PROTOCOL_VERSION
    for name in ("application", "code_version", "replica", "handler_kind", "restartable"):
        assert getattr(welcome, name) == offer[name]
    assert welcome.limits == Limits(window_items=10, window_bytes=4000, unacknowledged_frames=4)


def test_the_service_may_refuse():
    server = make_server()
    server.receive(ClientFrame(open=opening(), inputs=[InputRun(1, [b"x"])]))
    server.refuse(RefusalKind.OVERLOADED, "full", 500)
    assert server.next_frame() == ServerFrame(refused=Refused(RefusalKind.OVERLOADED, "full", 500))
    assert server.state is ServerState.LINGERING
    assert server.next_input() is None


@pytest.mark.parametrize("early", [True, False], ids=["before the open", "after the decision"])
def test_the_service_decides_once_and_after_the_open(early):
    server = make_server() if early else serving()
    with pytest.raises(LocalProtocolError):
        server.welcome()
    if not early:
        with pytest.raises(LocalProtocolError):
            server.refuse(RefusalKind.OVERLOADED, "full")


def test_inputs_with_the_open_are_taken_only_after_the_welcome():
    server = make_server()
    server.receive(
        ClientFrame(
            open=opening(),
            inputs=[InputRun(1, [b"x", b"y"])],
            credit=Credit(1, 100),
            end=ClientEnd(2),
        )
    )
    assert server.next_input() is None
    assert server.unanswered == 0
    server.welcome()
    assert server.state is ServerState.FINISHING
    assert server.next_input() == Input(1, b"x")
    server.output(1, b"X", last=True)
    server.output(2, b"Y", last=True)
    frame = server.next_frame()
    assert frame.welcome is not None
    assert answers_in([frame]) == [(1, 0, b"X")]


def test_inputs_with_the_open_are_a_paced_frame():
    server = make_server(limits=Limits(unacknowledged_frames=2))
    server.receive(ClientFrame(open=opening(), inputs=[InputRun(1, [b"x"])]))
    server.welcome()
    assert server.next_frame().frames_read == 1


@pytest.mark.parametrize(
    ("limits", "payloads"),
    [
        (Limits(window_items=2), [b"1", b"2", b"3"]),
        (Limits(window_bytes=5), [b"123", b"123"]),
        (Limits(item_bytes=2), [b"123"]),
    ],
    ids=["items", "bytes", "item"],
)
def test_too_much_with_the_open_is_refused_as_overload_to_come_again_at_once(limits, payloads):
    server = make_server(limits=limits)
    server.receive(ClientFrame(open=opening(), inputs=[InputRun(1, payloads)]))
    server.welcome()
    refused = server.next_frame().refused
    assert (refused.kind, refused.retry_after_ms) == (RefusalKind.OVERLOADED, 0)
    assert server.state is ServerState.LINGERING
    assert server.next_input() is None


def test_one_input_with_the_open_may_exceed_the_window():
    server = make_server(limits=Limits(window_bytes=2))
    server.receive(ClientFrame(open=opening(), inputs=[InputRun(1, [b"123"])]))
    server.welcome()
    assert server.state is ServerState.SERVING


def test_a_second_open_is_the_clients_error():
    expect_breach(serving(), ClientFrame(open=opening()), "open frame may not come")


@pytest.mark.parametrize("frame", [ClientFrame(open=opening()), ClientFrame(), inputs(1, b"x")])
def test_nothing_may_come_between_open_and_decision(frame):
    server = make_server()
    server.receive(ClientFrame(open=opening()))
    with pytest.raises(RemoteProtocolError):
        server.receive(frame)


# ------------------------------------------------------------------ inputs


def test_inputs_reach_the_handler_in_turn():
    server = serving(b"x", b"y", offer=MANY)
    server.receive(inputs(5, b"z", start=3))
    assert server.next_input() == Input(1, b"x", 0)
    assert server.next_input() == Input(2, b"y", 0)
    assert server.next_input() == Input(5, b"z", 3)
    assert server.next_input() is None


def test_a_start_index_belongs_to_the_first_input_of_a_run():
    server = serving(offer=MANY)
    server.receive(inputs(1, b"x", b"y", start=2))
    assert [server.next_input().start_index, server.next_input().start_index] == [2, 0]


@pytest.mark.parametrize("first", [1, 2])
def test_numbers_must_ascend_over_the_whole_attempt(first):
    expect_breach(serving(b"x", b"y"), inputs(first, b"z"), "numbers ascend")


def test_numbers_must_ascend_within_a_frame():
    frame = ClientFrame(inputs=[InputRun(3, [b"x"]), InputRun(1, [b"y"])])
    expect_breach(serving(), frame, "numbers ascend")


def test_no_number_may_lie_below_the_first_one_announced():
    expect_breach(serving(first_number=5), inputs(4, b"x"), "the open named input 5 the first")
    server = serving(first_number=5)
    server.receive(inputs(5, b"x"))
    assert started(server) == [5]


def test_the_window_is_enforced_in_items():
    limits = {"limits": Limits(window_items=2)}
    expect_breach(serving(b"1", b"2", offer=limits), inputs(3, b"3"), "window of 2 inputs")


def test_the_clients_own_window_is_enforced_too():
    server = serving(b"1", b"2", limits=Limits(window_items=2))
    expect_breach(server, inputs(3, b"3"), "window of 2 inputs")


def test_the_window_is_enforced_in_bytes():
    limits = {"limits": Limits(window_bytes=10)}
    server = serving(bytes(6), bytes(4), offer=limits)
    expect_breach(server, inputs(3, b"x"), "10 bytes")


def test_one_input_is_always_allowed_however_large():
    server = serving(bytes(1000), offer={"limits": Limits(window_bytes=10)})
    assert server.unanswered == 1


def test_an_answer_makes_room_in_the_window():
    server = computing(bytes(10), offer={"limits": Limits(window_items=1, window_bytes=10)})
    server.output(1, b"X", last=True)
    expect_breach(server, inputs(2, b"x"), "window")
    assert numbers_out(server) == [1]
    server = computing(bytes(10), offer={"limits": Limits(window_items=1, window_bytes=10)})
    server.output(1, b"X", last=True)
    server.next_frame()
    server.receive(inputs(2, bytes(10)))
    assert server.unanswered == 1


def test_the_item_limit_is_enforced():
    limits = {"limits": Limits(item_bytes=5)}
    assert serving(b"12345", offer=limits).unanswered == 1
    expect_breach(serving(offer=limits), inputs(1, b"123456"), "6 bytes")


def test_metadata_is_for_all_inputs_of_a_run_or_none():
    run = InputRun(1, [b"x", b"y"], metadata=[ItemMetadata()])
    expect_breach(serving(), ClientFrame(inputs=[run]), "metadata")
    server = serving()
    server.receive(
        ClientFrame(inputs=[InputRun(1, [b"x"], metadata=[ItemMetadata(priority=1)])]),
    )
    assert server.unanswered == 1


def test_inputs_may_not_follow_the_clients_end():
    server = serving(b"x")
    server.receive(end(1))
    expect_breach(server, inputs(2, b"y"), "inputs may not come")


def test_the_end_comes_once():
    server = serving(b"x")
    server.receive(end(1))
    expect_breach(server, end(1), "end may not come")


def test_the_end_may_not_lie_below_what_came():
    expect_breach(serving(b"x", b"y"), end(1), "the end names input 1")


# ------------------------------------------------------------------ answers and their order


def test_ordered_answers_keep_the_order_of_inputs_however_handlers_finish():
    server = computing(b"1", b"2", b"3")
    server.output(3, b"C", last=True)
    server.fail(2, ItemErrorKind.HANDLER, "no")
    assert server.next_frame() is None
    server.output(1, b"A", last=True)
    frame = server.next_frame()
    assert frame.outputs == [OutputRun(1, [b"A"]), OutputRun(3, [b"C"])]
    assert frame.errors == [ItemFailure(2, ItemErrorKind.HANDLER, "no")]
    assert server.unanswered == 0


def test_unordered_answers_go_out_as_they_are_ready():
    server = computing(b"1", b"2", b"3", order=Order.ANY)
    server.output(3, b"C", last=True)
    assert numbers_out(server) == [3]
    server.output(2, b"B", last=True)
    server.output(1, b"A", last=True)
    assert numbers_out(server) == [2, 1]


def test_an_order_that_was_not_named_is_input_order():
    server = computing(b"1", b"2", order=Order.UNSPECIFIED)
    server.output(2, b"B", last=True)
    assert server.next_frame() is None


def test_neighbouring_answers_share_a_run():
    server = computing(b"1", b"2", b"3")
    for number, payload in enumerate((b"A", b"B", b"C"), 1):
        server.output(number, payload, last=True)
    assert server.next_frame().outputs == [OutputRun(1, [b"A", b"B", b"C"])]


def test_several_outputs_of_an_input_travel_as_parts():
    server = computing(b"1", b"2")
    server.output(2, b"second", last=True)
    server.output(1, b"a", last=False)
    assert server.next_frame().parts == [OutputPart(1, 0, (b"a",), last=False)]
    server.output(1, b"b", last=True)
    frame = server.next_frame()
    assert frame.parts == [OutputPart(1, 1, (b"b",), last=True)]
    assert frame.outputs == [OutputRun(2, [b"second"])]


def test_closing_makes_the_waiting_output_the_last():
    server = computing(b"1")
    server.output(1, b"a", last=False)
    server.close(1)
    assert server.next_frame().outputs == [OutputRun(1, [b"a"])]
    assert server.unanswered == 0


@pytest.mark.parametrize("order", [Order.INPUT, Order.ANY])
def test_closing_after_everything_went_out_sends_an_empty_last_part(order):
    server = computing(b"1", order=order)
    server.output(1, b"a", last=False)
    server.next_frame()
    server.close(1)
    assert server.next_frame().parts == [OutputPart(1, 1, (), last=True)]
    assert server.unanswered == 0


@pytest.mark.parametrize("order", [Order.INPUT, Order.ANY])
def test_an_item_error_follows_the_outputs_before_it(order):
    server = computing(b"1", order=order)
    server.output(1, b"a", last=False)
    server.output(1, b"b", last=False)
    server.fail(1, ItemErrorKind.HANDLER, "broke", retryable=True)
    frame = server.next_frame()
    assert [index for _, index, _ in answers_in([frame])] == [0, 1, 2]
    assert frame.errors == [ItemFailure(1, ItemErrorKind.HANDLER, "broke", 2, retryable=True)]


def test_a_resumed_input_goes_on_at_its_start_index():
    server = serving(offer=MANY)
    server.receive(inputs(1, b"x", start=2))
    server.next_input()
    server.output(1, b"c", last=False)
    server.fail(1, ItemErrorKind.HANDLER, "broke")
    frame = server.next_frame()
    assert frame.parts == [OutputPart(1, 2, (b"c",), last=False)]
    assert frame.errors[0].index == 3


def test_a_last_output_that_is_not_the_first_is_no_run():
    server = serving(offer=MANY)
    server.receive(inputs(1, b"x", start=2))
    server.output(1, b"c", last=True)
    assert server.next_frame().parts == [OutputPart(1, 2, (b"c",), last=True)]


@pytest.mark.parametrize("number", [0, 1, 7])
def test_answers_to_what_is_unknown_or_answered_are_dropped(number):
    server = computing(b"1", b"2")
    server.output(1, b"A", last=True)
    server.next_frame()
    server.output(number, b"again", last=True)
    server.close(number)
    server.fail(number, ItemErrorKind.HANDLER, "again")
    assert server.next_frame() is None
    assert server.unanswered == 1


def test_nothing_follows_an_inputs_last_output():
    server = computing(b"1", b"2")
    server.output(2, b"B", last=True)
    server.output(2, b"again", last=False)
    server.fail(2, ItemErrorKind.HANDLER, "again")
    server.output(1, b"A", last=True)
    assert answers_in(frames_out(server)) == [(1, 0, b"A"), (2, 0, b"B")]


def test_an_output_too_large_for_the_client_fails_its_input():
    server = computing(b"1", b"2", limits=Limits(item_bytes=3))
    server.output(1, b"1234", last=True)
    server.output(2, b"123", last=True)
    frame = server.next_frame()
    assert [(e.number, e.kind) for e in frame.errors] == [(1, ItemErrorKind.TOO_LARGE)]
    assert frame.outputs == [OutputRun(2, [b"123"])]


# ------------------------------------------------------------------ credit


def test_no_output_goes_out_before_the_first_grant():
    server = serving(b"1", credit=None)
    server.output(1, b"A", last=True)
    assert server.next_frame() is None
    server.receive(ClientFrame(credit=Credit(1, 1)))
    assert numbers_out(server) == [1]


def test_outputs_stop_where_the_credit_ends():
    server = computing(b"1", b"2", b"3", credit=Credit(2, 1000))
    for number in (1, 2, 3):
        server.output(number, b"x", last=True)
    assert numbers_out(server) == [1, 2]
    server.receive(ClientFrame(credit=Credit(3, 1000)))
    assert numbers_out(server) == [3]


def test_a_lost_or_repeated_grant_does_no_harm():
    server = computing(b"1", b"2", b"3", credit=Credit(2, 1000))
    server.receive(ClientFrame(credit=Credit(1, 10)))
    server.receive(ClientFrame(credit=Credit(2, 1000)))
    for number in (1, 2, 3):
        server.output(number, b"x", last=True)
    assert numbers_out(server) == [1, 2]


def test_one_output_may_overshoot_the_bytes():
    server = computing(b"1", b"2", b"3", credit=Credit(10, 10))
    for number in (1, 2, 3):
        server.output(number, bytes(9), last=True)
    assert numbers_out(server) == [1, 2]
    server.receive(ClientFrame(credit=Credit(10, 18)))
    assert server.next_frame() is None
    server.receive(ClientFrame(credit=Credit(10, 19)))
    assert numbers_out(server) == [3]


def test_item_errors_need_no_credit():
    server = computing(b"1", b"2", credit=Credit(0, 0))
    server.fail(1, ItemErrorKind.HANDLER, "no")
    server.close(2)
    frame = server.next_frame()
    assert [e.number for e in frame.errors] == [1]
    assert frame.parts == [OutputPart(2, 0, (), last=True)]


def test_the_end_needs_no_credit():
    server = computing(b"1", credit=Credit(1, 1))
    server.receive(end(1))
    server.output(1, b"A", last=True)
    assert server.next_frame().end == ServerEnd(1, 1, 1)


def test_too_much_waiting_output_stops_the_next_input():
    server = serving(b"1", b"2", b"3", credit=Credit(1, 1000), offer={"ahead_bytes": 10})
    assert server.next_input().number == 1
    assert server.next_input().number == 2
    server.output(2, bytes(10), last=True)
    assert server.next_input() is None
    server.output(1, b"A", last=True)
    assert numbers_out(server) == [1]
    assert server.next_input() is None
    server.receive(ClientFrame(credit=Credit(2, 1000)))
    assert numbers_out(server) == [2]
    assert server.next_input().number == 3


# ------------------------------------------------------------------ frames and pacing


def test_at_most_k_paced_frames_are_unacknowledged():
    server = computing(b"1", b"2", b"3", b"4", limits=Limits(unacknowledged_frames=2))
    for number in (1, 2):
        server.output(number, FULL, last=True)
        assert server.next_frame().paced
    server.output(3, FULL, last=True)
    assert server.next_frame() is None
    server.receive(ClientFrame(frames_read=1))
    assert [n for n, _, _ in answers_in([server.next_frame()])] == [3]


def test_answers_that_fill_no_frame_wait_while_half_of_k_is_unacknowledged():
    server = computing(b"1", b"2", b"3", b"4", limits=Limits(unacknowledged_frames=3))
    for number in (1, 2):
        server.output(number, b"x", last=True)
        assert server.next_frame().paced
    server.output(3, b"x", last=True)
    server.fail(4, ItemErrorKind.HANDLER, "no")
    assert server.next_frame() is None
    server.receive(ClientFrame(frames_read=1))
    assert [n for n, _, _ in answers_in([server.next_frame()])] == [3, 4]


def test_acknowledging_more_than_was_sent_is_the_clients_error():
    server = computing(b"1")
    server.output(1, b"A", last=True)
    server.next_frame()
    server.receive(ClientFrame(frames_read=1))
    expect_breach(server, ClientFrame(frames_read=2), "acknowledged")


def test_a_frame_for_the_acknowledgement_alone_goes_at_half_of_k():
    server = serving(b"1")
    assert server.next_frame() is None
    server.receive(inputs(2, b"2"))
    frame = server.next_frame()
    assert (frame.frames_read, frame.paced) == (2, False)
    assert server.next_frame() is None


def test_an_acknowledgement_rides_on_answers():
    server = computing(b"1")
    server.output(1, b"A", last=True)
    assert server.next_frame().frames_read == 1


def test_frames_that_are_not_paced_are_not_counted():
    server = serving()
    for _ in range(5):
        server.receive(ClientFrame(heartbeat=Heartbeat(), credit=PLENTY, taken_through=0))
    assert server.next_frame() is None


def test_an_end_alone_is_not_paced():
    server = computing(b"1", b"2", limits=Limits(unacknowledged_frames=2))
    for number in (1, 2):
        server.output(number, FULL, last=True)
        server.next_frame()
    server.receive(end(2))
    assert server.next_frame().end == ServerEnd(2, 2, 2)


def test_a_frame_stays_within_64_kib():
    server = computing(*[b"x"] * 10)
    for number in range(1, 11):
        server.output(number, bytes(10 * KIB), last=True)
    assert [[n for n, _, _ in answers_in([frame])] for frame in frames_out(server)] == [
        [1, 2, 3, 4, 5, 6],
        [7, 8, 9, 10],
    ]


def test_an_output_above_64_kib_goes_alone():
    server = computing(b"1", b"2", b"3")
    for number, size in enumerate((5, 100 * KIB, 64 * KIB), 1):
        server.output(number, bytes(size), last=True)
    assert [[n for n, _, _ in answers_in([frame])] for frame in frames_out(server)] == [
        [1],
        [2],
        [3],
    ]


def test_a_frame_keeps_below_the_largest_that_the_client_accepts():
    server = computing(b"1", b"2", b"3", limits=Limits(frame_bytes=100, item_bytes=50))
    for number in (1, 2, 3):
        server.output(number, bytes(40), last=True)
    assert [[n for n, _, _ in answers_in([frame])] for frame in frames_out(server)] == [
        [1, 2],
        [3],
    ]


# ------------------------------------------------------------------ end and closing


def test_the_end_comes_once_every_input_is_answered_and_counts_them():
    server = computing(b"1", b"2", first_number=1)
    server.receive(end(4))
    server.fail(2, ItemErrorKind.HANDLER, "no")
    assert server.next_frame() is None
    server.output(1, b"A", last=True)
    frame = server.next_frame()
    assert frame.end == ServerEnd(4, 2, 2)
    assert len(answers_in([frame])) == 2
    assert server.state is ServerState.LINGERING
    assert server.next_frame() is None


def test_there_is_no_end_before_the_clients():
    server = computing(b"1")
    server.output(1, b"A", last=True)
    assert server.next_frame().end is None
    assert server.next_frame() is None
    server.receive(end(1))
    assert server.next_frame().end == ServerEnd(1, 1, 1)


def test_a_stream_without_inputs_ends_at_once():
    server = serving()
    server.receive(end(0))
    assert server.next_frame().end == ServerEnd(0, 0, 0)


def test_a_half_close_after_the_end_closes():
    server = serving()
    server.receive(end(0))
    server.next_frame()
    assert not server.over
    server.half_close()
    assert server.state is ServerState.CLOSED
    assert server.over


@pytest.mark.parametrize("ended", [False, True], ids=["serving", "finishing"])
def test_a_half_close_before_the_end_abandons_everything(ended):
    server = serving(b"1", b"2", b"3")
    server.next_input()
    if ended:
        server.receive(end(3))
    server.output(1, b"A", last=False)
    server.half_close()
    assert server.state is ServerState.ABANDONED
    assert server.over
    assert server.unanswered == 0
    assert server.next_input() is None
    server.output(1, b"B", last=True)
    assert server.next_frame() is None


def test_a_half_close_before_the_open_abandons():
    server = make_server()
    server.half_close()
    assert server.state is ServerState.ABANDONED


def test_what_the_client_wrote_before_it_read_the_end_is_dropped():
    server = serving()
    server.receive(end(0))
    server.next_frame()
    server.receive(ClientFrame(open=opening(), inputs=[InputRun(1, [b"x"])], end=ClientEnd(0)))
    server.receive(ClientFrame(cancelled=[NumberRange(1, 9)], credit=PLENTY))
    assert server.state is ServerState.LINGERING
    assert server.next_input() is None
    assert server.next_frame() is None


def test_what_the_client_wrote_before_it_read_a_refusal_is_dropped():
    server = make_server()
    server.receive(ClientFrame(open=opening(attempt=0)))
    server.receive(inputs(1, b"x"))
    assert server.next_input() is None
    assert server.unanswered == 0


# ------------------------------------------------------------------ drain and giving up


def test_a_drain_is_said_once():
    server = serving()
    server.drain(1000, ["other:1"])
    assert server.state is ServerState.DRAINING
    assert server.next_frame().drain == Drain(1000, ["other:1"])
    assert server.next_frame() is None


def test_what_crossed_a_drain_is_served_to_the_end():
    server = computing(b"1")
    server.drain(1000)
    server.next_frame()
    server.receive(inputs(2, b"2", end=ClientEnd(2)))
    assert started(server) == [2]
    server.output(1, b"A", last=True)
    server.output(2, b"B", last=True)
    frame = server.next_frame()
    assert numbers_out(server) == []
    assert len(answers_in([frame])) == 2
    assert frame.end == ServerEnd(2, 2, 2)


def test_a_drained_server_closes_when_the_client_leaves():
    server = computing(b"1")
    server.drain(1000)
    server.output(1, b"A", last=True)
    frame = server.next_frame()
    assert (frame.drain, len(answers_in([frame])), frame.end) == (Drain(1000), 1, None)
    server.half_close()
    assert server.state is ServerState.CLOSED


def test_a_server_may_give_the_stream_up():
    server = serving(b"1", b"2")
    server.next_input()
    server.output(1, b"A", last=True)
    server.give_up(StreamErrorKind.INTERNAL, "broke", 10)
    assert server.state is ServerState.LINGERING
    assert server.unanswered == 0
    assert server.next_input() is None
    frame = server.next_frame()
    assert frame.error == StreamFailure(StreamErrorKind.INTERNAL, "broke", 10)
    assert not frame.paced
    assert server.next_frame() is None


def test_giving_up_may_come_before_the_open():
    server = make_server()
    server.give_up(StreamErrorKind.PROTOCOL, "no frame")
    assert server.next_frame().error.kind is StreamErrorKind.PROTOCOL


def test_giving_up_follows_a_welcome_that_has_not_gone_out():
    server = make_server()
    server.receive(ClientFrame(open=opening(), inputs=[InputRun(5, [b"x"]), InputRun(4, [b"y"])]))
    with pytest.raises(RemoteProtocolError):
        server.welcome()
    server.give_up(StreamErrorKind.PROTOCOL, "numbers")
    frame = server.next_frame()
    assert frame.welcome is not None
    assert frame.error.kind is StreamErrorKind.PROTOCOL


def last_word(how: str) -> ServerSession:
    """A server whose last frame, of this sort, has gone out."""
    if how == "refused":
        server = make_server()
        server.receive(ClientFrame(open=opening(attempt=0)))
    else:
        server = serving()
        if how == "end":
            server.receive(end(0))
        else:
            server.give_up(StreamErrorKind.INTERNAL, "broke")
    assert server.next_frame() is not None
    assert server.state is ServerState.LINGERING
    return server


@pytest.mark.parametrize("how", ["end", "refused", "error"])
def test_no_stream_error_follows_the_last_frame(how):
    server = last_word(how)
    server.give_up(StreamErrorKind.SUPERSEDED, "a higher attempt came")
    assert server.next_frame() is None


@pytest.mark.parametrize("how", ["end", "refused", "error"])
def test_no_drain_follows_the_last_frame(how):
    server = last_word(how)
    server.drain(1000)
    assert server.next_frame() is None


def test_the_first_stream_error_is_the_one_that_is_said():
    server = serving(b"1")
    server.give_up(StreamErrorKind.INTERNAL, "first")
    server.give_up(StreamErrorKind.SUPERSEDED, "second")
    assert server.next_frame().error.text == "first"
    assert server.next_frame() is None


# ------------------------------------------------------------------ cancelling


def test_a_cancelled_input_that_has_not_started_never_does():
    server = serving(b"1", b"2", b"3", order=Order.ANY)
    server.receive(ClientFrame(cancelled=[NumberRange(2, 2)]))
    assert started(server) == [1, 3]
    (failure,) = server.next_frame().errors
    assert (failure.number, failure.kind) == (2, ItemErrorKind.CANCELLED)
    assert not server.take_cancelled()


def test_an_ordered_cancelled_input_answers_in_its_turn():
    server = serving(b"1", b"2")
    server.next_input()
    server.receive(ClientFrame(cancelled=[NumberRange(2, 2)]))
    assert server.next_frame() is None
    server.output(1, b"A", last=True)
    assert numbers_out(server) == [1, 2]


def test_a_cancelled_input_that_has_started_is_named_once_and_still_answered():
    server = computing(b"1", b"2")
    server.receive(ClientFrame(cancelled=[NumberRange(1, 1)]))
    server.receive(ClientFrame(cancelled=[NumberRange(1, 1)]))
    assert list(server.take_cancelled()) == [1]
    assert not server.take_cancelled()
    assert server.next_frame() is None
    server.fail(1, ItemErrorKind.CANCELLED, "cancelled")
    assert numbers_out(server) == [1]


def test_a_cancelled_input_may_still_answer_with_its_output():
    server = computing(b"1")
    server.receive(ClientFrame(cancelled=[NumberRange(1, 1)]))
    server.output(1, b"A", last=True)
    assert answers_in(frames_out(server)) == [(1, 0, b"A")]


def test_cancelling_what_is_answered_changes_nothing():
    server = computing(b"1", b"2")
    server.output(2, b"B", last=True)
    server.receive(ClientFrame(cancelled=[NumberRange(2, 2), NumberRange(3, 9)]))
    assert not server.take_cancelled()
    server.output(1, b"A", last=True)
    assert answers_in(frames_out(server)) == [(1, 0, b"A"), (2, 0, b"B")]


def test_a_huge_range_is_compared_and_not_walked_through():
    # Were it walked through, this would not return within pytest's timeout.
    server = serving(b"1", b"2", b"3")
    server.receive(ClientFrame(cancelled=[NumberRange(0, 2**64 - 1)]))
    assert started(server) == []
    assert numbers_out(server) == [1, 2, 3]


def test_a_range_that_ends_before_it_starts_is_empty():
    server = serving(b"1", b"2")
    server.receive(ClientFrame(cancelled=[NumberRange(2, 1)]))
    assert started(server) == [1, 2]


def test_a_cancel_in_the_frame_of_its_input_holds():
    server = serving()
    server.receive(inputs(1, b"x", b"y", cancelled=[NumberRange(1, 1)]))
    assert started(server) == [2]


# ------------------------------------------------------------------ runs of inputs


def run_started(server: ServerSession, limit: int) -> tuple[int, list[bytes], int]:
    run = server.next_run(limit)
    return run.first, list(run.payloads), run.start_index


def test_consecutive_inputs_reach_the_handler_together():
    server = serving(b"1", b"2")
    server.receive(inputs(3, b"3", b"4"))
    assert run_started(server, 3) == (1, [b"1", b"2", b"3"], 0)
    assert run_started(server, 3) == (4, [b"4"], 0)
    assert server.next_run(3) is None


def test_a_run_ends_before_a_gap_and_before_an_input_that_goes_on_in_its_middle():
    server = serving(offer=MANY)
    server.receive(
        ClientFrame(
            inputs=[InputRun(1, [b"1", b"2"], 3), InputRun(3, [b"3"], 1), InputRun(5, [b"5"])]
        )
    )
    assert run_started(server, 9) == (1, [b"1", b"2"], 3)
    assert run_started(server, 9) == (3, [b"3"], 1)
    assert run_started(server, 9) == (5, [b"5"], 0)


def test_an_input_cancelled_within_a_run_before_its_start_never_starts():
    server = serving(b"1", b"2", b"3", b"4", b"5")
    assert run_started(server, 1) == (1, [b"1"], 0)
    server.receive(ClientFrame(cancelled=[NumberRange(3, 3), NumberRange(5, 5)]))
    assert server.startable_inputs == 2
    assert run_started(server, 9) == (2, [b"2"], 0)
    assert run_started(server, 9) == (4, [b"4"], 0)
    assert server.next_run(9) is None
    for number in (1, 2, 4):
        server.outputs(number, [b"x"])
    (frame,) = frames_out(server)
    assert sorted(number for number, _, _ in answers_in([frame])) == [1, 2, 3, 4, 5]
    assert [error.number for error in frame.errors] == [3, 5]


def test_what_was_put_back_starts_again_before_the_others():
    server = serving(b"1", b"2", b"3", b"4")
    run = server.next_run(3)
    server.put_back(run.split(1))
    assert server.startable_inputs == 3
    assert started(server) == [2, 3, 4]


def test_what_was_put_back_is_no_longer_started():
    server = serving(b"1", b"2", b"3")
    run = server.next_run(3)
    server.put_back(run.split(1))
    server.receive(ClientFrame(cancelled=[NumberRange(1, 2)]))
    assert list(server.take_cancelled()) == [1]
    assert started(server) == [3]
    server.outputs(1, [b"A"])
    assert answers_in(frames_out(server)) == [(1, 0, b"A"), (2, 0, None)]


def test_what_is_put_back_after_it_was_cancelled_never_starts():
    server = serving(b"1", b"2", b"3", b"4", b"5")
    run = server.next_run(5)
    server.receive(ClientFrame(cancelled=[NumberRange(1, 2), NumberRange(4, 4)]))
    assert list(server.take_cancelled()) == [1, 2, 4]
    server.put_back(run.split(1))
    assert started(server) == [3, 5]
    server.outputs(1, [b"A"])
    server.outputs(3, [b"C"])
    server.outputs(5, [b"E"])
    assert sorted(answers_in(frames_out(server)), key=lambda answer: answer[0]) == [
        (1, 0, b"A"),
        (2, 0, None),
        (3, 0, b"C"),
        (4, 0, None),
        (5, 0, b"E"),
    ]


def test_all_of_a_run_may_be_put_back():
    server = serving(b"1", b"2", offer=MANY)
    server.receive(inputs(5, b"5", start=2))
    server.put_back(server.next_run(9))
    assert run_started(server, 9) == (1, [b"1", b"2"], 0)
    server.put_back(server.next_run(9))
    assert run_started(server, 9) == (5, [b"5"], 2)


def test_nothing_is_put_back_once_the_client_has_gone():
    server = serving(b"1", b"2")
    run = server.next_run(2)
    server.half_close()
    server.put_back(run)
    assert not server.startable
    assert server.next_run(2) is None


def test_startable_are_those_that_wait_unless_too_much_output_does():
    server = serving(b"1", b"2", b"3", credit=Credit(0, 0), offer={"ahead_bytes": 10})
    assert (server.startable, server.full, server.startable_inputs) == (True, False, 3)
    server.next_run(2)
    assert server.startable_inputs == 1
    server.outputs(1, [bytes(4), bytes(5)])
    assert (server.startable, server.full, server.startable_inputs) == (True, False, 1)
    server.receive(inputs(4, b"4"))
    server.next_run(1)
    server.outputs(3, [b"x"])
    assert (server.startable, server.full, server.startable_inputs) == (False, True, 0)
    assert server.next_run(9) is None
    server.receive(ClientFrame(credit=Credit(1, 100)))
    assert numbers_out(server) == [1]
    assert (server.startable, server.full, server.startable_inputs) == (True, False, 1)


def test_the_inputs_for_which_early_output_waits_start_one_by_one_although_it_is_too_much():
    server = serving(b"1", b"2", b"3", b"4", offer={"ahead_bytes": 10})
    run = server.next_run(2)
    server.next_run(1)
    server.outputs(3, [bytes(10)])
    assert (server.startable, server.full) == (False, True)
    server.put_back(run)
    assert run_started(server, 9) == (1, [b"1"], 0)
    assert server.next_run(9) is None
    server.outputs(1, [b"A"])
    assert run_started(server, 9) == (2, [b"2"], 0)
    server.outputs(2, [b"B"])
    assert numbers_out(server) == [1, 2, 3]
    assert started(server) == [4]


def test_nothing_is_startable_where_nothing_waits():
    server = serving()
    assert (server.startable, server.startable_inputs) == (False, 0)
    server = computing(b"1")
    assert (server.startable, server.startable_inputs) == (False, 0)


# ------------------------------------------------------------------ the window, in runs


@pytest.mark.parametrize(
    ("sizes", "breach"),
    [
        ([4, 3, 3], None),
        ([10], None),
        ([0, 10], None),
        ([10, 0], None),
        ([1, 1, 1], None),
        ([0, 0, 0, 0], "input 4 exceeds the window of 3 inputs"),
        ([4, 3, 4], "input 3 exceeds the window of 3 inputs and 10 bytes"),
        ([11], None),  # one is allowed, however large
        ([11, 0], "input 2 exceeds the window"),
        ([0, 11], "input 2 exceeds the window"),
        ([1, 21, 1], "input 2 has 21 bytes, and at most 20 were"),
        ([21], "input 1 has 21 bytes"),
    ],
)
@pytest.mark.parametrize("in_runs", [1, 2], ids=["one run", "two runs"])
def test_the_window_is_enforced_within_a_run(sizes, breach, in_runs):
    server = serving(offer={"limits": Limits(window_items=3, window_bytes=10, item_bytes=20)})
    payloads = [bytes(size) for size in sizes]
    cut = len(payloads) if in_runs == 1 else len(payloads) // 2
    runs = [InputRun(1, payloads[:cut]), InputRun(1 + cut, payloads[cut:])]
    frame = ClientFrame(inputs=[run for run in runs if run.payloads])
    if breach is None:
        server.receive(frame)
        assert server.unanswered == len(sizes)
    else:
        expect_breach(server, frame, breach)


def test_a_run_is_held_to_what_the_window_leaves():
    limits = {"limits": Limits(window_items=4, window_bytes=10)}
    expect_breach(serving(b"1", b"2", offer=limits), inputs(3, *[b""] * 3), "input 5 exceeds")
    expect_breach(serving(bytes(8), offer=limits), inputs(2, b"x", b"yy"), "input 3 exceeds")
    server = serving(bytes(8), offer=limits)
    server.receive(inputs(2, b"x", b"y", b""))
    assert server.unanswered == 4


def test_the_outputs_of_a_run_make_room_in_the_window():
    server = computing(
        bytes(5), bytes(5), offer={"limits": Limits(window_items=2, window_bytes=10)}
    )
    server.outputs(1, [b"A", b"B"])
    assert numbers_out(server) == [1, 2]
    server.receive(inputs(3, bytes(5), bytes(5)))
    assert server.unanswered == 2


# ------------------------------------------------------------------ runs of outputs


def test_the_outputs_of_a_run_answer_its_inputs():
    server = computing(b"1", b"2", b"3")
    server.receive(end(3))
    server.outputs(1, [b"A", b"B", b"C"])
    frame = server.next_frame()
    assert answers_in([frame]) == [(1, 0, b"A"), (2, 0, b"B"), (3, 0, b"C")]
    assert len(frame.outputs) == 1
    assert frame.end == ServerEnd(3, 3, 3)


@pytest.mark.parametrize("order", [Order.INPUT, Order.ANY])
def test_of_a_run_only_what_is_not_answered_yet_is_answered(order):
    server = computing(b"1", b"2", b"3", b"4", order=order)
    server.fail(2, ItemErrorKind.HANDLER, "no")
    server.output(4, b"first", last=True)
    server.outputs(1, [b"A", b"B", b"C", b"D", b"E"])
    found = answers_in(frames_out(server))
    assert sorted(found, key=lambda answer: answer[0]) == [
        (1, 0, b"A"),
        (2, 0, None),
        (3, 0, b"C"),
        (4, 0, b"first"),
    ]
    assert server.unanswered == 0


def test_early_outputs_of_a_run_wait_for_their_turn():
    server = computing(b"1", b"2", b"3", b"4", b"5")
    server.outputs(4, [b"D", b"E"])
    server.outputs(2, [b"B"])
    assert server.next_frame() is None
    server.outputs(1, [b"A"])
    assert numbers_out(server) == [1, 2]
    server.outputs(3, [b"C"])
    assert answers_in(frames_out(server)) == [(3, 0, b"C"), (4, 0, b"D"), (5, 0, b"E")]


def test_early_outputs_wait_behind_an_input_with_several():
    server = computing(b"1", b"2", b"3")
    server.output(1, b"a", last=False)
    server.outputs(2, [b"B", b"C"])
    assert answers_in(frames_out(server)) == [(1, 0, b"a")]
    server.output(1, b"b", last=True)
    found = sorted(answers_in(frames_out(server)))
    assert found == [(1, 1, b"b"), (2, 0, b"B"), (3, 0, b"C")]


def test_unordered_outputs_of_a_run_do_not_wait():
    server = computing(b"1", b"2", b"3", b"4", order=Order.ANY)
    server.outputs(3, [b"C", b"D"])
    server.outputs(1, [b"A", b"B"])
    assert answers_in(frames_out(server)) == [
        (3, 0, b"C"),
        (4, 0, b"D"),
        (1, 0, b"A"),
        (2, 0, b"B"),
    ]


def test_outputs_keep_their_turn_across_gaps_between_runs_of_inputs():
    server = serving(b"1", b"2")
    server.receive(ClientFrame(inputs=[InputRun(5, [b"5", b"6"]), InputRun(9, [b"9"])]))
    assert started(server) == [1, 2, 5, 6, 9]
    server.outputs(5, [b"E", b"F"])
    server.outputs(9, [b"I"])
    assert numbers_out(server) == []
    server.outputs(1, [b"A", b"B"])
    assert numbers_out(server) == [1, 2, 5, 6, 9]


def test_the_outputs_of_a_run_may_belong_to_several_frames_of_inputs():
    server = serving(b"1")
    for number in (2, 3, 4):
        server.receive(inputs(number, b"%d" % number))
    assert run_started(server, 9)[0] == 1
    server.outputs(1, [b"A", b"B", b"C"])
    server.outputs(4, [b"D"])
    assert numbers_out(server) == [1, 2, 3, 4]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_of_a_run_only_the_output_that_is_too_large_fails_its_input(place):
    server = computing(b"1", b"2", b"3", limits=Limits(item_bytes=5))
    payloads = [b"12345", b"12345", b"12345"]
    payloads[place] = b"123456"
    server.outputs(1, payloads)
    (frame,) = frames_out(server)
    assert [(e.number, e.kind) for e in frame.errors] == [(place + 1, ItemErrorKind.TOO_LARGE)]
    assert len(answers_in([frame])) == 3


def test_a_run_whose_first_input_goes_on_in_its_middle_is_answered_there():
    server = serving(offer=MANY)
    server.receive(inputs(1, b"1", b"2", start=2))
    server.next_run(2)
    server.outputs(1, [b"a2", b"B"])
    frame = server.next_frame()
    assert frame.parts == [OutputPart(1, 2, (b"a2",), last=True)]
    assert answers_in([frame])[0] == (2, 0, b"B")


def test_outputs_of_a_run_stop_where_the_credit_ends():
    server = computing(b"1", b"2", b"3", b"4", credit=Credit(3, 1000))
    server.outputs(1, [b"A", b"B", b"C", b"D"])
    assert numbers_out(server) == [1, 2, 3]
    server.receive(ClientFrame(credit=Credit(4, 1000), frames_read=1))
    assert answers_in(frames_out(server)) == [(4, 0, b"D")]


def test_one_output_of_a_run_may_overshoot_the_bytes():
    server = computing(b"1", b"2", b"3", credit=Credit(10, 10))
    server.outputs(1, [bytes(9), bytes(9), bytes(9)])
    assert numbers_out(server) == [1, 2]
    server.receive(ClientFrame(credit=Credit(10, 18), frames_read=1))
    assert numbers_out(server) == []
    server.receive(ClientFrame(credit=Credit(10, 19)))
    assert numbers_out(server) == [3]


def test_a_run_that_exactly_spends_the_bytes_goes_out_as_a_whole():
    server = computing(b"1", b"2", b"3", credit=Credit(10, 10))
    server.outputs(1, [bytes(5), bytes(5)])
    server.output(3, b"", last=True)
    assert numbers_out(server) == [1, 2]


def test_a_run_of_outputs_keeps_within_64_kib():
    server = computing(*[b"x"] * 8)
    server.outputs(1, [bytes(20 * KIB)] * 7 + [bytes(100 * KIB)])
    found = []
    while len(found) < 8:
        for frame in frames_out(server):
            sizes = [len(payload) for _, _, payload in answers_in([frame])]
            assert sum(sizes) <= 64 * KIB or len(sizes) == 1
            found += [number for number, _, _ in answers_in([frame])]
        server.receive(ClientFrame(frames_read=server._pacer._sent))
    assert found == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_cancelled_input_may_be_answered_within_a_run():
    server = computing(b"1", b"2", b"3")
    server.receive(ClientFrame(cancelled=[NumberRange(2, 2)]))
    assert list(server.take_cancelled()) == [2]
    server.outputs(1, [b"A", b"B", b"C"])
    assert answers_in(frames_out(server)) == [(1, 0, b"A"), (2, 0, b"B"), (3, 0, b"C")]
    assert not server._cancelled


def test_outputs_after_the_end_of_the_attempt_are_dropped():
    server = computing(b"1", b"2")
    server.half_close()
    server.outputs(1, [b"A", b"B"])
    assert server.next_frame() is None
    server = computing(b"1", b"2")
    server.give_up(StreamErrorKind.INTERNAL, "broke")
    server.outputs(1, [b"A", b"B"])
    assert answers_in(frames_out(server)) == []


class Twins:
    """Two servers that see and do the same: one answers runs at once, the other one by one."""

    def __init__(self, random: Random, order: Order) -> None:
        self.random = random
        limits = Limits(
            window_items=20,
            window_bytes=random.choice([30, 4096]),
            item_bytes=random.choice([6, 4096]),
        )
        credit = Credit(random.randint(0, 10), random.randint(0, 40))
        offer = {"ahead_bytes": random.choice([10, 1000]), **MANY}
        self.server, self.twin = (
            serving(credit=credit, limits=limits, order=order, offer=offer) for _ in range(2)
        )
        self.credit = credit
        self.number = 0
        self.running: list[int] = []
        self.sent: list[tuple[int, int, bytes | None]] = []

    def outcome(self, step) -> object:
        found = step(self.server), step(self.twin)
        assert found[0] == found[1]
        return found[0]

    def send(self) -> None:
        random = self.random
        if (
            self.server._pacer._read - self.server._pacer._reported
            >= Limits().unacknowledged_frames
        ):
            self.speak()  # a client waits for word of its frames
        self.number += random.choice([1, 1, 1, 2])
        count = min(random.randint(1, 4), 20 - self.server.unanswered)
        payloads = [b"x"] * min(count, 30 - self.server._open.size)
        if payloads:
            start = random.choice([0, 0, 0, 1])
            frame = inputs(self.number, *payloads, start=start, frames_read=self.read())
            self.outcome(lambda s: s.receive(frame))
            self.number += len(payloads) - 1

    def read(self) -> int:
        return self.server._pacer._sent

    def start(self) -> None:
        limit = self.random.randint(1, 5)
        found = self.outcome(
            lambda s: (run := s.next_run(limit)) and (run.first, len(run.payloads))
        )
        if found:
            self.running += range(found[0], found[0] + found[1])

    def answer(self) -> None:
        """Some consecutive ones of those that run; now and then others as well."""
        if not self.running:
            return
        random = self.random
        first = random.choice(self.running)
        count = random.randint(1, 5)
        if random.random() < 0.8:
            count = sum(number in self.running for number in range(first, first + count))
        payloads = [bytes(random.choice([0, 1, 2, 7])) for _ in range(count)]
        self.server.outputs(first, payloads)
        for number, payload in enumerate(payloads, first):
            self.twin.output(number, payload, last=True)
        self.running = [n for n in self.running if not first <= n < first + count]

    def other(self) -> None:
        """What makes an input special: an output that is not its last, or a failure."""
        if not self.running:
            return
        number = self.random.choice(self.running)
        match self.random.choice(["part", "fail", "cancel"]):
            case "part":
                self.outcome(lambda s: s.output(number, b"p", last=False))
            case "fail":
                self.outcome(lambda s: s.fail(number, ItemErrorKind.HANDLER, "no"))
                self.running.remove(number)
            case "cancel":
                ranges = [NumberRange(number, number + self.random.randint(0, 3))]
                self.outcome(lambda s: s.receive(ClientFrame(cancelled=ranges)))
                self.outcome(lambda s: list(s.take_cancelled()))

    def grant(self) -> None:
        more = self.random.randint(0, 10), self.random.randint(0, 40)
        self.credit = Credit(self.credit.outputs + more[0], self.credit.bytes + more[1])
        self.outcome(lambda s: s.receive(ClientFrame(credit=self.credit)))

    def speak(self) -> None:
        frames = self.outcome(lambda s: [spoken(frame) for frame in frames_out(s)])
        self.sent += [answer for frame in frames for answer in frame]
        frame = ClientFrame(frames_read=self.read())
        self.outcome(lambda s: s.receive(frame))

    def same(self) -> None:
        for name in ("unanswered", "startable", "full", "startable_inputs", "over"):
            assert getattr(self.server, name) == getattr(self.twin, name), name


def spoken(frame: ServerFrame) -> list[tuple[int, int, bytes | None]]:
    return sorted(answers_in([frame]), key=lambda answer: answer[:2])


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("order", [Order.INPUT, Order.ANY])
def test_outputs_of_a_run_come_to_the_same_as_one_by_one(order, seed):
    twins = Twins(Random(seed), order)
    for _ in range(200):
        step = twins.random.choice([twins.send, twins.start, twins.answer, twins.speak])
        if twins.random.random() < 0.2:
            step = twins.random.choice([twins.other, twins.grant])
        step()
        twins.same()
    if order is Order.INPUT:
        numbers = [number for number, _, _ in twins.sent]
        assert numbers == sorted(numbers)
