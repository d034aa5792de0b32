"""One attempt: nothing goes beyond window, pacing and frame, and what waits does not fly."""

from random import Random

import pytest
from streaming import (
    FULL,
    KIB,
    answers,
    expect_breach,
    frames_out,
    inputs_in,
    numbers_in,
    open_attempt,
    output,
    part,
    push_all,
    streaming,
    take_all,
)

from servestream_client.config import FlowControl
from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.client.attempt import Attempt
from servestream_client.protocol.client.counters import ClientCounters
from servestream_client.protocol.client.delivery import DeliveryQueue
from servestream_client.protocol.client.ledger import Ledger
from servestream_client.protocol.client.opening import Offer
from servestream_client.protocol.frames import (
    ClientEnd,
    CodecId,
    Credit,
    HandlerKind,
    Heartbeat,
    InputRun,
    Limits,
    OutputRun,
    Running,
    ServerFrame,
    Welcome,
)
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
        self.attempt.answered(number, 1, self.ledger.settle(number))
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
        assert attempt.in_flight.items == len(self.open)
        assert attempt.in_flight.bytes == sum(self.open.values())
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
    assert (attempt.in_flight.sent_through, attempt.in_flight.items, attempt.end_sent) == (
        0,
        0,
        False,
    )
    assert not attempt.cancelled
    assert (attempt.suspects, attempt.progressed, attempt.reports.overdue) == ([], False, 0)
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


# ------------------------------------------------------------------ the server's limits


def test_a_lower_window_of_the_server_is_obeyed_in_items():
    session = streaming(welcome={"limits": Limits(window_items=2)})
    push_all(session, b"1", b"2", b"3", b"4")
    assert numbers_in(frames_out(session)) == [1, 2]
    session.receive(1, answers(1, b"A"))
    assert numbers_in(frames_out(session)) == [3]


def test_a_lower_window_of_the_server_is_obeyed_in_bytes():
    session = streaming(welcome={"limits": Limits(window_bytes=10)})
    push_all(session, bytes(6), bytes(4), bytes(1), bytes(100), bytes(1))
    assert numbers_in(frames_out(session)) == [1, 2]
    session.receive(1, answers(1, b"A", frames_read=1))
    assert numbers_in(frames_out(session)) == [3]
    session.receive(1, answers(2, b"B"))
    assert numbers_in(frames_out(session)) == []
    session.receive(1, answers(3, b"C", frames_read=2))
    assert numbers_in(frames_out(session)) == [4]
    session.receive(1, answers(4, b"D", frames_read=3))
    assert numbers_in(frames_out(session)) == [5]


def test_a_place_at_the_server_is_free_only_with_the_last_output():
    session = streaming(b"1", b"2", welcome={"limits": Limits(window_items=1)})
    session.receive(1, part(1, 0, b"a"))
    assert numbers_in(frames_out(session)) == []
    session.receive(1, part(1, 1, last=True))
    assert numbers_in(frames_out(session)) == [2]


def test_a_lower_k_of_the_server_is_obeyed():
    session = streaming(welcome={"limits": Limits(unacknowledged_frames=1)})
    session.push(b"1")
    assert len(frames_out(session)) == 1
    session.push(b"2")
    assert session.next_frame() is None


def test_a_higher_k_of_the_server_changes_nothing():
    session = streaming(
        max_unacknowledged_frames=2, welcome={"limits": Limits(unacknowledged_frames=9)}
    )
    for _ in range(2):
        session.push(FULL)
        assert session.next_frame() is not None
    session.push(FULL)
    assert session.next_frame() is None


def test_a_lower_frame_limit_of_the_server_is_obeyed():
    session = streaming(welcome={"limits": Limits(frame_bytes=100)})
    push_all(session, bytes(40), bytes(40), bytes(40))
    assert [numbers_in([frame]) for frame in frames_out(session)] == [[1, 2], [3]]


