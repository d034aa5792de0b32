"""The answers of a handler that gives many outputs."""

from random import Random

import pytest
from serving import CODEC, MANY, PLENTY, answers_in, opening

from servestream_client.config import KIB
from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.continuation import FEATURE
from servestream_client.protocol.frames import (
    Credit,
    InputCredit,
    ItemFailure,
    Limits,
    Order,
    OutputPart,
    ServerFrame,
)
from servestream_client.protocol.server import ServerOffer
from servestream_client.protocol.server.opening import agree
from servestream_client.protocol.server.parts import HELD_OUTPUT_BYTES, PartsOutbox

HANDLER, CANCELLED = ItemErrorKind.HANDLER, ItemErrorKind.CANCELLED


def outbox(
    *,
    order: Order = Order.ANY,
    credit: Credit = PLENTY,
    ahead: int = 1 << 20,
    features=(FEATURE,),
    **limits,
) -> PartsOutbox:
    """One whose client has these limits."""
    made = PartsOutbox(ahead)
    opened = opening(order=order, features=features, limits=Limits(**limits))
    made.begin(agree(ServerOffer(codec=CODEC, **MANY), opened))
    made.credit.raise_to(credit)
    return made


def expecting(count: int, **options) -> PartsOutbox:
    made = outbox(**options)
    made.expect(1, [1] * count)
    return made


def test_outputs_without_bytes_are_held_within_bounds_as_well():
    made = expecting(1, ahead=100 * HELD_OUTPUT_BYTES, credit=Credit(), features=())
    made_outputs = 1
    while made.output(1, b""):
        made_outputs += 1
    assert made_outputs == 100
    assert not made.may_make(1)


def test_a_frame_is_as_large_as_the_checkpoint_in_it_makes_it():
    made = expecting(1)
    made.output(1, b"x", checkpoint=bytes(5000))
    assert made.next_frame_bytes == 5001
    made.output(1, b"y" * 10)
    assert made.next_frame_bytes == 5011
    made.gather()
    assert made.held_bytes == 0
    made.output(1, b"z", checkpoint=bytes(64 * KIB))
    assert made.next_frame_bytes == 64 * KIB + 1, "larger than a frame gathers"


def parts_out(made: PartsOutbox) -> list[OutputPart]:
    """The parts of one frame, as they compare."""
    return [plain(part) for part in made.gather().parts]


def plain(part: OutputPart) -> OutputPart:
    return OutputPart(
        part.number, part.first_index, tuple(part.payloads), part.last, part.checkpoint
    )


def sent(made: PartsOutbox) -> list[tuple[int, int, bytes | None]]:
    """All that may leave, frame by frame."""
    found = []
    while made.waiting:
        answers = made.gather()
        if not answers.used:
            break
        frame = ServerFrame(parts=answers.parts, errors=answers.errors)
        found += sorted(answers_in([frame]), key=lambda each: each[:2])
    return found


def make(made: PartsOutbox, number: int, count: int, size: int = 1) -> None:
    for _ in range(count):
        made.output(number, bytes(size))


# ------------------------------------------------------------------ what leaves


def test_outputs_of_an_input_leave_together_and_its_end_with_the_last():
    made = expecting(1)
    made.output(1, b"a")
    made.output(1, b"b", last=True)
    assert parts_out(made) == [OutputPart(1, 0, (b"a", b"b"), last=True)]
    assert (made.unanswered, made.answered, made.held_bytes) == (0, 1, 0)


def test_an_end_that_comes_later_is_an_empty_part_at_the_next_index():
    made = expecting(1)
    made.output(1, b"a")
    assert parts_out(made) == [OutputPart(1, 0, (b"a",), last=False)]
    made.close(1)
    assert parts_out(made) == [OutputPart(1, 1, (), last=True)]


def test_an_error_stands_behind_the_outputs_before_it():
    made = outbox()
    made.expect(4, [1], start_index=7)
    made.output(4, b"a")
    made.fail(4, HANDLER, "no", retryable=True)
    answers = made.gather()
    assert [plain(part) for part in answers.parts] == [OutputPart(4, 7, (b"a",), last=False)]
    assert answers.errors == [ItemFailure(4, HANDLER, "no", 8, retryable=True)]


