"""Sets of numbers that fill up from below."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servestream_client.protocol.numbers import NumberSet


def number_set(*numbers: int) -> NumberSet:
    result = NumberSet()
    for number in numbers:
        result.add(number)
    return result


def test_a_new_set_is_empty():
    assert len(NumberSet()) == 0
    assert NumberSet().through == 0
    assert 0 not in NumberSet()
    assert 1 not in NumberSet()


def test_through_stops_before_the_first_gap():
    assert number_set(1, 2, 4).through == 2


def test_filling_a_gap_takes_in_what_waited_beyond_it():
    numbers = number_set(3, 2, 5, 1)
    assert numbers.through == 3
    assert 4 not in numbers
    assert 5 in numbers


def test_adding_twice_changes_nothing():
    numbers = number_set(1, 1, 3, 3)
    assert len(numbers) == 2
    numbers.add(2)
    numbers.add(3)
    assert (numbers.through, len(numbers)) == (3, 3)


def test_only_the_disorder_is_stored():
    numbers = number_set(*range(1, 1000), 1001)
    assert numbers._beyond == {1001}


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(1, 30)))
def test_it_behaves_like_a_set(added):
    numbers, model = NumberSet(), set()
    for number in added:
        numbers.add(number)
        model.add(number)
        assert len(numbers) == len(model)
        assert {n for n in range(-1, 32) if n in numbers} == model
        assert numbers.through == next(n for n in range(31) if n + 1 not in model)


@pytest.mark.parametrize(("first", "count"), [(1, 3), (2, 3), (4, 1), (4, 4), (6, 2)])
def test_a_run_is_added_like_its_numbers(first, count):
    numbers, singly = number_set(1, 2, 5), number_set(1, 2, 5, *range(first, first + count))
    numbers.add_run(first, count)
    assert (numbers.through, numbers._beyond) == (singly.through, singly._beyond)


@settings(derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 8))))
def test_adding_runs_is_adding_each_number(runs):
    numbers, singly = NumberSet(), NumberSet()
    for first, count in runs:
        numbers.add_run(first, count)
        for number in range(first, first + count):
            singly.add(number)
        assert (numbers.through, numbers._beyond) == (singly.through, singly._beyond)
        assert len(numbers) == len(singly)
