"""The TCP fault proxy, between plain sockets. Most tests hold both ends themselves."""

import asyncio
import json
import os
import queue
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import anyio
import anyio.lowlevel
import pytest

from servestream_client.errors import ConfigurationError
from servestream_client.testing import (
    Cut,
    CutKind,
    Deaf,
    Delay,
    Direction,
    FaultProxy,
    Slice,
    Throttle,
)

UP, DOWN, BOTH = Direction.UP, Direction.DOWN, Direction.BOTH
TIMEOUT = 20.0
HOUR = 3600.0
MIB = 1024 * 1024


class Server:
    """A listening socket, and every socket that the test made with it."""

    def __init__(self, stack: ExitStack, **options) -> None:
        self._stack = stack
        self.listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), **options))
        self.listener.settimeout(TIMEOUT)
        self.target = f"127.0.0.1:{self.listener.getsockname()[1]}"

    def client(self, proxy: FaultProxy) -> socket.socket:
        host, _, port = proxy.target.partition(":")
        return self._stack.enter_context(socket.create_connection((host, int(port)), TIMEOUT))

    def accept(self) -> socket.socket:
        peer, _ = self.listener.accept()
        peer.settimeout(TIMEOUT)
        return self._stack.enter_context(peer)

    def pair(self, proxy: FaultProxy) -> tuple[socket.socket, socket.socket]:
        client = self.client(proxy)
        return client, self.accept()


class Events:
    """What a proxy says of itself, as it says it."""

    def __init__(self) -> None:
        self._lines: queue.Queue[str] = queue.Queue()
        self.seen: list[str] = []

    def __call__(self, line: str) -> None:
        self._lines.put(line)

    def wait_for(self, text: str) -> str:
        while True:
            line = self._lines.get(timeout=TIMEOUT)
            self.seen.append(line)
            if text in line:
                return line


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def server(stack) -> Server:
    return Server(stack)


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def proxy(server, events) -> Iterator[FaultProxy]:
    with FaultProxy(server.target, seed=1, on_event=events) as proxy:
        yield proxy


@pytest.fixture
def round_trip(stack):
    """Go through another proxy of the same loop: what reached the loop before has been served."""
    side = Server(stack)
    with FaultProxy(side.target) as proxy:
        client, peer = side.pair(proxy)

        def go() -> None:
            # Three times: an event may stand in the loop's turn that is under way already.
            for _ in range(3):
                client.sendall(b"?")
                assert peer.recv(1) == b"?"
                peer.sendall(b"!")
                assert client.recv(1) == b"!"

        yield go


def read(sock: socket.socket, count: int) -> bytes:
    """So many bytes, or fewer if the stream ends before."""
    data = bytearray()
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            break
        data += part
    return bytes(data)


def read_to_end(sock: socket.socket) -> tuple[bytes, CutKind]:
    data = bytearray()
    try:
        while part := sock.recv(MIB):
            data += part
    except ConnectionResetError:
        return bytes(data), CutKind.RESET
    return bytes(data), CutKind.CLOSE


def assert_silent(sock: socket.socket) -> None:
    sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        sock.recv(1)
    sock.settimeout(TIMEOUT)


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def fill(sock: socket.socket) -> int:
    """Send until the kernel takes no more; how much it took."""
    sent = 0
    sock.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            sent += sock.send(bytes(READ))
    sock.settimeout(TIMEOUT)
    return sent


READ = 64 * 1024


def sending(sock: socket.socket, data: bytes, stack: ExitStack) -> None:
    """Send in a thread, however far it comes."""

    def send() -> None:
        with suppress(OSError):
            sock.sendall(data)

    thread = threading.Thread(target=send)
    thread.start()
    stack.callback(thread.join)
    # Ends a thread that is still in the midst of it.
    stack.callback(suppressed_shutdown, sock)


