"""Both clients give the same history under the same faults."""

import random

import pytest
from faces import FACES
from helpers import collect, numbered

from servestream_client import FlowControl, ItemError, RetryPolicy
from servestream_client.testing import Fault, FaultKind, History, StreamServer

KINDS = (
    FaultKind.CLOSE,
    FaultKind.DUPLICATE,
    FaultKind.SKIP,
    FaultKind.GARBAGE,
    FaultKind.RAISE,
    FaultKind.KILL,
)

FLOW = FlowControl(window_items=64)


def plan(seed: int) -> list[Fault]:
    """Faults so far apart that no two lie in one window: each strikes in its turn."""
    chooser = random.Random(seed)
    places = [place * 700 + chooser.randrange(100) for place in range(1, 7)]
    return [Fault(chooser.choice(KINDS), at) for at in places]


async def history_of(connect, faults: list[Fault], *, ordered: bool) -> tuple:
    """What one face's stream and its server tell, as far as it does not depend on timing."""
    history = History()
    retry = RetryPolicy(initial=0.001, maximum=0.01)
    with StreamServer(history=history) as server:
        server.add_faults(*faults)
        async with connect(server.target, retry=retry, flow=FLOW) as client:
            stream = client.stream(numbered(5000), ordered=ordered, return_exceptions=True)
            results = await collect(stream)
            statistics = stream.statistics()
        shown = [
            (each.number, each.kind, each.text) if isinstance(each, ItemError) else each
            for each in results
        ]
        return (
            shown if ordered else sorted(shown, key=repr),
            [str(fault) for fault in server.fired],
            server.lives,
            statistics.resumes,
            (statistics.accepted, statistics.sent, statistics.received, statistics.taken_through),
        )


@pytest.mark.parametrize("seed", range(6))
async def test_the_same_faults_give_the_same_history(seed):
    print(f"seed {seed}: {[str(fault) for fault in plan(seed)]}")
    one, other = [await history_of(FACES[name], plan(seed), ordered=True) for name in FACES]
    assert one == other
    assert len(one[0]) == 5000
    assert len(one[1]) == 6


async def test_unordered_streams_likewise():
    faults = [Fault(FaultKind.CLOSE, 700), Fault(FaultKind.RAISE, 1500)]
    one, other = [await history_of(FACES[name], faults, ordered=False) for name in FACES]
    assert one[0] == other[0]
    assert sorted(one[1]) == sorted(other[1])
