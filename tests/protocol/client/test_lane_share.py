"""What of a stream goes on lanes, and what comes back from there."""

import pytest
from streaming import (
    answers,
    error,
    frames_out,
    numbers_in,
    open_attempt,
    part,
    streaming,
    take_all,
)

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol import continuation
from servestream_client.protocol.client import ClientSession, LaneShare, Part
from servestream_client.protocol.frames import HandlerKind, ItemFailure

ORDERS = pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])


def sharing(
    inputs: int, share: int | None, *, ordered: bool = True, outputs: int = 100
) -> tuple[ClientSession, LaneShare]:
    """A stream that has sent what its share allows."""
    session = streaming(ordered=ordered, output_items=outputs)
    lanes = LaneShare(session)
    lanes.bound(share)
    for number in range(1, inputs + 1):
        session.push(b"%d" % number)
    frames_out(session)
    return session, lanes


@ORDERS
def test_what_is_beyond_its_share_waits_for_lanes(ordered):
    _, lanes = sharing(10, 4, ordered=ordered)
    assert (lanes.carried, lanes.waiting) == (4, 6)


def test_without_a_share_nothing_waits():
    _, lanes = sharing(10, None)
    assert (lanes.carried, lanes.waiting) == (10, 0)


def test_a_share_of_nothing_sends_nothing():
    _, lanes = sharing(10, 0)
    assert (lanes.carried, lanes.waiting) == (0, 10)


@ORDERS
def test_lanes_take_what_waits_longest_and_answers_come_in_their_turn(ordered):
    session, lanes = sharing(6, 2, ordered=ordered)
    assert lanes.take(3, 1000) == (3, [b"3", b"4", b"5"])
    assert lanes.waiting == 1
    lanes.resolve(4, [b"d", b"e"])
    lanes.fail(3, ItemFailure(77, ItemErrorKind.HANDLER, "no"))
    session.receive(1, answers(1, b"a", b"b"))
    taken = take_all(session)
    numbers = [delivery.number for delivery in taken]
    assert sorted(numbers) == [1, 2, 3, 4, 5]
    assert numbers == sorted(numbers) or not ordered
    (failed,) = [delivery for delivery in taken if delivery.failure is not None]
    assert failed.failure.number == 3
    assert session.counters.by_lanes == 3


def test_a_lane_takes_one_whatever_its_size():
    _, lanes = sharing(4, 1)
    assert lanes.take(3, 0) == (2, [b"2"])


def test_without_a_server_all_that_was_not_taken_waits():
    session, lanes = sharing(6, 2)
    lanes.take(1, 100)
    session.lost(1)
    assert lanes.waiting == 5
    assert lanes.take(2, 100) == (1, [b"1", b"2"])
    open_attempt(session)
    assert lanes.waiting == 1  # of three, two of which are the stream's own share


def test_answers_that_are_to_come_have_their_places():
    session, lanes = sharing(10, 3, outputs=5)
    assert lanes.room_for(4) == 2  # what the stream itself has in flight has places, too
    lanes.take(2, 100)
    lanes.reserve(2)
    assert lanes.room_for(6) == 0
    lanes.reserve(0)
    lanes.resolve(4, [b"d", b"e"])
    assert lanes.room_for(6) == 0
    session.receive(1, answers(1, b"a", b"b", b"c"))
    take_all(session)
    assert lanes.room_for(6) == 5


@ORDERS
def test_who_waits_longest_is_next(ordered):
    session, lanes = sharing(6, 2, ordered=ordered)
    assert lanes.next == 3
    lanes.take(2, 100)
    assert lanes.next == 5
    session.lost(1)
    assert lanes.next == 1
    lanes.take(2, 100)
    assert lanes.next == 5
    lanes.take(2, 100)
    assert lanes.next == 0


def test_there_is_room_for_what_the_consumer_waits_for_though_others_are_in_flight():
    session, lanes = sharing(6, 2, outputs=3)
    lanes.take(2, 100)
    lanes.resolve(3, [b"c"])
    session.lost(1)
    assert [lanes.take(1, 100) for _ in range(2)] == [(1, [b"1"]), (2, [b"2"])]
    open_attempt(session)
    frames_out(session)
    assert lanes.carried == 2  # with 4, which a lane has, its answer is one too many
    lanes.resolve(2, [b"b"])
    lanes.resolve(4, [b"d"])
    assert session.delivery.full
    assert (lanes.room_for(1), lanes.room_for(5)) == (1, 0)


@pytest.mark.parametrize("elsewhere", [True, False])
def test_there_is_room_beyond_the_budget_for_what_the_consumer_waits_for_alone(elsewhere):
    session, lanes = sharing(10, 1, outputs=5)
    lanes.take(5, 100)
    session.lost(1)
    if elsewhere:  # on a stream of its own
        session.quarantine([1])
    lanes.resolve(2, [b"b", b"c", b"d", b"e", b"f"])
    assert lanes.next == (7 if elsewhere else 1)
    assert lanes.room_for(lanes.next) == (0 if elsewhere else 1)


