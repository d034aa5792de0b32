"""Streams for workers and handlers: real sessions, whose frames are read in place."""

import asyncio
import contextvars
from collections.abc import Callable, Iterable
from dataclasses import replace

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.frames import (
    ClientFrame,
    CodecId,
    Credit,
    InputRun,
    Limits,
    NumberRange,
    Open,
    Order,
    StreamErrorKind,
)
from servestream_client.protocol.server import ServerOffer, ServerSession
from servestream_client.server.calls import Part
from servestream_client.server.workers import Workers

CODEC = CodecId("bytes")
PLENTY = Credit(1_000_000, 1_000_000_000)
MIB = 1024 * 1024


class FakeAttempt:
    """An attempt that has been welcomed: what `AttemptRunner` is to workers, without a call."""

    def __init__(
        self,
        workers: Workers,
        name: str = "",
        *,
        ordered: bool = True,
        credit: Credit = PLENTY,
        ahead_bytes: int = MIB,
        window: int = 4096,
    ) -> None:
        limits = Limits(window_items=window)
        self.session = ServerSession(
            ServerOffer(codec=CODEC, ahead_bytes=ahead_bytes, limits=limits)
        )
        self.context = contextvars.copy_context()
        self.name = name
        self.answers: list[tuple[int, bytes | ItemErrorKind]] = []
        """What was sent: numbers, and outputs or why there is none."""
        self.texts: dict[int, str] = {}
        """What was said of the inputs that failed."""
        self.left: list[str] = []
        """Why the workers sent its client away."""
        self._workers = workers
        self._sent = 0
        self._frames = 0
        order = Order.INPUT if ordered else Order.ANY
        opened = Open(stream_id=bytes(16), attempt=1, codec=CODEC, order=order, limits=limits)
        self.session.receive(ClientFrame(open=opened, credit=credit))
        self.session.welcome()
        assert self.session.next_frame().welcome is not None

    def __repr__(self) -> str:
        return f"FakeAttempt({self.name!r})"

    # What the client does:

    def send(self, *payloads: bytes) -> None:
        """One frame of inputs."""
        self.session.receive(ClientFrame(inputs=[InputRun(self._sent + 1, payloads)]))
        self.session._pacer.report()  # the client hears at once that its frame was read
        self._sent += len(payloads)
        self._workers.offer(self)

    def send_many(self, count: int) -> None:
        """So many inputs, each of which says whose and which it is."""
        self.send(*(f"{self.name}{self._sent + n}".encode() for n in range(1, count + 1)))

    def grant(self, outputs: int) -> None:
        self.session.receive(ClientFrame(credit=Credit(outputs, PLENTY.bytes)))
        self._speak()

    def cancel(self, first: int, last: int | None = None) -> None:
        cancelled = [NumberRange(first, first if last is None else last)]
        self.session.receive(ClientFrame(cancelled=cancelled))
        numbers = self.session.intake.take_cancelled()
        if numbers:
            self._workers.cancel(self, numbers)
        self._workers.offer(self)
        self.wake_writer()

    def go(self) -> None:
        self.session.half_close()
        self._workers.cancel(self)

    def may_take(self, seconds: float) -> None:
        """From now on no input may take longer."""
        opened = self.session.opened
        self.session.opened = replace(opened, item_timeout_ms=round(seconds * 1000))

    # What the workers ask of it:

    def leave(self, text: str) -> None:
        self.left.append(text)

    def give_up(self, kind: StreamErrorKind, text: str) -> None:
        self.left.append(text)
        self.session.give_up(kind, text)

    def wake_writer(self) -> None:
        asyncio.get_running_loop().call_soon(self._speak)

    def _speak(self) -> None:
        while (frame := self.session.next_frame()) is not None:
            found: list[tuple[int, bytes | ItemErrorKind]] = []
            for run in frame.outputs:
                found += enumerate(run.payloads, run.first_number)
            found += [(error.number, error.kind) for error in frame.errors]
            self.texts |= {error.number: error.text for error in frame.errors}
            self.answers += sorted(found, key=lambda answer: answer[0])
            self._frames += frame.paced
            self.session.receive(ClientFrame(frames_read=self._frames))
            self._workers.offer(self)

    @property
    def outputs(self) -> list[bytes | ItemErrorKind]:
        """The answers without their numbers."""
        return [answer for _, answer in self.answers]

    @property
    def done(self) -> bool:
        """Whether every input is answered."""
        return len(self.answers) == self._sent


def payloads_in(parts: Iterable[Part]) -> list[bytes]:
    return [payload for part in parts for payload in part.run.payloads]


def echo(parts: Iterable[Part]) -> None:
    """Answer each input with itself."""
    for part in parts:
        part.attempt.session.outbox.outputs(part.run.first, part.run.payloads)


def workers_running() -> set[asyncio.Task]:
    return {
        task
        for task in asyncio.all_tasks()
        if task.get_name() == "servestream worker" and not task.done()
    }


async def until(condition: Callable[[], bool]) -> None:
    """Let others run until something holds; a vain wait ends with an error."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


async def for_a_while() -> None:
    """Let others run as long as they have something to do at once."""
    for _ in range(100):
        await asyncio.sleep(0)
