"""Large frames are announced, and silence is counted in what could have arrived.

Both ends talk over a link of a finite rate, in a time of its own; nothing here waits.
"""

import itertools

import pytest
from effort import effort
from hypothesis import given, settings
from hypothesis import strategies as st
from rated_link import CODEC, World, exchange

from servestream_client.config import FlowControl, Watchdog
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.coming import (
    BESIDE_BYTES,
    FEATURE,
    LOWEST_RATE,
    Announcements,
    bounded,
    too_slow,
)
from servestream_client.protocol.frames import (
    ClientFrame,
    Coming,
    Credit,
    InputRun,
    Limits,
    Open,
    OutputRun,
    Running,
    ServerFrame,
    Welcome,
)
from servestream_client.protocol.pulse import Pulse
from servestream_client.protocol.server import ServerOffer, ServerSession

REPEATABLE = settings(max_examples=effort(30, 1000))
KIB = 1024


@REPEATABLE
@given(
    rate=st.floats(1.15, 100).map(lambda times: times * LOWEST_RATE),
    interval=st.sampled_from([0.1, 0.3, 1.0, 10.0]),
    inputs=st.lists(st.sampled_from([1, 2000, 60 * KIB, 200 * KIB, 3000 * KIB]), max_size=6),
    output=st.sampled_from([1, 2000, 60 * KIB, 400 * KIB, 3000 * KIB]),
    seed=st.integers(0, 1000),
    in_chunks=st.booleans(),
)
def test_no_link_above_the_lowest_rate_is_given_up_for_what_it_carries(
    rate, interval, inputs, output, seed, *, in_chunks
):
    world = World(rate, interval, lambda _: output, seed, in_chunks=in_chunks)
    exchange(world, inputs)
    assert not world.silent
    assert world.client.ledger.complete


@REPEATABLE
@given(
    interval=st.sampled_from([0.1, 1.0, 10.0]),
    inputs=st.lists(st.sampled_from([1, 60 * KIB, 200 * KIB, 3000 * KIB]), max_size=6),
    output=st.sampled_from([1, 60 * KIB, 400 * KIB, 3000 * KIB]),
)
def test_whatever_takes_longer_than_an_interval_is_announced_right_before(interval, inputs, output):
    world = World(1e9, interval, lambda _: output, in_chunks=False)
    exchange(world, inputs)
    for way in ("up", "down"):
        frames = [frame for direction, frame in world.said if direction == way]
        for before, frame in itertools.pairwise(frames):
            runs = frame.inputs if way == "up" else frame.outputs
            size = sum(len(payload) for run in runs for payload in run.payloads)
            if size > max(0.1, interval) * LOWEST_RATE:
                assert before.coming is not None
                assert before.coming.frame_bytes >= size
                assert before.coming.number == runs[0].first_number
            elif size:
                assert size <= 64 * KIB or before.coming is None


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_link_that_is_too_slow_is_left_and_the_item_named(way):
    answer = 1000 * KIB if way == "down" else 1
    world = World(LOWEST_RATE / 3, 1.0, lambda _: answer, in_chunks=False)
    world.client.push(bytes(1000 * KIB if way == "up" else 1))
    world.run(lambda: False)
    assert world.silent == ("client" if way == "up" else "server")
    awaited = world.server.awaited if way == "up" else world.client.awaited
    assert awaited.number == 1
    assert "1024000 bytes" in too_slow(awaited, "input")
    assert "32 KiB/s" in too_slow(awaited, "input")


def death(world: World) -> dict[str, float]:
    """How long it takes until either end is missed on a link that dies now."""
    world.dead = True
    begin, found = world.now, dict[str, float]()
    while len(found) < 2:
        world.run(lambda: False)
        found.setdefault(world.silent, world.now - begin)
        world.silent = ""
    return found


def test_a_link_that_dies_is_noticed_as_before_where_no_large_frame_is_under_way():
    world = World(1e9, 1.0, lambda _: 3000 * KIB)
    for _ in range(3):
        world.client.push(bytes(1000 * KIB))
        world.speak()
        world.run(lambda: not world.client.ledger.unanswered)
    assert max(death(world).values()) <= 3.5


def test_a_link_that_dies_under_a_large_frame_is_noticed_once_that_could_have_come():
    world = World(LOWEST_RATE * 2, 1.0, lambda _: 640 * KIB, in_chunks=False)
    world.client.push(b"x")
    world.speak()
    world.run(lambda: world.client.awaited is not None)
    found = death(world)
    assert 20 < found["server"] <= 20 + 4
    assert found["client"] <= 3.5  # nothing large is on its way from there


def test_a_client_has_time_until_the_welcome_has_come():
    """It is mute before, and other calls' bytes may come first."""
    server = ServerSession(ServerOffer(codec=CODEC))
    opened = Open(
        stream_id=bytes(16), attempt=1, codec=CODEC, features=[FEATURE], heartbeat_interval_ms=1000
    )
    server.receive(ClientFrame(open=opened, credit=Credit(1, 1)))
    server.welcome()
    for _ in range(20):
        server.tick(Running())
    assert not server.silent
    server.receive(ClientFrame(credit=Credit(2, 2)))
    for _ in range(7):
        assert not server.silent
        server.tick(Running())
    assert server.silent