@ORDERS
def test_lanes_take_single_inputs_of_which_outputs_may_have_come(ordered):
    session = streaming(
        ordered=ordered,
        welcome={"handler_kind": HandlerKind.ONE_TO_MANY, "features": (continuation.FEATURE,)},
    )
    lanes = LaneShare(session)
    assert lanes.take_one() == 0
    for number in (1, 2):
        session.push(b"%d" % number)
    frames_out(session)
    session.push(b"3")
    session.receive(1, part(1, 0, b"a", b"b"))
    assert lanes.take_one() == 3
    session.lost(1)
    lanes.bound(0)
    assert (lanes.next, lanes.waiting) == (1, 2)
    assert lanes.take(2, 100) is None  # it goes on, and does not begin
    assert [lanes.take_one() for _ in range(3)] == [1, 2, 0]
    assert session.ledger.next_index(1) == 2
    lanes.resolve_part(Part(2, 0, (b"x",), last=True))
    lanes.resolve_part(Part(1, 2, (b"c",), last=False))
    assert session.counters.by_lanes == 1
    lanes.resolve_end(1, 3)
    lanes.resolve_end(2, 1)  # that was said
    lanes.resolve_part(Part(3, 0, (b"z",), last=True))
    assert session.counters.by_lanes == 3
    assert session.ledger.unanswered == 0


@ORDERS
def test_of_what_is_lent_whoever_is_first_has_answered(ordered):
    session, lanes = sharing(6, 3, ordered=ordered)
    assert lanes.lend(1, 2) == 2
    lanes.resolve(1, [b"a"])
    assert [(each.number, each.payload) for each in take_all(session)] == [(1, b"a")]
    assert lanes.carried == 3  # its server has it still
    (notice,) = [frame for frame in frames_out(session) if frame.cancelled]
    assert [(each.first, each.last) for each in notice.cancelled] == [(1, 1)]
    session.receive(1, answers(1, b"too late"))
    assert (lanes.carried, session.counters.duplicates) == (2, 1)
    session.receive(1, answers(2, b"b"))
    assert not lanes.owed(2)
    lanes.resolve(2, [b"too late"])
    lanes.fail(2, ItemFailure(2, ItemErrorKind.HANDLER, "too late"))
    assert [(each.number, each.payload) for each in take_all(session)] == [(2, b"b")]
    assert session.counters.by_lanes == 1
    assert session.ledger.unanswered == 4


def test_a_failure_of_what_is_lent_is_its_answer_and_its_servers_is_dropped():
    session, lanes = sharing(3, 3)
    assert lanes.lend(1, 1) == 1
    lanes.fail(1, ItemFailure(9, ItemErrorKind.HANDLER, "no"))
    (failed,) = take_all(session)
    assert (failed.number, failed.failure.kind) == (1, ItemErrorKind.HANDLER)
    session.receive(1, error(1, kind=ItemErrorKind.CANCELLED))
    assert take_all(session) == []
    assert lanes.carried == 2


def test_what_is_lent_and_answered_goes_on_no_later_attempt():
    session, lanes = sharing(3, 3)
    assert lanes.lend(1, 2) == 2
    session.lost(1)
    lanes.resolve(1, [b"a"])
    open_attempt(session)
    lanes.resolve(2, [b"b"])
    assert numbers_in(frames_out(session)) == [3]
    assert [each.payload for each in take_all(session)] == [b"a", b"b"]


def test_nothing_is_lent_that_was_under_way_at_a_break_or_is_not_under_way():
    session, lanes = sharing(6, 3)
    assert lanes.lend(4, 1) == 0
    session.lost(1)
    assert lanes.lend(1, 1) == 0
    open_attempt(session)
    frames_out(session)
    assert lanes.lend(1, 3) == 0
    session.receive(2, answers(1, b"a", b"b", b"c"))
    frames_out(session)
    assert lanes.lend(4, 9) == 3
    assert lanes.lend(4, 9) == 0  # once is enough
    session.cancel(5)
    lanes.take_back(4)
    assert not lanes.owed(4)
    assert lanes.lend(4, 9) == 1


def test_what_was_lent_is_not_tried_apart_as_well():
    session, lanes = sharing(4, 3)
    assert lanes.lend(1, 2) == 2
    session.lost(1)
    assert session.quarantine([1, 2, 3]) == [3]
    lanes.take_back(2)
    assert session.quarantine([1, 2]) == [2]
    lanes.resolve(1, [b"a"])
    assert [each.payload for each in take_all(session)] == [b"a"]


def test_what_was_lent_and_is_taken_while_there_is_no_server_has_one_answer():
    session, lanes = sharing(4, 3)
    assert lanes.lend(1, 1) == 1
    session.lost(1)
    assert lanes.take(1, 1000) == (1, [b"1"])
    lanes.resolve(1, [b"a"])
    lanes.resolve(1, [b"b"])
    assert [each.payload for each in take_all(session)] == [b"a"]
    assert session.counters.by_lanes == 1
