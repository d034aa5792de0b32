"""The checker notices what it is there for: one that never complains would prove nothing."""

import random

import pytest

from chaos.checker import MOST_DETAILS, StreamCheck, Violations
from chaos.items import BEGINNING, answer, follow, payload, read

TAG = 0xFEED


def outputs(count, tag=TAG):
    return [answer(payload(tag, number), 3) for number in range(1, count + 1)]


def checked(answers, *, ordered=True, pulled=20, stateful=False):
    violations = Violations()
    check = StreamCheck(TAG, "a stream", ordered=ordered, violations=violations, stateful=stateful)
    for each in answers:
        check.take(each, pulled)
    check.end(pulled)
    return dict(violations.counts)


@pytest.mark.parametrize("ordered", [True, False])
def test_what_is_right_is_no_violation(ordered):
    assert checked(outputs(20), ordered=ordered) == {}


def test_any_order_is_right_where_none_was_promised():
    answers = outputs(20)
    random.Random(1).shuffle(answers)
    assert checked(answers, ordered=False) == {}
    assert set(checked(answers)) == {"out of order"}


def test_lost_items_are_counted_each():
    answers = outputs(20)
    del answers[18:], answers[4]
    assert checked(answers, ordered=False) == {"lost": 3}


def test_a_hole_in_an_ordered_stream_is_lost():
    answers = outputs(20)
    del answers[5]
    assert checked(answers) == {"lost": 1}


@pytest.mark.parametrize("ordered", [True, False])
def test_duplicates(ordered):
    answers = outputs(20)
    assert checked([*answers[:7], answers[3], *answers[7:]], ordered=ordered) == {"duplicated": 1}


def test_a_state_must_be_that_of_an_undisturbed_stream():
    def folded(numbers):
        state, made = BEGINNING, []
        for number in numbers:
            state = follow(state, payload(TAG, number))
            made.append(answer(payload(TAG, number), 3) + state)
        return made

    right = folded(range(1, 21))
    assert checked(right, stateful=True) == {}
    without_9 = folded([*range(1, 9), *range(10, 21)])
    assert checked([*right[:9], *without_9[8:]], stateful=True) == {"wrong state": 11}
    assert checked([each[:-4] for each in right], stateful=True)["wrong content"] == 20


def test_two_that_changed_places():
    answers = outputs(20)
    answers[5], answers[6] = answers[6], answers[5]
    assert checked(answers) == {"out of order": 1}


def test_an_answer_of_another_stream_is_foreign_and_its_place_is_lost():
    answers = outputs(20)
    answers[9] = outputs(20, tag=TAG + 1)[9]
    assert checked(answers, ordered=False) == {"foreign": 1, "lost": 1}


def test_an_answer_to_what_was_never_asked_is_foreign():
    assert checked(outputs(21)) == {"foreign": 1}


def test_an_answer_to_other_bytes_has_the_wrong_content():
    answers = outputs(20)
    changed = bytearray(payload(TAG, 10))
    changed[-1] ^= 1
    answers[9] = answer(bytes(changed), 3)
    assert checked(answers) == {"wrong content": 1}


def test_what_is_no_answer_at_all():
    answers = outputs(20)
    answers[19] = b"?"
    assert checked(answers) == {"wrong content": 1, "lost": 1}


def test_an_answer_says_who_it_is():
    found = read(answer(payload(TAG, 7), 3))
    assert (found.stream, found.number, found.version) == (TAG, 7, 3)


def test_violations_beyond_some_are_counted_only():
    violations = Violations(lambda: 1.5)
    for number in range(MOST_DETAILS + 10):
        violations.add("lost", "a stream", f"input {number}")
    assert len(violations) == MOST_DETAILS + 10
    assert len(violations.details) == MOST_DETAILS
    assert str(violations.details[0]) == "    1.5 s  lost: a stream: input 0"
