"""What happened in a run, in order: for people, and as the digest that two runs compare."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

__all__ = ["Trace"]


class Trace:
    """Events with their virtual times.

    Args:
        clock: the virtual time.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._events: list[tuple[float, str, object]] = []

    def note(self, who: str, what: object) -> None:
        """Something happened."""
        self._events.append((self._clock(), who, what))

    @property
    def digest(self) -> str:
        """Equal for equal runs, in whatever process."""
        return hashlib.sha256(repr(self._events).encode()).hexdigest()

    def lines(self, last: int | None = None) -> list[str]:
        """The events, or the last of them, for people."""
        events = self._events if last is None else self._events[-last:]
        return [f"{seconds:12.6f} s  {who}: {what}" for seconds, who, what in events]
