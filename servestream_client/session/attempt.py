"""One attempt of a stream: one call at its endpoint, and what comes of it.

Invariant: what belongs to one call dies with it. However `Attempt.run` ends, by then the call is
cancelled, the session has let go of the attempt, its admission is given back, the hooks have heard
its end, and nothing keeps the call.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from servestream_client.config import RetryPolicy
from servestream_client.events import AttemptOutcome
from servestream_client.protocol import client
from servestream_client.protocol.states import ClientState
from servestream_client.session.announcer import Announcer
from servestream_client.session.breaker import Admission
from servestream_client.session.endpoint_pool import EndpointPool
from servestream_client.session.endpoints import Endpoint
from servestream_client.session.exchange import Exchange
from servestream_client.session.outage import Outage
from servestream_client.session.outcome import (
    AttemptFailed,
    Ending,
    attempt_failed,
    attempt_outcome,
    explained,
    out_of_patience,
    silent_for,
)
from servestream_client.signals import Signal
from servestream_client.transport.base import Link
from servestream_client.transport.classify import Verdict, classify_status
from servestream_client.usercode import describe

__all__ = ["Attempt", "StreamParts"]

_LONGEST = 86_400.0 * 365 * 100
"""Seconds: no server need hear of a deadline that is further away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamParts:
    """What all attempts of one stream have in common.

    Attributes:
        session: the stream's state.
        pool: the endpoints where they go.
        apart: their calls carry small items that somebody waits for; see `Transport.open`.
        eager: whether an open frame may carry inputs, where the endpoint is known.
        retry: the stream's policy.
        outage: how long the stream has been without a server.
        announcer: tells the hooks.
        outbound: raised when there may be something to send.
        notify: called when there may be something to take.
        changed: called when a frame came in.
        nothing_open: whether the stream is complete, and nothing more is to be learnt.
        close_timeout: seconds that any leave-taking may last.
    """

    session: client.ClientSession
    pool: EndpointPool
    apart: bool
    eager: bool
    retry: RetryPolicy
    outage: Outage
    announcer: Announcer
    outbound: Signal
    notify: Callable[[], None]
    changed: Callable[[], None]
    nothing_open: Callable[[], bool]
    close_timeout: float


