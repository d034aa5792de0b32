"""Output credit: totals over one attempt, granted by the client and used by the server."""

from contextlib import nullcontext

import pytest
from effort import effort
from hypothesis import given, settings
from hypothesis import strategies as st

from servestream_client.errors import RemoteProtocolError
from servestream_client.protocol.credit import CreditBalance, CreditGrant
from servestream_client.protocol.frames import Credit

NOTHING = Credit()
PLENTY = 1_000_000


def granted(outputs: int = PLENTY, size: int = PLENTY, held: Credit = NOTHING) -> CreditGrant:
    grant = CreditGrant(Credit(outputs, size))
    grant.grant(held)
    return grant


# ------------------------------------------------------------------ the client's side


def test_the_first_grant_is_the_budget():
    assert CreditGrant(Credit(4, 100)).grant(NOTHING) == Credit(4, 100)


def test_what_is_held_unread_is_taken_off_the_first_grant():
    assert CreditGrant(Credit(4, 100)).grant(Credit(3, 70)) == Credit(1, 30)


def test_a_client_that_holds_more_than_its_budget_grants_nothing():
    assert CreditGrant(Credit(4, 100)).grant(Credit(5, 101)) == Credit(0, 0)


def test_the_total_is_what_came_and_what_there_is_room_for():
    grant = granted(4, 100)
    grant.receive(10)
    grant.receive(20)
    assert grant.received_outputs == 2
    assert grant.total(held=Credit(1, 20)) == Credit(2 + 3, 30 + 80)


def test_a_total_never_falls():
    grant = granted(4, 100)
    assert grant.grant(Credit(4, 100)) == Credit(4, 100)


def test_no_output_may_come_before_the_first_grant():
    with pytest.raises(RemoteProtocolError, match="beyond the credit"):
        CreditGrant(Credit(4, 100)).receive(1)


def test_one_output_too_many_is_the_servers_error():
    grant = granted(outputs=2)
    grant.receive(1)
    grant.receive(1)
    with pytest.raises(RemoteProtocolError, match="beyond the credit"):
        grant.receive(1)


def test_the_last_output_may_exceed_the_bytes():
    grant = granted(size=10)
    grant.receive(9)
    grant.receive(500)
    with pytest.raises(RemoteProtocolError, match="beyond the credit"):
        grant.receive(0)


def test_an_output_is_counted_only_if_there_was_credit_for_it():
    grant = granted(outputs=1)
    grant.receive(1)
    with pytest.raises(RemoteProtocolError):
        grant.receive(1)
    assert grant.received_outputs == 1


@pytest.mark.parametrize(
    ("sizes", "counted", "accepted"),
    [
        ([5, 4], 2, True),
        ([5, 5], 2, True),  # the last one may exceed, and reaches the total exactly
        ([500, 9], 2, True),  # whichever was the last, it may have been the large one
        ([9, 500], 2, True),
        ([0, 0, 0], 3, True),
        ([1, 1, 1, 1], 3, False),
        ([10, 10], 1, False),
        ([11, 0], 2, True),
        ([0, 10, 10], 2, False),
        ([], 0, True),
    ],
)
def test_the_outputs_of_a_frame_are_counted_from_small_to_large(sizes, counted, accepted):
    grant = granted(outputs=3, size=10)
    with nullcontext() if accepted else pytest.raises(RemoteProtocolError, match="beyond"):
        grant.receive_all(sizes)
    assert grant.received_outputs == counted


@pytest.mark.parametrize(
    ("total", "frames"),
    [(10, [[4, 6], [0]]), (10, [[10], [0, 0]]), (10, [[5, 500], [1]]), (2, [[1, 1, 1]])],
)
def test_nothing_may_follow_the_outputs_that_reached_the_bytes(total, frames):
    grant = granted(size=total)
    for sizes in frames[:-1]:
        grant.receive_all(sizes)
    with pytest.raises(RemoteProtocolError, match="beyond the credit"):
        grant.receive_all(frames[-1])


