"""The service under simulation, and what its answers must be.

An answer names its input and carries a checksum of it, so that no two answers can be taken for
each other, and the right one can be computed by whoever looks at it.
"""

from __future__ import annotations

import asyncio
import enum
import random
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from servestream_client.codecs import BytesCodec
from servestream_client.config import FlowControl
from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.frames import HandlerKind
from servestream_client.server.admission import StreamRequest

__all__ = [
    "PLANNED_ERRORS",
    "Items",
    "ServiceShape",
    "SimulatedCodec",
    "SimulatedService",
    "Special",
]


class Special(enum.Enum):
    """An input that cannot be answered by an output."""

    FAILS = "its handler raises"
    UNENCODABLE = "the client's codec refuses it"
    TOO_LARGE = "it is larger than the client sends"
    ANSWER_TOO_LARGE = "its output is larger than the client accepts"
    UNDECODABLE = "the client's codec cannot decode its output"
    UNKNOWN_TO_SERVER = "the server's codec cannot decode it"
    POISON = "its replica dies of it"


PLANNED_ERRORS: Mapping[Special, ItemErrorKind] = {
    Special.FAILS: ItemErrorKind.HANDLER,
    Special.UNENCODABLE: ItemErrorKind.INPUT_ENCODE,
    Special.TOO_LARGE: ItemErrorKind.INPUT_TOO_LARGE,
    Special.ANSWER_TOO_LARGE: ItemErrorKind.TOO_LARGE,
    Special.UNDECODABLE: ItemErrorKind.OUTPUT_DECODE,
    Special.UNKNOWN_TO_SERVER: ItemErrorKind.DECODE,
    Special.POISON: ItemErrorKind.POISON,
}

_FOREIGN = b"foreign"
_GARBLED = b"garbled"


class SimulatedCodec(BytesCodec):
    """Bytes as they are, but for payloads that it cannot decode."""

    def decode_input(self, payload: bytes, /) -> bytes:
        if payload.endswith(_FOREIGN):
            raise ValueError("a foreign payload")
        return payload

    def decode_output(self, payload: bytes, /) -> bytes:
        if payload.endswith(_GARBLED):
            raise ValueError("a garbled payload")
        return payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """The inputs of one stream, by their numbers.

    Attributes:
        key: names the stream.
        count: how many.
        size: of an input at the most, beyond some bytes that name it.
        answer_size: likewise of an output.
        most_bytes: the client's limit for one.
        specials: the inputs with something special about them.
    """

    key: int
    count: int
    size: int
    answer_size: int
    most_bytes: int
    specials: Mapping[int, Special]

    def item(self, number: int) -> object:
        """The input of a number."""
        special = self.specials.get(number)
        if special is Special.UNENCODABLE:
            return number
        padding = b"." * (number * 7919 % (self.size + 1))
        if special is Special.TOO_LARGE:
            padding = b"." * (self.most_bytes + 1)
        elif special is Special.UNKNOWN_TO_SERVER:
            padding += _FOREIGN
        return b"%d:%d:%b" % (self.key, number, padding)

    def answer(self, item: bytes) -> bytes:
        """The one right output for an input."""
        _, text, _ = item.split(b":", 2)
        number = int(text)
        special = self.specials.get(number)
        padding = b"." * (number * 104729 % (self.answer_size + 1))
        if special is Special.ANSWER_TOO_LARGE:
            padding = b"." * (self.most_bytes + 1)
        elif special is Special.UNDECODABLE:
            padding += _GARBLED
        return b"%d:%d:%08x:%b" % (self.key, number, zlib.crc32(item), padding)

    def number_of(self, output: object) -> int | None:
        """Whose output this is; None: nobody's."""
        if not isinstance(output, bytes):
            return None
        key, text, _ = output.split(b":", 2)
        number = int(text)
        if int(key) != self.key or not 1 <= number <= self.count:
            return None
        item = self.item(number)
        return number if isinstance(item, bytes) and self.answer(item) == output else None


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
    """

    kind: HandlerKind
    concurrency: int
    max_batch: int
    batch_wait: float
    flow: FlowControl
    waits: float
    seconds: float


def _nothing() -> None:
    """A service that is nobody's cannot die."""


class SimulatedService:
    """What a kit serves. Made anew for each life of a replica.

    Args:
        shape: how it is set.
        items: of all streams, by their keys.
        codec: the same as the client's.
        rng: draws how long handlers take.
        admission: called before a stream is welcomed; may raise.

    Attributes:
        running: handler calls under way.
        most_running: how many there were at once.
        die: ends its replica.
    """

    application = ""
    code_version = "simulated"

    def __init__(
        self,
        shape: ServiceShape,
        items: Mapping[int, Items],
        codec: BytesCodec,
        rng: random.Random,
        admission: Callable[[], None],
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
                self.die()
                await asyncio.Event().wait()  # until the call is cancelled with its replica

    async def _take_time(self) -> None:
        dice = self._rng.random()
        if dice < self._shape.waits:
            await asyncio.sleep(dice * self._shape.seconds)

    def _answer(self, item: bytes) -> bytes:
        key, number, _ = item.split(b":", 2)
        items = self._items[int(key)]
        if items.specials.get(int(number)) is Special.FAILS:
            raise ValueError("fails by plan")
        return items.answer(item)
