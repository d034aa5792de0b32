"""Inputs of one attempt that were taken with others by code that does not end, and not begun.

To its session they are started, so that it does not give them out again: they are given out here,
each once, unless they are cancelled before.
"""

from __future__ import annotations

from collections.abc import Sequence

from servestream_client.protocol.runs import Run, RunQueue

__all__ = ["GivenBack"]


class GivenBack:
    """See the module."""

    __slots__ = ("_numbers", "_runs")

    def __init__(self) -> None:
        self._runs = RunQueue()
        self._numbers: set[int] = set()  # of those that are still to be given out

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, run: Run) -> None:
        """Take them in."""
        self._runs.put_back(run)
        self._numbers.update(range(run.first, run.last + 1))

    def drop(self, numbers: Sequence[int]) -> Sequence[int]:
        """Forget inputs; returns those that were here."""
        dropped = [number for number in numbers if number in self._numbers]
        self._numbers.difference_update(dropped)
        self._runs.remove_each(dropped)
        return dropped

    def take(self, limit: int) -> Run | None:
        """The next ones, consecutive and at most `limit`; None: there are no more."""
        if not self._runs:
            return None
        run = self._runs.take(min(limit, len(self._runs.head.payloads)))
        self._numbers.difference_update(range(run.first, run.last + 1))
        return run
