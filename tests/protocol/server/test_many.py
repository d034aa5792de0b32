"""Inputs with many outputs at a server's session, by frames (docs/protocol.md, section 18)."""

import pytest
from serving import (
    MANY,
    PLENTY,
    answers_in,
    end,
    expect_breach,
    frames_out,
    make_server,
    opening,
)

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol import coming
from servestream_client.protocol.continuation import FEATURE
from servestream_client.protocol.frames import (
    BlockedOn,
    ClientFrame,
    Credit,
    HandlerKind,
    InputCredit,
    InputRun,
    Limits,
    NumberRange,
    Order,
    OutputPart,
    Replay,
    Resume,
    Running,
    ServerEnd,
)
from servestream_client.protocol.server import ServerSession

CANCELLED, HANDLER = ItemErrorKind.CANCELLED, ItemErrorKind.HANDLER
DIGEST = bytes(8)


def serving(
    *payloads: bytes,
    features=(FEATURE,),
    replay: Replay = Replay.CONTINUE,
    credit: Credit = PLENTY,
    order: Order = Order.ANY,
    offer=None,
    heartbeat: int = 0,
    **limits,
) -> ServerSession:
    """A server of many outputs that has welcomed a stream and started these inputs."""
    server = make_server(**{**MANY, "replay": replay, **(offer or {})})
    opened = opening(
        features=features,
        order=order,
        limits=Limits(**limits),
        heartbeat_interval_ms=heartbeat,
    )
    server.receive(ClientFrame(open=opened, credit=credit))
    server.welcome()
    assert server.next_frame().welcome is not None
    if payloads:
        server.receive(ClientFrame(inputs=[InputRun(1, payloads)]))
        while server.intake.next_run(1) is not None:
            pass
        frames_out(server)
    return server


def make(server: ServerSession, number: int, *payloads: bytes) -> None:
    for payload in payloads:
        server.outbox.output(number, payload, last=False)


def said(server: ServerSession) -> list[tuple[int, int, bytes | None]]:
    """What leaves, acknowledged at once."""
    found = []
    while (frame := server.next_frame()) is not None:
        found += sorted(answers_in([frame]), key=lambda each: each[:2])
        server.receive(ClientFrame(frames_read=server._pacer.sent_frames))
    return found


def cut(number: int, start: int, resume: Resume | None = None, **fields) -> ClientFrame:
    return ClientFrame(
        inputs=[InputRun(number, [b"x"], start, first_resume=resume or Resume(DIGEST), **fields)]
    )


# ------------------------------------------------------------------ the opening


@pytest.mark.parametrize(
    "kind", [kind for kind in HandlerKind if kind not in (0, HandlerKind.STATEFUL)]
)
@pytest.mark.parametrize("asked", [(), (FEATURE,), ("other", FEATURE, coming.FEATURE, FEATURE)])
def test_the_feature_holds_where_a_handler_gives_many_outputs_and_the_client_knows_it(kind, asked):
    server = make_server(handler_kind=kind)
    server.receive(ClientFrame(open=opening(features=asked)))
    server.welcome()
    features = server.next_frame().welcome.features
    holds = kind is HandlerKind.ONE_TO_MANY and FEATURE in asked
    assert list(features).count(FEATURE) == holds
    assert list(features).count(coming.FEATURE) == (coming.FEATURE in asked)


@pytest.mark.parametrize("replay", Replay)
def test_a_welcome_says_how_inputs_go_on(replay):
    server = make_server(replay=replay, fingerprint="model 3", **MANY)
    server.receive(ClientFrame(open=opening(features=[FEATURE])))
    server.welcome()
    welcome = server.next_frame().welcome
    assert (welcome.replay, welcome.fingerprint) == (replay, "model 3")
    assert welcome.restartable == (replay is Replay.SEEK)


# ------------------------------------------------------------------ inputs that go on


def test_what_it_takes_to_go_on_reaches_the_handler():
    server = serving()
    resume = Resume(DIGEST, b"c", 2, [b"z"])
    server.receive(
        ClientFrame(
            inputs=[
                InputRun(1, [b"a"]),
                InputRun(2, [b"b", b"c"], 3, first_resume=resume),
                InputRun(4, [b"d"]),
            ]
        )
    )
    runs = [server.intake.next_run(1) for _ in range(4)]
    assert [(run.first, run.start_index, run.resume) for run in runs] == [
        (1, 0, None),
        (2, 3, resume),
        (3, 0, None),
        (4, 0, None),
    ]


def test_so_it_does_if_inputs_behind_or_before_it_are_cancelled_or_it_was_put_back():
    server = serving()
    resume = Resume(DIGEST, b"c", 2, [b"z"])
    server.receive(
        ClientFrame(
            inputs=[InputRun(1, [b"a"]), InputRun(2, [b"b", b"c", b"d"], 3, first_resume=resume)]
        )
    )
    server.receive(ClientFrame(cancelled=[NumberRange(1, 1), NumberRange(3, 3)]))
    server.intake.put_back(server.intake.next_run(1))
    run = server.intake.next_run(9)
    assert (run.first, run.payloads, run.start_index, run.resume) == (2, [b"b"], 3, resume)
    run = server.intake.next_run(9)
    assert (run.first, run.payloads, run.start_index, run.resume) == (4, [b"d"], 0, None)


