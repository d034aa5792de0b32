"""The delivery queue: each answer once, in order, and held until it is taken."""

from random import Random

import pytest

from servestream_client.config import FlowControl
from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.client.delivery import Delivery, DeliveryQueue
from servestream_client.protocol.client.ledger import Ledger
from servestream_client.protocol.frames import Credit, ItemFailure, OutputRun

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
    queue.add(number, 0, payload, last=True)
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

    def push(self) -> None:
        number = self.ledger.append([b"in"], [None], 2)
        self.expected[number] = []

    def candidate(self) -> int | None:
        open_ones = [n for n in self.expected if self.ledger.carries(n)]
        if self.ordered:
            open_ones = [n for n in open_ones if n == self.ledger.turn]
        return self.random.choice(open_ones) if open_ones else None

    def output(self) -> None:
        number = self.candidate()
        if number is None:
            return
        index = self.ledger.next_index.get(number, 0)
        last = self.random.random() < 0.6
        payload = b"%d.%d" % (number, index)
        self.expected[number].append(payload)
        self.queue.add(number, index, payload, last=last)
        self.go_on(number, index, last=last)

    def end(self) -> None:
        number = self.candidate()
        if number is not None:
            self.queue.add_end(number, self.ledger.next_index.get(number, 0))
            self.expected[number].append(None)
            self.go_on(number, 0, last=True)

    def go_on(self, number: int, index: int, *, last: bool) -> None:
        if last:
            self.ledger.settle(number)
            self.queue.flush_early()
        else:
            self.ledger.next_index[number] = index + 1

    def early(self) -> None:
        open_ones = [n for n in self.expected if self.ledger.carries(n)]
        number = self.random.choice(open_ones) if open_ones else None
        if number is None:
            return
        how = self.random.choice(["here", "server", "quarantine"])
        if how == "here" or number in self.ledger.next_index:
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

    def ack(self) -> None:
        if self.out:
            self.queue.ack_consumed(self.out.pop(self.random.randrange(len(self.out))))

    def check(self) -> None:
        queue = self.queue
        waiting = [
            [delivery.payload] if isinstance(delivery, Delivery) else [*delivery.payloads]
            for delivery in queue.ready
        ]
        held = [payload for group in waiting for payload in group if payload is not None]
        held += [early.payload for early in queue._early.values() if early.payload is not None]
        held += [payload for run in self.out for payload in run.payloads]
        assert (queue.held_outputs, queue.held_bytes) == (len(held), sum(map(len, held)))
        assert queue._early.keys() == self.ledger.decided.keys()
        turn = self.ledger.turn
        if queue._early and not queue.ready and not self.out and self.ledger.carries(turn):
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
    Model.take, Model.take_run, Model.take_run, Model.ack, Model.ack,
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


def test_a_consumer_that_takes_nothing_any_more_keeps_nothing():
    queue = make_queue(inputs=3)
    answer(queue, 1, b"one")
    queue.add_early(3, b"three", None)
    queue.drop_all()
    assert taken(queue) == []
    assert not queue.ledger.decided
