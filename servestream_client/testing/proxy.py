"""A TCP proxy that does to connections what networks do: cut, hold back, delay, throttle, slice.

::

    with FaultProxy("127.0.0.1:9000") as proxy:
        proxy.add(Cut(after_bytes=10_000, direction=Direction.DOWN), Delay(0.02))
        client = connect(proxy.target)
        ...
        proxy.cut()

Faults may be added and removed at any time, from any thread, in blocking and in async code; a
change holds for all connections when the call returns. The proxies of a process share one event
loop in a thread of its own, so they go on while the loop of a test is blocked.

What faults in force together do to the bytes, in this order: `Deaf`, `Delay`, `Throttle`, `Slice`,
`Cut`. Several delays add up; of several throttles, slices or cuts the tightest counts.
"""

from __future__ import annotations

import asyncio
import fcntl
import random
import secrets
import socket
import struct
import termios
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import anyio
import anyio.to_thread
from anyio.from_thread import BlockingPortal, BlockingPortalProvider

from servestream_client.errors import ConfigurationError
from servestream_client.testing.network import (
    Cut,
    CutKind,
    Deaf,
    Delay,
    Direction,
    NetworkFault,
    Slice,
    Throttle,
    require,
)
from servestream_client.usercode import describe

__all__ = ["FaultProxy"]

READ_BYTES = 64 * 1024
"""How much is read at once, and held in a direction that nothing delays."""
DELAYED_BYTES = 1024 * 1024
"""How much is held in a direction with a delay; what bounds its throughput."""
DELAYED_CHUNKS = 16 * 1024
"""The same in reads: many tiny ones cost more than their bytes."""
BURST_SECONDS = 0.01
"""The grain of a throttle. Finer would only mean more wake-ups."""
LEAVE_SECONDS = 1.0
"""How long a peer that got an end of stream may go on sending before its bytes are refused."""
POLL_SECONDS = 0.001
"""How often to look whether bytes have arrived: the kernel has no event for that."""
ACCEPT_PAUSE_SECONDS = 0.1
"""How long to wait with new connections after one could not be accepted (no descriptors left)."""

# Linux's TCP_CLOSE, the first byte of TCP_INFO.
_TCP_CLOSED = 7

_provider = BlockingPortalProvider()

T = TypeVar("T")
F = TypeVar("F", Cut, Deaf, Delay, Throttle, Slice)


