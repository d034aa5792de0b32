"""The suite of inputs with many outputs: a very short run, and what it looks at."""

import asyncio
import json
import math
import signal
from types import SimpleNamespace

import grpc
import grpc.aio
import psutil
import pytest

from benchmarks.__main__ import main
from benchmarks.bench import Settings
from benchmarks.measure import MeasurementError
from benchmarks.suites import tokens as suite
from benchmarks.tokens import cut
from benchmarks.tokens.alone import alone
from benchmarks.tokens.plan import Plan, Token, tokens


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_short_run_measures_every_part_and_leaves_no_process(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.__main__.Settings", short)
    sizes = suite.Sizes(
        readers=4, paces=(suite.Pace(6, 50.0),), generations=2, tokens=5, stopping=4
    )
    monkeypatch.setattr(suite, "SIZES", sizes)
    before = set(psutil.Process().children(recursive=True))
    arguments = ["--only", "tokens", "--modes", "plain", "--quick", "--output", str(tmp_path)]
    assert main(arguments) == 0
    (one,) = json.loads((tmp_path / "results.json").read_text())["records"]
    figures = {each["name"]: each["values"] for each in one["measurements"]}
    assert set(figures) == {
        "4 generations, as fast as they can",
        "4 generations, giving way after each token",
        "6 generations of 50 a second, share that comes, raw",
        "6 generations of 50 a second, share that comes, ours",
        "6 generations of 50 a second, p99 gap over the handlers', raw",
        "6 generations of 50 a second, p99 gap over the handlers', ours",
        "one generation, time to the first token",
        "one generation, gap between tokens",
        "2 of 4 readers stop, rate of the others over before",
        "2 of 4 readers stop, growth of memory",
        "2 of 4 readers stop, growth over the sum of the bounds",
    }
    assert all(len(values) == 2 for values in figures.values())
    assert min(figures["4 generations, as fast as they can"]) > 0
    # Other tests' servers may come and go beside it.
    assert not set(psutil.Process().children(recursive=True)) - before


def short(**_):
    return Settings(rounds=2, seconds=0.05, quick=True)


@pytest.mark.parametrize("rate", [0.0, 10_000.0, math.inf])
async def test_a_plan_gives_its_tokens_from_its_start_on(rate):
    plan = Plan(5, start=2, rate=rate, size=100, prefill=0.001)
    made = [token async for token in tokens(Plan.unpack(plan.pack()))]
    assert [Token.unpack(token).place for token in made] == [2, 3, 4]
    assert {len(token) for token in made} == {100}
    assert {Token.unpack(token).pid for token in made} == {psutil.Process().pid}


async def test_a_generation_alone_that_ends_early_is_no_measurement():
    async def read(plan, taken):
        for _ in range(plan.length - 1):
            taken(b"")

    with pytest.raises(MeasurementError, match="4 of 5 tokens"):
        await alone(read, Plan(5), 1)


class Replicas:
    """Two processes that make tokens, by word only, of which one is killed."""

    def __init__(self, monkeypatch):
        monkeypatch.setattr("os.kill", self.kill)
        self.pid = 1
        self.killed = []
        self.asked = []

    def kill(self, pid, number):
        assert number == signal.SIGKILL
        self.killed.append(pid)
        self.pid += 1

    def Tokens(self, request, metadata):
        plan = Plan.unpack(request.payload)
        self.asked.append(plan.start)
        return Call(self, plan)


class Call:
    def __init__(self, replicas, plan):
        self.replicas, self.plan, self.pid = replicas, plan, replicas.pid

    def cancel(self):
        pass

    async def __aiter__(self):
        async for token in tokens(self.plan._replace(prefill=0.0)):
            if self.pid in self.replicas.killed:
                raise broken()
            made = Token.unpack(token)
            yield SimpleNamespace(payload=packed(made.place, self.pid))


def broken():
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), None)


def packed(place, pid):
    return Token(place, 0.0, pid).pack()


async def test_a_raw_stub_asks_for_what_it_lacks_after_a_cut(monkeypatch):
    monkeypatch.setattr(cut, "PLAN", Plan(1_000))
    replicas = Replicas(monkeypatch)
    connection = SimpleNamespace(stub=replicas, metadata=())
    assert await cut.pause(cut.reconnecting(connection)) > 0
    assert replicas.killed == [1]
    assert replicas.asked == [0, cut.BEFORE]


@pytest.mark.parametrize("place", [cut.BEFORE - 1, cut.BEFORE + 1])
async def test_a_cut_that_loses_a_token_or_brings_one_twice_is_no_measurement(monkeypatch, place):
    Replicas(monkeypatch)

    async def read(plan, taken):
        for each in range(cut.BEFORE):
            taken(packed(each, 1))
        taken(packed(place, 2))

    with pytest.raises(MeasurementError, match=f"token {place} came where {cut.BEFORE}"):
        await cut.pause(read)


async def test_a_generation_that_ends_with_its_replica_is_no_measurement(monkeypatch):
    Replicas(monkeypatch)

    async def read(plan, taken):
        for each in range(cut.BEFORE):
            taken(packed(each, 1))

    with pytest.raises(MeasurementError, match="nothing came of another"):
        await cut.pause(read)


async def test_a_raw_stub_that_is_cancelled_does_not_call_again():
    calls = []

    class Hanging:
        def Tokens(self, request, metadata):
            calls.append(request)
            return self

        def cancel(self):
            pass

        async def __aiter__(self):
            await asyncio.Event().wait()
            yield

    connection = SimpleNamespace(stub=Hanging(), metadata=())
    reading = asyncio.create_task(cut.reconnecting(connection)(Plan(1), lambda _: None))
    while not calls:
        await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert len(calls) == 1
