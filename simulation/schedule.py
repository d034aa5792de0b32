"""From a seed to a scenario: what users, services and the network of one run do."""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from servestream_client.config import FlowControl, RetryPolicy, Watchdog
from servestream_client.protocol.frames import HandlerKind
from servestream_client.testing.faults import Fault, FaultKind
from servestream_client.wire.compressed import available
from simulation.faults import FOUND_OUT_BY_HEARTBEATS, SERVICE_FAULTS, Weather
from simulation.folds import draw_fold, few_inputs, folds
from simulation.items import Items, Special
from simulation.many import (
    GENERATE_KEY,
    NO_GENERATIONS,
    NO_GENERATOR,
    draw_flow,
    draw_generations,
    draw_generator,
    draw_redeploys,
    few_outputs,
    generates,
    with_room,
)
from simulation.readers import GeneratePlan
from simulation.service import ServiceShape
from simulation.wide import is_wide, wide_flow, wide_items, wide_service, wide_weather

__all__ = ["Consumption", "InputStyle", "PredictPlan", "Scenario", "StreamPlan", "draw_scenario"]

PREDICT_KEY = 1000
"""The key of the items that go through `predict`."""

PATIENT_ATTEMPTS = 200
PATIENCE_WITH_POISON = range(60, 301)
ATTEMPTS_A_WAIT = 6
"""Attempts for each longest wait that fits into the time of faults. Waits are drawn from 0 to that,
and a stream that does not despair must outlast faults of all that time."""

_COMPRESSING = 0.2


class Consumption(enum.Enum):
    """How the caller iterates a stream."""

    FAST = "as fast as it comes"
    SLOW = "a sleep after each output"
    PAUSES = "stops for a while in the middle"
    BREAKS = "leaves the loop early, and drops the stream"
    CLOSES = "closes the stream early"
    CANCELLED = "its task is cancelled in the middle"


class InputStyle(enum.Enum):
    """What the caller's inputs are."""

    LIST = "a list"
    GENERATOR = "a generator"
    ASYNC = "an async generator"
    ASYNC_SLOW = "an async generator that sleeps now and then"
    RAISES = "a generator that raises in the end"
    ASYNC_RAISES = "an async generator that raises in the end"


