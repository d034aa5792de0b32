"""What is computed for one attempt.

Each call that waits for user code stands here once for every stretch of the attempt's inputs that
it computes: by number, for those that are cancelled, and by age, for what the attempt's client is
told. A call that was abandoned stands here no more.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from servestream_client.server.agenda import Agenda

if TYPE_CHECKING:
    from servestream_client.server.calls import Call

__all__ = ["InFlight"]


class InFlight:
    """See the module.

    Attributes:
        count: inputs that are computed.
        inline: calls whose user code runs, and has not been seen to wait.
    """

    __slots__ = ("_advancing", "_calls", "_firsts", "_in_turn", "count", "inline")

    def __init__(self) -> None:
        self.count: int = 0
        self.inline: dict[Call, None] = {}  # as a dict, whose order is not one of addresses
        # Disjoint stretches, mostly in the order of their numbers:
        self._firsts: list[int] = []
        self._calls: dict[int, tuple[int, Call]] = {}  # by the first: the last, and whose it is
        # A call that waits began when it was put here. One that advances, to the next input or
        # output, does so by itself, and is looked at again when it seems to be the oldest.
        self._in_turn: OrderedDict[Call, None] = OrderedDict()
        self._advancing: Agenda[Call] = Agenda()

    def __bool__(self) -> bool:
        return bool(self._firsts or self.inline)

    def add(self, call: Call, first: int, last: int) -> None:
        """A call computes these inputs from now on."""
        firsts = self._firsts
        if firsts and first < firsts[-1]:
            firsts.insert(bisect_left(firsts, first), first)
        else:
            firsts.append(first)
        self._calls[first] = last, call
        self.count += last - first + 1
        if call.advances:
            self._advancing.set(call, call.since)
        else:
            self._in_turn[call] = None

    def remove(self, call: Call, first: int) -> None:
        """It does so no more."""
        if first not in self._calls:
            return
        last, _ = self._calls.pop(first)
        del self._firsts[bisect_left(self._firsts, first)]
        self.count -= last - first + 1
        self._in_turn.pop(call, None)
        self._advancing.discard(call)

    def holding(self, numbers: Sequence[int]) -> dict[Call, list[int]]:
        """The calls that compute these inputs, and which of them each."""
        found: dict[Call, list[int]] = {}
        for number in numbers:
            position = bisect_right(self._firsts, number) - 1
            if position >= 0:
                last, call = self._calls[self._firsts[position]]
                if number <= last:
                    found.setdefault(call, []).append(number)
        return found

    def calls(self) -> list[Call]:
        """All of them, each once."""
        return list(dict.fromkeys(call for _, call in self._calls.values()))

    def oldest(self) -> tuple[Call | None, float]:
        """The call that has been at its input for longest, and since when."""
        oldest, since = next(iter(self._in_turn), None), math.inf
        if oldest is not None:
            since = oldest.since
        while (first := self._advancing.first()) is not None and first[0] < since:
            noted, call = first
            if call.since == noted:
                return call, noted
            self._advancing.set(call, call.since)
        return oldest, since
