"""Heartbeats and positions, both ends against each other and against frames made by hand."""

import pytest

from servestream_client.config import FlowControl, Watchdog
from servestream_client.errors import FrameLostError
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.frames import (
    BlockedOn,
    ClientFrame,
    CodecId,
    Credit,
    Heartbeat,
    InputRun,
    Open,
    OutputRun,
    Running,
    ServerFrame,
    StreamErrorKind,
    StreamFailure,
)
from servestream_client.protocol.server import ServerOffer, ServerSession
from servestream_client.protocol.states import ServerState

CODEC = CodecId("bytes")
BEAT = Watchdog(heartbeat_interval=1.0, item_timeout=20.0)
IDLE = Running()


class Pair:
    """Both ends, welcomed; what one says the other hears when `pass_on` says so."""

    def __init__(self, watchdog: Watchdog | None = BEAT, *payloads: bytes) -> None:
        self.client = ClientSession(
            stream_id=bytes(16), codec=CODEC, flow=FlowControl(), watchdog=watchdog
        )
        self.server = ServerSession(ServerOffer(codec=CODEC))
        self.client.begin()
        for payload in payloads:
            self.client.push(payload)
        self.up()
        self.server.welcome()
        self.pass_on()

    def up(self) -> list[ClientFrame]:
        frames = list(iter(self.client.next_frame, None))
        for frame in frames:
            self.server.receive(frame)
        return frames

    def down(self) -> list[ServerFrame]:
        frames = list(iter(self.server.next_frame, None))
        for frame in frames:
            self.client.receive(1, frame)
        return frames

    def pass_on(self) -> list[ClientFrame | ServerFrame]:
        said = []
        while new := [*self.up(), *self.down()]:
            said += new
        return said

    def tick(self, running: Running = IDLE) -> None:
        self.client.attempt.tick()
        self.server.tick(running)


def test_an_idle_link_carries_heartbeats_both_ways_and_nothing_else():
    pair = Pair(BEAT, b"x", b"y")
    pair.server.intake.next_run(2)
    pair.server.outbox.output(1, b"X", last=True)
    pair.pass_on()
    for _ in range(50):
        pair.tick()
        said = pair.pass_on()
        assert len(said) in (0, 2)
        for frame in said:
            assert not frame.paced
            assert frame.heartbeat == Heartbeat(2, 1)
    assert not pair.client.attempt.silent
    assert not pair.server.silent


def test_without_an_interval_nobody_speaks_and_nobody_is_missed():
    pair = Pair(None)
    assert pair.server.heartbeat_ms == 0
    for _ in range(100):
        pair.client.attempt.tick()
    assert not pair.client.attempt.silent


def test_silence_is_noticed_on_either_side():
    pair = Pair(BEAT, b"x")  # so the client has spoken
    for _ in range(7):
        assert not pair.client.attempt.silent
        assert not pair.server.silent
        pair.tick()
        list(iter(pair.client.next_frame, None))
        list(iter(pair.server.next_frame, None))
    assert pair.client.attempt.silent
    assert pair.server.silent


def test_a_new_attempt_begins_a_new_count():
    pair = Pair()
    for _ in range(10):
        pair.client.attempt.tick()
    pair.client.lost(1)
    pair.client.begin()
    assert not pair.client.attempt.silent


def test_a_server_promises_no_more_than_ten_frames_a_second():
    pair = Pair(Watchdog(heartbeat_interval=0.02))
    assert pair.server.heartbeat_ms == 100
    assert pair.client.welcome.heartbeat_interval_ms == 100
    for _ in range(30):  # of the client's ticks, three of the server's intervals
        pair.client.attempt.tick()
        assert not pair.client.attempt.silent
    pair.client.attempt.tick()
    assert pair.client.attempt.silent


@pytest.mark.parametrize("beat", [Heartbeat(2, 2), Heartbeat(0, 3)])
def test_a_server_that_sent_what_never_came_is_left(beat):
    pair = Pair(BEAT, b"x", b"y")
    pair.client.receive(1, ServerFrame(outputs=[OutputRun(1, [b"X"])]))
    pair.client.receive(1, ServerFrame(heartbeat=Heartbeat(1, 1)))  # input 2 is on its way
    with pytest.raises(FrameLostError, match="a gap"):
        pair.client.receive(1, ServerFrame(heartbeat=beat))