EARLY = frozenset({Consumption.BREAKS, Consumption.CLOSES, Consumption.CANCELLED})
RAISING = frozenset({InputStyle.RAISES, InputStyle.ASYNC_RAISES})


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlan:
    """One stream.

    Attributes:
        items: its inputs.
        ordered, return_exceptions, timeout: as for `StreamClient.stream`.
        inputs: of what kind they are.
        consumption: how it is iterated.
        point: after how many outputs the consumer pauses or leaves.
        pause: seconds.
        starts: when, in virtual seconds.
        many: whether its inputs have many outputs.
        numbered: as for `StreamClient.stream`.
    """

    items: Items
    ordered: bool
    return_exceptions: bool
    timeout: float | None
    inputs: InputStyle
    consumption: Consumption
    point: int
    pause: float
    starts: float
    many: bool = False
    numbered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictPlan:
    """Single predictions.

    Attributes:
        items: their inputs.
        at_once: callers at a time.
        impatient: how likely a call has a short timeout, or is cancelled.
    """

    items: Items
    at_once: int
    impatient: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Everything that happens in a run, but for chance.

    Attributes:
        seed: from which it was drawn.
        streams, predicts, generations: what the client is asked to do.
        flow, retry, watchdog: the client's options.
        stingy: whether the retry policy may run out.
        predict_streams: as for `StreamClient`.
        own_codec: or else the default, for which the client takes shorter ways.
        service: how it is set.
        weather: of the network.
        faults: of the service.
        closes: when the client is closed although streams are open; None: when all is done.
        disorder, cost: of the event loop.
    """

    seed: int
    streams: Sequence[StreamPlan]
    predicts: PredictPlan
    generations: GeneratePlan
    flow: FlowControl
    retry: RetryPolicy
    watchdog: Watchdog
    stingy: bool
    predict_streams: int
    own_codec: bool
    service: ServiceShape
    weather: Weather
    faults: Sequence[Fault]
    closes: float | None
    disorder: float
    cost: float

    @property
    def items(self) -> Mapping[int, Items]:
        """Of all streams, by key."""
        return {
            **{plan.items.key: plan.items for plan in self.streams},
            PREDICT_KEY: self.predicts.items,
            GENERATE_KEY: self.generations.items,
        }

    @property
    def many(self) -> bool:
        """Whether inputs have many outputs."""
        return self.service.kind is HandlerKind.ONE_TO_MANY

    @property
    def folding(self) -> bool:
        """Whether the service is stateful."""
        return self.service.kind is HandlerKind.STATEFUL


def draw_scenario(seed: int, *, many: bool | None = None, folding: bool | None = None) -> Scenario:
    """The scenario of a seed.

    Args:
        seed: from which it is drawn.
        many: whether its service gives many outputs for an input; None: so says the seed.
        folding: whether it is stateful; None: so says the seed, where `many` is None as well.
    """
    scenario = _compressing(random.Random(f"zstd {seed}"), _draw(seed))
    rng = random.Random(f"many {seed}")
    drawn = generates(rng)
    if (drawn and not folding) if many is None else many:
        return _with_generators(rng, scenario)
    rng = random.Random(f"fold {seed}")
    if folding if folding is not None else (many is None and folds(rng)):
        return _folding(rng, scenario)
    rng = random.Random(f"wide {seed}")
    return _widened(rng, scenario) if is_wide(rng) else scenario


def _compressing(rng: random.Random, scenario: Scenario) -> Scenario:
    """The same, whose client may ask for compressed payloads."""
    level = 1 if rng.random() < _COMPRESSING and available() else 0
    return replace(scenario, flow=replace(scenario.flow, compression_level=level))


def _folding(rng: random.Random, scenario: Scenario) -> Scenario:
    """The same, where the service is stateful."""
    return replace(
        scenario,
        streams=[
            replace(plan, items=few_inputs(plan.items), ordered=True) for plan in scenario.streams
        ],
        predicts=replace(scenario.predicts, items=replace(scenario.predicts.items, count=0)),
        service=replace(
            scenario.service,
            kind=HandlerKind.STATEFUL,
            fold=draw_fold(rng),
            max_batch=rng.choice((1, 4, 64)),
        ),
    )


def _widened(rng: random.Random, scenario: Scenario) -> Scenario:
    """The same, where streams have lanes."""
    return replace(
        scenario,
        streams=[replace(plan, items=wide_items(rng, plan.items)) for plan in scenario.streams[:2]],
        flow=wide_flow(scenario.flow),
        service=wide_service(rng, scenario.service),
        weather=wide_weather(rng, scenario.weather),
    )


def _with_generators(rng: random.Random, scenario: Scenario) -> Scenario:
    """The same, where the service gives many outputs."""
    until = scenario.weather.until
    flow, own = draw_flow(rng, scenario.flow), scenario.service.flow
    roomy = rng.random() < 0.4
    if roomy:
        flow, own = with_room(rng, flow), with_room(rng, own)
    narrow = _narrow(scenario.flow) and not roomy
    streams = [
        replace(
            plan,
            items=few_outputs(rng, plan.items, flow, narrow=narrow),
            many=True,
            numbered=rng.random() < 0.75,
        )
        for plan in scenario.streams
    ]
    generations = draw_generations(
        rng,
        flow,
        until,
        narrow=narrow,
        own_codec=scenario.own_codec,
        roomy=roomy,
    )
    predicts = replace(scenario.predicts, items=replace(scenario.predicts.items, count=0))
    weather = replace(
        scenario.weather,
        redeploys=draw_redeploys(rng, until) if scenario.weather.trouble else (),
        hides=rng.random() < 0.15,
    )
    service = replace(
        scenario.service,
        kind=HandlerKind.ONE_TO_MANY,
        generator=draw_generator(rng),
        flow=own,
        concurrency=rng.choice((1, 2, 4, 16, 256)),
    )
    items = (generations.items, *(plan.items for plan in streams))
    of_key = {str(plan.items.key): plan.items for plan in streams}
    return replace(
        scenario,
        faults=[_among_outputs(rng, fault, of_key[fault.stream]) for fault in scenario.faults],
        streams=streams,
        generations=generations,
        predicts=predicts,
        flow=flow,
        service=service,
        weather=weather,
        retry=_despairing(scenario.retry, until) if _poisonous(items) else scenario.retry,
    )


def _among_outputs(rng: random.Random, fault: Fault, items: Items) -> Fault:
    """The same fault, mostly at one of its input's outputs or at its end."""
    if fault.kind is FaultKind.REFUSE or rng.random() < 0.3:
        return fault
    at = rng.randint(1, max(1, items.count))
    return replace(fault, at=at, output=rng.randint(0, items.outputs_of(at)))


