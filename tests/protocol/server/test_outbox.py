"""The answers, until their turn has come."""

from operator import attrgetter
from random import Random

import pytest
from serving import (
    CODEC,
    PLENTY,
    SEVERAL,
    answers_in,
    computing,
    end,
    frames_out,
    inputs,
    numbers_out,
    opening,
    run_started,
    serving,
    started,
)
from single_inputs import next_input

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.frames import (
    ClientFrame,
    Credit,
    InputRun,
    ItemFailure,
    Limits,
    NumberRange,
    Order,
    OutputPart,
    OutputRun,
    ServerEnd,
    ServerFrame,
    StreamErrorKind,
)
from servestream_client.protocol.server import ServerOffer
from servestream_client.protocol.server.opening import agree
from servestream_client.protocol.server.outbox import Outbox

# ------------------------------------------------------------------ answers and their order


def test_ordered_answers_keep_the_order_of_inputs_however_handlers_finish():
    server = computing(b"1", b"2", b"3")
    server.outbox.output(3, b"C", last=True)
    server.outbox.fail(2, ItemErrorKind.HANDLER, "no")
    assert server.next_frame() is None
    server.outbox.output(1, b"A", last=True)
    frame = server.next_frame()
    assert frame.outputs == [OutputRun(1, [b"A"]), OutputRun(3, [b"C"])]
    assert frame.errors == [ItemFailure(2, ItemErrorKind.HANDLER, "no")]
    assert server.outbox.unanswered == 0


def test_unordered_answers_go_out_as_they_are_ready():
    server = computing(b"1", b"2", b"3", order=Order.ANY)
    server.outbox.output(3, b"C", last=True)
    assert numbers_out(server) == [3]
    server.outbox.output(2, b"B", last=True)
    server.outbox.output(1, b"A", last=True)
    assert numbers_out(server) == [2, 1]


def test_an_order_that_was_not_named_is_input_order():
    server = computing(b"1", b"2", order=Order.UNSPECIFIED)
    server.outbox.output(2, b"B", last=True)
    assert server.next_frame() is None


def test_neighbouring_answers_share_a_run():
    server = computing(b"1", b"2", b"3")
    for number, payload in enumerate((b"A", b"B", b"C"), 1):
        server.outbox.output(number, payload, last=True)
    assert server.next_frame().outputs == [OutputRun(1, [b"A", b"B", b"C"])]


def test_several_outputs_of_an_input_travel_as_parts():
    server = computing(b"1", b"2")
    server.outbox.output(2, b"second", last=True)
    server.outbox.output(1, b"a", last=False)
    assert server.next_frame().parts == [OutputPart(1, 0, (b"a",), last=False)]
    server.outbox.output(1, b"b", last=True)
    frame = server.next_frame()
    assert frame.parts == [OutputPart(1, 1, (b"b",), last=True)]
    assert frame.outputs == [OutputRun(2, [b"second"])]


def test_closing_makes_the_waiting_output_the_last():
    server = computing(b"1")
    server.outbox.output(1, b"a", last=False)
    server.outbox.close(1)
    assert server.next_frame().outputs == [OutputRun(1, [b"a"])]
    assert server.outbox.unanswered == 0


@pytest.mark.parametrize("order", [Order.INPUT, Order.ANY])
def test_closing_after_everything_went_out_sends_an_empty_last_part(order):
    server = computing(b"1", order=order)
    server.outbox.output(1, b"a", last=False)
    server.next_frame()
    server.outbox.close(1)
    assert server.next_frame().parts == [OutputPart(1, 1, (), last=True)]
    assert server.outbox.unanswered == 0


@pytest.mark.parametrize("order", [Order.INPUT, Order.ANY])
def test_an_item_error_follows_the_outputs_before_it(order):
    server = computing(b"1", order=order)
    server.outbox.output(1, b"a", last=False)
    server.outbox.output(1, b"b", last=False)
    server.outbox.fail(1, ItemErrorKind.HANDLER, "broke", retryable=True)
    frame = server.next_frame()
    assert [index for _, index, _ in answers_in([frame])] == [0, 1, 2]
    assert frame.errors == [ItemFailure(1, ItemErrorKind.HANDLER, "broke", 2, retryable=True)]