def test_an_input_that_fills_frames_does_not_stop_the_others():
    made = expecting(3, frame_bytes=100)
    make(made, 1, 50, size=10)
    make(made, 2, 2)
    make(made, 3, 1)
    numbers = [[part.number for part in made.gather().parts] for _ in range(2)]
    assert numbers[0][0] == 1
    assert {2, 3} <= set(numbers[0] + numbers[1])


def test_no_frame_is_larger_than_the_client_wants():
    made = expecting(2, frame_bytes=100)
    make(made, 1, 30, size=10)
    made.output(2, bytes(500))
    sizes = []
    while made.waiting:
        sizes.append(sum(4 + len(p) for part in made.gather().parts for p in part.payloads))
    assert max(size for size in sizes if size != 504) <= 100
    assert 504 in sizes  # alone


def test_in_order_only_the_input_at_its_turn_leaves():
    made = expecting(3, order=Order.INPUT)
    make(made, 2, 2)
    made.fail(3, HANDLER, "no")
    assert not made.waiting
    assert sent(made) == []
    made.output(1, b"a")
    assert sent(made) == [(1, 0, b"a")]
    made.close(1)
    assert sent(made) == [(2, 0, b"\0"), (2, 1, b"\0")]
    made.close(2)
    assert sent(made)[-1] == (3, 0, None)
    assert made.unanswered == 0


# ------------------------------------------------------------------ credit


def test_an_input_without_credit_stops_no_other():
    made = expecting(2, input_outputs=2)
    make(made, 1, 3)
    make(made, 2, 1)
    assert sent(made) == [(1, 0, b"\0"), (1, 1, b"\0"), (2, 0, b"\0")]
    made.grant([InputCredit(1, 3, 1000)])
    assert sent(made) == [(1, 2, b"\0")]


def test_the_last_output_may_exceed_the_bytes():
    made = expecting(1, input_bytes=10)
    make(made, 1, 3, size=6)
    assert len(sent(made)) == 2
    made.grant([InputCredit(1, 256, 12)])
    assert sent(made) == []
    made.grant([InputCredit(1, 256, 13)])
    assert len(sent(made)) == 1


def test_a_grant_is_for_one_input_alone():
    made = expecting(3, input_outputs=1)
    made.grant([InputCredit(2, 3, 1000)])
    for number in (1, 2, 3):
        make(made, number, 4)
    assert [number for number, _, _ in sent(made)] == [1, 2, 2, 2, 3]


def test_no_total_falls():
    made = expecting(1, input_outputs=5)
    made.grant([InputCredit(1, 2, 3)])
    make(made, 1, 5)
    assert len(sent(made)) == 5


def test_an_input_may_begin_with_credit_of_its_own():
    made = outbox(input_outputs=5)
    made.expect(1, [1, 1], 10, Credit(12, 100))
    make(made, 1, 5)
    make(made, 2, 6)
    found = sent(made)
    assert [index for number, index, _ in found if number == 1] == [10, 11]
    assert [index for number, index, _ in found if number == 2] == [0, 1, 2, 3, 4]


def test_without_one_an_input_that_goes_on_has_the_usual_beyond_its_index():
    made = outbox(input_outputs=2)
    made.expect(1, [1], 10)
    make(made, 1, 5)
    assert [index for _, index, _ in sent(made)] == [10, 11]


def test_grants_for_inputs_that_are_answered_or_unknown_are_ignored():
    made = expecting(1)
    made.output(1, b"a", last=True)
    assert len(sent(made)) == 1
    made.grant([InputCredit(1, 1000, 1000), InputCredit(9, 1000, 1000)])
    assert not made.waiting


def test_a_client_that_knows_of_no_such_credit_sets_no_limit():
    made = expecting(1, features=(), input_outputs=1, input_bytes=1)
    make(made, 1, 300)
    assert made.may_make(1)
    assert len(sent(made)) == 300


def test_errors_and_ends_need_no_credit():
    made = expecting(4, credit=Credit(0, 0))
    make(made, 1, 1)
    made.fail(2, HANDLER, "no")
    made.close(3)
    assert sent(made) == [(2, 0, None)]
    assert made.answered == 2
    assert made.unanswered == 2


def test_an_error_waits_for_the_outputs_of_its_own_input():
    made = expecting(2, input_outputs=1)
    make(made, 1, 2)
    made.fail(1, HANDLER, "no")
    made.fail(2, HANDLER, "no")
    assert sent(made) == [(1, 0, b"\0"), (2, 0, None)]
    made.grant([InputCredit(1, 2, 1000)])
    assert sent(made) == [(1, 1, b"\0"), (1, 2, None)]


