"""What a server is to hear of cancelled inputs: each once, and as much as a frame may say."""

from itertools import pairwise
from random import Random

import pytest

from servestream_client.protocol.client.cancels import CancelNotices
from servestream_client.protocol.frames import Limits


@pytest.mark.parametrize("seed", range(20))
def test_each_input_is_named_once_in_frames_that_may_say_so_much(seed):
    random = Random(seed)
    limits = Limits(window_items=random.randint(1, 50), frame_bytes=random.choice([24, 240, 10**6]))
    numbers = random.sample(range(1, 300), 100)
    notices, named = CancelNotices(), []
    for number in numbers:
        notices.add(number)
        if random.random() < 0.1:
            named.append(notices.take(limits))
    while notices:
        named.append(notices.take(limits))
    for ranges in named:
        assert len(ranges) <= max(1, min(limits.window_items, limits.frame_bytes // 24))
        assert all(a.last + 1 < b.first for a, b in pairwise(ranges))
    found = [n for ranges in named for each in ranges for n in range(each.first, each.last + 1)]
    assert sorted(found) == sorted(numbers)


def test_neighbours_are_one_range():
    notices = CancelNotices()
    for number in (5, 6, 2, 1, 7):
        notices.add(number)
    assert [(each.first, each.last) for each in notices.take(None)] == [(1, 2), (5, 7)]
    assert not notices