def test_a_resumed_input_goes_on_at_its_start_index():
    server = serving(offer=SEVERAL)
    server.receive(inputs(1, b"x", start=2))
    next_input(server)
    server.outbox.output(1, b"c", last=False)
    server.outbox.fail(1, ItemErrorKind.HANDLER, "broke")
    frame = server.next_frame()
    assert frame.parts == [OutputPart(1, 2, (b"c",), last=False)]
    assert frame.errors[0].index == 3


def test_a_last_output_that_is_not_the_first_is_no_run():
    server = serving(offer=SEVERAL)
    server.receive(inputs(1, b"x", start=2))
    server.outbox.output(1, b"c", last=True)
    assert server.next_frame().parts == [OutputPart(1, 2, (b"c",), last=True)]


@pytest.mark.parametrize("number", [0, 1, 7])
def test_answers_to_what_is_unknown_or_answered_are_dropped(number):
    server = computing(b"1", b"2")
    server.outbox.output(1, b"A", last=True)
    server.next_frame()
    server.outbox.output(number, b"again", last=True)
    server.outbox.close(number)
    server.outbox.fail(number, ItemErrorKind.HANDLER, "again")
    assert server.next_frame() is None
    assert server.outbox.unanswered == 1


def test_nothing_follows_an_inputs_last_output():
    server = computing(b"1", b"2")
    server.outbox.output(2, b"B", last=True)
    server.outbox.output(2, b"again", last=False)
    server.outbox.fail(2, ItemErrorKind.HANDLER, "again")
    server.outbox.output(1, b"A", last=True)
    assert answers_in(frames_out(server)) == [(1, 0, b"A"), (2, 0, b"B")]


def test_an_output_too_large_for_the_client_fails_its_input():
    server = computing(b"1", b"2", limits=Limits(item_bytes=3))
    server.outbox.output(1, b"1234", last=True)
    server.outbox.output(2, b"123", last=True)
    frame = server.next_frame()
    assert [(e.number, e.kind) for e in frame.errors] == [(1, ItemErrorKind.TOO_LARGE)]
    assert frame.outputs == [OutputRun(2, [b"123"])]


# ------------------------------------------------------------------ runs of outputs


def test_the_outputs_of_a_run_answer_its_inputs():
    server = computing(b"1", b"2", b"3")
    server.receive(end(3))
    server.outbox.outputs(1, [b"A", b"B", b"C"])
    frame = server.next_frame()
    assert answers_in([frame]) == [(1, 0, b"A"), (2, 0, b"B"), (3, 0, b"C")]
    assert len(frame.outputs) == 1
    assert frame.end == ServerEnd(3, 3, 3)


@pytest.mark.parametrize("order", [Order.INPUT, Order.ANY])
def test_of_a_run_only_what_is_not_answered_yet_is_answered(order):
    server = computing(b"1", b"2", b"3", b"4", order=order)
    server.outbox.fail(2, ItemErrorKind.HANDLER, "no")
    server.outbox.output(4, b"first", last=True)
    server.outbox.outputs(1, [b"A", b"B", b"C", b"D", b"E"])
    found = answers_in(frames_out(server))
    assert sorted(found, key=lambda answer: answer[0]) == [
        (1, 0, b"A"),
        (2, 0, None),
        (3, 0, b"C"),
        (4, 0, b"first"),
    ]
    assert server.outbox.unanswered == 0


def test_early_outputs_of_a_run_wait_for_their_turn():
    server = computing(b"1", b"2", b"3", b"4", b"5")
    server.outbox.outputs(4, [b"D", b"E"])
    server.outbox.outputs(2, [b"B"])
    assert server.next_frame() is None
    server.outbox.outputs(1, [b"A"])
    assert numbers_out(server) == [1, 2]
    server.outbox.outputs(3, [b"C"])
    assert answers_in(frames_out(server)) == [(3, 0, b"C"), (4, 0, b"D"), (5, 0, b"E")]


def test_early_outputs_wait_behind_an_input_with_several():
    server = computing(b"1", b"2", b"3")
    server.outbox.output(1, b"a", last=False)
    server.outbox.outputs(2, [b"B", b"C"])
    assert answers_in(frames_out(server)) == [(1, 0, b"a")]
    server.outbox.output(1, b"b", last=True)
    found = sorted(answers_in(frames_out(server)))
    assert found == [(1, 1, b"b"), (2, 0, b"B"), (3, 0, b"C")]


