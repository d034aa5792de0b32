"""The attempts that run in an event loop, from their first moment to their last.

Invariant: of those that were let in there is one a stream, the highest that came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.frames import Load, Open

__all__ = ["Account", "ActiveAttempt", "ActiveAttempts", "Totals"]


class Totals(NamedTuple):
    """What a process has to do, over all its streams.

    Attributes:
        streams: calls of the RPC that are open.
        items: inputs that came on them and are computed, or are to be. What waits for its client
            to go on is none.
    """

    streams: int
    items: int


class Account(NamedTuple):
    """What has become of the inputs of one attempt.

    Attributes:
        running: how many were handed to a handler and have no answer.
        waiting: how many were not handed to one yet.
        answered: how many had their answer leave.
        failed: how many of these failed, by kind.
    """

    running: int
    waiting: int
    answered: int
    failed: Mapping[ItemErrorKind, int]


class ActiveAttempt(Protocol):
    """An attempt, as others of its stream see it."""

    @property
    def attempt(self) -> int:
        """Its number."""
        ...

    @property
    def to_compute(self) -> int:
        """How many inputs came on it that are computed, or are to be."""
        ...

    @property
    def account(self) -> Account:
        """What has become of its inputs so far."""
        ...

    def supersede(self) -> None:
        """A higher attempt of its stream was let in."""
        ...

    def drain(self, grace: float) -> None:
        """Ask its client to go elsewhere within so many seconds."""
        ...

    def report(self, load: Load) -> None:
        """Tell its client how busy this server is, if that is news."""
        ...


class ActiveAttempts:
    """See the module."""

    def __init__(self) -> None:
        self._here: dict[ActiveAttempt, None] = {}
        self._streams: dict[bytes, ActiveAttempt] = {}  # those that were let in
        self.on_first: list[Callable[[], None]] = []
        """Called when one comes and there was none."""
        self.on_gone: list[Callable[[ActiveAttempt], None]] = []
        """Called with each that has gone."""
        self.on_empty: list[Callable[[], None]] = []
        """Called when the last one has gone."""
        self.load: Load | None = None
        """What was last said of it to whom it was news."""

    def arrive(self, attempt: ActiveAttempt) -> None:
        """An attempt begins; what it wants is not known yet."""
        first = not self._here
        self._here[attempt] = None
        if first:
            for call in self.on_first:
                call()

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

    @property
    def accounts(self) -> list[Account]:
        """What has become of the inputs of all that are here."""
        return [attempt.account for attempt in self._here]

    @property
    def totals(self) -> Totals:
        """What there is to do. May be asked in another thread."""
        here = list(self._here)
        return Totals(len(here), sum(attempt.to_compute for attempt in here))

    def drain(self, grace: float) -> None:
        """Ask all of them to go elsewhere."""
        for attempt in list(self._here):
            attempt.drain(grace)

    def report(self, load: Load) -> None:
        """Tell the clients of all of them how busy this server is."""
        self.load = load
        for attempt in list(self._here):
            attempt.report(load)

    def unregister(self, attempt: ActiveAttempt, stream_id: bytes | None) -> None:
        """An attempt is over."""
        if attempt in self._here:
            del self._here[attempt]
            for gone in self.on_gone:
                gone(attempt)
        if stream_id is not None and self._streams.get(stream_id) is attempt:
            del self._streams[stream_id]
        if not self._here:
            for call in self.on_empty:
                call()
