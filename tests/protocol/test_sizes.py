"""What frames show of a link holds for chunks, and the other way round."""

import pytest

from servestream_client.protocol.chunk_size import CHUNK_BYTES, WHOLE_BYTES
from servestream_client.protocol.frame_size import SLOW_SECONDS
from servestream_client.protocol.pacing import FRAME_MOST_BYTES, Pacer
from servestream_client.protocol.sizes import Sizes

PLENTY = 1 << 22
INTERVAL_MS = 10_000


class Link:
    """One end of a link on which what it sends takes as long as it is told."""

    def __init__(self):
        self.pacer = Pacer(4)
        self.sizes = Sizes(self.pacer)
        self.sizes.frame.begin(PLENTY)
        self.sizes.frame.share(256)
        self.sizes.announcements.begin(INTERVAL_MS)
        self.sizes.chunk.begin(PLENTY, PLENTY, self.sizes.announcements.free)
        self.now = 1000.0

    def takes(self, seconds: float) -> bool:
        """What was made goes, and is acknowledged."""
        self.sizes.note_time(self.now)
        self.now += seconds
        self.pacer.acknowledge(self.pacer.sent_frames)
        return self.sizes.note_time(self.now)

    def frame(self, size: int, items: int, seconds: float) -> bool:
        self.pacer.sent(size)
        self.sizes.frame.sent(size, items)
        return self.takes(seconds)

    def chunk(self, seconds: float) -> bool:
        self.sizes.sent_chunk(self.sizes.room)
        return self.takes(seconds)


def quick() -> Link:
    """A link of which chunks have shown that it is quick."""
    link = Link()
    while not link.sizes.chunk.whole:
        link.chunk(0.001)
    return link


def test_chunks_that_are_read_soon_let_frames_go_unannounced():
    assert Link().sizes.announcements.free < FRAME_MOST_BYTES
    link = quick()
    assert link.sizes.announcements.free == FRAME_MOST_BYTES
    assert link.sizes.whole == WHOLE_BYTES


def test_frames_that_are_read_soon_let_chunks_grow():
    link = Link()
    assert link.sizes.room == CHUNK_BYTES
    while link.sizes.frame.bytes < FRAME_MOST_BYTES:
        assert link.frame(link.sizes.frame.bytes, 1, 0.001)
    assert link.sizes.room == FRAME_MOST_BYTES


@pytest.mark.parametrize("frames", [1, 5])
def test_small_items_that_are_read_soon_take_nothing_back(frames):
    link = quick()
    for _ in range(frames):
        assert link.frame(64, 64, 0.001), "the window may open"
    assert link.sizes.whole == WHOLE_BYTES
    assert link.sizes.announcements.free == FRAME_MOST_BYTES


@pytest.mark.parametrize("items", [1, 64])
def test_a_frame_that_takes_long_ends_what_chunks_have_shown(items):
    link = quick()
    size = 64 if items > 1 else link.sizes.frame.bytes
    assert link.frame(size, items, SLOW_SECONDS + 0.1)
    assert link.sizes.whole < WHOLE_BYTES
    assert link.sizes.announcements.free < FRAME_MOST_BYTES


def test_what_is_sent_in_chunks_is_counted_and_so_is_what_rides_with_it():
    link = Link()
    link.sizes.sent_chunk(1000, used=300, beside=200)
    link.sizes.sent_chunk(500)
    assert link.sizes.chunked_bytes == 1500
    assert list(link.pacer.sizes) == [1200, 500]
    assert not link.sizes.chunk_may_go  # half of K is under way
