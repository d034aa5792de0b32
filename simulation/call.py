"""One simulated gRPC call: the client's `Link` at one end, a replica's kit at the other.

It behaves as grpc.aio does where that matters (docs/decisions/0003): what was sent before the
server's generator returned arrives before the status; a write on a call that is over fails without
saying why; a client's half-close and its leaving look the same to a server. Frames cross as bytes,
so that the ends share no objects.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextvars import ContextVar
from typing import Protocol

from google.protobuf.message import DecodeError

from servestream_client.errors import RemoteProtocolError
from servestream_client.protocol.continuation import FEATURE
from servestream_client.protocol.frames import ClientFrame, ServerFrame
from servestream_client.server.kit import Frames, Kit
from servestream_client.transport.base import LinkStatus
from servestream_client.transport.traffic import Line
from servestream_client.wire import stream_pb2 as pb
from servestream_client.wire.convert import client_frame_to_wire, server_frame_from_wire
from simulation.books import Books
from simulation.conditions import Conditions
from simulation.faults import STATUSES, Fate, Moment, NetworkFaultKind
from simulation.pipe import Pipe

__all__ = ["CALL", "Replica", "SimulatedCall"]

CALL: ContextVar[SimulatedCall | None] = ContextVar("CALL", default=None)
"""In everything that runs for a call at its server."""


class Replica(Protocol):
    """What serves calls."""

    name: str
    kit: Kit
    calls: dict[SimulatedCall, None]
    leaving: bool


class _Leaving:
    """What the server hears when the client has nothing more to say."""


_LEAVING = _Leaving()

_ONLY = -1
"""In the place of an index, for what happens once in a call."""


class SimulatedCall:
    """See the module.

    Args:
        conditions: of its way.
        books: where it is noted what it carries.
        number: of the call.
        fate: what will happen to it.
        endpoint: the way that it takes.
    """

    def __init__(
        self,
        conditions: Conditions,
        books: Books,
        number: int,
        fate: Fate | None,
        endpoint: int = 0,
    ) -> None:
        self.endpoint: int = endpoint
        self.number: int = number
        self.name: str = f"call {number}"
        self.line: Line = Line()
        self.fate: Fate | None = fate
        self.stream_id: bytes = b""
        self.attempt: int = 0
        self.broken: bool = False
        """Whether a fault struck that may end it before its stream is complete."""
        self.status_seen: LinkStatus | None = None
        """How it ended for the client; None: it has not."""
        self.serving: asyncio.Task[None] | None = None

        self._conditions = conditions
        self._books = books
        self._loop = conditions.loop
        capacity = conditions.weather.capacity
        self._up: Pipe[bytes | _Leaving] = Pipe(
            self._loop, conditions.delay, self._at_server, capacity
        )
        self._down: Pipe[bytes | LinkStatus] = Pipe(
            self._loop, conditions.delay, self._at_client, capacity
        )
        self._inbox: deque[bytes] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._connected: asyncio.Future[None] | None = None
        self._reached = False
        self._client_frames = 0
        self._server_frames = 0
        self._half_closed = False
        self._requests = _Requests(self._loop)
        self._replica: Replica | None = None
        self._early: deque[bytes | _Leaving] = deque()  # arrived before a replica took the call

    def __repr__(self) -> str:
        return self.name

    # ---------------------------------------------------------------- the client's end

    async def send(self, frame: ClientFrame) -> bool:
        if not self._reached and self.status_seen is None:
            self._connected = self._loop.create_future()
            await self._connected
        if self.status_seen is not None:
            return False
        self._look_at(frame)
        data = self._on_the_wire(frame).SerializeToString()
        index = self._client_frames
        self._client_frames += 1
        self._books.trace.note(self.name, ("client sends", len(data)))
        self._pass_moment(Moment.CLIENT_FRAME, index, lambda: self._up.put(data))
        await self._up.writable()
        return self.status_seen is None

    def _on_the_wire(self, frame: ClientFrame) -> pb.ClientFrame:
        message = client_frame_to_wire(frame)
        if self._conditions.weather.hides and FEATURE in message.open.features:
            message.open.features.remove(FEATURE)
        return message

    def _look_at(self, frame: ClientFrame) -> None:
        if frame.open is not None:
            self.stream_id, self.attempt = frame.open.stream_id, frame.open.attempt
        if frame.inputs:
            self._books.note_inputs(self, frame)

    async def half_close(self) -> None:
        if self.status_seen is None and not self._half_closed:
            self._half_closed = True
            self.broken |= self._books.leaves_by_itself(self)
            self._books.trace.note(self.name, "client half-closes")
            self._pass_moment(Moment.HALF_CLOSE, _ONLY, lambda: self._up.put(_LEAVING))

    async def frames(self) -> AsyncGenerator[ServerFrame, None]:
        while True:
            while self._inbox:
                try:
                    message = pb.ServerFrame.FromString(self._inbox.popleft())
                except DecodeError:
                    raise RemoteProtocolError("a message that is no frame") from None
                yield server_frame_from_wire(message)
                self._books.look_at_client(self)
            if self.status_seen is not None:
                return
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None

    async def status(self) -> LinkStatus:
        return self.status_seen or LinkStatus("UNKNOWN", "asked before the end")

    def avoid_connection(self) -> None:
        """Every call has its own."""

    def cancel(self) -> None:
        if self.status_seen is not None:
            return
        self._books.trace.note(self.name, "client cancels")
        self._inbox.clear()
        self._down.close()
        self._end_at_client(LinkStatus("CANCELLED", "Locally cancelled by application!"))
        rng, weather = self._conditions.rng, self._conditions.weather
        late = rng.random() * weather.late_cancel if rng.random() < 0.3 else 0.0
        self._up.close(keep=rng.randint(0, self._up.under_way))
        if not self._up.stalled:
            self._conditions.later(late, self._hear_of_the_end)

    def _at_client(self, message: bytes | LinkStatus) -> None:
        if isinstance(message, LinkStatus):
            self._end_at_client(message)
            return
        self._inbox.append(message)
        self._wake()

    def _end_at_client(self, status: LinkStatus) -> None:
        if self.status_seen is not None:
            return
        self.status_seen = status
        self._books.trace.note(self.name, ("ends at the client", status.code))
        self._down.close()
        self._up.close(keep=self._up.under_way)  # what is on its way may still arrive
        self._wake()
        self._let_send()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _let_send(self) -> None:
        if self._connected is not None and not self._connected.done():
            self._connected.set_result(None)

    # ---------------------------------------------------------------- the network

    def reach(self, replica: Replica) -> None:
        """A replica takes the call."""
        self.broken |= replica.leaving  # it will be refused
        if self.status_seen is not None and not self._reached:
            return  # the client has left before
        self._books.trace.note(self.name, f"reaches {replica.name}")
        self._reached = True
        self._replica = replica
        replica.calls[self] = None
        self.serving = self._loop.create_task(self._serve(replica), name=f"sim {self.name}")
        self._let_send()
        while self._early:
            self._at_server(self._early.popleft())
        fate = self.fate
        if fate is not None and fate.moment is Moment.SECONDS:
            self._conditions.later(fate.at, self._strike)

    def fail(self, kind: NetworkFaultKind, status: LinkStatus | None = None) -> None:
        """It ends for the client; the server hears of it at some time, or never."""
        if self.status_seen is not None or self._down.closed:
            return
        self._books.note_fault(kind, self)
        self.broken = True
        rng, weather = self._conditions.rng, self._conditions.weather
        self._down.close(keep=rng.randint(0, self._down.under_way), last=status or STATUSES[kind])
        self._up.close(keep=rng.randint(0, self._up.under_way))
        if rng.random() >= weather.deaf:
            self._conditions.later(
                rng.choice((0.0, 0.01, 1.0, 20.0)) * rng.random(), self._hear_of_the_end
            )

    def crash(self, status: LinkStatus) -> None:
        """Its replica has died."""
        self.fail(NetworkFaultKind.CRASH, status)
        self.hang_up()

    def hang_up(self) -> None:
        """End the server's side at once."""
        self._up.close()
        self._down.close(keep=self._down.under_way)
        self._requests.end()
        if self.serving is not None:
            self.serving.cancel()

    def _pass_moment(self, moment: Moment, index: int, proceed: Callable[[], None]) -> None:
        """Do what is to be done, and before or after it what the call's fate is, if this is its
        moment.
        """
        fate = self.fate
        if fate is None or fate.moment is not moment or index not in (fate.at, _ONLY):
            proceed()
            return
        if fate.before:
            self._strike()
            proceed()
        else:
            proceed()
            self._strike()

    def _strike(self) -> None:
        fate, self.fate = self.fate, None
        if fate is None or self.status_seen is not None or not self._conditions.faulty:
            return
        if fate.kind is NetworkFaultKind.STALL:
            self._books.note_fault(fate.kind, self)
            pipe = self._up if fate.before else self._down
            pipe.stall()
            self.broken |= fate.seconds > self._books.patience
            self._conditions.later(fate.seconds, pipe.heal)
        elif fate.kind is NetworkFaultKind.HALF_OPEN:
            self._books.note_fault(fate.kind, self)
            self.broken = True
            for pipe in (
                (self._up, self._down) if self._conditions.rng.random() < 0.5 else (self._down,)
            ):
                pipe.stall()
        else:
            self.fail(fate.kind)

    def _hear_of_the_end(self) -> None:
        """The server learns that the client is gone."""
        self._requests.end()
        if self._conditions.weather.cancels_task and self.serving is not None:
            self.serving.cancel()

    # ---------------------------------------------------------------- the server's end

    async def _serve(self, replica: Replica) -> None:
        CALL.set(self)
        frames: Frames | None = None
        try:
            frames = replica.kit.frames(self._requests)
            async for message in frames:
                await self._respond(message)
            self._down.close(keep=self._down.under_way, last=LinkStatus("OK"))
        except asyncio.CancelledError:
            self._down.close(keep=self._down.under_way, last=LinkStatus("CANCELLED", "by server"))
        except Exception as error:
            self._books.violate(f"{self.name}: the kit raised {error!r}")
            self._down.close(last=LinkStatus("UNKNOWN", repr(error)))
        finally:
            if frames is not None:
                await frames.aclose()
            replica.calls.pop(self, None)
            self._requests.end()
            self._books.trace.note(self.name, f"is over at {replica.name}")

    async def _respond(self, message: pb.ServerFrame) -> None:
        data = message.SerializeToString()
        index = self._server_frames
        self._server_frames += 1
        self._books.trace.note(self.name, ("server sends", len(data)))
        is_end = isinstance(message, pb.ServerFrame) and message.HasField("end")
        if isinstance(message, pb.ServerFrame):
            self._books.note_answers(self, message)
            if self._replica is not None:
                self._books.look_at_server(self, self._replica.kit)

        def proceed() -> None:
            self._down.put(data)

        if is_end:
            self._pass_moment(Moment.SERVER_END, _ONLY, proceed)
        else:
            self._pass_moment(Moment.SERVER_FRAME, index, proceed)
        await self._down.writable()

    def _at_server(self, message: bytes | _Leaving) -> None:
        if self._replica is None:
            self._early.append(message)
        elif not isinstance(message, _Leaving):
            self._requests.feed(message)
        else:
            self._requests.end()


class _Requests:
    """What a server iterates: the client's messages, until it has nothing more to say."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._messages: deque[bytes] = deque()
        self._ended = False
        self._reader: asyncio.Future[None] | None = None

    def feed(self, message: bytes) -> None:
        if not self._ended:
            self._messages.append(message)
            self._wake()

    def end(self) -> None:
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def __aiter__(self) -> _Requests:
        return self

    async def __anext__(self) -> pb.ClientFrame:
        while not self._messages:
            if self._ended:
                raise StopAsyncIteration
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        message = pb.ClientFrame.FromString(self._messages.popleft())
        call = CALL.get()
        if call is not None:
            call._books.note_received(call, message)
        return message