class FaultProxy:
    """A proxy on 127.0.0.1 in front of one server, for tests; see the module.

    Used as a context manager, blocking or async, or with `start` and `stop`. A server where nobody
    listens looks like that through the proxy, too: the connection is reset.

    Args:
        target: the server's ``host:port``.
        port: the proxy's own; 0: one that is free.
        seed: of what is drawn at random; None: a random one. It stands in the proxy's repr.
        on_event: is told in a line what happens to connections, in the proxy's thread. It must
            not call the proxy's methods.

    Raises:
        ConfigurationError: the target is no ``host:port``, or its name is unknown.
    """

    def __init__(
        self,
        target: str,
        *,
        port: int = 0,
        seed: int | None = None,
        on_event: Callable[[str], None] | None = None,
    ) -> None:
        self._port = port
        self._seed = secrets.randbits(32) if seed is None else seed
        self._core = _Core(target, self._seed, on_event)
        # Serialises the threads that use the proxy: none must ask a loop that another one ends.
        self._lock = threading.Lock()
        self._portal: BlockingPortal | None = None
        self._thread: int | None = None

    def start(self) -> None:
        """Listen. Harmless when it does already; after `stop`, on the same port again.

        Raises:
            OSError: the port is taken.
        """
        self._check_thread()
        with self._lock:
            if self._portal is not None:
                return
            portal = _provider.__enter__()
            try:
                self._port = portal.call(self._core.listen, self._port)
                self._thread = portal.call(threading.get_ident)
            except BaseException:
                _provider.__exit__(None, None, None)
                raise
            self._portal = portal

    def stop(self) -> None:
        """Reset what is open, stop listening, and end the thread with the last proxy.

        Harmless twice.
        """
        self._check_thread()
        with self._lock:
            portal, self._portal = self._portal, None
            if portal is None:
                return
            try:
                portal.call(self._core.shut)
            finally:
                self._thread = None
                _provider.__exit__(None, None, None)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await anyio.to_thread.run_sync(self.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.stop)

    @property
    def target(self) -> str:
        """Where the proxy listens, or did: ``127.0.0.1:port``.

        Raises:
            RuntimeError: it has no port yet.
        """
        if not self._port:
            raise RuntimeError("the proxy has no port before its start")
        return f"127.0.0.1:{self._port}"

    @property
    def upstream(self) -> str:
        """Where new connections go. May be set at any time; open connections stay as they are.

        Raises:
            ConfigurationError: it is no ``host:port``, or its name is unknown.
        """
        return self._core.upstream

    @upstream.setter
    def upstream(self, target: str) -> None:
        addresses = _resolve(target)
        self._run(lambda: self._core.go_to(target, addresses))

    def add(self, *faults: NetworkFault) -> None:
        """Put faults in force. The same fault added twice counts as two.

        Raises:
            ConfigurationError: something is no fault of a network.
        """
        for fault in faults:
            require(isinstance(fault, NetworkFault), f"{fault!r} is no fault of a network")
        self._run(lambda: self._core.add(faults))

    def remove(self, *faults: NetworkFault) -> None:
        """End faults; those that are not in force, a `Cut` that is used up for one, do not mind."""
        self._run(lambda: self._core.remove(faults))

    def clear(self) -> None:
        """End all faults. What has fired stays in `fired`."""
        self._run(self._core.clear)

    def cut(self, how: CutKind = CutKind.RESET) -> int:
        """End all connections now, whatever is on its way; how many there were.

        Raises:
            ConfigurationError: they cannot end so.
        """
        require(how in tuple(CutKind), "how must be a CutKind")
        return self._run(lambda: self._core.cut(how))

    @property
    def faults(self) -> list[NetworkFault]:
        """Those in force."""
        return [armed.fault for armed in list(self._core.armed)]

    @property
    def fired(self) -> list[NetworkFault]:
        """Those that had an effect, each once, in the order of their first."""
        return list(self._core.fired)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._core.links)

    @property
    def accepted(self) -> int:
        """How many clients have connected since the proxy was made."""
        return self._core.accepted

    def __repr__(self) -> str:
        own = f"127.0.0.1:{self._port}" if self._port else "not started"
        return f"FaultProxy({own} -> {self.upstream}, seed={self._seed})"

    def _run(self, func: Callable[[], T]) -> T:
        """Call something where the connections live, or here while there is no such place."""
        self._check_thread()
        with self._lock:
            return func() if self._portal is None else self._portal.call(func)

    def _check_thread(self) -> None:
        if self._thread == threading.get_ident():
            raise RuntimeError("on_event must not call the proxy's methods")


@dataclass(eq=False, slots=True)
class _Armed:
    """A fault in force. The same fault may be so twice, so these are told apart by identity."""

    fault: NetworkFault
    left: int | None
    fired: bool = False


