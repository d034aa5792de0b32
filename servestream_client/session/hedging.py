"""Hedging: what is late by far at one server goes to a second one as well, within a budget.

The input that the consumer waits for is late if it has been that, or its server has answered
nothing, for a second at least, and for twice what another lane would take. It goes there, with
those behind it that its server has. Whichever server answers first has answered; the other hears
that nobody waits any more. Rule: docs/protocol.md, section 19.

Invariant: each input is hedged once, and no more of them than the budget allows. What both carry is
in `_copies` until it is answered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

from servestream_client.session.lanes import Sharing

__all__ = ["LOOK_SECONDS", "Hedging", "Source", "Way"]

LOOK_SECONDS = 0.25
"""How often it is looked whether something is late."""

_LEAST_SECONDS = 1.0
"""Less is nobody's fault: a garbage collection, a frame that was lost."""

_TIMES = 2
"""How much longer than another lane would take, so that it is late by far."""

_LEAST = 64
"""What may be hedged in any case."""


class Source(Protocol):
    """What has inputs that may be late: a lane, or the stream's own attempt."""

    @property
    def replica(self) -> str:
        """The server that it is at."""
        ...

    def silent(self, now: float) -> float:
        """For how many seconds it has owed something, and answered nothing."""
        ...

    def lend(self, number: int, count: int) -> int:
        """Let another have inputs as well that it has under way, and was the first to get.

        Args:
            number: the first of them.
            count: how many at the most, of those that follow upon one another.

        Returns:
            How many those are.
        """
        ...

    def cancel(self, number: int) -> None:
        """Nobody waits for its answer to an input any more, if it has that."""
        ...


class Way(Source, Protocol):
    """A lane, which may get inputs besides."""

    def seconds(self, fastest: float) -> float:
        """How long it would take to answer one more input; infinity: that is not known.

        Args:
            fastest: how many another answers in a second, for one that is new; 0: nobody knows.
        """
        ...

    def submit(self, first: int, payloads: Sequence[bytes], now: float) -> None:
        """Have consecutive inputs of the stream answered."""
        ...


class Hedging:
    """That of one stream.

    Args:
        sharing: the stream's.
        share: how many inputs of those answered may be hedged, at the most; 0: none.
        answered: how many were.
    """

    def __init__(self, sharing: Sharing, share: float, answered: Callable[[], int]) -> None:
        self._sharing = sharing
        self._share = share
        self._answered = answered
        self._oldest = 0
        self._since = -math.inf  # it is that
        self._copies: dict[int, tuple[Source, Way]] = {}
        self._settling = False
        self.hedged: int = 0
        """How many inputs were."""
        self.nowhere: bool = False
        """Whether something is late, and there is no lane at another server."""

    @property
    def budget(self) -> int:
        """How many more may be."""
        if not self._share:
            return 0
        return max(_LEAST, int(self._share * self._answered())) - self.hedged

    def look(
        self, now: float, own: Source, lanes: Sequence[Way], room: int, fastest: float
    ) -> bool:
        """Hedge what is late by far.

        Args:
            now: by the event loop's clock.
            own: the stream's own attempt.
            lanes: those that are at a server.
            room: for how many more answers there is.
            fastest: see `Way.seconds`.

        Returns:
            Whether something was.
        """
        self.settle()
        self.nowhere = False
        oldest = self._sharing.oldest
        if oldest != self._oldest:
            self._oldest, self._since = oldest, now
        count = min(self.budget, room)
        if not oldest or count < 1 or oldest in self._copies:
            return False
        source = next((lane for lane in lanes if lane.lend(oldest, 1)), own)
        # Who answers nothing else either is late with all it has.
        late = max(now - self._since, source.silent(now))
        if late < _LEAST_SECONDS:
            return False
        others = [lane for lane in lanes if lane.replica != source.replica]
        if not others:
            self.nowhere = True
            return False
        seconds, best = min(((lane.seconds(fastest), lane) for lane in others), key=_first)
        if late < _TIMES * seconds:
            return False
        return self._copy(oldest, count, source, best, now)

    def _copy(self, first: int, count: int, source: Source, to: Way, now: float) -> bool:
        count = source.lend(first, count)
        if not count:
            return False
        numbers = range(first, first + count)
        self._copies.update(dict.fromkeys(numbers, (source, to)))
        self.hedged += count
        to.submit(first, [self._sharing.payload(number) for number in numbers], now)
        return True

    def settle(self) -> None:
        """Tell who carries what was answered."""
        if self._settling:
            return  # what was not sent yet is answered at once by its cancelling, which comes here
        self._settling = True
        try:
            while done := [each for each in self._copies if not self._sharing.owed(each)]:
                for number in done:
                    for way in self._copies.pop(number, ()):
                        way.cancel(number)
        finally:
            self._settling = False

    def left(self, inputs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """A lane has ended. Of what it lets go of, as runs, those that nobody carries now."""
        if not self.hedged:
            return list(inputs)
        self.settle()
        runs: list[tuple[int, int]] = []
        for number in (first + offset for first, count in inputs for offset in range(count)):
            copies = self._copies.pop(number, None)
            if not self._sharing.lanes_alone(number):
                self._sharing.take_back(number)
            elif copies is None:
                _append(runs, number)
        return runs


def _append(runs: list[tuple[int, int]], number: int) -> None:
    if runs and sum(runs[-1]) == number:
        runs[-1] = runs[-1][0], runs[-1][1] + 1
    else:
        runs.append((number, 1))


def _first(pair: tuple[float, Way]) -> float:
    return pair[0]
