"""What a replica hands to Ray's metrics, how often, and what that costs its streams: nothing."""

import asyncio
import logging
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
from attempts import FakeAttempt, payloads_in, until
from session.test_exchange import in_virtual_time
from stand_ins import Echo, Held, batches

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.frames import (
    ClientFrame,
    CodecId,
    Credit,
    HandlerKind,
    InputRun,
    Open,
)
from servestream_client.protocol.runs import Run
from servestream_client.server import StreamService, metrics
from servestream_client.server.active_attempts import Account, ActiveAttempts
from servestream_client.server.calls import Part
from servestream_client.server.item_time import ItemTime
from servestream_client.server.item_workers import ItemWorkers
from servestream_client.server.kit import Interceptor, Kit
from servestream_client.server.metrics import Exporter, Kind, RayMetrics, Samples
from servestream_client.server.replica import ray_metrics
from servestream_client.wire.convert import client_frame_to_wire, server_frame_from_wire

HANDLER, TIMEOUT = ItemErrorKind.HANDLER, ItemErrorKind.TIMEOUT
GAUGES = (metrics.STREAMS, metrics.RUNNING_ITEMS, metrics.WAITING_ITEMS)


class Recorder:
    """Keeps what it is told, or fails.

    Attributes:
        gauges: the last values.
        outcomes: how many items ended so.
        observed: what histograms got.
        times: when it was told, in the event loop's time.
    """

    def __init__(self) -> None:
        self.gauges: dict[str, float] = {}
        self.outcomes: Counter[str] = Counter()
        self.observed: list[tuple[str, float, dict[str, str]]] = []
        self.times: list[float] = []
        self.fails = False

    def __call__(self, metric, value, tags) -> None:
        if self.fails:
            raise RuntimeError("Ray is away")
        if metric is metrics.STREAMS:
            self.times.append(asyncio.get_running_loop().time())
        if metric.kind is Kind.GAUGE:
            self.gauges[metric.name.removeprefix("servestream_")] = value
        elif metric is metrics.ITEMS:
            self.outcomes[tags["outcome"]] += value
        else:
            self.observed.append((metric.name, value, dict(tags)))


class Here:
    """An attempt, and what has become of its inputs."""

    attempt = 1
    to_compute = 0

    def __init__(self, running: int = 0, waiting: int = 0) -> None:
        self.account = Account(running, waiting, 0, {})

    def answer(self, ok: int, **failed: int) -> None:
        before = Counter(self.account.failed)
        before.update({ItemErrorKind[kind.upper()]: count for kind, count in failed.items()})
        answered = self.account.answered + ok + sum(failed.values())
        self.account = self.account._replace(answered=answered, failed=dict(before))


def exporting() -> tuple[ActiveAttempts, Samples, Recorder]:
    active, samples, recorder = ActiveAttempts(), Samples(), Recorder()
    Exporter(active, samples, recorder)
    return active, samples, recorder


# ------------------------------------------------------------------ what is counted


def test_gauges_tell_of_all_streams_and_at_last_that_there_is_none():
    async def main():
        active, _, recorder = exporting()
        first, second = Here(running=2, waiting=3), Here(running=1)
        active.arrive(first)
        active.arrive(second)
        await asyncio.sleep(1.5)
        assert recorder.gauges == {"streams": 2, "running_items": 3, "waiting_items": 3}
        active.unregister(first, None)
        await asyncio.sleep(1.0)
        assert recorder.gauges == {"streams": 1, "running_items": 1, "waiting_items": 0}
        active.unregister(second, None)
        await asyncio.sleep(1.0)
        assert recorder.gauges == {"streams": 0, "running_items": 0, "waiting_items": 0}

    in_virtual_time(main)


def test_each_answer_counts_once_whether_its_stream_is_there_or_not():
    async def main():
        active, _, recorder = exporting()
        stays, goes = Here(), Here()
        active.arrive(stays)
        active.arrive(goes)
        stays.answer(5, timeout=1)
        goes.answer(2)
        await asyncio.sleep(1.5)
        goes.answer(1, handler=3)
        active.unregister(goes, None)
        active.unregister(goes, None)  # no harm
        await asyncio.sleep(5.0)
        assert recorder.outcomes == {"ok": 8, "timeout": 1, "handler": 3}
        stays.answer(1)
        active.unregister(stays, None)
        await asyncio.sleep(5.0)
        assert recorder.outcomes == {"ok": 9, "timeout": 1, "handler": 3}

    in_virtual_time(main)


