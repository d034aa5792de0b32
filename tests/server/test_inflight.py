"""What is computed for an attempt: by number, and by age."""

import math
import random
from dataclasses import dataclass, field

import pytest

from servestream_client.server.inflight import InFlight


@dataclass(eq=False)
class Call:
    """Stands for one; in a thread it goes on from input to input by itself."""

    since: float
    advances: bool = False
    stretches: list[tuple[int, int]] = field(default_factory=list)


def put(in_flight: InFlight, call: Call, *stretches: tuple[int, int]) -> None:
    for first, last in stretches:
        in_flight.add(call, first, last)
        call.stretches.append((first, last))


def end(in_flight: InFlight, call: Call) -> None:
    for first, _ in call.stretches:
        in_flight.remove(call, first)
    call.stretches.clear()


@pytest.mark.parametrize("seed", range(20))
def test_it_is_what_a_list_of_all_calls_is(seed):
    rng = random.Random(seed)
    in_flight, calls, now, free = InFlight(), list[Call](), 0.0, list(range(0, 2000, 10))
    for _ in range(400):
        now += 1
        what = rng.random()
        if what < 0.5 and free:
            call = Call(now, advances=rng.random() < 0.5)
            for _ in range(rng.randint(1, min(3, len(free)))):
                # Stretches of a call are disjoint, and may come in any order: some were put back.
                first = free.pop(0 if rng.random() < 0.8 else rng.randrange(len(free)))
                put(in_flight, call, (first, first + rng.randrange(10)))
            calls.append(call)
        elif what < 0.75 and calls:
            end(in_flight, calls.pop(rng.randrange(len(calls))))
        else:
            for call in calls:
                if call.advances and call.since < math.inf and rng.random() < 0.3:
                    call.since = math.inf if rng.random() < 0.2 else now
        whose = {
            number: call
            for call in calls
            for first, last in call.stretches
            for number in range(first, last + 1)
        }
        assert in_flight.count == len(whose)
        assert bool(in_flight) == bool(whose)
        assert set(in_flight.calls()) == set(calls)
        assert len(in_flight.calls()) == len(calls)
        asked = rng.sample(range(2010), 30)
        held: dict[Call, list[int]] = {}
        for number in asked:
            if number in whose:
                held.setdefault(whose[number], []).append(number)
        assert in_flight.holding(asked) == held
        oldest, since = in_flight.oldest()
        assert since == min((call.since for call in calls), default=math.inf)
        assert since == (math.inf if oldest is None else oldest.since)


def test_a_thread_that_went_on_is_as_old_as_the_input_at_hand():
    in_flight = InFlight()
    thread, other = Call(1.0, advances=True), Call(2.0)
    put(in_flight, thread, (1, 8))
    put(in_flight, other, (9, 9))
    assert in_flight.oldest() == (thread, 1.0)
    thread.since = 3.0
    assert in_flight.oldest() == (other, 2.0)
    end(in_flight, other)
    assert in_flight.oldest() == (thread, 3.0)
    thread.since = math.inf  # all is computed
    assert in_flight.oldest() == (None, math.inf)


def test_what_stands_here_no_more_may_be_removed_again():
    """As a call that was abandoned, and ends after all: its inputs may be computed anew by then."""
    in_flight = InFlight()
    call, anew = Call(1.0), Call(2.0)
    put(in_flight, call, (1, 4))
    in_flight.remove(call, 1)
    in_flight.remove(call, 1)
    assert (in_flight.count, in_flight.calls(), bool(in_flight)) == (0, [], False)
    put(in_flight, anew, (2, 3))
    assert in_flight.holding([1, 2, 3, 4]) == {anew: [2, 3]}
    assert in_flight.oldest() == (anew, 2.0)


def test_what_runs_inline_counts_as_no_input_and_keeps_it():
    in_flight = InFlight()
    in_flight.inline[Call(1.0)] = None
    assert in_flight
    assert (in_flight.count, in_flight.calls()) == (0, [])
