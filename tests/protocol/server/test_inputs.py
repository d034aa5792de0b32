"""Open inputs: what is open, and what their payloads have together."""

import random

import pytest

from servestream_client.protocol.server.inputs import OpenInputs


def opened(*stretches: tuple[int, list[int]]) -> OpenInputs:
    inputs = OpenInputs()
    for first, sizes in stretches:
        inputs.append(first, sizes)
    return inputs


def test_what_came_is_open_until_it_is_closed():
    inputs = opened((1, [10, 20, 30]))
    assert list(inputs) == [1, 2, 3]
    assert inputs.close(2)
    assert list(inputs) == [1, 3]
    assert (2 in inputs, 3 in inputs) == (False, True)
    assert inputs.size == 40


def test_a_run_is_closed_as_a_whole_or_not_at_all():
    inputs = opened((1, [1, 1, 1, 1]))
    assert inputs.close(2)
    assert not inputs.close(1, 3)
    assert not inputs.close(3, 3)
    assert list(inputs) == [1, 3, 4]
    assert inputs.size == 3
    assert inputs.close(3, 2)
    assert list(inputs) == [1]


def test_a_run_across_a_gap_is_not_closed_as_a_whole():
    inputs = opened((1, [1, 1]), (4, [1, 1]))
    assert not inputs.close(2, 2)
    assert not inputs.close(1, 5)
    assert list(inputs) == [1, 2, 4, 5]


@pytest.mark.parametrize("number", [0, 3, 6, 2**62])
def test_what_never_came_is_not_open(number):
    inputs = opened((1, [1, 1]), (4, [1, 1]))
    assert number not in inputs
    assert not inputs.close(number)
    assert not OpenInputs().close(number)
    assert number not in OpenInputs()


def test_after_clear_nothing_is_open():
    inputs = opened((1, [1, 1]))
    inputs.clear()
    assert list(inputs) == []
    assert inputs.size == 0
    inputs.append(5, [7])
    assert list(inputs) == [5]
    assert inputs.size == 7


def test_inputs_of_size_zero_are_open_too():
    inputs = opened((1, [0, 0]))
    assert 1 in inputs
    assert inputs.close(1, 2)
    assert list(inputs) == []


@pytest.mark.parametrize("seed", range(20))
def test_it_agrees_with_a_plain_dict(seed):
    pick = random.Random(seed)
    inputs, known, marked, last = OpenInputs(), {}, set(), 0
    for _ in range(400):
        if pick.random() < 0.3:
            first = last + pick.choice([1, 1, 1, 3])
            sizes = [pick.randrange(4) for _ in range(pick.randrange(1, 6))]
            inputs.append(first, sizes)
            known |= dict(enumerate(sizes, first))
            last = first + len(sizes) - 1
        else:
            first, count = pick.randrange(max(1, last - 12), last + 3), pick.randrange(1, 5)
            numbers = range(first, first + count)
            whole = all(number in known for number in numbers)
            assert inputs.close(first, count) is whole
            if whole:
                for number in numbers:
                    del known[number]
                    marked.discard(number)
        if known and pick.random() < 0.3:
            number = pick.choice(list(known))
            assert inputs.cancel([number]) == [number] * (number not in marked)
            marked.add(number)
        if pick.random() < 0.1:
            some = [number for number in known if pick.random() < 0.3]
            inputs.close_each(some)
            for number in some:
                del known[number]
            marked.difference_update(some)
        assert list(inputs) == list(known)
        assert inputs.size == sum(known.values())
        assert inputs.cancelled == marked
        probe = pick.randrange(last + 3)
        assert (probe in inputs) is (probe in known)
