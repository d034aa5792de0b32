"""What all streams of a client know of one server, and how they reach it.

Invariant: an endpoint whose limits are known was welcomed by its server once, and stays known
whatever happens later; what the end of an attempt says of it, the circuit breaker hears once; and
whoever is doubted or refused is so for a time that grows until it says welcome.
"""

from __future__ import annotations

import asyncio
import enum
import math
from collections.abc import Callable

from servestream_client.errors import UnreachableError
from servestream_client.metadata import Metadata
from servestream_client.protocol.frames import Limits, Load
from servestream_client.session.breaker import Admission, AdmissionKind, CircuitBreaker
from servestream_client.transport.base import Link, Transport
from servestream_client.transport.classify import Decision, Verdict
from servestream_client.transport.proxies import Proxy, proxy_of

__all__ = ["Endpoint", "Standing"]

_DOUBT_SECONDS, _LONGEST_DOUBT = 5.0, 60.0
_REFUSAL_SECONDS, _LONGEST_REFUSAL = 30.0, 600.0
_PROBE_SECONDS, _LONGEST_PROBE_PAUSE = 0.25, 15.0
_URGENT_PROBE_PAUSE = 1.0


class Standing(enum.IntEnum):
    """How good a choice an endpoint is, beside others; the least is the best."""

    GOOD = 0
    """Nothing speaks against it."""
    DOUBTED = 1
    """It said nothing for as long as anybody waits."""
    OUT = 2
    """Nobody answers there."""
    REFUSED = 3
    """What answers there is not what this client is for."""


class Endpoint:
    """One place of a target as streams see it.

    Args:
        name: for people.
        make_transport: called when the first call opens, in whose event loop it then lives.
        direct: no proxy of the environment's is before it, whatever its name.
        spare: it is for when there is no other.
    """

    def __init__(
        self,
        name: str,
        make_transport: Callable[[], Transport],
        *,
        direct: bool = False,
        spare: bool = False,
    ) -> None:
        self.name: str = name
        self.make_transport: Callable[[], Transport] = make_transport
        self.spare: bool = spare
        self.known: bool = False
        """Whether it ever spoke the protocol with this client: by a welcome, or by a refusal that
        will pass."""
        self.limits: Limits | None = None
        """What it allowed when it last did; None: the next open travels alone."""
        self.load: Load | None = None
        """What a server there last said of its load."""
        self.breaker: CircuitBreaker = CircuitBreaker()
        """What all attempts pass."""
        self.proxy: Proxy | None = None
        """What the environment puts before it."""
        self.transport: Transport | None = None
        """What opens calls; None: none was opened yet, or it was given back."""
        self.live: list[Callable[[Verdict], None]] = []
        """For each attempt that is under way there, what tells it that nobody will answer."""
        self.unproven: bool = False
        """Whether it is hearsay, and nothing has shown yet that it can be reached."""
        self._direct = direct
        self._verdict: Verdict | None = None  # for which it is doubted, or refused
        self._refused = False
        self._fell_silent = False  # that is why: who is behind it may have, and not it
        self._until = 0.0
        self._rounds = 0
        self._probed = -math.inf
        self._questioned = False
        self._probes = 0

    def open(self, metadata: Metadata = (), *, apart: bool = False) -> Link:
        """Begin a call; see `Transport.open`."""
        return self.reach().open(metadata, apart=apart)

    async def probe(self) -> Verdict | None:
        """Whether a connection can be made, which ends the doubt about one that only fell silent.
        Returns why not.
        """
        try:
            why = await self.reach().probe()
        finally:
            self._probes += 1
            self._probed, self._questioned = _now(), False
        if why is None:
            if self._fell_silent and not self._refused:
                self._verdict = None
            return None
        return Verdict(Decision.RESUME, why, UnreachableError, unreachable=True)

    async def aclose(self) -> None:
        """Give back the transport, if there is one; open calls are cancelled."""
        transport, self.transport = self.transport, None
        if transport is not None:
            await transport.aclose()

    def reach(self) -> Transport:
        """What opens calls there."""
        if self.transport is None:
            self.transport = self.make_transport()
            self.proxy = None if self._direct else proxy_of(self.name)
        return self.transport

    # ---------------------------------------------------------------- how good it is

    def standing(self, now: float) -> Standing:
        """How good a choice it is."""
        if self._verdict is not None and self._refused and now < self._until:
            return Standing.REFUSED
        if self.unproven or self.breaker.open_because is not None:
            return Standing.OUT
        if self._verdict is not None and now < self._until:
            return Standing.DOUBTED
        return Standing.GOOD

    def against(self, now: float) -> Verdict | None:
        """What speaks against it; None: nothing that was seen."""
        standing = self.standing(now)
        if standing is Standing.GOOD:
            return None
        return self.breaker.open_because if standing is Standing.OUT else self._verdict

    def probe_due(self, now: float, *, urgent: bool) -> bool:
        """Whether to see if a connection can be made.

        Args:
            now: the time.
            urgent: there is no better choice.
        """
        standing = self.standing(now)
        if standing is Standing.REFUSED or (standing is Standing.GOOD and not self._questioned):
            return False
        pause = min(_LONGEST_PROBE_PAUSE, _PROBE_SECONDS * 2 ** min(self._probes, 20))
        return now >= self._probed + float(min(pause, _URGENT_PROBE_PAUSE) if urgent else pause)

    # ---------------------------------------------------------------- what attempts learn of it

    def welcomed(self, limits: Limits) -> None:
        """It said welcome, with these limits."""
        self.known, self.limits = True, limits
        self.unproven = self._refused = False
        self._verdict, self._rounds, self._probes = None, 0, 0

    def refused(self, verdict: Verdict) -> None:
        """It refused a stream, which means that: one whose refusal will pass is the right one."""
        self.known |= verdict.decision is not Decision.FAIL

    def question(self) -> None:
        """An attempt broke there: it may be its server's fault, or that of the way to it."""
        self._questioned = True

    def exclude(self, verdict: Verdict) -> None:
        """What answers there is not what this client is for."""
        self._refused, self._fell_silent = True, False
        self._speak_against(verdict, _REFUSAL_SECONDS, _LONGEST_REFUSAL)

    def attempt_ended(
        self,
        admission: Admission,
        verdict: Verdict | None,
        *,
        unanswered: bool,
        silent: bool = False,
    ) -> None:
        """An attempt is over.

        Args:
            admission: by which it was made.
            verdict: what its end means; None: the stream is complete.
            unanswered: nothing came for as long as anybody waits.
            silent: it was answered, and then nothing came for as long as anybody waits.
        """
        unreachable = verdict is not None and verdict.unreachable
        if verdict is not None and (unanswered or silent):
            self._speak_against(verdict, _DOUBT_SECONDS, _LONGEST_DOUBT)
            self._fell_silent = silent
        if not admission.pending:  # the attempt was answered
            if verdict is not None and unreachable:
                self.breaker.trip(verdict)
        elif verdict is not None and (
            unreachable or (unanswered and admission.kind is not AdmissionKind.NORMAL)
        ):
            admission.failed(verdict)
        elif not unanswered:
            admission.answered()
        # Else the target may only be busy.

    def _speak_against(self, verdict: Verdict, seconds: float, longest: float) -> None:
        now = _now()
        if self._verdict is None or now >= self._until:  # else others were there at the same time
            self._until = now + min(longest, seconds * 2 ** min(self._rounds, 20))
            self._rounds += 1
        self._verdict = verdict


def _now() -> float:
    return asyncio.get_running_loop().time()
