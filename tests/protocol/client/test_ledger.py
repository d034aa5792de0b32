"""The ledger: each input is in exactly one place, the window holds, and a resume finds all."""

from random import Random

import pytest
from streaming import (
    answers,
    error,
    failed,
    frames_out,
    inputs_in,
    kinds,
    make_client,
    numbers_in,
    open_attempt,
    part,
    push_all,
    streaming,
    take_all,
)

from servestream_client.config import FlowControl
from servestream_client.errors import ItemErrorKind, LocalProtocolError
from servestream_client.protocol.client.ledger import Ledger
from servestream_client.protocol.continuation import NEVER, NO_OUTPUTS, ResumeTerms, digest
from servestream_client.protocol.frames import (
    InputRun,
    Limits,
    OutputRun,
    Replay,
    Resume,
    ServerFrame,
)

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
            self.ledger.partial(number, NEVER, 0).receive([b"output"])
            self.begun[number] = self.begun.get(number, 0) + 1
            assert self.ledger.next_index(number) == self.begun[number]

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


def test_where_each_input_has_a_consumer_its_place_is_free_once_it_is_answered():
    flow = FlowControl(window_items=2)
    for frees_places in (False, True):
        ledger = Ledger(flow, ordered=False, frees_places=frees_places)
        ledger.append([b"a", b"b"], [None, None], 2)
        assert not ledger.has_place
        ledger.settle(2)
        assert ledger.has_place is frees_places
        ledger.taken(2)
        ledger.drop(1)
        assert ledger.room[0] == 2
        assert ledger.taken_through == 2


def test_numbers_without_a_gap_are_kept_as_one_although_nobody_says_that_they_were_taken():
    ledger = Ledger(FlowControl(), ordered=False, frees_places=True)
    for number in range(1, 6):
        ledger.append([b"a"], [None], 1)
        ledger.settle(number)
    assert ledger.taken_through == 5


def test_what_is_dropped_in_its_middle_can_go_on_elsewhere():
    ledger = filled(b"a", b"b", ordered=False)
    partial = ledger.partial(2, ResumeTerms(Replay.SEEK, "f"), 1000)
    partial.receive([b"x", b"y"])
    assert ledger.drop(1) is None
    assert ledger.drop(2) is partial
    assert list(ledger.resume()) == []
    assert not ledger.partials


def test_a_resume_has_what_it_takes_to_go_on():
    ledger = filled(b"a", b"b", b"c")
    ledger.partial(2, ResumeTerms(Replay.SEEK, "f"), 1000).receive([b"x", b"y"])
    first, second, third = ledger.resume()
    assert (first.resume, third.resume) == (None, None)
    assert second.resume == Resume(digest(NO_OUTPUTS, [b"x", b"y"]))
    assert (second.start_index, second.resume_bytes) == (2, second.resume.size)


def test_nothing_follows_the_finish():
    ledger = filled(b"a")
    ledger.finish()
    assert not ledger.complete
    with pytest.raises(LocalProtocolError, match="after finish"):
        ledger.append([b"b"], [None], 1)
    ledger.settle(1)
    assert ledger.complete


# ------------------------------------------------------------------ inputs and the window


def test_inputs_are_numbered_from_one():
    session = make_client()
    assert [session.push(b"x"), session.push(b"y"), session.push(b"z")] == [1, 2, 3]
    assert session.ledger.accepted == session.ledger.unanswered == session.ledger.unsent == 3


def test_no_input_follows_the_finish():
    session = make_client()
    session.ledger.finish()
    with pytest.raises(LocalProtocolError, match="finish"):
        session.push(b"x")


def test_the_window_counts_inputs():
    session = make_client(window_items=2)
    push_all(session, b"", b"")
    assert not session.ledger.has_place
    assert not session.ledger.fits(0)


def test_the_window_counts_bytes():
    session = make_client(window_bytes=10)
    session.push(bytes(6))
    assert session.ledger.has_place
    assert session.ledger.fits(4)
    assert not session.ledger.fits(5)
    session.push(bytes(4))
    assert not session.ledger.has_place


def test_one_input_is_always_allowed_however_large():
    session = make_client(window_bytes=10)
    assert session.ledger.fits(1000)
    session.push(bytes(1000))
    assert not session.ledger.fits(0)
    assert not session.ledger.has_place


def test_a_place_is_held_until_the_last_output_was_taken():
    session = streaming(b"x", window_items=1)
    session.receive(1, part(1, 0, b"a", b"b", last=True))
    assert session.ledger.unanswered == 0
    assert not session.ledger.has_place
    session.delivery.take()
    assert not session.ledger.has_place
    session.delivery.take()
    assert session.ledger.has_place


def test_bytes_are_held_only_until_the_last_output_was_received():
    session = streaming(bytes(10), window_bytes=10)
    session.receive(1, part(1, 0, b"a"))
    assert not session.ledger.fits(1)
    session.receive(1, part(1, 1, b"b", last=True))
    assert session.ledger.fits(10)


def test_an_item_error_frees_place_and_bytes_likewise():
    session = streaming(bytes(10), window_items=1, window_bytes=10)
    session.receive(1, error(1))
    assert not session.ledger.has_place
    assert session.delivery.take().failure is not None
    assert session.ledger.has_place
    assert session.ledger.fits(10)


def test_taken_through_says_what_the_consumer_has():
    session = streaming(b"x", b"y", b"z", ordered=False)
    session.receive(1, ServerFrame(outputs=[OutputRun(1, [b"X"]), OutputRun(3, [b"Z"])]))
    assert session.ledger.taken_through == 0
    take_all(session)
    assert session.ledger.taken_through == 1
    session.receive(1, answers(2, b"Y"))
    take_all(session)
    assert session.ledger.taken_through == 3


