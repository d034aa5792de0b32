"""Inputs of one attempt that were taken with others by code that does not end, and not begun.

To its session they are started, so that it does not give them out again: they are given out here,
each once, unless they are cancelled before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from servestream_client.protocol.runs import Run

__all__ = ["GivenBack"]


class GivenBack:
    """See the module."""

    __slots__ = ("_numbers", "_runs")

    def __init__(self) -> None:
        self._runs: deque[Run] = deque()
        self._numbers: set[int] = set()  # of those that are still to be given out

    def __bool__(self) -> bool:
        return bool(self._numbers)

    def add(self, run: Run) -> None:
        """Take them in."""
        self._runs.append(run)
        self._numbers.update(range(run.first, run.last + 1))

    def drop(self, numbers: Sequence[int]) -> Sequence[int]:
        """Forget inputs; returns those that were here."""
        dropped = [number for number in numbers if number in self._numbers]
        self._numbers.difference_update(dropped)
        return dropped

    def take(self, limit: int) -> Run | None:
        """The next ones, consecutive and at most `limit`; None: there are no more."""
        while self._runs:
            run = self._runs.popleft()
            wanted = [number in self._numbers for number in range(run.first, run.last + 1)]
            if True not in wanted:
                continue
            if not wanted[0]:
                skipped = wanted.index(True)
                run, wanted = run.split(skipped), wanted[skipped:]
            count = min(limit, wanted.index(False) if False in wanted else len(wanted))
            if count < len(run.payloads):
                self._runs.appendleft(run.split(count))
            self._numbers.difference_update(range(run.first, run.last + 1))
            return run
        return None
