"""What a server says of itself, held against what came."""

import pytest

from servestream_client.config import FlowControl
from servestream_client.errors import FrameLostError, RemoteProtocolError
from servestream_client.protocol.chunks import Assembly
from servestream_client.protocol.client.allowance import Allowance
from servestream_client.protocol.client.delivery import DeliveryQueue
from servestream_client.protocol.client.in_flight import InFlight
from servestream_client.protocol.client.ledger import Ledger
from servestream_client.protocol.client.opening import Offer
from servestream_client.protocol.client.reports import OVERDUE_INTERVALS, Reports
from servestream_client.protocol.client.standstill import STALLED_BEATS
from servestream_client.protocol.frames import (
    BlockedOn,
    CodecId,
    Credit,
    Heartbeat,
    Running,
    ServerEnd,
)
from servestream_client.protocol.runs import Run

INPUT = Running(blocked_on=BlockedOn.INPUT)
IDLE = Running(started_through=2, blocked_on=BlockedOn.NOTHING)


class Scene:
    """Inputs 1 and 2 are under way, 3 was never sent, and one output came."""

    def __init__(self, *, item_timeout_ms: int = 0) -> None:
        offer = Offer(
            bytes(16), CodecId("bytes"), heartbeat_ms=100, item_timeout_ms=item_timeout_ms
        )
        self.ledger = Ledger(FlowControl(), ordered=False)
        self.ledger.append([b"x"] * 3, [None] * 3, 3)
        self.in_flight = InFlight(self.ledger)
        self.in_flight.add(Run(1, [b"x", b"x"], 2))
        allowance = Allowance(DeliveryQueue(self.ledger, Credit(10, 100)))
        allowance.grant()
        allowance.receive_all([5])
        self.assembly = Assembly()
        self.reports = Reports(offer, self.ledger, self.in_flight, allowance, self.assembly)

    def answer(self, number: int) -> None:
        self.in_flight.answered(number, 1, self.ledger.settle(number))


@pytest.mark.parametrize(("outputs", "lost"), [(0, False), (1, False), (2, True)])
def test_a_server_that_sent_more_than_came_has_lost_some(outputs, lost):
    reports = Scene().reports
    if lost:
        with pytest.raises(FrameLostError, match="sent 2 outputs, of which 1 came"):
            reports.receive(None, Heartbeat(2, outputs))
    else:
        reports.receive(None, Heartbeat(2, outputs))


@pytest.mark.parametrize("through", [0, 1])
def test_what_a_server_says_of_an_earlier_position_is_no_loss(through):
    reports = Scene().reports
    reports.receive(INPUT, Heartbeat(through, 1))


def test_a_server_that_owes_nothing_has_answered_all():
    scene = Scene()
    with pytest.raises(FrameLostError, match="no answer came to 2 of them"):
        scene.reports.receive(INPUT, Heartbeat(2, 1))
    scene.answer(1)
    scene.answer(2)
    scene.reports.receive(INPUT, Heartbeat(2, 1))


def test_what_it_works_on_is_of_the_frame_that_says_where_it_stands():
    reports = Scene().reports
    reports.receive(INPUT, None)
    reports.receive(None, Heartbeat(2, 1))


def test_a_standstill_that_lasts_is_a_loss():
    reports = Scene().reports
    for _ in range(STALLED_BEATS - 1):
        reports.receive(IDLE, Heartbeat(2, 1))
        reports.tick(free=True)
    with pytest.raises(FrameLostError, match="waits for what was lost"):
        reports.receive(IDLE, Heartbeat(2, 1))


AGE = 1000 + OVERDUE_INTERVALS * 100


@pytest.mark.parametrize(
    ("number", "age", "overdue"), [(1, AGE, 0), (1, AGE + 1, 1), (3, AGE + 1, 0), (9, AGE + 1, 0)]
)
def test_an_input_that_was_sent_is_overdue_after_its_time_and_some(number, age, overdue):
    reports = Scene(item_timeout_ms=1000).reports
    assert reports.overdue == 0
    reports.receive(Running(oldest_number=number, oldest_age_ms=age), None)
    assert reports.overdue == overdue
    reports.receive(None, None)
    assert reports.overdue == overdue  # by its last word


def test_what_is_answered_is_not_overdue_and_without_a_limit_nothing_is():
    running = Running(oldest_number=1, oldest_age_ms=10**9)
    scene = Scene(item_timeout_ms=1)
    scene.reports.receive(running, None)
    scene.answer(1)
    assert scene.reports.overdue == 0
    unlimited = Scene().reports
    unlimited.receive(running, None)
    assert unlimited.overdue == 0


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (ServerEnd(3, 2, 2), None),
        (ServerEnd(3, 1, 1), FrameLostError),
        (ServerEnd(2, 2, 2), RemoteProtocolError),
        (ServerEnd(3, 2, 1), RemoteProtocolError),
        (ServerEnd(3, 3, 3), RemoteProtocolError),
    ],
)
def test_an_end_agrees_with_what_was_sent_on_this_attempt(end, error):
    scene = Scene()
    scene.answer(1)
    scene.answer(2)
    if error is None:
        scene.reports.check_end(end, end_sent=True)
        with pytest.raises(RemoteProtocolError, match="before the client's end"):
            scene.reports.check_end(end, end_sent=False)
        return
    with pytest.raises(RemoteProtocolError) as caught:
        scene.reports.check_end(end, end_sent=True)
    assert type(caught.value) is error


def test_an_end_is_wrong_while_inputs_lack_an_answer():
    scene = Scene()
    scene.answer(1)
    with pytest.raises(RemoteProtocolError, match="1 lack an answer"):
        scene.reports.check_end(ServerEnd(3, 2, 2), end_sent=True)
