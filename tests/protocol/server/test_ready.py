"""The answers whose turn has come, until they leave."""

from random import Random

import pytest
from serving import (
    CODEC,
    KIB,
    PLENTY,
    answers_in,
    computing,
    frames_out,
    numbers_out,
    opening,
    serving,
)

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.frames import (
    ClientFrame,
    Credit,
    ItemFailure,
    Limits,
    Order,
    OutputPart,
)
from servestream_client.protocol.runs import Run
from servestream_client.protocol.server import ServerOffer
from servestream_client.protocol.server.opening import agree
from servestream_client.protocol.server.ready import NOT_STARTED, ReadyQueue, Work


def test_no_output_goes_out_before_the_first_grant():
    server = serving(b"1", credit=None)
    server.outbox.output(1, b"A", last=True)
    assert server.next_frame() is None
    server.receive(ClientFrame(credit=Credit(1, 1)))
    assert numbers_out(server) == [1]


def test_outputs_stop_where_the_credit_ends():
    server = computing(b"1", b"2", b"3", credit=Credit(2, 1000))
    for number in (1, 2, 3):
        server.outbox.output(number, b"x", last=True)
    assert numbers_out(server) == [1, 2]
    server.receive(ClientFrame(credit=Credit(3, 1000)))
    assert numbers_out(server) == [3]


def test_a_lost_or_repeated_grant_does_no_harm():
    server = computing(b"1", b"2", b"3", credit=Credit(2, 1000))
    server.receive(ClientFrame(credit=Credit(1, 10)))
    server.receive(ClientFrame(credit=Credit(2, 1000)))
    for number in (1, 2, 3):
        server.outbox.output(number, b"x", last=True)
    assert numbers_out(server) == [1, 2]


def test_one_output_may_overshoot_the_bytes():
    server = computing(b"1", b"2", b"3", credit=Credit(10, 10))
    for number in (1, 2, 3):
        server.outbox.output(number, bytes(9), last=True)
    assert numbers_out(server) == [1, 2]
    server.receive(ClientFrame(credit=Credit(10, 18)))
    assert server.next_frame() is None
    server.receive(ClientFrame(credit=Credit(10, 19)))
    assert numbers_out(server) == [3]


def test_item_errors_need_no_credit():
    server = computing(b"1", b"2", credit=Credit(0, 0))
    server.outbox.fail(1, ItemErrorKind.HANDLER, "no")
    server.outbox.close(2)
    frame = server.next_frame()
    assert [e.number for e in frame.errors] == [1]
    assert frame.parts == [OutputPart(2, 0, (), last=True)]


def test_outputs_of_a_run_stop_where_the_credit_ends():
    server = computing(b"1", b"2", b"3", b"4", credit=Credit(3, 1000))
    server.outbox.outputs(1, [b"A", b"B", b"C", b"D"])
    assert numbers_out(server) == [1, 2, 3]
    server.receive(ClientFrame(credit=Credit(4, 1000), frames_read=1))
    assert answers_in(frames_out(server)) == [(4, 0, b"D")]


def test_one_output_of_a_run_may_overshoot_the_bytes():
    server = computing(b"1", b"2", b"3", credit=Credit(10, 10))
    server.outbox.outputs(1, [bytes(9), bytes(9), bytes(9)])
    assert numbers_out(server) == [1, 2]
    server.receive(ClientFrame(credit=Credit(10, 18), frames_read=1))
    assert numbers_out(server) == []
    server.receive(ClientFrame(credit=Credit(10, 19)))
    assert numbers_out(server) == [3]


def test_a_run_that_exactly_spends_the_bytes_goes_out_as_a_whole():
    server = computing(b"1", b"2", b"3", credit=Credit(10, 10))
    server.outbox.outputs(1, [bytes(5), bytes(5)])
    server.outbox.output(3, b"", last=True)
    assert numbers_out(server) == [1, 2]


def test_a_run_of_outputs_keeps_within_64_kib():
    server = computing(*[b"x"] * 8)
    server.outbox.outputs(1, [bytes(20 * KIB)] * 7 + [bytes(100 * KIB)])
    found = []
    while len(found) < 8:
        for frame in frames_out(server):
            sizes = [len(payload) for _, _, payload in answers_in([frame])]
            assert sum(sizes) <= 64 * KIB or len(sizes) == 1
            found += [number for number, _, _ in answers_in([frame])]
        server.receive(ClientFrame(frames_read=server._pacer.sent_frames))
    assert found == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_frame_stays_within_64_kib():
    server = computing(*[b"x"] * 10)
    for number in range(1, 11):
        server.outbox.output(number, bytes(10 * KIB), last=True)
    assert [[n for n, _, _ in answers_in([frame])] for frame in frames_out(server)] == [
        [1, 2, 3, 4, 5, 6],
        [7, 8, 9, 10],
    ]


