"""A stream over its attempts: what goes again, how it ends, and what is answered elsewhere."""

import pytest
from anatomy import anatomy
from streaming import (
    KIB,
    answers,
    error,
    expect_breach,
    frames_out,
    inputs_in,
    make_client,
    numbers_in,
    open_attempt,
    output,
    part,
    push_all,
    streaming,
    take_all,
)

from servestream_client.errors import ItemErrorKind, LocalProtocolError
from servestream_client.protocol.client import ClientSession, Part
from servestream_client.protocol.frames import (
    ClientEnd,
    Drain,
    HandlerKind,
    InputRun,
    ItemFailure,
    Limits,
    OutputRun,
    RefusalKind,
    Refused,
    ServerEnd,
    ServerFrame,
    StateToken,
    StreamErrorKind,
    StreamFailure,
    Welcome,
)
from servestream_client.protocol.states import ClientState

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


# ------------------------------------------------------------------ what is answered elsewhere


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


def test_outputs_in_parts_wait_for_inputs_that_are_tried_apart():
    session = streaming(b"1", b"2", b"3")
    session.lost(1)
    session.quarantine([1], in_part=True)
    open_attempt(session)
    frames_out(session)
    session.receive(2, part(2, 0, b"B", b"C"))
    session.receive(2, part(2, 2, last=True))
    session.receive(2, part(3, 0, b"D", b"E", last=True))
    assert take_all(session) == []
    assert session.delivery.held_outputs == 4
    assert not session.attempt.in_flight.items
    session.delivery.resolve_part(Part(1, 0, [b"A"], last=False))
    assert [(d.number, d.payload, d.last) for d in take_all(session)] == [(1, b"A", False)]
    assert session.ledger.unanswered == 3
    session.delivery.resolve_end(1, 1)
    assert [(d.number, d.payload, d.last) for d in take_all(session)] == [
        (1, None, True),
        (2, b"B", False),
        (2, b"C", False),
        (2, None, True),
        (3, b"D", False),
        (3, b"E", True),
    ]
    assert session.delivery.held_outputs == 0
    assert session.ledger.taken_through == 3


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


def test_no_input_has_a_number_below_the_first_that_the_open_frame_has_named():
    session = make_client(ordered=False)
    session.push_at(7, b"g")
    open_attempt(session)
    frames_out(session)
    session.receive(1, answers(7, b"G"))
    session.lost(1)
    assert session.may_push_at(3)  # as long as no attempt is under way
    session.begin()
    assert session.may_push_at(3)  # or has not begun
    assert session.next_frame().open.first_number == 8
    assert not session.may_push_at(7)
    assert session.may_push_at(8)


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
