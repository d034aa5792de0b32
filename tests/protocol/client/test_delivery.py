"""The delivery queue: each answer once, in order, and held until it is taken."""

from collections.abc import Sequence
from random import Random

import pytest
from streaming import (
    answers,
    error,
    expect_breach,
    failed,
    frames_out,
    inputs_in,
    kinds,
    make_client,
    numbers_in,
    open_attempt,
    output,
    part,
    streaming,
    take_all,
)

from servestream_client.config import FlowControl
from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.client.deliveries import Delivery, Part
from servestream_client.protocol.client.delivery import DeliveryQueue
from servestream_client.protocol.client.ledger import Ledger
from servestream_client.protocol.continuation import NEVER
from servestream_client.protocol.frames import (
    Credit,
    ItemFailure,
    OutputPart,
    OutputRun,
    ServerEnd,
    ServerFrame,
    Welcome,
)
from servestream_client.protocol.states import ClientState

ORDERS = pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
BUDGET = Credit(4, 40)


def make_queue(*, ordered: bool = True, inputs: int = 0) -> DeliveryQueue:
    ledger = Ledger(FlowControl(window_items=1000), ordered=ordered)
    if inputs:
        payloads = [b"i%d" % number for number in range(1, inputs + 1)]
        ledger.append(payloads, [f"item {n}" for n in range(1, inputs + 1)], 2 * inputs)
    return DeliveryQueue(ledger, BUDGET)


def answer(queue: DeliveryQueue, number: int, payload: bytes) -> None:
    """As a server's, whose turn it is."""
    queue.add(number, payload)
    queue.ledger.settle(number)
    queue.flush_early()


def taken(queue: DeliveryQueue) -> list[tuple[int, bytes | ItemErrorKind | None]]:
    found = []
    while (delivery := queue.take()) is not None:
        found.append(
            (delivery.number, delivery.failure.kind if delivery.failure else delivery.payload)
        )
    return found


