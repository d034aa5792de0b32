"""Whether payloads travel compressed is agreed on in each attempt: docs/protocol.md, section 23."""

import pytest
from rated_link import CODEC

from servestream_client.config import FlowControl
from servestream_client.errors import ConfigurationError
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.compression import FEATURE
from servestream_client.protocol.frames import (
    ClientFrame,
    Credit,
    InputRun,
    Limits,
    Open,
    OutputRun,
    ServerFrame,
    Welcome,
)
from servestream_client.protocol.server import ServerOffer, ServerSession


def client(level: int) -> ClientSession:
    flow = FlowControl(compression_level=level)
    return ClientSession(stream_id=bytes(16), codec=CODEC, flow=flow)


@pytest.mark.parametrize("level", [0, 1, 19])
def test_a_client_asks_for_it_where_its_user_does(level):
    session = client(level)
    session.begin()
    opened = session.next_frame()
    assert opened is not None
    assert opened.open is not None
    assert (FEATURE in opened.open.features) is bool(level)
    assert opened.compression == 0  # nobody knows yet whether the server can


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("level", [0, 3])
def test_a_client_compresses_what_its_server_can_read(level, known):
    session = client(level)
    session.begin()
    session.next_frame()
    session.receive(1, ServerFrame(welcome=Welcome(features=(FEATURE,) if known else ())))
    session.push(b"a")
    frame = session.next_frame()
    assert frame is not None
    assert frame.compression == (level if known else 0)


def test_a_new_attempt_begins_without_it():
    session = client(3)
    session.begin()
    session.next_frame()
    session.receive(1, ServerFrame(welcome=Welcome(features=(FEATURE,))))
    session.lost(1)
    session.begin(known=Limits())
    session.push(b"a")
    frame = session.next_frame()
    assert frame is not None
    assert [run.payloads for run in frame.inputs] == [[b"a"]]
    assert frame.compression == 0


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("level", [0, 4])
def test_a_server_compresses_for_those_who_ask(level, asked):
    server = ServerSession(ServerOffer(codec=CODEC, compression=level))
    features = (FEATURE,) if asked else ()
    opened = Open(stream_id=bytes(16), attempt=1, codec=CODEC, features=features)
    server.receive(ClientFrame(open=opened, credit=Credit(100, 10_000)))
    server.welcome()
    greeting = server.next_frame()
    assert greeting is not None
    assert greeting.welcome is not None
    assert (FEATURE in greeting.welcome.features) is (asked and level > 0)
    server.receive(ClientFrame(inputs=[InputRun(1, [b"a"])]))
    server.intake.next_run(1)
    server.outbox.outputs(1, [b"A"])
    frame = server.next_frame()
    assert frame is not None
    assert frame.outputs == [OutputRun(1, [b"A"])]
    assert frame.compression == (level if asked else 0)


@pytest.mark.parametrize("level", [-1, 20])
def test_levels_are_those_of_zstandard(level):
    with pytest.raises(ConfigurationError, match="compression_level must lie between 0 and 19"):
        FlowControl(compression_level=level)
