"""How large chunks are follows the link, and not how long a peer takes to read."""

import pytest

from servestream_client.protocol.chunk_size import (
    CHUNK_BYTES,
    CHUNK_LEAST_BYTES,
    CHUNK_MOST_BYTES,
    SOON_SECONDS,
    WHOLE_BYTES,
    ChunkSize,
)
from servestream_client.protocol.pacing import Pacer

KIB = 1024
PLENTY = 1 << 22
FREE = 320 * KIB


class Link:
    """One end that sends a large payload, two chunks at a time.

    Args:
        rate: bytes a second that the link carries.
        delay: seconds that the peer takes besides, to read and to say so.
    """

    def __init__(self, rate=1e12, delay=0.0):
        self.pacer = Pacer(4)
        self.size = ChunkSize(self.pacer)
        self.size.begin(PLENTY, PLENTY, FREE)
        self.rate, self.delay = rate, delay
        self.now = 1000.0

    def pair(self) -> int:
        """Two chunks go, and are acknowledged together."""
        size = self.size.bytes
        for _ in range(2):
            self.pacer.sent(size)
            self.size.sent(size, size)
            self.size.look(self.now)
        self.now += 2 * size / self.rate + self.delay
        self.pacer.acknowledge(self.pacer.sent_frames)
        self.size.look(self.now)
        return self.size.bytes

    def pairs(self, count: int) -> list[int]:
        return [self.pair() for _ in range(count)]


def test_it_begins_small_and_without_an_agreement_there_is_none():
    assert Link().size.bytes == CHUNK_BYTES
    assert ChunkSize(Pacer(4)).bytes == 0


@pytest.mark.parametrize(("delay", "pairs"), [(0.0, 2), (0.2, 4)])
def test_chunks_that_are_acknowledged_soon_let_them_grow(delay, pairs):
    link = Link(delay=delay)
    assert link.pairs(pairs)[-1] == CHUNK_MOST_BYTES
    assert link.size.unannounced == CHUNK_MOST_BYTES


@pytest.mark.parametrize("delay", [0.6, 0.8, 1.5, 5.0])
def test_a_peer_that_takes_long_whatever_there_is_gets_large_chunks(delay):
    seen = Link(delay=delay).pairs(6)
    assert seen[0] == CHUNK_LEAST_BYTES  # to see which it is
    assert seen[-1] == CHUNK_MOST_BYTES


@pytest.mark.parametrize("rate", [10_000, 50_000, 100_000, 500_000, 2_000_000])
@pytest.mark.parametrize("delay", [0.0, 0.1])
def test_on_a_link_what_is_under_way_is_about_what_it_carries_in_a_second(rate, delay):
    seen = Link(rate, delay).pairs(30)[-10:]
    most = max(CHUNK_LEAST_BYTES, rate * SOON_SECONDS)
    assert max(seen) <= most
    assert min(seen) >= min(CHUNK_MOST_BYTES, most / 4)


@pytest.mark.parametrize("delay", [0.0, 0.8])
def test_a_link_that_becomes_slow_gets_small_ones_at_once(delay):
    link = Link(delay=delay)
    link.pairs(8)
    link.rate = 50_000
    assert link.pair() == CHUNK_LEAST_BYTES
    assert link.size.unannounced == 0
    assert max(link.pairs(10)) <= CHUNK_BYTES


def test_what_is_acknowledged_together_tells_one_thing():
    """The second of a pair left later than the first, which is a part of what went before it."""
    link, size = Link(), CHUNK_BYTES
    for wait in (0.0, 1.0):
        link.now += wait
        link.pacer.sent(size)
        link.size.sent(size, size)
        link.size.look(link.now)
    link.pacer.acknowledge(2)
    link.now += 0.1
    link.size.look(link.now)
    assert link.size.bytes == CHUNK_LEAST_BYTES  # it has taken 1.1 s


def test_chunks_that_were_not_as_large_as_could_be_tell_nothing():
    link = Link()
    for _ in range(3):
        link.pacer.sent(10)
        link.size.sent(10, CHUNK_BYTES)
        link.size.look(link.now)
        link.pacer.acknowledge(link.pacer.sent_frames)
        assert not link.size.look(link.now)
    assert link.size.bytes == CHUNK_BYTES


def test_frames_that_are_acknowledged_soon_are_proof_as_well():
    link = Link()
    link.size.follow(256 * KIB)
    assert link.size.bytes == 256 * KIB
    link.size.follow(64 * KIB)
    assert link.size.bytes == 256 * KIB


@pytest.mark.parametrize("how", ["chunk", "frame"])
def test_where_the_link_is_quick_payloads_of_some_size_go_whole_until_it_is_not(how):
    link = Link()
    link.pairs(2)
    assert link.size.whole == 0
    link.pair()
    assert link.size.whole == WHOLE_BYTES
    if how == "chunk":
        link.rate = 50_000
        link.pair()
    else:
        link.size.slowed()
    assert link.size.whole == 0
    assert link.size.unannounced == 0


def test_a_peer_with_small_frames_gets_smaller_chunks_or_none():
    size = ChunkSize(Pacer(4))
    size.begin(10 * KIB, PLENTY, FREE)
    assert size.bytes == 9 * KIB
    assert size.whole == 0
    size = ChunkSize(Pacer(4))
    size.begin(KIB, PLENTY, FREE)
    assert size.bytes == 0
