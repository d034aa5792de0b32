"""One attempt at its server: a reader around a `ServerSession`, and the workers it feeds.

The reader runs in a task of its own, and the generator that the RPC iterates only hands out
frames: no task group or cancel scope is ever open across a ``yield`` (PEP 789). All tasks are plain
asyncio tasks, cancelled once: a handler that will not be cancelled then keeps its own place and
nothing else, while a cancel scope would nag it at every turn of the event loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from google.protobuf.message import DecodeError

from servestream_client.errors import FrameLostError, RemoteProtocolError
from servestream_client.protocol.coming import seconds_for, too_slow
from servestream_client.protocol.frames import Load, ServerFrame, StreamErrorKind
from servestream_client.protocol.pulse import TICKS_PER_INTERVAL
from servestream_client.protocol.server import ServerOffer, ServerSession
from servestream_client.protocol.states import ServerState
from servestream_client.server.active_attempts import Account, ActiveAttempts
from servestream_client.server.admission import AdmissionControl
from servestream_client.server.state_holder import StateHolder
from servestream_client.server.stream_fold import StreamFold
from servestream_client.server.workers import Workers
from servestream_client.signals import Signal, being_cancelled
from servestream_client.usercode import contained, describe, report
from servestream_client.wire import stream_pb2 as pb
from servestream_client.wire.convert import client_frame_from_wire, server_frame_to_wire

__all__ = ["LINGER_SECONDS", "OPEN_SECONDS", "AttemptRunner", "ToWire"]

logger: logging.Logger = logging.getLogger(__name__)

LINGER_SECONDS = 2.0
"""How long a server waits for the client's half-close after its last frame. A call that ends
while the client still writes loses what was sent (docs/decisions/0003)."""


OPEN_SECONDS = 30.0
"""How long a call may say nothing at all before it is ended: it occupies a place."""

_LEAVING_SECONDS = 1.0
"""For the way of answers that are there already."""

_DRAINABLE = frozenset({ServerState.SERVING, ServerState.FINISHING, ServerState.DRAINING})


ToWire: TypeAlias = Callable[[ServerFrame], pb.ServerFrame]


class AttemptRunner:
    """Serves one call.

    Args:
        offer: what the service says of itself.
        workers: answer the inputs.
        requests: the client's messages.
        admission: decides whether it is served.
        active: the event loop's other attempts.
        fold: the state of a stateful stream; None: it is none.
        to_wire: makes messages of frames; None: those of protobuf.
    """

    def __init__(
        self,
        offer: ServerOffer,
        workers: Workers,
        requests: AsyncIterable[pb.ClientFrame],
        *,
        admission: AdmissionControl,
        active: ActiveAttempts,
        fold: StreamFold | None = None,
        to_wire: ToWire | None = None,
    ) -> None:
        self.session: ServerSession = ServerSession(offer)
        self._to_wire = to_wire or server_frame_to_wire
        self.context: contextvars.Context = contextvars.copy_context()
        self.fold: StateHolder | None = fold
        if fold is not None:
            fold.belongs_to(self)
        self._workers = workers
        self._requests = requests
        self._admission = admission
        self._active = active
        self._outbound = Signal()  # there may be a frame to send
        self._linger_until: float | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._opening: asyncio.TimerHandle | None = None
        self._left = False  # it was said that nothing can be started any more
        self._leaves_at = math.inf  # when its grace is over, in the event loop's time
        self._leaving: asyncio.TimerHandle | None = None
        self._more_grace = 0.0  # seconds that what was on its way got beyond it

    @property
    def attempt(self) -> int:
        """The attempt's number; 0 before its open came."""
        opened = self.session.opened
        return opened.attempt if opened is not None else 0

    @property
    def to_compute(self) -> int:
        """How many inputs came that are computed, or are to be."""
        if self.session.over:
            return 0
        open_inputs = self.session.outbox.open
        return len(open_inputs) - sum(map(open_inputs.__contains__, self._workers.paused(self)))

    @property
    def account(self) -> Account:
        """What has become of its inputs so far."""
        session = self.session
        outbox, waiting = session.outbox, 0
        if not session.over:
            waiting = session.intake.waiting.count + self._workers.given_back(self)
        return Account(len(outbox.open) - waiting, waiting, outbox.answered, outbox.failures.sent)

    async def frames(self) -> AsyncGenerator[pb.ServerFrame, None]:
        """What to send, until the attempt is over. Closing this ends the attempt."""
        session = self.session
        loop = asyncio.get_running_loop()
        reader: asyncio.Task[None] | None = None
        self._active.arrive(self)
        try:
            # What died before its open came would never be missed otherwise: it promised no
            # heartbeats.
            self._opening = loop.call_later(OPEN_SECONDS, self._expect_open)
            reader = loop.create_task(self._watched(self._read), name="servestream reader")
            while not session.over:
                message = self._next_message()
                if message is not None:
                    session.note_time(loop.time())
                    yield message
                    del message
                    self._workers.offer(self)  # what went out makes room for what waits
                elif not await self._wait(loop):
                    return
        finally:
            if not session.over:
                session.half_close()  # whatever closes this, the client has gone
            self._workers.cancel(self)
            self._active.unregister(self, session.opened.stream_id if session.opened else None)
            for timer in (self._ticking, self._opening, self._leaving):
                if timer is not None:
                    timer.cancel()
            if reader is not None:
                reader.cancel()
                # Only an admit() that will not be cancelled could take longer than a moment.
                await asyncio.wait({reader}, timeout=LINGER_SECONDS)

    def _next_message(self) -> pb.ServerFrame | None:
        """The next frame, if there is one. Should it be unfit to be sent, the attempt says so."""
        try:
            frame = self.session.next_frame()
            return None if frame is None else self._to_wire(frame)
        except Exception as error:
            logger.exception("a frame cannot be sent")
            self.give_up(StreamErrorKind.INTERNAL, f"internal: {describe(error)}")
            frame = self.session.next_frame()
            if frame is None:
                raise  # it was the last word, and gRPC says it instead
            return server_frame_to_wire(frame)

    async def _wait(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Wait for something to say; False once the client has had its time to take leave."""
        if self.session.state is not ServerState.LINGERING:
            await self._outbound.wait()
            return True
        if self._linger_until is None:
            # The client half-closes once it has read what is still on its way.
            self._linger_until = loop.time() + LINGER_SECONDS + seconds_for(self.session.under_way)
        try:
            async with asyncio.timeout_at(self._linger_until):
                await self._outbound.wait()
        except TimeoutError:
            return False
        return True

    def wake_writer(self) -> None:
        """There may be something to send."""
        self._outbound.set()

    def report(self, load: Load) -> None:
        """Tell the client how busy this server is, if that is news."""
        if self.session.report(load):
            self._outbound.set()

    def supersede(self) -> None:
        """A higher attempt of this stream came: nobody reads this one any more."""
        self.give_up(StreamErrorKind.SUPERSEDED, "a higher attempt of this stream took its place")

    def leave(self, text: str) -> None:
        """The process can start nothing more: what is answered is sent, and that is all."""
        if not self._left:
            self._left = True
            logger.error("%s", text)
            self.drain(_LEAVING_SECONDS)

    def drain(self, grace: float) -> None:
        """Ask the client to go elsewhere; for `grace` seconds what was sent is still answered.

        Before its welcome it is asked right after that. Asked twice, it has the shorter time.
        """
        leaves_at = asyncio.get_running_loop().time() + grace
        if leaves_at < self._leaves_at:
            self._leaves_at = leaves_at
            self._ask_to_leave()

    def _ask_to_leave(self) -> None:
        if self._leaves_at == math.inf or self.session.state not in _DRAINABLE:
            return
        loop = asyncio.get_running_loop()
        self.session.drain(max(0, round((self._leaves_at - loop.time()) * 1000)))
        self._settle()
        self._outbound.set()
        if self._leaving is not None:
            self._leaving.cancel()
        self._leaving = loop.call_at(self._leaves_at, self._grace_over)

    def _expect_open(self) -> None:
        if self.session.state is ServerState.AWAITING_OPEN:
            self.give_up(StreamErrorKind.SILENCE, "no open frame came")

    def _grace_over(self) -> None:
        more, self._more_grace = seconds_for(self.session.under_way) - self._more_grace, math.inf
        if more > 0:  # what is on its way gets its time, once
            self._leaving = asyncio.get_running_loop().call_later(more, self._grace_over)
            return
        self.give_up(StreamErrorKind.INTERNAL, "this server is leaving, and its grace is over")

    def give_up(self, kind: StreamErrorKind, text: str) -> None:
        if not self.session.over:
            self.session.give_up(kind, text)
        self._workers.cancel(self)
        self._outbound.set()

    def stop(self) -> None:
        """Compute nothing more; what has been answered still leaves."""
        self.session.intake.close()
        self._workers.cancel(self)
        self._outbound.set()

    # ---------------------------------------------------------------- heartbeats

    def _tick_later(self) -> None:
        interval_ms = self.session.heartbeat_ms
        if interval_ms and not self.session.over:
            self._ticking = asyncio.get_running_loop().call_later(
                interval_ms / 1000 / TICKS_PER_INTERVAL, self._tick
            )

    def _settle(self) -> None:
        """Give the state of a stateful stream, if it is time to."""
        if self.fold is not None:
            self.fold.settle()

    def _tick(self) -> None:
        session = self.session
        session.tick(self._workers.running(self))
        self._settle()
        if session.silent and session.state is not ServerState.LINGERING:
            # A client that is there but was not heard learns why; others cannot.
            why, awaited = session.intake.late_chunks, session.awaited
            if awaited is not None:
                why = too_slow(awaited, "input")
            text = f"nothing was heard of the client for too long{why and f': {why}'}"
            self.give_up(StreamErrorKind.SILENCE, text)
        self._outbound.set()
        self._tick_later()

    # ---------------------------------------------------------------- the reader

    async def _watched(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run the reader; its failure is the attempt's, whatever it may be."""
        try:
            await work()  # made here: a task cancelled before it starts would leave it unawaited
        except GeneratorExit:
            raise  # the event loop is gone, and with it everybody who could be told
        except BaseException as error:
            self.give_up(StreamErrorKind.INTERNAL, f"internal: {describe(error)}")
            failure = contained(error, "the stream's reader", awaited=True)
            report(logger, logging.ERROR, "an attempt failed for an internal reason", failure)

    async def _read(self) -> None:
        """Read until the client has nothing more to say. Never stops reading before: an
        unread input stream blocks the peer, and a timed-out one never comes back.
        """
        session, loop = self.session, asyncio.get_running_loop()
        messages = aiter(self._requests)
        try:
            while (message := await self._next_of(messages)) is not None:
                if session.over:
                    continue
                try:
                    session.receive(client_frame_from_wire(message))
                    session.note_time(loop.time())
                    if (
                        session.state is ServerState.DECIDING
                        and session.opened is not None
                        and await self._admission.decide(self, session.opened)
                    ):
                        self._tick_later()
                        self._ask_to_leave()
                        if self._active.load is not None:
                            self.report(self._active.load)
                except FrameLostError as error:
                    self.give_up(StreamErrorKind.INTERNAL, str(error))
                except RemoteProtocolError as error:
                    self._blame(str(error))
                self._settle()
                message = None  # its payloads are not to be held while waiting for the next
                cancelled = session.intake.take_cancelled()
                if cancelled:
                    self._workers.cancel(self, cancelled)
                self._workers.offer(self)
                self._outbound.set()
        except DecodeError:
            self._blame("a message that is no frame")
            return  # nothing more can be read, not even a half-close
        if not session.over:
            session.half_close()
        self._workers.cancel(self)
        self._outbound.set()

    async def _next_of(self, messages: AsyncIterator[pb.ClientFrame]) -> pb.ClientFrame | None:
        """The client's next message; None: the call is over, in whatever way."""
        try:
            return await anext(messages)
        except StopAsyncIteration:
            return None
        except asyncio.CancelledError as error:
            if being_cancelled():
                raise
            logger.debug("the call was ended: %s", describe(error))
        except Exception as error:
            if not type(error).__module__.startswith("grpc"):
                raise
            logger.debug("the call was ended: %s", describe(error))
        return None

    def _blame(self, text: str) -> None:
        logger.warning("the client broke the protocol: %s", text)
        self.give_up(StreamErrorKind.PROTOCOL, text)
