"""Hooks that only note what they are told."""

from collections import Counter

from servestream_client import Hooks
from servestream_client.events import (
    AttemptEnded,
    AttemptOutcome,
    AttemptWelcomed,
    Event,
    StreamEnded,
    StreamStarted,
)


class Noting(Hooks):
    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event, /) -> None:
        self.events.append(event)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def ended(self) -> bool:
        return len(self.of(StreamEnded)) == len(self.of(StreamStarted)) > 0


class Broken(Hooks):
    """Counts the attempts that a failure ended after a server had taken them, by stream.

    Not the resumes, of which a busy machine makes some by itself: a health check that comes late
    makes a replica drain, and streams leave it in good order.
    """

    def __init__(self) -> None:
        self.attempts: Counter[str] = Counter()
        self._taken: set[tuple[str, int]] = set()

    def on_event(self, event: Event, /) -> None:
        if isinstance(event, AttemptWelcomed):
            self._taken.add((event.stream_id, event.attempt))
        elif isinstance(event, AttemptEnded):
            taken = (event.stream_id, event.attempt) in self._taken
            self.attempts[event.stream_id] += taken and event.outcome is AttemptOutcome.BROKEN