def test_something_is_said_once_a_second_and_nothing_at_rest():
    async def main():
        active, _, recorder = exporting()
        for _ in range(3):
            recorder.times.clear()
            for _ in range(50):  # streams that come and go tell nothing sooner
                here = Here()
                active.arrive(here)
                await asyncio.sleep(0.1)
                active.unregister(here, None)
                await asyncio.sleep(0.1)
            await asyncio.sleep(100.0)
            pauses = [b - a for a, b in zip(recorder.times, recorder.times[1:], strict=False)]
            assert 9 <= len(recorder.times) <= 11
            assert min(pauses) == pytest.approx(1.0, abs=0.11)

    in_virtual_time(main)


def test_what_ray_raises_is_logged_once_and_told_later(caplog):
    async def main():
        active, _, recorder = exporting()
        here = Here()
        recorder.fails = True
        active.arrive(here)
        here.answer(4)
        with caplog.at_level(logging.DEBUG, "servestream_client.server.metrics"):
            await asyncio.sleep(5.0)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "Ray is away" in caplog.text
        recorder.fails = False
        here.answer(1)
        await asyncio.sleep(1.0)
        assert recorder.outcomes == {"ok": 5}
        active.unregister(here, None)
        await asyncio.sleep(2.0)

    in_virtual_time(main)


# ------------------------------------------------------------------ what is sampled


def calls(samples: Samples, times: list[float]) -> int:
    """How many calls of these that begin at these times are watched."""
    attempt = FakeAttempt(ItemWorkers(Echo(), places=1))
    part, watched = Part(attempt, Run(1, [b""], 0)), 0
    for now in times:
        if now >= samples.due:
            samples.begin([part], now)
            watched += 1
    return watched


def test_no_more_than_some_calls_a_second_are_watched_however_many_there_are():
    _, samples, _ = exporting()
    assert calls(samples, [n / 1000 for n in range(10_000)]) == pytest.approx(160, abs=4)


