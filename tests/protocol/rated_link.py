"""Both ends of a stream over a link of a finite rate, in a time of its own; nothing here waits."""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import replace

from single_inputs import next_input

from servestream_client.config import FlowControl, Watchdog
from servestream_client.protocol import chunks
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.client.attempt import Attempt
from servestream_client.protocol.frames import ClientFrame, CodecId, Running, ServerFrame
from servestream_client.protocol.server import ServerOffer, ServerSession
from servestream_client.protocol.states import ServerState
from servestream_client.wire.convert import client_frame_to_wire, server_frame_to_wire

CODEC = CodecId("bytes")


class World:
    """A client and a server whose link carries so many bytes a second in each direction.

    Args:
        rate: of the link, both ways.
        interval: of the heartbeats, in seconds.
        answer: the size of an input's output.
        seed: for the phases of the timers.
        in_chunks: whether both ends cut what is large, and adapt to the link.
        delay: seconds that a frame takes besides.
    """

    def __init__(
        self,
        rate: float,
        interval: float,
        answer: Callable[[int], int],
        seed: int = 0,
        *,
        in_chunks: bool = True,
        delay: float = 0.0,
    ):
        rng = random.Random(seed)
        self.now = 0.0
        self.client = ClientSession(
            stream_id=bytes(16),
            codec=CODEC,
            flow=FlowControl(),
            watchdog=Watchdog(heartbeat_interval=interval),
        )
        self.server = ServerSession(ServerOffer(codec=CODEC))
        self.said: list[tuple[str, ClientFrame | ServerFrame]] = []
        self.dead = False
        """Whether the link carries nothing any more."""
        self.silent = ""
        self._rate = rate
        self._delay = delay
        self._in_chunks = in_chunks
        self._answer = answer
        self._events: list = []
        self._order = itertools.count()
        self._free = {"up": 0.0, "down": 0.0}
        self.client.begin()
        for end in ("client", "server"):
            self._at(rng.random() * interval / 2, self._tick, end, interval / 2)
        self.speak()

    def _at(self, when: float, what: Callable, *arguments) -> None:
        heapq.heappush(self._events, (when, next(self._order), what, arguments))

    def _send(self, way: str, frame, size: int) -> None:
        self.said.append((way, frame))
        self._free[way] = max(self.now, self._free[way]) + size / self._rate
        if not self.dead:
            self._at(self._free[way] + self._delay, self._arrive, way, frame)

    def _arrive(self, way: str, frame) -> None:
        if self.dead:
            return
        if way == "down":
            self.client.receive(1, frame)
            self._note(self.client.attempt)
            while self.client.delivery.take():
                pass
        elif not self.server.over:
            self.server.receive(frame if self._in_chunks else _of_old(frame))
            self._note(self.server)
            if self.server.state is ServerState.DECIDING:
                self.server.welcome()
            while given := next_input(self.server):
                self.server.outbox.output(
                    given.number, bytes(self._answer(given.number)), last=True
                )
        self.speak()

    def speak(self) -> None:
        while frame := self.client.next_frame():
            self._note(self.client.attempt)
            self._send("up", frame, client_frame_to_wire(frame).ByteSize())
        while frame := self.server.next_frame():
            self._note(self.server)
            self._send("down", frame, server_frame_to_wire(frame).ByteSize())

    def _note(self, end: Attempt | ServerSession) -> None:
        if self._in_chunks:  # or else sizes are to stay as they are
            end.note_time(self.now)

    def _tick(self, end: str, seconds: float) -> None:
        if end == "client":
            self.client.attempt.tick()
            if self.client.attempt.silent and not self.client.over:
                self.silent = self.silent or "server"
        else:
            if self.server.heartbeat_ms:
                self.server.tick(Running())
            if self.server.silent and self.server.state is not ServerState.LINGERING:
                self.silent = self.silent or "client"
        self.speak()
        self._at(self.now + seconds, self._tick, end, seconds)

    def run(self, until: Callable[[], bool]) -> None:
        """Let time pass until something holds, or somebody is taken for dead."""
        for _ in range(200_000):
            if until() or self.silent:
                return
            self.now, _, what, arguments = heapq.heappop(self._events)
            what(*arguments)
        raise AssertionError("nothing comes of it")


def exchange(world: World, sizes: list[int]) -> None:
    for size in sizes:
        while not world.client.ledger.fits(size):
            before = world.client.ledger.unanswered
            world.run(lambda before=before: world.client.ledger.unanswered < before)
            assert not world.silent
        world.client.push(bytes(size))
        world.speak()
    world.client.ledger.finish()
    world.speak()
    world.run(lambda: world.client.over)


def _of_old(frame: ClientFrame) -> ClientFrame:
    """As from a client that knows no chunks."""
    if frame.open is None:
        return frame
    known = [feature for feature in frame.open.features if feature != chunks.FEATURE]
    return replace(frame, open=replace(frame.open, features=known))