def test_an_output_above_64_kib_goes_alone():
    server = computing(b"1", b"2", b"3")
    for number, size in enumerate((5, 100 * KIB, 64 * KIB), 1):
        server.outbox.output(number, bytes(size), last=True)
    assert [[n for n, _, _ in answers_in([frame])] for frame in frames_out(server)] == [
        [1],
        [2],
        [3],
    ]


def test_a_frame_keeps_below_the_largest_that_the_client_accepts():
    server = computing(b"1", b"2", b"3", limits=Limits(frame_bytes=100, item_bytes=50))
    for number in (1, 2, 3):
        server.outbox.output(number, bytes(40), last=True)
    assert [[n for n, _, _ in answers_in([frame])] for frame in frames_out(server)] == [
        [1, 2],
        [3],
    ]


# ------------------------------------------------------------------ the invariant


class Leaving:
    """A queue under random operations, and what is to leave it, in which order."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.room = random.choice([30, 100, 1000])
        self.queue = ReadyQueue()
        limits = Limits(frame_bytes=self.room)
        self.queue.begin(agree(ServerOffer(codec=CODEC), opening(limits=limits, order=Order.INPUT)))
        self.granted = Credit()
        self.number = 0
        self.expected: list[tuple[int, bytes | None]] = []  # None: an error
        self.sent_outputs = self.sent_bytes = 0

    def payload(self) -> bytes:
        return bytes(self.random.choice([0, 1, 5, 20, 50]))

    def add_run(self) -> None:
        payloads = [self.payload() for _ in range(self.random.randint(1, 6))]
        self.queue.add_run(Run(self.number + 1, payloads, sum(map(len, payloads))))
        self.expected += enumerate(payloads, self.number + 1)
        self.number += len(payloads)

    def add_work(self) -> None:
        self.number += 1
        work = Work(self.number)
        for _ in range(self.random.randint(0, 3)):
            work.outputs.append(self.payload())
        work.closed = True
        self.expected += [(self.number, payload) for payload in work.outputs]
        if not work.outputs or self.random.random() < 0.3:
            work.failure = ItemFailure(self.number, ItemErrorKind.HANDLER, "no")
            self.expected.append((self.number, None))
        self.queue.add_work(work)
        self.queue.add_work(work)  # which is known already

    def add_dropped(self) -> None:
        numbers = range(self.number + 1, self.number + 1 + self.random.randint(1, 4))
        self.queue.add_dropped(numbers)
        self.expected += [(number, None) for number in numbers]
        self.number = numbers[-1]

    def grant(self) -> None:
        outputs, size = self.random.randint(0, 10), self.random.randint(0, 100)
        self.granted = Credit(self.granted.outputs + outputs, self.granted.bytes + size)
        self.queue.credit.raise_to(self.granted)

    def gather(self) -> int:
        """One frame; returns how much was in it."""
        next_number = self.queue.next_number
        answers = self.queue.gather()
        found: list[tuple[int, bytes | None]] = []
        for run in answers.runs:
            found += enumerate(run.payloads, run.first)
        for part in answers.parts:
            found += [(part.number, payload) for payload in part.payloads]
        found += [(failure.number, None) for failure in answers.errors]
        found.sort(key=lambda each: each[0])  # outputs of one input keep their order
        assert found == self.expected[: len(found)]
        del self.expected[: len(found)]
        sizes = [len(payload) for _, payload in found if payload is not None]
        assert answers.size == sum(sizes)
        assert not found or next_number in (0, found[0][0])
        errors = sum(len(failure.text) for failure in answers.errors)
        used = answers.size + errors + 4 * len(found)
        assert used == answers.used
        assert used <= self.room or len(found) == 1
        self.sent_outputs += len(sizes)
        self.sent_bytes += sum(sizes)
        # The last output may exceed the credit in bytes.
        assert self.sent_outputs <= self.granted.outputs
        assert not sizes or self.sent_bytes - sizes[-1] < self.granted.bytes
        return len(found)


@pytest.mark.parametrize("seed", range(60))
def test_answers_leave_in_order_within_credit_and_frame(seed):
    leaving = Leaving(Random(seed))
    steps = [leaving.add_run, leaving.add_work, leaving.add_dropped, leaving.grant, leaving.gather]
    for _ in range(200):
        leaving.random.choice(steps)()
    leaving.granted = PLENTY
    leaving.queue.credit.raise_to(PLENTY)
    while leaving.queue.waiting:
        assert leaving.gather()
    assert leaving.expected == []


def test_the_errors_of_what_was_dropped_say_why():
    queue = ReadyQueue()
    queue.add_dropped([1, 2])
    queue.add_dropped([3])
    assert [(e.number, e.text) for e in queue.gather().errors] == [
        (number, NOT_STARTED) for number in (1, 2, 3)
    ]
