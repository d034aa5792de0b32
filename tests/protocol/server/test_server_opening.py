"""Whom a server takes, and on which terms."""

from dataclasses import replace
from random import Random

import pytest
from serving import (
    CODEC,
    STREAM_ID,
    answers_in,
    expect_breach,
    inputs,
    make_server,
    opening,
    serving,
)
from single_inputs import Input, next_input

from servestream_client.errors import LocalProtocolError, RemoteProtocolError
from servestream_client.protocol import hedge
from servestream_client.protocol.frames import (
    PROTOCOL_VERSION,
    ClientEnd,
    ClientFrame,
    CodecId,
    Credit,
    HandlerKind,
    InputRun,
    Limits,
    RefusalKind,
    Refused,
    Replay,
    ServerFrame,
    StateToken,
)
from servestream_client.protocol.server import ServerOffer
from servestream_client.protocol.server.opening import (
    SHORTEST_HEARTBEAT_MS,
    agree,
    exceeds,
    incompatibility,
    welcome,
)
from servestream_client.protocol.states import ServerState


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"protocol_version": PROTOCOL_VERSION + 1}, RefusalKind.VERSION),
        ({"protocol_version": 0}, RefusalKind.VERSION),
        ({"stream_id": b"short"}, RefusalKind.BAD_OPEN),
        ({"stream_id": bytes(17)}, RefusalKind.BAD_OPEN),
        ({"attempt": 0}, RefusalKind.BAD_OPEN),
        ({"first_number": 0}, RefusalKind.BAD_OPEN),
        ({"application": "letters"}, RefusalKind.APPLICATION),
        ({"codec": CodecId("protobuf", "v1")}, RefusalKind.CODEC),
        ({"codec": CodecId("bytes", "v2")}, RefusalKind.CODEC),
        ({"token": StateToken(1, b"t")}, RefusalKind.TOKEN),
    ],
)
def test_what_does_not_fit_is_refused(fields, kind):
    server = make_server(application="digits")
    server.receive(ClientFrame(open=opening(**fields), inputs=[InputRun(1, [b"x"])]))
    assert server.state is ServerState.LINGERING
    frame = server.next_frame()
    assert (frame.refused.kind, frame.welcome) == (kind, None)
    assert server.next_frame() is None
    assert next_input(server) is None


def test_incompatibilities_are_checked_in_the_order_of_the_specification():
    fields = {
        "protocol_version": 9,
        "stream_id": b"",
        "application": "letters",
        "codec": CodecId("other"),
        "token": StateToken(1, b"t"),
    }
    mended = {
        "protocol_version": PROTOCOL_VERSION,
        "stream_id": STREAM_ID,
        "application": "digits",
        "codec": CODEC,
    }
    found = []
    for name, value in [("", None), *mended.items()]:
        if name:
            fields[name] = value
        server = make_server(application="digits")
        server.receive(ClientFrame(open=opening(**fields)))
        found.append(server.next_frame().refused.kind)
    assert found == [
        RefusalKind.VERSION,
        RefusalKind.BAD_OPEN,
        RefusalKind.APPLICATION,
        RefusalKind.CODEC,
        RefusalKind.TOKEN,
    ]


@pytest.mark.parametrize(("wanted", "named"), [("", "letters"), ("digits", ""), ("a", "a")])
def test_applications_differ_only_if_both_have_a_name(wanted, named):
    server = make_server(application=named)
    server.receive(ClientFrame(open=opening(application=wanted)))
    assert server.state is ServerState.DECIDING


def test_a_clients_words_are_escaped_in_a_refusal():
    server = make_server(application="digits")
    server.receive(ClientFrame(open=opening(application="\x1b[2J" + "a" * 5000)))
    text = server.next_frame().refused.text
    assert "\x1b" not in text
    assert len(text) < 1000


def test_the_first_frame_must_open():
    expect_breach(make_server(), inputs(1, b"x"), "does not open")


def test_nothing_goes_out_before_the_service_has_decided():
    server = make_server()
    server.receive(ClientFrame(open=opening()))
    assert server.state is ServerState.DECIDING
    assert server.next_frame() is None