def test_peers_that_know_nothing_of_it_are_told_nothing():
    client = ClientSession(
        stream_id=bytes(16),
        codec=CODEC,
        flow=FlowControl(),
        watchdog=Watchdog(heartbeat_interval=0.1),
    )
    client.begin()
    client.push(bytes(1000 * KIB))
    client.next_frame()
    client.receive(1, ServerFrame(welcome=Welcome(heartbeat_interval_ms=100)))
    frames = list(iter(client.next_frame, None))
    assert [len(frame.inputs) for frame in frames] == [1]
    assert frames[0].coming is None
    server = ServerSession(ServerOffer(codec=CODEC))
    opened = Open(stream_id=bytes(16), attempt=1, codec=CODEC, heartbeat_interval_ms=100)
    server.receive(ClientFrame(open=opened, credit=Credit(10, 10_000_000)))
    server.welcome()
    server.receive(ClientFrame(inputs=[InputRun(1, [b"x"])]))
    server.intake.next_run(1)
    server.outbox.output(1, bytes(1000 * KIB), last=True)
    said = list(iter(server.next_frame, None))
    assert said[0].welcome.features == ()
    assert all(frame.coming is None for frame in said)


def test_no_large_input_rides_with_the_open():
    for sizes, ride in (([70 * KIB], 0), ([10, 70 * KIB], 1), ([64 * KIB - 10], 1)):
        client = ClientSession(stream_id=bytes(16), codec=CODEC, flow=FlowControl())
        for size in sizes:
            client.push(bytes(size))
        client.begin(known=Limits())
        frame = client.next_frame()
        assert sum(len(run.payloads) for run in frame.inputs) == ride


def test_a_large_frame_that_may_not_go_yet_holds_back_nothing_else():
    world = World(1e9, 1.0, lambda _: 1, in_chunks=False)
    world.run(lambda: world.client.welcome is not None)
    client = world.client
    client.push(bytes(1000 * KIB))
    assert client.large == 1000 * KIB
    assert client.next_frame(hold=True) is None
    client.attempt.crowd()
    told = client.next_frame(hold=True, beside=5000)
    assert (told.inputs, told.coming) == ((), Coming(5000))
    announced = client.next_frame(beside=2_000_000)
    assert announced.coming == Coming(2_000_000, 1000 * KIB, 1, acknowledge=True)
    assert client.large == 0
    client.push(bytes(900 * KIB))
    frame = client.next_frame(beside=3000, alone=False)
    assert len(frame.inputs) == 1
    assert frame.coming == Coming(3000)  # the next one asks first
    assert client.large == 900 * KIB
    assert client.attempt.large_under_way == 1000 * KIB


def test_what_is_to_be_acknowledged_at_once_is():
    world = World(1e9, 1.0, lambda _: 1)
    world.run(lambda: world.client.welcome is not None)
    server = world.server
    server.receive(ClientFrame(coming=Coming(100, 100, 1, acknowledge=True)))
    server.receive(ClientFrame(inputs=[InputRun(1, [bytes(100)])]))
    assert server.next_frame().frames_read == 1
    server.receive(ClientFrame(inputs=[InputRun(2, [bytes(100)])]))
    assert server.next_frame() is None  # half of K is two


def test_what_was_sent_is_counted_until_it_is_acknowledged():
    world = World(1e9, 1.0, lambda _: 1)
    world.run(lambda: world.client.welcome is not None)
    server = world.server
    server.receive(ClientFrame(inputs=[InputRun(1, [b"x", b"y"])]))
    server.intake.next_run(2)
    server.outbox.output(1, bytes(500), last=True)
    assert server.next_frame().outputs == [OutputRun(1, [bytes(500)])]
    server.outbox.output(2, bytes(300), last=True)
    server.next_frame()
    assert server.under_way == 800
    server.receive(ClientFrame(frames_read=1))
    assert server.under_way == 300


def test_a_peer_does_not_buy_time_without_end():
    most = 2 * (1000 + BESIDE_BYTES)
    assert bounded(Coming(2**63, 5, 3), 1000) == Coming(most, 5, 3)
    assert bounded(Coming(70), 1000) == Coming(70)


def test_each_announcement_is_for_one_frame():
    announcements = Announcements()
    assert not announcements.lacks(10**9)
    announcements.begin(1000)
    assert not announcements.lacks(LOWEST_RATE)
    assert announcements.lacks(LOWEST_RATE + 1)
    announcements.announce(LOWEST_RATE + 1, 1)
    assert not announcements.lacks(LOWEST_RATE + 1)
    assert announcements.lacks(LOWEST_RATE + 2)
    announcements.sent()
    assert announcements.lacks(LOWEST_RATE + 1)


def test_ticks_in_which_bytes_come_are_no_silence_so_long_as_they_may_take():
    pulse = Pulse()
    pulse.begin(own_ms=1000, peer_ms=1000)
    for _ in range(20):  # ten seconds
        pulse.tick(10 * LOWEST_RATE)
    for _ in range(7):
        assert not pulse.dead
        pulse.tick(10 * LOWEST_RATE)
    assert pulse.dead
    pulse.on_received()
    pulse.tick(LOWEST_RATE // 2)  # all that these bytes may take
    for _ in range(7):
        assert not pulse.dead
        pulse.tick(LOWEST_RATE // 2)
    assert pulse.dead
