"""Replicas in memory whose handler gives many outputs: real server sessions, scripted deaths."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from servestream_client.protocol.frames import (
    ClientFrame,
    CodecId,
    HandlerKind,
    Limits,
    Load,
    Replay,
    ServerFrame,
)
from servestream_client.protocol.server import ServerOffer, ServerSession
from servestream_client.transport.memory import CallFailed

__all__ = ["Replicas"]


class Replicas:
    """Answers input ``name:count`` with ``name 0`` to ``name count-1``.

    Args:
        replay: how its handler goes on.
        fingerprint: by replica's number, from 1 on.
        dies: asked before each output, with the replica's number, the input's name and the
            output's index.
        limits: what they accept.
        one: they are one server, so that all calls break with it.
        load: what each says of its load, as often as it has changed; None: nothing. Calls go to
            as many servers as it says in turn.
    """

    def __init__(
        self,
        replay: Replay = Replay.CONTINUE,
        *,
        fingerprint: Callable[[int], str] = lambda _: "model 1",
        dies: Callable[[int, str, int], bool] = lambda *_: False,
        limits: Limits | None = None,
        one: bool = False,
        load: Load | None = None,
    ) -> None:
        self.load = load
        self.limits = limits or Limits()
        self.replay = replay
        self.fingerprint = fingerprint
        self.dies = dies
        self.one = one
        self.life = 0
        self.calls = 0
        self.deaths = 0
        self.cancelled: list[int] = []
        self.sessions: list[ServerSession] = []
        self.made: dict[str, int] = {}
        self.places: dict[str, set[str]] = {}  # by server, of which inputs it made outputs
        self.resumed: list[tuple[str, int, int]] = []  # name, index, outputs given
        self.down = False
        self.stopped = False  # they read, and answer nothing
        self._changed = asyncio.Event()

    def go_on(self) -> None:
        """Answer again, once they were `stopped`."""
        self.stopped = False
        self._changed.set()

    def go_down(self) -> None:
        """End all calls; no further one reaches them while they are `down`."""
        self.down = True
        self._changed.set()

    async def __call__(self, requests: AsyncIterator[ClientFrame]) -> AsyncIterator[ServerFrame]:
        if self.down:
            raise CallFailed("UNAVAILABLE", "down")
        self.calls += 1
        call, life = self.calls, self.life
        replica = self._name(call)
        session = ServerSession(
            ServerOffer(
                codec=CodecId("bytes"),
                handler_kind=HandlerKind.ONE_TO_MANY,
                replay=self.replay,
                fingerprint=self.fingerprint(call),
                replica=replica,
                limits=self.limits,
            )
        )
        self.sessions.append(session)
        running: dict[int, list] = {}  # name, count, the next index to compute
        reading = asyncio.ensure_future(anext(requests, None))
        try:
            while not session.over:
                self._report(session)
                if self.one and life != self.life:
                    raise CallFailed("UNAVAILABLE", "Socket closed")
                while (frame := session.next_frame()) is not None:
                    yield frame
                self._work(call, session, running, self.places.setdefault(replica, set()))
                if (frame := session.next_frame()) is not None:
                    yield frame
                    continue
                await self._something_to_do(session, running, reading)
                if reading.done():
                    message = reading.result()
                    if message is None:
                        session.half_close()
                        return
                    session.receive(message)
                    if session.opened is not None and session.state.name == "DECIDING":
                        session.welcome()
                    for number in session.intake.take_cancelled():
                        self.cancelled.append(number)
                        running.pop(number, None)
                    self._start(session, running)
                    reading = asyncio.ensure_future(anext(requests, None))
                session.outbox.take_resumable()
        finally:
            reading.cancel()

    def _name(self, call: int) -> str:
        """Of the server that a call comes to."""
        servers = self.load.servers if self.load is not None else 0
        number = 1 + (call - 1) % servers if servers else call
        return "the only one" if self.one else f"replica {number}"

    def _report(self, session: ServerSession) -> None:
        if self.load is not None and session.opened is not None:
            session.report(self.load)

    async def _something_to_do(
        self, session: ServerSession, running: dict[int, list], reading: asyncio.Future
    ) -> None:
        busy = any(session.outbox.may_make(number) for number in running) and not self.stopped
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait(
                {reading, changed},
                timeout=0 if busy else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            changed.cancel()
        self._changed.clear()
        if self.down:
            raise CallFailed("UNAVAILABLE", "down")

    def _start(self, session: ServerSession, running: dict[int, list]) -> None:
        while (run := session.intake.next_run(1)) is not None:
            name, count = run.payloads[0].decode().split(":")
            given = len(run.resume.outputs) if run.resume is not None else 0
            if run.start_index:
                self.resumed.append((name, run.start_index, given))
            first = 0 if self.replay is Replay.RESTART else run.start_index
            running[run.first] = [name, int(count), first, run.start_index]

    def _work(
        self, call: int, session: ServerSession, running: dict[int, list], here: set[str]
    ) -> None:
        """Each input's next output, if it may be made."""
        if self.stopped:
            return
        for number, work in list(running.items()):
            name, count, index, start = work
            if index == count:
                session.outbox.close(number)
                del running[number]
                continue
            if not session.outbox.may_make(number):
                continue
            if self.dies(call, name, index):
                self.deaths += 1
                self.life += 1
                self._changed.set()
                raise CallFailed("INTERNAL", "The actor died unexpectedly")
            work[2] += 1
            self.made[name] = self.made.get(name, 0) + 1
            here.add(name)
            if index >= start:
                session.outbox.output(number, b"%s %d" % (name.encode(), index))