def test_of_few_calls_all_are_watched_also_if_they_begin_together():
    _, samples, _ = exporting()
    assert calls(samples, [n // 4 for n in range(40)]) == 40


def test_nothing_is_watched_for_nobody():
    assert calls(Samples(), [0.0, 1e9]) == 0


class Outcomes(Echo):
    """Fails inputs that name how."""

    async def handle(self, call, parts):
        for attempt, run in parts:
            for number, payload in enumerate(run.payloads, run.first):
                if payload.isupper():
                    kind = ItemErrorKind[payload.decode()]
                    attempt.session.outbox.fail(number, kind, "no")
        await super().handle(call, parts)


async def test_it_is_observed_how_the_first_input_of_a_call_ended():
    workers = ItemWorkers(Outcomes(), places=1)
    workers.samples.due = 0.0
    stream = FakeAttempt(workers)
    for payload in (b"fine", b"HANDLER", b"TIMEOUT"):
        stream.send(payload)
        await until(lambda: stream.done)
    sizes, seconds = workers.samples.take()
    assert [outcome for outcome, _ in seconds] == ["ok", "handler", "timeout"]
    assert not sizes
    assert not stream.session.outbox.failures.watched
    assert workers.samples.take() == ([], [])


async def test_a_batch_is_observed_with_its_size_and_each_input_waits_for_all():
    class Slow(Echo):
        async def handle(self, call, parts):
            workers.item_time = ItemTime()
            workers.item_time._first_ended = 0.0
            await super().handle(call, parts)

    handler = Slow()
    workers = batches(handler, max_batch=8)
    workers.samples.due = 0.0
    stream = FakeAttempt(workers)
    stream.send_many(11)
    await until(lambda: stream.done)
    sizes, seconds = workers.samples.take()
    assert sizes == [len(call) for call in handler.calls] == [8, 3]
    assert seconds[-1][1] == workers.item_time.value  # not an eighth of it


async def test_nothing_is_said_of_an_input_whose_stream_has_ended():
    handler = Held()
    workers = ItemWorkers(handler, places=1)
    workers.samples.due = 0.0
    stream = FakeAttempt(workers)
    stream.send(b"x")
    await until(lambda: handler.running == 1)
    stream.go()
    await until(lambda: not handler.running)
    await until(lambda: not workers._tasks)
    assert workers.samples.take() == ([], [])


async def test_nothing_is_said_of_an_input_that_was_given_back():
    class GivesBack(Echo):
        async def handle(self, call, parts):
            if not self.calls:
                self.calls.append(payloads_in(parts))
                for attempt, run in parts:
                    attempt.session.intake.put_back(run)
                return
            await super().handle(call, parts)

    workers = ItemWorkers(GivesBack(), places=1)
    workers.samples.due = 0.0
    stream = FakeAttempt(workers)
    stream.send(b"x")
    await until(lambda: stream.done)
    _, seconds = workers.samples.take()
    assert [outcome for outcome, _ in seconds] == ["ok"]


# ------------------------------------------------------------------ a kit


class Waits(StreamService[bytes, bytes]):
    """Some inputs wait until they are let go."""

    max_concurrency = 2

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def predict(self, item: bytes) -> bytes:
        if item == b"fails":
            raise ValueError
        if item == b"waits":
            await self.go.wait()
        return item


OPEN = Open(stream_id=bytes(16), attempt=1, codec=CodecId("bytes"))


def test_a_kit_tells_what_its_handlers_have_and_what_waits_for_them():
    async def main():
        service, recorder = Waits(), Recorder()
        kit = Kit(service, HandlerKind.ONE_TO_ONE, Interceptor(), replica="r", record=recorder)
        said: asyncio.Queue[ClientFrame | None] = asyncio.Queue()
        inputs = [InputRun(1, [b"fails", b"x", *[b"waits"] * 5])]
        said.put_nowait(ClientFrame(open=OPEN, credit=Credit(100, 10**6)))
        said.put_nowait(ClientFrame(inputs=inputs))

        async def requests():
            while (frame := await said.get()) is not None:
                yield client_frame_to_wire(frame)

        async def serve():
            read = 0
            async for message in kit.frames(requests()):
                read += server_frame_from_wire(message).paced
                said.put_nowait(ClientFrame(frames_read=read))

        serving = asyncio.create_task(serve())
        await asyncio.sleep(2.0)
        assert recorder.gauges == {"streams": 1, "running_items": 2, "waiting_items": 3}
        assert recorder.outcomes == {"handler": 1, "ok": 1}
        service.go.set()
        await asyncio.sleep(2.0)
        assert recorder.gauges == {"streams": 1, "running_items": 0, "waiting_items": 0}
        said.put_nowait(None)
        await serving
        await asyncio.sleep(2.0)
        assert recorder.gauges["streams"] == 0
        assert recorder.outcomes == {"handler": 1, "ok": 6}
        assert {name for name, *_ in recorder.observed} == {metrics.ITEM_SECONDS.name}

    in_virtual_time(main)


async def test_outside_a_replica_nothing_is_measured():
    kit = Kit(Waits(), HandlerKind.ONE_TO_ONE, Interceptor(), replica="r")
    assert kit.workers.samples.due == float("inf")
    assert not kit._active.on_gone


# ------------------------------------------------------------------ Ray


class Classes:
    """Stands for `ray.serve.metrics`."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str, dict]] = []
        self.taken: list[tuple[str, str, float, dict]] = []

    def __getattr__(self, class_name: str):
        def make(name: str, **options):
            self.made.append((class_name, name, options))

            def taker(method: str):
                return lambda value, tags: self.taken.append((name, method, value, tags))

            return SimpleNamespace(**{each: taker(each) for each in ("set", "inc", "observe")})

        return make


def test_each_metric_is_made_once_and_takes_measurements_its_own_way():
    classes = Classes()
    record = RayMetrics(classes)
    for _ in range(2):
        record(metrics.STREAMS, 3, {})
        record(metrics.ITEMS, 7, {"outcome": "ok"})
        record(metrics.BATCH_SIZE, 16, {})
    assert [(made, name) for made, name, _ in classes.made] == [
        ("Gauge", "servestream_streams"),
        ("Counter", "servestream_items"),
        ("Histogram", "servestream_batch_size"),
    ]
    assert [options["tag_keys"] for *_, options in classes.made] == [(), ("outcome",), ()]
    assert classes.made[2][2]["boundaries"][0] == 1
    assert classes.taken[:3] == [
        ("servestream_streams", "set", 3, {}),
        ("servestream_items", "inc", 7, {"outcome": "ok"}),
        ("servestream_batch_size", "observe", 16, {}),
    ]


@pytest.mark.parametrize("inside", [True, False])
def test_ray_is_asked_in_a_replica_only(monkeypatch, inside):
    def context():
        if not inside:
            raise RuntimeError("not in a replica")
        return SimpleNamespace()

    module = Classes()
    monkeypatch.setitem(sys.modules, "ray.serve", SimpleNamespace(get_replica_context=context))
    monkeypatch.setitem(sys.modules, "ray.serve.metrics", module)
    assert ray_metrics() is (module if inside else None)