class Attempt:
    """See the module.

    Args:
        parts: the stream's.
        endpoint: where it goes.
        admission: by which it is made.
        alone: its open carries no inputs, since the attempt before was not welcomed.
        deadline: of the stream, by the event loop's clock; infinity: it has none.
    """

    def __init__(
        self,
        parts: StreamParts,
        endpoint: Endpoint,
        admission: Admission,
        *,
        alone: bool,
        deadline: float,
    ) -> None:
        self.exchange: Exchange | None = None
        """Its traffic, while there is any."""
        self.welcomed: bool = False
        """Whether its server has said welcome."""
        self.progressed: bool = False
        """Whether it has ended, and had brought anything new or had its time."""
        self.broke_protocol: bool = False
        """Whether its server broke the protocol."""
        self._parts = parts
        self._endpoint = endpoint
        self._admission = admission
        self._alone = alone
        self._deadline = deadline
        self._received = parts.session.counters.received  # as last looked at
        self._welcomes = parts.session.counters.welcomes  # before it

    async def run(self) -> AttemptFailed | None:
        """The call, from its opening to its end.

        Returns:
            How the stream was interrupted; None: it is complete.

        Raises:
            AttemptFailed: the outage's deadline passed before anything came.
        """
        parts, link, begun = self._parts, None, None
        session, endpoint, announcer = parts.session, self._endpoint, parts.announcer
        outcome, reason, status = AttemptOutcome.CLOSED, "", "CANCELLED"
        untold = cut_short = False
        try:
            # Announced in here: what is told to begin is told to end.
            metadata = announcer.attempt_started(session.counters.attempts + 1, endpoint.name)
            link = endpoint.open(metadata, apart=parts.apart)
            begun = session.begin(
                known=endpoint.limits if parts.eager and not self._alone else None,
                deadline_ms=self._time_left_ms(),
            )
            self.exchange = self._exchange(begun, link)
            ended = await self._traffic(self.exchange)
            outcome = attempt_outcome(session.state, ended)
            reason, status = (ended.verdict.reason, ended.verdict.status) if ended else ("", "OK")
            untold = ended is not None and ended.verdict.vague and not endpoint.known
        except AttemptFailed as failed:
            outcome, reason, cut_short = AttemptOutcome.BROKEN, failed.verdict.reason, True
            status = failed.verdict.status
            raise
        except Exception as bug:
            outcome, reason, status = AttemptOutcome.BROKEN, describe(bug), ""
            raise
        finally:
            exchange, self.exchange = self.exchange, None
            self._admission.left()  # unless it is known how it went
            if link is not None:
                # gRPC hears least of what a reverse proxy says on a connection that is used again;
                # and behind what is on its way the next attempt would wait.
                ending = exchange.ending if exchange is not None and not cut_short else Ending()
                laden = begun is not None and begun.large_under_way > 0
                if ending.unanswered or ending.silent or untold or laden:
                    link.avoid_connection()
                link.cancel()
            if begun is not None:
                session.lost(begun.number)
            announcer.attempt_ended(outcome, reason, status)
            link = begun = None  # whose inputs would be kept
            del exchange  # an error's traceback leads here
        return ended

    def _exchange(self, begun: client.Attempt, link: Link) -> Exchange:
        parts = self._parts
        longest = parts.retry.max_attempt_age
        return Exchange(
            session=parts.session,
            attempt=begun,
            link=link,
            outbound=parts.outbound,
            notify=parts.notify,
            answered=self._admission.answered,
            changed=self._changed,
            open_timeout=min(parts.retry.open_timeout, parts.outage.deadline - _now()),
            max_age=None if longest is None else longest * random.uniform(0.8, 1.2),  # noqa: S311 — hides nothing
            close_timeout=parts.close_timeout,
        )

    async def _traffic(self, exchange: Exchange) -> AttemptFailed | None:
        """The traffic of the call, and what came of it; None: the stream is complete.

        Raises:
            AttemptFailed: the outage's deadline passed before anything came.
        """
        parts, ending = self._parts, exchange.ending
        session, outage, begun = parts.session, parts.outage, _now()
        await exchange.run()
        if ending.unanswered and outage.passed(_now()):
            del exchange  # which the error's traceback would keep, and with it the call
            raise out_of_patience(outage)
        self.broke_protocol = ending.violation is not None
        verdict = await self._verdict(exchange)
        if verdict is not None and exchange.away:
            verdict = replace(verdict, reason=f"{verdict.reason}; {exchange.away}")
        self._endpoint.attempt_ended(
            self._admission,
            verdict,
            unanswered=ending.unanswered,
            silent=ending.silent and session.awaited is None,
        )
        if verdict is None:
            return None
        now = _now()
        # Whether a server that broke had got the inputs is known only if it had said welcome.
        failed = attempt_failed(
            session,
            ending,
            verdict,
            welcomed=self.welcomed,
            lasted=now - begun,
            age=exchange.age,
        )
        self.progressed = failed.progressed
        outage.failed(
            now, verdict, progressed=failed.progressed, silent_for=silent_for(session, ending)
        )
        return failed

    async def _verdict(self, exchange: Exchange) -> Verdict | None:
        """What the traffic came to; None: the stream is complete."""
        parts, session = self._parts, self._parts.session
        known = self._endpoint.known
        if not self.broke_protocol and parts.nothing_open():
            return None
        verdict = explained(
            session,
            exchange.ending,
            known=known,
            open_timeout=parts.retry.open_timeout,
        )
        if verdict is None:
            status = await exchange.link.status()
            return classify_status(status, known=known)
        if session.state is ClientState.REFUSED and not self.broke_protocol:
            self._endpoint.refused(verdict)
        return verdict

    def _changed(self) -> None:
        """A frame came in, or the exchange is about to wait for the end only."""
        parts, session = self._parts, self._parts.session
        outage, counters = parts.outage, session.counters
        if outage.began < math.inf and session.progressed:
            outage.over()
        parts.pool.answered += counters.received - self._received
        self._received = counters.received
        if not self.welcomed and counters.welcomes > self._welcomes and session.welcome is not None:
            self.welcomed = True
            self._endpoint.welcomed(session.welcome.limits)
            parts.pool.learn(session.welcome.endpoints)
            parts.pool.many = not session.may_quarantine
            outage.welcomed(_now())
            parts.announcer.attempt_welcomed(session.welcome)
        if session.load is not None:
            parts.pool.load = self._endpoint.load = session.load
        if session.grace_ms is not None and session.state is ClientState.DRAINING:
            parts.announcer.attempt_drains(session.grace_ms)
        parts.pool.learn(session.elsewhere)
        parts.changed()

    def _time_left_ms(self) -> int:
        if self._deadline == math.inf:
            return 0
        return max(1, int(min(self._deadline - _now(), _LONGEST) * 1000))


def _now() -> float:
    return asyncio.get_running_loop().time()
