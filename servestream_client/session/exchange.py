"""The traffic of one call: a writer beside a reader, and limits on how long they wait.

Invariant: if the writer, or a timer, fails or is cancelled, the reader ends and `run` says why; and
once `run` has returned, nothing of it reads or counts time any more. (A write that gRPC does not
let go of within `close_timeout` is left behind.)
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import aclosing
from functools import partial

from servestream_client.errors import FrameLostError, RemoteProtocolError
from servestream_client.protocol.client import Attempt, ClientSession
from servestream_client.protocol.pulse import TICKS_PER_INTERVAL
from servestream_client.protocol.states import ClientState
from servestream_client.session.absence import Absences
from servestream_client.session.outcome import Ending, end_of_task
from servestream_client.session.patience import Patience
from servestream_client.signals import Signal, start_task
from servestream_client.transport.base import Link
from servestream_client.transport.classify import Verdict
from servestream_client.transport.traffic import Line

__all__ = ["Exchange"]

_STATE_SECONDS = 10.0
"""For the state of a stateful stream, once all that was sent is answered and it leaves its server.
What that does not cover is computed again elsewhere."""

_TIME_TO_ANSWER = 1.0
"""Seconds that an attempt has for its answer in any case."""


class Exchange:
    """See the module.

    Args:
        session: the stream's.
        attempt: its attempt under way.
        link: that attempt's call.
        outbound: raised when there may be something to send.
        notify: called when there may be something to take.
        answered: called when the first frame comes.
        changed: called when a frame came in.
        open_timeout: seconds to wait for that first frame.
        max_age: seconds after which the attempt moves on by itself; None: never.
        close_timeout: seconds that any leave-taking may last.
    """

    def __init__(
        self,
        *,
        session: ClientSession,
        attempt: Attempt,
        link: Link,
        outbound: Signal,
        notify: Callable[[], None],
        answered: Callable[[], None],
        changed: Callable[[], None],
        open_timeout: float,
        max_age: float | None,
        close_timeout: float,
    ) -> None:
        self.ending: Ending = Ending()
        """How it comes to its end."""
        self.age: float = math.inf if max_age is None else max_age
        """Seconds after its server's first word after which it moves on by itself."""
        self.link: Link = link
        self.line: Line = link.line
        """Its part of the connection's traffic."""
        self._session = session
        self._delivery = session.delivery
        self._attempt = attempt
        self._outbound = outbound
        self._notify = notify
        self._on_answer = answered
        self._changed = changed
        self._open_timeout = open_timeout
        self._close_timeout = close_timeout
        self._heartbeat_interval = session.watchdog.heartbeat_interval
        self._moving: asyncio.TimerHandle | None = None
        self._moves_soon = False  # once the last chunk of an input has left
        self._ticking: asyncio.TimerHandle | None = None
        self._absences = Absences(self._heartbeat_interval)
        self._limit = asyncio.timeout(None)  # on the reader
        self._patience = Patience(self.line, partial(_expire, self._limit))
        self._reading = False
        self._begun = math.inf
        self._failure: BaseException | None = None  # of anything but the reader
        self._sending = False
        self._pledged = 0  # bytes of the large frame that goes next
        self._laden = False  # large frames are under way
        self._grace = math.inf  # the limit that is set, once the server leaves, or this end
        self._mute = False  # the call takes no more writes

    async def run(self) -> None:
        """Until the call is over, a limit passed, or the server broke the protocol."""
        self.line.join(self._crowd, self._outbound.set)
        writing = start_task(self._write(), "servestream writer")
        writing.add_done_callback(self._wrote)
        try:
            async with self._limit:
                self._reading, self._begun = True, asyncio.get_running_loop().time()
                self._patience.limit(self._open_timeout)
                self._tick_later()
                try:
                    await self._read()
                except RemoteProtocolError as error:
                    self.ending.violation = str(error)
                    self.ending.perhaps_lost = isinstance(error, FrameLostError)
        except TimeoutError:
            self.ending.timed_out = self._limit.expired()
            if not self.ending.timed_out:
                raise
        finally:
            self._reading = False
            self._patience.clear()
            for timer in filter(None, (self._ticking, self._moving)):
                timer.cancel()
            writing.cancel()
            await asyncio.wait({writing}, timeout=self._close_timeout)
        failure, self._failure = self._failure, None
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # its traceback refers to this frame

    def give_up(self, away: Verdict) -> None:
        """Most likely nobody will answer there, as that says. Harmless if somebody has, or may have
        had no time to.
        """
        waited = asyncio.get_running_loop().time() - self._begun
        if self._reading and not self.ending.answered and waited >= _TIME_TO_ANSWER:
            self.ending.away = away
            self._end_reading()

    def _end_reading(self) -> None:
        """Let the reader end now. May be called anywhere, at any time."""
        if self._reading:
            _expire(self._limit)

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
        self._end_reading()

    def _wrote(self, writing: asyncio.Task[None]) -> None:
        error = asyncio.CancelledError() if writing.cancelled() else writing.exception()
        if error is not None and self._reading:
            self._fail(end_of_task(error))

    def _later(self, seconds: float, func: Callable[[], None]) -> asyncio.TimerHandle:
        def call() -> None:
            try:
                func()
            except Exception as error:
                self._fail(error)

        return asyncio.get_running_loop().call_later(seconds, call)

    def _move_later(self) -> None:
        """An attempt's age counts from its server's first word: one that is still opening has
        nowhere to leave, and would then stay for good.
        """
        if self.age < math.inf:
            self._moving = self._later(self.age, self._move)

    def _move(self) -> None:
        """The attempt is old: go elsewhere, or try again later."""
        if not self.move() and not self._moves_soon:
            self._move_later()

    def move(self) -> bool:
        """Take leave of the server in good order; False where that cannot be done now."""
        if not self.ending.moved:
            self.ending.moved = self._session.move()
            self._moves_soon = not self.ending.moved and self._attempt.cuts.begun
            self._limit_the_rest()
            self._outbound.set()
        return self.ending.moved

    @property
    def away(self) -> str:
        """What is to be said of this process itself: that it stood still just now."""
        return self._absences.said

    def _tick_later(self) -> None:
        if self._heartbeat_interval is not None:
            seconds = self._heartbeat_interval / TICKS_PER_INTERVAL
            self._absences.expect(seconds)
            self._ticking = self._later(seconds, self._tick)

    def _tick(self) -> None:
        session, attempt = self._session, self._attempt
        self._absences.look()
        attempt.tick(self.line.coming_beside, free=not self.line.going_beside)
        if attempt.silent and not session.over:
            self.ending.silent = True
            self._end_reading()
            return
        if session.has_output:
            self._outbound.set()
        self._tick_later()

    async def _read(self) -> None:
        session, attempt = self._session, self._attempt
        loop = asyncio.get_running_loop()
        async with aclosing(self.link.frames()) as frames:
            async for frame in frames:
                if session.over:
                    continue  # on the way to the call's end
                if not self.ending.answered:
                    self.ending.answered = True
                    self._on_answer()
                    self._patience.clear()
                    self._move_later()
                try:
                    session.receive(attempt.number, frame)
                    attempt.note_time(loop.time())
                    self._note_traffic(0 if frame.chunk is None else len(frame.chunk.data))
                finally:
                    del frame  # its payloads are not to be held while waiting for the next
                    self._limit_the_rest()
                    self._changed()
                if overdue := attempt.reports.overdue:
                    self.ending.overdue = overdue
                    return

    async def _write(self) -> None:
        while not self._session.over:
            if self._sending or not await self.send_next():
                await self._outbound.wait()
            elif self._mute:
                return  # that is no status: the reader finds out
        await self.link.half_close()

    async def send_next(self) -> bool:
        """Send the next frame in the calling task, if there is one and nobody else is sending."""
        session = self._session
        if self._sending or session.over:
            return False
        line, large = self.line, session.large
        hold = large > 0 and not line.reserve(large)
        opening = session.state is ClientState.OPENING
        beside = line.before_welcome if opening else line.beside
        frame = session.next_frame(hold=hold, beside=beside, alone=line.alone)
        # An input that turned out not to fit this server, be it its turn or not.
        if self._delivery.ready or self._delivery.failed:
            self._notify()
        if frame is None:
            return False
        self._sending = True
        self._attempt.note_time(asyncio.get_running_loop().time())
        told = frame.coming.bytes if frame.coming is not None else 0
        self._pledged = frame.coming.frame_bytes if frame.coming is not None else 0
        if self._laden or self._pledged or opening:
            self._note_under_way()
        try:
            self._mute = not await self.link.send(frame)
        finally:
            self._sending = False
        line.said(told)
        self._limit_the_rest()
        if self._moves_soon and not self._attempt.cuts.begun:
            self.move()
        return True

    def _limit_the_rest(self) -> None:
        """Once nothing is missing but a farewell, or the server leaves, do not wait for ever."""
        session = self._session
        if not self._reading or not self.ending.answered:
            return  # nobody reads any more, or there is a limit to that already
        if session.over or session.ledger.complete:
            self._patience.limit(self._close_timeout)
            return
        if session.grace_ms is None:
            return
        seconds = session.grace_ms / 1000
        if session.waits_for_state:  # which a server cannot give whose handler hangs
            seconds = min(seconds, _STATE_SECONDS)
        if seconds < self._grace:
            self._grace = seconds
            self._patience.limit(seconds + self._close_timeout)

    def _note_traffic(self, chunk: int) -> None:
        """What the last frame, with so many bytes in a chunk, says of those that are under way."""
        awaited, expected = self._attempt.awaited, self._attempt.assembly.expected
        if self._laden:
            self._note_under_way()
        if chunk:
            self.line.passed(chunk)
        self.line.heard(expected if awaited is None else awaited.bytes)
        if not self._attempt.announces:
            self.line.quit()

    def _note_under_way(self) -> None:
        size = self._attempt.large_under_way + self._pledged
        self._laden = size > 0
        self.line.under_way(size)

    def _crowd(self) -> None:
        self._attempt.crowd()
        self._outbound.set()


def _expire(limit: asyncio.Timeout) -> None:
    """Let a limit pass now."""
    if not limit.expired():
        limit.reschedule(asyncio.get_running_loop().time())
