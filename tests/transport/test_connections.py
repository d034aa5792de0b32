"""How calls are spread over connections; the channels are not real."""

import asyncio
from collections.abc import Callable

import grpc
import grpc.aio
import pytest

from servestream_client.transport.grpc_link import GrpcTransport


class FakeCall:
    """A call that ends when the test says so."""

    _cython_call = None  # or it would be one with interceptors

    def __init__(self, channel: "FakeChannel", metadata: object) -> None:
        self.channel = channel
        self.metadata = metadata
        self.callbacks: list[Callable] = []

    def add_done_callback(self, callback: Callable) -> None:
        self.callbacks.append(callback)

    def end(self) -> None:
        for callback in self.callbacks:
            callback(self)


class FakeChannel:
    """Makes calls, and notes its closing."""

    def __init__(self, target: str, options: object) -> None:
        self.target = target
        self.options = dict(options)
        self.closing = False
        self.closed = False
        self.may_close = asyncio.Event()
        self.may_close.set()

    def stream_stream(self, path: str, **_) -> Callable:
        assert path == "/servestream.v1.StreamService/Stream"
        return lambda *, metadata: FakeCall(self, metadata)

    async def close(self, grace: float | None = None) -> None:
        assert grace is None
        self.closing = True
        await self.may_close.wait()
        self.closed = True


@pytest.fixture
def channels(monkeypatch) -> list[FakeChannel]:
    """Every channel that was made."""
    made: list[FakeChannel] = []

    def make(target, *, options):
        made.append(FakeChannel(target, options))
        return made[-1]

    monkeypatch.setattr(grpc.aio, "insecure_channel", make)
    monkeypatch.setattr(
        grpc.aio, "secure_channel", lambda target, _, options: make(target, options=options)
    )
    return made


def transport(limit: int, **options) -> GrpcTransport:
    options = {"max_frame_bytes": 1000, **options}
    return GrpcTransport("nowhere:1", streams_per_connection=limit, **options)


def open_calls(connections: GrpcTransport, count: int) -> list[FakeCall]:
    return [connections.open()._call for _ in range(count)]


def places(calls: list[FakeCall], channels: list[FakeChannel]) -> list[int]:
    return [channels.index(call.channel) for call in calls]


async def a_turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_calls_share_a_connection_up_to_the_limit(channels):
    connections = transport(3)
    assert connections.connections == 1
    calls = open_calls(connections, 8)
    assert places(calls, channels) == [0, 0, 0, 1, 1, 1, 2, 2]
    assert connections.connections == len(channels) == 3


async def test_an_ended_call_gives_its_place_to_the_next(channels):
    connections = transport(2)
    calls = open_calls(connections, 4)
    calls[0].end()
    calls[2].end()
    assert places(open_calls(connections, 3), channels) == [0, 1, 2]
    assert connections.connections == 3


async def test_a_connection_that_is_not_needed_is_closed(channels):
    connections = transport(2)
    calls = open_calls(connections, 6)
    calls[2].end()
    assert connections.connections == 3
    calls[3].end()
    assert connections.connections == 2
    await a_turn()
    assert [channel.closed for channel in channels] == [False, True, False]
    assert places(open_calls(connections, 1), channels) == [3]


async def test_the_first_connection_stays(channels):
    connections = transport(1)
    for call in open_calls(connections, 3):
        call.end()
    await a_turn()
    assert connections.connections == 1
    assert [channel.closed for channel in channels] == [False, True, True]
    assert places(open_calls(connections, 1), channels) == [0]


async def test_a_connection_on_which_a_call_waited_in_vain_takes_no_further_calls(channels):
    connections = transport(3)
    links = [connections.open() for _ in range(2)]
    links[0].avoid_connection()
    links[0]._call.end()
    assert places(open_calls(connections, 2), channels) == [1, 1]
    assert (connections.connections, channels[0].closing) == (2, False)  # one call goes on
    links[1]._call.end()
    await a_turn()
    assert channels[0].closed
    assert connections.connections == 1
    assert places(open_calls(connections, 2), channels) == [1, 2]


async def test_the_only_connection_is_given_up_as_well(channels):
    connections = transport(3)
    link = connections.open()
    link.avoid_connection()
    link._call.end()
    await a_turn()
    assert channels[0].closed
    assert connections.connections == 0
    assert places(open_calls(connections, 1), channels) == [1]


async def test_a_connection_that_is_given_up_after_its_last_call_is_closed(channels):
    connections = transport(3)
    for _ in range(10):
        link = connections.open()
        link._call.end()
        link.avoid_connection()
    await a_turn()
    assert connections.connections == 0
    assert [channel.closed for channel in channels] == [True] * 10


@pytest.mark.parametrize("ended", [True, False])
async def test_a_connection_that_was_given_up_is_not_the_one_that_is_kept(channels, ended):
    connections = transport(3)
    links = [connections.open() for _ in range(2)]
    links[0]._call.end()
    links[0].avoid_connection()
    if ended:
        links[1]._call.end()
    for _ in range(10):  # calls one after the other, as those of a client that idles
        (call,) = open_calls(connections, 1)
        call.end()
    assert len(channels) == 2
    assert connections.connections == (1 if ended else 2)


async def test_a_connection_that_is_closing_takes_no_call(channels):
    connections = transport(1)
    _, second = open_calls(connections, 2)
    channels[1].may_close.clear()
    second.end()
    await a_turn()
    assert (channels[1].closing, channels[1].closed) == (True, False)
    assert places(open_calls(connections, 1), channels) == [2]
    channels[1].may_close.set()
    await a_turn()
    assert channels[1].closed
    assert connections.connections == 2


async def test_closing_waits_for_every_connection(channels):
    connections = transport(1)
    calls = open_calls(connections, 3)
    channels[2].may_close.clear()
    calls[2].end()
    closing = asyncio.ensure_future(connections.aclose())
    await a_turn()
    assert not closing.done()
    assert [channel.closed for channel in channels] == [True, True, False]
    channels[2].may_close.set()
    await closing
    assert connections.connections == 0


async def test_calls_that_end_with_their_connection_close_nothing_twice(channels):
    connections = transport(1)
    calls = open_calls(connections, 3)
    await connections.aclose()
    for channel in channels:
        assert channel.closed
        channel.closing = False
    for call in calls:
        call.end()
    await a_turn()
    assert not any(channel.closing for channel in channels)


@pytest.mark.parametrize("secure", [False, True])
async def test_every_connection_is_made_alike_and_is_its_own(channels, secure):
    credentials = grpc.ssl_channel_credentials() if secure else None
    connections = transport(1, metadata=[("application", "a")], credentials=credentials)
    calls = open_calls(connections, 3)
    assert {call.metadata for call in calls} == {(("application", "a"),)}
    assert {channel.target for channel in channels} == {"nowhere:1"}
    assert all(channel.options == channels[0].options for channel in channels)
    # Otherwise grpc would let channels with the same arguments share a connection after all.
    assert channels[0].options["grpc.use_local_subchannel_pool"] == 1