def _poisonous(all_items: Iterable[Items]) -> bool:
    return any(Special.POISON in items.specials.values() for items in all_items)


def _despairing(retry: RetryPolicy, until: float) -> RetryPolicy:
    """Where nothing else is answered, the policy is what ends it."""
    enough = _attempts(retry, until)
    patience = min(max(enough, PATIENCE_WITH_POISON[0]), PATIENCE_WITH_POISON[-1])
    attempts = min(retry.attempts, patience)
    return replace(retry, attempts=attempts, connect_attempts=attempts)


def _attempts(retry: RetryPolicy, until: float) -> int:
    """As many as outlast the time of faults."""
    return math.ceil(ATTEMPTS_A_WAIT * until / retry.maximum)


def _draw(seed: int) -> Scenario:
    rng = random.Random(f"scenario {seed}")
    own_codec = rng.random() < 0.6
    flow = _flow(rng)
    streams = [_stream(rng, key, flow, own_codec=own_codec) for key in range(1, _streams(rng) + 1)]
    stingy = rng.random() < 0.1
    until = rng.choice((2.0, 5.0, 10.0, 20.0))
    watchdog = _watchdog(random.Random(f"watchdog {seed}"))
    beats = watchdog.heartbeat_interval is not None
    predicts = _predicts(rng, flow, own_codec=own_codec)
    hedge = random.Random(f"hedge {seed}")
    retry = replace(
        _retry(rng, stingy=stingy),
        max_attempt_age=_age(random.Random(f"age {seed}")),
        hedge=hedge.choice((0.0, 0.05, 1.0, 1.0)),
    )
    if not stingy:
        attempts = max(PATIENT_ATTEMPTS, _attempts(retry, until))
        retry = replace(retry, attempts=attempts, connect_attempts=attempts)
    if _poisonous((predicts.items, *(plan.items for plan in streams))):
        retry = _despairing(retry, until)
    return Scenario(
        seed=seed,
        streams=streams,
        predicts=predicts,
        generations=NO_GENERATIONS,
        flow=flow,
        retry=retry,
        watchdog=watchdog,
        stingy=stingy,
        predict_streams=rng.randint(1, 4),
        own_codec=own_codec,
        service=replace(_service(rng), hedging=hedge.random() < 0.9),
        weather=_weather(rng, until, half_open=beats),
        faults=_faults(rng, streams, beats=beats),
        closes=rng.random() * 5 if rng.random() < 0.06 else None,
        disorder=rng.choice((0.0, 0.3, 1.0, 1.0)),
        cost=rng.choice((0.0, 1e-6, 1e-5, 1e-4, 1e-3)),
    )


def _streams(rng: random.Random) -> int:
    return rng.choice((1, 1, 2, 3, 4))


def _flow(rng: random.Random) -> FlowControl:
    return FlowControl(
        window_items=rng.choice((1, 2, 3, 5, 16, 64, 4096)),
        window_bytes=rng.choice((1, 100, 1000, 100_000, 4_000_000)),
        output_items=rng.choice((1, 2, 3, 5, 16, 64, 4096)),
        output_bytes=rng.choice((1, 100, 1000, 100_000, 4_000_000)),
        max_item_bytes=rng.choice((1000, 3000)),
        max_unacknowledged_frames=rng.randint(2, 4),
    )


