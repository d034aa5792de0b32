"""What faults make of a connection's bytes, without sockets and without a clock."""

import random

from servestream_client.testing import Cut, CutKind, Delay, Direction, Slice, Throttle
from servestream_client.testing.proxy.shaping import BURST_SECONDS, Chunk, InForce, Shaping

UP, DOWN = Direction.UP, Direction.DOWN


def shaped(*faults):
    """A direction's shaping, and what it says has fired."""
    in_force, fired = InForce(), []
    for fault in faults:
        in_force.add(fault)
    shaping = Shaping(in_force, UP, random.Random(1), lambda armed, _: fired.append(armed.fault))
    return in_force, shaping, fired


def test_a_cut_is_in_force_while_it_has_connections_left_to_cut():
    in_force = InForce()
    armed = in_force.add(Cut(after_bytes=1, times=2))
    in_force.use(armed)
    assert armed in in_force
    in_force.use(armed)
    assert armed not in in_force


def test_a_cut_without_an_end_is_never_used_up():
    in_force = InForce()
    armed = in_force.add(Cut(after_bytes=1, times=None))
    for _ in range(5):
        in_force.use(armed)
    assert armed in in_force


def test_what_had_an_effect_is_kept_once_whatever_became_of_it():
    in_force = InForce()
    armed = in_force.add(Delay(1.0))
    in_force.fire(armed)
    in_force.fire(armed)
    in_force.clear()
    assert (in_force.fired, in_force.faults) == ([Delay(1.0)], [])


def test_of_two_equal_faults_one_is_removed():
    in_force = InForce()
    in_force.add(Delay(1.0))
    in_force.add(Delay(1.0))
    in_force.remove(Delay(1.0))
    in_force.remove(Delay(2.0))
    assert in_force.faults == [Delay(1.0)]


def test_a_fault_concerns_its_direction_or_both():
    in_force = InForce()
    for direction in Direction:
        in_force.add(Delay(1.0, direction=direction))
    assert [fault.direction for _, fault in in_force.of(Delay, DOWN)] == [DOWN, Direction.BOTH]


def test_never_a_byte_passes_beyond_the_tightest_cut():
    _, shaping, _ = shaped(Cut(after_bytes=10), Cut(after_bytes=7, how=CutKind.CLOSE), Slice(4))
    passed = 0
    while (due := shaping.due_cut()) is None:
        size = shaping.size(100, now=0.0)
        shaping.passed(size, now=0.0)
        passed += size
    assert (passed, due[0].fault.after_bytes, due[1]) == (7, 7, CutKind.CLOSE)


def test_a_cut_counts_from_its_mark():
    in_force, shaping, _ = shaped()
    shaping.passed(5, now=0.0)
    shaping.mark(in_force.add(Cut(after_bytes=3)))
    assert shaping.size(100, now=0.0) == 3


def test_no_chunk_passes_before_all_its_delays_and_its_draw_stays():
    _, shaping, fired = shaped(Delay(1.0), Delay(2.0, jitter=0.5))
    chunk = Chunk(memoryview(b"x"), read_at=10.0)
    due = shaping.held_until(chunk, now=10.0)
    assert due is not None
    assert 12.5 <= due <= 13.5
    assert shaping.held_until(chunk, now=due - 0.001) == due
    assert shaping.held_until(chunk, now=due) is None
    assert set(fired) == {Delay(1.0), Delay(2.0, jitter=0.5)}


def test_the_slowest_throttle_paces():
    _, shaping, fired = shaped(Throttle(1000), Throttle(100_000))
    sent, now = 0, 100.0
    while now < 101.0:
        size = shaping.size(1 << 20, now)
        if size:
            shaping.passed(size, now)
            sent += size
        else:
            now = shaping.free_at
    assert 990 <= sent <= 1000 * (1 + 2 * BURST_SECONDS)
    assert set(fired) == {Throttle(1000)}


def test_what_a_throttle_has_promised_is_void_when_faults_change():
    in_force, shaping, _ = shaped(Throttle(1))
    shaping.passed(1000, now=0.0)
    assert shaping.size(1, now=1.0) == 0
    in_force.clear()
    in_force.add(Throttle(1_000_000))
    shaping.changed()
    assert shaping.size(1, now=1.0) == 1


def test_with_no_fault_everything_passes_at_once():
    _, shaping, fired = shaped()
    assert shaping.size(1 << 30, now=0.0) == 1 << 30
    assert (shaping.due_cut(), shaping.delays, shaping.slices, fired) == (None, False, False, [])
