"""Services with many outputs, one for each way to go on; an output says what it should be.

Without Ray, so that tests may import what they expect.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from typing import NamedTuple

from servestream_client.server import Replay, Resume, StreamService

__all__ = ["OUTPUTS", "Continuing", "Drifting", "Made", "Restarting", "Seeking", "made"]

OUTPUTS = 200
SECONDS_EACH = 0.02


class Made(NamedTuple):
    """An output.

    Attributes:
        item: of this input.
        position: among the outputs of its input, as the handler counted.
        voice: of the process that made it, for handlers of which each has another; else 0.
        proof: of item and position.
    """

    item: bytes
    position: int
    voice: int
    proof: str

    def packed(self) -> bytes:
        return b"%s %d %d %s" % (self.item, self.position, self.voice, self.proof.encode())

    @classmethod
    def unpack(cls, output: bytes) -> Made:
        item, position, voice, proof = output.split()
        return cls(item, int(position), int(voice), proof.decode())


def made(item: bytes, position: int, voice: int = 0) -> Made:
    """What is to be made there."""
    proof = hashlib.blake2b(b"%s %d" % (item, position), digest_size=8).hexdigest()
    return Made(item, position, voice, proof)


class _Counting(StreamService[bytes, bytes]):
    """Gives `OUTPUTS` outputs for each input, at the pace of a language model."""

    fingerprint = "counting 1"
    max_concurrency = 1000

    async def _outputs(self, item: bytes, start: int, voice: int = 0) -> AsyncIterator[bytes]:
        for position in range(start, OUTPUTS):
            await asyncio.sleep(SECONDS_EACH)
            yield made(item, position, voice).packed()


class Restarting(_Counting):
    """Gives the same again."""

    replay = Replay.RESTART

    async def generate(self, item: bytes, resume: Resume[bytes]) -> AsyncIterator[bytes]:  # noqa: ARG002
        async for output in self._outputs(item, 0):
            yield output


class Seeking(_Counting):
    """Goes on at an index."""

    replay = Replay.SEEK

    async def generate(self, item: bytes, resume: Resume[bytes]) -> AsyncIterator[bytes]:
        async for output in self._outputs(item, resume.index):
            yield output


class Continuing(_Counting):
    """Goes on behind what was delivered, in the voice of its own process."""

    replay = Replay.CONTINUE

    async def generate(self, item: bytes, resume: Resume[bytes]) -> AsyncIterator[bytes]:
        start = Made.unpack(resume.outputs[-1]).position + 1 if resume.outputs else 0
        async for output in self._outputs(item, start, os.getpid()):
            yield output

    def is_finished(self, item: bytes, resume: Resume[bytes]) -> bool:  # noqa: ARG002
        return resume.index == OUTPUTS


class Drifting(_Counting):
    """Is declared to give the same again, and does not."""

    replay = Replay.RESTART

    async def generate(self, item: bytes, resume: Resume[bytes]) -> AsyncIterator[bytes]:  # noqa: ARG002
        async for output in self._outputs(item, 0, os.getpid()):
            yield output
