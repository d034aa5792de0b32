"""The server's side of one attempt, by examples: frames, their effects, and the end."""

import pytest
from serving import (
    FULL,
    KIB,
    PLENTY,
    answers_in,
    computing,
    end,
    expect_breach,
    inputs,
    make_server,
    numbers_out,
    opening,
    serving,
    started,
)
from single_inputs import next_input

from servestream_client.errors import ItemErrorKind, RemoteProtocolError
from servestream_client.protocol.frames import (
    BlockedOn,
    ClientEnd,
    ClientFrame,
    Credit,
    Drain,
    Heartbeat,
    InputRun,
    Limits,
    NumberRange,
    Running,
    ServerEnd,
    StreamErrorKind,
    StreamFailure,
)
from servestream_client.protocol.server import ServerSession
from servestream_client.protocol.states import ServerState

MIB = 1024 * KIB

# ------------------------------------------------------------------ frames and pacing


def test_at_most_k_paced_frames_are_unacknowledged():
    server = computing(b"1", b"2", b"3", b"4", limits=Limits(unacknowledged_frames=2))
    for number in (1, 2):
        server.outbox.output(number, FULL, last=True)
        assert server.next_frame().paced
    server.outbox.output(3, FULL, last=True)
    assert server.next_frame() is None
    server.receive(ClientFrame(frames_read=1))
    assert [n for n, _, _ in answers_in([server.next_frame()])] == [3]


@pytest.mark.parametrize(
    ("credit", "ahead_bytes", "most"),
    [(64 * MIB, 64 * MIB, 512), (MIB, 64 * MIB, 256), (64 * MIB, MIB, 256)],
    ids=["plenty", "credit for little", "little ahead"],
)
def test_frames_that_are_read_soon_grow_within_a_quarter_of_what_may_be_ahead(
    credit, ahead_bytes, most
):
    offer = {"ahead_bytes": ahead_bytes, "limits": Limits(unacknowledged_frames=4)}
    server = serving(credit=Credit(1_000_000, credit), offer=offer)
    sizes, given = [], 0
    for first in range(1, 1 + 5 * 600, 600):
        server.receive(inputs(first, *[b"x"] * 600, frames_read=server._pacer.sent_frames))
        server.note_time(0.0)  # soon
        for number in started(server):
            server.outbox.output(number, bytes(KIB), last=True)
        while (frame := server.next_frame()) is not None:
            server.note_time(0.0)
            given += len(answers_in([frame]))
            sizes.append(sum(len(payload) for run in frame.outputs for payload in run.payloads))
            grant = Credit(1_000_000, credit + given * KIB)
            server.receive(ClientFrame(credit=grant, frames_read=server._pacer.sent_frames))
            server.note_time(0.0)
    assert given == 5 * 600
    assert (most - 4) * KIB <= max(sizes) <= most * KIB
    assert sizes[0] <= 65 * KIB


def test_a_server_whose_answers_wait_to_be_read_says_so():
    """Also where so much waits that no further input is started."""
    offer = {"ahead_bytes": 100, "limits": Limits(unacknowledged_frames=2)}
    server = serving(b"1", b"2", b"3", offer=offer, heartbeat_interval_ms=1000)
    assert server.intake.next_run(2) is not None
    server.outbox.fail(1, ItemErrorKind.HANDLER, "no")
    assert server.next_frame().errors
    server.outbox.output(2, bytes(200), last=True)
    assert server.next_frame() is None
    for waits_for in (BlockedOn.HANDLER, BlockedOn.NOTHING):
        server.tick(Running(count=int(waits_for is BlockedOn.HANDLER)))
        server.tick(Running(count=int(waits_for is BlockedOn.HANDLER)))
        assert server.next_frame().running.blocked_on is waits_for


def test_answers_that_fill_no_frame_wait_while_half_of_k_is_unacknowledged():
    server = computing(b"1", b"2", b"3", b"4", limits=Limits(unacknowledged_frames=3))
    for number in (1, 2):
        server.outbox.output(number, b"x", last=True)
        assert server.next_frame().paced
    server.outbox.output(3, b"x", last=True)
    server.outbox.fail(4, ItemErrorKind.HANDLER, "no")
    assert server.next_frame() is None
    server.receive(ClientFrame(frames_read=1))
    assert [n for n, _, _ in answers_in([server.next_frame()])] == [3, 4]


