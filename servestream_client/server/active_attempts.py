"""The attempts that run in an event loop, from their first moment to their last.

Invariant: of those that were let in there is one a stream, the highest that came.
"""

from __future__ import annotations

from typing import Protocol

from servestream_client.protocol.frames import Open

__all__ = ["ActiveAttempt", "ActiveAttempts"]


class ActiveAttempt(Protocol):
    """An attempt, as others of its stream see it."""

    @property
    def attempt(self) -> int:
        """Its number."""
        ...

    def supersede(self) -> None:
        """A higher attempt of its stream was let in."""
        ...

    def drain(self, grace: float) -> None:
        """Ask its client to go elsewhere within so many seconds."""
        ...


class ActiveAttempts:
    """See the module."""

    def __init__(self) -> None:
        self._here: dict[ActiveAttempt, None] = {}
        self._streams: dict[bytes, ActiveAttempt] = {}  # those that were let in

    def arrive(self, attempt: ActiveAttempt) -> None:
        """An attempt begins; what it wants is not known yet."""
        self._here[attempt] = None

    def register(self, attempt: ActiveAttempt, opened: Open) -> bool:
        """Let an attempt in: it supersedes a lower one.

        Returns:
            False if a higher attempt of the same stream is here already.
        """
        before = self._streams.get(opened.stream_id)
        if before is not None and before is not attempt:
            if before.attempt > opened.attempt:
                return False
            before.supersede()
        self._streams[opened.stream_id] = attempt
        return True

    def drain(self, grace: float) -> None:
        """Ask all of them to go elsewhere."""
        for attempt in list(self._here):
            attempt.drain(grace)

    def unregister(self, attempt: ActiveAttempt, stream_id: bytes | None) -> None:
        """An attempt is over."""
        self._here.pop(attempt, None)
        if stream_id is not None and self._streams.get(stream_id) is attempt:
            del self._streams[stream_id]
