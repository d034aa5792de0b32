"""What a client makes of an answer: the rules of docs/protocol.md, section 6, in their order."""

from random import Random

import pytest
from streaming import (
    CODEC,
    STREAM_ID,
    answers,
    error,
    expect_breach,
    frames_out,
    kinds,
    make_client,
    numbers_in,
    open_attempt,
    output,
    part,
    push_all,
    streaming,
    take_all,
)

from servestream_client.config import FlowControl
from servestream_client.errors import FrameLostError, ItemErrorKind, RemoteProtocolError
from servestream_client.protocol.client import ClientSession, Delivery
from servestream_client.protocol.client.answers import AnswerReceiver, is_new
from servestream_client.protocol.client.attempt import Attempt
from servestream_client.protocol.client.counters import ClientCounters
from servestream_client.protocol.client.delivery import DeliveryQueue
from servestream_client.protocol.client.ledger import Ledger
from servestream_client.protocol.client.opening import Offer
from servestream_client.protocol.frames import (
    CodecId,
    Credit,
    InputRun,
    ItemFailure,
    Limits,
    OutputPart,
    OutputRun,
    ServerFrame,
    StateToken,
    Welcome,
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
        assert self.attempt.in_flight.sent_through == 5
        self.attempt.allowance.grant()
        self.answers = AnswerReceiver(self.queue, self.counters, FlowControl(max_item_bytes=10))
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
    assert (scene.attempt.in_flight.items, scene.attempt.in_flight.bytes) == (2 + 1, 3)
    scene.receive(outputs=(OutputRun(5, [b"5"]),))
    assert (scene.attempt.in_flight.items, scene.attempt.in_flight.bytes) == (2, 2)


def test_a_breach_before_its_turn_holds_nothing():
    """An answer to an input before that of an earlier one ends the attempt, and is not held."""
    scene = Scene()
    held, received = scene.queue.held_outputs, scene.counters.received
    scene.attempt.progressed = False
    for last, payloads in ((False, [b"a"]), (True, ())):
        with pytest.raises(FrameLostError, match="came before one to an earlier input"):
            scene.receive(parts=(OutputPart(5, 0, payloads, last),))
    assert (scene.queue.held_outputs, scene.counters.received) == (held, received)
    assert not scene.attempt.progressed


# ------------------------------------------------------------------ through a session


def test_outputs_come_to_the_consumer_with_number_and_index():
    session = streaming(b"x", b"y")
    session.receive(1, answers(1, b"X", b"Y"))
    assert take_all(session) == [output(1, b"X"), output(2, b"Y")]
    assert session.delivery.take() is None
    assert session.counters.received == 2


def test_a_frame_is_taken_in_order_of_number_whichever_field_an_answer_stands_in():
    session = streaming(b"1", b"2", b"3", b"4", b"5")
    session.receive(
        1,
        ServerFrame(
            outputs=[OutputRun(5, [b"E"]), OutputRun(1, [b"A"])],
            parts=[OutputPart(4, 1, [b"d1"], True), OutputPart(4, 0, [b"d0"], False)],
            errors=[
                ItemFailure(3, ItemErrorKind.DECODE, "three"),
                ItemFailure(2, ItemErrorKind.HANDLER, "two"),
            ],
        ),
    )
    assert [(d.number, d.index, d.payload) for d in take_all(session)] == [
        (1, 0, b"A"),
        (2, 0, None),
        (3, 0, None),
        (4, 0, b"d0"),
        (4, 1, b"d1"),
        (5, 0, b"E"),
    ]


def test_unordered_outputs_are_delivered_as_they_come():
    session = streaming(b"x", b"y", b"z", ordered=False)
    session.receive(1, answers(3, b"Z"))
    session.receive(1, answers(1, b"X", b"Y"))
    assert take_all(session) == [output(3, b"Z"), output(1, b"X"), output(2, b"Y")]


@pytest.mark.parametrize("number", [0, 3])
@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_an_answer_to_an_input_that_never_was_is_the_servers_error(ordered, number):
    session = streaming(b"x", b"y", ordered=ordered)
    expect_breach(session, answers(number, b"?"), "never sent")


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_an_answer_to_an_input_that_waits_is_the_servers_error(ordered):
    session = streaming(b"x", ordered=ordered)
    session.push(b"y")
    expect_breach(session, answers(2, b"Y"), "not sent on this attempt")


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_an_answer_to_an_input_sent_only_on_an_older_attempt_is_the_servers_error(ordered):
    session = streaming(b"x", ordered=ordered)
    session.lost(1)
    open_attempt(session)
    expect_breach(session, answers(1, b"X"), "not sent on this attempt", attempt=2)
    assert session.ledger.unanswered == 1


def test_a_gap_between_inputs_is_the_servers_error_and_what_came_before_is_kept():
    session = streaming(b"x", b"y", b"z")
    expect_breach(
        session, ServerFrame(outputs=[OutputRun(1, [b"X"]), OutputRun(3, [b"Z"])]), "a gap"
    )
    assert take_all(session) == [output(1, b"X")]
    assert session.ledger.unanswered == 2


def test_an_item_error_out_of_turn_is_a_gap_too():
    expect_breach(streaming(b"x", b"y"), error(2), "a gap")


def test_a_gap_within_an_input_is_the_servers_error():
    session = streaming(b"x", ordered=False)
    session.receive(1, part(1, 0, b"a"))
    expect_breach(session, part(1, 2, b"c"), "a gap: output 2 of input 1")
    expect_breach(session, error(1, index=2), "a gap")
    expect_breach(session, part(1, 2, last=True), "a gap")


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_duplicates_are_dropped_and_counted(ordered):
    session = streaming(b"x", b"y", b"z", ordered=ordered)
    session.receive(1, answers(1, b"X"))
    session.receive(1, answers(1, b"X", b"Y"))
    session.receive(1, ServerFrame(outputs=[OutputRun(3, [b"Z"]), OutputRun(3, [b"Z"])]))
    session.receive(1, error(2))
    assert take_all(session) == [output(1, b"X"), output(2, b"Y"), output(3, b"Z")]
    assert (session.counters.received, session.counters.duplicates) == (3, 3)
    assert session.delivery.held_outputs == 0


def test_duplicate_parts_are_dropped_and_counted():
    session = streaming(b"x")
    session.receive(1, part(1, 0, b"a", b"b"))
    session.receive(1, part(1, 1, b"b", b"c"))
    session.receive(1, part(1, 0, b"a"))
    session.receive(1, part(1, 3, last=True))
    session.receive(1, part(1, 3, last=True))
    assert [(d.index, d.payload, d.last) for d in take_all(session)] == [
        (0, b"a", False),
        (1, b"b", False),
        (2, b"c", False),
        (3, None, True),
    ]
    assert session.counters.duplicates == 3
    assert session.ledger.complete is False
    assert session.ledger.unanswered == 0


def test_a_duplicate_of_what_an_older_attempt_brought_is_dropped():
    session = streaming(b"x", b"y")
    session.receive(1, answers(1, b"X"))
    session.lost(1)
    open_attempt(session)
    frames_out(session)
    session.receive(2, answers(1, b"X", b"Y"))
    assert take_all(session) == [output(1, b"X"), output(2, b"Y")]
    assert session.counters.duplicates == 1


def test_an_output_above_the_clients_limit_is_the_servers_error():
    session = streaming(b"x", max_item_bytes=5)
    expect_breach(session, answers(1, b"123456"), "6 bytes")
    assert session.delivery.take() is None
    assert session.ledger.unanswered == 1


def test_a_rejected_output_is_neither_received_nor_progress():
    session = streaming(b"x", max_item_bytes=5)
    expect_breach(session, answers(1, b"123456"), "6 bytes")
    assert not session.progressed
    assert session.counters.received == 0


def test_a_token_from_a_handler_without_state_is_the_servers_error():
    expect_breach(streaming(b"x"), ServerFrame(tokens=[StateToken(1, b"t")]), "token")


def test_only_what_is_new_is_progress():
    session = streaming(b"x", b"y")
    assert not session.progressed
    session.receive(1, answers(1, b"X"))
    assert session.progressed
    session.lost(1)
    assert not session.progressed
    open_attempt(session)
    frames_out(session)
    session.receive(2, answers(1, b"X"))
    assert not session.progressed
    session.receive(2, error(2))
    assert session.progressed


# ------------------------------------------------------------------ several outputs an input


def test_an_input_may_have_several_outputs():
    session = streaming(b"x", b"y")
    session.receive(1, part(1, 0, b"a", b"b"))
    session.receive(1, part(1, 2, b"c", last=True))
    session.receive(1, answers(2, b"Y"))
    assert take_all(session) == [
        output(1, b"a", last=False),
        output(1, b"b", index=1, last=False),
        output(1, b"c", index=2),
        output(2, b"Y"),
    ]


def test_an_input_may_have_no_outputs():
    session = streaming(b"x", b"y", window_items=2)
    session.receive(1, part(1, 0, last=True))
    assert session.ledger.unanswered == 1
    assert take_all(session) == [Delivery(1, 0, None, None, last=True)]
    assert session.ledger.taken_through == 1
    assert session.ledger.has_place


def test_an_empty_part_that_answers_nothing_is_the_servers_error():
    expect_breach(streaming(b"x"), part(1, 0), "an empty part")


def test_an_item_error_may_follow_outputs():
    session = streaming(b"x")
    session.receive(1, part(1, 0, b"a"))
    session.receive(1, error(1, index=1))
    first, second = take_all(session)
    assert first == output(1, b"a", last=False)
    assert (second.index, second.last, second.failure.kind) == (1, True, ItemErrorKind.HANDLER)


def test_unordered_inputs_may_interleave_their_outputs():
    session = streaming(b"x", b"y", ordered=False)
    session.receive(1, part(2, 0, b"y0"))
    session.receive(1, part(1, 0, b"x0"))
    session.receive(1, part(2, 1, b"y1", last=True))
    session.receive(1, part(1, 1, b"x1", last=True))
    assert [(d.number, d.index) for d in take_all(session)] == [(2, 0), (1, 0), (2, 1), (1, 1)]


def test_a_cut_input_goes_on_in_its_middle_where_the_handler_can():
    session = streaming(b"x", b"y", welcome={"restartable": True})
    session.receive(1, part(1, 0, b"a", b"b"))
    session.lost(1)
    open_attempt(session, restartable=True)
    assert session.next_frame().inputs == (InputRun(1, [b"x"], 2), InputRun(2, [b"y"]))
    session.receive(2, part(1, 2, b"c", last=True))
    assert [(d.index, d.payload) for d in take_all(session)] == [(0, b"a"), (1, b"b"), (2, b"c")]


def test_each_input_that_goes_on_in_its_middle_is_a_run_of_its_own():
    session = streaming(b"1", b"2", b"3", ordered=False, welcome={"restartable": True})
    session.receive(1, part(2, 0, b"b0"))
    session.lost(1)
    open_attempt(session, restartable=True)
    assert session.next_frame().inputs == (
        InputRun(1, [b"1"]),
        InputRun(2, [b"2"], 1),
        InputRun(3, [b"3"]),
    )


def test_a_cut_input_is_interrupted_where_the_handler_cannot_go_on():
    session = make_client()
    session.push(b"x", item="the item")
    session.push(b"y")
    open_attempt(session)
    frames_out(session)
    session.receive(1, part(1, 0, b"a", b"b"))
    session.lost(1)
    open_attempt(session)
    assert numbers_in(frames_out(session)) == [2]
    first, second, third = take_all(session)
    assert (first.payload, second.payload) == (b"a", b"b")
    assert third.failure.kind is ItemErrorKind.INTERRUPTED
    assert (third.number, third.index, third.last, third.item) == (1, 2, True, "the item")


def test_halves_are_not_spliced_when_the_next_server_turns_out_unable_to_go_on():
    # The last welcome decides, and this one came before the input was sent again.
    session = streaming(b"x", welcome={"restartable": True})
    session.receive(1, part(1, 0, b"a"))
    session.lost(1)
    open_attempt(session, restartable=False)
    assert numbers_in(frames_out(session)) == []
    assert kinds(take_all(session)) == [(1, None), (1, ItemErrorKind.INTERRUPTED)]


# ------------------------------------------------------------------ runs, and one by one


NOT_SENT = "not sent on this attempt"

# Inputs 1 and 2 are answered, 3 to 7 were sent, 8 waits, and 9 never was. What is special about a
# run, the run, and what is taken of it and what the server is blamed for: in order, in any order.
SPECIAL_RUNS = {
    "as it should be": (3, [b"c", b"d"], ([3, 4], ""), ([3, 4], "")),
    "all there is": (3, [b"o"] * 5, ([3, 4, 5, 6, 7], ""), ([3, 4, 5, 6, 7], "")),
    "duplicates at its beginning": (1, [b"o"] * 4, ([3, 4], ""), ([3, 4], "")),
    "duplicates only": (1, [b"a", b"b"], ([], ""), ([], "")),
    "a gap before it": (4, [b"d", b"e"], ([], "a gap"), ([4, 5], "")),
    "an end that was not sent": (
        3,
        [b"o"] * 6,
        ([3, 4, 5, 6, 7], NOT_SENT),
        ([3, 4, 5, 6, 7], NOT_SENT),
    ),
    "a gap, and not sent": (7, [b"g", b"h"], ([], "a gap"), ([7], NOT_SENT)),
    "an end that never was": (7, [b"g", b"h", b"i"], ([], "a gap"), ([7], NOT_SENT)),
    "nothing that ever was": (9, [b"i"], ([], "never sent"), ([], "never sent")),
    "one too large": (3, [b"c", bytes(11), b"e"], ([3], "11 bytes"), ([3], "11 bytes")),
    "large only together": (3, [bytes(10)] * 3, ([3, 4, 5], ""), ([3, 4, 5], "")),
}


@pytest.mark.parametrize("case", SPECIAL_RUNS)
@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_a_special_run_is_taken_as_far_as_its_outputs_may_be(ordered, case):
    first, payloads, in_order, in_any_order = SPECIAL_RUNS[case]
    taken, breach = in_order if ordered else in_any_order
    session = half_answered(ordered=ordered)
    if breach:
        expect_breach(session, answers(first, *payloads), breach)
    else:
        session.receive(1, answers(first, *payloads))
    assert take_all(session) == [output(number, payloads[number - first]) for number in taken]
    assert session.counters.received == 2 + len(taken)
    assert session.ledger.unanswered == 6 - len(taken)
    assert session.delivery.held_outputs == 0


def half_answered(*, ordered: bool) -> ClientSession:
    """A client of eight inputs: two are answered and taken, five more were sent."""
    session = streaming(
        *(b"%d" % n for n in range(1, 8)),
        ordered=ordered,
        max_item_bytes=10,
        welcome={"limits": Limits(window_items=7)},
    )
    session.receive(1, answers(1, b"a", b"b"))
    take_all(session)
    session.push(b"8")
    return session


def test_a_run_goes_on_behind_a_failure_of_the_clients_own():
    session = streaming(b"1", b"2")
    session.push_failure(ItemErrorKind.INPUT_ENCODE, "three")
    push_all(session, b"4", b"5")
    frames_out(session)
    session.receive(1, answers(1, b"A", b"B"))
    session.receive(1, answers(4, b"D", b"E"))
    assert kinds(take_all(session)) == [
        (1, None),
        (2, None),
        (3, ItemErrorKind.INPUT_ENCODE),
        (4, None),
        (5, None),
    ]


def test_a_run_that_answers_what_failed_at_the_client_is_the_servers_error():
    session = streaming(b"1", b"2")
    session.push_failure(ItemErrorKind.INPUT_ENCODE, "three")
    session.push(b"4")
    frames_out(session)
    # With the second answer the failure's turn has come, so that it is answered already.
    session.receive(1, answers(1, b"A", b"B", b"?", b"D"))
    assert session.counters.duplicates == 1
    session = streaming(b"1", b"2")
    session.push_failure(ItemErrorKind.INPUT_ENCODE, "three")
    session.push(b"4")
    frames_out(session)
    expect_breach(session, answers(3, b"?", b"D"), "not sent on this attempt")


def test_a_run_that_repeats_a_half_answered_inputs_output_says_that_it_is_the_last():
    session = streaming(b"1", b"2", ordered=False)
    session.receive(1, part(1, 0, b"a"))
    session.receive(1, answers(1, b"a", b"B"))
    end = Delivery(1, 1, None, None, last=True)
    assert take_all(session) == [output(1, b"a", last=False), end, output(2, b"B")]
    assert session.counters.duplicates == 1
    assert session.ledger.unanswered == 0


def test_a_cancelled_input_may_be_answered_within_a_run():
    session = streaming(b"1", b"2", b"3")
    session.cancel(2)
    session.receive(1, answers(1, b"A", b"B", b"C"))
    assert kinds(take_all(session)) == [(1, None), (2, None), (3, None)]
    session.lost(1)
    open_attempt(session)
    assert session.delivery.take() is None


class OneByOne(AnswerReceiver):
    """Takes no run in as a whole."""

    def _all_new(self, *_: object) -> bool:
        return False


class Twins:
    """Two clients that see and do the same: one may take runs in as a whole, the other must not."""

    def __init__(self, random: Random, *, ordered: bool) -> None:
        self.random = random
        flow = FlowControl(
            window_items=random.randint(3, 12),
            output_items=random.choice([4, 8, 4096]),
            output_bytes=random.choice([20, 4096]),
            max_item_bytes=10,
        )
        self.client, self.twin = (
            ClientSession(stream_id=STREAM_ID, codec=CODEC, flow=flow, ordered=ordered)
            for _ in range(2)
        )
        self.twin._answers = OneByOne(self.twin.delivery, self.twin.counters, flow)
        self.attempt = 0
        self.paced = 0  # frames that both have sent on this attempt

    @property
    def both(self) -> tuple[ClientSession, ClientSession]:
        return self.client, self.twin

    def outcome(self, step) -> object:
        """What a step comes to, which must be the same."""
        found = []
        for session in self.both:
            try:
                found.append(step(session))
            except RemoteProtocolError as error:
                found.append(str(error))
        assert found[0] == found[1]
        return found[0]

    def same(self) -> None:
        for name in ("counters", "state", "progressed", "suspects", "idle"):
            assert getattr(self.client, name) == getattr(self.twin, name), name
        for name in ("room", "unanswered", "unsent", "taken_through", "sent_through", "complete"):
            assert getattr(self.client.ledger, name) == getattr(self.twin.ledger, name), name
        assert self.client.delivery.held_outputs == self.twin.delivery.held_outputs

    def step(self) -> None:
        match self.random.choice(["push", "push", "answer", "answer", "take", "cancel", "break"]):
            case "push":
                if self.client.ledger.has_place:
                    if self.random.random() < 0.1:
                        self.outcome(lambda s: s.push_failure(ItemErrorKind.INPUT_ENCODE, "no"))
                    else:
                        count = self.random.randint(1, self.client.ledger.room[0])
                        items = [b"x"] * count
                        self.outcome(lambda s: s.push_all(items, items, count))
                self.speak()
            case "answer":
                self.answer()
            case "take":
                self.outcome(take_all)
            case "cancel":
                number = self.random.randint(1, self.client.ledger.accepted + 1)
                self.outcome(lambda s: s.cancel(number))
            case "break":
                if self.random.random() < 0.3:
                    self.begin()

    def begin(self) -> None:
        if self.attempt:
            self.outcome(lambda s: s.lost(self.attempt))
        self.attempt = self.outcome(lambda s: s.begin(known=Limits()).number)
        self.paced = 0
        self.speak()
        limits = Limits(window_items=self.random.randint(1, 12))
        welcome = Welcome(limits=limits, restartable=self.random.random() < 0.5)
        self.outcome(lambda s: s.receive(self.attempt, ServerFrame(welcome=welcome)))
        self.speak()

    def speak(self) -> None:
        self.paced += sum(frame.paced for frame in self.outcome(frames_out))

    def answer(self) -> None:
        """Of consecutive inputs, and mostly of such as lack one."""
        random, open_inputs = self.random, list(self.client.suspects) or [1]
        first = open_inputs[0] if random.random() < 0.6 else random.choice(open_inputs)
        count, sizes = random.randint(1, 6), [0, 1, 2]
        if random.random() < 0.8:
            count = sum(number in open_inputs for number in range(first, first + count))
        else:
            first = max(0, first + random.choice([0, 0, -1, -2, 1]))
            sizes = random.choice([[0, 1, 2], [4, 10], [0, 11]])
        payloads = [bytes(random.choice(sizes)) for _ in range(count)]
        frame = answers(first, *payloads, frames_read=self.paced)
        if random.random() < 0.1:
            frame = part(first, 0, *payloads[:2], last=random.random() < 0.5)
        if self.outcome(lambda s: s.receive(self.attempt, frame)) is not None:
            self.begin()  # a breach ends the attempt


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_runs_come_to_the_same_as_their_outputs_one_by_one(ordered, seed):
    twins = Twins(Random(seed), ordered=ordered)
    twins.begin()
    for _ in range(150):
        twins.step()
        twins.same()
