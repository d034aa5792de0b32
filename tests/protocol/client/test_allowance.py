"""What one attempt's server may send: of all inputs together, or of each."""

import pytest

from servestream_client.config import FlowControl
from servestream_client.errors import RemoteProtocolError
from servestream_client.protocol.client.allowance import Allowance
from servestream_client.protocol.client.deliveries import Part
from servestream_client.protocol.client.delivery import DeliveryQueue
from servestream_client.protocol.client.ledger import Ledger
from servestream_client.protocol.frames import Credit, InputCredit
from servestream_client.protocol.runs import Run

BUDGET, OWN = Credit(8, 800), Credit(4, 100)


def scene(*, each: bool = False, inputs: int = 3) -> tuple[DeliveryQueue, Allowance]:
    ledger = Ledger(FlowControl(), ordered=False)
    ledger.append([b"x"] * inputs, [None] * inputs, inputs)
    queue = DeliveryQueue(ledger, BUDGET)
    allowance = Allowance(queue)
    if each:
        allowance.begin_each(OWN)
        allowance.begin(Run(1, [b"x"] * inputs, inputs))
    return queue, allowance


def receive(queue: DeliveryQueue, allowance: Allowance, number: int, index: int, *sizes: int):
    payloads = [bytes(size) for size in sizes]
    allowance.receive_all(sizes)
    allowance.receive(number, index, payloads)
    queue.add_part(Part(number, index, payloads, last=False), sum(sizes))


@pytest.mark.parametrize("each", [False, True])
def test_what_is_held_counts_only_where_inputs_have_no_credit_of_their_own(each):
    queue, allowance = scene(each=each)
    assert allowance.grant() == BUDGET
    receive(queue, allowance, 1, 0, 10, 10, 10)
    assert allowance.grant() == (Credit(8 + 3, 800 + 30) if each else BUDGET)
    queue.take_part(9)
    assert allowance.grant() == (Credit(8 + 3, 800 + 30) if each else BUDGET)


def test_held_counts_until_it_is_known_that_inputs_have_their_own():
    """Each open would otherwise let an older server add a budget to what is held."""
    queue, before = scene()
    before.grant()
    receive(queue, before, 1, 0, 10, 10, 10)
    allowance = Allowance(queue)
    assert allowance.grant() == Credit(8 - 3, 800 - 30)
    allowance.begin_each(OWN)
    assert allowance.grant() == BUDGET


def test_no_input_uses_up_what_others_need():
    queue, allowance = scene(each=True)
    allowance.grant()
    for number in (1, 2):
        receive(queue, allowance, number, 0, 1, 1, 1, 1)
    assert allowance.due
    assert allowance.grant().outputs == 8 + 8
    assert [allowance.exhausted(number) for number in (1, 2, 3)] == [True, True, False]
    assert allowance.grant_each() == []


def test_each_input_gets_more_once_its_own_consumer_takes_some():
    queue, allowance = scene(each=True)
    allowance.grant()
    receive(queue, allowance, 1, 0, 10, 10, 10, 10)
    receive(queue, allowance, 2, 0, 10, 10, 10, 10)
    allowance.grant()
    assert not allowance.due
    queue.ack_outputs(2, 2, 20)
    assert allowance.due
    assert allowance.grant_each() == [InputCredit(2, 6, 120)]
    assert not allowance.due


def test_where_inputs_have_none_of_their_own_none_is_granted_or_asked_for():
    queue, allowance = scene()
    allowance.grant()
    assert allowance.begin(Run(1, [b"x"], 1)) is None
    receive(queue, allowance, 1, 0, *[1] * 8)
    assert not allowance.exhausted(1)
    queue.ack_outputs(1, 8, 8)
    assert allowance.grant_each() == ()
    allowance.forget(1)


def test_an_output_needs_both_credits():
    queue, allowance = scene(each=True)
    allowance.grant()
    receive(queue, allowance, 1, 0, 1, 1, 1, 1)
    with pytest.raises(RemoteProtocolError, match="credit of input 1"):
        receive(queue, allowance, 1, 4, 1)
    with pytest.raises(RemoteProtocolError, match="credit of 8 outputs"):
        allowance.receive_all([1] * 4)


def test_what_is_held_when_an_attempt_begins_counts_against_its_input():
    queue, allowance = scene(each=True)
    allowance.grant()
    receive(queue, allowance, 2, 0, 10, 10, 10)
    following = Allowance(queue)
    following.begin_each(OWN)
    assert following.begin(Run(1, [b"x"], 1)) is None
    assert following.begin(Run(2, [b"x"], 1, 3)) == Credit(3 + 1, 70)


def test_an_earlier_attempt_hears_of_nothing_any_more():
    queue, earlier = scene(each=True)
    earlier.grant()
    receive(queue, earlier, 1, 0, 1, 1, 1, 1)
    assert earlier.grant_each() == []
    Allowance(queue)
    queue.ack_outputs(1, 4, 4)
    assert earlier.grant_each() == []


def test_an_answered_or_unwanted_input_gets_nothing_more():
    queue, allowance = scene(each=True)
    allowance.grant()
    for number in (1, 2, 3):
        receive(queue, allowance, number, 0, 1, 1)
    allowance.forget(1, 2)
    for number in (1, 2, 3):
        queue.ack_outputs(number, 2, 2)
    assert [each.number for each in allowance.grant_each()] == [3]
