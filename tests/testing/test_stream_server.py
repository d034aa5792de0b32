"""A server in this process: its lives, its faults, its history."""

import asyncio
import socket
import threading

import pytest

from servestream_client import ConfigurationError, StreamClient, SyncStreamClient
from servestream_client.server import StreamService
from servestream_client.testing import (
    Cut,
    Echo,
    Event,
    Fault,
    FaultKind,
    History,
    StreamServer,
)

ITEMS = [b"%d" % number for number in range(1, 301)]


def test_a_killed_server_cancels_its_handlers_and_lives_again():
    started, cancelled = threading.Event(), threading.Event()

    class Waiting(StreamService[bytes, bytes]):
        async def predict(self, item):
            if item == b"wait" and not started.is_set():
                started.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    cancelled.set()
            return item

    with StreamServer(Waiting()) as server, SyncStreamClient(server.target) as client:
        stream = client.stream([b"1", b"wait"])
        assert next(stream) == b"1"
        assert started.wait(30)
        target = server.target
        server.kill()
        assert cancelled.wait(30)
        assert list(stream) == [b"wait"]
        assert (server.lives, server.target) == (2, target)
        assert stream.statistics().replica == server.replica == "in-process-2"


def test_the_connections_of_a_killed_server_are_reset():
    """A client sees a reset and no farewell, as from a process that got SIGKILL."""
    with (
        StreamServer() as server,
        socket.create_connection(("127.0.0.1", int(server.target.rpartition(":")[2]))) as client,
    ):
        client.settimeout(20)
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
        assert client.recv(1)  # the server speaks
        server.kill()
        with pytest.raises(ConnectionResetError):
            while client.recv(1024):
                pass


def test_deaths_at_once_count_once():
    with StreamServer() as server, SyncStreamClient(server.target) as client:
        server.add_faults(*(Fault(FaultKind.KILL, at=at) for at in (10, 11, 12)))
        assert list(client.stream(ITEMS)) == ITEMS
        assert 2 <= server.lives <= 4


def test_a_server_that_stopped_starts_nothing():
    server = StreamServer(Echo())
    with pytest.raises(ConfigurationError, match="does not run"):
        server.kill()
    server.start()
    server.start()
    server.stop()
    server.stop()
    with pytest.raises(ConfigurationError, match="does not run"):
        server.kill()


def test_services_that_are_none():
    with pytest.raises(ConfigurationError, match="needs a StreamService, not int"):
        StreamServer(5)
    with pytest.raises(TypeError, match="override exactly one"):
        StreamServer(StreamService)


async def test_several_servers_on_one_thread_beside_a_running_loop():
    with StreamServer() as one, StreamServer() as two:
        async with StreamClient(one.target) as first, StreamClient(two.target) as second:
            streams = [client.stream(ITEMS) for client in (first, second)]
            for stream in streams:
                assert [output async for output in stream] == ITEMS


def test_faults_are_of_two_kinds():
    cut = Cut(after_bytes=500)
    with StreamServer() as server, SyncStreamClient(server.target) as client:
        server.add_faults(Fault(FaultKind.CLOSE, at=100), cut)
        assert list(client.stream(ITEMS)) == ITEMS
        assert server.fired == [Fault(FaultKind.CLOSE, at=100), cut]
        server.clear_faults()
        assert server.fired == [Fault(FaultKind.CLOSE, at=100), cut]


def test_the_history_tells_what_happened_in_order():
    with StreamServer() as server, SyncStreamClient(server.target) as client:
        server.add_faults(Fault(FaultKind.CLOSE, at=100), Fault(FaultKind.REFUSE, at=1))
        stream = client.stream(ITEMS, return_exceptions=True)
        assert list(stream) == ITEMS
        identity = stream.statistics().stream_id
    # Once the server has stopped, it has noted how the last call ended.
    words = [event.what for event in server.history.events if event.stream == identity]
    assert words[0] == "open, from input 1"
    assert words[1] == "refused: refused by plan"
    assert any(word.startswith("broken off: ") for word in words)
    assert words[-1].startswith("complete: ")
    text = str(server.history)
    assert f"stream {identity[:6]}: attempts 3, resumes 1, served by in-process-1" in text
    assert text.index("fault fired: refuse at 1") < text.index("fault fired: close at 100")


def test_a_history_keeps_its_beginning():
    history = History()
    for number in range(3000):
        history.note(f"event {number}")
    assert len(history.events) == 2000
    assert history.events[0].what == "event 0"
    assert "(1000 further events)" in str(history)


def test_an_event_reads_well():
    event = Event(1.5, "open", stream="abcdef0123", attempt=2)
    assert str(event) == "    1.500 s  stream abcdef, attempt 2: open"
