"""What a server is to hear of inputs that nobody wants any more.

Invariant: each input is named once on its attempt, and no frame names more than may stand in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

from servestream_client.protocol.frames import Limits, NumberRange
from servestream_client.protocol.pacing import FRAME_TARGET_BYTES

__all__ = ["CancelNotices"]

_RANGE_BYTES = 24
"""What a range of numbers takes up in a frame, at the most."""

_FRAME_RANGES = FRAME_TARGET_BYTES // _RANGE_BYTES

_first = attrgetter("first")


class CancelNotices:
    """The inputs of one attempt that are to be named as cancelled."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[NumberRange] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, number: int) -> None:
        """Name this input, which was not named before."""
        ranges = self._waiting
        if ranges and ranges[-1].last == number - 1:
            ranges[-1] = NumberRange(ranges[-1].first, number)
        else:
            ranges.append(NumberRange(number, number))

    def take(self, limits: Limits | None) -> list[NumberRange]:
        """What one frame says; more than fits goes in the next."""
        most = _FRAME_RANGES
        if limits is not None:
            room = limits.frame_bytes // _RANGE_BYTES
            most = max(1, min(most, room, limits.window_items))
        taken, self._waiting = self._waiting[:most], self._waiting[most:]
        return _joined(taken)


def _joined(ranges: Iterable[NumberRange]) -> list[NumberRange]:
    """Ranges in ascending order, neighbours joined."""
    joined: list[NumberRange] = []
    for each in sorted(ranges, key=_first):
        if joined and joined[-1].last == each.first - 1:
            joined[-1] = NumberRange(joined[-1].first, each.last)
        else:
            joined.append(each)
    return joined
