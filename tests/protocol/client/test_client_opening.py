"""The opening at its client: what is asked for, what a first frame comes to, and what fits."""

import pytest

from servestream_client.config import FlowControl
from servestream_client.errors import FrameLostError, RemoteProtocolError
from servestream_client.protocol.client.opening import (
    Offer,
    first_word,
    incompatibility,
    limits_of,
    milliseconds,
    open_of,
)
from servestream_client.protocol.frames import (
    CodecId,
    HandlerKind,
    Heartbeat,
    Limits,
    Order,
    RefusalKind,
    Refused,
    ServerFrame,
    StreamErrorKind,
    StreamFailure,
    Welcome,
)

OFFER = Offer(bytes(16), CodecId("bytes", "print"), application="digits")
WELCOME = Welcome(application="digits", handler_kind=HandlerKind.ONE_TO_ONE)
REFUSED = Refused(RefusalKind.DRAINING, "leaving")
FAILED = StreamFailure(StreamErrorKind.INTERNAL, "broken")


def test_the_open_says_what_is_the_same_on_each_attempt_and_what_is_not():
    offer = Offer(
        bytes(16),
        CodecId("bytes"),
        ordered=False,
        parameters={"a": "b"},
        isolated=True,
        limits=Limits(window_items=7),
        heartbeat_ms=100,
        item_timeout_ms=200,
    )
    opened = open_of(offer, attempt=3, first_number=5, deadline_ms=300)
    assert (opened.attempt, opened.first_number, opened.deadline_ms) == (3, 5, 300)
    assert (opened.order, opened.isolated, opened.parameters) == (Order.ANY, True, {"a": "b"})
    assert (opened.heartbeat_interval_ms, opened.item_timeout_ms) == (100, 200)
    assert opened.limits.window_items == 7
    assert open_of(OFFER, attempt=1, first_number=1, deadline_ms=0).order is Order.INPUT


@pytest.mark.parametrize(
    ("said", "comes_to"),
    [
        ({"welcome": WELCOME}, WELCOME),
        ({"welcome": WELCOME, "error": FAILED}, WELCOME),
        ({"refused": REFUSED}, REFUSED),
        ({"error": FAILED}, FAILED),
    ],
)
def test_a_first_frame_comes_to_one_thing(said, comes_to):
    assert first_word(OFFER, ServerFrame(**said)) is comes_to


def test_a_welcome_that_does_not_fit_comes_to_a_refusal():
    said = first_word(OFFER, ServerFrame(welcome=Welcome(application="letters")))
    assert isinstance(said, Refused)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"refused": REFUSED, "welcome": WELCOME}, RemoteProtocolError),
        ({"refused": REFUSED, "error": FAILED}, RemoteProtocolError),
        ({}, RemoteProtocolError),
        ({"heartbeat": Heartbeat(0, 0)}, FrameLostError),
    ],
)
def test_what_no_first_frame_may_say(said, error):
    with pytest.raises(error):
        first_word(OFFER, ServerFrame(**said))


@pytest.mark.parametrize(
    ("welcome", "kind"),
    [
        ({"protocol_version": 99, "application": "letters"}, RefusalKind.VERSION),
        ({"application": "letters", "kind": HandlerKind.STATEFUL}, RefusalKind.APPLICATION),
        ({"kind": HandlerKind.STATEFUL}, RefusalKind.VERSION),
        ({"kind": HandlerKind.UNSPECIFIED}, RefusalKind.VERSION),
        ({"application": ""}, None),
        ({"kind": HandlerKind.ONE_TO_MANY}, None),
        ({"kind": HandlerKind.BATCH}, None),
        ({}, None),
    ],
)
def test_what_fits(welcome, kind):
    fields = {"application": "digits", **welcome}
    fields["handler_kind"] = fields.pop("kind", HandlerKind.ONE_TO_ONE)
    refused = incompatibility(OFFER, Welcome(**fields))
    assert (refused.kind if refused else None) is kind


def test_limits_are_what_is_configured():
    flow = FlowControl(window_items=5, max_unacknowledged_frames=3, max_item_bytes=77)
    limits = limits_of(flow)
    assert (limits.window_items, limits.unacknowledged_frames, limits.item_bytes) == (5, 3, 77)


@pytest.mark.parametrize(("seconds", "said"), [(None, 0), (1.5, 1500), (1e-9, 1)])
def test_no_time_is_said_as_none(seconds, said):
    assert milliseconds(seconds) == said