def suppressed_shutdown(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def ends(direction: Direction, client: socket.socket, peer: socket.socket):
    """The sender and the receiver of a direction."""
    return (client, peer) if direction is UP else (peer, client)


# -- without faults ------------------------------------------------------------------------------


def test_bytes_pass_both_ways_and_a_half_close_in_its_own_only(proxy, server):
    client, peer = server.pair(proxy)
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    assert read_to_end(peer) == (b"question", CutKind.CLOSE)
    peer.sendall(b"answer")
    peer.close()
    assert read_to_end(client) == (b"answer", CutKind.CLOSE)
    assert proxy.fired == []


def test_much_passes_both_ways_at_once(proxy, server, stack):
    up, down = os.urandom(3 * MIB), os.urandom(3 * MIB)
    client, peer = server.pair(proxy)
    sending(client, up, stack)
    sending(peer, down, stack)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(read(client, len(down))))
    reader.start()
    assert read(peer, len(up)) == up
    reader.join()
    assert received == [down]


@pytest.mark.parametrize("direction", [UP, DOWN])
def test_a_reset_is_passed_on_after_what_came_before_it(proxy, server, direction, round_trip):
    sender, receiver = ends(direction, *server.pair(proxy))
    sender.sendall(b"last words")
    round_trip()
    reset(sender)
    assert read_to_end(receiver) == (b"last words", CutKind.RESET)


def test_a_side_that_is_gone_when_something_is_sent_to_it_is_news_for_the_other(
    proxy, server, events
):
    client, peer = server.pair(proxy)
    client.shutdown(socket.SHUT_WR)
    assert peer.recv(1) == b""
    reset(client)
    peer.sendall(b"too late")
    events.wait_for("connection 1 closed")
    with pytest.raises(ConnectionError):
        peer.sendall(b"anybody?")


def test_a_server_that_does_not_listen_is_a_reset_and_nothing_in_the_log(stack, caplog):
    server = Server(stack)
    server.listener.close()
    with FaultProxy(server.target) as proxy:
        for _ in range(3):
            # The reset may be there before `connect` returns.
            with pytest.raises(ConnectionResetError):
                server.client(proxy).recv(1)
        assert (proxy.accepted, proxy.connections) == (3, 0)
    assert not caplog.records


def test_a_side_that_does_not_read_stops_the_other(stack, round_trip):
    server = Server(stack)
    server.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READ)
    with FaultProxy(server.target) as proxy:
        client, peer = server.pair(proxy)
        sent = pushed(client, round_trip)
        assert sent < 16 * MIB
        assert len(read(peer, sent)) == sent
        client.sendall(b"and on")
        assert read(peer, 6) == b"and on"


def pushed(client: socket.socket, round_trip) -> int:
    """How much a connection swallows, if it does so while the proxy has time for 32 MiB."""
    return sum(fill(client) or 0 for _ in range(512) if not round_trip())


def test_connections_are_counted(proxy, server, events):
    assert (proxy.connections, proxy.accepted) == (0, 0)
    (client, peer), _ = server.pair(proxy), server.pair(proxy)
    assert (proxy.connections, proxy.accepted) == (2, 2)
    client.close()
    peer.close()
    events.wait_for("closed")
    assert (proxy.connections, proxy.accepted) == (1, 2)


def test_new_connections_go_to_the_new_upstream_and_old_ones_stay(proxy, server, stack):
    client, peer = server.pair(proxy)
    elsewhere = Server(stack)
    proxy.upstream = elsewhere.target
    assert proxy.upstream == elsewhere.target
    new_client = server.client(proxy)
    new_peer = elsewhere.accept()
    new_client.sendall(b"new")
    client.sendall(b"old")
    assert (read(new_peer, 3), read(peer, 3)) == (b"new", b"old")


async def test_many_connections(proxy, server):
    async def echo(reader, writer):
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()
        await writer.wait_closed()

    async def ask(number: int) -> None:
        payload = str(number).encode() * 2000
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(payload)
        writer.write_eof()
        assert await reader.read() == payload
        writer.close()
        await writer.wait_closed()

    port = int(proxy.target.partition(":")[2])
    proxy.add(Delay(0.002, jitter=0.002), Slice(1500), Throttle(10 * MIB))
    async with await asyncio.start_server(echo, sock=server.listener, backlog=500):
        await asyncio.gather(*(ask(number) for number in range(200)))
    assert proxy.accepted == 200
    assert len(proxy.fired) >= 2