def _narrow(flow: FlowControl) -> bool:
    """Whether so little may be under way that each item takes frames of its own."""
    return min(flow.window_items, flow.output_items) < 4 or (
        min(flow.window_bytes, flow.output_bytes) < 1000
    )


def _count(rng: random.Random, flow: FlowControl) -> int:
    if _narrow(flow):
        return rng.choice((1, 3, 10, 20, 30))
    return rng.choice((1, 10, 20, 40, 80, 150, 300))


def _items(
    rng: random.Random, key: int, count: int, flow: FlowControl, *, own_codec: bool
) -> Items:
    specials: dict[int, Special] = {}
    if count and rng.random() < 0.4:
        kinds = [
            kind
            for kind in Special
            if own_codec or kind not in (Special.UNDECODABLE, Special.UNKNOWN_TO_SERVER)
        ]
        if key != PREDICT_KEY and rng.random() < 0.8:
            kinds.remove(Special.POISON)  # which costs more than all the others
        for _ in range(rng.randint(1, 4)):
            specials[rng.randint(1, count)] = rng.choice(kinds)
    return Items(
        key=key,
        count=count,
        size=rng.choice((0, 10, 200, 800)),
        answer_size=rng.choice((0, 10, 200, 800)),
        most_bytes=flow.max_item_bytes,
        specials=specials,
    )


def _stream(rng: random.Random, key: int, flow: FlowControl, *, own_codec: bool) -> StreamPlan:
    count = 0 if rng.random() < 0.03 else _count(rng, flow)
    consumption = rng.choice(
        (*[Consumption.FAST] * 5, *[Consumption.SLOW] * 3, *[Consumption.PAUSES] * 2, *EARLY_ORDER)
    )
    return StreamPlan(
        items=_items(rng, key, count, flow, own_codec=own_codec),
        ordered=rng.random() < 0.6,
        return_exceptions=rng.random() < 0.7,
        timeout=rng.random() * 10 + 0.01 if rng.random() < 0.05 else None,
        inputs=rng.choice((*InputStyle, *[InputStyle.LIST] * 3, *[InputStyle.ASYNC] * 3)),
        consumption=consumption,
        point=rng.randint(0, max(0, count)),
        pause=rng.choice((0.0, 0.001, 0.01, 0.1)) * rng.random(),
        starts=rng.random() * rng.choice((0, 0.01, 1, 3)),
    )


EARLY_ORDER = (Consumption.BREAKS, Consumption.CLOSES, Consumption.CANCELLED)


def _predicts(rng: random.Random, flow: FlowControl, *, own_codec: bool) -> PredictPlan:
    count = rng.choice((0, 0, 1, 5, 20, 40 if not _narrow(flow) else 10))
    return PredictPlan(
        items=_items(rng, PREDICT_KEY, count, flow, own_codec=own_codec),
        at_once=rng.choice((1, 3, 10, 40)),
        impatient=rng.choice((0.0, 0.0, 0.2)),
    )


def _retry(rng: random.Random, *, stingy: bool) -> RetryPolicy:
    initial = rng.choice((0.001, 0.01, 0.1))
    maximum = rng.choice((0.1, 1.0, 5.0))
    patience = rng.uniform(3.0, 15.0)
    if stingy:
        return RetryPolicy(
            attempts=rng.randint(1, 3),
            connect_attempts=rng.randint(1, 3),
            give_up_after=rng.choice((None, 1.0, 10.0)),
            initial=initial,
            maximum=maximum,
            open_timeout=patience,
        )
    return RetryPolicy(
        attempts=PATIENT_ATTEMPTS,
        connect_attempts=PATIENT_ATTEMPTS,
        give_up_after=None,
        initial=initial,
        maximum=maximum,
        open_timeout=patience,
    )


def _age(rng: random.Random) -> float | None:
    return rng.choice((None, None, None, None, 0.3, 3.0))


