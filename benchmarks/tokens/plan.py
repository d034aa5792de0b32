"""What a generation is asked for, and the tokens that it gives.

Client and server share a machine, and so the clock that the tokens are stamped with.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
from collections.abc import AsyncIterator
from typing import NamedTuple, Self

_PLAN = struct.Struct("!qqdqd")
_TOKEN = struct.Struct("!qdq")

TOKEN_BYTES = 30
"""Of a token as language models give them, with what stands beside it."""

MOST_BEHIND = 1.0
"""Seconds: a handler that was held up for longer does not catch up with all of it."""


class Plan(NamedTuple):
    """What a handler does.

    Attributes:
        length: tokens, those before `start` included.
        start: the index of the first.
        rate: tokens in a second; infinity: as many as it can, but others on the event loop have
            their turn after each; 0: not even that.
        size: of a token in bytes, at least 24.
        prefill: seconds before the first.
    """

    length: int
    start: int = 0
    rate: float = 0.0
    size: int = TOKEN_BYTES
    prefill: float = 0.0

    def pack(self) -> bytes:
        return _PLAN.pack(*self)

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        return cls._make(_PLAN.unpack(packed))


class Token(NamedTuple):
    """What a token says.

    Attributes:
        place: its index in the generation.
        made: when, in seconds of this machine's monotonic clock.
        pid: by which process.
    """

    place: int
    made: float
    pid: int

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        return cls._make(_TOKEN.unpack_from(packed))

    def pack(self) -> bytes:
        """It without what pads it."""
        return _TOKEN.pack(*self)


async def tokens(plan: Plan) -> AsyncIterator[bytes]:
    """The handler, which is the same for all contenders. At a rate, each token has its time, and
    one that is late does not make the next one late.
    """
    clock, pack, pid = time.monotonic, _TOKEN.pack, os.getpid()
    rest = bytes(plan.size - _TOKEN.size)
    if plan.prefill:
        await asyncio.sleep(plan.prefill)
    rate, interval = plan.rate, 1 / plan.rate if plan.rate else 0.0
    due = clock()
    for place in range(plan.start, plan.length):
        if interval:
            wait = due - clock()
            if wait > 0:
                await asyncio.sleep(wait)
            due = max(due, clock() - MOST_BEHIND) + interval
        elif rate:
            await asyncio.sleep(0)
        yield pack(place, clock(), pid) + rest