# -- cut -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", [UP, DOWN])
@pytest.mark.parametrize("how", list(CutKind))
@pytest.mark.parametrize("after", [0, 1, 100, 20_000])
def test_a_cut_delivers_exactly_its_bytes_and_ends_both_sides(proxy, server, direction, how, after):
    cut = Cut(after, how=how, direction=direction)
    proxy.add(cut)
    sender, receiver = ends(direction, *server.pair(proxy))
    data = os.urandom(after + 500)
    sender.sendall(data)
    assert read_to_end(receiver) == (data[:after], how)
    assert read_to_end(sender) == (b"", how)
    assert proxy.fired == [cut]


def test_a_cut_comes_at_its_byte_and_not_at_the_next(proxy, server):
    proxy.add(Cut(5))
    client, peer = server.pair(proxy)
    client.sendall(b"12345")
    assert read_to_end(peer) == (b"12345", CutKind.RESET)


@pytest.mark.parametrize("direction", [UP, DOWN])
@pytest.mark.parametrize("how", list(CutKind))
def test_a_cut_waits_until_a_slow_reader_has_its_bytes(stack, events, direction, how, round_trip):
    server = Server(stack)
    server.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    with FaultProxy(server.target, on_event=events) as proxy:
        client = socket.socket()
        stack.enter_context(client)
        client.settimeout(TIMEOUT)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        client.connect(("127.0.0.1", int(proxy.target.partition(":")[2])))
        sender, receiver = ends(direction, client, server.accept())
        proxy.add(Cut(200_000, how=how, direction=direction))
        data = os.urandom(300_000)
        sending(sender, data, stack)
        first = read(receiver, 1)
        for _ in range(20):
            round_trip()
        assert proxy.connections == 1
        rest, end = read_to_end(receiver)
        assert (first + rest == data[:200_000], end) == (True, how)


def test_a_cut_that_waits_for_a_slow_reader_can_be_taken_back(proxy, server, stack, round_trip):
    client, peer = server.pair(proxy)
    proxy.add(Cut(2 * MIB, direction=UP))
    data = os.urandom(3 * MIB)
    sending(client, data, stack)
    for _ in range(50):
        round_trip()
    proxy.clear()
    assert read(peer, len(data)) == data
    assert proxy.fired == []


def test_a_cut_after_nothing_leaves_an_idle_connection_and_comes_with_its_next_byte(
    proxy, server, round_trip
):
    client, peer = server.pair(proxy)
    proxy.add(Cut(direction=UP))
    peer.sendall(b"hello")
    assert read(client, 5) == b"hello"
    round_trip()
    assert proxy.connections == 1
    client.sendall(b"x")
    assert read_to_end(peer) == (b"", CutKind.RESET)


def test_a_cut_counts_from_when_it_was_added_or_the_connection_began(proxy, server):
    client, peer = server.pair(proxy)
    client.sendall(bytes(50))
    read(peer, 50)
    proxy.add(Cut(100, times=None, direction=UP))
    client.sendall(bytes(150))
    assert read_to_end(peer) == (bytes(100), CutKind.RESET)
    client, peer = server.pair(proxy)
    client.sendall(bytes(150))
    assert read_to_end(peer) == (bytes(100), CutKind.RESET)


def test_a_cut_in_both_directions_counts_each_for_itself(proxy, server):
    proxy.add(Cut(100))
    client, peer = server.pair(proxy)
    client.sendall(bytes(60))
    assert len(read(peer, 60)) == 60
    peer.sendall(bytes(60))
    assert len(read(client, 60)) == 60
    peer.sendall(bytes(60))
    assert read_to_end(client) == (bytes(40), CutKind.RESET)


