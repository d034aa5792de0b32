"""What a proxy has on its event loop: its listener, and its clients' connections.

Core, link and pipe refer to one another: a connection that ends is no longer counted, and one whose
cut has come ends both of its directions.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from servestream_client.testing.network import CutKind, Deaf, Direction, NetworkFault
from servestream_client.testing.proxy.leaving import Leaving
from servestream_client.testing.proxy.shaping import Armed, Chunk, InForce, Shaping
from servestream_client.testing.proxy.sockets import (
    Address,
    connect,
    on_its_way,
    prepare,
    reset,
    resolve,
)
from servestream_client.usercode import describe

__all__ = ["Core"]

READ_BYTES = 64 * 1024
"""How much is read at once, and held in a direction that nothing delays."""
DELAYED_BYTES = 1024 * 1024
"""How much is held in a direction with a delay; what bounds its throughput."""
DELAYED_CHUNKS = 16 * 1024
"""The same in reads: many tiny ones cost more than their bytes."""
POLL_SECONDS = 0.001
"""How often to look whether bytes have arrived: the kernel has no event for that."""
ACCEPT_PAUSE_SECONDS = 0.1
"""How long to wait with new connections after one could not be accepted (no descriptors left)."""


class Core:
    """A listener and the connections it made: each that is open stands in `links`, each side that
    still leaves in `leaving`, and `shut` leaves nothing of either.

    Nothing of it may be called from elsewhere while its loop runs.
    """

    loop: asyncio.AbstractEventLoop

    def __init__(self, target: str, seed: int, on_event: Callable[[str], None] | None) -> None:
        self.upstream: str = target
        self.addresses: list[Address] = resolve(target)
        self.seed: int = seed
        self.in_force: InForce = InForce()
        self.links: set[Link] = set()
        self.leaving: set[Leaving] = set()
        self.opening: set[asyncio.Task[None]] = set()
        self.accepted: int = 0
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

    def go_to(self, target: str, addresses: list[Address]) -> None:
        self.upstream, self.addresses = target, addresses

    def add(self, faults: tuple[NetworkFault, ...]) -> None:
        for fault in faults:
            armed = self.in_force.add(fault)
            for link in self.links:
                link.mark(armed)
        self._changed()

    def remove(self, faults: tuple[NetworkFault, ...]) -> None:
        for fault in faults:
            self.in_force.remove(fault)
        self._changed()

    def clear(self) -> None:
        self.in_force.clear()
        self._changed()

    def cut(self, how: CutKind) -> int:
        links = list(self.links)
        for link in links:
            self.say(f"connection {link.number}: cut ({how})")
            link.end(how)
        return len(links)

    def fire(self, armed: Armed, link: Link, detail: str) -> None:
        self.in_force.fire(armed)
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
        prepare(client)
        self.accepted += 1
        link = Link(self, self.accepted, client)
        self.links.add(link)
        self.say(f"connection {link.number} opened")
        link.advance()


class Link:
    """A client's connection, and the one to the server that belongs to it: both sides end together,
    and once.
    """

    def __init__(self, core: Core, number: int, client: socket.socket) -> None:
        self.core: Core = core
        self.number: int = number
        self.over: bool = False
        self._client = client
        self._server: socket.socket | None = None
        self._opening: asyncio.Task[None] | None = None
        self._refused = False
        self._pipes: list[Pipe] = []
        self._cutting: asyncio.Handle | None = None
        self._said: set[tuple[Armed, Direction]] = set()

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
            pipe.shaping.changed()
        self.advance()

    def mark(self, armed: Armed) -> None:
        for pipe in self._pipes:
            pipe.shaping.mark(armed)

    def deaf(self, direction: Direction) -> bool:
        deaf = list(self.core.in_force.of(Deaf, direction))
        for armed, _ in deaf:
            self.fire(armed, direction)
        return bool(deaf)

    def fire(self, armed: Armed, direction: Direction, detail: str = "") -> None:
        """A fault has an effect; said once for each direction of a connection."""
        if (armed, direction) not in self._said:
            self._said.add((armed, direction))
            self.core.fire(armed, self, f"{direction}{detail}")

    def cut(self, armed: Armed, how: CutKind, sink: socket.socket) -> None:
        """Cut as soon as what was sent to `sink` is there; until then no more is sent to it."""
        if self._cutting is None:
            self._cut_when_arrived(armed, how, sink)

    def _cut_when_arrived(self, armed: Armed, how: CutKind, sink: socket.socket) -> None:
        self._cutting = None
        if armed not in self.core.in_force:
            # It was removed, or used up by another connection: this one goes on.
            self.advance()
        elif on_its_way(sink):
            self._cutting = self.core.loop.call_later(
                POLL_SECONDS, self._cut_when_arrived, armed, how, sink
            )
        else:
            self.core.fire(armed, self, how)
            self.core.in_force.use(armed)
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
        # First, so that a peer that sees the end of a connection no longer finds it counted.
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
                reset(side)
            else:
                Leaving(self.core.loop, side, self.core.leaving)
        self.core.say(f"connection {self.number} closed")

    async def _open(self) -> None:
        try:
            server = await connect(self.core.loop, self.core.addresses)
        except OSError:
            self._refused = True
        else:
            self._server = server
            self._pipes = [
                Pipe(self, Direction.UP, self._client, server),
                Pipe(self, Direction.DOWN, server, self._client),
            ]
        self.advance()


class Pipe:
    """One direction of a connection: it holds a bounded number of bytes, and passes them in order.

    All of it happens in `advance`, which never waits: a change of faults and a cut thus find it
    at a known byte.
    """

    def __init__(
        self, link: Link, direction: Direction, source: socket.socket, sink: socket.socket
    ) -> None:
        self.source: socket.socket = source
        self.ended: bool = False
        self._link = link
        self._loop = link.core.loop
        self._direction = direction
        self._sink = sink
        # By connection and direction, since the order in which connections are served is chance.
        rng = random.Random(f"{link.core.seed}/{link.number}/{direction}")  # noqa: S311 — not for secrets
        self.shaping: Shaping = Shaping(
            link.core.in_force,
            direction,
            rng,
            lambda armed, detail: link.fire(armed, direction, detail),
        )
        self._queue: deque[Chunk] = deque()
        self._held = 0
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

    def reset(self) -> None:
        """The source is gone."""
        self._exhausted = True
        self._queue.append(Chunk(CutKind.RESET, self._loop.time()))
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
        self._queue.append(Chunk(content, self._loop.time()))
        self._held += len(data)
        self.advance()

    def _step(self, chunk: Chunk) -> bool:
        """Forward a piece of the first chunk; False if it has to wait."""
        if self._link.deaf(self._direction) or self._delayed(chunk):
            return False
        if isinstance(chunk.content, CutKind):
            self._queue.popleft()
            self._pass_end(chunk.content)
            return True
        if self._cut():
            return False
        size = self.shaping.size(len(chunk.content), self._loop.time())
        if not size:
            self._again = self._loop.call_at(self.shaping.free_at, self.advance)
            return False
        return self._send(chunk, chunk.content, size)

    def _send(self, chunk: Chunk, data: memoryview, size: int) -> bool:
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
        self._held -= sent
        self.shaping.passed(sent, self._loop.time())
        if sent == len(data):
            self._queue.popleft()
        else:
            chunk.content = data[sent:]
        if self._cut():
            return False
        if self.shaping.slices:
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

    def _delayed(self, chunk: Chunk) -> bool:
        """Whether a delay holds the chunk, which then comes again in time."""
        due = self.shaping.held_until(chunk, self._loop.time())
        if due is None:
            return False
        self._again = self._loop.call_at(due, self.advance)
        return True

    def _cut(self) -> bool:
        """Whether the connection has come to where it is cut."""
        due = self.shaping.due_cut()
        if due is None:
            return False
        self._link.cut(*due, self._sink)
        return True

    def _limit(self) -> int:
        return DELAYED_BYTES if self.shaping.delays else READ_BYTES

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
