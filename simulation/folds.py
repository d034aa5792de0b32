"""Stateful streams under simulation: each output carries a checksum of all inputs before it that
did not fail, so that whoever looks at it sees whether the state is that of an undisturbed fold.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass, replace

from servestream_client.server.tokens import Tokens
from simulation.items import Items

__all__ = ["NO_FOLD", "FoldShape", "State", "draw_fold", "few_inputs", "folds"]

_PREFIX = 9
_MOST_INPUTS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldShape:
    """How a stateful service is written.

    Attributes:
        batches: whether by `step_batch`, or by `step`.
        tokens: how often states travel.
        padding: bytes of a state, beyond the checksum.
    """

    batches: bool
    tokens: Tokens
    padding: int


NO_FOLD = FoldShape(batches=False, tokens=Tokens(), padding=0)


@dataclass(frozen=True, slots=True)
class State:
    """Of one stream: the checksum of its inputs so far."""

    checksum: int

    @classmethod
    def of_stream(cls, key: int) -> State:
        """That with which a stream begins."""
        return cls(zlib.crc32(b"%d" % key))

    def behind(self, item: bytes) -> State:
        """That behind one more input."""
        return State(zlib.crc32(item, self.checksum))

    def shown(self, output: bytes) -> bytes:
        """An output that shows it."""
        return b"%08x|%b" % (self.checksum, output)

    def hidden(self, output: bytes) -> bytes | None:
        """The same without it; None: it shows another one."""
        prefix, rest = output[:_PREFIX], output[_PREFIX:]
        return rest if prefix == self.shown(b"") else None

    def to_bytes(self, padding: int) -> bytes:
        return b"%08x" % self.checksum + b"." * padding

    @classmethod
    def from_bytes(cls, raw: bytes) -> State:
        return cls(int(raw[:8], 16))


def folds(rng: random.Random) -> bool:
    """Whether a scenario is of this kind."""
    return rng.random() < 0.15


def draw_fold(rng: random.Random) -> FoldShape:
    """How its service is written."""
    return FoldShape(
        batches=rng.random() < 0.4,
        tokens=Tokens(
            inputs=rng.choice((1, 3, 10, 64, 1000)),
            seconds=rng.choice((0.1, 2.0)),
            share=rng.choice((0.05, 1.0, 1.0)),
        ),
        padding=rng.choice((0, 0, 1000)),
    )


def few_inputs(items: Items) -> Items:
    """The same, where each input has to wait for the one before."""
    count = min(items.count, _MOST_INPUTS)
    specials = {number: special for number, special in items.specials.items() if number <= count}
    return replace(items, count=count, specials=specials)
