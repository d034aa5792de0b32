"""The inputs that came, and which of them may be started."""

from random import Random

import pytest
from serving import (
    CODEC,
    MANY,
    PLENTY,
    answers_in,
    computing,
    end,
    expect_breach,
    frames_out,
    inputs,
    numbers_out,
    opening,
    run_started,
    serving,
    started,
)
from single_inputs import Input, next_input

from servestream_client.errors import FrameLostError, ItemErrorKind, RemoteProtocolError
from servestream_client.protocol.frames import (
    ClientFrame,
    Credit,
    Heartbeat,
    InputRun,
    ItemMetadata,
    Limits,
    NumberRange,
    Order,
)
from servestream_client.protocol.runs import Run
from servestream_client.protocol.server import ServerOffer
from servestream_client.protocol.server.intake import Intake
from servestream_client.protocol.server.opening import agree
from servestream_client.protocol.server.outbox import Outbox

# ------------------------------------------------------------------ inputs


def test_inputs_reach_the_handler_in_turn():
    server = serving(b"x", b"y", offer=MANY)
    server.receive(inputs(5, b"z", start=3))
    assert next_input(server) == Input(1, b"x", 0)
    assert next_input(server) == Input(2, b"y", 0)
    assert next_input(server) == Input(5, b"z", 3)
    assert next_input(server) is None


def test_a_start_index_belongs_to_the_first_input_of_a_run():
    server = serving(offer=MANY)
    server.receive(inputs(1, b"x", b"y", start=2))
    assert [next_input(server).start_index, next_input(server).start_index] == [2, 0]


@pytest.mark.parametrize("first", [1, 2])
def test_numbers_must_ascend_over_the_whole_attempt(first):
    expect_breach(serving(b"x", b"y"), inputs(first, b"z"), "numbers must ascend")


def test_numbers_must_ascend_within_a_frame():
    frame = ClientFrame(inputs=[InputRun(3, [b"x"]), InputRun(1, [b"y"])])
    expect_breach(serving(), frame, "numbers must ascend")


def test_no_number_may_lie_below_the_first_one_announced():
    expect_breach(
        serving(first_number=5), inputs(4, b"x"), "the open frame names input 5 as the first"
    )
    server = serving(first_number=5)
    server.receive(inputs(5, b"x"))
    assert started(server) == [5]


def test_the_window_is_enforced_in_items():
    limits = {"limits": Limits(window_items=2)}
    expect_breach(serving(b"1", b"2", offer=limits), inputs(3, b"3"), "window of 2 inputs")


def test_the_clients_own_window_is_enforced_too():
    server = serving(b"1", b"2", limits=Limits(window_items=2))
    expect_breach(server, inputs(3, b"3"), "window of 2 inputs")


def test_the_window_is_enforced_in_bytes():
    limits = {"limits": Limits(window_bytes=10)}
    server = serving(bytes(6), bytes(4), offer=limits)
    expect_breach(server, inputs(3, b"x"), "10 bytes")


def test_one_input_is_always_allowed_however_large():
    server = serving(bytes(1000), offer={"limits": Limits(window_bytes=10)})
    assert server.outbox.unanswered == 1


def test_an_answer_makes_room_in_the_window():
    server = computing(bytes(10), offer={"limits": Limits(window_items=1, window_bytes=10)})
    server.outbox.output(1, b"X", last=True)
    expect_breach(server, inputs(2, b"x"), "window")
    assert numbers_out(server) == [1]
    server = computing(bytes(10), offer={"limits": Limits(window_items=1, window_bytes=10)})
    server.outbox.output(1, b"X", last=True)
    server.next_frame()
    server.receive(inputs(2, bytes(10)))
    assert server.outbox.unanswered == 1


def test_the_item_limit_is_enforced():
    limits = {"limits": Limits(item_bytes=5)}
    assert serving(b"12345", offer=limits).outbox.unanswered == 1
    expect_breach(serving(offer=limits), inputs(1, b"123456"), "6 bytes")


def test_metadata_is_for_all_inputs_of_a_run_or_none():
    run = InputRun(1, [b"x", b"y"], metadata=[ItemMetadata()])
    expect_breach(serving(), ClientFrame(inputs=[run]), "metadata")
    server = serving()
    server.receive(
        ClientFrame(inputs=[InputRun(1, [b"x"], metadata=[ItemMetadata(priority=1)])]),
    )
    assert server.outbox.unanswered == 1


def test_inputs_may_not_follow_the_clients_end():
    server = serving(b"x")
    server.receive(end(1))
    expect_breach(server, inputs(2, b"y"), "inputs may not come")


