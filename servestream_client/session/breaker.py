"""A circuit breaker: keeps the streams of a client from storming a target that is down or busy.

While nobody answers at the target, one stream probes for all, and what it finds out holds for all:
streams that wait share its failure as if it had been an attempt of their own. Once it is answered,
the others follow in growing numbers. Besides, attempts that follow upon one without progress take a
token of a bucket that all streams share and that time refills. Rule: docs/protocol.md, section 14.

Invariant: each admission is given back exactly once, whatever happens to the stream that holds it;
so there is always somebody who probes, or nobody who waits.
"""

from __future__ import annotations

import asyncio
import enum
import math
import random
from collections import OrderedDict
from dataclasses import dataclass
from typing import Self

from servestream_client.config import RetryPolicy
from servestream_client.transport.classify import Verdict

__all__ = ["Admission", "AdmissionKind", "CircuitBreaker"]

_TOKENS = 50.0
_TOKENS_PER_SECOND = 10.0
"""An outage of T seconds costs all streams together at most 50 + 10 T attempts without progress."""


class _State(enum.Enum):
    CLOSED = "nothing speaks against the target"
    OPEN = "nobody answers there"
    RECOVERING = "it has answered again, and streams are let through a few at a time"


class AdmissionKind(enum.Enum):
    """How an attempt came through."""

    NORMAL = "like any"
    PROBE = "for all others"
    RAMP_UP = "as one of a growing number"


class Admission:
    """Leave to make one attempt. Enter it with ``with``: if nothing else is said until the block is
    left, in whatever way, the attempt counts as called off. Only the first word counts.
    """

    __slots__ = ("_breaker", "_pending", "kind")

    def __init__(self, breaker: CircuitBreaker, kind: AdmissionKind) -> None:
        self.kind: AdmissionKind = kind
        self._breaker = breaker
        self._pending = True

    @property
    def pending(self) -> bool:
        """Whether nothing was said of the attempt so far."""
        return self._pending

    def answered(self) -> None:
        """Somebody answered at the target, whatever they said."""
        if self._close():
            self._breaker._answered(self.kind)  # noqa: SLF001 — one thing with it

    def failed(self, verdict: Verdict) -> None:
        """Nobody answered."""
        if self._close():
            self._breaker._failed(self.kind, verdict)  # noqa: SLF001

    def left(self) -> None:
        """The attempt was called off before it was known whether anybody answers."""
        if self._close():
            self._breaker._left(self.kind)  # noqa: SLF001

    def _close(self) -> bool:
        was_pending, self._pending = self._pending, False
        return was_pending

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.left()


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

    def give_back(self) -> None:
        """A token was not used."""
        self.tokens = min(_TOKENS, self.tokens + 1)


