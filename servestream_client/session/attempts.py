"""Attempts in turn, until the stream is complete or the retry policy allows no more.

Invariant: there is one attempt at a time. After one that was not welcomed, the next open carries no
inputs; after one without progress, the next takes a token of the circuit breaker's bucket.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

from servestream_client.errors import StreamError
from servestream_client.session.admissions import Admissions
from servestream_client.session.attempt import Attempt, StreamParts
from servestream_client.session.breaker import Admission
from servestream_client.session.endpoints import Endpoint
from servestream_client.session.exchange import Exchange
from servestream_client.session.outcome import AttemptFailed, FailureRow
from servestream_client.session.retry import retrying
from servestream_client.transport.classify import Decision, Verdict

__all__ = ["Attempts"]

logger: logging.Logger = logging.getLogger(__name__)


class Attempts:
    """See the module.

    Args:
        parts: what the attempts have in common.
        on_failed: called between two attempts, before it is known whether there will be a second.
        nobody_waits: for what the stream may still learn of its target.
    """

    def __init__(
        self,
        parts: StreamParts,
        *,
        on_failed: Callable[[AttemptFailed], None],
        nobody_waits: bool,
    ) -> None:
        self.last: Attempt | None = None
        """The present attempt, or the one before the next."""
        self.gave_up: bool = False
        """Whether they ended since the retry policy allows no more."""
        self.deadline: float = math.inf
        """The stream's, by the event loop's clock."""
        self._parts = parts
        self._admissions = Admissions(parts.pool, parts.retry, parts.outage)
        self._on_failed = on_failed
        self._nobody_waits = nobody_waits
        self._row = FailureRow()
        self._outside = 0  # answers by lanes, up to the last failure

    @property
    def place(self) -> str:
        """Where the last attempt went; empty: there was none yet."""
        return "" if self.endpoint is None else self.endpoint.name

    @property
    def exchange(self) -> Exchange | None:
        """The traffic of the present attempt, while there is any."""
        return self.last.exchange if self.last is not None else None

    @property
    def endpoint(self) -> Endpoint | None:
        """Where the last attempt went; None: there was none yet."""
        return self._admissions.endpoint

    def stand_back(self, delays: int) -> None:
        """See `Admissions`."""
        self._admissions.stand_back(delays)

    async def run(self) -> StreamError | None:
        """All of them. Returns what to raise, or None when the stream is complete."""
        parts = self._parts
        loop = retrying(
            parts.retry,
            outage=parts.outage,
            clock=_now,
            known=lambda: parts.pool.known,
            sleep=parts.pool.sleep,
            before_sleep=self._log_retry,
        )
        try:
            await loop(self._attempt)
        except AttemptFailed as failed:
            self.gave_up = failed.verdict.decision is not Decision.FAIL
            error = self._row.error(
                failed,
                endpoint=self.endpoint,
                pool=parts.pool,
                policy=parts.retry,
                outage=parts.outage,
                attempts=parts.session.counters.attempts,
                now=_now(),
            )
            error.__cause__ = failed
            return error
        return None

    def _log_retry(self, failed: AttemptFailed, wait: float) -> None:
        self._row.add(failed)
        logger.info(
            "stream %s: attempt %d failed, the next in %.2f s: %s",
            self._parts.session.stream_id.hex(),
            self._parts.session.counters.attempts,
            wait,
            failed.verdict.reason,
        )

    async def _attempt(self) -> None:
        """One call. Returns if the stream is complete.

        Raises:
            AttemptFailed: it is not.
        """
        endpoint, admission = await self._admission()
        with admission, self._parts.pool.under_way(endpoint, self._give_up):
            last = self.last
            attempt = self.last = Attempt(
                self._parts,
                endpoint,
                admission,
                alone=last is not None and not last.welcomed,
                deadline=self.deadline,
            )
            failed = await attempt.run()
        if failed is None:
            return
        outside, self._outside = self._outside, self._parts.session.counters.outside
        failed.fed = self._outside > outside
        if failed.fed:
            self._parts.outage.over()
        self._on_failed(failed)
        # After a breach another attempt is to confirm the end, unless nobody waits for it.
        if self._parts.nothing_open() and (self._nobody_waits or not attempt.broke_protocol):
            return
        if failed.progressed:
            self._row.progress()
        verdict = self._parts.pool.elsewhere(endpoint, failed.verdict, welcomed=attempt.welcomed)
        if verdict is not None:
            failed.verdict, failed.elsewhere = verdict, True
        raise failed

    def _give_up(self, away: Verdict) -> None:
        """The endpoint of the present attempt cannot be reached, and another can."""
        if self.exchange is not None:
            self.exchange.give_up(away)

    async def _admission(self) -> tuple[Endpoint, Admission]:
        """Wait until an attempt may be made.

        Raises:
            AttemptFailed: another stream made it for this one, in vain; or it is too late for it.
        """
        last = self.last
        endpoint, admission = await self._admissions.wait(
            no_progress=last is not None and not last.progressed
        )
        if isinstance(admission, Admission):
            return endpoint, admission
        self._parts.outage.failed(_now(), admission)
        self._row.share()
        raise AttemptFailed(admission, progressed=False)


def _now() -> float:
    return asyncio.get_running_loop().time()