def test_the_end_comes_once():
    server = serving(b"x")
    server.receive(end(1))
    expect_breach(server, end(1), "end may not come")


def test_the_end_may_not_lie_below_what_came():
    expect_breach(serving(b"x", b"y"), end(1), "the end names input 1")


# ------------------------------------------------------------------ the window, in runs


@pytest.mark.parametrize(
    ("sizes", "breach"),
    [
        ([4, 3, 3], None),
        ([10], None),
        ([0, 10], None),
        ([10, 0], None),
        ([1, 1, 1], None),
        ([0, 0, 0, 0], "input 4 exceeds the window of 3 inputs"),
        ([4, 3, 4], "input 3 exceeds the window of 3 inputs and 10 bytes"),
        ([11], None),  # one is allowed, however large
        ([11, 0], "input 2 exceeds the window"),
        ([0, 11], "input 2 exceeds the window"),
        ([1, 21, 1], "input 2 has 21 bytes, and at most 20 were"),
        ([21], "input 1 has 21 bytes"),
    ],
)
@pytest.mark.parametrize("in_runs", [1, 2], ids=["one run", "two runs"])
def test_the_window_is_enforced_within_a_run(sizes, breach, in_runs):
    server = serving(offer={"limits": Limits(window_items=3, window_bytes=10, item_bytes=20)})
    payloads = [bytes(size) for size in sizes]
    cut = len(payloads) if in_runs == 1 else len(payloads) // 2
    runs = [InputRun(1, payloads[:cut]), InputRun(1 + cut, payloads[cut:])]
    frame = ClientFrame(inputs=[run for run in runs if run.payloads])
    if breach is None:
        server.receive(frame)
        assert server.outbox.unanswered == len(sizes)
    else:
        expect_breach(server, frame, breach)


def test_a_run_is_held_to_what_the_window_leaves():
    limits = {"limits": Limits(window_items=4, window_bytes=10)}
    expect_breach(serving(b"1", b"2", offer=limits), inputs(3, *[b""] * 3), "input 5 exceeds")
    expect_breach(serving(bytes(8), offer=limits), inputs(2, b"x", b"yy"), "input 3 exceeds")
    server = serving(bytes(8), offer=limits)
    server.receive(inputs(2, b"x", b"y", b""))
    assert server.outbox.unanswered == 4


def test_the_outputs_of_a_run_make_room_in_the_window():
    server = computing(
        bytes(5), bytes(5), offer={"limits": Limits(window_items=2, window_bytes=10)}
    )
    server.outbox.outputs(1, [b"A", b"B"])
    assert numbers_out(server) == [1, 2]
    server.receive(inputs(3, bytes(5), bytes(5)))
    assert server.outbox.unanswered == 2


# ------------------------------------------------------------------ cancelling


def test_a_cancelled_input_that_has_not_started_never_does():
    server = serving(b"1", b"2", b"3", order=Order.ANY)
    server.receive(ClientFrame(cancelled=[NumberRange(2, 2)]))
    assert started(server) == [1, 3]
    (failure,) = server.next_frame().errors
    assert (failure.number, failure.kind) == (2, ItemErrorKind.CANCELLED)
    assert not server.intake.take_cancelled()


def test_an_ordered_cancelled_input_answers_in_its_turn():
    server = serving(b"1", b"2")
    next_input(server)
    server.receive(ClientFrame(cancelled=[NumberRange(2, 2)]))
    assert server.next_frame() is None
    server.outbox.output(1, b"A", last=True)
    assert numbers_out(server) == [1, 2]


def test_a_cancelled_input_that_has_started_is_named_once_and_still_answered():
    server = computing(b"1", b"2")
    server.receive(ClientFrame(cancelled=[NumberRange(1, 1)]))
    server.receive(ClientFrame(cancelled=[NumberRange(1, 1)]))
    assert list(server.intake.take_cancelled()) == [1]
    assert not server.intake.take_cancelled()
    assert server.next_frame() is None
    server.outbox.fail(1, ItemErrorKind.CANCELLED, "cancelled")
    assert numbers_out(server) == [1]


def test_a_cancelled_input_may_still_answer_with_its_output():
    server = computing(b"1")
    server.receive(ClientFrame(cancelled=[NumberRange(1, 1)]))
    server.outbox.output(1, b"A", last=True)
    assert answers_in(frames_out(server)) == [(1, 0, b"A")]


