"""Notices that Ray Serve is stopping this replica.

Serve tells user code nothing of it. There is one public sign: the controller calls a deployment's
`check_health` every so often, and ceases the moment it begins to stop the replica, some time before
it cuts the streams. A controller that is dead or slow looks the same. So what is done on this sign
must be harmless when it is wrong: streams are asked to go elsewhere, now and then, and what they
have sent is still answered, however long it takes.
"""

from __future__ import annotations

from collections import deque

__all__ = ["HealthChecks"]

_PERIODS = 1.5
_SLACK_SECONDS = 0.5
"""How late a health check may be. With Serve's defaults, a check every 10 s and 20 s to stop, this
leaves streams some 4 s to move."""


class HealthChecks:
    """When they came, and until when the next one should."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._periods: deque[float] = deque(maxlen=5)

    def called(self, now: float) -> float | None:
        """One came.

        Returns:
            When the next one is overdue; None: too few came to know.
        """
        if self._last is not None:
            self._periods.append(now - self._last)
        self._last = now
        if len(self._periods) < 2:
            return None
        # The longest: the first ones come at once after one another, and then in their period.
        return now + _PERIODS * max(self._periods) + _SLACK_SECONDS