def test_unordered_outputs_of_a_run_do_not_wait():
    server = computing(b"1", b"2", b"3", b"4", order=Order.ANY)
    server.outbox.outputs(3, [b"C", b"D"])
    server.outbox.outputs(1, [b"A", b"B"])
    assert answers_in(frames_out(server)) == [
        (3, 0, b"C"),
        (4, 0, b"D"),
        (1, 0, b"A"),
        (2, 0, b"B"),
    ]


def test_outputs_keep_their_turn_across_gaps_between_runs_of_inputs():
    server = serving(b"1", b"2")
    server.receive(ClientFrame(inputs=[InputRun(5, [b"5", b"6"]), InputRun(9, [b"9"])]))
    assert started(server) == [1, 2, 5, 6, 9]
    server.outbox.outputs(5, [b"E", b"F"])
    server.outbox.outputs(9, [b"I"])
    assert numbers_out(server) == []
    server.outbox.outputs(1, [b"A", b"B"])
    assert numbers_out(server) == [1, 2, 5, 6, 9]


def test_the_outputs_of_a_run_may_belong_to_several_frames_of_inputs():
    server = serving(b"1")
    for number in (2, 3, 4):
        server.receive(inputs(number, b"%d" % number))
    assert run_started(server, 9)[0] == 1
    server.outbox.outputs(1, [b"A", b"B", b"C"])
    server.outbox.outputs(4, [b"D"])
    assert numbers_out(server) == [1, 2, 3, 4]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_of_a_run_only_the_output_that_is_too_large_fails_its_input(place):
    server = computing(b"1", b"2", b"3", limits=Limits(item_bytes=5))
    payloads = [b"12345", b"12345", b"12345"]
    payloads[place] = b"123456"
    server.outbox.outputs(1, payloads)
    (frame,) = frames_out(server)
    assert [(e.number, e.kind) for e in frame.errors] == [(place + 1, ItemErrorKind.TOO_LARGE)]
    assert len(answers_in([frame])) == 3


def test_a_run_whose_first_input_goes_on_in_its_middle_is_answered_there():
    server = serving(offer=SEVERAL)
    server.receive(inputs(1, b"1", b"2", start=2))
    server.intake.next_run(2)
    server.outbox.outputs(1, [b"a2", b"B"])
    frame = server.next_frame()
    assert frame.parts == [OutputPart(1, 2, (b"a2",), last=True)]
    assert answers_in([frame])[0] == (2, 0, b"B")


def test_a_cancelled_input_may_be_answered_within_a_run():
    server = computing(b"1", b"2", b"3")
    server.receive(ClientFrame(cancelled=[NumberRange(2, 2)]))
    assert list(server.intake.take_cancelled()) == [2]
    server.outbox.outputs(1, [b"A", b"B", b"C"])
    assert answers_in(frames_out(server)) == [(1, 0, b"A"), (2, 0, b"B"), (3, 0, b"C")]
    assert not server.outbox.open.cancelled


def test_outputs_after_the_end_of_the_attempt_are_dropped():
    server = computing(b"1", b"2")
    server.half_close()
    server.outbox.outputs(1, [b"A", b"B"])
    assert server.next_frame() is None
    server = computing(b"1", b"2")
    server.give_up(StreamErrorKind.INTERNAL, "broke")
    server.outbox.outputs(1, [b"A", b"B"])
    assert answers_in(frames_out(server)) == []