def test_acknowledging_more_than_was_sent_is_the_clients_error():
    server = computing(b"1")
    server.outbox.output(1, b"A", last=True)
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
    server.outbox.output(1, b"A", last=True)
    assert server.next_frame().frames_read == 1


def test_frames_that_are_not_paced_are_not_counted():
    server = serving()
    for _ in range(5):
        server.receive(ClientFrame(heartbeat=Heartbeat(), credit=PLENTY, taken_through=0))
    assert server.next_frame() is None


def test_an_end_alone_is_not_paced():
    server = computing(b"1", b"2", limits=Limits(unacknowledged_frames=2))
    for number in (1, 2):
        server.outbox.output(number, FULL, last=True)
        server.next_frame()
    server.receive(end(2))
    assert server.next_frame().end == ServerEnd(2, 2, 2)


# ------------------------------------------------------------------ end and closing


def test_the_end_comes_once_every_input_is_answered_and_counts_them():
    server = computing(b"1", b"2", first_number=1)
    server.receive(end(4))
    server.outbox.fail(2, ItemErrorKind.HANDLER, "no")
    assert server.next_frame() is None
    server.outbox.output(1, b"A", last=True)
    frame = server.next_frame()
    assert frame.end == ServerEnd(4, 2, 2)
    assert len(answers_in([frame])) == 2
    assert server.state is ServerState.LINGERING
    assert server.next_frame() is None


def test_there_is_no_end_before_the_clients():
    server = computing(b"1")
    server.outbox.output(1, b"A", last=True)
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
    next_input(server)
    if ended:
        server.receive(end(3))
    server.outbox.output(1, b"A", last=False)
    server.half_close()
    assert server.state is ServerState.ABANDONED
    assert server.over
    assert server.outbox.unanswered == 0
    assert next_input(server) is None
    server.outbox.output(1, b"B", last=True)
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
    assert next_input(server) is None
    assert server.next_frame() is None


def test_what_the_client_wrote_before_it_read_a_refusal_is_dropped():
    server = make_server()
    server.receive(ClientFrame(open=opening(attempt=0)))
    server.receive(inputs(1, b"x"))
    assert next_input(server) is None
    assert server.outbox.unanswered == 0


# ------------------------------------------------------------------ drain and giving up


def test_a_drain_is_said_once_and_where_else_the_service_is():
    server = serving(offer={"endpoints": ["other:1"]})
    server.drain(1000)
    assert server.state is ServerState.DRAINING
    assert server.next_frame().drain == Drain(1000, ["other:1"])
    assert server.next_frame() is None


def test_what_crossed_a_drain_is_served_to_the_end():
    server = computing(b"1")
    server.drain(1000)
    server.next_frame()
    server.receive(inputs(2, b"2", end=ClientEnd(2)))
    assert started(server) == [2]
    server.outbox.output(1, b"A", last=True)
    server.outbox.output(2, b"B", last=True)
    frame = server.next_frame()
    assert numbers_out(server) == []
    assert len(answers_in([frame])) == 2
    assert frame.end == ServerEnd(2, 2, 2)


def test_a_drained_server_closes_when_the_client_leaves():
    server = computing(b"1")
    server.drain(1000)
    server.outbox.output(1, b"A", last=True)
    frame = server.next_frame()
    assert (frame.drain, len(answers_in([frame])), frame.end) == (Drain(1000), 1, None)
    server.half_close()
    assert server.state is ServerState.CLOSED


def test_a_server_may_give_the_stream_up():
    server = serving(b"1", b"2")
    next_input(server)
    server.outbox.output(1, b"A", last=True)
    server.give_up(StreamErrorKind.INTERNAL, "broke", 10)
    assert server.state is ServerState.LINGERING
    assert server.outbox.unanswered == 0
    assert next_input(server) is None
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


def test_the_end_needs_no_credit():
    server = computing(b"1", credit=Credit(1, 1))
    server.receive(end(1))
    server.outbox.output(1, b"A", last=True)
    assert server.next_frame().end == ServerEnd(1, 1, 1)
