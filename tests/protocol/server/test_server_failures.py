"""Which failures have left, and how inputs failed that somebody watches."""

import pytest
from serving import MANY, PLENTY, computing, frames_out

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.frames import ClientFrame, Credit, NumberRange

HANDLER, TIMEOUT, CANCELLED = (
    ItemErrorKind.HANDLER,
    ItemErrorKind.TIMEOUT,
    ItemErrorKind.CANCELLED,
)
KINDS = pytest.mark.parametrize("offer", [{}, MANY], ids=["one", "many"])


@KINDS
def test_a_failure_counts_when_it_leaves(offer):
    server = computing(*[b"x"] * 4, credit=Credit(0, 0), offer=offer)
    server.outbox.output(1, b"X", last=True)
    for number, kind in ((2, HANDLER), (3, TIMEOUT), (4, HANDLER)):
        server.outbox.fail(number, kind, "no")
    assert server.outbox.failures.sent == {}
    server.receive(ClientFrame(credit=PLENTY))
    frames_out(server)
    assert server.outbox.failures.sent == {HANDLER: 2, TIMEOUT: 1}
    assert server.outbox.answered == 4


@KINDS
def test_it_is_known_how_an_input_failed_that_is_watched(offer):
    server = computing(*[b"x"] * 3, offer=offer)
    watched = server.outbox.failures.watched
    watched.update({1: None, 2: None})
    server.outbox.output(1, b"X", last=True)
    server.outbox.fail(2, TIMEOUT, "no")
    server.outbox.fail(3, HANDLER, "no")
    assert watched == {1: None, 2: TIMEOUT}


def test_so_it_is_if_its_client_cancels_what_has_many_outputs():
    server = computing(b"x", b"x", offer=MANY)
    watched = server.outbox.failures.watched
    watched[1] = None
    server.receive(ClientFrame(cancelled=[NumberRange(1, 2)]))
    assert watched == {1: CANCELLED}


@KINDS
def test_nothing_is_watched_any_more_when_nobody_reads(offer):
    server = computing(b"x", offer=offer)
    server.outbox.failures.watched[1] = None
    server.half_close()
    assert not server.outbox.failures.watched
