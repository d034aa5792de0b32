"""What an attempt has sent: it counts as it was sent, until it is answered."""

from random import Random

import pytest

from servestream_client.config import FlowControl
from servestream_client.protocol.client.in_flight import InFlight
from servestream_client.protocol.client.ledger import Ledger
from servestream_client.protocol.frames import Limits, Resume
from servestream_client.protocol.runs import Run

LIMITS = Limits(window_items=4, window_bytes=100)


def scene(*sizes: int, ordered: bool = True) -> tuple[Ledger, InFlight]:
    ledger = Ledger(FlowControl(), ordered=ordered)
    payloads = [bytes(size) for size in sizes]
    ledger.append(payloads, [None] * len(sizes), sum(sizes))
    return ledger, InFlight(ledger)


def run(first: int, *sizes: int, resume: Resume | None = None) -> Run:
    start_index = 0 if resume is None else 3
    return Run(first, [bytes(size) for size in sizes], sum(sizes), start_index, resume)


@pytest.mark.parametrize("seed", range(20))
def test_the_books_are_those_of_what_lacks_an_answer(seed):
    random = Random(seed)
    sizes = [random.randint(0, 30) for _ in range(40)]
    ledger, in_flight = scene(*sizes, ordered=False)
    weights: dict[int, int] = {}  # of what is under way
    number, sent = 1, 0
    while number <= len(sizes):
        count = random.randint(1, min(4, len(sizes) + 1 - number))
        resume = Resume(bytes(8), None, 0, [b"x"]) if random.random() < 0.3 else None
        went = run(number, *sizes[number - 1 : number - 1 + count], resume=resume)
        assert in_flight.add(went) == 0
        sent += count
        for each, payload in enumerate(went.payloads, number):
            weights[each] = len(payload)
        weights[number] += resume.size if resume else 0
        number += count
        for answered in random.sample(sorted(weights), random.randint(0, len(weights))):
            del weights[answered]
            in_flight.answered(answered, 1, ledger.settle(answered))
        assert (in_flight.sent, in_flight.sent_through) == (sent, number - 1)
        assert (in_flight.items, in_flight.bytes) == (len(weights), sum(weights.values()))
        assert list(in_flight) == sorted(weights)


def test_what_went_out_before_on_another_attempt_is_told():
    ledger, first = scene(1, 1, 1, 1)
    assert first.add(run(1, 1, 1)) == 0
    second = InFlight(ledger)
    assert second.add(run(1, 1, 1, 1)) == 2
    assert (second.sent, second.items) == (3, 3)


def test_what_others_answer_is_not_under_way_here():
    ledger, in_flight = scene(1, 1, 1)
    in_flight.add(run(1, 1, 1, 1))
    ledger.decide(2, sent=True)
    assert list(in_flight) == [1, 3]


@pytest.mark.parametrize(
    ("under_way", "wanted", "count"),
    [
        ((), (500,), 1),
        ((), (50, 51), 1),
        ((), (50, 50), 2),
        ((), (1, 1, 1, 1, 1), 4),
        ((1, 1), (1, 1, 1), 2),
        ((60,), (41,), 0),
        ((60,), (40,), 1),
        ((60,), (20, 20, 1), 2),
        ((1, 1, 1, 1), (1,), 0),
    ],
)
def test_the_window_is_kept_but_for_one_input_alone(under_way, wanted, count):
    _, in_flight = scene(*under_way, *wanted)
    if under_way:
        in_flight.add(run(1, *under_way))
    assert in_flight.fitting(run(len(under_way) + 1, *wanted), LIMITS) == count


@pytest.mark.parametrize(("left", "fits"), [(43, True), (42, False)])
def test_what_it_takes_to_go_on_counts_against_the_window(left, fits):
    _, in_flight = scene(100 - left, 2)
    in_flight.add(run(1, 100 - left))
    resume = Resume(bytes(8), None, 0, [b"x"])  # 32 + 9
    assert in_flight.fitting(run(2, 2, resume=resume), LIMITS) == fits