def test_both_credits_are_kept_to():
    made = expecting(2, credit=Credit(3, 1000), input_outputs=2)
    make(made, 1, 2)
    make(made, 2, 2)
    assert len(sent(made)) == 3
    made.credit.raise_to(PLENTY)
    assert len(sent(made)) == 1


# ------------------------------------------------------------------ what may be made


def test_a_handler_is_not_asked_for_what_may_not_be_sent():
    made = expecting(1, input_outputs=2)
    assert made.may_make(1)
    make(made, 1, 2)
    assert not made.may_make(1)
    assert len(sent(made)) == 2
    assert list(made.take_resumable()) == []
    made.grant([InputCredit(1, 3, 1000)])
    assert list(made.take_resumable()) == [1]
    assert list(made.take_resumable()) == []
    assert made.may_make(1)


def test_what_was_never_asked_for_is_not_named():
    made = expecting(1, input_outputs=2)
    make(made, 1, 2)
    made.grant([InputCredit(1, 3, 1000)])
    assert list(made.take_resumable()) == []


def test_of_what_is_answered_a_handler_is_asked_to_hear_of_it():
    made = expecting(1, input_outputs=1)
    make(made, 1, 1)
    assert not made.may_make(1)
    made.cancel([1], [(1, 1)])
    assert made.may_make(1)
    made.grant([InputCredit(1, 9, 1000)])
    assert list(made.take_resumable()) == []


def test_computing_ahead_is_bounded_but_for_one_output_of_each_input():
    made = expecting(3, credit=Credit(0, 0), ahead=10)
    make(made, 1, 1, size=10)
    assert not made.may_make(1)
    assert made.may_make(2)
    make(made, 2, 1, size=10)
    assert not made.may_make(2)
    made.credit.raise_to(Credit(1, 1000))
    sent(made)
    assert list(made.take_resumable()) == [1]  # which may always make one
    made.credit.raise_to(Credit(2, 1000))
    sent(made)
    assert list(made.take_resumable()) == [2]


def test_the_head_makes_its_next_output_though_later_ones_fill_what_may_wait():
    made = expecting(2, order=Order.INPUT, ahead=10)
    make(made, 2, 1, size=50)
    assert made.may_make(1)
    make(made, 1, 1)
    assert not made.may_make(1)
    assert len(sent(made)) == 1
    assert list(made.take_resumable()) == [1]
    assert made.may_start(1)
    assert not made.may_start(2)


@pytest.mark.parametrize(
    ("size", "expected"), [(0, 20), (1, 20), (5, 10), (7, 8), (50, 1), (500, 1)]
)
def test_a_quota_is_within_credit_and_bytes(size, expected):
    made = expecting(1, input_outputs=20, input_bytes=50)
    assert made.quota(1, size) == expected


def test_there_is_no_quota_where_no_output_may_be_made():
    made = expecting(2, input_outputs=2, ahead=100)
    make(made, 1, 2)
    assert made.quota(1, 1) == 0
    made.grant([InputCredit(1, 3, 1000)])
    assert list(made.take_resumable()) == [1]
    assert made.quota(7, 1) == 0


def test_a_quota_does_not_exceed_what_may_wait():
    each = 10 + HELD_OUTPUT_BYTES
    made = expecting(1, ahead=10 * each)
    assert made.quota(1, 10) == 10
    make(made, 1, 6, size=10)
    assert made.quota(1, 10) == 4


# ------------------------------------------------------------------ cancelled


def test_what_is_cancelled_is_answered_at_once_at_what_was_sent():
    made = expecting(2, input_outputs=2)
    make(made, 1, 4)
    assert len(sent(made)) == 2
    made.cancel([1], [(1, 1)])
    assert made.gather().errors == [ItemFailure(1, CANCELLED, "cancelled", 2)]
    assert (made.held_bytes, made.unanswered) == (0, 1)
    make(made, 1, 1)
    assert not made.waiting


@pytest.mark.parametrize("ranges", [[(1, 1)], [(1, 5)], [(0, 10**12)]])
def test_so_is_what_its_handler_has_answered_and_what_has_no_credit(ranges):
    made = expecting(2, input_outputs=1)
    make(made, 1, 2)
    made.close(1)
    make(made, 2, 2)
    made.fail(2, HANDLER, "no")
    sent(made)
    made.cancel([], ranges)
    numbers = [1] if ranges == [(1, 1)] else [1, 2]
    assert made.gather().errors == [ItemFailure(n, CANCELLED, "cancelled", 1) for n in numbers]