def test_a_welcome_says_who_serves_and_what_holds():
    offer = {
        "application": "digits",
        "code_version": "7",
        "replica": "r1",
        "handler_kind": HandlerKind.BATCH,
        "replay": Replay.SEEK,
        "fingerprint": "model 3",
        "limits": Limits(window_items=10, window_bytes=5000, unacknowledged_frames=9),
    }
    server = make_server(**offer)
    server.receive(
        ClientFrame(
            open=opening(limits=Limits(window_items=20, window_bytes=4000, item_bytes=5)),
        )
    )
    server.welcome()
    assert server.state is ServerState.SERVING
    welcome = server.next_frame().welcome
    assert welcome.protocol_version == PROTOCOL_VERSION
    names = ("application", "code_version", "replica", "handler_kind", "replay", "fingerprint")
    for name in names:
        assert getattr(welcome, name) == offer[name]
    assert welcome.limits == Limits(window_items=10, window_bytes=4000, unacknowledged_frames=4)


def test_the_service_may_refuse():
    server = make_server()
    server.receive(ClientFrame(open=opening(), inputs=[InputRun(1, [b"x"])]))
    server.refuse(RefusalKind.OVERLOADED, "full", 500)
    assert server.next_frame() == ServerFrame(refused=Refused(RefusalKind.OVERLOADED, "full", 500))
    assert server.state is ServerState.LINGERING
    assert next_input(server) is None


@pytest.mark.parametrize("early", [True, False], ids=["before the open", "after the decision"])
def test_the_service_decides_once_and_after_the_open(early):
    server = make_server() if early else serving()
    with pytest.raises(LocalProtocolError):
        server.welcome()
    if not early:
        with pytest.raises(LocalProtocolError):
            server.refuse(RefusalKind.OVERLOADED, "full")


def test_inputs_with_the_open_are_taken_only_after_the_welcome():
    server = make_server()
    server.receive(
        ClientFrame(
            open=opening(),
            inputs=[InputRun(1, [b"x", b"y"])],
            credit=Credit(1, 100),
            end=ClientEnd(2),
        )
    )
    assert next_input(server) is None
    assert server.outbox.unanswered == 0
    server.welcome()
    assert server.state is ServerState.FINISHING
    assert next_input(server) == Input(1, b"x")
    server.outbox.output(1, b"X", last=True)
    server.outbox.output(2, b"Y", last=True)
    frame = server.next_frame()
    assert frame.welcome is not None
    assert answers_in([frame]) == [(1, 0, b"X")]


def test_inputs_with_the_open_are_a_paced_frame():
    server = make_server(limits=Limits(unacknowledged_frames=2))
    server.receive(ClientFrame(open=opening(), inputs=[InputRun(1, [b"x"])]))
    server.welcome()
    assert server.next_frame().frames_read == 1


@pytest.mark.parametrize(
    ("limits", "payloads"),
    [
        (Limits(window_items=2), [b"1", b"2", b"3"]),
        (Limits(window_bytes=5), [b"123", b"123"]),
        (Limits(item_bytes=2), [b"123"]),
    ],
    ids=["items", "bytes", "item"],
)
def test_too_much_with_the_open_is_refused_as_overload_to_come_again_at_once(limits, payloads):
    server = make_server(limits=limits)
    server.receive(ClientFrame(open=opening(), inputs=[InputRun(1, payloads)]))
    server.welcome()
    refused = server.next_frame().refused
    assert (refused.kind, refused.retry_after_ms) == (RefusalKind.OVERLOADED, 0)
    assert server.state is ServerState.LINGERING
    assert next_input(server) is None


def test_one_input_with_the_open_may_exceed_the_window():
    server = make_server(limits=Limits(window_bytes=2))
    server.receive(ClientFrame(open=opening(), inputs=[InputRun(1, [b"123"])]))
    server.welcome()
    assert server.state is ServerState.SERVING


def test_a_second_open_is_the_clients_error():
    expect_breach(serving(), ClientFrame(open=opening()), "open frame may not come")


