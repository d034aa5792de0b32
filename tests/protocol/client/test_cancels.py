"""What a server is to hear of cancelled inputs: each once, and as much as a frame may say."""

from itertools import pairwise
from random import Random

import pytest
from anatomy import anatomy
from streaming import (
    answers,
    error,
    frames_out,
    kinds,
    numbers_in,
    open_attempt,
    streaming,
    take_all,
)

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.client.cancels import CancelNotices
from servestream_client.protocol.frames import ClientEnd, Limits, NumberRange


@pytest.mark.parametrize("seed", range(20))
def test_each_input_is_named_once_in_frames_that_may_say_so_much(seed):
    random = Random(seed)
    limits = Limits(window_items=random.randint(1, 50), frame_bytes=random.choice([24, 240, 10**6]))
    numbers = random.sample(range(1, 300), 100)
    notices, named = CancelNotices(), []
    for number in numbers:
        notices.add(number)
        if random.random() < 0.1:
            named.append(notices.take(limits))
    while notices:
        named.append(notices.take(limits))
    for ranges in named:
        assert len(ranges) <= max(1, min(limits.window_items, limits.frame_bytes // 24))
        assert all(a.last + 1 < b.first for a, b in pairwise(ranges))
    found = [n for ranges in named for each in ranges for n in range(each.first, each.last + 1)]
    assert sorted(found) == sorted(numbers)


def test_neighbours_are_one_range():
    notices = CancelNotices()
    for number in (5, 6, 2, 1, 7):
        notices.add(number)
    assert [(each.first, each.last) for each in notices.take(None)] == [(1, 2), (5, 7)]
    assert not notices


# ------------------------------------------------------------------ through a session


def test_an_input_cancelled_before_it_was_sent_is_not_sent():
    session = streaming(ordered=False)
    session.push(b"1", item="one")
    session.push(b"2")
    session.cancel(1)
    (delivery,) = take_all(session)
    assert (delivery.number, delivery.item) == (1, None)
    assert delivery.failure.kind is ItemErrorKind.CANCELLED
    frame = session.next_frame()
    assert numbers_in([frame]) == [2]
    assert not frame.cancelled


def test_an_ordered_cancel_before_sending_waits_its_turn():
    session = streaming(b"1")
    session.push(b"2")
    session.cancel(2)
    assert session.delivery.take() is None
    session.receive(1, answers(1, b"A"))
    assert kinds(take_all(session)) == [(1, None), (2, ItemErrorKind.CANCELLED)]
    assert session.ledger.unanswered == 0


def test_a_cancelled_last_input_does_not_hold_up_the_end():
    session = streaming(b"1", welcome={"limits": Limits(window_items=1)})
    session.push(b"2")
    session.cancel(2)
    session.ledger.finish()
    assert session.next_frame().end == ClientEnd(2)


def test_an_input_cancelled_after_it_was_sent_is_named_to_the_server_once():
    session = streaming(b"1", b"2")
    session.cancel(2)
    session.cancel(2)
    frame = session.next_frame()
    assert list(frame.cancelled) == [NumberRange(2, 2)]
    assert not frame.paced
    assert session.next_frame() is None
    assert session.ledger.unanswered == 2


def test_a_cancelled_input_still_gets_its_one_answer():
    session = streaming(b"1", b"2")
    session.cancel(1)
    session.cancel(2)
    session.receive(1, answers(1, b"A"))
    session.receive(1, error(2, kind=ItemErrorKind.CANCELLED))
    assert kinds(take_all(session)) == [(1, None), (2, ItemErrorKind.CANCELLED)]


def test_a_cancelled_input_is_not_sent_again():
    session = streaming(b"1", b"2")
    session.cancel(1)
    session.lost(1)
    open_attempt(session)
    assert numbers_in(frames_out(session)) == [2]
    assert kinds(take_all(session)) == [(1, ItemErrorKind.CANCELLED)]


@pytest.mark.parametrize("number", [0, 1, 3, 10**18])
def test_cancelling_what_is_not_unanswered_changes_nothing(number):
    session = streaming(b"1", b"2")
    session.receive(1, answers(1, b"A"))
    before = anatomy(session)
    session.cancel(number)
    assert anatomy(session) == before
