"""What servers say of their load."""

import pytest

from servestream_client.protocol.frames import Load
from servestream_client.protocol.load import worth_saying

SAID = Load(servers=2, items=100, item_us=1000, places=4)


@pytest.mark.parametrize(
    ("now", "worth"),
    [
        (SAID, False),
        (Load(servers=2, items=199, item_us=1000), False),
        (Load(servers=2, items=51, item_us=1999), False),
        (Load(servers=3, items=100, item_us=1000), True),
        (Load(servers=0, items=100, item_us=1000), True),
        (Load(servers=2, items=200, item_us=1000), True),
        (Load(servers=2, items=50, item_us=1000), True),
        (Load(servers=2, items=100, item_us=2000), True),
        (Load(servers=2, items=100, item_us=500), True),
        (Load(servers=2, items=100, item_us=0), True),
    ],
)
def test_what_is_worth_saying(now, worth):
    assert worth_saying(now, SAID) is worth


def test_the_first_word_always_is():
    assert worth_saying(Load(), None)


@pytest.mark.parametrize("items", range(5))
def test_a_few_items_are_no_news(items):
    assert not worth_saying(Load(items=items), Load())