def test_cancelling_what_is_answered_changes_nothing():
    server = computing(b"1", b"2")
    server.outbox.output(2, b"B", last=True)
    server.receive(ClientFrame(cancelled=[NumberRange(2, 2), NumberRange(3, 9)]))
    assert not server.intake.take_cancelled()
    server.outbox.output(1, b"A", last=True)
    assert answers_in(frames_out(server)) == [(1, 0, b"A"), (2, 0, b"B")]


def test_a_huge_range_is_compared_and_not_walked_through():
    # Were it walked through, this would not return within pytest's timeout.
    server = serving(b"1", b"2", b"3")
    server.receive(ClientFrame(cancelled=[NumberRange(0, 2**64 - 1)]))
    assert started(server) == []
    assert numbers_out(server) == [1, 2, 3]


def test_a_range_that_ends_before_it_starts_is_empty():
    server = serving(b"1", b"2")
    server.receive(ClientFrame(cancelled=[NumberRange(2, 1)]))
    assert started(server) == [1, 2]


def test_a_cancel_in_the_frame_of_its_input_holds():
    server = serving()
    server.receive(inputs(1, b"x", b"y", cancelled=[NumberRange(1, 1)]))
    assert started(server) == [2]


# ------------------------------------------------------------------ runs of inputs


def test_consecutive_inputs_reach_the_handler_together():
    server = serving(b"1", b"2")
    server.receive(inputs(3, b"3", b"4"))
    assert run_started(server, 3) == (1, [b"1", b"2", b"3"], 0)
    assert run_started(server, 3) == (4, [b"4"], 0)
    assert server.intake.next_run(3) is None


def test_a_run_ends_before_a_gap_and_before_an_input_that_goes_on_in_its_middle():
    server = serving(offer=MANY)
    server.receive(
        ClientFrame(
            inputs=[InputRun(1, [b"1", b"2"], 3), InputRun(3, [b"3"], 1), InputRun(5, [b"5"])]
        )
    )
    assert run_started(server, 9) == (1, [b"1", b"2"], 3)
    assert run_started(server, 9) == (3, [b"3"], 1)
    assert run_started(server, 9) == (5, [b"5"], 0)


def test_an_input_cancelled_within_a_run_before_its_start_never_starts():
    server = serving(b"1", b"2", b"3", b"4", b"5")
    assert run_started(server, 1) == (1, [b"1"], 0)
    server.receive(ClientFrame(cancelled=[NumberRange(3, 3), NumberRange(5, 5)]))
    assert server.intake.startable_inputs == 2
    assert run_started(server, 9) == (2, [b"2"], 0)
    assert run_started(server, 9) == (4, [b"4"], 0)
    assert server.intake.next_run(9) is None
    for number in (1, 2, 4):
        server.outbox.outputs(number, [b"x"])
    (frame,) = frames_out(server)
    assert sorted(number for number, _, _ in answers_in([frame])) == [1, 2, 3, 4, 5]
    assert [error.number for error in frame.errors] == [3, 5]


def test_what_was_put_back_starts_again_before_the_others():
    server = serving(b"1", b"2", b"3", b"4")
    run = server.intake.next_run(3)
    server.intake.put_back(run.split(1))
    assert server.intake.startable_inputs == 3
    assert started(server) == [2, 3, 4]


def test_what_was_put_back_is_no_longer_started():
    server = serving(b"1", b"2", b"3")
    run = server.intake.next_run(3)
    server.intake.put_back(run.split(1))
    server.receive(ClientFrame(cancelled=[NumberRange(1, 2)]))
    assert list(server.intake.take_cancelled()) == [1]
    assert started(server) == [3]
    server.outbox.outputs(1, [b"A"])
    assert answers_in(frames_out(server)) == [(1, 0, b"A"), (2, 0, None)]


def test_what_is_put_back_after_it_was_cancelled_never_starts():
    server = serving(b"1", b"2", b"3", b"4", b"5")
    run = server.intake.next_run(5)
    server.receive(ClientFrame(cancelled=[NumberRange(1, 2), NumberRange(4, 4)]))
    assert list(server.intake.take_cancelled()) == [1, 2, 4]
    server.intake.put_back(run.split(1))
    assert started(server) == [3, 5]
    server.outbox.outputs(1, [b"A"])
    server.outbox.outputs(3, [b"C"])
    server.outbox.outputs(5, [b"E"])
    assert sorted(answers_in(frames_out(server)), key=lambda answer: answer[0]) == [
        (1, 0, b"A"),
        (2, 0, None),
        (3, 0, b"C"),
        (4, 0, None),
        (5, 0, b"E"),
    ]


