"""Spans and metrics of streams on real sockets, read back from the SDK's memory."""

import asyncio
from collections import Counter

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from servestream_client import (
    FlowControl,
    Hooks,
    ItemError,
    StreamClient,
    SyncStreamClient,
    UnreachableError,
)
from servestream_client.opentelemetry import OpenTelemetryHooks
from servestream_client.server import StreamService
from servestream_client.testing import Fault, FaultKind


class Echo(StreamService[bytes, bytes]):
    def predict(self, item: bytes) -> bytes:
        return item


@pytest.fixture
def stream_service():
    return Echo()


class Telemetry:
    """An SDK of its own, whose exporters keep everything."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.hooks = OpenTelemetryHooks(self.tracers, MeterProvider([self.reader]))

    def spans(self, name):
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def points(self):
        """Values of all metrics, by name and by what tells points of one metric apart."""
        data = self.reader.get_metrics_data()
        found = {}
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        marks = [
                            value
                            for key, value in sorted(point.attributes.items())
                            if key in ("outcome", "kind", "error.type")
                        ]
                        value = getattr(point, "value", None)
                        found[metric.name.rsplit(".", 1)[1], *marks] = (
                            point.count if value is None else value
                        )
        return found


@pytest.fixture
def telemetry():
    return Telemetry()


@pytest.mark.stream_faults(Fault(FaultKind.KILL, at=10), Fault(FaultKind.RAISE, at=20))
async def test_a_stream_is_a_span_and_each_attempt_one_in_it(stream_server, telemetry):
    with telemetry.tracers.get_tracer("user").start_as_current_span("user") as user:
        flow = FlowControl(window_items=5)  # so that the second fault comes after the first
        async with StreamClient(stream_server.target, hooks=[telemetry.hooks], flow=flow) as client:
            stream = client.stream([b"x"] * 20, return_exceptions=True)
            outputs = [output async for output in stream]
    assert len(outputs) == 20
    (span,) = telemetry.spans("servestream stream")
    assert span.parent.span_id == user.get_span_context().span_id
    assert span.attributes["servestream.inputs"] == 20
    assert span.attributes["servestream.resumes"] == 1
    assert span.status.status_code is StatusCode.UNSET
    assert {event.name for event in span.events} == {"resumed", "item failed"}

    attempts = telemetry.spans("servestream attempt")
    assert {attempt.parent.span_id for attempt in attempts} == {span.context.span_id}
    assert [attempt.attributes["servestream.attempt"] for attempt in attempts] == list(
        range(1, len(attempts) + 1)
    )
    outcomes = Counter(attempt.attributes["servestream.outcome"] for attempt in attempts)
    assert outcomes["complete"] == 1
    assert {attempt.status.status_code for attempt in attempts[:-1]} == {StatusCode.ERROR}

    points = telemetry.points()
    assert points["inputs",] == points["outputs",] == 20
    assert points["resumes",] == 1
    assert points["item_failures", "handler"] == 1
    assert points["attempts", "complete"] == 1
    assert points["attempts", "broken"] == outcomes["broken"]
    assert points["active_streams",] == 0
    assert points["duration",] == 1


async def test_metrics_of_a_stream_under_way(stream_server, telemetry):
    go = asyncio.Event()

    async def inputs():
        yield b"1"
        await go.wait()
        yield b"2"

    async with StreamClient(stream_server.target, hooks=[telemetry.hooks]) as client:
        stream = client.stream(inputs())
        await anext(stream)
        points = telemetry.points()
        assert (points["active_streams",], points["inputs",], points["outputs",]) == (1, 1, 1)
        go.set()
        assert [output async for output in stream] == [b"2"]
    assert telemetry.points()["inputs",] == 2


async def test_the_trace_context_travels_with_each_call(stream_server, telemetry, monkeypatch):
    seen = []

    class Spying(OpenTelemetryHooks):
        def metadata(self, attempt, /):
            pairs = super().metadata(attempt)
            seen.append(dict(pairs))
            return pairs

    hooks = Spying(telemetry.tracers)
    async with StreamClient(stream_server.target, hooks=[hooks]) as client:
        assert [output async for output in client.stream([b"x"])] == [b"x"]
    (attempt,) = telemetry.spans("servestream attempt")
    span_id = trace.format_span_id(attempt.context.span_id)
    (pairs,) = seen
    assert pairs["traceparent"].split("-")[2] == span_id


async def test_what_callers_share_is_a_trace_of_its_own(stream_server, telemetry):
    with telemetry.tracers.get_tracer("user").start_as_current_span("user") as user:
        async with StreamClient(stream_server.target, hooks=[telemetry.hooks]) as client:
            await client.predict(b"x")
    (span,) = telemetry.spans("servestream predict")
    assert span.parent is None
    assert span.context.trace_id != user.get_span_context().trace_id


async def test_a_failure_is_on_the_span(telemetry):
    async with StreamClient("127.0.0.1:1", hooks=[telemetry.hooks]) as client:
        with pytest.raises(UnreachableError):
            await anext(client.stream([b"x"]))
    (span,) = telemetry.spans("servestream stream")
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "UnreachableError"
    assert [event.name for event in span.events] == ["exception"]


async def test_a_stream_that_is_left_early_is_no_error(stream_server, telemetry):
    async with StreamClient(stream_server.target, hooks=[telemetry.hooks]) as client:
        async for _ in client.stream([b"x"] * 1000):
            break
    (span,) = telemetry.spans("servestream stream")
    assert span.status.status_code is StatusCode.UNSET
    assert all(each.end_time for each in telemetry.exporter.get_finished_spans())
    assert len({each.context.span_id for each in telemetry.exporter.get_finished_spans()}) == len(
        telemetry.exporter.get_finished_spans()
    )


def test_the_blocking_client_keeps_to_the_callers_trace(stream_server, telemetry):
    with (
        telemetry.tracers.get_tracer("user").start_as_current_span("user") as user,
        SyncStreamClient(stream_server.target, hooks=[telemetry.hooks]) as client,
    ):
        outputs = list(client.stream([b"x", 5], return_exceptions=True))
    assert isinstance(outputs[1], ItemError)
    (span,) = telemetry.spans("servestream stream")
    assert span.parent.span_id == user.get_span_context().span_id
    assert telemetry.points()["item_failures", "input_encode"] == 1


async def test_hooks_for_each_client_count_together(stream_server):
    """An SDK keeps the first of observable instruments of the same name, and drops the others."""
    tracers, reader = TracerProvider(), InMemoryMetricReader()
    telemetry = Telemetry()
    telemetry.reader, meters = reader, MeterProvider([reader])
    for count in (10, 7, 3):
        hooks = [OpenTelemetryHooks(tracers, meters)]
        async with StreamClient(stream_server.target, hooks=hooks) as client:
            assert len([output async for output in client.stream([b"x"] * count)]) == count
    points = telemetry.points()
    assert [value for (name, *_), value in points.items() if name.endswith("inputs")] == [20]
    assert [value for (name, *_), value in points.items() if name.endswith("attempts")] == [3]


async def test_baggage_of_one_caller_does_not_travel_for_others(stream_server, telemetry):
    hooks = telemetry.hooks
    seen = []

    class Looking(Hooks):
        def metadata(self, attempt, /):
            seen.append(dict(hooks.metadata(attempt)))
            return ()

    token = context.attach(baggage.set_baggage("user", "alice"))
    try:
        async with StreamClient(stream_server.target, hooks=[hooks, Looking()]) as client:
            await client.predict(b"a")
            [output async for output in client.stream([b"a"])]
    finally:
        context.detach(token)
    shared, own = seen
    assert "baggage" not in shared
    assert own["baggage"] == "user=alice"


async def test_an_error_that_cannot_say_what_it_is_ends_its_span_all_the_same(
    stream_server, telemetry
):
    class MuteError(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    def inputs():
        yield b"a"
        raise MuteError

    async with StreamClient(stream_server.target, hooks=[telemetry.hooks]) as client:
        with pytest.raises(MuteError):
            [output async for output in client.stream(inputs())]
    (span,) = telemetry.spans("servestream stream")
    assert span.status.status_code is StatusCode.ERROR
