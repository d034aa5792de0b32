"""What all streams of a client know of one server, and how they reach it.

Invariant: an endpoint whose limits are known was welcomed by its server once, and stays known
whatever happens later; and what the end of an attempt says of it, the circuit breaker hears once.
"""

from __future__ import annotations

from collections.abc import Callable

from servestream_client.metadata import Metadata
from servestream_client.protocol.frames import Limits, Load
from servestream_client.session.breaker import Admission, AdmissionKind, CircuitBreaker
from servestream_client.transport.base import Link, Transport
from servestream_client.transport.classify import Decision, Verdict
from servestream_client.transport.proxies import Proxy, proxy_of

__all__ = ["Endpoint"]


class Endpoint:
    """A target as its streams see it.

    Args:
        name: for people.
        make_transport: called when the first call opens, in whose event loop it then lives.
    """

    def __init__(self, name: str, make_transport: Callable[[], Transport]) -> None:
        self.name: str = name
        self.make_transport: Callable[[], Transport] = make_transport
        self.known: bool = False
        """Whether it ever spoke the protocol with this client: by a welcome, or by a refusal that
        will pass."""
        self.limits: Limits | None = None
        """What it allowed when it last did; None: the next open travels alone."""
        self.answered: int = 0
        """How many inputs it has answered."""
        self.load: Load | None = None
        """What a server there last said of its load."""
        self.breaker: CircuitBreaker = CircuitBreaker()
        """What all attempts pass."""
        self.proxy: Proxy | None = None
        """What the environment puts before it."""
        self.transport: Transport | None = None
        """What opens calls; None: none was opened yet, or it was given back."""

    def open(self, metadata: Metadata = (), *, apart: bool = False) -> Link:
        """Begin a call; see `Transport.open`."""
        if self.transport is None:
            self.transport = self.make_transport()
            self.proxy = proxy_of(self.name)
        return self.transport.open(metadata, apart=apart)

    async def aclose(self) -> None:
        """Give back the transport, if there is one; open calls are cancelled."""
        transport, self.transport = self.transport, None
        if transport is not None:
            await transport.aclose()

    # ---------------------------------------------------------------- what attempts learn of it

    def welcomed(self, limits: Limits) -> None:
        """It said welcome, with these limits."""
        self.known, self.limits = True, limits

    def refused(self, verdict: Verdict) -> None:
        """It refused a stream, which means that: one whose refusal will pass is the right one."""
        self.known |= verdict.decision is not Decision.FAIL

    def attempt_ended(
        self, admission: Admission, verdict: Verdict | None, *, unanswered: bool
    ) -> None:
        """An attempt is over.

        Args:
            admission: by which it was made.
            verdict: what its end means; None: the stream is complete.
            unanswered: nothing came for as long as anybody waits.
        """
        unreachable = verdict is not None and verdict.unreachable
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
