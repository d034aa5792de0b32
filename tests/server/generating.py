"""Streams of services with `generate`: real sessions, whose frames are answered in place."""

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from attempts import PLENTY

from servestream_client import BytesCodec
from servestream_client.errors import ItemErrorKind
from servestream_client.protocol import continuation, frames
from servestream_client.protocol.frames import (
    ClientFrame,
    CodecId,
    Credit,
    HandlerKind,
    InputCredit,
    InputRun,
    Limits,
    NumberRange,
    Open,
    Order,
    StreamErrorKind,
)
from servestream_client.protocol.server import ServerOffer, ServerSession
from servestream_client.server import Replay, Resume, StreamService
from servestream_client.server.generator_workers import GeneratorWorkers
from servestream_client.server.handlers import Source, generator_handler

ENOUGH = Credit(1_000_000, 1 << 40)


@dataclass
class Answer:
    """What came of one input: its outputs, checkpoints by the index behind them, and its end."""

    first_index: int = 0
    outputs: list[bytes] = field(default_factory=list)
    checkpoints: dict[int, bytes] = field(default_factory=dict)
    ended: bool = False
    error: ItemErrorKind | None = None
    index: int | None = None
    """Of its end."""
    text: str = ""

    @property
    def next_index(self) -> int:
        return self.first_index + len(self.outputs)

    def resume(self) -> frames.Resume:
        """What a client would send to go on, of an answer from the first output on."""
        at = max(self.checkpoints, default=0)
        return frames.Resume(
            continuation.digest(continuation.NO_OUTPUTS, self.outputs),
            self.checkpoints.get(at),
            at,
            tuple(self.outputs[at:]),
        )