class Twins:
    """Two servers that see and do the same: one answers runs at once, the other one by one."""

    def __init__(self, random: Random, order: Order) -> None:
        self.random = random
        limits = Limits(
            window_items=20,
            window_bytes=random.choice([30, 4096]),
            item_bytes=random.choice([6, 4096]),
        )
        credit = Credit(random.randint(0, 10), random.randint(0, 40))
        offer = {"ahead_bytes": random.choice([10, 1000]), **SEVERAL}
        self.server, self.twin = (
            serving(credit=credit, limits=limits, order=order, offer=offer) for _ in range(2)
        )
        self.credit = credit
        self.number = 0
        self.running: list[int] = []
        self.sent: list[tuple[int, int, bytes | None]] = []

    def outcome(self, step) -> object:
        found = step(self.server), step(self.twin)
        assert found[0] == found[1]
        return found[0]

    def send(self) -> None:
        random = self.random
        if (
            self.server._pacer._read - self.server._pacer._reported
            >= Limits().unacknowledged_frames
        ):
            self.speak()  # a client waits for word of its frames
        self.number += random.choice([1, 1, 1, 2])
        count = min(random.randint(1, 4), 20 - self.server.outbox.unanswered)
        payloads = [b"x"] * min(count, 30 - self.server.outbox.open.size)
        if payloads:
            start = random.choice([0, 0, 0, 1])
            frame = inputs(self.number, *payloads, start=start, frames_read=self.read())
            self.outcome(lambda s: s.receive(frame))
            self.number += len(payloads) - 1

    def read(self) -> int:
        return self.server._pacer.sent_frames

    def start(self) -> None:
        limit = self.random.randint(1, 5)
        found = self.outcome(
            lambda s: (run := s.intake.next_run(limit)) and (run.first, len(run.payloads))
        )
        if found:
            self.running += range(found[0], found[0] + found[1])

    def answer(self) -> None:
        """Some consecutive ones of those that run; now and then others as well."""
        if not self.running:
            return
        random = self.random
        first = random.choice(self.running)
        count = random.randint(1, 5)
        if random.random() < 0.8:
            count = sum(number in self.running for number in range(first, first + count))
        payloads = [bytes(random.choice([0, 1, 2, 7])) for _ in range(count)]
        self.server.outbox.outputs(first, payloads)
        for number, payload in enumerate(payloads, first):
            self.twin.outbox.output(number, payload, last=True)
        self.running = [n for n in self.running if not first <= n < first + count]

    def other(self) -> None:
        """What makes an input special: an output that is not its last, or a failure."""
        if not self.running:
            return
        number = self.random.choice(self.running)
        match self.random.choice(["part", "fail", "cancel"]):
            case "part":
                self.outcome(lambda s: s.outbox.output(number, b"p", last=False))
            case "fail":
                self.outcome(lambda s: s.outbox.fail(number, ItemErrorKind.HANDLER, "no"))
                self.running.remove(number)
            case "cancel":
                ranges = [NumberRange(number, number + self.random.randint(0, 3))]
                self.outcome(lambda s: s.receive(ClientFrame(cancelled=ranges)))
                self.outcome(lambda s: list(s.intake.take_cancelled()))

    def grant(self) -> None:
        more = self.random.randint(0, 10), self.random.randint(0, 40)
        self.credit = Credit(self.credit.outputs + more[0], self.credit.bytes + more[1])
        self.outcome(lambda s: s.receive(ClientFrame(credit=self.credit)))

    def speak(self) -> None:
        frames = self.outcome(lambda s: [spoken(frame) for frame in frames_out(s)])
        self.sent += [answer for frame in frames for answer in frame]
        frame = ClientFrame(frames_read=self.read())
        self.outcome(lambda s: s.receive(frame))

    def same(self) -> None:
        for name in ("intake.startable", "intake.startable_inputs", "outbox.unanswered", "over"):
            assert attrgetter(name)(self.server) == attrgetter(name)(self.twin), name


def spoken(frame: ServerFrame) -> list[tuple[int, int, bytes | None]]:
    return sorted(answers_in([frame]), key=lambda answer: answer[:2])


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("order", [Order.INPUT, Order.ANY])
def test_outputs_of_a_run_come_to_the_same_as_one_by_one(order, seed):
    twins = Twins(Random(seed), order)
    for _ in range(200):
        step = twins.random.choice([twins.send, twins.start, twins.answer, twins.speak])
        if twins.random.random() < 0.2:
            step = twins.random.choice([twins.other, twins.grant])
        step()
        twins.same()
    if order is Order.INPUT:
        numbers = [number for number, _, _ in twins.sent]
        assert numbers == sorted(numbers)


# ------------------------------------------------------------------ the invariant