def test_all_of_a_run_may_be_put_back():
    server = serving(b"1", b"2", offer=MANY)
    server.receive(inputs(5, b"5", start=2))
    server.intake.put_back(server.intake.next_run(9))
    assert run_started(server, 9) == (1, [b"1", b"2"], 0)
    server.intake.put_back(server.intake.next_run(9))
    assert run_started(server, 9) == (5, [b"5"], 2)


def test_nothing_is_put_back_once_the_client_has_gone():
    server = serving(b"1", b"2")
    run = server.intake.next_run(2)
    server.half_close()
    server.intake.put_back(run)
    assert not server.intake.startable
    assert server.intake.next_run(2) is None


def test_startable_are_those_that_wait_unless_too_much_output_does():
    server = serving(b"1", b"2", b"3", credit=Credit(0, 0), offer={"ahead_bytes": 10})
    assert (server.intake.startable, server.intake.startable_inputs) == (True, 3)
    server.intake.next_run(2)
    assert server.intake.startable_inputs == 1
    server.outbox.outputs(1, [bytes(4), bytes(5)])
    assert (server.intake.startable, server.intake.startable_inputs) == (True, 1)
    server.receive(inputs(4, b"4"))
    server.intake.next_run(1)
    server.outbox.outputs(3, [b"x"])
    assert (server.intake.startable, server.intake.startable_inputs) == (False, 0)
    assert server.intake.next_run(9) is None
    server.receive(ClientFrame(credit=Credit(1, 100)))
    assert numbers_out(server) == [1]
    assert (server.intake.startable, server.intake.startable_inputs) == (True, 1)


def test_the_inputs_for_which_early_output_waits_start_one_by_one_although_it_is_too_much():
    server = serving(b"1", b"2", b"3", b"4", offer={"ahead_bytes": 10})
    run = server.intake.next_run(2)
    server.intake.next_run(1)
    server.outbox.outputs(3, [bytes(10)])
    assert not server.intake.startable
    server.intake.put_back(run)
    assert run_started(server, 9) == (1, [b"1"], 0)
    assert server.intake.next_run(9) is None
    server.outbox.outputs(1, [b"A"])
    assert run_started(server, 9) == (2, [b"2"], 0)
    server.outbox.outputs(2, [b"B"])
    assert numbers_out(server) == [1, 2, 3]
    assert started(server) == [4]


def test_nothing_is_startable_where_nothing_waits():
    server = serving()
    assert (server.intake.startable, server.intake.startable_inputs) == (False, 0)
    server = computing(b"1")
    assert (server.intake.startable, server.intake.startable_inputs) == (False, 0)


def test_too_much_waiting_output_stops_the_next_input():
    server = serving(b"1", b"2", b"3", credit=Credit(1, 1000), offer={"ahead_bytes": 10})
    assert next_input(server).number == 1
    assert next_input(server).number == 2
    server.outbox.output(2, bytes(10), last=True)
    assert next_input(server) is None
    server.outbox.output(1, b"A", last=True)
    assert numbers_out(server) == [1]
    assert next_input(server) is None
    server.receive(ClientFrame(credit=Credit(2, 1000)))
    assert numbers_out(server) == [2]
    assert next_input(server).number == 3


# ------------------------------------------------------------------ the invariant


