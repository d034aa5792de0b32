"""What the generators under simulation give, and what their outputs must be.

An output names its input, its index, who made it, and a checksum over all outputs before it: so
whoever has two that follow upon one another sees whether they belong together, and by whom.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from servestream_client.server.outputs import Replay
from simulation.items import GARBLED, Items, Special

__all__ = ["Continuation", "GeneratorShape", "Made", "Maker", "read_output"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorShape:
    """How `generate` is written.

    Attributes:
        replay: how it goes on, by its word.
        varies_from: from which index on its outputs differ from call to call; None: they never do.
        checkpoint_every: how many outputs there are to a checkpoint; 0: there is none.
        checkpoint_size: bytes of one, beyond some that it needs.
        tells_end: whether `is_finished` knows.
        own_fingerprints: whether each version has its own outputs, and says so.
    """

    replay: Replay
    varies_from: int | None
    checkpoint_every: int
    checkpoint_size: int
    tells_end: bool
    own_fingerprints: bool

    @property
    def repeats(self) -> bool:
        """Whether it gives each time what an undisturbed one would."""
        return self.varies_from is None


@dataclass(frozen=True, slots=True)
class Made:
    """An output, read.

    Attributes:
        key, number: of its input.
        index: which of its outputs.
        author: the call of `generate` that made it; 0: it does not say.
        version: of the service that made it.
        count: how many outputs that call has made in the end; None: it does not say.
        chain: the checksum over all outputs before it.
        payload: itself.
    """

    key: int
    number: int
    index: int
    author: int
    version: int
    count: int | None
    chain: int
    payload: bytes

    @property
    def next_chain(self) -> int:
        """What the output behind it says."""
        return zlib.crc32(self.payload, self.chain)


def read_output(payload: bytes) -> Made:
    """What an output says of itself."""
    key, number, index, author, version, count, chain, _ = payload.split(b":", 7)
    return Made(
        int(key),
        int(number),
        int(index),
        int(author),
        int(version),
        int(count) if count else None,
        int(chain, 16),
        payload,
    )


@dataclass(frozen=True, slots=True)
class Continuation:
    """From where outputs are made.

    Attributes:
        index: of the next one.
        chain: the checksum over those before it.
    """

    index: int = 0
    chain: int = 0

    def after(self, payload: bytes) -> Continuation:
        """Behind one more output."""
        return Continuation(self.index + 1, zlib.crc32(payload, self.chain))

    def checkpoint(self, size: int) -> bytes:
        """It, as bytes, with so many more."""
        return b"%d:%x:%b" % (self.index, self.chain, b"." * size)

    @classmethod
    def read(cls, checkpoint: bytes) -> Continuation:
        """What `checkpoint` made."""
        index, chain, _ = checkpoint.split(b":", 2)
        return cls(int(index), int(chain, 16))


class Maker:
    """The outputs of one call of `generate`.

    Args:
        shape: how it is written.
        items: of the input's stream.
        item: the input.
        author: names the call.
        version: of the service.
    """

    def __init__(
        self, shape: GeneratorShape, items: Items, item: bytes, author: int, version: int
    ) -> None:
        key, number, _ = item.split(b":", 2)
        self._key, self.number = int(key), int(number)
        self._items = items
        self._author = author
        self._version = version if shape.own_fingerprints else 0
        self._varies_from = shape.varies_from
        self._shortens = shape.replay is Replay.RESTART
        self.count: int = self._count()
        self.special: Special | None = items.specials.get(self.number)
        self.special_at: int = items.special_index(self.number)

    def _count(self) -> int:
        usual, varies_from = self._items.outputs_of(self.number), self._varies_from
        if not self._shortens or varies_from is None or usual <= varies_from + 1:
            return usual
        return usual - self._author % 2

    def output(self, at: Continuation) -> bytes:
        """The output of an index."""
        index, items = at.index, self._items
        varies = self._varies_from is not None and index >= self._varies_from
        said = b"%d" % self.count if varies or self._varies_from is None else b""
        padding = b"." * ((self.number * 104729 + index * 7919) % (items.answer_size + 1))
        if index == self.special_at and self.special is Special.ANSWER_TOO_LARGE:
            padding = b"." * (items.most_bytes + 1)
        elif index == self.special_at and self.special is Special.UNDECODABLE:
            padding += GARBLED
        return b"%d:%d:%d:%d:%d:%b:%08x:%b" % (
            self._key,
            self.number,
            index,
            self._author if varies else 0,
            self._version,
            said,
            at.chain,
            padding,
        )

    def from_beginning(self) -> Iterator[tuple[Continuation, bytes]]:
        """All outputs of one that repeats, each with its place."""
        at = Continuation()
        while at.index < self.count:
            payload = self.output(at)
            yield at, payload
            at = at.after(payload)

    def seek(self, index: int) -> Continuation:
        """The place of an output, by one that repeats."""
        at = Continuation()
        for at, payload in self.from_beginning():
            if at.index == index:
                return at
            at = at.after(payload)  # noqa: PLW2901 — the place behind the last one
        return at
