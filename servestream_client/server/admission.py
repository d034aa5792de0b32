"""Whether a stream is let in: what a service learns of it, how it says no, and who decides.

Invariant: an attempt that is to be decided about is welcomed, refused or failed, whatever the
service's code does; one that ended meanwhile is left alone.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, cast

from servestream_client.errors import ConfigurationError, printable
from servestream_client.protocol.frames import Open, RefusalKind, StreamErrorKind
from servestream_client.protocol.server import ServerSession
from servestream_client.protocol.states import ServerState
from servestream_client.server.active_attempts import ActiveAttempt, ActiveAttempts
from servestream_client.server.stuck import STUCK
from servestream_client.server.workers import Workers
from servestream_client.usercode import contained, describe, is_a, report

__all__ = ["AdmissionControl", "Applicant", "RefusalKind", "Refuse", "StreamRequest"]

logger: logging.Logger = logging.getLogger(__name__)

_LONGEST_MS = 2**53
"""More than anybody waits, and less than the wire can carry."""


class Refuse(Exception):  # noqa: N818 — an instruction to the kit, not an error
    """Raise it in `StreamService.admit` to turn a stream away.

    Args:
        text: for people; it reaches the caller.
        kind: overloaded by default: the client comes again.
        retry_after: seconds until then; None: the client's policy decides.
    """

    def __init__(
        self,
        text: str,
        *,
        kind: RefusalKind = RefusalKind.OVERLOADED,
        retry_after: float | None = None,
    ) -> None:
        if retry_after is not None and not 0 <= retry_after < float("inf"):
            raise ConfigurationError("Refuse(retry_after=...) takes seconds, not below 0")
        if not isinstance(kind, RefusalKind):
            raise ConfigurationError("Refuse(kind=...) takes a RefusalKind")
        text = str(text)  # so that whatever it is can be sent
        super().__init__(text)
        self.text: str = text
        self.kind = kind
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What a service learns of a stream before it takes it.

    Attributes:
        stream_id: in hex, the same on every attempt.
        attempt: counted from 1.
        parameters: as the client gave them.
        metadata: of the gRPC call, where the server hands it on.
    """

    stream_id: str
    attempt: int
    parameters: Mapping[str, str]
    metadata: Mapping[str, str] = field(default_factory=dict)


class Applicant(ActiveAttempt, Protocol):
    """An attempt that is to be decided about."""

    session: ServerSession

    def give_up(self, kind: StreamErrorKind, text: str) -> None:
        """The attempt fails here."""
        ...


class AdmissionControl:
    """Decides about the attempts at one service.

    Args:
        admit: raises `Refuse` for a stream that is not to be served.
        workers: their places, on which it depends.
        active: where those that are welcomed are registered.
    """

    def __init__(
        self,
        admit: Callable[[Open], Awaitable[None]],
        workers: Workers,
        active: ActiveAttempts,
    ) -> None:
        self._admit = admit
        self._workers = workers
        self._active = active

    async def decide(self, applicant: Applicant, opened: Open) -> bool:
        """Welcome an attempt, or refuse it, or fail it.

        Returns:
            Whether it was welcomed.
        """
        session = applicant.session
        try:
            await self._admit(opened)
        except BaseException as error:
            self._not_admitted(applicant, error)
            return False
        if session.state is not ServerState.DECIDING:
            return False  # it ended meanwhile
        if self._workers.stuck:
            session.refuse(RefusalKind.OVERLOADED, STUCK)
            return False
        if not self._active.register(applicant, opened):
            session.refuse(
                RefusalKind.BAD_OPEN,
                f"attempt {opened.attempt} of this stream is superseded by a higher attempt",
            )
            return False
        session.welcome()
        return True

    def _not_admitted(self, applicant: Applicant, error: BaseException) -> None:
        """The service turns the stream away, or cannot even say."""
        session = applicant.session
        waiting = session.state is ServerState.DECIDING  # or else it ended meanwhile
        if is_a(error, Refuse):
            if not waiting:
                return
            refuse = cast("Refuse", error)
            try:
                after = refuse.retry_after
                after_ms = None if after is None else min(int(after * 1000), _LONGEST_MS)
                session.refuse(RefusalKind(refuse.kind), printable(refuse.text), after_ms)
            except BaseException as problem:  # a subclass of the user's
                error = problem
            else:
                return
        if waiting:
            applicant.give_up(StreamErrorKind.INTERNAL, f"admit() raised {describe(error)}")
        report(logger, logging.ERROR, "admit() failed", contained(error, "admit()", awaited=True))