@settings(max_examples=effort(300, 10_000))
@given(
    budget=st.tuples(st.integers(1, 6), st.integers(1, 20)),
    frames=st.lists(
        st.tuples(
            st.lists(st.sampled_from([0, 0, 1, 2, 5, 10, 21]), max_size=5),
            st.tuples(st.integers(0, 6), st.integers(0, 20)),
        ),
        max_size=8,
    ),
)
def test_a_frame_at_once_is_the_same_as_its_outputs_in_ascending_order(budget, frames):
    grant, singly = granted(*budget), granted(*budget)
    for sizes, held in frames:
        breach = found = None
        try:
            grant.receive_all(sizes)
        except RemoteProtocolError as error:
            found = str(error)
        try:
            for size in sorted(sizes):
                singly.receive(size)
        except RemoteProtocolError as error:
            breach = str(error)
        assert found == breach
        assert grant.received_outputs == singly.received_outputs
        assert grant.grant(Credit(*held)) == singly.grant(Credit(*held))
        if breach:
            return


@pytest.mark.parametrize(("budget", "freed"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_a_frame_for_credit_alone_is_due_at_half_the_outputs(budget, freed):
    grant = granted(outputs=budget)
    for _ in range(budget):
        grant.receive(0)
    assert not grant.due(Credit(budget - freed + 1, 0))
    assert grant.due(Credit(budget - freed, 0))


def test_a_frame_for_credit_alone_is_due_at_half_the_bytes():
    grant = granted(size=100)
    grant.receive(100)
    assert not grant.due(Credit(1, 51))
    assert grant.due(Credit(1, 50))


def test_nothing_is_due_once_it_is_granted():
    grant = granted(outputs=2)
    grant.receive(1)
    assert grant.due(NOTHING)
    grant.grant(NOTHING)
    assert not grant.due(NOTHING)


# ------------------------------------------------------------------ the server's side


def test_a_server_has_no_credit_to_begin_with():
    assert not CreditBalance().allows_output


def test_both_totals_must_allow_an_output():
    balance = CreditBalance()
    balance.raise_to(Credit(1, 0))
    assert not balance.allows_output
    balance.raise_to(Credit(1, 1))
    assert balance.allows_output
    balance.spend(0)
    assert not balance.allows_output


def test_a_server_may_overshoot_the_bytes_by_one_output():
    balance = CreditBalance()
    balance.raise_to(Credit(10, 10))
    balance.spend(9)
    assert balance.allows_output
    balance.spend(500)
    assert not balance.allows_output
    assert balance.outputs_sent == 2


def test_of_several_grants_the_highest_holds():
    balance = CreditBalance()
    balance.raise_to(Credit(2, 10))
    balance.raise_to(Credit(1, 20))
    balance.raise_to(Credit(0, 0))
    balance.spend(15)
    assert balance.allows_output
    balance.spend(1)
    assert not balance.allows_output


# ------------------------------------------------------------------ both together


@given(
    budget=st.tuples(st.integers(1, 4), st.integers(1, 20)),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.integers(0, 30)),
            st.sampled_from([("deliver", 0), ("take", 0), ("grant", 0), ("heard", 0)]),
        ),
        max_size=80,
    ),
)
def test_credit_bounds_what_is_held_however_late_grants_are(budget, steps):
    grant, balance = CreditGrant(Credit(*budget)), CreditBalance()
    grants, outputs = [grant.grant(NOTHING)], []
    held: list[int] = []
    for step, size in steps:
        if step == "send" and balance.allows_output:
            balance.spend(size)
            outputs.append(size)
        elif step == "deliver" and outputs:
            held.append(outputs.pop(0))
            grant.receive(held[-1])
        elif step == "take" and held:
            held.pop(0)
        elif step == "grant":
            grants.append(grant.grant(Credit(len(held), sum(held))))
        elif step == "heard" and grants:
            balance.raise_to(grants.pop(0))
        under_way = held + outputs
        assert len(under_way) <= budget[0]
        # The last one may overshoot; what stands before it fits.
        assert sum(under_way[:-1]) < budget[1] or not under_way[:-1]