class ManyAttempt:
    """An attempt at a service of many outputs: what `AttemptRunner` is to workers, and a client
    that acknowledges at once and grants what it is told to.
    """

    def __init__(
        self,
        workers: GeneratorWorkers,
        name: str = "",
        *,
        replay: frames.Replay = frames.Replay.CONTINUE,
        credit: Credit = PLENTY,
        each: Credit = ENOUGH,
        order: Order = Order.ANY,
        features: Sequence[str] = (continuation.FEATURE,),
        ahead_bytes: int = 1 << 20,
        token_bytes: int = 1 << 16,
    ) -> None:
        self.session = ServerSession(
            ServerOffer(
                codec=CodecId("bytes"),
                handler_kind=HandlerKind.ONE_TO_MANY,
                replay=replay,
                ahead_bytes=ahead_bytes,
            )
        )
        self.context = contextvars.copy_context()
        self.name = name
        self.answers: dict[int, Answer] = {}
        self.order: list[int] = []
        """Whose outputs came, one after the other."""
        self.left: list[str] = []
        self._workers = workers
        self._sent = 0
        self._frames = 0
        opened = Open(
            stream_id=bytes(16),
            attempt=1,
            codec=CodecId("bytes"),
            features=features,
            order=order,
            limits=Limits(
                input_outputs=each.outputs, input_bytes=each.bytes, token_bytes=token_bytes
            ),
        )
        self.session.receive(ClientFrame(open=opened, credit=credit))
        self.session.welcome()
        assert self.session.next_frame().welcome is not None

    def __repr__(self) -> str:
        return f"ManyAttempt({self.name!r})"

    # What the client does:

    def send(self, *payloads: bytes) -> None:
        """One frame of inputs."""
        self._send(InputRun(self._sent + 1, payloads))

    def go_on(
        self,
        payload: bytes,
        start: int,
        resume: frames.Resume | None,
        credit: Credit | None = None,
    ) -> Answer:
        """An input of which so many outputs are there."""
        number = self._sent + 1
        self.answers[number] = Answer(start)
        self._send(InputRun(number, [payload], start, (), credit, resume))
        return self.answers[number]

    def _send(self, run: InputRun) -> None:
        self.session.receive(ClientFrame(inputs=[run]))
        self.session._pacer.report()
        for number in range(run.first_number, run.first_number + len(run.payloads)):
            self.answers.setdefault(number, Answer())
        self._sent += len(run.payloads)
        self._workers.offer(self)

    def grant(self, number: int, outputs: int, size: int = ENOUGH.bytes) -> None:
        self.session.receive(ClientFrame(input_credit=[InputCredit(number, outputs, size)]))
        self._workers.offer(self)
        self._speak()

    def grant_all(self, outputs: int) -> None:
        self.session.receive(ClientFrame(credit=Credit(outputs, PLENTY.bytes)))
        self._workers.offer(self)
        self._speak()

    def cancel(self, *numbers: int) -> None:
        self.session.receive(ClientFrame(cancelled=[NumberRange(n, n) for n in numbers]))
        if cancelled := self.session.intake.take_cancelled():
            self._workers.cancel(self, cancelled)
        self._workers.offer(self)
        self._speak()

    def go(self) -> None:
        self.session.half_close()
        self._workers.cancel(self)

    def may_take(self, seconds: float) -> None:
        """From now on no output may take longer."""
        opened = self.session.opened
        self.session.opened = replace(opened, item_timeout_ms=round(seconds * 1000))

    # What the workers ask of it:

    def leave(self, text: str) -> None:
        self.left.append(text)

    def give_up(self, kind: StreamErrorKind, text: str) -> None:
        self.left.append(f"{kind.name}: {text}")
        self.session.give_up(kind, text)
        self._workers.cancel(self)

    def wake_writer(self) -> None:
        asyncio.get_running_loop().call_soon(self._speak)

    def _speak(self) -> None:
        while (frame := self.session.next_frame()) is not None:
            for part in frame.parts:
                answer = self.answers[part.number]
                assert not answer.ended
                assert part.first_index == answer.next_index
                answer.outputs += part.payloads
                self.order += [part.number] * len(part.payloads)
                if part.checkpoint is not None:
                    answer.checkpoints[answer.next_index] = part.checkpoint
                answer.ended = part.last
                answer.index = answer.next_index if part.last else None
            for error in frame.errors:
                answer = self.answers[error.number]
                assert not answer.ended
                assert error.index == answer.next_index
                answer.ended, answer.error, answer.text = True, error.kind, error.text
                answer.index = error.index
            self._frames += frame.paced
            self.session.receive(ClientFrame(frames_read=self._frames))
            self._workers.offer(self)

    @property
    def done(self) -> bool:
        return all(answer.ended for answer in self.answers.values())

    def outputs(self, number: int = 1) -> list[bytes]:
        return self.answers[number].outputs


class Generators:
    """A service, and what became of its generators. Subclasses have `generate`."""

    codec = BytesCodec()
    replay = Replay.CONTINUE

    def __init__(self, places: int = 4) -> None:
        self.began: list[tuple[bytes, Resume]] = []
        self.closed: list[bytes] = []
        self.made: list[bytes] = []
        self.places = places
        self.workers = GeneratorWorkers(
            generator_handler(
                Source(self.generate, self.is_finished, self.codec, self.replay), places
            ),
            places=places,
        )

    def is_finished(self, item: bytes, resume: Resume) -> bool:
        return False

    def attempt(self, name: str = "", **options) -> ManyAttempt:
        return ManyAttempt(self.workers, name, replay=frames.Replay[self.replay.name], **options)


def service_of(generate: Callable, *, places: int = 4, **attributes) -> Generators:
    """One with this function, which has no `self`."""
    kind = type("Service", (Generators,), {"generate": staticmethod(generate), **attributes})
    return kind(places)


def as_service(generate: Callable, **attributes) -> StreamService:
    kind = type("Service", (StreamService,), {"generate": generate, **attributes})
    return kind()


def numbered(item: bytes, first: int, count: int) -> list[bytes]:
    return [item + b"%d" % n for n in range(first, first + count)]