def test_what_it_takes_is_lost_with_its_input():
    server = serving()
    server.receive(
        ClientFrame(inputs=[InputRun(1, [b"a", b"b"], 3, first_resume=Resume(DIGEST, b"c", 3))])
    )
    server.receive(ClientFrame(cancelled=[NumberRange(1, 1)]))
    run = server.intake.next_run(9)
    assert (run.first, run.start_index, run.resume) == (2, 0, None)
    assert said(server) == [(1, 3, None)]


def test_what_cannot_be_is_the_clients_error():
    expect_breach(serving(), ClientFrame(inputs=[InputRun(1, [b"x"], 3)]), "lacks its resume")
    expect_breach(serving(), cut(1, 0), "starts at index 0")
    expect_breach(serving(), cut(1, 1, Resume(b"short", outputs=[b"a"])), "digest of 5 bytes")
    expect_breach(serving(), cut(1, 1), "0 outputs from index 0 on")
    large = Resume(DIGEST, bytes(11), 1)
    offer = {"limits": Limits(token_bytes=10)}
    expect_breach(serving(offer=offer), cut(1, 1, large), "checkpoint of 11 bytes, and at most 10")


def test_a_client_without_the_feature_says_no_more_than_the_index():
    server = serving(features=(), replay=Replay.SEEK)
    server.receive(ClientFrame(inputs=[InputRun(1, [b"x"], 3)]))
    run = server.intake.next_run(1)
    assert (run.start_index, run.resume) == (3, None)
    server.outbox.output(1, b"d", last=True)
    assert said(server) == [(1, 3, b"d")]


def test_what_it_takes_to_go_on_counts_against_the_bytes_of_the_window():
    resume = Resume(DIGEST, bytes(20), 2, [bytes(10)])
    size = 1 + resume.size
    assert size == 1 + 32 + 20 + 10 + 8
    server = serving(window_bytes=size + 9)
    server.receive(cut(1, 3, resume))
    assert server.outbox.open.size == size
    expect_breach(server, ClientFrame(inputs=[InputRun(2, [bytes(10)])]), "exceeds the window")
    server = serving(window_bytes=size + 9)
    server.receive(ClientFrame(inputs=[InputRun(1, [bytes(10)])]))
    expect_breach(server, cut(2, 3, resume), "input 2 exceeds the window")
    server = serving(window_bytes=size + 9)
    server.receive(cut(1, 3, resume))
    server.receive(ClientFrame(inputs=[InputRun(2, [bytes(9)])]))
    server.intake.next_run(1)
    server.outbox.close(1)
    assert server.outbox.open.size == 9


def test_one_alone_may_exceed_them_and_its_payload_alone_is_measured():
    resume = Resume(DIGEST, bytes(1000), 3)
    server = serving(window_bytes=10, offer={"limits": Limits(item_bytes=5)})
    server.receive(cut(1, 3, resume))
    assert server.outbox.unanswered == 1


# ------------------------------------------------------------------ credit for each input


def test_each_input_begins_with_the_credit_of_the_open():
    server = serving(b"1", b"2", input_outputs=2, input_bytes=10)
    make(server, 1, b"a", b"b", b"c")
    make(server, 2, bytes(12), b"b")
    assert said(server) == [(1, 0, b"a"), (1, 1, b"b"), (2, 0, bytes(12))]
    server.receive(ClientFrame(input_credit=[InputCredit(1, 3, 10), InputCredit(2, 2, 13)]))
    assert said(server) == [(1, 2, b"c"), (2, 1, b"b")]


def test_or_with_that_of_its_run():
    server = serving(input_outputs=100)
    server.receive(cut(1, 3, Resume(DIGEST, b"c", 3), first_credit=Credit(4, 100)))
    server.intake.next_run(1)
    make(server, 1, b"d", b"e")
    assert said(server) == [(1, 3, b"d")]


def test_of_a_client_without_the_feature_no_such_credit_is_heeded():
    server = serving(features=(), input_outputs=1)
    server.receive(
        ClientFrame(
            inputs=[InputRun(1, [b"x"], first_credit=Credit(0, 0))],
            input_credit=[InputCredit(1, 1, 1)],
        )
    )
    server.intake.next_run(1)
    make(server, 1, b"a", b"b")
    assert len(said(server)) == 2


def test_handlers_of_single_outputs_know_of_no_such_credit():
    server = make_server()
    server.receive(
        ClientFrame(open=opening(features=[FEATURE], limits=Limits(input_outputs=1)), credit=PLENTY)
    )
    server.welcome()
    server.receive(
        ClientFrame(
            inputs=[InputRun(1, [b"x"], first_credit=Credit(0, 0))],
            input_credit=[InputCredit(1, 0, 0)],
        )
    )
    server.intake.next_run(1)
    server.outbox.outputs(1, [b"X"])
    assert (1, 0, b"X") in said(server)


