"""What the network does to calls: kinds of faults, the fate of a call, and the weather of a run."""

from __future__ import annotations

import enum
import random
from collections.abc import Sequence
from dataclasses import dataclass

from servestream_client.testing.faults import FaultKind
from servestream_client.transport.base import LinkStatus

__all__ = ["FAULT_NAMES", "Fate", "Moment", "NetworkFaultKind", "Weather", "draw_fate"]


class NetworkFaultKind(enum.StrEnum):
    """What can happen to a call. The cuts are named by what a client sees of them."""

    CUT_INTERNAL = "cut: INTERNAL, actor died"
    CUT_CANCELLED = "cut: CANCELLED"
    CUT_UNAVAILABLE = "cut: UNAVAILABLE"
    CUT_TRUNCATED = "cut: OK, truncated"
    CUT_DEADLINE = "cut: DEADLINE_EXCEEDED"
    CUT_EXHAUSTED = "cut: RESOURCE_EXHAUSTED"
    CUT_NOT_FOUND = "cut: NOT_FOUND"
    CUT_MASKED = "cut: a masked status"
    DRAIN = "replica drains"
    REDEPLOY = "redeploy"
    SCALE_DOWN = "scale-down"
    ADMISSION = "admission fails"
    SLOW_OPEN = "slow open"
    OUTAGE = "target down"
    CRASH = "replica crash"
    FREEZE = "replica stands still"
    STALL = "stall"
    HALF_OPEN = "half-open"


STATUSES: dict[NetworkFaultKind, LinkStatus] = {
    NetworkFaultKind.CUT_INTERNAL: LinkStatus("INTERNAL", "The actor died unexpectedly"),
    NetworkFaultKind.CUT_CANCELLED: LinkStatus("CANCELLED", "RST_STREAM with error code 8"),
    NetworkFaultKind.CUT_UNAVAILABLE: LinkStatus("UNAVAILABLE", "Socket closed"),
    NetworkFaultKind.CUT_TRUNCATED: LinkStatus("OK"),
    NetworkFaultKind.CUT_DEADLINE: LinkStatus("DEADLINE_EXCEEDED", "request timed out"),
    NetworkFaultKind.CUT_EXHAUSTED: LinkStatus("RESOURCE_EXHAUSTED", "max_queued_requests"),
    NetworkFaultKind.CUT_NOT_FOUND: LinkStatus("NOT_FOUND", "application not found"),
    NetworkFaultKind.CUT_MASKED: LinkStatus("UNKNOWN", "Unexpected <class 'RuntimeError'>"),
}

KNOWN_ONLY = frozenset({NetworkFaultKind.CUT_TRUNCATED, NetworkFaultKind.CUT_NOT_FOUND})
"""What is final from a target that never spoke the protocol with the client."""

CUTS: Sequence[NetworkFaultKind] = tuple(STATUSES)
CUTS_OF_STRANGERS: Sequence[NetworkFaultKind] = tuple(c for c in CUTS if c not in KNOWN_ONLY)

SERVICE_FAULTS: Sequence[FaultKind] = (
    FaultKind.RAISE,
    FaultKind.SLOW,
    FaultKind.CLOSE,
    FaultKind.DUPLICATE,
    FaultKind.GARBAGE,
    FaultKind.REFUSE,
    FaultKind.KILL,
    FaultKind.HANG,
)
"""Those of the fixture that a client survives without heartbeats."""

FOUND_OUT_BY_HEARTBEATS: Sequence[FaultKind] = (FaultKind.SKIP,)
"""A server that takes an answer for sent, and is silent then, where the windows are too narrow for
anything else to come."""

BREAKING = frozenset(
    {
        FaultKind.CLOSE,
        FaultKind.DUPLICATE,
        FaultKind.SKIP,
        FaultKind.GARBAGE,
        FaultKind.REFUSE,
    }
)
"""After which an attempt may end before its stream is complete. A duplicate may exceed the credit,
and KILL is a crash."""

FAULT_NAMES: Sequence[str] = (
    *NetworkFaultKind,
    *(f"service: {kind}" for kind in (*SERVICE_FAULTS, *FOUND_OUT_BY_HEARTBEATS)),
)


