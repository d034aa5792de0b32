"""What the simulation counts, and what meets messages on their way."""

import random

import pytest

from servestream_client.protocol.frames import ClientFrame, InputRun
from servestream_client.wire import stream_pb2 as pb
from simulation.books import OLD_ATTEMPT, Books
from simulation.conditions import Conditions
from simulation.loop import VirtualLoop
from simulation.trace import Trace


class Call:
    name = "call 1"
    stream_id = b"stream"
    status_seen = None


class Flow:
    window_items = 3


class Streams:
    flow, watchdog = Flow, None


class Client:
    _streams = Streams


def frame(first, count):
    return ClientFrame(inputs=(InputRun(first, (b"",) * count),))


@pytest.fixture
def books():
    books = Books(Trace(lambda: 0.0), lambda: 5)
    books.client = Client
    return books


def test_each_input_counts_as_sent_once(books):
    books.note_inputs(Call, frame(1, 3))
    books.note_inputs(Call, frame(2, 4))
    assert books.sent[b"stream"] == 5


def test_more_unanswered_than_the_smaller_window_is_a_violation(books):
    received = pb.ClientFrame(inputs=[pb.InputRun(first_number=1, payloads=[b""] * 3)])
    books.note_received(Call, received)
    books.note_answers(Call, pb.ServerFrame(outputs=[pb.OutputRun(payloads=[b""])]))
    books.note_received(Call, pb.ClientFrame(inputs=[pb.InputRun(payloads=[b""])]))
    assert not books.violations
    books.note_received(Call, pb.ClientFrame(inputs=[pb.InputRun(payloads=[b""])]))
    assert "in a window of 3" in books.violations[0]


def test_a_call_that_its_client_has_left_is_of_an_old_attempt():
    books = Books(Trace(lambda: 0.0), lambda: 5)
    books.note_fault("cut", Call)
    assert books.faults == {("cut", OLD_ATTEMPT): 1}


def test_what_was_put_off_does_not_happen_once_it_is_closed():
    loop, happened = VirtualLoop(random.Random(1)), []
    try:
        conditions = Conditions(loop, random.Random(1), weather=None)
        conditions.later(1.0, lambda: happened.append("first"))
        conditions.later(2.0, lambda: happened.append("second"))
        loop.call_later(1.5, conditions.close)
        loop.call_later(3.0, loop.stop)
        loop.run_forever()
    finally:
        loop.close()
    assert happened == ["first"]
