"""What a client makes of an answer: the rules of docs/protocol.md, section 6, in their order."""

import pytest

from servestream_client.config import FlowControl
from servestream_client.errors import FrameLostError, ItemErrorKind, RemoteProtocolError
from servestream_client.protocol.client.answers import AnswerReceiver, is_new
from servestream_client.protocol.client.attempt import Attempt
from servestream_client.protocol.client.counters import ClientCounters
from servestream_client.protocol.client.delivery import DeliveryQueue
from servestream_client.protocol.client.ledger import Ledger
from servestream_client.protocol.client.opening import Offer
from servestream_client.protocol.frames import (
    CodecId,
    Credit,
    ItemFailure,
    Limits,
    OutputPart,
    OutputRun,
    ServerFrame,
)

ORDERS = pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])


class Scene:
    """Inputs 1 to 7: 1 is answered, 2 has one output, 3 waits for its turn, 4 is in quarantine, 5
    is in flight, 6 failed here before it was sent, and 7 waits for its frame.
    """

    def __init__(self, *, ordered: bool = True) -> None:
        self.ledger = Ledger(FlowControl(), ordered=ordered)
        self.queue = DeliveryQueue(self.ledger, Credit(100, 1000))
        self.counters = ClientCounters()
        self.ledger.append([b"x"] * 7, [None] * 7, 7)
        self.ledger.quarantine([4])
        self.ledger.decide(6, sent=False)
        offer = Offer(bytes(16), CodecId("bytes"), ordered=ordered)
        self.attempt = Attempt(1, offer, self.queue, self.counters, known=Limits(window_items=4))
        assert [run.first_number for run in self.attempt.gather()] == [1, 5]
        assert self.attempt.sent_through == 5
        self.attempt.grant.grant(Credit())
        self.answers = AnswerReceiver(self.queue, self.counters, 10)
        self.receive(outputs=(OutputRun(1, [b"1"]),))
        self.receive(parts=(OutputPart(2, 0, [b"2.0"], False),))
        self.ledger.decide(3, sent=True)
        self.counters.received = 0

    def receive(self, **fields: object) -> None:
        self.answers.receive(self.attempt, ServerFrame(**fields))


@ORDERS
@pytest.mark.parametrize(
    ("number", "index", "verdict"),
    [
        (0, 0, "never sent"),
        (8, 0, "never sent"),
        (1, 0, False),
        (1, 9, False),
        (3, 0, False),
        (4, 0, "not sent on this attempt"),
        (6, 0, "not sent on this attempt"),
        (7, 0, "not sent on this attempt"),
        (2, 0, False),
        (2, 2, "came before output 1"),
        (2, 1, True),
    ],
)
def test_the_rules(ordered, number, index, verdict):
    scene = Scene(ordered=ordered)
    if isinstance(verdict, bool):
        assert is_new(scene.ledger, scene.attempt, number, index) is verdict
        return
    lost = "came before" in verdict
    with pytest.raises(FrameLostError if lost else RemoteProtocolError, match=verdict) as caught:
        is_new(scene.ledger, scene.attempt, number, index)
    assert isinstance(caught.value, FrameLostError) is lost


def test_order_is_asked_of_what_this_attempt_carries():
    scene = Scene()
    with pytest.raises(FrameLostError, match="before one to an earlier input"):
        is_new(scene.ledger, scene.attempt, 5, 0)
    scene.receive(parts=(OutputPart(2, 1, (), True),))
    assert is_new(scene.ledger, scene.attempt, 5, 0)
    assert is_new(Scene(ordered=False).ledger, scene.attempt, 5, 0)


@pytest.mark.parametrize("number", range(9))
@pytest.mark.parametrize("index", range(3))
@ORDERS
def test_looking_changes_nothing_that_counts(ordered, number, index):
    scene = Scene(ordered=ordered)
    found = []
    for _ in range(2):
        try:
            found.append(is_new(scene.ledger, scene.attempt, number, index))
        except RemoteProtocolError as error:
            found.append(str(error))
    assert found[0] == found[1]
    assert scene.counters.received == scene.counters.duplicates == 0


def test_what_is_new_is_counted_as_progress_and_what_is_not_is_not():
    scene = Scene(ordered=False)
    scene.attempt.progressed = False
    scene.receive(outputs=(OutputRun(1, [b"1"]),))
    assert (scene.counters.received, scene.counters.duplicates) == (0, 1)
    assert not scene.attempt.progressed
    scene.receive(errors=(ItemFailure(5, ItemErrorKind.HANDLER, "no"),))
    assert (scene.counters.received, scene.counters.duplicates) == (1, 1)
    assert scene.attempt.progressed


def test_an_answered_input_is_in_flight_no_longer():
    scene = Scene(ordered=False)
    assert (scene.attempt.in_flight_items, scene.attempt.in_flight_bytes) == (2 + 1, 3)
    scene.receive(outputs=(OutputRun(5, [b"5"]),))
    assert (scene.attempt.in_flight_items, scene.attempt.in_flight_bytes) == (2, 2)


def test_a_breach_before_its_turn_holds_nothing():
    """Several outputs of an input whose turn has not come end the attempt, and take no credit."""
    scene = Scene()
    scene.receive(parts=(OutputPart(2, 1, (), True),))  # behind it stands 4, which others try
    held, received = scene.queue.held_outputs, scene.counters.received
    scene.attempt.progressed = False
    with pytest.raises(RemoteProtocolError, match="several outputs"):
        scene.receive(parts=(OutputPart(5, 0, [b"a"], False),))
    with pytest.raises(RemoteProtocolError, match="no output"):
        scene.receive(parts=(OutputPart(5, 0, (), True),))
    assert (scene.queue.held_outputs, scene.counters.received) == (held, received)
    assert not scene.attempt.progressed
