"""Inputs that are given out again: each once, at its own cost, and kept no longer than wanted."""

import gc
import random

import pytest
from test_bounded_work import steps

from servestream_client.protocol.runs import Run
from servestream_client.server.givenback import GivenBack


def run(first, count):
    payloads = [b"%d" % number for number in range(first, first + count)]
    return Run(first, payloads, sum(map(len, payloads)))


@pytest.mark.parametrize("seed", range(20))
def test_each_is_given_out_once_unless_it_was_dropped(seed):
    rng = random.Random(seed)
    given_back, waiting, taken = GivenBack(), set(), {}
    runs = [run(first, rng.randint(1, 30)) for first in range(1, 300, 30)]
    rng.shuffle(runs)
    while runs or waiting:
        assert bool(given_back) is bool(waiting)
        what = rng.random()
        if what < 0.2 and runs:
            waiting.update(range(runs[-1].first, runs[-1].last + 1))
            given_back.add(runs.pop())
        elif what < 0.4:
            numbers = rng.sample(range(1, 320), 10)
            assert set(given_back.drop(numbers)) == waiting.intersection(numbers)
            waiting.difference_update(numbers)
        else:
            limit = rng.randint(1, 8)
            part = given_back.take(limit)
            assert (part is None) is (not waiting)
            if part is not None:
                assert 1 <= len(part.payloads) <= limit
                for number, payload in enumerate(part.payloads, part.first):
                    waiting.remove(number)
                    assert number not in taken
                    taken[number] = payload
    assert given_back.take(1) is None
    assert all(payload == b"%d" % number for number, payload in taken.items())


def test_taking_one_by_one_costs_each_of_them_the_same():
    def counted(count):
        given_back = GivenBack()
        given_back.add(run(1, count))

        def take():
            while given_back.take(1) is not None:
                pass

        return steps(take)

    assert counted(1000) <= 12 * counted(100)


def test_what_was_dropped_is_gone_at_once():
    given_back = GivenBack()
    given_back.add(run(1, 500))
    given_back.drop(range(2, 501))
    waiting, kept, seen = [given_back], [], set()
    while waiting:
        each = waiting.pop()
        if id(each) not in seen and not isinstance(each, type):
            seen.add(id(each))
            kept += [each] if isinstance(each, bytes) else []
            waiting += gc.get_referents(each)
    assert kept == [b"1"]