def test_frames_carry_taken_through():
    session = streaming(b"x")
    session.receive(1, answers(1, b"X"))
    take_all(session)
    session.push(b"y")
    assert session.next_frame().taken_through == 1


# ------------------------------------------------------------------ runs of inputs


def test_inputs_are_accepted_together_under_consecutive_numbers():
    session = streaming(b"1")
    assert session.push_all([b"2", b"3"], ["two", "three"], 2) == 2
    assert session.push_all([b"4"], ["four"], 1) == 4
    assert session.ledger.accepted == session.ledger.unanswered == 4
    assert session.next_frame().inputs == (InputRun(2, [b"2", b"3", b"4"]),)


def test_inputs_accepted_together_wait_for_an_attempt_like_any():
    session = make_client()
    session.push_all([b"1", b"2"], [None, None], 2)
    session.push(b"3")
    open_attempt(session)
    assert inputs_in(frames_out(session)) == [(1, b"1"), (2, b"2"), (3, b"3")]


def test_each_input_of_a_run_comes_back_with_its_own_failure():
    session = make_client()
    session.push_all([b"1", b"2", b"3"], ["one", "two", "three"], 3)
    open_attempt(session)
    frames_out(session)
    session.receive(1, ServerFrame(outputs=[OutputRun(1, [b"A"])], errors=[failed(2), failed(3)]))
    assert [d.item for d in take_all(session)] == [None, "two", "three"]


def test_no_run_follows_the_finish():
    session = make_client()
    session.ledger.finish()
    with pytest.raises(LocalProtocolError, match="finish"):
        session.push_all([b"x"], [None], 1)


def test_the_caller_may_go_on_with_its_own_list():
    session = streaming()
    payloads, items = [b"1", b"2"], ["one", "two"]
    session.push_all(payloads, items, 2)
    payloads.clear()
    items.clear()
    session.lost(1)
    open_attempt(session)
    assert inputs_in(frames_out(session)) == [(1, b"1"), (2, b"2")]


def test_room_is_what_the_window_leaves_in_items_and_bytes():
    session = make_client(window_items=5, window_bytes=100)
    assert session.ledger.room == (5, 100)
    session.push_all([bytes(10), bytes(20)], [None, None], 30)
    assert session.ledger.room == (3, 70)
    session.push_failure(ItemErrorKind.INPUT_ENCODE, "no", size=7)
    assert session.ledger.room == (2, 63)


def test_room_grows_in_bytes_with_the_answer_and_in_items_with_the_taking():
    session = streaming(bytes(10), bytes(20), window_items=5, window_bytes=100)
    session.receive(1, answers(1, b"A"))
    assert session.ledger.room == (3, 80)
    session.delivery.take()
    assert session.ledger.room == (4, 80)


def test_a_large_input_leaves_no_room():
    session = make_client(window_bytes=10)
    session.push(bytes(1000))
    assert session.ledger.room[1] < 0


def test_a_run_of_inputs_is_cut_where_the_servers_window_ends():
    session = streaming(welcome={"limits": Limits(window_items=3)})
    session.push_all([b"1", b"2", b"3", b"4", b"5"], [None] * 5, 5)
    assert numbers_in(frames_out(session)) == [1, 2, 3]
    session.receive(1, answers(1, b"A", b"B"))
    assert numbers_in(frames_out(session)) == [4, 5]
    assert session.counters.sent == 5


def test_a_run_of_inputs_is_cut_where_the_servers_window_ends_in_bytes():
    session = streaming(welcome={"limits": Limits(window_bytes=10)})
    session.push_all([bytes(4), bytes(6), b"", bytes(1)], [None] * 4, 11)
    assert numbers_in(frames_out(session)) == [1, 2, 3]
    session.receive(1, answers(1, b"A"))
    assert numbers_in(frames_out(session)) == [4]


def test_inputs_above_the_servers_limit_fail_out_of_the_midst_of_a_run():
    session = streaming(welcome={"limits": Limits(item_bytes=5)}, ordered=False)
    payloads = [bytes(6), b"2", bytes(7), bytes(8), b"5", bytes(9)]
    session.push_all(payloads, list("abcdef"), sum(map(len, payloads)))
    assert inputs_in(frames_out(session)) == [(2, b"2"), (5, b"5")]
    too_large = take_all(session)
    assert [(d.number, d.item) for d in too_large] == [(1, "a"), (3, "c"), (4, "d"), (6, "f")]
    assert {d.failure.kind for d in too_large} == {ItemErrorKind.INPUT_TOO_LARGE}
    assert session.counters.sent == 2


def test_an_input_cancelled_out_of_the_midst_of_a_run_is_not_sent():
    session = streaming()
    session.push_all([b"1", b"2", b"3", b"4"], [None] * 4, 4)
    session.cancel(2)
    session.cancel(4)
    assert inputs_in(frames_out(session)) == [(1, b"1"), (3, b"3")]
    session.receive(1, ServerFrame(outputs=[OutputRun(1, [b"A"]), OutputRun(3, [b"C"])]))
    cancelled = ItemErrorKind.CANCELLED
    assert kinds(take_all(session)) == [(1, None), (2, cancelled), (3, None), (4, cancelled)]


def test_a_resume_of_a_run_counts_what_was_sent_before_and_what_was_not():
    session = streaming(welcome={"limits": Limits(window_items=2)})
    session.push_all([b"1", b"2", b"3", b"4"], [None] * 4, 4)
    frames_out(session)
    assert (session.counters.sent, session.counters.replayed) == (2, 0)
    session.lost(1)
    open_attempt(session)
    assert numbers_in(frames_out(session)) == [1, 2, 3, 4]
    assert (session.counters.sent, session.counters.replayed) == (4, 2)