class Answering:
    """An outbox under random operations, and what its answers are to be."""

    def __init__(self, random: Random, order: Order) -> None:
        self.random = random
        self.ordered = order is Order.INPUT
        self.outbox = Outbox()
        limits = Limits(item_bytes=6, frame_bytes=random.choice([20, 100, 1 << 20]))
        self.outbox.begin(agree(ServerOffer(codec=CODEC), opening(order=order, limits=limits)))
        self.outbox.ready.credit.raise_to(PLENTY)
        self.number = 0
        self.order: list[int] = []
        self.open: set[int] = set()
        self.fresh: set[int] = set()  # of which nothing was said yet
        self.wanted: dict[int, list[bytes | None]] = {}  # None: an error
        self.first_index: dict[int, int] = {}
        self.sent: list[tuple[int, int, bytes | None]] = []

    def expect(self) -> None:
        first = self.number + self.random.choice([1, 1, 3])
        count, start = self.random.randint(1, 4), self.random.choice([0, 0, 0, 2])
        self.outbox.expect(first, [1] * count, start)
        numbers = range(first, first + count)
        self.number = numbers[-1]
        self.order += numbers
        self.open |= set(numbers)
        self.fresh |= set(numbers)
        self.wanted |= {number: [] for number in numbers}
        self.first_index |= dict.fromkeys(numbers, 0) | {first: start}

    def note(self, number: int, answer: bytes | None, *, last: bool) -> None:
        """What is said of an input that is answered, or unknown, must change nothing."""
        if number not in self.open:
            return
        self.fresh.discard(number)
        if answer is not None and len(answer) > 6:
            answer, last = None, True
        self.wanted[number].append(answer)
        if last or answer is None:
            self.open.remove(number)

    def any_number(self) -> int:
        known = sorted(self.open)
        if known and self.random.random() < 0.9:
            return self.random.choice(known)
        return self.random.randint(0, self.number + 1)

    def outputs(self) -> None:
        first = self.any_number()
        payloads = [bytes(self.random.choice([0, 1, 5, 7])) for _ in range(3)]
        self.outbox.outputs(first, payloads)
        for number, payload in enumerate(payloads, first):
            self.note(number, payload, last=True)

    def output(self) -> None:
        number, last = self.any_number(), self.random.random() < 0.5
        payload = bytes(self.random.choice([0, 1, 5, 7]))
        self.outbox.output(number, payload, last=last)
        self.note(number, payload, last=last)

    def close(self) -> None:
        number = self.any_number()
        self.outbox.close(number)
        self.open.discard(number)
        self.fresh.discard(number)

    def fail(self) -> None:
        number = self.any_number()
        self.outbox.fail(number, ItemErrorKind.HANDLER, "no")
        self.note(number, None, last=True)

    def drop(self) -> None:
        numbers = sorted(n for n in self.fresh if self.random.random() < 0.3)
        self.outbox.drop(numbers)
        for number in numbers:
            self.note(number, None, last=True)

    def speak(self) -> None:
        answers = self.outbox.gather()
        frame = ServerFrame(
            outputs=[OutputRun(run.first, run.payloads) for run in answers.runs],
            parts=answers.parts,
            errors=answers.errors,
        )
        self.sent += sorted(answers_in([frame]), key=lambda each: each[:2])

    def check(self) -> None:
        assert set(self.outbox.open) == self.open
        sent = sum(len(payload or b"") for _, _, payload in self.sent)
        due = sum(len(payload or b"") for said in self.wanted.values() for payload in said)
        assert self.outbox.held_bytes == due - sent
        assert self.outbox.unanswered + self.outbox.answered == len(self.wanted)

    def finish(self) -> None:
        for number in sorted(self.open, reverse=True):
            self.outbox.output(number, b"z", last=True)
            self.note(number, b"z", last=True)
        while self.outbox.ready.waiting:
            self.speak()
        self.check()
        assert (self.outbox.unanswered, self.outbox.held_bytes) == (0, 0)
        assert not self.outbox.early
        found: dict[int, list[tuple[int, bytes | None]]] = {number: [] for number in self.wanted}
        for number, index, payload in self.sent:
            found[number].append((index, payload))
        for number, said in self.wanted.items():
            assert found[number] == list(enumerate(said, self.first_index[number])), number
        if self.ordered:
            numbers = [number for number, _, _ in self.sent]
            assert numbers == sorted(numbers)


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("order", [Order.INPUT, Order.ANY])
def test_each_input_is_answered_once_and_in_order(order, seed):
    answering = Answering(Random(seed), order)
    steps = [answering.expect, answering.outputs, answering.output, answering.speak]
    for _ in range(200):
        step = answering.random.choice(
            [*steps * 2, answering.close, answering.fail, answering.drop]
        )
        step()
        answering.check()
    answering.finish()
