"""How much a frame gathers follows how soon full frames are acknowledged."""

import random

import pytest

from servestream_client.protocol.frame_size import QUICK_SECONDS, SLOW_SECONDS, FrameSize
from servestream_client.protocol.pacing import FRAME_MOST_BYTES, FRAME_TARGET_BYTES, Pacer

KIB = 1024
PLENTY = 1 << 22


class Link:
    """One end of a link on which a frame takes as long as it is told."""

    def __init__(self, *, peer_bytes=PLENTY, window_bytes=0, window_items=0, k=4):
        self.pacer = Pacer(k)
        self.size = FrameSize(self.pacer)
        self.size.begin(peer_bytes, window_bytes)
        if window_items:
            self.size.share(window_items)
        self.now = 1000.0

    def send(self, size=None, items=0):
        size = self.size.bytes if size is None else size
        self.pacer.sent(size)
        self.size.sent(size, items)
        return self.size.look(self.now)

    def acknowledge(self, after, count=None):
        self.now += after
        self.pacer.acknowledge(self.pacer.sent_frames if count is None else count)
        return self.size.look(self.now)


def test_it_begins_with_the_target():
    assert Link().size.bytes == FRAME_TARGET_BYTES


def test_full_frames_that_are_acknowledged_soon_double_it_up_to_the_most():
    link, seen = Link(), []
    while not seen or seen[-1] < FRAME_MOST_BYTES:
        link.send()
        assert link.acknowledge(QUICK_SECONDS / 2), "it says that it has changed"
        seen.append(link.size.bytes)
    assert seen == [128 * KIB, 256 * KIB, FRAME_MOST_BYTES]
    link.send()
    link.acknowledge(0.0)
    assert link.size.bytes == FRAME_MOST_BYTES


def test_one_that_takes_long_halves_it_down_to_the_target():
    link, seen = grown(), []
    while not seen or seen[-1] > FRAME_TARGET_BYTES:
        link.send()
        assert link.acknowledge(SLOW_SECONDS + 0.1)
        seen.append(link.size.bytes)
    assert seen == [256 * KIB, 128 * KIB, FRAME_TARGET_BYTES]
    link.send()
    link.acknowledge(SLOW_SECONDS * 9)
    assert link.size.bytes == FRAME_TARGET_BYTES


def grown(**how):
    link = Link(**how)
    while link.size.bytes < link.size.most:
        link.send()
        link.acknowledge(0.0)
    return link


def test_frames_that_left_before_a_slow_one_was_known_count_no_more():
    link = grown()
    for _ in range(4):
        link.send()
    link.acknowledge(SLOW_SECONDS + 0.1)
    assert link.size.bytes == FRAME_MOST_BYTES // 2, "once for all four"


def test_what_lies_between_changes_nothing():
    link = Link()
    link.send()
    link.acknowledge(0.0)
    before = link.size.bytes
    link.send()
    assert not link.acknowledge((QUICK_SECONDS + SLOW_SECONDS) / 2)
    assert link.size.bytes == before


@pytest.mark.parametrize("after", [0.0, 100.0])
def test_frames_that_are_not_full_say_nothing(after):
    link = Link()
    link.send()
    link.acknowledge(0.0)
    before = link.size.bytes
    link.send(before // 2)
    assert not link.acknowledge(after)
    assert link.size.bytes == before


def test_one_of_many_small_items_is_full_as_well():
    link = Link(window_items=4096)
    link.send(100, items=1000)
    assert link.acknowledge(0.0)
    assert link.size.quick == 1
    assert link.size.bytes == FRAME_TARGET_BYTES, "of what the link carries that says nothing"
    assert not link.size.unannounced


def test_a_slow_one_says_that_the_link_is_not_quick_any_more():
    link = grown()
    assert link.size.unannounced == FRAME_MOST_BYTES
    link.send()
    link.acknowledge(SLOW_SECONDS + 0.1)
    assert link.size.unannounced == 0


def test_limits_that_rise_from_one_welcome_to_the_next_are_taken():
    link = Link(peer_bytes=100)
    link.size.begin(PLENTY)
    assert link.size.bytes == FRAME_TARGET_BYTES


def test_what_is_sent_beside_frames_of_items_says_nothing():
    link = Link()
    link.send()
    link.acknowledge(0.0)
    before = link.size.bytes
    link.pacer.sent(before)  # a state, say
    link.size.look(link.now)
    assert not link.acknowledge(0.0)
    assert link.size.bytes == before


def test_each_frame_counts_from_when_it_left():
    link = grown()
    link.send()
    link.now += SLOW_SECONDS * 0.9
    link.send()
    assert not link.acknowledge(0.0, count=1), "less than what counts as slow"
    link.now += SLOW_SECONDS * 0.9
    assert not link.acknowledge(0.0, count=2)
    assert link.size.bytes == FRAME_MOST_BYTES


@pytest.mark.parametrize("peer_bytes", [1, 100, FRAME_TARGET_BYTES - 1, 100_000])
def test_the_peer_gets_no_larger_ones_than_it_takes(peer_bytes):
    link = Link(peer_bytes=peer_bytes)
    assert link.size.bytes <= peer_bytes
    for _ in range(5):
        link.send()
        link.acknowledge(0.0)
        assert link.size.bytes <= peer_bytes
    link.send()
    link.acknowledge(SLOW_SECONDS * 2)
    assert link.size.bytes == min(peer_bytes, max(FRAME_TARGET_BYTES, link.size.most // 2))


@pytest.mark.parametrize("window", [1, FRAME_TARGET_BYTES, 1_000_000, PLENTY])
def test_a_frame_is_no_more_than_a_quarter_of_the_window(window):
    link = grown(window_bytes=window, window_items=window)
    assert link.size.bytes == max(FRAME_TARGET_BYTES, min(window // 4, FRAME_MOST_BYTES))
    assert link.size.items == max(64, window // 4)


def test_it_never_leaves_its_bounds_whatever_happens():
    seed = random.randrange(1 << 32)
    print("seed", seed)
    pick = random.Random(seed)
    for _ in range(200):
        peer, window = pick.choice([50, 70_000, PLENTY]), pick.choice([50, 700_000, PLENTY])
        link = Link(peer_bytes=peer, window_bytes=window, k=pick.randint(2, 16))
        least = min(FRAME_TARGET_BYTES, peer)
        for _ in range(100):
            if link.pacer.may_send(full=True) and pick.random() < 0.6:
                link.send(pick.choice([None, 1, link.size.bytes // 2, 3 * link.size.bytes]))
            else:
                count = pick.randint(link.pacer.acknowledged, link.pacer.sent_frames)
                link.acknowledge(pick.choice([0.0, 0.3, 2.0]), count)
            assert least <= link.size.bytes <= link.size.most <= min(peer, FRAME_MOST_BYTES)
