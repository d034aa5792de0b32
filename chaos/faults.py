"""What is done to the system, and by which plan."""

from __future__ import annotations

import enum
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from servestream_client.testing.ray_serve import Ingress

__all__ = ["KILLS", "Kind", "Planned", "kinds_for", "plan"]


class Kind(enum.StrEnum):
    """A kind of fault."""

    KILL_REPLICA = "kill-replica"
    STOP_REPLICA = "stop-replica"
    KILL_PROXY = "kill-proxy"
    STOP_PROXY = "stop-proxy"
    KILL_HAPROXY = "kill-haproxy"
    STOP_HAPROXY = "stop-haproxy"
    KILL_CONTROLLER = "kill-controller"
    STOP_CONTROLLER = "stop-controller"
    REDEPLOY = "redeploy"
    SCALE = "scale"
    CUT = "cut"
    DEAF = "deaf"
    DELAY = "delay"
    THROTTLE = "throttle"
    SLICE = "slice"


KILLS = (Kind.KILL_REPLICA, Kind.KILL_PROXY, Kind.KILL_HAPROXY, Kind.KILL_CONTROLLER)

_WEIGHTS = {
    # The death of a replica is what it is all about. A proxy takes everything with it for a
    # quarter of a minute, and would leave no time for anything else if it came as often.
    Kind.KILL_REPLICA: 8,
    Kind.STOP_REPLICA: 2,
    Kind.KILL_HAPROXY: 2,
    Kind.CUT: 2,
}
_HAPROXY_ONLY = (Kind.KILL_HAPROXY, Kind.STOP_HAPROXY)
_LONGEST_SECONDS = 8.0
"""Of a fault that lasts: shorter than what makes Serve replace a replica that is silent."""


def kinds_for(ingress: Ingress, wanted: Sequence[Kind] = ()) -> list[Kind]:
    """The kinds that there are in a mode; of those wanted, if any are."""
    return [
        kind
        for kind in Kind
        if (not wanted or kind in wanted)
        and (ingress is Ingress.HAPROXY or kind not in _HAPROXY_ONLY)
    ]


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault to come.

    Attributes:
        kind: what.
        wait: seconds after the fault before it.
        lasts: seconds, if it is one that ends.
        choice: from 0 to 1, which of those there are then.
    """

    kind: Kind
    wait: float
    lasts: float
    choice: float


def plan(kinds: Sequence[Kind], *, every: float, rng: random.Random) -> Iterator[Planned]:
    """Faults without an end. Each kind comes once before any comes often.

    Args:
        kinds: which.
        every: seconds between two, on average.
        rng: decides everything.
    """
    bag = list(kinds)
    while True:
        rng.shuffle(bag)
        for kind in bag:
            yield Planned(
                kind=kind,
                wait=every * rng.uniform(0.4, 1.6),
                lasts=rng.uniform(1.0, _LONGEST_SECONDS),
                choice=rng.random(),
            )
        bag = [kind for kind in kinds for _ in range(_WEIGHTS.get(kind, 1))]
