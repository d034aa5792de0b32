"""The ledger: each input is in exactly one place, the window holds, and a resume finds all."""

from random import Random

import pytest

from servestream_client.config import FlowControl
from servestream_client.errors import LocalProtocolError
from servestream_client.protocol.client.ledger import Ledger

ORDERS = pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
WINDOW_ITEMS, WINDOW_BYTES, LARGEST = 8, 60, 90


def make_ledger(*, ordered: bool = True) -> Ledger:
    flow = FlowControl(window_items=WINDOW_ITEMS, window_bytes=WINDOW_BYTES, max_item_bytes=LARGEST)
    return Ledger(flow, ordered=ordered)


def filled(*payloads: bytes, ordered: bool = True) -> Ledger:
    ledger = make_ledger(ordered=ordered)
    ledger.append(payloads, [None] * len(payloads), sum(map(len, payloads)))
    return ledger


class Model:
    """A ledger under random operations, and where each of its inputs should be."""

    def __init__(self, random: Random, *, ordered: bool) -> None:
        self.random = random
        self.ordered = ordered
        self.ledger = make_ledger(ordered=ordered)
        self.place: dict[int, str] = {}
        self.payloads: dict[int, bytes] = {}
        self.charged: dict[int, int] = {}  # of what failed and was not taken
        self.begun: dict[int, int] = {}  # which outputs came
        self.sent = 0

    def numbers(self, *places: str) -> list[int]:
        return [number for number, place in self.place.items() if place in places]

    def one(self, *places: str) -> int | None:
        numbers = self.numbers(*places)
        return self.random.choice(numbers) if numbers else None

    def push(self) -> None:
        size = self.random.choice([0, 1, 10, 30, LARGEST])
        before = self.ledger.kept_bytes
        if not self.ledger.fits(size):
            return
        assert before + size <= WINDOW_BYTES or not before
        number = self.ledger.append([b"x" * size], ["item"], size)
        self.place[number], self.payloads[number] = "carried", b"x" * size

    def push_unsendable(self) -> None:
        size = self.random.choice([5, 70])
        if self.ledger.fits(size):
            number = self.ledger.append_unsendable("item", size)
            self.ledger.decide(number, sent=False)
            self.place[number], self.payloads[number] = "decided", b""
            self.charged[number] = size

    def send(self) -> None:
        if self.ledger.accepted:
            number = self.random.randint(1, self.ledger.accepted)
            replayed = self.ledger.note_sent(number, 1)
            assert replayed == (number <= self.sent)
            self.sent = max(self.sent, number)

    def begin_answer(self) -> None:
        number = self.one("carried")
        if number is not None and not self.ledger.is_cancelled(number):
            self.begun[number] = self.ledger.next_index[number] = self.begun.get(number, 0) + 1

    def cancel(self) -> None:
        number = self.random.randint(0, self.ledger.accepted + 1)
        known = self.place.get(number)
        first = known is not None and not self.ledger.is_cancelled(number)
        assert self.ledger.cancel(number) == (first and known == "carried")
        if known in ("carried", "quarantined"):
            self.payloads[number] = b""

    def quarantine(self) -> None:
        some = [number for number in self.place if self.random.random() < 0.3]
        moved = [n for n in some if self.place[n] == "carried" and n not in self.begun]
        assert self.ledger.quarantine([0, *some]) == moved
        self.place.update(dict.fromkeys(moved, "quarantined"))

    def decide(self) -> None:
        number = self.one("carried", "quarantined")
        if number is not None:
            self.ledger.decide(number, sent=self.random.random() < 0.5)
            self.place[number] = "decided"

    def settle(self) -> None:
        number = self.one("carried", "decided")
        if self.ordered:
            number = min(self.numbers("carried", "decided", "quarantined"), default=None)
        if number is None or self.place[number] == "quarantined":
            return
        if number in self.charged or self.random.random() < 0.3:
            _, size = self.ledger.hand_back(number)
            assert size == self.charged.get(number, len(self.payloads[number]))
            self.charged[number] = size
        self.ledger.settle(number)
        self.place[number] = "settled"
        self.begun.pop(number, None)

    def take(self) -> None:
        number = self.one("settled")
        if number is not None:
            self.ledger.taken(number, 1, self.charged.pop(number, 0))
            self.place[number] = "taken"

    def drop(self) -> None:
        number = self.one("carried", "quarantined")
        if not self.ordered and number is not None and number not in self.charged:
            self.ledger.quarantined.discard(number)
            self.ledger.drop(number)
            self.place[number] = "taken"
            self.begun.pop(number, None)

    def check(self) -> None:
        ledger = self.ledger
        for number in range(1, ledger.accepted + 1):
            places = {
                "carried": ledger.carries(number),
                "decided": number in ledger.decided,
                "quarantined": number in ledger.quarantined,
                "settled": number not in ledger.replay,
            }
            assert sum(places.values()) == 1, (number, places)
            assert places[self.place[number].replace("taken", "settled")], number
        unanswered = self.numbers("carried", "decided", "quarantined")
        assert [number for number, _ in ledger.replay] == unanswered
        assert ledger.kept_bytes == sum(self.charged.values()) + sum(
            len(self.payloads[number]) for number in unanswered
        )
        places = WINDOW_ITEMS - len(unanswered) - len(self.numbers("settled"))
        assert ledger.room == (places, WINDOW_BYTES - ledger.kept_bytes)
        assert places >= 0
        assert ledger.sent_through == self.sent
        resumed = [(run.first, run.payloads, run.start_index) for run in ledger.resume()]
        assert resumed == [
            (number, [self.payloads[number]], self.begun.get(number, 0))
            for number in self.numbers("carried")
        ]
        through = ledger.taken_through
        assert all(self.place[number] == "taken" for number in range(1, through + 1))
        assert self.place.get(through + 1) != "taken"