class CircuitBreaker:
    """Of one target, for all its streams, which run on one event loop."""

    def __init__(self) -> None:
        self._state = _State.CLOSED
        self._bucket = _Bucket()
        self._probing = False
        self._verdict: Verdict | None = None  # what opened it
        self._failures = 0  # probes in a row
        self._failed_at = 0.0  # the last of them
        self._next_probe = 0.0
        self._waiting_to_probe: asyncio.Future[None] | None = None
        self._under_way = 0  # attempts of the ramp-up that have no answer yet
        self._most = 1  # of them
        self._queue: OrderedDict[asyncio.Future[Verdict | None], None] = OrderedDict()
        """Those who wait for their turn, or to hear what a probe has found."""

    async def admit(
        self,
        policy: RetryPolicy,
        *,
        no_progress: bool,
        deadline: float = math.inf,
        last_look: float = math.inf,
    ) -> Admission | Verdict:
        """Wait until an attempt may be made.

        Args:
            policy: of the stream.
            no_progress: its last attempt made no progress.
            deadline: when its patience ends, by the event loop's clock.
            last_look: a probe is not to begin later than this, so that the stream can tell by then
                whether anybody is there.

        Returns:
            Leave to make it; or what another stream found that made it for this one, in vain.

        Raises:
            TimeoutError: the deadline passed.
        """
        if no_progress:
            await self._token(deadline)
        token_used = False
        try:
            async with asyncio.timeout_at(None if deadline == math.inf else deadline):
                admission = await self._pass(policy, last_look)
                token_used = isinstance(admission, Admission)
                return admission
        finally:
            if no_progress and not token_used:
                self._bucket.give_back()

    @property
    def open_because(self) -> Verdict | None:
        """What the last try has found, while nobody answers; else None."""
        return self._verdict if self._state is _State.OPEN else None

    def trip(self, verdict: Verdict) -> None:
        """The target's connection broke, under a stream that had been answered."""
        self._verdict = verdict
        if self._state is not _State.OPEN:
            self._state, self._failures = _State.OPEN, 0
            self._next_probe = _now()
            self._wake(len(self._queue))

    def half_open(self) -> None:
        """A connection can be made again: let streams through, one at a time to begin with."""
        if self._state is _State.OPEN:
            self._state, self._failures, self._most = _State.RECOVERING, 0, 1
            self._let_through()

    # ---------------------------------------------------------------- from the admissions

    def _answered(self, kind: AdmissionKind) -> None:
        if kind is AdmissionKind.PROBE:
            self._state, self._failures, self._most = _State.RECOVERING, 0, 1
            self._probing = False
        elif kind is AdmissionKind.RAMP_UP:
            self._under_way -= 1
            self._most += 1
        self._let_through()

    def _failed(self, kind: AdmissionKind, verdict: Verdict) -> None:
        if kind is AdmissionKind.PROBE:
            self._failures += 1
            self._failed_at = _now()
            self._probing = False
            self._wake(len(self._queue), verdict)
        elif kind is AdmissionKind.RAMP_UP:
            self._under_way -= 1
        self.trip(verdict)

    def _left(self, kind: AdmissionKind) -> None:
        if kind is AdmissionKind.PROBE:
            self._probing = False
            self._wake(1)  # who goes on with it
        elif kind is AdmissionKind.RAMP_UP:
            self._under_way -= 1
            self._let_through()

    # ---------------------------------------------------------------- inside

    async def _token(self, deadline: float) -> None:
        now = _now()
        delay = self._bucket.take(now)
        late = now + delay > deadline
        if late:  # it is of use to those who have more time
            self._bucket.give_back()
            delay = max(0.0, deadline - now)
        try:
            await asyncio.sleep(delay)
        except BaseException:
            if not late:
                self._bucket.give_back()
            raise
        if late:
            raise TimeoutError

    async def _pass(self, policy: RetryPolicy, last_look: float) -> Admission | Verdict:
        while self._state is not _State.CLOSED:
            if self._state is _State.RECOVERING and self._under_way < self._most:
                self._under_way += 1
                return Admission(self, AdmissionKind.RAMP_UP)
            if self._state is _State.OPEN and not self._probing:
                return await self._begin_probe(policy, last_look)
            self._probe_by(last_look)
            verdict = await self._wait_in_queue()
            if verdict is not None:
                return verdict
        return Admission(self, AdmissionKind.NORMAL)

    async def _begin_probe(self, policy: RetryPolicy, last_look: float) -> Admission:
        self._probing = True
        admission = Admission(self, AdmissionKind.PROBE)
        try:
            widest = min(policy.maximum, policy.initial * 2 ** min(self._failures, 20))
            if self._failures:
                spread = widest * random.random()  # noqa: S311 — hides nothing
                self._next_probe = self._failed_at + spread
            self._probe_by(last_look)
            await asyncio.sleep(0)
            while (left := self._next_probe - _now()) > 0:
                self._waiting_to_probe = asyncio.get_running_loop().create_future()
                await asyncio.wait({self._waiting_to_probe}, timeout=left)
        except BaseException:
            admission.left()
            raise
        finally:
            self._waiting_to_probe = None
        return admission

    def _probe_by(self, last_look: float) -> None:
        """See that the next probe does not begin later than that."""
        if last_look >= self._next_probe:
            return
        self._next_probe = last_look
        if self._waiting_to_probe is not None and not self._waiting_to_probe.done():
            self._waiting_to_probe.set_result(None)

    async def _wait_in_queue(self) -> Verdict | None:
        """Until it is this one's turn to look again; or what a probe has found."""
        turn: asyncio.Future[Verdict | None] = asyncio.get_running_loop().create_future()
        self._queue[turn] = None
        try:
            return await turn
        except BaseException:
            self._queue.pop(turn, None)  # or else it would stay as long as the probe takes
            if turn.done() and not turn.cancelled() and turn.result() is None:
                self._wake(1)  # it was this one's turn, and is the next one's now
            raise

    def _let_through(self) -> None:
        if self._state is not _State.RECOVERING:
            return
        self._wake(self._most - self._under_way)
        if not self._queue and not self._under_way:
            self._state = _State.CLOSED

    def _wake(self, count: int, verdict: Verdict | None = None) -> None:
        while count > 0 and self._queue:
            turn, _ = self._queue.popitem(last=False)
            if not turn.done():
                turn.set_result(verdict)
                count -= 1


def _now() -> float:
    return asyncio.get_running_loop().time()
