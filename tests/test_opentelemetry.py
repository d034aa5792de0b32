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
from servestream_client.events import (
    CallEnded,
    StreamEnded,
    StreamKind,
    StreamStarted,
    StreamStatistics,
)
from servestream_client.opentelemetry import OpenTelemetryHooks, _server
from servestream_client.server import StreamService
from servestream_client.testing import Fault, FaultKind

CALL = "servestream call of predict"


class Echo(StreamService[bytes, bytes]):
    def predict(self, item: bytes) -> bytes:
        if item == b"bad":
            raise ValueError("bad")
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
                        name = metric.name.removeprefix("servestream.client.")
                        found[name, *marks] = point.count if value is None else value
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
    assert points["stream.duration",] == 1


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


async def test_a_call_is_a_span_of_its_caller_with_a_link_to_the_stream(stream_server, telemetry):
    with telemetry.tracers.get_tracer("user").start_as_current_span("user") as user:
        async with StreamClient(stream_server.target, hooks=[telemetry.hooks]) as client:
            await client.predict(b"x")
            with pytest.raises(ItemError):
                await client.predict(b"bad")
    stream, calls = telemetry.spans("servestream predict")[0], telemetry.spans(CALL)
    assert {call.parent.span_id for call in calls} == {user.get_span_context().span_id}
    assert {link.context.span_id for call in calls for link in call.links} == {
        stream.context.span_id
    }
    assert [call.status.status_code for call in calls] == [StatusCode.UNSET, StatusCode.ERROR]
    assert calls[1].attributes["error.type"] == "ItemError"
    assert all(call.start_time < call.end_time for call in calls)
    points = telemetry.points()
    assert points["call.duration",] == 1
    assert points["call.duration", "ItemError"] == 1


async def test_calls_need_not_be_spans(stream_server, telemetry):
    quiet = OpenTelemetryHooks(telemetry.tracers, MeterProvider(), call_spans=False)
    async with StreamClient(stream_server.target, hooks=[quiet]) as client:
        await client.predict(b"x")
    assert telemetry.spans(CALL) == []


async def test_a_generation_has_a_first_output_and_gaps(make_stream_server, telemetry):
    class Letters(StreamService[bytes, bytes]):
        async def generate(self, item, resume):
            for letter in item.decode():
                await asyncio.sleep(0.002)  # a model computes
                yield letter.encode()

    server = make_stream_server(Letters)
    async with StreamClient(server.target, hooks=[telemetry.hooks]) as client:
        assert len([output async for output in client.generate(b"x" * 20)]) == 20
    points = telemetry.points()
    assert points["generate.first_output",] == 1
    assert points["generate.gap",] >= 1
    assert points["call.duration",] == 1


@pytest.mark.stream_faults(Fault(FaultKind.KILL, at=10))
async def test_attempts_have_grpcs_status_and_the_servers_address(stream_server, telemetry):
    async with StreamClient(stream_server.target, hooks=[telemetry.hooks]) as client:
        [output async for output in client.stream([b"x"] * 20)]
    host, _, port = stream_server.target.rpartition(":")
    attempts = telemetry.spans("servestream attempt")
    for attempt in attempts:
        assert attempt.attributes["rpc.system.name"] == "grpc"
        assert attempt.attributes["rpc.method"] == "servestream.v1.StreamService/Stream"
        assert attempt.attributes["server.address"] == host
        assert attempt.attributes["server.port"] == int(port)
    codes = [attempt.attributes["rpc.response.status_code"] for attempt in attempts]
    assert codes[0] == attempts[0].attributes["error.type"] == "UNAVAILABLE"
    assert codes[-1] == "OK"
    assert "error.type" not in attempts[-1].attributes


@pytest.mark.parametrize(
    ("target", "attributes"),
    [
        ("model.internal:9000", {"server.address": "model.internal", "server.port": 9000}),
        ("[::1]:9000", {"server.address": "::1", "server.port": 9000}),
        ("a:1,b:2", {"server.address": "a:1,b:2"}),
        (
            "replicas.svc:9000 (10.0.0.1:9000)",
            {"server.address": "replicas.svc", "server.port": 9000},
        ),
        ("unix:/run/model.sock", {"server.address": "unix:/run/model.sock"}),
    ],
)
def test_the_servers_address_and_port_are_apart(target, attributes):
    assert _server(target) == attributes


async def test_the_buckets_hold_quick_calls_and_long_streams_apart(stream_server, telemetry):
    async with StreamClient(stream_server.target, hooks=[telemetry.hooks]) as client:
        await client.predict(b"x")
    bounds = {}
    for resource in telemetry.reader.get_metrics_data().resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    if bucket := getattr(point, "explicit_bounds", ()):
                        bounds[metric.name] = (bucket[0], bucket[-1], metric.unit)
    assert bounds["servestream.client.call.duration"] == (0.001, 60.0, "s")
    assert bounds["servestream.client.stream.duration"] == (0.1, 86400.0, "s")


def test_a_call_links_to_a_stream_that_has_ended_too(telemetry):
    hooks = telemetry.hooks
    of = {"target": "here:1", "application": "", "kind": StreamKind.PREDICT}
    counts = StreamStatistics(
        **dict.fromkeys(["accepted", "sent", "replayed", "received", "taken_through"], 0),
        **dict.fromkeys(["duplicates", "isolated", "attempts", "resumes"], 0),
        **dict.fromkeys(["replica", "code_version", "stream_id"], ""),
    )
    hooks.on_event(StreamStarted(stream_id="1", ordered=False, statistics=lambda: counts, **of))
    hooks.on_event(StreamEnded(stream_id="1", error=None, statistics=counts))
    hooks.on_event(CallEnded(stream_id="1", seconds=0.1, outputs=1, error=None, **of))
    (stream,), (call,) = telemetry.spans("servestream predict"), telemetry.spans(CALL)
    assert [link.context for link in call.links] == [stream.context]