def test_a_server_that_owes_nothing_although_inputs_lack_an_answer_is_left():
    pair = Pair(BEAT, b"x", b"y")
    idle, busy = Running(blocked_on=BlockedOn.INPUT), Running(blocked_on=BlockedOn.HANDLER)
    pair.client.receive(1, ServerFrame(heartbeat=Heartbeat(1, 0), running=idle))  # 2 is on its way
    pair.client.receive(1, ServerFrame(heartbeat=Heartbeat(2, 0), running=busy))
    with pytest.raises(FrameLostError, match="2 of them"):
        pair.client.receive(1, ServerFrame(heartbeat=Heartbeat(2, 0), running=idle))


def test_a_server_that_waits_for_what_was_lost_is_left():
    """Something came twice, something else never, and so the positions agree."""
    pair = Pair(BEAT, b"x", b"y")
    waits = Running(started_through=2, blocked_on=BlockedOn.NOTHING)
    for frame in (
        ServerFrame(heartbeat=Heartbeat(2, 0), running=waits),
        ServerFrame(heartbeat=Heartbeat(2, 0), running=waits),
        ServerFrame(outputs=[OutputRun(1, [b"X"])]),  # it goes on
        ServerFrame(heartbeat=Heartbeat(2, 1), running=waits),
        ServerFrame(heartbeat=Heartbeat(2, 1), running=waits),
    ):
        pair.client.attempt.tick()
        pair.client.receive(1, frame)
    pair.client.attempt.tick()
    with pytest.raises(FrameLostError, match="waits for what was lost"):
        pair.client.receive(1, ServerFrame(heartbeat=Heartbeat(2, 1), running=waits))


def test_heartbeats_that_gathered_while_the_client_was_stopped_count_once():
    """They tell of a server that waited for the client, and not of a loss."""
    pair = Pair(BEAT, b"x", b"y")
    standing = ServerFrame(
        heartbeat=Heartbeat(2, 0), running=Running(started_through=2, blocked_on=BlockedOn.NOTHING)
    )
    for _ in range(2):
        for _ in range(20):
            pair.client.receive(1, standing)
        pair.client.attempt.tick()  # the one tick that was late, and the next
    pair.client.receive(1, ServerFrame(outputs=[OutputRun(1, [b"X", b"Y"])]))
    assert not pair.client.ledger.unanswered


@pytest.mark.parametrize("busy", [False, True])
def test_heartbeats_that_waited_behind_other_bytes_show_one_standstill(busy):
    """They come together; and while others' bytes go first, no answer of ours can change them."""
    pair = Pair(BEAT, b"x", b"y")
    waits = Running(started_through=2, blocked_on=BlockedOn.NOTHING)
    for _ in range(10):
        if busy:
            pair.client.attempt.tick(free=False)
        pair.client.receive(1, ServerFrame(heartbeat=Heartbeat(2, 0), running=waits))


@pytest.mark.parametrize(
    "running",
    [
        Running(started_through=1, blocked_on=BlockedOn.NOTHING),
        Running(started_through=2, count=1, blocked_on=BlockedOn.NOTHING),
        Running(started_through=2, blocked_on=BlockedOn.CREDIT),
        Running(started_through=2, blocked_on=BlockedOn.HANDLER),
    ],
)
def test_a_server_that_has_a_reason_to_wait_is_not(running):
    pair = Pair(BEAT, b"x", b"y")
    for _ in range(10):
        pair.client.receive(1, ServerFrame(heartbeat=Heartbeat(2, 0), running=running))


def test_duplicates_make_no_gap():
    pair = Pair(BEAT, b"x")
    pair.client.receive(1, ServerFrame(outputs=[OutputRun(1, [b"X"]), OutputRun(1, [b"X"])]))
    pair.client.receive(1, ServerFrame(heartbeat=Heartbeat(1, 1)))
    pair.server.receive(ClientFrame(heartbeat=Heartbeat(1, 2)))


def test_positions_count_what_stands_in_the_same_frame():
    pair = Pair(BEAT, b"x")
    pair.client.receive(1, ServerFrame(outputs=[OutputRun(1, [b"X"])], heartbeat=Heartbeat(1, 1)))