@pytest.mark.parametrize("times", [1, 2, None])
def test_a_cut_is_good_for_so_many_connections(proxy, server, times):
    cut = Cut(3, times=times)
    proxy.add(cut)
    pairs = [server.pair(proxy) for _ in range(4)]
    for number, (client, peer) in enumerate(pairs):
        client.sendall(b"12345")
        if times is None or number < times:
            assert read_to_end(peer) == (b"123", CutKind.RESET)
        else:
            assert read(peer, 5) == b"12345"
    assert proxy.fired == [cut]
    assert proxy.faults == ([cut] if times is None else [])
    proxy.remove(cut)
    assert proxy.faults == []


def test_the_same_cut_twice_is_two(proxy, server):
    proxy.add(Cut(), Cut())
    for _ in range(2):
        client, peer = server.pair(proxy)
        client.sendall(b"x")
        assert read_to_end(peer) == (b"", CutKind.RESET)
    client, peer = server.pair(proxy)
    client.sendall(b"x")
    assert read(peer, 1) == b"x"
    assert proxy.fired == [Cut(), Cut()]


def test_the_tightest_of_several_cuts_counts(proxy, server):
    proxy.add(Cut(10, times=None), Cut(7, times=None), Cut(20))
    client, peer = server.pair(proxy)
    client.sendall(bytes(100))
    assert read_to_end(peer) == (bytes(7), CutKind.RESET)
    assert proxy.fired == [Cut(7, times=None)]


@pytest.mark.parametrize("how", list(CutKind))
def test_everything_is_cut_now(proxy, server, how):
    pairs = [server.pair(proxy) for _ in range(3)]
    pairs[0][0].sendall(b"before")
    assert read(pairs[0][1], 6) == b"before"
    assert proxy.cut(how) == 3
    assert proxy.connections == 0
    for pair in pairs:
        for side in pair:
            assert read_to_end(side) == (b"", how)
    assert proxy.cut(how) == 0
    client, peer = server.pair(proxy)
    client.sendall(b"after")
    assert read(peer, 5) == b"after"


def test_an_orderly_end_is_one_for_a_side_whose_bytes_were_never_read(proxy, server, events):
    client, peer = server.pair(proxy)
    proxy.add(Deaf(UP))
    assert fill(client) > READ
    events.wait_for("Deaf")
    peer.sendall(b"goodbye")
    assert read(client, 1) == b"g"
    proxy.cut(CutKind.CLOSE)
    assert read_to_end(client) == (b"oodbye", CutKind.CLOSE)
    assert read_to_end(peer) == (b"", CutKind.CLOSE)


# -- deaf ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", [UP, DOWN])
def test_deaf_holds_bytes_and_the_end_in_its_direction_until_it_is_removed(
    proxy, server, direction, round_trip
):
    sender, receiver = ends(direction, *server.pair(proxy))
    deaf = Deaf(direction)
    proxy.add(deaf)
    assert proxy.fired == []
    sender.sendall(b"held")
    sender.shutdown(socket.SHUT_WR)
    round_trip()
    assert_silent(receiver)
    assert proxy.fired == [deaf]
    receiver.sendall(b"other way")
    assert read(sender, 9) == b"other way"
    assert_silent(receiver)
    proxy.remove(deaf)
    assert read_to_end(receiver) == (b"held", CutKind.CLOSE)


@pytest.mark.parametrize("direction", [UP, BOTH])
def test_deaf_accepts_new_connections_and_takes_them_to_the_server_later(
    proxy, server, direction, round_trip
):
    proxy.add(Deaf(direction))
    client = server.client(proxy)
    client.sendall(b"anybody?")
    round_trip()
    assert proxy.fired == [Deaf(direction)]
    assert (proxy.connections, proxy.accepted) == (1, 1)
    server.listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        server.listener.accept()
    server.listener.settimeout(TIMEOUT)
    proxy.clear()
    assert read(server.accept(), 8) == b"anybody?"