class Model:
    """A queue under random operations, and what should come out of it."""

    def __init__(self, random: Random, *, ordered: bool) -> None:
        self.random = random
        self.ordered = ordered
        self.queue = make_queue(ordered=ordered)
        self.ledger = self.queue.ledger
        self.expected: dict[int, list[bytes | None]] = {}  # of each input
        self.found: list[tuple[int, bytes | None]] = []
        self.out: list[OutputRun] = []
        self.parts_out: list[Part] = []

    def push(self) -> None:
        number = self.ledger.append([b"in"], [None], 2)
        self.expected[number] = []

    def candidate(self) -> int | None:
        open_ones = [n for n in self.expected if self.ledger.carries(n)]
        if self.ordered:
            open_ones = [n for n in open_ones if n == self.ledger.turn]
        return self.random.choice(open_ones) if open_ones else None

    def output(self) -> None:
        """The only output of an input, or some of many."""
        number = self.candidate()
        if number is None:
            return
        index = self.ledger.next_index(number)
        if not index and self.random.random() < 0.5:
            self.expected[number].append(b"%d.0" % number)
            self.queue.add(number, b"%d.0" % number)
            self.go_on(number)
            return
        indexes = range(index, index + self.random.randint(1, 4))
        payloads = [b"%d.%d" % (number, each) for each in indexes]
        last = self.random.random() < 0.6
        self.expected[number] += payloads
        self.queue.add_part(Part(number, index, payloads, last), sum(map(len, payloads)))
        self.go_on(number, () if last else payloads)

    def end(self) -> None:
        number = self.candidate()
        if number is not None:
            self.queue.add_end(number, self.ledger.next_index(number))
            self.expected[number].append(None)
            self.go_on(number)

    def go_on(self, number: int, received: Sequence[bytes] = ()) -> None:
        """It is answered in part, with these outputs besides, or else in full."""
        if received:
            self.ledger.partial(number, NEVER, 0).receive(received)
        else:
            self.ledger.settle(number)
            self.queue.flush_early()

    def early(self) -> None:
        open_ones = [n for n in self.expected if self.ledger.carries(n)]
        number = self.random.choice(open_ones) if open_ones else None
        if number is None:
            return
        how = self.random.choice(["here", "server", "quarantine"])
        if how == "here" or number in self.ledger.partials:
            self.expected[number].append(None)
            self.queue.fail_here(number, ItemErrorKind.CANCELLED, "no")
            return
        payload = self.random.choice([b"early %d" % number, None])
        self.expected[number].append(payload)
        failure = None if payload is not None else ItemFailure(number, ItemErrorKind.POISON, "")
        if how == "server":
            self.queue.add_early(number, payload, failure)
        else:
            self.ledger.quarantine([number])
            assert self.queue.resolve_quarantined(number, payload, failure)
            assert not self.queue.resolve_quarantined(number, payload, failure)

    def take(self) -> None:
        delivery = self.queue.take()
        if delivery is not None:
            self.found.append((delivery.number, delivery.payload))

    def take_run(self) -> None:
        run = self.queue.take_run(self.random.randint(1, 3))
        if run is not None:
            self.found += enumerate(run.payloads, run.first_number)
            self.out.append(run)

    def take_part(self) -> None:
        part = self.queue.take_part(self.random.randint(1, 3))
        if part is not None:
            before = [payload for number, payload in self.found if number == part.number]
            assert part.first_index == len(before)
            self.found += [(part.number, payload) for payload in part.payloads]
            self.parts_out.append(part)

    def ack(self) -> None:
        if self.out:
            self.queue.ack_consumed(self.out.pop(self.random.randrange(len(self.out))))

    def ack_part(self) -> None:
        if self.parts_out:
            self.queue.ack_part(self.parts_out.pop(self.random.randrange(len(self.parts_out))))

    def check(self) -> None:
        queue = self.queue
        waiting = [
            [delivery.payload] if isinstance(delivery, Delivery) else [*delivery.payloads]
            for delivery in queue.ready
        ]
        held = [payload for group in waiting for payload in group if payload is not None]
        held += [early.payload for early in queue._early.values() if early.payload is not None]
        held += [payload for run in (*self.out, *self.parts_out) for payload in run.payloads]
        assert (queue.held_outputs, queue.held_bytes) == (len(held), sum(map(len, held)))
        parts = [each for each in queue.ready if isinstance(each, Part)] + self.parts_out
        for number in self.expected:
            own = [payload for part in parts if part.number == number for payload in part.payloads]
            assert queue.held_of(number) == Credit(len(own), sum(map(len, own)))
        assert queue._early.keys() == self.ledger.decided.keys()
        turn, none_out = self.ledger.turn, not (self.out or self.parts_out)
        if queue._early and not queue.ready and none_out and self.ledger.carries(turn):
            assert queue.held.outputs < BUDGET.outputs
            assert queue.held.bytes < BUDGET.bytes

    def finish(self) -> None:
        for number in list(self.expected):
            if self.ledger.carries(number):
                self.expected[number].append(None)
                self.queue.fail_here(number, ItemErrorKind.CANCELLED, "no")
        while self.queue.ready:
            self.take()
        while self.out:
            self.ack()
        while self.parts_out:
            self.ack_part()
        self.check()
        by_input: dict[int, list[bytes | None]] = {number: [] for number in self.expected}
        for number, payload in self.found:
            by_input[number].append(payload)
        assert by_input == self.expected
        if self.ordered:
            assert [number for number, _ in self.found] == sorted(n for n, _ in self.found)
        assert self.ledger.taken_through == self.ledger.accepted
        assert (self.queue.held_outputs, self.queue.held_bytes) == (0, 0)


OPERATIONS = [
    Model.push, Model.push, Model.output, Model.output, Model.output, Model.end, Model.early,
    Model.take, Model.take_run, Model.take_run, Model.take_part, Model.take_part, Model.ack,
    Model.ack, Model.ack_part, Model.ack_part,
]  # fmt: skip


@ORDERS
@pytest.mark.parametrize("seed", range(40))
def test_each_answer_comes_once_in_order_and_is_held_until_it_is_taken(ordered, seed):
    random = Random(seed)
    model = Model(random, ordered=ordered)
    for _ in range(200):
        random.choice(OPERATIONS)(model)
        model.check()
    model.finish()


