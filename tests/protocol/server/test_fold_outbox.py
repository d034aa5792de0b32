"""What a server of a stateful stream gives up, and what it sends again."""

from dataclasses import replace

import pytest

from servestream_client.errors import ItemErrorKind, RemoteProtocolError
from servestream_client.protocol.frames import (
    ClientFrame,
    CodecId,
    Credit,
    HandlerKind,
    InputRun,
    Limits,
    Open,
    Position,
    StreamErrorKind,
)
from servestream_client.protocol.server import ServerOffer, ServerSession
from servestream_client.protocol.state import FEATURE, KEPT_WINDOWS, misfit

CODEC = CodecId("bytes")


def serving(*inputs: bytes) -> ServerSession:
    server = ServerSession(ServerOffer(codec=CODEC, handler_kind=HandlerKind.STATEFUL))
    opened = Open(stream_id=bytes(16), attempt=1, codec=CODEC, features=(FEATURE,))
    server.receive(ClientFrame(open=opened, credit=Credit(100, 10_000)))
    server.fold.open_with(opened, "start")
    server.welcome()
    server.next_frame()
    if inputs:
        server.receive(ClientFrame(inputs=[InputRun(1, inputs)]))
        server.intake.next_run(len(inputs))
    return server


def compute(server: ServerSession, number: int, output: bytes = b"x") -> None:
    server.fold.prepare(number, f"state {number}")
    server.fold.outputs(number, (output,))


def test_what_is_given_up_owes_no_state():
    server = serving(b"a")
    compute(server, 1)
    server.give_up(StreamErrorKind.INTERNAL, "lost")
    fold = server.fold
    assert (fold.state, fold.fresh, fold.owes(last=1)) == (None, Credit(), False)
    frame = server.next_frame()
    assert frame.error is not None
    assert not frame.tokens


def test_a_state_that_was_lost_on_the_way_is_sent_again():
    server = serving(b"a")
    server.receive(ClientFrame(want_token=True))
    compute(server, 1)
    assert server.fold.owes()
    server.fold.offer(b"sealed")
    (token,) = server.next_frame().tokens
    assert server.next_frame() is None
    server.receive(ClientFrame(want_token=True))
    assert server.next_frame().tokens == (token,)


def test_a_failure_in_place_loses_the_state():
    server = serving(b"a", b"b")
    server.fold.in_place = True
    server.fold.fail(1, ItemErrorKind.DECODE, "no")
    assert server.fold.failure is None
    server.fold.fail(2, ItemErrorKind.TIMEOUT, "late")
    assert server.fold.failure.kind is StreamErrorKind.STATE


def test_of_its_inputs_one_window_may_be_unanswered_and_many_uncovered():
    window = Limits().window_items
    server = serving(*[b""] * window)
    with pytest.raises(RemoteProtocolError, match="exceeds the window"):
        server.receive(ClientFrame(inputs=[InputRun(window + 1, [b""])]))
    server, most, read = serving(), window * KEPT_WINDOWS, 0
    for first in range(1, most, window):
        server.receive(ClientFrame(inputs=[InputRun(first, [b""] * window)]))
        server.intake.next_run(window)
        server.receive(ClientFrame(credit=Credit(2 * most, 1 << 30)))
        for number in range(first, first + window):
            compute(server, number, b"")
        while (frame := server.next_frame()) is not None:
            read += frame.paced
            server.receive(ClientFrame(frames_read=read))
    with pytest.raises(RemoteProtocolError, match="exceeds the window"):
        server.receive(ClientFrame(inputs=[InputRun(most + 1, [b""])]))


def test_what_was_answered_before_counts_as_answered():
    window = Limits().window_items
    server = ServerSession(ServerOffer(codec=CODEC, handler_kind=HandlerKind.STATEFUL))
    opened = Open(
        stream_id=bytes(16),
        attempt=2,
        codec=CODEC,
        features=(FEATURE,),
        emit_from=Position(3 * window + 1),
        emit_digest=bytes(8),
    )
    server.receive(ClientFrame(open=opened, credit=Credit(100, 10_000)))
    server.fold.open_with(opened, "start")
    server.welcome()
    server.next_frame()
    server.receive(ClientFrame(inputs=[InputRun(1, [b""] * 4 * window)]))
    server.intake.next_run(window)
    for number in range(1, window + 1):
        compute(server, number)
    assert (server.fold.window_items, server.fold.kept_items) == (window, 4 * window)
    with pytest.raises(RemoteProtocolError, match=f"input {4 * window + 1} exceeds"):
        server.receive(ClientFrame(inputs=[InputRun(4 * window + 1, [b""])]))


def test_what_was_answered_leaves_before_the_failure_behind_it():
    server = serving(b"a", b"b", b"c", b"d")
    server.receive(ClientFrame(inputs=[InputRun(5, [b"e"])]))
    compute(server, 1)
    server.next_frame()
    server.fold.in_place = True
    for number in (2, 3):
        compute(server, number, bytes(12_000))
    server.fold.fail(4, ItemErrorKind.TIMEOUT, "late")
    server.intake.close()
    first = server.next_frame()
    assert [run.first_number for run in first.outputs] == [2]
    assert first.error is None
    assert server.next_frame() is None  # for want of credit
    server.receive(ClientFrame(inputs=[InputRun(6, [b"f"])]))
    assert server.intake.next_run(10) is None
    server.receive(ClientFrame(credit=Credit(100, 20_000), frames_read=2))
    last = server.next_frame()
    assert [run.first_number for run in last.outputs] == [3]
    assert last.error.kind is StreamErrorKind.STATE


def test_a_state_waits_for_the_answers_that_it_covers():
    server = serving(b"a", b"b")
    compute(server, 1)
    server.fold.offer(b"sealed")
    assert not server.fold.token_ready
    frame = server.next_frame()
    assert frame.outputs
    assert [token.number for token in frame.tokens] == [1]


def test_without_a_state_the_first_number_is_1_unless_nothing_was_answered():
    opened = Open(
        stream_id=bytes(16), attempt=1, codec=CodecId("bytes"), features=(FEATURE,), first_number=3
    )
    assert misfit(opened) is None
    lost = replace(opened, emit_from=Position(3), emit_digest=bytes(8))
    assert "the first number is 3, not 1" in misfit(lost).text
