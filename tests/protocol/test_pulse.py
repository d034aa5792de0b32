"""When to speak, and when to stop waiting: counted in ticks."""

import pytest

from servestream_client.protocol.pulse import Pulse


def begun(own_ms: int = 1000, peer_ms: int = 1000) -> Pulse:
    pulse = Pulse()
    pulse.begin(own_ms=own_ms, peer_ms=peer_ms)
    return pulse


def ticks_until_dead(pulse: Pulse) -> int:
    for ticks in range(1, 1000):
        pulse.tick()
        if pulse.dead:
            return ticks
    raise AssertionError("it lives for ever")


def test_a_frame_is_owed_before_an_interval_has_passed_without_any():
    pulse = begun()
    pulse.tick()
    pulse.on_sent()  # right after a tick, which is the worst moment
    pulse.tick()
    assert not pulse.due
    pulse.tick()
    assert pulse.due
    pulse.on_sent()
    assert not pulse.due


def test_who_is_busy_sends_no_heartbeats():
    pulse = begun()
    for _ in range(10):
        pulse.on_sent()
        pulse.tick()
        pulse.on_sent()
        assert not pulse.due


def test_three_intervals_of_silence_are_the_end_and_not_less():
    assert ticks_until_dead(begun()) == 7  # the first may come right after the last word


@pytest.mark.parametrize(("own", "peer", "ticks"), [(1000, 3000, 19), (3000, 1000, 3), (7, 2, 3)])
def test_it_is_the_peers_interval_that_counts(own, peer, ticks):
    pulse = begun(own, peer)
    assert ticks_until_dead(pulse) == ticks
    # Not before three of the peer's intervals have passed, whatever the phase:
    assert (ticks - 1) * own / 2 >= 3 * peer


def test_a_word_begins_the_count_afresh():
    pulse = begun()
    for _ in range(20):
        for _ in range(6):
            pulse.tick()
        assert not pulse.dead
        pulse.on_received()


def test_a_peer_that_promised_nothing_may_be_silent_for_ever():
    pulse = begun(peer_ms=0)
    for _ in range(100):
        pulse.tick()
    assert not pulse.dead
    assert pulse.due


def test_before_it_begins_nothing_is_dead():
    pulse = Pulse()
    for _ in range(100):
        pulse.tick()
    assert not pulse.dead