def test_deaf_holds_a_reset(proxy, server, round_trip):
    client, peer = server.pair(proxy)
    proxy.add(Deaf(DOWN))
    reset(peer)
    round_trip()
    assert_silent(client)
    proxy.clear()
    assert read_to_end(client) == (b"", CutKind.RESET)


def test_deaf_holds_a_refusal(stack, round_trip, events):
    server = Server(stack)
    server.listener.close()
    with FaultProxy(server.target, on_event=events) as proxy:
        proxy.add(Deaf(DOWN))
        client = server.client(proxy)
        events.wait_for("Deaf")
        round_trip()
        assert_silent(client)
        proxy.clear()
        assert read_to_end(client) == (b"", CutKind.RESET)


def test_deaf_holds_little_and_loses_nothing(proxy, server, round_trip):
    client, peer = server.pair(proxy)
    proxy.add(Deaf())
    sent = pushed(client, round_trip)
    assert sent < 16 * MIB
    proxy.clear()
    assert len(read(peer, sent)) == sent


def test_deaf_comes_before_a_cut(proxy, server, round_trip):
    client, peer = server.pair(proxy)
    proxy.add(Cut(), Deaf())
    client.sendall(b"x")
    round_trip()
    assert proxy.connections == 1
    proxy.remove(Deaf())
    assert read_to_end(peer) == (b"", CutKind.RESET)
    assert proxy.fired == [Deaf(), Cut()]


# -- delay ---------------------------------------------------------------------------------------


def test_delayed_bytes_arrive_in_order(proxy, server, round_trip):
    client, peer = server.pair(proxy)
    delay = Delay(0.01, jitter=0.01)
    proxy.add(delay)
    data = os.urandom(50)
    for number in range(50):
        client.sendall(data[number : number + 1])
        round_trip()
    client.shutdown(socket.SHUT_WR)
    assert read_to_end(peer) == (data, CutKind.CLOSE)
    assert proxy.fired == [delay]


@pytest.mark.timeout(30)
def test_delays_overlap(proxy, server, round_trip):
    # One after the other they would take a hundred seconds.
    client, peer = server.pair(proxy)
    proxy.add(Delay(0.5))
    for _ in range(200):
        client.sendall(b"x")
        round_trip()
    assert read(peer, 200) == b"x" * 200


def test_a_delay_leaves_the_other_direction_alone_and_ends_when_removed(proxy, server, events):
    client, peer = server.pair(proxy)
    delay = Delay(HOUR, direction=UP)
    proxy.add(delay)
    client.sendall(b"late")
    events.wait_for("Delay(seconds=3600.0, direction=Direction.UP) fired (up, 3600.000000 s)")
    peer.sendall(b"in time")
    assert read(client, 7) == b"in time"
    assert_silent(peer)
    proxy.remove(delay)
    assert read(peer, 4) == b"late"


def test_a_delay_holds_the_end_of_stream_too(proxy, server, events):
    client, peer = server.pair(proxy)
    proxy.add(Delay(HOUR))
    client.shutdown(socket.SHUT_WR)
    events.wait_for("Delay")
    assert_silent(peer)
    proxy.clear()
    assert read_to_end(peer) == (b"", CutKind.CLOSE)


def test_each_delay_in_force_adds_up(proxy, server, events):
    client, peer = server.pair(proxy)
    proxy.add(Delay(0.001), Delay(HOUR))
    client.sendall(b"x")
    events.wait_for("Delay(seconds=3600.0)")
    proxy.remove(Delay(HOUR))
    assert read(peer, 1) == b"x"
    assert proxy.fired == [Delay(0.001), Delay(HOUR)]


def test_what_a_delay_holds_is_bounded(proxy, server, round_trip):
    client, peer = server.pair(proxy)
    proxy.add(Delay(HOUR))
    sent = pushed(client, round_trip)
    assert MIB < sent < 16 * MIB
    proxy.clear()
    assert len(read(peer, sent)) == sent


