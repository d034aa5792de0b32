"""Pacing: at most K paced frames unacknowledged, each way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servestream_client.errors import RemoteProtocolError
from servestream_client.protocol.pacing import Pacer


def having_sent(limit: int, count: int) -> Pacer:
    pacer = Pacer(limit)
    for _ in range(count):
        pacer.sent()
    return pacer


def having_read(limit: int, count: int) -> Pacer:
    pacer = Pacer(limit)
    for _ in range(count):
        pacer.read()
    return pacer


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 16])
def test_exactly_k_frames_may_be_under_way(limit):
    assert having_sent(limit, limit - 1).may_send(full=True)
    assert not having_sent(limit, limit).may_send(full=True)


@pytest.mark.parametrize(("limit", "allowed"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (16, 8)])
def test_a_frame_that_is_not_full_waits_while_half_of_k_are_under_way(limit, allowed):
    assert having_sent(limit, allowed - 1).may_send(full=False)
    assert not having_sent(limit, allowed).may_send(full=False)


@given(limit=st.integers(1, 16), under_way=st.integers(0, 16))
def test_whoever_holds_a_frame_back_is_owed_a_word(limit, under_way):
    if not having_sent(limit, under_way).may_send(full=False):
        assert having_read(limit, under_way).acknowledgement_due


def test_each_acknowledged_frame_makes_room_for_one():
    pacer = having_sent(2, 2)
    pacer.acknowledge(1)
    assert pacer.may_send(full=True)
    pacer.sent()
    assert not pacer.may_send(full=True)


def test_an_acknowledgement_is_a_total_so_repeats_and_late_ones_change_nothing():
    pacer = having_sent(4, 4)
    pacer.acknowledge(3)
    pacer.acknowledge(3)
    pacer.acknowledge(1)
    pacer.acknowledge(0)
    for _ in range(3):
        assert pacer.may_send(full=True)
        pacer.sent()
    assert not pacer.may_send(full=True)


def test_acknowledging_more_than_was_sent_is_the_peers_error():
    pacer = having_sent(4, 2)
    pacer.acknowledge(2)
    with pytest.raises(RemoteProtocolError, match="3 paced frames"):
        pacer.acknowledge(3)


@pytest.mark.parametrize(("limit", "due_at"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (16, 8)])
def test_word_is_owed_once_half_of_k_is_unreported(limit, due_at):
    assert not having_read(limit, due_at - 1).acknowledgement_due
    assert having_read(limit, due_at).acknowledgement_due


def test_a_report_says_the_total_and_settles_the_debt():
    pacer = having_read(4, 3)
    assert pacer.report() == 3
    assert not pacer.acknowledgement_due
    pacer.read()
    assert not pacer.acknowledgement_due
    pacer.read()
    assert pacer.acknowledgement_due
    assert pacer.report() == 5


def test_a_lowered_limit_holds_for_what_is_under_way():
    pacer = having_sent(4, 3)
    pacer.limit = 2
    assert not pacer.may_send(full=True)
    pacer.acknowledge(1)
    assert not pacer.may_send(full=True)
    pacer.acknowledge(2)
    assert pacer.may_send(full=True)


@given(
    limit=st.integers(1, 5),
    full=st.booleans(),
    steps=st.lists(st.sampled_from(["send", "read", "word"])),
)
def test_a_peer_that_reports_what_is_due_never_leaves_the_sender_waiting(limit, full, steps):
    sender, reader = Pacer(limit), Pacer(limit)
    sent = read = reported = 0
    words: list[int] = []
    for step in [*steps, *["read", "word"] * (limit + len(steps))]:
        if step == "send" and sender.may_send(full=full):
            sender.sent()
            sent += 1
        elif step == "read" and read < sent:
            reader.read()
            read += 1
            if reader.acknowledgement_due:
                words.append(reader.report())
        elif step == "word" and words:
            reported = words.pop(0)
            sender.acknowledge(reported)
        assert sent - reported <= limit
    assert sender.may_send(full=full)
