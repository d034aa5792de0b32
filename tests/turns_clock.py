"""A clock that only other people's code moves, and how long it kept the event loop."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from servestream_client import turns as turns_module

SLOW = 0.02
"""Seconds that each piece of slow code takes."""

SLACK = turns_module.BUDGET_SECONDS + turns_module.STRETCH_SECONDS


class Clock:
    """Stands for the module `time`."""

    def __init__(self) -> None:
        self.now = 1.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(turns_module, "time", clock)
    return clock


class Stalls:
    """Looks at the clock once in each turn of the event loop."""

    def __init__(self, clock: Clock) -> None:
        self.longest = 0.0
        self.turns = 0
        self._clock = clock
        self._last = clock.now

    @contextmanager
    def watched(self) -> Iterator[None]:
        self._look()
        try:
            yield
        finally:
            self._handle.cancel()

    def _look(self) -> None:
        self.turns += 1
        self.longest = max(self.longest, self._clock.now - self._last)
        self._last = self._clock.now
        self._handle = asyncio.get_running_loop().call_soon(self._look)