class Taking:
    """An intake under random operations, beside what must be true of it in plain words."""

    def __init__(self, random: Random, order: Order) -> None:
        self.random = random
        self.limits = Limits(
            window_items=random.choice([1, 5, 20]),
            window_bytes=random.choice([4, 30, 4096]),
            item_bytes=random.choice([3, 4096]),
        )
        offer = ServerOffer(codec=CODEC, limits=self.limits, ahead_bytes=10, **MANY)
        self.outbox = Outbox()
        self.intake = Intake(offer, self.outbox)
        terms = agree(offer, opening(order=order))
        self.outbox.begin(terms)
        self.intake.begin(terms)
        self.outbox.ready.credit.raise_to(PLENTY)
        self.number = 0
        self.bytes: dict[int, int] = {}  # of those that are not closed
        self.kept: set[int] = set()  # in the window
        self.waiting: list[int] = []
        self.started: set[int] = set()
        self.cancelled: set[int] = set()
        self.ever_started: set[int] = set()
        self.last_run: Run | None = None

    def come(self) -> None:
        random = self.random
        first = self.number + random.choice([1, 1, 1, 3])
        sizes = [random.choice([0, 1, 2, 4]) for _ in range(random.randint(1, 6))]
        run = InputRun(first, [bytes(size) for size in sizes])
        items, held = len(self.kept), sum(self.bytes.values())
        allowed = True
        for size in sizes:
            allowed &= size <= self.limits.item_bytes and (
                not items
                or (items < self.limits.window_items and held + size <= self.limits.window_bytes)
            )
            items, held = items + 1, held + size
        if not allowed:
            with pytest.raises(RemoteProtocolError):
                self.intake.receive_run(run)
            return
        self.intake.receive_run(run)
        numbers = range(first, first + len(sizes))
        self.bytes |= dict(zip(numbers, sizes, strict=True))
        self.kept |= set(numbers)
        self.waiting += numbers
        self.number = numbers[-1]

    def come_again(self) -> None:
        with pytest.raises(RemoteProtocolError):
            self.intake.receive_run(InputRun(self.random.randint(0, self.number), [b""]))
        with pytest.raises(FrameLostError):
            self.intake.check_sent(Heartbeat(self.intake.through + 1))
        self.intake.check_sent(Heartbeat(self.intake.through))

    def start(self) -> None:
        run = self.intake.next_run(self.random.randint(1, 5))
        if run is None:
            assert not self.waiting or self.outbox.held_bytes >= 10
            return
        numbers = list(range(run.first, run.last + 1))
        assert numbers == self.waiting[: len(numbers)]  # in turn, none twice, none cancelled
        assert [len(payload) for payload in run.payloads] == [self.bytes[n] for n in numbers]
        assert self.outbox.held_bytes < 10 or len(numbers) == 1
        del self.waiting[: len(numbers)]
        self.started |= set(numbers)
        self.last_run = run

    def put_back(self) -> None:
        run, self.last_run = self.last_run, None
        if run is None:
            return
        done = self.random.randrange(len(run.payloads))
        rest = run.split(done) if done else run
        numbers = range(rest.first, rest.last + 1)
        if not self.started.issuperset(numbers):
            return  # one of them is answered, and was started
        self.intake.put_back(rest)
        self.started -= set(numbers)
        self.waiting[:0] = [number for number in numbers if number not in self.cancelled]
        self.close(number for number in numbers if number in self.cancelled)

    def cancel(self) -> None:
        first = self.random.randint(0, self.number + 1)
        ranges = [NumberRange(first, first + self.random.randint(-1, 4)), NumberRange(first, first)]
        named = {n for each in ranges for n in range(each.first, each.last + 1)}
        fresh = named & self.started - self.cancelled
        if len(ranges) > self.limits.window_items:
            with pytest.raises(RemoteProtocolError):
                self.intake.receive_cancelled(ranges)
            return
        self.intake.receive_cancelled(ranges)
        assert list(self.intake.take_cancelled()) == sorted(fresh)
        assert not self.intake.take_cancelled()
        self.cancelled |= fresh
        dropped = [number for number in self.waiting if number in named]
        self.waiting = [number for number in self.waiting if number not in named]
        self.close(dropped)

    def answer(self) -> None:
        if self.started:
            number = self.random.choice(sorted(self.started))
            self.started.remove(number)
            self.outbox.output(number, bytes(self.random.choice([0, 1, 5])), last=True)
            self.close([number])
            self.last_run = None  # a run of which something is answered stays

    def close(self, numbers) -> None:
        for number in numbers:
            del self.bytes[number]
            self.cancelled.discard(number)

    def speak(self) -> None:
        answers = self.outbox.gather()
        for run in answers.runs:
            self.kept -= set(range(run.first, run.last + 1))
        self.kept -= {failure.number for failure in answers.errors}

    def check(self) -> None:
        assert list(self.outbox.open) == sorted(self.bytes)
        assert self.outbox.open.cancelled == self.cancelled
        assert self.outbox.unanswered == len(self.kept)
        assert self.intake.waiting.count == len(self.waiting)
        assert self.intake.startable_inputs in (0, len(self.waiting))
        assert self.intake.through == self.number
        # One is always allowed, however large; beyond that, the window holds.
        assert len(self.kept) <= self.limits.window_items
        assert len(self.bytes) <= 1 or self.outbox.open.size <= self.limits.window_bytes


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("order", [Order.INPUT, Order.ANY])
def test_the_window_holds_and_an_input_starts_once(order, seed):
    taking = Taking(Random(seed), order)
    steps = [taking.come, taking.start, taking.answer, taking.speak, taking.cancel]
    for _ in range(300):
        taking.random.choice([*steps * 2, taking.put_back, taking.come_again])()
        taking.check()
