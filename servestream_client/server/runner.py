"""One attempt at its server: reader, dispatcher and handlers around a `ServerSession`.

They run in a task of their own, and the generator that the RPC iterates only hands out frames: no
task group is ever open across a ``yield`` (PEP 789).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Sequence

import anyio
import anyio.abc

from servestream_client.errors import ItemErrorKind, RemoteProtocolError, printable
from servestream_client.protocol.frames import Open, RefusalKind, StreamErrorKind
from servestream_client.protocol.server import Input, ServerOffer, ServerSession
from servestream_client.protocol.states import ServerState
from servestream_client.server.admission import Refuse
from servestream_client.server.handlers import Handler
from servestream_client.signals import Signal
from servestream_client.wire import stream_pb2 as pb
from servestream_client.wire.convert import client_frame_from_wire, server_frame_to_wire

__all__ = ["LINGER_SECONDS", "AttemptRunner", "Residents"]

logger = logging.getLogger(__name__)

LINGER_SECONDS = 2.0
"""How long a server waits for the client's half-close after its last frame. A call that ends
while the client still writes loses what was sent (docs/decisions/0003)."""


class Residents:
    """The attempts that run in this process, one a stream: a higher one ends a lower one."""

    def __init__(self) -> None:
        self._runners: dict[bytes, AttemptRunner] = {}

    def enter(self, runner: AttemptRunner, opened: Open) -> bool:
        """Let an attempt in.

        Returns:
            False if a higher attempt of the same stream is here already.
        """
        resident = self._runners.get(opened.stream_id)
        if resident is not None and resident is not runner:
            if resident.attempt > opened.attempt:
                return False
            resident.supersede()
        self._runners[opened.stream_id] = runner
        return True

    def leave(self, runner: AttemptRunner, stream_id: bytes) -> None:
        if self._runners.get(stream_id) is runner:
            del self._runners[stream_id]


class AttemptRunner:
    """Serves one call.

    Args:
        offer: what the service says of itself.
        handler: answers the inputs.
        requests: the client's messages.
        admit: raises `Refuse` for a stream that is not to be served.
        residents: the process's other attempts.
    """

    def __init__(
        self,
        offer: ServerOffer,
        handler: Handler,
        requests: AsyncIterable[pb.ClientFrame],
        *,
        admit: Callable[[Open], Awaitable[None]],
        residents: Residents,
    ) -> None:
        self._session = ServerSession(offer)
        self._handler = handler
        self._requests = requests
        self._admit = admit
        self._residents = residents
        self._outbound = Signal()
        self._work = Signal()
        self._scopes: dict[int, anyio.CancelScope] = {}
        self._places = 0  # among the handler's, held by this attempt

    @property
    def attempt(self) -> int:
        """The attempt's number; 0 before its open came."""
        opened = self._session.opened
        return opened.attempt if opened is not None else 0

    async def frames(self) -> AsyncGenerator[pb.ServerFrame, None]:
        """What to send, until the attempt is over. Closing this ends the attempt."""
        session = self._session
        engine = asyncio.get_running_loop().create_task(self._run(), name="servestream attempt")
        try:
            while not session.over:
                frame = session.next_frame()
                if frame is not None:
                    yield server_frame_to_wire(frame)
                    self._work.set()  # what went out makes room for what waits
                elif not await self._wait():
                    return
        finally:
            engine.cancel()
            await asyncio.wait({engine})
            if session.opened is not None:
                self._residents.leave(self, session.opened.stream_id)

    async def _wait(self) -> bool:
        """Wait for something to say; False once the client has had its time to take leave."""
        if self._session.state is not ServerState.LINGERING:
            await self._outbound.wait()
            return True
        with anyio.move_on_after(LINGER_SECONDS):
            await self._outbound.wait()
            return True
        return False

    def supersede(self) -> None:
        """A higher attempt of this stream came: nobody reads this one any more."""
        if not self._session.over:
            self._session.give_up(
                StreamErrorKind.SUPERSEDED, "a higher attempt of this stream took its place"
            )
            self._stop_handlers()
            self._outbound.set()

    # ---------------------------------------------------------------- the engine

    async def _run(self) -> None:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._dispatch, group)
                await self._read()
                group.cancel_scope.cancel()
        except Exception as error:
            logger.exception("an attempt failed for an internal reason")
            if not self._session.over:
                self._session.give_up(StreamErrorKind.INTERNAL, f"internal: {type(error).__name__}")
        finally:
            # A handler's task that was cancelled before its first step gave nothing back.
            while self._places:
                self._give_back()
            self._outbound.set()

    async def _read(self) -> None:
        """Read until the client has nothing more to say. Never stops reading before: an
        unread input stream blocks the peer, and a timed-out one never comes back.
        """
        session = self._session
        try:
            async for message in self._requests:
                if session.over:
                    continue
                try:
                    await self._take_in(message)
                except RemoteProtocolError as error:
                    logger.warning("the client broke the protocol: %s", error)
                    session.give_up(StreamErrorKind.PROTOCOL, str(error))
                if session.state is ServerState.LINGERING:
                    self._stop_handlers()
                self._cancel_items(session.take_cancelled())
                self._work.set()
                self._outbound.set()
        finally:
            if not session.over:
                session.half_close()
            self._stop_handlers()
            self._outbound.set()

    async def _take_in(self, message: pb.ClientFrame | None) -> None:
        if message is None:  # grpc.aio's word for a message that does not parse
            raise RemoteProtocolError("a message that is no frame")
        session = self._session
        session.receive(client_frame_from_wire(message))
        if session.state is ServerState.DECIDING and session.opened is not None:
            await self._decide(session.opened)

    async def _decide(self, opened: Open) -> None:
        session = self._session
        try:
            await self._admit(opened)
        except Exception as error:
            kind, text, retry_after = _refusal(error)
            session.refuse(kind, text, retry_after)
            return
        if not self._residents.enter(self, opened):
            session.refuse(
                RefusalKind.BAD_OPEN, f"attempt {opened.attempt} of this stream is overtaken"
            )
            return
        session.welcome()

    # ---------------------------------------------------------------- handlers

    async def _dispatch(self, group: anyio.abc.TaskGroup) -> None:
        """Hand inputs to the handler as it has places for them."""
        session, handler = self._session, self._handler
        while True:
            first = session.next_input()
            if first is None:
                await self._work.wait()
                continue
            await handler.reserve()
            self._places += 1
            inputs = [first]
            while len(inputs) < handler.max_items and (more := session.next_input()):
                inputs.append(more)
            group.start_soon(self._handle, inputs)

    async def _handle(self, inputs: Sequence[Input]) -> None:
        session, scope = self._session, anyio.CancelScope()
        for item in inputs:
            self._scopes[item.number] = scope
        try:
            with scope:
                await self._handler.handle(session, inputs)
        finally:
            self._give_back()
            for item in inputs:
                self._scopes.pop(item.number, None)
                if scope.cancel_called and not session.over:
                    session.fail(item.number, ItemErrorKind.CANCELLED, "cancelled")
            self._work.set()
            self._outbound.set()

    def _give_back(self) -> None:
        self._places -= 1
        self._handler.release()

    def _cancel_items(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            scope = self._scopes.get(number)
            if scope is not None and self._handler.max_items == 1:
                scope.cancel()

    def _stop_handlers(self) -> None:
        for scope in list(self._scopes.values()):
            scope.cancel()


def _refusal(error: Exception) -> tuple[RefusalKind, str, int | None]:
    if isinstance(error, Refuse):
        after = error.retry_after
        return error.kind, error.text, None if after is None else int(after * 1000)
    logger.error("admit() raised", exc_info=error)
    return RefusalKind.OVERLOADED, printable(f"admit() raised {type(error).__name__}"), None