def test_what_comes_early_waits_for_what_is_before_it():
    queue = make_queue(inputs=3)
    queue.fail_here(3, ItemErrorKind.CANCELLED, "no")
    queue.add_early(2, b"two", None)
    assert [failure.number for failure in queue.failed] == [3]
    assert taken(queue) == []
    answer(queue, 1, b"one")
    assert taken(queue) == [(1, b"one"), (2, b"two"), (3, ItemErrorKind.CANCELLED)]


def test_a_failure_hands_the_item_back_and_counts_until_it_is_taken():
    queue = make_queue(inputs=1)
    queue.add_failure(ItemFailure(1, ItemErrorKind.HANDLER, "no"))
    queue.ledger.settle(1)
    assert queue.ledger.kept_bytes == 2
    delivery = queue.take()
    assert (delivery.item, delivery.size) == ("item 1", 2)
    assert queue.ledger.kept_bytes == 0


def test_the_head_of_the_line_has_credit_though_the_budget_is_held_behind_it():
    queue = make_queue(inputs=6)
    for number in range(2, 7):
        queue.add_early(number, b"0123456789", None)
    assert queue.full
    assert queue.head_of_line_blocked
    assert queue.held == Credit(BUDGET.outputs - 1, BUDGET.bytes - 1)
    answer(queue, 1, b"one")
    assert not queue.head_of_line_blocked
    assert queue.held == Credit(6, 53)


def test_nobody_needs_credit_for_a_head_that_is_in_quarantine():
    queue = make_queue(inputs=2)
    queue.add_early(2, b"two", None)
    queue.ledger.quarantine([1])
    assert not queue.head_of_line_blocked


def test_an_isolated_input_is_answered_within_the_budget_or_alone_where_it_is_waited_for():
    queue = make_queue(inputs=7)
    queue.ledger.quarantine([1, 7])
    assert queue.can_buffer_isolated(7, 3)
    assert not queue.can_buffer_isolated(7, 4)
    for number in range(2, 6):
        queue.add_early(number, b"x", None)
    assert not queue.can_buffer_isolated(7, 0)
    assert queue.can_buffer_isolated(1, 0)
    assert not queue.can_buffer_isolated(1, 1)


def test_what_failed_elsewhere_failed_under_its_number_here():
    queue = make_queue(inputs=5)
    queue.ledger.quarantine([5])
    queue.resolve_quarantined(5, None, ItemFailure(1, ItemErrorKind.POISON, "no"))
    assert [failure.number for failure in queue.failed] == [5]


def in_part(number: int, *payloads: bytes, first: int = 0, last: bool = False) -> Part:
    return Part(number, first, payloads, last)


def test_outputs_that_come_early_wait_for_their_turn_and_are_held():
    queue = make_queue(inputs=3)
    queue.ledger.quarantine([1], in_part=True)
    queue.add_part(in_part(2, b"a", b"b"), 2)
    queue.add_part(in_part(2, b"c", first=2), 1)
    queue.end_early(2, 3)
    queue.add_part(in_part(3, b"d"), 1)
    assert taken(queue) == []
    assert (queue.held_outputs, queue.held_bytes) == (4, 4)
    assert queue.held_of(2) == Credit(3, 3)
    assert queue.waits_for_turn
    assert queue.resolve_part(in_part(1, b"x"))
    assert taken(queue) == [(1, b"x")]
    assert queue.resolve_part(in_part(1, b"y", first=1, last=True))
    assert taken(queue) == [(1, b"y"), (2, b"a"), (2, b"b"), (2, b"c"), (2, None), (3, b"d")]
    assert not queue.waits_for_turn
    assert (queue.held_outputs, queue.held_bytes, queue.ledger.taken_through) == (0, 0, 2)


def test_a_failure_comes_behind_the_outputs_that_came_early():
    queue = make_queue(inputs=2)
    queue.ledger.quarantine([1, 2], in_part=True)
    queue.resolve_part(in_part(2, b"a"))
    queue.resolve_quarantined(2, None, ItemFailure(7, ItemErrorKind.POISON, "", 1))
    assert queue.resolve_end(1, 0)
    assert taken(queue) == [(1, None), (2, b"a"), (2, ItemErrorKind.POISON)]


