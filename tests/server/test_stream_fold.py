"""The state of a stream at its server: once it is lost, nothing goes on."""

import pytest

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.frames import (
    ClientFrame,
    CodecId,
    Credit,
    HandlerKind,
    InputRun,
    Open,
)
from servestream_client.protocol.server import ServerOffer, ServerSession
from servestream_client.protocol.state import FEATURE
from servestream_client.server import StatefulService, Tokens
from servestream_client.server.sealing import new_key
from servestream_client.server.stream_fold import Folding, StreamFold

CODEC = CodecId("bytes")


class Service(StatefulService):
    state_keys = (new_key(),)
    tokens = Tokens(inputs=1, share=1.0)

    def begin(self, parameters):
        return b""

    def step(self, state, item):
        return state, item


class InPlace(Service):
    in_place = True


class Attempt:
    def __init__(self, service):
        offer = ServerOffer(codec=CODEC, handler_kind=HandlerKind.STATEFUL)
        self.session = ServerSession(offer)
        self.woken = self.stopped = 0
        self.fold = StreamFold(Folding(service()))
        self.fold.belongs_to(self)

    async def open(self):
        opened = Open(stream_id=bytes(16), attempt=1, codec=CODEC, features=(FEATURE,))
        self.session.receive(ClientFrame(open=opened, credit=Credit(100, 10_000)))
        await self.fold.begin(opened)
        self.session.welcome()
        self.session.next_frame()
        self.session.receive(ClientFrame(inputs=[InputRun(1, [b"a", b"b"])]))
        self.session.intake.next_run(2)

    def compute(self, number, state):
        self.session.fold.prepare(number, state)
        self.session.fold.outputs(number, (b"x",))

    def wake_writer(self):
        self.woken += 1

    def stop(self):
        self.stopped += 1


@pytest.mark.parametrize(
    ("state", "text"),
    [(bytes(100_000), "raise FlowControl.checkpoint_bytes"), (object(), "cannot be saved")],
)
async def test_a_state_that_cannot_travel_stops_the_attempt(state, text):
    attempt = Attempt(Service)
    await attempt.open()
    attempt.compute(1, state)
    attempt.fold.settle()
    assert attempt.stopped == 1
    frame = attempt.session.next_frame()
    assert [run.payloads for run in frame.outputs] == [[b"x"]]
    assert text in frame.error.text
    assert not frame.tokens


async def test_a_state_that_is_lost_is_not_sealed():
    attempt = Attempt(InPlace)
    await attempt.open()
    attempt.compute(1, b"1")
    attempt.session.fold.fail(2, ItemErrorKind.TIMEOUT, "late")
    attempt.fold.settle()
    frame = attempt.session.next_frame()
    assert (attempt.stopped, attempt.woken) == (1, 0)
    assert not frame.tokens
    assert frame.error is not None


async def test_a_state_that_is_being_changed_is_not_sealed():
    attempt = Attempt(InPlace)
    await attempt.open()
    attempt.compute(1, b"1")
    attempt.fold.busy = 1
    attempt.fold.settle()
    assert (attempt.stopped, attempt.woken) == (0, 0)
    attempt.fold.busy = 0
    attempt.fold.settle()
    assert attempt.woken == 1
    assert attempt.session.next_frame().tokens