def _service(rng: random.Random) -> ServiceShape:
    return ServiceShape(
        kind=rng.choice((HandlerKind.ONE_TO_ONE, HandlerKind.ONE_TO_ONE, HandlerKind.BATCH)),
        concurrency=rng.choice((1, 2, 4, 16)),
        max_batch=rng.choice((1, 4, 64)),
        batch_wait=rng.choice((0.0, 0.0, 0.005, 0.1)),
        flow=FlowControl(
            window_items=rng.choice((1, 2, 8, 100, 4096)),
            window_bytes=rng.choice((1000, 4_000_000)),
            output_bytes=rng.choice((1, 100, 1000, 100_000, 4_000_000)),
            max_unacknowledged_frames=rng.randint(2, 4),
        ),
        waits=rng.choice((0.0, 0.1, 0.5, 1.0)),
        seconds=rng.choice((0.0, 0.001, 0.01, 0.1)),
        generator=NO_GENERATOR,
    )


def _watchdog(rng: random.Random) -> Watchdog:
    interval = rng.choice((None, 0.5, 2.0, 10.0))
    limit = rng.choice((5.0, 30.0))  # slower than any handler that does not hang
    return Watchdog(heartbeat_interval=interval, item_timeout=limit)


def _weather(rng: random.Random, until: float, *, half_open: bool) -> Weather:
    replicas = rng.randint(1, 4)
    calm = rng.random() < 0.1
    crashes = (
        []
        if calm
        else [
            (rng.random() * until, rng.randrange(replicas), rng.random() * 3)
            for _ in range(rng.choice((0, 0, 1, 2, 4)))
        ]
    )
    drains = (
        []
        if calm or rng.random() < 0.6
        else [
            (rng.random() * until, rng.randrange(replicas), rng.choice((0.0, 0.1, 2.0)))
            for _ in range(rng.randint(1, 3))
        ]
    )
    outages = [] if calm or rng.random() < 0.8 else [(rng.random() * until, rng.random() * 5)]
    weather = Weather(
        latency=rng.choice((0.0001, 0.001, 0.01, 0.05)),
        spikes=rng.choice((0.0, 0.01, 0.1)),
        capacity=rng.choice((1, 2, 8, 1000)),
        until=until,
        trouble=0.0 if calm else rng.choice((0.3, 0.6, 0.9)),
        budget=rng.choice((1, 3, 6, 12)),
        slow_open=rng.choice((1.0, 20.0)),
        half_open=half_open,
        late_cancel=rng.choice((0.0, 1.0, 10.0)),
        deaf=rng.choice((0.0, 0.3, 1.0)),
        cancels_task=rng.random() < 0.5,
        replicas=replicas,
        random_routing=rng.random() < 0.5,
        crashes=crashes,
        outages=outages,
        drains=drains,
        redeploys=(),
        admission=0.0 if calm or rng.random() < 0.8 else 0.3,
        hides=False,
    )
    endpoints = rng.choice((1, 1, 2, 3))
    if endpoints == 1:
        return weather
    cut = [] if calm else range(rng.randint(0, 4))
    return replace(
        weather,
        endpoints=endpoints,
        endpoint_outages=[
            (rng.random() * until, rng.randrange(endpoints), rng.random() * 5, rng.random() < 0.3)
            for _ in cut
        ],
    )


def _faults(rng: random.Random, streams: Sequence[StreamPlan], *, beats: bool) -> list[Fault]:
    """Faults of the service: each in one stream, so that it is known which items may fail. Where
    one output stands twice, none is left out: the counts of heartbeats, by which that is found,
    would agree.
    """
    kinds = (*SERVICE_FAULTS, *FOUND_OUT_BY_HEARTBEATS) if beats else SERVICE_FAULTS
    faults: list[Fault] = []
    for plan in streams:
        if rng.random() < 0.4:
            of_stream: list[Fault] = []
            for _ in range(rng.randint(1, 4)):
                kind = rng.choice(kinds)
                most = 3 if kind is FaultKind.REFUSE else max(1, plan.items.count)
                at = rng.randint(1, most)
                of_stream.append(Fault(kind, at, rng.random(), stream=str(plan.items.key)))
            twice = any(fault.kind is FaultKind.DUPLICATE for fault in of_stream)
            faults += [f for f in of_stream if not (twice and f.kind is FaultKind.SKIP)]
    return faults
