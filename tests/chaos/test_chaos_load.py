"""Load on servers in this process: what it counts adds up, and what is wrong is noticed."""

import asyncio
import random
import time

import pytest

from chaos.calls import Caller
from chaos.checker import Violations
from chaos.items import answer
from chaos.leftovers import Census
from chaos.pauses import Pauses
from chaos.run import Load
from chaos.streams import Pace, Shared, Worker
from servestream_client import StreamClient
from servestream_client.server import StreamService
from servestream_client.testing import StreamServer


class Right(StreamService[bytes, bytes]):
    code_version = "1"

    async def predict(self, item):
        return answer(item, 1)


class Wrong(Right):
    """Gives back the answer before."""

    def __init__(self):
        self.last = None

    async def predict(self, item):
        last, self.last = self.last, answer(item, 1)
        return last or self.last


class Failing(Right):
    async def predict(self, item):
        raise ValueError("no")


class Stuck(Right):
    async def predict(self, item):
        await asyncio.sleep(3600)


def load_on(client, *, limit=30.0, length=200, paces=tuple(Pace)):
    began = time.monotonic()

    def clock():
        return time.monotonic() - began

    shared = Shared(clock, Violations(clock), Pauses())
    load = Load(limit, shared)
    for pace in paces:
        for ordered in (True, False):
            load.workers.append(
                Worker(
                    f"{pace} {ordered}",
                    client,
                    pace,
                    ordered=ordered,
                    length=length,
                    rate=1000.0,
                    rng=random.Random(1),
                    shared=shared,
                )
            )
    load.callers.append(
        Caller("predict", client, rate=50.0, limit=limit, rng=random.Random(2), shared=shared)
    )
    return load


async def play(service, *, seconds=1.0, **options):
    with StreamServer(service) as server:
        async with StreamClient(server.target) as client:
            load = load_on(client, **options)
            load.start()
            for _ in range(int(seconds / 0.1)):
                await asyncio.sleep(0.1)
                load.watch()
            await load.stop()
    return load


async def test_what_it_counts_adds_up():
    load = await play(Right())
    totals = load.shared.totals
    assert load.shared.violations.details == []
    assert totals.streams >= len(load.workers)
    assert totals.items == totals.sent > 0
    assert totals.predictions == len(load.callers[0].waits) > 0
    assert sum(totals.by_version.values()) == totals.items
    assert load.shared.pauses.overall().count == totals.items
    assert load.timeline[-1][1] == totals.items


async def test_wrong_answers_are_noticed_by_streams_and_calls():
    load = await play(Wrong())
    assert {"foreign", "lost"} <= set(load.shared.violations.counts)
    assert any("predict" in each.stream for each in load.shared.violations.details)


async def test_item_errors_are_violations():
    load = await play(Failing())
    assert set(load.shared.violations.counts) <= {"item error", "failed", "statistics"}
    assert load.shared.violations.counts["item error"] > 0


async def test_a_stream_that_hangs_is_given_up_with_its_state():
    load = await play(Stuck(), limit=0.4, paces=[Pace.STEADY], seconds=2.0)
    hung = [each for each in load.shared.violations.details if "steady" in each.stream]
    assert {each.kind for each in hung} == {"hung"}
    assert hung[0].state["driver.session.ledger.accepted"] != "0"
    assert any("task servestream" in name for name in hung[0].state)
    calls = [each for each in load.shared.violations.details if "predict" in each.stream]
    assert {each.kind for each in calls} == {"hung"}


async def test_old_code_that_still_answers_is_noticed():
    with StreamServer(Right()) as server:
        async with StreamClient(server.target) as client:
            load = load_on(client, paces=[Pace.BURST])
            load.shared.oldest_version = 2
            load.start()
            await asyncio.sleep(0.3)
            await load.stop()
    assert set(load.shared.violations.counts) == {"old code"}


async def test_the_census_names_what_is_left():
    census = Census.take()
    sleeper = asyncio.create_task(asyncio.sleep(60))
    (left,) = census.compare(Census.take())
    assert left == "task sleep (1)"
    sleeper.cancel()
    await asyncio.gather(sleeper, return_exceptions=True)
    assert await census.left() == []


@pytest.mark.parametrize("kind", ["descriptors", "thread"])
async def test_the_census_sees_descriptors_and_threads(kind, tmp_path):
    census = Census.take()
    if kind == "descriptors":
        with (tmp_path / "file").open("w"):
            (left,) = census.compare(Census.take())
        assert left.startswith("1 file descriptors")
    else:
        await asyncio.to_thread(lambda: None)
        (left,) = census.compare(Census.take())
        assert left.startswith("thread asyncio_0")
        await asyncio.get_running_loop().shutdown_default_executor()
    assert census.compare(Census.take()) == []