OPERATIONS = [
    Model.push, Model.push, Model.push, Model.push_unsendable, Model.send, Model.begin_answer,
    Model.cancel, Model.quarantine, Model.decide, Model.settle, Model.settle, Model.take,
    Model.take, Model.drop,
]  # fmt: skip


@ORDERS
@pytest.mark.parametrize("seed", range(40))
def test_each_input_is_in_exactly_one_place_and_the_window_holds(ordered, seed):
    random = Random(seed)
    model = Model(random, ordered=ordered)
    for _ in range(200):
        random.choice(OPERATIONS)(model)
        model.check()
    assert model.ledger.accepted > 5


def test_what_was_cancelled_counts_as_it_was_sent_and_is_kept_no_longer():
    ledger = filled(b"12345", b"123")
    assert ledger.cancel(1)
    assert ledger.payload(1) == b""
    assert ledger.kept_bytes == 3
    assert ledger.size_sent(1) == 5
    assert ledger.settle(1, 2) == 8


def test_a_cancelled_input_that_is_carried_is_not_to_go_again():
    ledger = filled(b"a", b"b", b"c", b"d")
    for number in (1, 2, 3):
        ledger.cancel(number)
    ledger.decide(1, sent=False)
    ledger.quarantined.add(3)
    assert ledger.cancelled_and_carried == [2]


def test_the_unsent_are_those_that_no_server_can_have():
    ledger = filled(b"a", b"b", b"c", b"d")
    ledger.note_sent(1, 2)
    ledger.decide(1, sent=True)
    ledger.decide(3, sent=False)
    assert ledger.unsent == 2


def test_the_turn_is_the_first_unanswered_where_there_is_an_order():
    ledger = filled(b"a", b"b")
    assert ledger.turn == 1
    ledger.settle(1)
    assert ledger.turn == 2
    assert filled(b"a", ordered=False).turn == 0


def test_the_known_good_is_kept_with_its_payload_until_all_payloads_are_dropped():
    ledger = filled(b"a", b"b")
    ledger.cancel(1)
    ledger.note_good(1)
    assert ledger.known_good is None
    ledger.note_good(2)
    assert ledger.known_good == (2, b"b")
    ledger.drop_payloads()
    assert ledger.known_good is None
    assert [payload for _, payload in ledger.replay] == [b"", b""]


def test_a_number_of_the_callers_leaves_the_others_as_they_are():
    ledger = filled(b"a", ordered=False)
    ledger.append_at(7, b"b")
    assert ledger.accepted == 7
    ledger.append_at(3, b"c")
    assert ledger.accepted == 7
    assert [number for number, _ in ledger.replay] == [1, 3, 7]


def test_nothing_follows_the_finish():
    ledger = filled(b"a")
    ledger.finish()
    assert not ledger.complete
    with pytest.raises(LocalProtocolError, match="after finish"):
        ledger.append([b"b"], [None], 1)
    ledger.settle(1)
    assert ledger.complete
