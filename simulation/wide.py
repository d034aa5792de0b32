"""Scenarios whose streams have lanes: slow handlers, several replicas, many inputs, and room for
them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from servestream_client.config import FlowControl
from simulation.faults import Weather
from simulation.items import Items
from simulation.service import ServiceShape

__all__ = ["draw_freezes", "is_wide", "wide_flow", "wide_items", "wide_service", "wide_weather"]

FREEZES = 4.0
"""Seconds at the most, which the shortest limit for an input allows."""


def is_wide(rng: random.Random) -> bool:
    """Whether a scenario is of this kind."""
    return rng.random() < 0.1


def wide_flow(flow: FlowControl) -> FlowControl:
    """The same with room for whatever there is."""
    return replace(
        flow, window_items=4096, window_bytes=4_000_000, output_items=4096, output_bytes=4_000_000
    )


def wide_service(rng: random.Random, service: ServiceShape) -> ServiceShape:
    """The same with a handler that is what a stream waits for."""
    return replace(
        service,
        flow=wide_flow(service.flow),
        waits=1.0,
        seconds=rng.choice((0.05, 0.1, 0.2)),
        concurrency=rng.choice((1, 2, 4)),
        max_batch=rng.choice((1, 2)),
    )


def wide_items(rng: random.Random, items: Items) -> Items:
    """Many of them."""
    return replace(items, count=rng.choice((150, 300, 500)))


def wide_weather(rng: random.Random, weather: Weather) -> Weather:
    """The same with more replicas, which come and go, and stand still at times."""
    replicas = max(weather.replicas, rng.randint(2, 5))
    return replace(
        weather,
        replicas=replicas,
        latency=min(weather.latency, 0.01),
        trouble=min(weather.trouble, rng.choice((0.02, 1.0))),
        capacity=1000,
        freezes=draw_freezes(rng, weather, replicas),
        scales=_scales(rng, weather.until),
    )


def _scales(rng: random.Random, until: float) -> Sequence[tuple[float, int, float]]:
    """When replicas come and go."""
    return [
        (rng.random() * until, rng.randint(1, 6), rng.choice((0.0, 0.1, 2.0)))
        for _ in range(rng.choice((0, 0, 1, 3)))
    ]


def draw_freezes(
    rng: random.Random, weather: Weather, replicas: int
) -> Sequence[tuple[float, int, float]]:
    """When handlers stand still, of which replica, and for how long."""
    if not weather.trouble:
        return ()
    return [
        (rng.random() * weather.until, rng.randrange(replicas), rng.uniform(1.0, FREEZES))
        for _ in range(rng.choice((0, 1, 3, 6)))
    ]