def jitters(server: Server, seed: int) -> list[str]:
    """The first delays of four connections, as the proxy tells them."""
    events = Events()
    with FaultProxy(server.target, seed=seed, on_event=events) as proxy:
        proxy.add(Delay(HOUR, jitter=HOUR))
        for _ in range(4):
            client, _ = server.pair(proxy)
            client.sendall(b"x")
            events.wait_for("fired")
    return [line for line in events.seen if "fired" in line]


def test_jitter_is_as_the_seed_says(server):
    first = jitters(server, 7)
    assert first == jitters(server, 7)
    assert first != jitters(server, 8)
    assert len({line.partition("fired")[2] for line in first}) == 4


# -- throttle and slice --------------------------------------------------------------------------


def test_a_throttle_makes_bytes_wait(proxy, server, events, round_trip):
    client, peer = server.pair(proxy)
    throttle = Throttle(1, direction=UP)
    proxy.add(throttle)
    client.sendall(bytes(1000))
    events.wait_for("Throttle(bytes_per_second=1, direction=Direction.UP) fired (up)")
    peer.sendall(bytes(1000))
    assert len(read(client, 1000)) == 1000
    round_trip()
    # The first bytes pass at once; a thousand would take a quarter of an hour.
    arrived = len(peer.recv(1000))
    assert 1 <= arrived < 100
    proxy.remove(throttle)
    assert len(read(peer, 1000 - arrived)) == 1000 - arrived
    assert proxy.fired == [throttle]


def test_the_slowest_throttle_counts(proxy, server, events):
    client, peer = server.pair(proxy)
    proxy.add(Throttle(1000 * MIB), Throttle(1))
    client.sendall(bytes(1000))
    events.wait_for("Throttle(bytes_per_second=1)")
    assert len(peer.recv(1000)) < 100


def test_throttled_bytes_all_arrive(proxy, server, stack):
    client, peer = server.pair(proxy)
    proxy.add(Throttle(10 * MIB))
    data = os.urandom(MIB)
    sending(client, data, stack)
    assert read(peer, len(data)) == data


def segments(sock: socket.socket) -> int:
    """How many segments with data a socket has received (tcpi_data_segs_in)."""
    return struct.unpack_from("I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), 152)[
        0
    ]


def test_sliced_bytes_come_in_many_segments(proxy, server):
    client, peer = server.pair(proxy)
    slicing = Slice(2, direction=UP)
    proxy.add(slicing)
    client.sendall(b"ab")
    assert read(peer, 2) == b"ab"
    assert proxy.fired == []
    before = segments(peer)
    client.sendall(b"0123456789")
    assert read(peer, 10) == b"0123456789"
    assert segments(peer) - before == 5
    assert proxy.fired == [slicing]
    peer.sendall(b"0123456789")
    assert read(client, 10) == b"0123456789"
    assert segments(client) == 1


def test_a_cut_is_exact_through_everything_else(proxy, server):
    proxy.add(Cut(1001, direction=UP), Slice(7), Throttle(MIB), Delay(0.001, jitter=0.001))
    client, peer = server.pair(proxy)
    data = os.urandom(3000)
    client.sendall(data)
    assert read_to_end(peer) == (data[:1001], CutKind.RESET)
    assert proxy.fired[-1] == Cut(1001, direction=UP)


# -- where it is used ----------------------------------------------------------------------------


async def exchange(proxy: FaultProxy, server: Server) -> None:
    """Use a proxy from async code whose loop, meanwhile, is blocked by its own sockets."""
    client, peer = server.pair(proxy)
    client.sendall(b"blocked")
    assert read(peer, 7) == b"blocked"
    proxy.add(Cut(direction=DOWN))
    peer.sendall(b"x")
    assert read_to_end(client) == (b"", CutKind.RESET)


async def test_it_works_in_async_code(server):
    async with FaultProxy(server.target) as proxy:
        await exchange(proxy, server)
    assert not portals()


def test_it_works_under_anyio(server):
    async def main() -> None:
        async with FaultProxy(server.target) as proxy:
            await exchange(proxy, server)

    anyio.run(main)
    assert not portals()


