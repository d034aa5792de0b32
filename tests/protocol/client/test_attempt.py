"""One attempt: nothing goes beyond window, pacing and frame, and what waits does not fly."""

from random import Random

import pytest

from servestream_client.config import FlowControl
from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.client.attempt import Attempt
from servestream_client.protocol.client.counters import ClientCounters
from servestream_client.protocol.client.delivery import DeliveryQueue
from servestream_client.protocol.client.ledger import Ledger
from servestream_client.protocol.client.opening import Offer
from servestream_client.protocol.frames import CodecId, Credit, HandlerKind, Limits, Welcome
from servestream_client.protocol.pacing import FRAME_TARGET_BYTES
from servestream_client.protocol.runs import Run

ORDERS = pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
CODEC = CodecId("bytes")


class Model:
    """A ledger, and one attempt after the other, under random operations."""

    def __init__(self, random: Random, *, ordered: bool) -> None:
        self.random = random
        self.ledger = Ledger(FlowControl(window_items=50), ordered=ordered)
        self.queue = DeliveryQueue(self.ledger, Credit(1000, 10**9))
        self.counters = ClientCounters()
        self.offer = Offer(bytes(16), CODEC, ordered=ordered)
        self.sent: set[int] = set()  # on any attempt
        self.begin()

    def begin(self) -> None:
        random = self.random
        for number in self.ledger.cancelled_and_carried:
            self.queue.fail_here(number, ItemErrorKind.CANCELLED, "no")
        number = self.counters.attempts = self.counters.attempts + 1
        self.attempt = Attempt(number, self.offer, self.queue, self.counters)
        assert self.attempt.gather() == ()  # nothing is known of the server
        self.limits = Limits(
            window_items=random.randint(1, 12),
            window_bytes=random.choice([1, 50, 10**6]),
            unacknowledged_frames=random.randint(1, 4),
            frame_bytes=random.choice([40, 1 << 20]),
            item_bytes=random.choice([60, 100_000]),
        )
        self.attempt.welcomed(Welcome(limits=self.limits, handler_kind=HandlerKind.ONE_TO_ONE))
        self.frames = self.unread = 0
        self.open: dict[int, int] = {}  # in flight, with sizes

    def push(self) -> None:
        count = self.random.randint(1, 4)
        sizes = [self.random.choice([0, 1, 10, 61, 40_000, 70_000]) for _ in range(count)]
        if self.ledger.room[0] >= count:
            payloads = [bytes(size) for size in sizes]
            first = self.ledger.append(payloads, [None] * count, sum(sizes))
            self.attempt.unsent.append(Run(first, payloads, sum(sizes)))

    def gather(self) -> None:
        limits, before = self.limits, dict(self.open)
        runs = self.attempt.gather()
        if not runs:
            return
        self.frames += 1
        self.unread += 1
        sizes = []
        for run in runs:
            assert run.first_number > max([0, *self.open.keys() - before.keys()])
            for number, payload in enumerate(run.payloads, run.first_number):
                assert number > max(before, default=0)
                assert len(payload) <= limits.item_bytes
                self.open[number] = len(payload)
                sizes.append(len(payload))
        self.sent |= self.open.keys()
        assert self.unread <= limits.unacknowledged_frames
        assert len(self.open) <= limits.window_items
        assert sum(self.open.values()) <= limits.window_bytes or len(self.open) == 1
        room = min(FRAME_TARGET_BYTES, limits.frame_bytes)
        assert sum(sizes) + 4 * len(sizes) <= room or len(sizes) == 1

    def acknowledge(self) -> None:
        self.attempt.pacer.acknowledge(self.frames)
        self.unread = 0

    def answer(self) -> None:
        if not self.open:
            return
        number = min(self.open) if self.ledger.ordered else self.random.choice([*self.open])
        if self.ledger.ordered:
            assert self.attempt.turn() == number
            if self.ledger.turn != number:
                return
        self.attempt.answered(1, self.ledger.settle(number))
        del self.open[number]
        self.queue.flush_early()

    def cancel(self) -> None:
        number = self.random.randint(1, self.ledger.accepted + 1)
        if self.ledger.cancel(number):
            flies = number in self.open
            assert self.attempt.cancel(number) is flies
            if not flies:
                self.queue.fail_here(number, ItemErrorKind.CANCELLED, "no")

    def lose(self) -> None:
        if self.random.random() < 0.2:
            self.begin()

    def take(self) -> None:
        while self.queue.take() is not None:
            pass

    def check(self) -> None:
        attempt, ledger = self.attempt, self.ledger
        carried = {number for number, _ in ledger.replay if not ledger.elsewhere(number)}
        waiting = {number for run in attempt.unsent for number in range(run.first, run.last + 1)}
        assert waiting | self.open.keys() == carried
        assert not waiting & self.open.keys()
        assert attempt.suspects == sorted(self.open)
        assert attempt.in_flight_items == len(self.open)
        assert attempt.in_flight_bytes == sum(self.open.values())
        assert self.counters.sent == len(self.sent)


OPERATIONS = [
    Model.push, Model.push, Model.gather, Model.gather, Model.acknowledge, Model.answer,
    Model.answer, Model.answer, Model.cancel, Model.lose, Model.take,
]  # fmt: skip


@ORDERS
@pytest.mark.parametrize("seed", range(40))
def test_nothing_goes_beyond_what_holds_and_what_waits_does_not_fly(ordered, seed):
    random = Random(seed)
    model = Model(random, ordered=ordered)
    for _ in range(200):
        random.choice(OPERATIONS)(model)
        model.check()
    assert model.counters.sent > 5


def test_what_belongs_to_one_call_dies_with_it():
    model = Model(Random(1), ordered=True)
    ledger = model.ledger
    payloads = [b"a", b"b"]
    ledger.append(payloads, payloads, 2)
    model.begin()
    model.gather()
    model.attempt.cancel(1)
    model.attempt.end()
    model.begin()
    attempt = model.attempt
    assert (attempt.sent_through, attempt.in_flight_items, attempt.end_sent) == (0, 0, False)
    assert not attempt.cancelled
    assert (attempt.suspects, attempt.progressed, attempt.overdue) == ([], False, 0)
    assert [run.first for run in attempt.unsent] == [1]


def test_the_end_waits_for_what_waits_and_for_what_is_in_quarantine():
    model = Model(Random(1), ordered=True)
    ledger = model.ledger
    ledger.append([b"a", b"b"], [None, None], 2)
    ledger.quarantine([2])
    ledger.finish()
    model.begin()
    assert not model.attempt.may_end
    model.attempt.gather()
    assert not model.attempt.may_end
    model.queue.resolve_quarantined(2, b"2", None)
    assert model.attempt.may_end
    assert model.attempt.end().last_number == 2
    assert not model.attempt.may_end