def test_an_input_above_the_servers_limit_fails_at_the_client():
    session = streaming(welcome={"limits": Limits(item_bytes=5)})
    session.push(b"12345")
    session.push(b"123456", item="the large one")
    session.push(b"1")
    assert inputs_in(frames_out(session)) == [(1, b"12345"), (3, b"1")]
    session.receive(1, ServerFrame(outputs=[OutputRun(1, [b"A"]), OutputRun(3, [b"C"])]))
    first, second, third = take_all(session)
    assert (first, third) == (output(1, b"A"), output(3, b"C"))
    assert second.failure.kind is ItemErrorKind.INPUT_TOO_LARGE
    assert second.item == "the large one"
    assert session.counters.sent == 2


# ------------------------------------------------------------------ frames and pacing


def test_what_waits_travels_together():
    session = streaming()
    push_all(session, b"x", b"y", b"z")
    session.ledger.finish()
    frame = session.next_frame()
    assert frame.inputs == (InputRun(1, [b"x", b"y", b"z"]),)
    assert frame.end == ClientEnd(3)
    assert session.next_frame() is None


def test_a_lone_input_leaves_at_once():
    session = streaming()
    session.push(b"x")
    assert numbers_in([session.next_frame()]) == [1]


def test_a_frame_stays_within_64_kib():
    session = streaming()
    push_all(session, *[bytes(10 * KIB)] * 10)
    assert [numbers_in([frame]) for frame in frames_out(session)] == [
        [1, 2, 3, 4, 5, 6],
        [7, 8, 9, 10],
    ]


def test_many_empty_inputs_fill_a_frame_too():
    session = streaming(window_items=1_000_000, welcome={"limits": Limits(window_items=1_000_000)})
    push_all(session, *[b""] * 20_000)
    first, second = frames_out(session)
    assert len(inputs_in([first])) == 64 * KIB // 4
    assert len(inputs_in([second])) == 20_000 - 64 * KIB // 4


def test_an_item_above_64_kib_goes_alone():
    session = streaming()
    push_all(session, b"small", bytes(100 * KIB), FULL)
    assert [numbers_in([frame]) for frame in frames_out(session)] == [[1], [2], [3]]


def test_at_most_k_paced_frames_are_unacknowledged():
    session = streaming(max_unacknowledged_frames=3)
    for _ in range(3):
        session.push(FULL)
        assert numbers_in([session.next_frame()])
    session.push(FULL)
    assert session.next_frame() is None
    session.receive(1, ServerFrame(frames_read=1))
    assert numbers_in([session.next_frame()]) == [4]
    session.push(FULL)
    assert session.next_frame() is None


def test_inputs_that_fill_no_frame_wait_while_half_of_k_is_unacknowledged():
    session = streaming(max_unacknowledged_frames=3)
    for _ in range(2):
        session.push(b"x")
        assert numbers_in([session.next_frame()])
    push_all(session, b"y", b"z")
    assert session.next_frame() is None
    session.receive(1, ServerFrame(frames_read=1))
    assert numbers_in([session.next_frame()]) == [3, 4]
    session.push(b"x")
    assert session.next_frame() is None


def test_an_end_alone_is_not_paced():
    session = streaming(max_unacknowledged_frames=2)
    for _ in range(2):
        session.push(FULL)
        session.next_frame()
    session.ledger.finish()
    assert session.next_frame().end == ClientEnd(2)


def test_a_frame_for_the_acknowledgement_alone_goes_at_half_of_k():
    session = streaming(b"1", b"2", max_unacknowledged_frames=4)
    session.receive(1, answers(1, b"A"))
    assert session.next_frame() is None
    session.receive(1, answers(2, b"B"))
    frame = session.next_frame()
    assert (frame.frames_read, frame.paced) == (2, False)
    assert session.next_frame() is None


def test_an_acknowledgement_rides_on_a_frame_with_inputs():
    session = streaming(b"1")
    session.receive(1, answers(1, b"A"))
    session.push(b"2")
    assert session.next_frame().frames_read == 1