class _Core:
    """What a proxy has on its loop; nothing of it may be called from elsewhere while it runs."""

    loop: asyncio.AbstractEventLoop

    def __init__(self, target: str, seed: int, on_event: Callable[[str], None] | None) -> None:
        self.upstream = target
        self.addresses = _resolve(target)
        self.seed = seed
        self.armed: list[_Armed] = []
        self.fired: list[NetworkFault] = []
        self.links: set[_Link] = set()
        self.leaving: set[_Leaving] = set()
        self.opening: set[asyncio.Task[None]] = set()
        self.accepted = 0
        self._on_event = on_event
        self._listener: socket.socket | None = None
        self._pause: asyncio.TimerHandle | None = None

    async def listen(self, port: int) -> int:
        self.loop = asyncio.get_running_loop()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        self._listener.setblocking(False)
        self.loop.add_reader(self._listener, self._accept, self._listener)
        bound: int = self._listener.getsockname()[1]
        return bound

    async def shut(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        if self._listener is not None:
            self.loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for link in list(self.links):
            link.end(CutKind.RESET)
        for leaving in list(self.leaving):
            leaving.close()
        await asyncio.gather(*self.opening, return_exceptions=True)

    def go_to(self, target: str, addresses: list[_Address]) -> None:
        self.upstream, self.addresses = target, addresses

    def add(self, faults: tuple[NetworkFault, ...]) -> None:
        for fault in faults:
            armed = _Armed(fault, fault.times if isinstance(fault, Cut) else None)
            for link in self.links:
                link.mark(armed)
            self.armed.append(armed)
        self._changed()

    def remove(self, faults: tuple[NetworkFault, ...]) -> None:
        for fault in faults:
            found = next((armed for armed in self.armed if armed.fault == fault), None)
            if found is not None:
                self.armed.remove(found)
        self._changed()

    def clear(self) -> None:
        self.armed.clear()
        self._changed()

    def cut(self, how: CutKind) -> int:
        links = list(self.links)
        for link in links:
            self.say(f"connection {link.number}: cut ({how})")
            link.end(how)
        return len(links)

    def use(self, armed: _Armed) -> None:
        """A connection is cut by this fault, which may have been its last."""
        if armed.left is not None:
            armed.left -= 1
            if not armed.left:
                self.armed.remove(armed)

    def fire(self, armed: _Armed, link: _Link, detail: str) -> None:
        if not armed.fired:
            armed.fired = True
            self.fired.append(armed.fault)
        self.say(f"connection {link.number}: {armed.fault!r} fired ({detail})")

    def say(self, line: str) -> None:
        if self._on_event is None:
            return
        try:
            self._on_event(line)
        except Exception as error:
            # A caller's bug. It must be seen, and must not leave a connection half done.
            text = f"on_event of a FaultProxy raised {describe(error)}"
            self.loop.call_exception_handler({"message": text, "exception": error})

    def _changed(self) -> None:
        for link in list(self.links):
            link.changed()

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:
            # The loop would call again at once, and again.
            self.loop.remove_reader(listener)
            self._pause = self.loop.call_later(
                ACCEPT_PAUSE_SECONDS, self.loop.add_reader, listener, self._accept, listener
            )
            return
        _prepare(client)
        self.accepted += 1
        link = _Link(self, self.accepted, client)
        self.links.add(link)
        self.say(f"connection {link.number} opened")
        link.advance()


class _Link:
    """A client's connection, and the one to the server that belongs to it."""

    def __init__(self, core: _Core, number: int, client: socket.socket) -> None:
        self.core = core
        self.number = number
        self.over = False
        self._client = client
        self._server: socket.socket | None = None
        self._opening: asyncio.Task[None] | None = None
        self._refused = False
        self._pipes: list[_Pipe] = []
        self._cutting: asyncio.Handle | None = None
        self._said: set[tuple[_Armed, Direction]] = set()

    def advance(self) -> None:
        """Do what can be done now."""
        if self.over:
            return
        if self._server is not None:
            for pipe in self._pipes:
                pipe.advance()
        elif self._refused:
            if not self.deaf(Direction.DOWN):
                self.end(CutKind.RESET)
        elif self._opening is None and not self.deaf(Direction.UP):
            self._opening = self.core.loop.create_task(self._open())
            self.core.opening.add(self._opening)
            self._opening.add_done_callback(self.core.opening.discard)

    def changed(self) -> None:
        """Other faults are in force."""
        for pipe in self._pipes:
            pipe.changed()
        self.advance()

    def mark(self, armed: _Armed) -> None:
        for pipe in self._pipes:
            pipe.mark(armed)

    def deaf(self, direction: Direction) -> bool:
        deaf = list(self.in_force(Deaf, direction))
        for armed, _ in deaf:
            self.fire(armed, direction)
        return bool(deaf)

    def in_force(self, kind: type[F], direction: Direction) -> Iterator[tuple[_Armed, F]]:
        for armed in self.core.armed:
            fault = armed.fault
            if isinstance(fault, kind) and fault.direction in (direction, Direction.BOTH):
                yield armed, fault

    def fire(self, armed: _Armed, direction: Direction, detail: str = "") -> None:
        """A fault has an effect; said once for each direction of a connection."""
        if (armed, direction) not in self._said:
            self._said.add((armed, direction))
            self.core.fire(armed, self, f"{direction}{detail}")

    def cut(self, armed: _Armed, how: CutKind, sink: socket.socket) -> None:
        """Cut as soon as what was sent to `sink` is there; until then no more is sent to it."""
        if self._cutting is None:
            self._cut_when_arrived(armed, how, sink)

    def _cut_when_arrived(self, armed: _Armed, how: CutKind, sink: socket.socket) -> None:
        self._cutting = None
        if armed not in self.core.armed:
            # It was removed, or used up by another connection: this one goes on.
            self.advance()
        elif _on_its_way(sink):
            self._cutting = self.core.loop.call_later(
                POLL_SECONDS, self._cut_when_arrived, armed, how, sink
            )
        else:
            self.core.fire(armed, self, how)
            self.core.use(armed)
            self.end(how)

    def reset_from(self, sink: socket.socket) -> None:
        """Sending to a side failed; that is news in the direction from there."""
        for pipe in self._pipes:
            if pipe.source is sink:
                pipe.reset()

    def end_passed(self) -> None:
        """A direction is at its end."""
        if all(pipe.ended for pipe in self._pipes):
            self.end(CutKind.CLOSE)

    def end(self, how: CutKind) -> None:
        if self.over:
            return
        self.over = True
        # First, so that who sees the end of a connection no longer finds it counted.
        self.core.links.discard(self)
        for handle in (self._opening, self._cutting):
            if handle is not None:
                handle.cancel()
        for pipe in self._pipes:
            pipe.detach()
        for side in (self._client, self._server):
            if side is None:
                continue
            if how == CutKind.RESET:
                _reset(side)
            else:
                _Leaving(self.core, side)
        self.core.say(f"connection {self.number} closed")

    async def _open(self) -> None:
        try:
            server = await _connect(self.core.loop, self.core.addresses)
        except OSError:
            self._refused = True
        else:
            self._server = server
            self._pipes = [
                _Pipe(self, Direction.UP, self._client, server),
                _Pipe(self, Direction.DOWN, server, self._client),
            ]
        self.advance()


@dataclass(slots=True)
class _Chunk:
    """What was read at once: bytes, or how the stream ended."""

    content: memoryview | CutKind
    read_at: float
    draw: float | None = field(default=None)
    """From -1 to 1: where in the range of a jitter its delay lies."""


class _Pipe:
    """One direction of a connection.

    All of it happens in `advance`, which never waits: a change of faults and a cut thus find it
    at a known byte.
    """

    def __init__(
        self, link: _Link, direction: Direction, source: socket.socket, sink: socket.socket
    ) -> None:
        self.source = source
        self.ended = False
        self._link = link
        self._loop = link.core.loop
        self._direction = direction
        self._sink = sink
        # By connection and direction, since the order in which connections are served is chance.
        self._random = random.Random(f"{link.core.seed}/{link.number}/{direction}")  # noqa: S311 — not for secrets
        self._queue: deque[_Chunk] = deque()
        self._held = 0
        self._passed = 0
        self._marks: dict[_Armed, int] = {}
        self._free_at = 0.0
        self._exhausted = False
        self._reading = False
        self._writing = False
        self._wants_to_write = False
        self._again: asyncio.Handle | None = None

    def advance(self) -> None:
        """Forward what may be forwarded now, and arrange to be called when more may."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self._wants_to_write = False
        while self._queue and not self._link.over and self._step(self._queue[0]):
            pass
        if not self._link.over:
            self._watch()

    def changed(self) -> None:
        # What a throttle has promised is void: another one may be in force.
        self._free_at = 0.0

    def mark(self, armed: _Armed) -> None:
        """A fault counts bytes from here."""
        self._marks[armed] = self._passed

    def reset(self) -> None:
        """The source is gone."""
        self._exhausted = True
        self._queue.append(_Chunk(CutKind.RESET, self._loop.time()))
        self.advance()

    def detach(self) -> None:
        if self._again is not None:
            self._again.cancel()
        if self._reading:
            self._loop.remove_reader(self.source)
        if self._writing:
            self._loop.remove_writer(self._sink)
        self._queue.clear()

    def _readable(self) -> None:
        try:
            data = self.source.recv(min(READ_BYTES, self._limit() - self._held))
        except BlockingIOError:
            return
        except OSError:
            self.reset()
            return
        self._exhausted = not data
        content = memoryview(data) if data else CutKind.CLOSE
        self._queue.append(_Chunk(content, self._loop.time()))
        self._held += len(data)
        self.advance()

    def _step(self, chunk: _Chunk) -> bool:
        """Forward a piece of the first chunk; False if it has to wait."""
        if self._link.deaf(self._direction) or self._early(chunk):
            return False
        if isinstance(chunk.content, CutKind):
            self._queue.popleft()
            self._pass_end(chunk.content)
            return True
        if self._cut():
            return False
        size = self._within_cuts(self._sliced(self._paced(len(chunk.content))))
        return size > 0 and self._send(chunk, chunk.content, size)

    def _send(self, chunk: _Chunk, data: memoryview, size: int) -> bool:
        try:
            sent = self._sink.send(data[:size])
        except BlockingIOError:
            self._wants_to_write = True
            return False
        except OSError:
            self._exhausted = True
            self._queue.clear()
            self._link.reset_from(self._sink)
            return False
        self._passed += sent
        self._held -= sent
        self._pay(sent)
        if sent == len(data):
            self._queue.popleft()
        else:
            chunk.content = data[sent:]
        if self._cut():
            return False
        if self._slicing():
            # Thousands of pieces in a row would keep every other connection waiting.
            self._again = self._loop.call_soon(self.advance)
            return False
        return True

    def _pass_end(self, how: CutKind) -> None:
        if how == CutKind.RESET:
            self._link.end(how)
            return
        with suppress(OSError):  # it has left already, and the other direction will tell
            self._sink.shutdown(socket.SHUT_WR)
        self.ended = True
        self._link.end_passed()

    def _early(self, chunk: _Chunk) -> bool:
        """Whether a delay holds the chunk, which then comes again in time."""
        delays = [
            (armed, fault.seconds + (fault.jitter * self._drawn(chunk) if fault.jitter else 0.0))
            for armed, fault in self._link.in_force(Delay, self._direction)
        ]
        due = chunk.read_at + sum(seconds for _, seconds in delays)
        if due <= self._loop.time():
            return False
        for armed, seconds in delays:
            self._link.fire(armed, self._direction, f", {seconds:.6f} s")
        self._again = self._loop.call_at(due, self.advance)
        return True

    def _drawn(self, chunk: _Chunk) -> float:
        if chunk.draw is None:
            chunk.draw = self._random.uniform(-1, 1)
        return chunk.draw

    def _slowest(self) -> tuple[_Armed, Throttle] | None:
        return min(
            self._link.in_force(Throttle, self._direction),
            key=lambda each: each[1].bytes_per_second,
            default=None,
        )

    def _paced(self, size: int) -> int:
        """How much the throttles let pass now; with 0, the chunk comes again in time."""
        slowest = self._slowest()
        if slowest is None:
            return size
        armed, fault = slowest
        if self._loop.time() < self._free_at:
            self._link.fire(armed, self._direction)
            self._again = self._loop.call_at(self._free_at, self.advance)
            return 0
        return min(size, max(1, int(fault.bytes_per_second * BURST_SECONDS)))

    def _pay(self, sent: int) -> None:
        slowest = self._slowest()
        if slowest is not None:
            # A timer that was late must not make the line slower, a pause not faster.
            start = max(self._free_at, self._loop.time() - BURST_SECONDS)
            self._free_at = start + sent / slowest[1].bytes_per_second

    def _slicing(self) -> bool:
        return any(True for _ in self._link.in_force(Slice, self._direction))

    def _sliced(self, size: int) -> int:
        for armed, fault in self._link.in_force(Slice, self._direction):
            if fault.bytes < size:
                self._link.fire(armed, self._direction)
                size = fault.bytes
        return size

    def _rooms(self) -> Iterator[tuple[int, _Armed, Cut]]:
        """How many bytes may pass before each cut."""
        for armed, fault in self._link.in_force(Cut, self._direction):
            yield fault.after_bytes - self._passed + self._marks.get(armed, 0), armed, fault

    def _within_cuts(self, size: int) -> int:
        return min([size, *(room for room, _, _ in self._rooms())])

    def _cut(self) -> bool:
        """Whether the connection has come to where it is cut.

        Asked before bytes pass, for a cut after none of them, and after they did.
        """
        for room, armed, fault in self._rooms():
            if room <= 0:
                self._link.cut(armed, fault.how, self._sink)
                return True
        return False

    def _limit(self) -> int:
        delayed = any(True for _ in self._link.in_force(Delay, self._direction))
        return DELAYED_BYTES if delayed else READ_BYTES

    def _watch(self) -> None:
        """Have the loop call for what is waited for, and only for that."""
        full = self._held >= self._limit() or len(self._queue) >= DELAYED_CHUNKS
        reading = not (self._exhausted or full)
        if reading != self._reading:
            self._reading = reading
            if reading:
                self._loop.add_reader(self.source, self._readable)
            else:
                self._loop.remove_reader(self.source)
        if self._wants_to_write != self._writing:
            self._writing = self._wants_to_write
            if self._writing:
                self._loop.add_writer(self._sink, self.advance)
            else:
                self._loop.remove_writer(self._sink)


class _Leaving:
    """A side that gets an end of stream, and is read to its own end.

    Closing a socket with unread bytes resets the connection, and what was sent may be lost.
    """

    def __init__(self, core: _Core, side: socket.socket) -> None:
        self._core = core
        self._side = side
        with suppress(OSError):  # it has left already
            side.shutdown(socket.SHUT_WR)
        core.leaving.add(self)
        core.loop.add_reader(side, self._drop)
        self._timer = core.loop.call_later(LEAVE_SECONDS, self.close)

    def close(self) -> None:
        self._timer.cancel()
        self._core.leaving.discard(self)
        self._core.loop.remove_reader(self._side)
        self._side.close()

    def _drop(self) -> None:
        try:
            if self._side.recv(READ_BYTES):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.close()


_Address = tuple[socket.AddressFamily, Any]


def _resolve(target: str) -> list[_Address]:
    """
    Raises:
        ConfigurationError: the target is no ``host:port``, or its name is unknown.
    """
    host, _, port = target.rpartition(":")
    require(
        bool(host) and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16,
        f"{target!r} is no host:port",
    )
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigurationError(f"nothing is known of {target!r}: {error}") from error
    return [(family, address) for family, _, _, _, address in found]


async def _connect(loop: asyncio.AbstractEventLoop, addresses: list[_Address]) -> socket.socket:
    """Connect to the first address where somebody listens.

    Raises:
        OSError: nobody does.
    """
    problem = OSError("no address")
    for family, address in addresses:
        side = socket.socket(family, socket.SOCK_STREAM)
        try:
            _prepare(side)
            await loop.sock_connect(side, address)
            # A port of the range that the kernel gives to clients may meet itself.
            if side.getsockname() == side.getpeername():
                raise ConnectionRefusedError("nobody but this socket itself")
        except OSError as error:
            problem = error
            side.close()
        except BaseException:
            side.close()
            raise
        else:
            return side
    raise problem


def _prepare(side: socket.socket) -> None:
    side.setblocking(False)
    # A proxy must not hold back what its clients did not.
    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _reset(side: socket.socket) -> None:
    with suppress(OSError):  # it has left already
        side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    side.close()


def _on_its_way(side: socket.socket) -> bool:
    """Whether something was sent that its receiver's kernel has not acknowledged, and still may."""
    if side.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSED:
        return False
    (count,) = struct.unpack("i", fcntl.ioctl(side, termios.TIOCOUTQ, bytes(4)))
    return bool(count)
