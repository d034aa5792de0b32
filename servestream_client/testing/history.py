"""What happened between clients and a server under test, in order, for people to read."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from servestream_client.testing.faults import LocalPlan

__all__ = ["Event", "History"]

_MOST_EVENTS = 2000


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        seconds: since the history began.
        what: in a few words.
        stream: the stream's id in hex; empty: it concerns none, or is not known to.
        attempt: the stream's attempt; 0: likewise.
    """

    seconds: float
    what: str
    stream: str = ""
    attempt: int = 0

    def __str__(self) -> str:
        who = f"stream {self.stream[:6]}, attempt {self.attempt}: " if self.stream else ""
        return f"{self.seconds:9.3f} s  {who}{self.what}"


@dataclass(slots=True)
class _Summary:
    """What is known of one stream."""

    attempts: int = 0
    welcomes: int = 0
    replicas: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        resumes = max(0, self.welcomes - 1)
        names = ", ".join(dict.fromkeys(self.replicas)) or "nobody"
        return f"attempts {self.attempts}, resumes {resumes}, served by {names}"


class History:
    """Events of a test; may be written from any thread.

    It keeps the first and forgets what comes beyond some thousands.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._events: list[Event] = []
        self._summaries: dict[str, _Summary] = {}
        self._dropped = 0

    def note(self, what: str, stream: str = "", attempt: int = 0) -> None:
        """Something happened just now."""
        event = Event(time.monotonic() - self._began, what, stream, attempt)
        with self._lock:
            if len(self._events) < _MOST_EVENTS:
                self._events.append(event)
            else:
                self._dropped += 1

    def opened(self, stream: str, attempt: int, what: str) -> None:
        """A server was asked to serve an attempt."""
        self.note(what, stream, attempt)
        with self._lock:
            self._summaries.setdefault(stream, _Summary()).attempts += 1

    def welcomed(self, stream: str, attempt: int, replica: str) -> None:
        """A server took it."""
        self.note(f"welcome from {replica}", stream, attempt)
        with self._lock:
            summary = self._summaries.setdefault(stream, _Summary())
            summary.welcomes += 1
            summary.replicas.append(replica)

    def plan(self) -> LocalPlan:
        """A plan whose faults are noted here as they fire."""
        return LocalPlan(on_fired=lambda fault: self.note(f"fault fired: {fault}"))

    @property
    def events(self) -> Sequence[Event]:
        """All of them, in order."""
        with self._lock:
            return tuple(self._events)

    def __str__(self) -> str:
        """Stream by stream, and then event by event."""
        with self._lock:
            lines = [f"stream {name[:6]}: {each}" for name, each in self._summaries.items()]
            lines += map(str, self._events)
            if self._dropped:
                lines.append(f"({self._dropped} further events)")
        return "\n".join(lines)
