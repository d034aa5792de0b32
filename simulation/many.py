"""Scenarios with inputs that have many outputs: what is drawn beside the rest of a scenario."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from servestream_client.config import FlowControl
from servestream_client.server.outputs import Replay
from simulation.generators import GeneratorShape
from simulation.items import Items, Special
from simulation.readers import GeneratePlan, Manner, ReaderPlan

__all__ = [
    "GENERATE_KEY",
    "NO_GENERATIONS",
    "NO_GENERATOR",
    "draw_flow",
    "draw_generations",
    "draw_generator",
    "draw_redeploys",
    "few_outputs",
    "generates",
    "with_room",
]

GENERATE_KEY = 2000
"""The key of the items that go through `generate`."""

NO_GENERATOR = GeneratorShape(
    replay=Replay.NEVER,
    varies_from=None,
    checkpoint_every=0,
    checkpoint_size=0,
    tells_end=False,
    own_fingerprints=False,
)

NO_GENERATIONS = GeneratePlan(
    items=Items(
        key=GENERATE_KEY, count=0, size=0, answer_size=0, most_bytes=1, specials={}, most_outputs=0
    ),
    readers=(),
)

STOP_SECONDS = 100.0
"""How long after the end of all faults a reader stops that has stopped."""

_NARROW_OUTPUTS = 60
_OUTPUTS = 600
"""Of all inputs of a stream together, about; the first where each takes frames of its own."""


def draw_flow(rng: random.Random, flow: FlowControl) -> FlowControl:
    """The limits for single inputs."""
    return replace(
        flow,
        outputs_per_input=rng.choice((1, 2, 3, 8, 8, 256)),
        bytes_per_input=rng.choice((1, 100, 1000, 10_000, 256 * 1024)),
        continuation_bytes=rng.choice((100, 1000, 1024 * 1024, 1024 * 1024)),
        checkpoint_bytes=rng.choice((100, 64 * 1024, 64 * 1024)),
    )


def with_room(rng: random.Random, flow: FlowControl) -> FlowControl:
    """The same with room for all inputs, and for few outputs: so it shows what a reader who stops
    keeps from others.
    """
    return replace(
        flow,
        window_items=4096,
        window_bytes=4_000_000,
        output_items=rng.choice((1, 2, 5)),
        outputs_per_input=rng.choice((1, 2, 8)),
        bytes_per_input=256 * 1024,
    )


def draw_generator(rng: random.Random) -> GeneratorShape:
    """How a service generates."""
    replay = rng.choice(tuple(Replay))
    varies_from: int | None = 0
    if replay is Replay.SEEK:
        varies_from = None
    elif replay is Replay.RESTART:
        varies_from = rng.choice((None, None, 0, 1, 4))
    continues = replay is Replay.CONTINUE
    return GeneratorShape(
        replay=replay,
        varies_from=varies_from,
        checkpoint_every=rng.choice((0, 1, 3, 10)) if continues else 0,
        checkpoint_size=rng.choice((0, 20, 200)),
        tells_end=rng.random() < 0.7,
        own_fingerprints=rng.random() < 0.5,
    )


def draw_redeploys(rng: random.Random, until: float) -> Sequence[tuple[float, float]]:
    """When new versions come, and with how much grace."""
    count = rng.choice((0, 0, 1, 1, 2))
    return [(rng.random() * until, rng.choice((0.0, 0.1, 2.0))) for _ in range(count)]


def few_outputs(rng: random.Random, items: Items, flow: FlowControl, *, narrow: bool) -> Items:
    """As many inputs and outputs as a run can bear."""
    count = min(items.count, rng.choice((1, 3, 8, 20)))
    all_outputs = _NARROW_OUTPUTS if narrow or _narrow(flow) else _OUTPUTS
    most = min(rng.choice((1, 2, 5, 20, 100, 300)), max(1, all_outputs // max(1, count)))
    specials = {number: each for number, each in items.specials.items() if number <= count}
    return replace(items, count=count, specials=specials, most_outputs=most)


def _narrow(flow: FlowControl) -> bool:
    return flow.outputs_per_input < 4 or flow.bytes_per_input < 1000


def draw_generations(
    rng: random.Random,
    flow: FlowControl,
    until: float,
    *,
    narrow: bool,
    own_codec: bool,
    roomy: bool,
) -> GeneratePlan:
    """Single generations.

    Args:
        rng: draws them.
        flow: the client's.
        until: when faults end.
        narrow: whether so little may be under way that there must be few outputs.
        own_codec: whether the codec may refuse something.
        roomy: whether there is room for all of them, and readers stop.
    """
    count = rng.choice((4, 10, 20) if roomy else (0, 1, 4, 10, 20, 40))
    kinds = [
        kind
        for kind in Special
        if own_codec or kind not in (Special.UNDECODABLE, Special.UNKNOWN_TO_SERVER)
    ]
    if roomy or rng.random() < 0.6:
        kinds.remove(Special.POISON)
    specials: dict[int, Special] = {}
    if count and rng.random() < 0.4:
        specials = {rng.randint(1, count): rng.choice(kinds) for _ in range(rng.randint(1, 3))}
    items = Items(
        key=GENERATE_KEY,
        count=count,
        size=rng.choice((0, 10, 200)),
        answer_size=rng.choice((0, 10, 200, 800)),
        most_bytes=flow.max_item_bytes,
        specials=specials,
    )
    items = replace(few_outputs(rng, items, flow, narrow=narrow), count=count)
    all_outputs = _NARROW_OUTPUTS if narrow or _narrow(flow) else _OUTPUTS
    items = replace(
        items,
        specials=specials,
        most_outputs=min(items.most_outputs, max(5, all_outputs // max(1, count))),
    )
    if roomy:
        items = replace(items, most_outputs=rng.choice((10, 20)))
    stops = roomy or rng.random() < 0.5
    manners = [
        *[Manner.FAST] * 8,
        *[Manner.SLOW] * 3,
        *[Manner.PAUSES] * 2,
        *([Manner.STOPS] * 6 if stops else []),
        Manner.BREAKS,
        Manner.CLOSES,
        Manner.CANCELLED,
        Manner.IMPATIENT,
    ]
    latest = rng.choice((0.0, 0.01, 1.0, 3.0))
    readers = [
        ReaderPlan(
            number=number,
            manner=rng.choice(manners),
            point=rng.randint(0, max(1, items.outputs_of(number) // (3 if roomy else 1))),
            pause=rng.random() * rng.choice((0.0, 0.01, 0.1)),
            starts=rng.random() * latest,
            goes_on=until + STOP_SECONDS,
        )
        for number in range(1, count + 1)
    ]
    return GeneratePlan(items=items, readers=readers)


def generates(rng: random.Random) -> bool:
    """Whether the service of a scenario gives many outputs."""
    return rng.random() < 0.35