def test_the_head_may_send_what_the_lane_allows_though_later_ones_have_much():
    server = serving(b"1", b"2", order=Order.INPUT, credit=Credit(2, 100))
    make(server, 2, b"x", b"y", b"z")
    assert said(server) == []
    make(server, 1, b"a")
    assert said(server) == [(1, 0, b"a")]
    make(server, 1, b"b")
    assert said(server) == [(1, 1, b"b")]


# ------------------------------------------------------------------ ends


def test_an_end_needs_no_credit_and_answers_at_its_position():
    server = serving(credit=Credit(0, 0))
    server.receive(cut(1, 3, Resume(DIGEST, b"c", 3)))
    server.intake.next_run(1)
    server.outbox.close(1)
    (frame,) = (f for f in frames_out(server) if f.parts)
    assert frame.parts == [OutputPart(1, 3, (), last=True)]


def test_what_a_handler_raises_below_the_start_has_the_start_index():
    server = serving()
    server.receive(cut(1, 3, Resume(DIGEST, b"c", 3)))
    server.intake.next_run(1)
    server.outbox.fail(1, HANDLER, "no")
    (frame,) = (f for f in frames_out(server) if f.errors)
    assert (frame.errors[0].kind, frame.errors[0].index) == (HANDLER, 3)


def test_the_end_counts_every_input_that_was_answered():
    server = serving(b"1", b"2")
    make(server, 1, b"a", b"b")
    server.outbox.close(1)
    server.outbox.fail(2, HANDLER, "no")
    server.receive(end(2))
    frames = frames_out(server)
    assert frames[-1].end == ServerEnd(2, 2, 2)


# ------------------------------------------------------------------ cancelled


def test_a_cancelled_input_is_answered_at_once_at_what_was_sent():
    server = serving(b"1", b"2", input_outputs=1)
    make(server, 1, b"a", b"b")
    assert said(server) == [(1, 0, b"a")]
    server.receive(ClientFrame(cancelled=[NumberRange(1, 1)]))
    assert list(server.intake.take_cancelled()) == [1]  # its handler is to stop
    (frame,) = frames_out(server)
    assert [(e.number, e.kind, e.index) for e in frame.errors] == [(1, CANCELLED, 1)]
    make(server, 1, b"c")
    assert said(server) == []
    assert not server.outbox.wants(1)


def test_so_is_one_whose_handler_is_done_and_whose_outputs_have_no_credit():
    server = serving(b"1", input_outputs=1)
    make(server, 1, b"a", b"b")
    server.outbox.close(1)
    assert said(server) == [(1, 0, b"a")]
    server.receive(ClientFrame(cancelled=[NumberRange(1, 1)]))
    assert list(server.intake.take_cancelled()) == []
    assert said(server) == [(1, 1, None)]
    assert server.outbox.unanswered == 0


def test_of_a_run_that_is_put_back_the_cancelled_ones_are_answered_already():
    server = serving()
    server.receive(ClientFrame(inputs=[InputRun(1, [b"1", b"2", b"3"])]))
    run = server.intake.next_run(3)
    server.receive(ClientFrame(cancelled=[NumberRange(1, 1), NumberRange(3, 3)]))
    server.intake.put_back(run)
    run = server.intake.next_run(9)
    assert (run.first, run.payloads) == (2, [b"2"])
    assert server.intake.next_run(9) is None
    assert said(server) == [(1, 0, None), (3, 0, None)]


# ------------------------------------------------------------------ what is blocked


def blocked_on(server: ServerSession, count: int = 0) -> BlockedOn:
    frame = None
    while frame is None or frame.running is None:
        server.tick(Running(count=count))
        frame = server.next_frame()
    return frame.running.blocked_on


def test_a_heartbeat_says_what_is_waited_for():
    server = serving(b"1", input_outputs=1, heartbeat=1000)
    assert blocked_on(server, count=1) is BlockedOn.HANDLER
    make(server, 1, b"a")
    assert said(server) == [(1, 0, b"a")]
    assert not server.outbox.may_make(1)
    assert blocked_on(server) is BlockedOn.CREDIT
    server.receive(ClientFrame(input_credit=[InputCredit(1, 5, 100)]))
    assert list(server.outbox.take_resumable()) == [1]
    assert blocked_on(server, count=1) is BlockedOn.HANDLER
    server.outbox.close(1)
    said(server)
    assert blocked_on(server) is BlockedOn.INPUT


def test_large_frames_of_parts_are_announced():
    server = serving(b"1", features=(FEATURE, coming.FEATURE), heartbeat=1000)
    large = bytes(1024 * 1024)
    make(server, 1, large)
    frame = server.next_frame()
    assert (frame.coming.frame_bytes, frame.coming.number) == (len(large), 1)
    assert not frame.parts
    assert answers_in([server.next_frame()]) == [(1, 0, large)]