@pytest.mark.parametrize("frame", [ClientFrame(open=opening()), ClientFrame(), inputs(1, b"x")])
def test_nothing_may_come_between_open_and_decision(frame):
    server = make_server()
    server.receive(ClientFrame(open=opening()))
    with pytest.raises(RemoteProtocolError):
        server.receive(frame)


# ------------------------------------------------------------------ the invariant

WRONG = [
    (RefusalKind.VERSION, {"protocol_version": PROTOCOL_VERSION + 1}),
    (RefusalKind.BAD_OPEN, {"stream_id": b"short"}),
    (RefusalKind.BAD_OPEN, {"attempt": 0}),
    (RefusalKind.BAD_OPEN, {"first_number": 0}),
    (RefusalKind.APPLICATION, {"application": "letters"}),
    (RefusalKind.CODEC, {"codec": CodecId("other")}),
    (RefusalKind.TOKEN, {"token": StateToken(1, b"t")}),
]
"""What may be wrong with an open, in the order of docs section 4."""


@pytest.mark.parametrize("seed", range(50))
def test_an_open_is_refused_for_the_first_thing_that_is_wrong_with_it(seed):
    random = Random(seed)
    offer = ServerOffer(codec=CODEC, application="digits")
    wrong = [each for each in WRONG if random.random() < 0.3]
    opened = opening()
    for _, fields in random.sample(wrong, len(wrong)):
        opened = replace(opened, **fields)
    refused = incompatibility(offer, opened)
    assert (refused and refused.kind) == (wrong[0][0] if wrong else None)


@pytest.mark.parametrize("seed", range(50))
def test_terms_are_what_both_ends_allow(seed):
    random = Random(seed)
    names = ("window_items", "window_bytes", "unacknowledged_frames", "frame_bytes", "item_bytes")
    ours, theirs = (
        Limits(**{name: random.randint(1, 200_000) for name in names}) for _ in range(2)
    )
    wished = random.choice([0, 1, SHORTEST_HEARTBEAT_MS, 10_000])
    offer = ServerOffer(codec=CODEC, limits=ours)
    terms = agree(
        offer,
        opening(
            limits=theirs,
            heartbeat_interval_ms=wished,
            features=random.sample(["coming", "coming", "of tomorrow"], random.randint(0, 3)),
        ),
    )
    for name in names[:3]:
        assert getattr(terms.limits, name) == min(getattr(ours, name), getattr(theirs, name))
    for name in names[3:]:
        assert getattr(terms.limits, name) == getattr(ours, name)
    assert terms.output_bytes == theirs.item_bytes
    assert terms.frame_bytes == theirs.frame_bytes
    assert bool(terms.heartbeat_ms) is bool(wished)
    assert not wished or terms.heartbeat_ms == max(wished, SHORTEST_HEARTBEAT_MS)
    assert tuple(terms.features) in [(), ("coming",)]
    said = welcome(offer, terms)
    assert (said.limits, said.heartbeat_interval_ms) == (terms.limits, terms.heartbeat_ms)
    assert said.features == terms.features


@pytest.mark.parametrize(
    ("kind", "allowed", "asked", "taken"),
    [
        (HandlerKind.ONE_TO_ONE, True, True, True),
        (HandlerKind.BATCH, True, True, True),
        (HandlerKind.ONE_TO_MANY, True, True, False),
        (HandlerKind.ONE_TO_ONE, False, True, False),
        (HandlerKind.ONE_TO_ONE, True, False, False),
    ],
)
def test_hedging_is_for_single_outputs_and_where_the_service_allows_it(kind, allowed, asked, taken):
    offer = ServerOffer(codec=CODEC, handler_kind=kind, hedging=allowed)
    terms = agree(offer, opening(features=[hedge.FEATURE] * asked))
    assert (hedge.FEATURE in terms.features) is taken


def test_nothing_with_the_open_exceeds_nothing():
    assert not exceeds([], Limits(window_items=1, window_bytes=1, item_bytes=1))
