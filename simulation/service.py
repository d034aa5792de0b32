"""The service under simulation."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from servestream_client.codecs import BytesCodec
from servestream_client.config import FlowControl
from servestream_client.protocol.frames import HandlerKind
from servestream_client.server.admission import StreamRequest
from servestream_client.server.outputs import Output, Replay, Resume
from simulation.folds import NO_FOLD, FoldShape
from simulation.generators import Continuation, GeneratorShape, Maker
from simulation.items import Items, Special

__all__ = ["Authors", "Living", "ServiceShape", "SimulatedService"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceShape:
    """How a service is written and set.

    Attributes:
        kind: of its handler.
        concurrency: handler calls at a time.
        max_batch: inputs in a call, for batches.
        batch_wait: seconds that a batch waits for more.
        flow: its limits.
        waits: how likely a handler waits.
        seconds: how long, about.
        generator: how `generate` is written.
        hedging: whether it allows that.
        fold: how a stateful one is written.
    """

    kind: HandlerKind
    concurrency: int
    max_batch: int
    batch_wait: float
    flow: FlowControl
    waits: float
    seconds: float
    generator: GeneratorShape
    hedging: bool = True
    fold: FoldShape = NO_FOLD


class Authors:
    """The calls of `generate`, of all replicas and all their lives, numbered from 1."""

    def __init__(self) -> None:
        self.replicas: list[str] = []
        """Of each, where it ran."""

    def begin(self, replica: str) -> int:
        """A call begins; its number."""
        self.replicas.append(replica)
        return len(self.replicas)

    def replica(self, author: int) -> str:
        """Where a call ran."""
        return self.replicas[author - 1]


def _nothing() -> None:
    """A service that is nobody's cannot die."""


class Living:
    """What all services have in common. One is made anew for each life of a replica.

    Args:
        shape: how it is set.
        items: of all streams, by their keys.
        codec: the same as the client's.
        rng: draws how long handlers take.
        admission: called before a stream is welcomed; may raise.
        authors: numbers the calls of `generate`.
        version: of its code.

    Attributes:
        running: handler calls under way.
        most_running: how many there were at once; a generator that pauses does not run.
        die: ends its replica.
        frozen_until: until then its handlers stand still.
        replica: its replica's name.
        problems: what it was called with, and should not have been.
    """

    application: ClassVar[str | None] = ""
    endpoints: ClassVar[Sequence[str]] = ()

    def __init__(  # noqa: PLR0917 — made in one place
        self,
        shape: ServiceShape,
        items: Mapping[int, Items],
        codec: BytesCodec,
        rng: random.Random,
        admission: Callable[[], None],
        authors: Authors,
        version: int,
    ) -> None:
        self.codec: Any = codec
        self.max_concurrency: int | None = shape.concurrency
        self.max_batch_size: int = shape.max_batch
        self.batch_wait: float = shape.batch_wait
        self.flow: FlowControl = shape.flow
        self.running: int = 0
        self.most_running: int = 0
        self.die: Callable[[], None] = _nothing
        self._shape = shape
        self._items = items
        self._rng = rng
        self._admission = admission
        self.replay: Replay = shape.generator.replay
        said = f"version {version}" if shape.generator.own_fingerprints else ""
        self.fingerprint: str = said
        self.hedging: bool = shape.hedging
        self.code_version: str = said  # which is all that clients know of before fingerprints
        self.replica: str = ""
        self.frozen_until: float = 0.0
        self.problems: list[str] = []
        self._authors = authors
        self._version = version
        self._active = 0  # generators that were asked for an output

    async def admit(self, _: StreamRequest, /) -> None:
        """Everybody is welcome, but for what goes wrong."""
        if self._rng.random() < 0.2:
            await asyncio.sleep(self._rng.random() * self._shape.seconds)
        self._admission()

    def _begin(self) -> None:
        self.running += 1
        self.most_running = max(self.most_running, self.running)

    async def _live_through(self, *items: bytes) -> None:
        for item in items:
            key, number, _ = item.split(b":", 2)
            if self._items[int(key)].specials.get(int(number)) is Special.POISON:
                await self._die()

    async def _die(self) -> None:
        self.die()
        await asyncio.Event().wait()  # until the call is cancelled with its replica

    async def _take_time(self) -> None:
        if (left := self.frozen_until - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(left)
        dice = self._rng.random()
        if dice < self._shape.waits:
            await asyncio.sleep(dice * self._shape.seconds)

    def _answer(self, item: bytes) -> bytes:
        key, number, _ = item.split(b":", 2)
        items = self._items[int(key)]
        if items.specials.get(int(number)) is Special.FAILS:
            raise ValueError("fails by plan")
        return items.answer(item)


class SimulatedService(Living):
    """What a kit serves, with inputs of one output, in batches, or of many outputs."""

    async def predict(self, item: bytes, /) -> bytes:
        self._begin()
        try:
            await self._live_through(item)
            await self._take_time()
            return self._answer(item)
        finally:
            self.running -= 1

    async def predict_batch(self, items: list[bytes], /) -> list[bytes]:
        self._begin()
        try:
            await self._live_through(*items)
            await self._take_time()
            return [self._answer(item) for item in items]
        finally:
            self.running -= 1

    async def generate(self, item: bytes, resume: Resume[bytes], /) -> AsyncIterator[object]:
        self.running += 1
        self._ask()
        asked = True
        try:
            author = self._authors.begin(self.replica)
            shape = self._shape.generator
            key = int(item.split(b":", 1)[0])
            maker = Maker(shape, self._items[key], item, author, self._version)
            at = self._beginning(maker, resume)
            while at.index < maker.count:
                await self._special(maker, at.index)
                await self._take_time()
                payload = maker.output(at)
                at = at.after(payload)
                self._active -= 1
                asked = False
                yield self._with_checkpoint(payload, at)
                self._ask()
                asked = True
            await self._take_time()
        finally:
            self.running -= 1
            if asked:
                self._active -= 1

    async def is_finished(self, item: bytes, resume: Resume[bytes], /) -> bool:
        await self._take_time()
        shape = self._shape.generator
        key = int(item.split(b":", 1)[0])
        maker = Maker(shape, self._items[key], item, 0, self._version)
        return shape.tells_end and resume.index >= maker.count

    def _ask(self) -> None:
        """A generator is asked for an output."""
        self._active += 1
        self.most_running = max(self.most_running, self._active)

    def _beginning(self, maker: Maker, resume: Resume[bytes]) -> Continuation:
        if not resume:
            return Continuation()
        if self.replay is Replay.SEEK:
            return maker.seek(resume.index)
        if self.replay is not Replay.CONTINUE:
            self.problems.append(f"{self.replay} is to go on at {resume.index}")
        at = Continuation()
        if resume.checkpoint is not None:
            at = Continuation.read(resume.checkpoint)
        if at.index != resume.outputs_from:
            self.problems.append(f"outputs from {resume.outputs_from}, and a checkpoint of {at}")
        for payload in resume.outputs:
            at = at.after(payload)
        if at.index != resume.index:
            self.problems.append(f"outputs to {at.index}, to go on at {resume.index}")
        return at

    async def _special(self, maker: Maker, index: int) -> None:
        if index != maker.special_at:
            return
        if maker.special is Special.POISON:
            await self._die()
        if maker.special is Special.FAILS:
            raise ValueError("fails by plan")

    def _with_checkpoint(self, payload: bytes, behind: Continuation) -> object:
        shape = self._shape.generator
        every = shape.checkpoint_every
        if not every or behind.index % every:
            return payload
        return Output(payload, behind.checkpoint(shape.checkpoint_size))
