"""What messages meet on their way: time, chance, and the weather of a run."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from simulation.faults import Weather

__all__ = ["Conditions"]


class Conditions:
    """Time and seeded chance: whatever is drawn is drawn here, in the order of events, and what was
    put off does not happen once it is closed.

    Args:
        loop: whose time it is.
        rng: draws delays, routes and fates.
        weather: how the network behaves.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, rng: random.Random, weather: Weather
    ) -> None:
        self.loop = loop
        self.rng = rng
        self.weather = weather
        self.faulty: bool = True
        """Whether there are further faults."""
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._timers_set = 0

    def delay(self) -> float:
        """Seconds that one message takes."""
        dice = self.rng.random()
        weather = self.weather
        if dice < weather.spikes:
            return min(0.3, weather.latency * 100 * self.rng.random())
        return weather.latency * (0.2 + 1.6 * dice)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Do something after a while, unless it is closed by then."""
        self._timers_set += 1
        number = self._timers_set

        def run() -> None:
            del self._timers[number]
            callback()

        self._timers[number] = self.loop.call_later(seconds, run)

    def close(self) -> None:
        """Nothing happens later."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