async def test_leaving_it_in_a_cancelled_scope_ends_it(server):
    with anyio.CancelScope() as scope:
        async with FaultProxy(server.target) as proxy:
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert not portals()
    bind(proxy)


def test_threads_may_use_it_at_once(proxy, server):
    def use() -> None:
        for _ in range(50):
            proxy.add(Delay(0.001))
            proxy.remove(Delay(0.001))

    threads = [threading.Thread(target=use) for _ in range(4)]
    client, peer = server.pair(proxy)
    for thread in threads:
        thread.start()
    for _ in range(50):
        client.sendall(b"x")
        assert read(peer, 1) == b"x"
    for thread in threads:
        thread.join()
    assert proxy.faults == []


def threads() -> set[threading.Thread]:
    """All but AnyIO's own workers, which another test may have left to end by themselves."""
    return {thread for thread in threading.enumerate() if "AnyIO" not in thread.name}


def portals() -> list[threading.Thread]:
    """The threads that proxies run in; AnyIO's own workers belong to the loop of a test."""
    return [thread for thread in threading.enumerate() if "portal" in thread.name]


def bind(proxy: FaultProxy) -> None:
    """Take a proxy's port as one that was never used: without SO_REUSEADDR."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", int(proxy.target.partition(":")[2])))


def test_nothing_is_left_of_it(server):
    before = threads()
    with FaultProxy(server.target) as proxy, FaultProxy(server.target) as other:
        assert len(threads() - before) == 1
        pairs = [server.pair(proxy) for _ in range(5)]
        proxy.add(Delay(HOUR), Throttle(1), Slice(1))
        for client, _ in pairs:
            client.sendall(b"on its way")
        other.stop()
        assert len(threads() - before) == 1
    assert threads() <= before
    assert proxy.connections == 0
    for client, peer in pairs:
        assert read_to_end(client) == (b"", CutKind.RESET)
        assert read_to_end(peer) == (b"", CutKind.RESET)
    bind(proxy)
    proxy.stop()


def test_it_ends_while_a_server_takes_its_time_to_answer(stack):
    server = Server(stack, backlog=0)
    with FaultProxy(server.target) as proxy:
        # The backlog takes one or two; the others wait in their handshake.
        clients = [server.client(proxy) for _ in range(5)]
        assert len(clients) == 5
    assert not portals()


def test_it_may_be_stopped_and_started_again_on_its_port(server):
    proxy = FaultProxy(server.target)
    with pytest.raises(RuntimeError):
        _ = proxy.target
    proxy.add(Cut(3, times=None))
    proxy.start()
    proxy.start()
    target = proxy.target
    proxy.stop()
    proxy.stop()
    with pytest.raises(ConnectionRefusedError):
        server.client(proxy)
    with proxy:
        assert proxy.target == target
        client, peer = server.pair(proxy)
        client.sendall(b"12345")
        assert read_to_end(peer) == (b"123", CutKind.RESET)


def test_a_port_that_is_taken_is_an_error_and_leaves_no_thread(server):
    port = int(server.target.partition(":")[2])
    with pytest.raises(OSError, match="in use"):
        FaultProxy(server.target, port=port).start()
    assert not portals()


def test_a_port_may_be_chosen(server):
    with FaultProxy(server.target) as proxy:
        chosen = proxy.target
    with FaultProxy(server.target, port=int(chosen.partition(":")[2])) as proxy:
        assert proxy.target == chosen


# -- what it says --------------------------------------------------------------------------------


def test_it_says_what_happens(proxy, server, events):
    proxy.add(Cut(100))
    client, _ = server.pair(proxy)
    server.pair(proxy)
    client.sendall(bytes(100))
    events.wait_for("connection 1 closed")
    proxy.cut(CutKind.CLOSE)
    events.wait_for("connection 2 closed")
    assert events.seen == [
        "connection 1 opened",
        "connection 2 opened",
        "connection 1: Cut(after_bytes=100) fired (reset)",
        "connection 1 closed",
        "connection 2: cut (close)",
        "connection 2 closed",
    ]


@pytest.mark.loop_errors
def test_an_on_event_that_raises_is_reported_and_does_no_harm(server, caplog):
    def fail(line: str) -> None:
        raise ZeroDivisionError(line)

    with FaultProxy(server.target, on_event=fail) as proxy:
        client, peer = server.pair(proxy)
        client.sendall(b"x")
        assert read(peer, 1) == b"x"
    assert "on_event of a FaultProxy raised ZeroDivisionError: connection 1 opened" in caplog.text


@pytest.mark.loop_errors
def test_an_on_event_that_uses_the_proxy_is_told_not_to(server, caplog):
    with FaultProxy(server.target, on_event=lambda _: proxy.clear()) as proxy:
        client, peer = server.pair(proxy)
        client.sendall(b"x")
        assert read(peer, 1) == b"x"
    assert "on_event must not call the proxy's methods" in caplog.text


def test_it_shows_its_seed(server):
    assert repr(FaultProxy(server.target, seed=5)) == (
        f"FaultProxy(not started -> {server.target}, seed=5)"
    )
    one, two = FaultProxy(server.target), FaultProxy(server.target)
    assert repr(one) != repr(two)
    with one:
        assert repr(one).startswith(f"FaultProxy({one.target} -> {server.target}, seed=")


@pytest.mark.parametrize(
    ("fault", "shown", "plain"),
    [
        (
            Cut(5, how=CutKind.CLOSE),
            "Cut(after_bytes=5, how=CutKind.CLOSE)",
            {"fault": "cut", "after_bytes": 5, "how": "close", "direction": "both", "times": 1},
        ),
        (Deaf(UP), "Deaf(direction=Direction.UP)", {"fault": "deaf", "direction": "up"}),
        (
            Delay(0.5),
            "Delay(seconds=0.5)",
            {"fault": "delay", "seconds": 0.5, "jitter": 0.0, "direction": "both"},
        ),
        (
            Throttle(9),
            "Throttle(bytes_per_second=9)",
            {"fault": "throttle", "bytes_per_second": 9, "direction": "both"},
        ),
        (Slice(3), "Slice(bytes=3)", {"fault": "slice", "bytes": 3, "direction": "both"}),
    ],
)
def test_a_fault_shows_what_it_is(fault, shown, plain):
    assert repr(fault) == shown
    assert json.loads(json.dumps(fault.to_json())) == plain


@pytest.mark.parametrize(
    "make",
    [
        lambda: Cut(-1),
        lambda: Cut(1.5),
        lambda: Cut(True),
        lambda: Cut(times=0),
        lambda: Cut(how="slam"),
        lambda: Cut(direction="sideways"),
        lambda: Deaf("sideways"),
        lambda: Delay(-0.1),
        lambda: Delay(float("nan")),
        lambda: Delay(float("inf")),
        lambda: Delay("1"),
        lambda: Delay(1, jitter=-1),
        lambda: Delay(1, jitter=2),
        lambda: Delay(1, direction=None),
        lambda: Throttle(0),
        lambda: Throttle(1, direction="sideways"),
        lambda: Slice(0),
        lambda: Slice("1"),
        lambda: Slice(1, direction="sideways"),
        lambda: FaultProxy("nowhere"),
        lambda: FaultProxy(":80"),
        lambda: FaultProxy("127.0.0.1:http"),
        lambda: FaultProxy("127.0.0.1:0"),
        lambda: FaultProxy("127.0.0.1:65536"),
        lambda: FaultProxy("no such host:80"),
        lambda: FaultProxy("127.0.0.1:80").add("cut"),
        lambda: FaultProxy("127.0.0.1:80").cut("slam"),
        lambda: setattr(FaultProxy("127.0.0.1:80"), "upstream", "nowhere"),
    ],
)
def test_what_cannot_be_is_refused(make):
    with pytest.raises(ConfigurationError):
        make()