@pytest.mark.parametrize("beat", [Heartbeat(3, 0), Heartbeat(9, 0)])
def test_a_client_that_sent_what_never_came_is_told(beat):
    pair = Pair(BEAT, b"x", b"y")
    pair.server.receive(ClientFrame(heartbeat=Heartbeat(2, 0)))
    with pytest.raises(FrameLostError, match="a gap"):
        pair.server.receive(ClientFrame(heartbeat=beat))


def test_on_a_later_attempt_positions_are_of_that_attempt():
    server = ServerSession(ServerOffer(codec=CODEC))
    opened = Open(
        stream_id=bytes(16), attempt=2, codec=CODEC, first_number=7, heartbeat_interval_ms=1000
    )
    server.receive(ClientFrame(open=opened, credit=Credit(10, 10)))
    server.welcome()
    server.receive(ClientFrame(heartbeat=Heartbeat(0, 0)))  # nothing was sent yet
    server.receive(ClientFrame(inputs=[InputRun(9, [b"x"])], heartbeat=Heartbeat(9, 0)))


def report(pair: Pair) -> Running:
    """What the server says at the next heartbeat."""
    pair.tick()
    pair.tick()
    (said,) = [frame.running for frame in pair.down() if frame.running]
    return said


def test_a_server_says_what_it_waits_for():
    pair = Pair()
    assert report(pair).blocked_on is BlockedOn.INPUT
    pair.client.push(b"x")
    pair.pass_on()
    assert report(pair).blocked_on is BlockedOn.HANDLER
    pair.server.intake.next_run(1)
    assert report(pair).started_through == 1


def test_a_server_that_waits_for_credit_says_so():
    pair = Pair(BEAT, b"x", b"y")
    pair.server.outbox.ready.credit = type(pair.server.outbox.ready.credit)()  # as if none had come
    pair.server.intake.next_run(2)
    pair.server.outbox.output(1, b"X", last=True)
    assert report(pair).blocked_on is BlockedOn.CREDIT


def running(seconds: float, number: int = 1) -> ServerFrame:
    return ServerFrame(running=Running(oldest_number=number, oldest_age_ms=int(seconds * 1000)))


def test_an_input_is_overdue_once_the_server_had_time_to_let_go_of_it():
    pair = Pair(BEAT, b"x", b"y")
    pair.client.receive(1, running(22.9, 2))
    assert not pair.client.attempt.reports.overdue
    pair.client.receive(1, running(23.1, 2))
    assert pair.client.attempt.reports.overdue == 2
    assert pair.client.suspects == (2,)


def test_an_input_that_is_answered_is_not_overdue():
    pair = Pair(BEAT, b"x", b"y")
    pair.client.receive(1, ServerFrame(outputs=[OutputRun(1, [b"X"])]))
    pair.client.receive(1, running(100, 1))
    assert not pair.client.attempt.reports.overdue


def test_an_old_input_is_reported_however_busy_the_link_is():
    pair = Pair(BEAT, b"x")
    pair.server.intake.next_run(1)
    pair.server.tick(Running(oldest_number=1, oldest_age_ms=900, count=1))
    assert pair.server.next_frame() is None
    pair.server.tick(Running(oldest_number=1, oldest_age_ms=1400, count=1))
    frame = pair.server.next_frame()
    assert frame.running.oldest_number == 1


@pytest.mark.parametrize(
    ("kind", "blamed"),
    [
        (StreamErrorKind.INTERNAL, True),
        (StreamErrorKind.SILENCE, False),
        (StreamErrorKind.SUPERSEDED, False),
        (StreamErrorKind.OVERLOADED, False),
    ],
)
def test_what_nobody_is_to_blame_for(kind, blamed):
    pair = Pair(BEAT, b"x")
    assert pair.client.blamed  # a call that breaks without a word
    pair.client.receive(1, ServerFrame(error=StreamFailure(kind)))
    assert pair.client.blamed is blamed


def test_after_its_last_word_a_server_sends_no_heartbeats():
    pair = Pair()
    pair.server.give_up(StreamErrorKind.INTERNAL, "broke")
    frames = list(iter(pair.server.next_frame, None))
    assert frames[-1].heartbeat is None
    assert pair.server.state is ServerState.LINGERING
    for _ in range(4):
        pair.server.tick(IDLE)
    assert pair.server.next_frame() is None