def test_what_is_cancelled_does_not_stop_what_stands_behind_it():
    made = expecting(3)
    for number in (1, 2, 3):
        make(made, number, 2)
    made.cancel([1, 2], [(1, 2)])
    assert made.next_frame_bytes == 0
    assert sent(made) == [(1, 0, None), (2, 0, None), (3, 0, b"\0"), (3, 1, b"\0")]
    assert not made.fills_frame


def test_in_order_what_is_cancelled_keeps_its_turn():
    made = expecting(2, order=Order.INPUT)
    make(made, 2, 1)
    made.cancel([2], [(2, 2)])
    assert sent(made) == []
    made.close(1)
    assert sent(made) == [(2, 0, None)]


# ------------------------------------------------------------------ checkpoints


def test_a_checkpoint_travels_behind_its_output():
    made = expecting(1)
    for payload, checkpoint in ((b"a", None), (b"b", b"B"), (b"c", None)):
        made.output(1, payload, checkpoint=checkpoint)
    made.close(1)
    assert parts_out(made) == [
        OutputPart(1, 0, (b"a", b"b"), last=False, checkpoint=b"B"),
        OutputPart(1, 2, (b"c",), last=True),
    ]


def test_a_checkpoint_behind_the_last_output_travels_with_the_end():
    made = expecting(1)
    made.output(1, b"a", last=True, checkpoint=b"A")
    assert parts_out(made) == [OutputPart(1, 0, (b"a",), last=True, checkpoint=b"A")]


def test_of_several_that_could_go_together_the_last_does():
    made = expecting(1, input_outputs=3)
    for name in b"abcde":
        made.output(1, bytes([name]), checkpoint=bytes([name]))
    assert parts_out(made) == [OutputPart(1, 0, (b"a",), last=False, checkpoint=b"a"),
                               OutputPart(1, 1, (b"b", b"c"), last=False)]  # fmt: skip
    made.grant([InputCredit(1, 9, 1000)])
    assert parts_out(made) == [OutputPart(1, 3, (b"d", b"e"), last=False, checkpoint=b"e")]
    assert made.held_bytes == 0


def test_checkpoints_count_for_frames_and_for_what_waits():
    made = expecting(4, frame_bytes=100)
    for number in range(1, 5):
        made.output(number, b"x", checkpoint=bytes(60))
    assert made.held_bytes == 4 * (61 + HELD_OUTPUT_BYTES)
    frames = [made.gather() for _ in range(4)]
    assert [len(frame.parts) for frame in frames] == [1, 1, 1, 1]
    assert made.held_bytes == 0


def test_a_checkpoint_larger_than_either_end_accepts_fails_its_input():
    made = expecting(2, token_bytes=5)
    made.output(1, b"a", checkpoint=b"12345")
    made.output(2, b"a")
    made.output(2, b"b", checkpoint=b"123456")
    answers = made.gather()
    assert [(e.number, e.kind, e.index) for e in answers.errors] == [
        (2, ItemErrorKind.TOO_LARGE, 1)
    ]
    assert "a checkpoint of 6 bytes, and at most 5" in answers.errors[0].text


def test_a_client_that_takes_no_checkpoints_gets_none():
    made = expecting(1, features=())
    made.output(1, b"a", checkpoint=bytes(100_000), last=True)
    assert parts_out(made) == [OutputPart(1, 0, (b"a",), last=True)]


def test_an_output_larger_than_the_client_accepts_fails_its_input():
    made = expecting(1, item_bytes=5)
    made.output(1, bytes(5))
    made.output(1, bytes(6))
    assert made.gather().errors[0].index == 1


# ------------------------------------------------------------------ what is blocked


def test_whether_credit_is_what_lacks():
    made = expecting(2, input_outputs=1)
    assert not made.lacks_credit
    make(made, 1, 2)
    assert not made.lacks_credit  # the first may leave
    sent(made)
    assert made.lacks_credit
    made.close(2)
    assert not made.lacks_credit
    made = expecting(1, credit=Credit(0, 0))
    make(made, 1, 1)
    assert made.lacks_credit


def test_a_handler_that_was_told_to_wait_lacks_credit():
    made = expecting(1, input_outputs=1)
    make(made, 1, 1)
    sent(made)
    assert not made.lacks_credit
    assert not made.may_make(1)
    assert made.lacks_credit