def test_the_head_has_credit_though_all_that_is_held_came_early_in_parts():
    queue = make_queue(inputs=2)
    queue.ledger.quarantine([2], in_part=True)
    queue.resolve_part(in_part(2, b"a", b"b", b"c", b"d"))
    assert queue.held == Credit(3, 4)
    assert queue.full


def test_what_came_early_counts_like_any_once_its_turn_has_come():
    queue = make_queue(inputs=2)
    queue.ledger.quarantine([1], in_part=True)
    queue.add_part(in_part(2, b"a", b"b", b"c", b"d"), 4)
    queue.resolve_end(1, 0)
    assert queue.held == Credit(4, 4)  # nothing of it waits behind the head any more


def test_whoever_answers_apart_hears_what_was_taken_of_it():
    queue = make_queue(inputs=1)
    queue.ledger.quarantine([1], in_part=True)
    heard = []
    queue.on_outside_taken.append(lambda *taken: heard.append(taken))
    queue.resolve_part(in_part(1, b"a", b"bcd"))
    queue.take()
    queue.take()
    assert heard == [(1, 1, 1), (1, 1, 3)]


def test_what_was_answered_already_is_not_answered_apart():
    queue = make_queue(inputs=1)
    assert not queue.resolve_part(in_part(1, b"a"))
    assert not queue.resolve_end(1, 0)
    assert taken(queue) == []


def test_a_consumer_that_takes_nothing_any_more_keeps_nothing():
    queue = make_queue(inputs=3)
    answer(queue, 1, b"one")
    queue.add_early(3, b"three", None)
    queue.drop_all()
    assert taken(queue) == []
    assert not queue.ledger.decided


# ------------------------------------------------------------------ through a session: credit


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


def test_places_that_are_kept_for_lanes_are_granted_to_nobody_else():
    queue = make_queue(inputs=4)
    queue.reserved = 3
    queue.add(1, b"12345")
    assert queue.held == Credit(4, 5)


@ORDERS
def test_a_run_of_a_lanes_answers_comes_in_its_turn(ordered):
    queue = make_queue(ordered=ordered, inputs=6)
    queue.ledger.quarantined.update({2, 3, 4, 5})
    assert queue.resolve_run(2, [b"2", b"3"]) == 2
    assert queue.resolve_run(4, [b"4"]) == 1
    queue.add(1, b"1")
    queue.ledger.settle(1)
    queue.flush_early()
    taken = []
    while (delivery := queue.take()) is not None:
        taken.append((delivery.number, delivery.payload))
    assert (taken if ordered else sorted(taken)) == [(n, b"%d" % n) for n in (1, 2, 3, 4)]
    assert queue.ledger.quarantined == {5}


def test_answers_of_a_lane_to_what_is_not_there_any_more_are_dropped():
    queue = make_queue(inputs=3)
    queue.ledger.quarantined.add(2)
    assert queue.resolve_run(1, [b"1", b"2", b"3"]) == 1
    assert queue.held_outputs == 1


def test_outputs_that_came_in_several_frames_are_taken_at_once():
    queue = make_queue(ordered=False, inputs=9)
    for first, count in ((1, 2), (3, 1), (4, 3), (8, 2)):
        queue.add_run(first, [b"o%d" % (first + n) for n in range(count)], 2 * count)
    runs = iter(lambda: queue.take_run(5), None)
    assert [(run.first_number, list(run.payloads)) for run in runs] == [
        (1, [b"o1", b"o2", b"o3"]),  # not beyond the limit,
        (4, [b"o4", b"o5", b"o6"]),  # nor over what is missing
        (8, [b"o8", b"o9"]),
    ]


def test_a_failure_in_between_keeps_its_place():
    queue = make_queue(inputs=3)
    answer(queue, 1, b"one")
    queue.add_failure(failed(2))
    queue.ledger.settle(2)
    answer(queue, 3, b"three")
    assert queue.take_run(9) == OutputRun(1, (b"one",))
    assert queue.take_run(9) is None
    taken = queue.take()
    assert taken is not None
    assert taken.number == 2
    assert queue.take_run(9) == OutputRun(3, (b"three",))