class Moment(enum.Enum):
    """When a call meets its fate."""

    OPEN = "before it reaches a replica"
    CLIENT_FRAME = "at a frame of the client's"
    SERVER_FRAME = "at a frame of the server's"
    SERVER_END = "at the server's end frame"
    HALF_CLOSE = "at the client's half-close"
    SECONDS = "some time after it opened"


@dataclass(frozen=True, slots=True)
class Fate:
    """What will happen to one call.

    Attributes:
        kind: what.
        moment: when.
        at: which frame, counted from 0, or how many seconds after the open.
        before: whether the frame itself is lost.
        seconds: how long, for what lasts.
    """

    kind: NetworkFaultKind
    moment: Moment
    at: float = 0
    before: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """How the network of a run behaves.

    Attributes:
        latency: of a frame, in seconds, about.
        spikes: how likely a frame takes much longer.
        capacity: frames under way before a writer has to wait.
        until: when faults end, in virtual seconds.
        trouble: how likely a call meets a fault.
        budget: how many calls do at the most.
        slow_open: seconds that a slow open lasts at the most.
        half_open: whether links may die without a word, which only heartbeats find out.
        late_cancel: seconds until a server hears of a client that left, at the most.
        deaf: how likely a server never hears of a call that broke.
        cancels_task: whether a call that ends cancels the server's task, as grpc.aio does, and
            not only its input.
        replicas: how many.
        random_routing: or else in turns.
        crashes: when, which replica, and for how long.
        outages: when the whole target is down, and for how long.
        drains: when a replica is told to leave, which one, and with how much grace.
        redeploys: when a new version takes the place of all replicas, one after the other, and with
            how much grace.
        admission: how likely a service fails to decide on a stream.
        hides: whether clients are of before inputs with many outputs, as servers see them.
        freezes: when the handlers of a replica stand still, of which one, and for how long.
        scales: when there are to be how many replicas, and with how much grace some leave.
        endpoints: how many ways lead to the replicas.
        endpoint_outages: when one of them is down, which, for how long, and whether it swallows
            what comes, or refuses it.
    """

    latency: float
    spikes: float
    capacity: int
    until: float
    trouble: float
    budget: int
    slow_open: float
    half_open: bool
    late_cancel: float
    deaf: float
    cancels_task: bool
    replicas: int
    random_routing: bool
    crashes: Sequence[tuple[float, int, float]]
    outages: Sequence[tuple[float, float]]
    drains: Sequence[tuple[float, int, float]]
    redeploys: Sequence[tuple[float, float]]
    admission: float
    hides: bool
    freezes: Sequence[tuple[float, int, float]] = ()
    scales: Sequence[tuple[float, int, float]] = ()
    endpoints: int = 1
    endpoint_outages: Sequence[tuple[float, int, float, bool]] = ()


_MOMENTS = (
    Moment.OPEN,
    *[Moment.CLIENT_FRAME] * 3,
    *[Moment.SERVER_FRAME] * 5,
    *[Moment.SERVER_END] * 2,
    Moment.HALF_CLOSE,
    *[Moment.SECONDS] * 2,
)


def draw_fate(rng: random.Random, weather: Weather, *, stranger: bool) -> Fate:
    """The fate of one call.

    Args:
        rng: of the network.
        weather: what is possible.
        stranger: whether the client has never heard from this target.
    """
    dice = rng.random()
    if dice < 0.08:
        seconds = rng.random() * weather.slow_open
        return Fate(NetworkFaultKind.SLOW_OPEN, Moment.OPEN, seconds=seconds)
    moment = rng.choice(_MOMENTS)
    at = rng.random() * 2.0 if moment is Moment.SECONDS else _early(rng)
    before = rng.random() < 0.5
    if dice < 0.14:
        seconds = rng.random() * 1.5
        return Fate(NetworkFaultKind.STALL, moment, at, before, seconds)
    if dice < 0.3 and weather.half_open and moment is not Moment.OPEN:
        return Fate(NetworkFaultKind.HALF_OPEN, moment, at, before)
    kind = rng.choice(CUTS_OF_STRANGERS if stranger else CUTS)
    return Fate(kind, moment, at, before)


def _early(rng: random.Random) -> int:
    """Mostly one of the first frames, where most of the states are; sometimes a late one."""
    return int(rng.expovariate(0.2)) if rng.random() < 0.3 else rng.randrange(4)
