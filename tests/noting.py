"""Hooks that only note what they are told."""

from servestream_client import Hooks
from servestream_client.events import Event, StreamEnded, StreamStarted


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