def test_frames_that_are_not_paced_are_not_counted():
    session = streaming(b"1", max_unacknowledged_frames=2)
    for _ in range(5):
        session.receive(1, ServerFrame(heartbeat=Heartbeat(), running=Running(count=1)))
    assert session.next_frame() is None


def test_acknowledging_more_than_was_sent_is_the_servers_error():
    expect_breach(streaming(b"1"), ServerFrame(frames_read=2), "acknowledged")


def test_counts_of_frames_start_afresh_on_each_attempt():
    session = streaming(b"1", b"2")
    session.receive(1, answers(1, b"A", frames_read=1))
    session.lost(1)
    open_attempt(session)
    assert session.next_frame().frames_read == 0
    expect_breach(session, ServerFrame(frames_read=2), "acknowledged", attempt=2)


# ------------------------------------------------------------------ how much a frame gathers

ITEM = bytes(16 * KIB)
LIMITS = Limits(window_bytes=64 << 20)


def growing() -> ClientSession:
    return streaming(window_bytes=64 << 20, welcome={"features": ["coming"], "limits": LIMITS})


def exchange(session: ClientSession, after: float) -> int:
    """A full frame that is acknowledged after so many seconds. Returns how many inputs it had."""
    push_all(session, *[ITEM] * 64)
    numbers = numbers_in([session.next_frame()])
    session.attempt.note_time(0.0)
    frame = answers(
        numbers[0], *[b""] * len(numbers), frames_read=session.attempt.pacer.sent_frames
    )
    session.receive(1, frame)
    session.attempt.note_time(after)
    take_all(session)
    return len(numbers)


def test_frames_grow_where_they_are_acknowledged_soon_and_need_no_announcement_then():
    session = growing()
    found = [exchange(session, 0.05) for _ in range(5)]
    assert found == [3, 7, 15, 31, 31], "the last one is of 496 KiB, which else is announced"
    assert not session.attempt.announcements.lacks(512 * KIB)


def test_on_a_link_that_has_become_slow_they_shrink_and_are_announced_again():
    session = growing()
    while exchange(session, 0.05) < 31:
        pass
    assert [exchange(session, 1.5) for _ in range(4)] == [31, 15, 7, 3]
    assert session.attempt.announcements.lacks(321 * KIB)


def answer_soon(session: ClientSession, count: int) -> None:
    session.push_all([b""] * count, [None] * count, 0)
    numbers = numbers_in([session.next_frame()])
    session.attempt.note_time(0.0)
    sent = session.attempt.pacer.sent_frames
    session.receive(1, answers(numbers[0], *[b""] * len(numbers), frames_read=sent))
    session.attempt.note_time(0.01)
    take_all(session)


def test_the_default_window_opens_with_full_frames_that_are_acknowledged_soon():
    default = FlowControl().window_items
    session = streaming(welcome={"limits": Limits(window_items=default)})
    windows = [session.ledger.window_items]
    for _ in range(3):
        answer_soon(session, 3000)
        windows.append(session.ledger.window_items)
    assert windows == [4096, 8192, default, default]


def test_it_does_not_close_again():
    session = streaming(welcome={"limits": Limits(window_items=FlowControl().window_items)})
    answer_soon(session, 3000)
    session.ledger.open_window(0)  # as a new attempt would have it, on which nothing was seen yet
    assert session.ledger.window_items == 8192


@pytest.mark.parametrize("items", [10, 5000, 100_000])
def test_a_window_that_the_user_has_set_holds_at_once(items):
    session = streaming(window_items=items)
    assert session.ledger.window_items == items
    session.ledger.open_window(3)
    assert session.ledger.window_items == items


def test_a_frame_of_small_inputs_takes_no_more_than_a_quarter_of_the_window():
    session = streaming(window_items=1000, welcome={"limits": Limits(window_items=1000)})
    push_all(session, *[b""] * 2000)
    assert [len(inputs_in([frame])) for frame in frames_out(session)] == [250] * 4