def test_in_order_it_is_the_heads_credit_that_counts():
    made = expecting(2, order=Order.INPUT, input_outputs=1)
    make(made, 2, 2)
    assert not made.lacks_credit  # the head is being computed
    make(made, 1, 2)
    sent(made)
    assert made.lacks_credit


def test_nothing_is_kept_once_nobody_reads():
    made = expecting(3, input_outputs=1)
    make(made, 1, 2)
    made.may_make(1)
    make(made, 2, 2)
    made.close(2)
    made.clear()
    assert (made.held_bytes, made.unanswered, len(made.open)) == (0, 0, 0)
    assert not made.waiting
    make(made, 3, 1)
    made.grant([InputCredit(1, 9, 99)])
    assert not made.waiting
    assert list(made.take_resumable()) == []


# ------------------------------------------------------------------ the invariant


class Answering:
    """An outbox under random operations, and what its answers are to be."""

    def __init__(self, random: Random, order: Order) -> None:
        self.random = random
        self.ordered = order is Order.INPUT
        self.budget = random.choice([1, 2, 5])
        self.outbox = outbox(
            order=order,
            credit=Credit(0, 0),
            ahead=random.choice([5, 1000]),
            item_bytes=6,
            frame_bytes=random.choice([20, 100, 1 << 20]),
            input_outputs=self.budget,
            input_bytes=random.choice([3, 1000]),
            token_bytes=9,
        )
        self.lane = Credit(0, 0)
        self.number = 0
        self.order: list[int] = []
        self.open: set[int] = set()
        self.said: dict[int, list[bytes | None]] = {}  # None: an error
        self.checkpoints: dict[tuple[int, int], bytes] = {}
        self.first_index: dict[int, int] = {}
        self.granted: dict[int, InputCredit] = {}
        self.paused: set[int] = set()
        self.sent: dict[int, list[tuple[int, bytes]]] = {}
        self.ended: dict[int, tuple[int, ItemErrorKind | None]] = {}
        self.cancelled: set[int] = set()
        self.turn = 0

    def expect(self) -> None:
        first = self.number + self.random.choice([1, 1, 3])
        count, start = self.random.randint(1, 4), self.random.choice([0, 0, 2])
        self.outbox.expect(first, [1] * count, start)
        numbers = range(first, first + count)
        self.number = numbers[-1]
        self.order += numbers
        self.open |= set(numbers)
        for number in numbers:
            self.said[number] = []
            self.sent[number] = []
            self.first_index[number] = start if number == first else 0
            outputs = self.first_index[number] + self.budget
            self.granted[number] = InputCredit(
                number, outputs, self.outbox._works[number].credit.bytes
            )

    def any_number(self) -> int:
        known = sorted(self.open)
        if known and self.random.random() < 0.9:
            return self.random.choice(known)
        return self.random.randint(0, self.number + 1)

    def output(self) -> None:
        number, last = self.any_number(), self.random.random() < 0.1
        payload = bytes([self.random.randrange(256)]) * self.random.choice([0, 1, 5, 5, 7])
        checkpoint = bytes(self.random.choice([1, 9])) if self.random.random() < 0.2 else None
        self.outbox.output(number, payload, last=last, checkpoint=checkpoint)
        if number not in self.open:
            return
        if len(payload) > 6:
            self.said[number].append(None)
            self.open.remove(number)
            return
        self.said[number].append(payload)
        if checkpoint is not None:
            end = self.first_index[number] + len(self.said[number])
            self.checkpoints[number, end] = checkpoint
        if last:
            self.open.remove(number)

    def end(self) -> None:
        number = self.any_number()
        if self.random.random() < 0.5:
            self.outbox.close(number)
        else:
            self.outbox.fail(number, HANDLER, "no")
            if number in self.open:
                self.said[number].append(None)
        self.open.discard(number)

    def ask(self) -> None:
        number = self.any_number()
        if not self.outbox.may_make(number):
            self.paused.add(number)

    def cancel(self) -> None:
        first = self.any_number()
        last = first + self.random.choice([0, 0, 2])
        numbers = sorted(n for n in self.open if first <= n <= last)
        outputs = {n: len(self.sent[n]) for n in self.said}
        pending = {
            n
            for n in self.said
            if first <= n <= last
            and n not in self.ended
            and (n in self.open or outputs[n] < sum(each is not None for each in self.said[n]))
        }
        self.outbox.cancel(numbers, [(first, last)])
        self.open -= set(numbers)
        self.cancelled |= pending

    def grant(self) -> None:
        if self.random.random() < 0.5:
            self.lane = Credit(self.lane.outputs + 3, self.lane.bytes + 9)
            self.outbox.credit.raise_to(self.lane)
            return
        number = self.any_number()
        before = self.granted.get(number, InputCredit(number, 0, 0))
        more = InputCredit(number, before.outputs + 2, before.bytes + 5)
        self.granted[number] = more
        self.outbox.grant([more])

    def speak(self) -> None:
        answers = self.outbox.gather()
        said = [(part.number, part.first_index, part) for part in answers.parts]
        said += [(failure.number, failure.index, failure) for failure in answers.errors]
        for number, index, each in sorted(said, key=lambda answer: answer[:2]):
            if isinstance(each, OutputPart):
                self.hear(each)
            else:
                assert index == self.next_index(number)
                self.finish(number, each.kind)

    def next_index(self, number: int) -> int:
        return self.first_index[number] + len(self.sent[number])

    def hear(self, part: OutputPart) -> None:
        number = part.number
        assert part.first_index == self.next_index(number)
        if self.ordered:
            assert all(n in self.ended for n in self.order[: self.order.index(number)])
        for index, payload in enumerate(part.payloads, part.first_index):
            granted = self.granted[number]
            assert index < granted.outputs
            assert sum(len(said) for _, said in self.sent[number]) < granted.bytes
            self.sent[number].append((index, payload))
        if part.checkpoint is not None:
            assert self.checkpoints[number, self.next_index(number)] == part.checkpoint
        if part.last:
            self.finish(number, None)

    def finish(self, number: int, kind: ItemErrorKind | None) -> None:
        assert number not in self.ended
        self.ended[number] = (self.next_index(number), kind)

    def look(self) -> None:
        """Those that are named were told to wait, may go on, and are named once."""
        for number in self.outbox.take_resumable():
            assert number in self.paused
            self.paused.discard(number)
        for number in self.paused & self.open:
            work = self.outbox._works[number]
            waits_ahead = work.outputs and self.outbox.held_bytes >= self.outbox._ahead_bytes
            assert not work.allows_another or waits_ahead, "a handler waits for ever"

    def check(self) -> None:
        box = self.outbox
        assert set(box.open) == self.open
        works = box._works.values()
        assert box.held_bytes == sum(
            work.size + work.checkpoint_bytes + HELD_OUTPUT_BYTES * len(work.outputs)
            for work in works
        )
        ready = [work for work in works if work.placed and work.outputs]
        assert box._ready.size == sum(work.size + work.checkpoint_bytes for work in ready)
        assert box._closed == sorted(w.number for w in works if w.closed and w.outputs)
        assert box.unanswered == len(box._works)
        assert box.answered == len(self.ended)
        lane = sum(map(len, self.sent.values()))
        assert lane == box.credit.outputs_sent <= self.lane.outputs
        self.look()

    def wind_up(self) -> None:
        for number in sorted(self.open, reverse=True):
            self.outbox.close(number)
        self.open.clear()
        self.lane = PLENTY
        self.outbox.credit.raise_to(PLENTY)
        for number in self.order:
            self.granted[number] = InputCredit(number, 1 << 40, 1 << 40)
            self.outbox.grant([self.granted[number]])
        while self.outbox.waiting:
            self.speak()
        self.check()
        assert set(self.ended) == set(self.order)
        for number, said in self.said.items():
            outputs = [payload for payload in said if payload is not None]
            heard = [payload for _, payload in self.sent[number]]
            kind = self.ended[number][1]
            if number in self.cancelled:
                assert kind is CANCELLED
                assert heard == outputs[: len(heard)]
            else:
                assert heard == outputs, number
                assert (kind is None) == (None not in said)


@pytest.mark.parametrize("seed", range(100))
@pytest.mark.parametrize("order", [Order.INPUT, Order.ANY])
def test_each_input_is_answered_once_within_its_credit(order, seed):
    answering = Answering(Random(seed), order)
    steps = [answering.output] * 4 + [answering.speak, answering.grant, answering.ask]
    seldom = [answering.expect, answering.end, answering.cancel]
    for _ in range(300):
        answering.random.choice(steps * 2 + seldom)()
        answering.check()
    answering.wind_up()
