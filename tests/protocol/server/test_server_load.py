"""What a server says of its load, and to whom."""

import pytest
from serving import frames_out, serving

from servestream_client.protocol import load
from servestream_client.protocol.frames import Load, StreamErrorKind

BUSY = Load(servers=3, items=200, item_us=900, places=4)


def reporting():
    return serving(features=(load.FEATURE,))


def test_who_did_not_ask_for_the_load_is_not_told():
    server = serving(features=("coming",))
    assert not server.report(BUSY)
    assert frames_out(server) == []


def test_who_asked_hears_that_it_will_be_told():
    server = serving(features=(load.FEATURE, "of tomorrow"))
    assert server.report(BUSY)


def test_the_load_is_said_when_it_is_news():
    server = reporting()
    assert server.report(BUSY)
    (frame,) = frames_out(server)
    assert frame.load == BUSY
    assert not frame.paced
    assert not server.report(BUSY)
    assert frames_out(server) == []
    assert server.report(Load(servers=4, items=200, item_us=900, places=4))
    assert frames_out(server)[0].load.servers == 4


def test_the_last_word_holds():
    server = reporting()
    server.report(BUSY)
    server.report(Load(servers=9))
    (frame,) = frames_out(server)
    assert frame.load == Load(servers=9)


@pytest.mark.parametrize("over", [True, False])
def test_nothing_is_said_of_it_at_the_end(over):
    server = reporting()
    server.give_up(StreamErrorKind.INTERNAL, "it is over")
    if over:
        server.next_frame()
        server.half_close()
    server.report(BUSY)
    assert all(frame.load is None for frame in frames_out(server)) or not over
