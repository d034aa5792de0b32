"""Outputs on their way to a consumer who takes them one by one: each is acknowledged once."""

import random

import pytest

from servestream_client.protocol.client import Part
from servestream_client.protocol.frames import OutputRun
from servestream_client.session.taken import Taken

PAYLOADS = tuple(b"%d" % n for n in range(7))
OUTPUTS = {
    "a run": OutputRun(5, PAYLOADS),
    "a part": Part(5, 3, PAYLOADS, last=False),
    "the last part": Part(5, 3, PAYLOADS, last=True),
    "one output": OutputRun(5, PAYLOADS[:1]),
    "a last output": Part(5, 0, PAYLOADS[:1], last=True),
}


def acknowledged(outputs):
    """Which outputs these are, and whether an input ends with them."""
    if isinstance(outputs, OutputRun):
        return [(outputs.first_number + n, 0) for n in range(len(outputs.payloads))], False
    indices = range(outputs.first_index, outputs.first_index + len(outputs.payloads))
    return [(outputs.number, index) for index in indices], outputs.last


@pytest.mark.parametrize("outputs", OUTPUTS.values(), ids=OUTPUTS)
@pytest.mark.parametrize("seed", range(5))
def test_each_output_is_acknowledged_once_and_an_input_with_its_last(outputs, seed):
    taken, chance = Taken(outputs), random.Random(seed)
    found, lasts, places = [], [], []
    for payload in taken.rest:
        places.append(taken.place())
        assert outputs.payloads[len(places) - 1] == payload
        if chance.random() < 0.5:
            which, last = acknowledged(taken.unacknowledged())
            found += which
            lasts.append(last)
    which, last = acknowledged(taken.unacknowledged())
    assert [*found, *which] == [(number, index) for number, index, _ in places]
    ends = isinstance(outputs, Part) and outputs.last
    assert [*lasts, last].count(True) == ends
    assert acknowledged(taken.unacknowledged()) == ([], False)


def test_the_place_of_an_output_says_whether_it_is_the_last_of_its_input():
    taken = Taken(OUTPUTS["the last part"])
    assert [taken.place() for _ in taken.rest] == [(5, 3 + n, n == 6) for n in range(7)]
    taken = Taken(OUTPUTS["a run"])
    assert [taken.place() for _ in taken.rest] == [(5 + n, 0, True) for n in range(7)]


def test_where_nothing_was_taken_there_is_nothing_to_acknowledge():
    assert not Taken()
    assert not Taken().unacknowledged().payloads
    taken = Taken(OUTPUTS["a run"])
    assert taken
    assert not taken.unacknowledged().payloads
    assert next(taken.rest) == b"0"
    assert taken.unacknowledged().payloads == PAYLOADS[:1]
