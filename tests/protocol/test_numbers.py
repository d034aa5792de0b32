"""Sets of numbers that fill up from below."""

from random import Random

import pytest
from hypothesis import given
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
    assert numbers.ranges == 2


def test_ranges_grow_with_the_gaps_and_not_with_what_is_between_them():
    numbers = NumberSet()
    for number in range(2, 10_000):
        if number % 1000:
            numbers.add(number)
    assert numbers.ranges == 10
    for number in range(1000, 10_000, 1000):
        numbers.add(number)
    assert (numbers.through, numbers.ranges) == (0, 1)
    numbers.add(1)
    assert (numbers.through, numbers.ranges) == (9999, 1)


@pytest.mark.parametrize("seed", range(10))
def test_numbers_in_any_order_come_to_one_range(seed):
    scattered = list(range(1, 500))
    Random(seed).shuffle(scattered)
    numbers = NumberSet()
    for number in scattered:
        assert number not in numbers
        numbers.add(number)
        assert number in numbers
    assert (numbers.through, numbers.ranges) == (499, 1)


def pieces(numbers: NumberSet) -> tuple[object, ...]:
    return numbers.through, numbers._firsts, numbers._lasts


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
    assert pieces(numbers) == pieces(singly)


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 8))))
def test_adding_runs_is_adding_each_number(runs):
    numbers, singly = NumberSet(), NumberSet()
    for first, count in runs:
        numbers.add_run(first, count)
        for number in range(first, first + count):
            singly.add(number)
        assert pieces(numbers) == pieces(singly)
        assert len(numbers) == len(singly)
