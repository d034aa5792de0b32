"""What keeps the streams of a client from storming a target that is down or busy.

While nobody answers at the target, one stream probes for all, and what it finds out holds for all:
whoever waits shares its failure as if it had been his own attempt. Once it is answered, the others
follow in growing numbers. Besides, attempts that follow upon one without progress take a token of a
bucket that all streams share and that time refills. Rule: docs/protocol.md, section 14.
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections import deque
from dataclasses import dataclass

from servestream_client.config import RetryPolicy
from servestream_client.transport.classify import Verdict

__all__ = ["Gate", "Passage", "SharedFailure"]

_TOKENS = 50.0
_TOKENS_PER_SECOND = 10.0
"""An outage of T seconds costs all streams together no more fruitless attempts than 50 + 10 T."""


class SharedFailure(Exception):  # noqa: N818 — an event between two functions
    """Another stream tried for this one, in vain.

    Attributes:
        verdict: what it found.
    """

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict


class _State(enum.Enum):
    OPEN = "nothing speaks against the target"
    CLOSED = "nobody answers there"
    OPENING = "it has answered again, and streams are let through a few at a time"


class Passage(enum.Enum):
    """How an attempt came through."""

    FREE = "like any"
    PROBE = "for all others"
    RELEASED = "as one of a growing number"


@dataclass(slots=True)
class _Bucket:
    tokens: float = _TOKENS
    filled: float = 0.0

    def take(self, now: float) -> float:
        """Take a token; how many seconds until it is there."""
        self.tokens = min(_TOKENS, self.tokens + (now - self.filled) * _TOKENS_PER_SECOND)
        self.filled = now
        self.tokens -= 1
        return max(0.0, -self.tokens / _TOKENS_PER_SECOND)


class Gate:
    """Before one target. All its streams run on one event loop."""

    def __init__(self) -> None:
        self._state = _State.OPEN
        self._bucket = _Bucket()
        self._probing = False
        self._failures = 0  # probes in a row
        self._next_probe = 0.0
        self._under_way = 0  # released attempts that have no answer yet
        self._most = 1  # of them
        self._queue: deque[asyncio.Future[Verdict | None]] = deque()
        """Those who wait for their turn, or to hear what a probe has found."""

    async def enter(self, policy: RetryPolicy, *, fruitless: bool) -> Passage:
        """Wait until an attempt may be made. Whoever gets a passage gives it back, by `answered`,
        `failed` or `left`.

        Args:
            policy: of the stream.
            fruitless: its last attempt made no progress.

        Raises:
            SharedFailure: it was made by another stream, in vain.
        """
        if fruitless:
            try:
                await asyncio.sleep(self._bucket.take(_now()))
            except BaseException:
                self._bucket.tokens += 1  # it was not used
                raise
        while self._state is not _State.OPEN:
            if self._state is _State.OPENING and self._under_way < self._most:
                self._under_way += 1
                return Passage.RELEASED
            if self._state is _State.CLOSED and not self._probing:
                return await self._begin_probe(policy)
            verdict = await self._wait_in_queue()
            if verdict is not None:
                raise SharedFailure(verdict)
        return Passage.FREE

    def answered(self, passage: Passage) -> None:
        """Somebody answered at the target, whatever he said."""
        if passage is Passage.PROBE:
            self._state, self._failures, self._most = _State.OPENING, 0, 1
            self._probing = False
        elif passage is Passage.RELEASED:
            self._under_way -= 1
            self._most += 1
        self._let_through()

    def failed(self, passage: Passage, verdict: Verdict) -> None:
        """Nobody answered."""
        if passage is Passage.PROBE:
            self._failures += 1
            self._probing = False
            self._wake(len(self._queue), verdict)
        elif passage is Passage.RELEASED:
            self._under_way -= 1
        self.broken()

    def broken(self) -> None:
        """The target's connection broke, under a stream that had been answered."""
        if self._state is not _State.CLOSED:
            self._state, self._failures = _State.CLOSED, 0
            self._next_probe = _now()
            self._wake(len(self._queue))

    def left(self, passage: Passage) -> None:
        """The attempt was called off before it was known whether anybody answers."""
        if passage is Passage.PROBE:
            self._probing = False
            self._wake(1)  # who goes on with it
        elif passage is Passage.RELEASED:
            self._under_way -= 1
            self._let_through()

    # ---------------------------------------------------------------- inside

    async def _begin_probe(self, policy: RetryPolicy) -> Passage:
        self._probing = True
        widest = min(policy.maximum, policy.initial * 2 ** min(self._failures, 20))
        if self._failures:
            self._next_probe = _now() + widest * random.random()  # noqa: S311 — hides nothing
        try:
            await asyncio.sleep(max(0.0, self._next_probe - _now()))
        except BaseException:
            self.left(Passage.PROBE)
            raise
        return Passage.PROBE

    async def _wait_in_queue(self) -> Verdict | None:
        """Until it is this one's turn to look again; or what a probe has found."""
        turn: asyncio.Future[Verdict | None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            return await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.result() is None:
                self._wake(1)  # it was this one's turn, and is the next one's now
            raise

    def _let_through(self) -> None:
        if self._state is not _State.OPENING:
            return
        self._wake(self._most - self._under_way)
        if not self._queue and not self._under_way:
            self._state = _State.OPEN

    def _wake(self, count: int, verdict: Verdict | None = None) -> None:
        while count > 0 and self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(verdict)
                count -= 1


def _now() -> float:
    return asyncio.get_running_loop().time()
