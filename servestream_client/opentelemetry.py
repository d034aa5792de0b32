"""Traces and metrics through OpenTelemetry, from the extra ``opentelemetry``.

    client = StreamClient(target, hooks=[OpenTelemetryHooks()])

Spans: one a stream, and in it one an attempt, whose context goes to Serve as ``traceparent``. A
stream of `stream` belongs to the trace in which it was first iterated; those that carry calls of
`predict` and `generate` belong to no call's trace, since many share one, and each begins its own.
A call is a span in its caller's trace, with a link to the stream that carried it.

Metrics, in seconds or in counts:

========================================  ===============  ======================================
servestream.client.call.duration          histogram        of calls of `predict` and
                                                           `generate`, by `error.type`
servestream.client.generate.first_output  histogram        from a call of `generate` to its
                                                           first output
servestream.client.generate.gap           histogram        from outputs to the next ones
servestream.client.active_streams         up-down counter  streams under way
servestream.client.stream.duration        histogram        of streams that ended, by `error.type`
rpc.client.call.duration                  histogram        of attempts, by
                                                           `rpc.response.status_code`
servestream.client.attempts               counter          attempts that ended, by `outcome`
servestream.client.resumes                counter          attempts that took over from a broken one
servestream.client.item_failures          counter          inputs that failed, by `kind`
servestream.client.inputs                 counter          inputs sent, each counted once
servestream.client.replayed               counter          inputs sent again
servestream.client.outputs                counter          outputs and item errors received
========================================  ===============  ======================================

All of them carry `server.address` and `server.port` (of a target with several addresses the whole
of it, and no port), and all but that of attempts `servestream.application` and `servestream.kind`.
Names and units are those of OpenTelemetry's semantic conventions where they have one.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import ClassVar
from weakref import WeakKeyDictionary

from opentelemetry import context as otel_context
from opentelemetry import metrics, propagate, trace
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode

from servestream_client.errors import ClientClosedError
from servestream_client.events import (
    AttemptEnded,
    AttemptOutcome,
    AttemptStarted,
    AttemptWelcomed,
    CallEnded,
    Event,
    Hooks,
    ItemFailed,
    OutputsArrived,
    ServerDraining,
    StreamEnded,
    StreamKind,
    StreamStarted,
    StreamStatistics,
)
from servestream_client.metadata import Metadata
from servestream_client.usercode import describe
from servestream_client.version import __version__

__all__ = ["OpenTelemetryHooks"]

_NAME = "servestream_client"
_MOST_RECENT = 1024
"""Streams whose attributes are kept after their end, for outputs that are taken later."""
_RPC = {"rpc.system.name": "grpc", "rpc.method": "servestream.v1.StreamService/Stream"}
_CALL_SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0),
)
"""Upper ends of buckets: those of the semantic conventions, with some for quick models and slow."""

_STREAM_SECONDS = (0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 6 * 3600.0, 24 * 3600.0)
_Attributes = dict[str, str | int]


@dataclass(slots=True)
class _Live:
    """A stream under way."""

    span: Span
    attributes: _Attributes
    statistics: Callable[[], StreamStatistics]
    began: float
    context: otel_context.Context
    attempt: Span | None = None
    attempt_began: float = 0.0
    attempt_server: _Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Past:
    """A stream that has ended."""

    attributes: _Attributes
    span: SpanContext


@dataclass(slots=True)
class _Totals:
    """What streams that ended have sent and received."""

    inputs: int = 0
    replayed: int = 0
    outputs: int = 0

    def add(self, counts: StreamStatistics) -> None:
        self.inputs += counts.sent
        self.replayed += counts.replayed
        self.outputs += counts.received


_Points = tuple[tuple[str, str | int], ...]
_Key = tuple[int, str]
"""Whose stream it is, and its id."""


@dataclass(slots=True)
class _Table:
    """What the metrics read, in a thread of the exporter's."""

    live: dict[_Key, _Live] = field(default_factory=dict)
    ended: defaultdict[_Points, _Totals] = field(default_factory=lambda: defaultdict(_Totals))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def totals(self) -> dict[_Points, _Totals]:
        with self.lock:
            found: defaultdict[_Points, _Totals] = defaultdict(_Totals)
            for key, totals in self.ended.items():
                found[key] = _Totals(totals.inputs, totals.replayed, totals.outputs)
            for live in self.live.values():
                found[tuple(live.attributes.items())].add(live.statistics())
            return found


class _Instruments:
    """The metrics of one provider, made once: of observable ones it would keep the first only."""

    _made: ClassVar[WeakKeyDictionary[metrics.MeterProvider, _Instruments]] = WeakKeyDictionary()
    _making = threading.Lock()

    @classmethod
    def of(cls, provider: metrics.MeterProvider | None) -> _Instruments:
        provider = metrics.get_meter_provider() if provider is None else provider
        with cls._making:
            if provider not in cls._made:
                cls._made[provider] = cls(provider.get_meter(_NAME, __version__))
            return cls._made[provider]

    def __init__(self, meter: metrics.Meter) -> None:
        self.table = table = _Table()
        self.active = meter.create_up_down_counter(
            "servestream.client.active_streams", "{stream}", "Streams under way"
        )
        self.duration = meter.create_histogram(
            "servestream.client.stream.duration",
            "s",
            "How long streams took",
            explicit_bucket_boundaries_advisory=_STREAM_SECONDS,
        )
        self.rpc = meter.create_histogram(
            "rpc.client.call.duration",
            "s",
            "How long attempts took",
            explicit_bucket_boundaries_advisory=_STREAM_SECONDS,
        )
        self.calls, self.first_output, self.gap = (
            meter.create_histogram(
                f"servestream.client.{name}",
                "s",
                description,
                explicit_bucket_boundaries_advisory=_CALL_SECONDS,
            )
            for name, description in (
                ("call.duration", "How long calls of predict and generate took"),
                ("generate.first_output", "From a call of generate to its first output"),
                ("generate.gap", "From outputs of a call of generate to the next ones"),
            )
        )
        self.attempts = meter.create_counter(
            "servestream.client.attempts", "{attempt}", "Calls that ended"
        )
        self.resumes = meter.create_counter(
            "servestream.client.resumes", "{resume}", "Attempts that took over from a broken one"
        )
        self.failures = meter.create_counter(
            "servestream.client.item_failures", "{item}", "Inputs that failed"
        )
        for name, description, count in (
            ("inputs", "Inputs sent, each counted once", lambda totals: totals.inputs),
            ("replayed", "Inputs sent again", lambda totals: totals.replayed),
            ("outputs", "Outputs and item errors received", lambda totals: totals.outputs),
        ):
            meter.create_observable_counter(
                f"servestream.client.{name}", [_observer(table, count)], "{item}", description
            )


class OpenTelemetryHooks(Hooks):
    """Hand one to as many clients as you like, or make one for each.

    Args:
        tracer_provider: None: the global one.
        meter_provider: likewise.
        call_spans: whether calls of `predict` and `generate` are spans; what they take for each
            call is the SDK's business.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        *,
        call_spans: bool = True,
    ) -> None:
        self._tracer = trace.get_tracer(_NAME, __version__, tracer_provider)
        self._metrics = _Instruments.of(meter_provider)
        self._table = self._metrics.table
        self._call_spans = call_spans
        self._recent: OrderedDict[str, _Past] = OrderedDict()  # of streams that ended
        self._servers: dict[str, _Attributes] = {}  # of each target, read once

    def on_event(self, event: Event, /) -> None:
        if isinstance(event, StreamStarted):
            self._started(event)
        elif isinstance(event, CallEnded):
            self._call_ended(event)
        elif isinstance(event, OutputsArrived):
            self._outputs_arrived(event)
        else:
            self._in_stream(event)

    def _in_stream(self, event: Event) -> None:
        live = self._table.live.get((id(self), event.stream_id))
        if live is None:
            if isinstance(event, ItemFailed):  # an output, taken late, that cannot be decoded
                past = self._recent.get(event.stream_id)
                attributes = past.attributes if past is not None else {}
                self._metrics.failures.add(1, {**attributes, "kind": event.kind.name.lower()})
            return
        match event:
            case AttemptStarted():
                self._attempt_started(live, event)
            case AttemptWelcomed():
                self._welcomed(live, event)
            case ServerDraining(grace=grace) if live.attempt is not None:
                live.attempt.add_event("server draining", {"servestream.grace": grace})
            case ItemFailed():
                self._item_failed(live, event)
            case AttemptEnded():
                self._attempt_ended(live, event)
            case StreamEnded():
                self._ended(live, event)

    def metadata(self, attempt: AttemptStarted, /) -> Metadata:
        """The attempt's trace context, as the global propagator writes it."""
        live = self._table.live.get((id(self), attempt.stream_id))
        if live is None or live.attempt is None:
            return ()
        carrier: dict[str, str] = {}
        propagate.inject(carrier, trace.set_span_in_context(live.attempt, live.context))
        return [(name.lower(), value) for name, value in carrier.items()]

    # ---------------------------------------------------------------- streams

    def _started(self, event: StreamStarted) -> None:
        attributes = self._attributes(event.target, event.application, event.kind)
        # What many callers share belongs to none of them.
        own = event.kind is StreamKind.STREAM
        context = otel_context.get_current() if own else otel_context.Context()
        span = self._tracer.start_span(
            f"servestream {event.kind.value}",
            context,
            attributes={
                **attributes,
                "servestream.stream_id": event.stream_id,
                "servestream.ordered": event.ordered,
            },
        )
        live = _Live(span, attributes, event.statistics, time.monotonic(), context)
        with self._table.lock:
            self._table.live[id(self), event.stream_id] = live
        self._metrics.active.add(1, attributes)

    def _ended(self, live: _Live, event: StreamEnded) -> None:
        counts, error = event.statistics, event.error
        with self._table.lock:
            del self._table.live[id(self), event.stream_id]
            self._table.ended[tuple(live.attributes.items())].add(counts)
        self._metrics.active.add(-1, live.attributes)
        failed = error is not None and not isinstance(error, ClientClosedError)
        outcome = {"error.type": type(error).__name__} if failed else {}
        self._metrics.duration.record(time.monotonic() - live.began, {**live.attributes, **outcome})
        live.span.set_attributes(
            {
                "servestream.inputs": counts.sent,
                "servestream.replayed": counts.replayed,
                "servestream.outputs": counts.received,
                "servestream.attempts": counts.attempts,
                "servestream.resumes": counts.resumes,
                **outcome,
            }
        )
        if failed and error is not None:
            live.span.set_status(Status(StatusCode.ERROR, describe(error)))
            with suppress(Exception):  # one of the user's own may be unable to say what it is
                live.span.record_exception(error)
        live.span.end()
        self._recent[event.stream_id] = _Past(live.attributes, live.span.get_span_context())
        if len(self._recent) > _MOST_RECENT:
            self._recent.popitem(last=False)

    def _item_failed(self, live: _Live, event: ItemFailed) -> None:
        kind = event.kind.name.lower()
        self._metrics.failures.add(1, {**live.attributes, "kind": kind})
        live.span.add_event(
            "item failed",
            {"servestream.number": event.number, "kind": kind, "message": event.text},
        )

    def _attributes(self, target: str, application: str, kind: StreamKind) -> _Attributes:
        return {
            **self._server(target),
            "servestream.application": application,
            "servestream.kind": kind.value,
        }

    def _server(self, name: str) -> _Attributes:
        found = self._servers.get(name)
        if found is None:
            if len(self._servers) >= _MOST_RECENT:
                self._servers.clear()
            found = self._servers[name] = _server(name)
        return found

    # ---------------------------------------------------------------- calls

    def _call_ended(self, event: CallEnded) -> None:
        attributes = self._attributes(event.target, event.application, event.kind)
        error = event.error
        if error is not None:
            attributes["error.type"] = type(error).__name__
        # Who is cancelled has failed at nothing.
        failed = error is not None and not isinstance(error, asyncio.CancelledError)
        self._metrics.calls.record(event.seconds, attributes)
        if not self._call_spans:
            return
        carrier = self._span_of(event.stream_id)
        end = time.time_ns()
        span = self._tracer.start_span(
            f"servestream call of {event.kind.value}",
            attributes={**attributes, "servestream.outputs": event.outputs},
            links=[Link(carrier)] if carrier is not None else (),
            start_time=end - int(event.seconds * 1e9),
        )
        if failed and error is not None:
            span.set_status(Status(StatusCode.ERROR, describe(error)))
        span.end(end)

    def _span_of(self, stream_id: str) -> SpanContext | None:
        if (live := self._table.live.get((id(self), stream_id))) is not None:
            return live.span.get_span_context()
        past = self._recent.get(stream_id)
        return past.span if past is not None else None

    def _outputs_arrived(self, event: OutputsArrived) -> None:
        attributes = self._attributes(event.target, event.application, StreamKind.GENERATE)
        metric = self._metrics.gap if event.first_index else self._metrics.first_output
        metric.record(event.seconds, attributes)

    # ---------------------------------------------------------------- attempts

    def _attempt_started(self, live: _Live, event: AttemptStarted) -> None:
        live.attempt_began = time.monotonic()
        live.attempt_server = self._server(event.endpoint)
        live.attempt = self._tracer.start_span(
            "servestream attempt",
            trace.set_span_in_context(live.span, live.context),
            kind=SpanKind.CLIENT,
            attributes={
                **_RPC,
                **live.attempt_server,
                "servestream.stream_id": event.stream_id,
                "servestream.attempt": event.attempt,
            },
        )

    def _welcomed(self, live: _Live, event: AttemptWelcomed) -> None:
        if event.resumed:
            self._metrics.resumes.add(1, live.attributes)
            live.span.add_event(
                "resumed",
                {"servestream.attempt": event.attempt, "servestream.replica": event.replica},
            )
        if live.attempt is not None:
            live.attempt.set_attributes(
                {
                    "servestream.replica": event.replica,
                    "servestream.code_version": event.code_version,
                }
            )

    def _attempt_ended(self, live: _Live, event: AttemptEnded) -> None:
        self._metrics.attempts.add(1, {**live.attributes, "outcome": event.outcome.value})
        span, live.attempt = live.attempt, None
        status = {"rpc.response.status_code": event.status} if event.status else {}
        if event.outcome is AttemptOutcome.BROKEN:
            status["error.type"] = event.status if event.status not in {"", "OK"} else "broken"
        self._metrics.rpc.record(
            time.monotonic() - live.attempt_began,
            {**_RPC, **live.attempt_server, **status},
        )
        if span is not None:
            span.set_attributes(status)
            span.set_attribute("servestream.outcome", event.outcome.value)
            if event.outcome is AttemptOutcome.BROKEN:
                span.set_status(Status(StatusCode.ERROR, event.reason))
            span.end()


def _server(name: str) -> _Attributes:
    """Of ``host:port``; of several addresses, or another scheme, the whole of it."""
    name, _, _ = name.partition(" (")  # an address behind a name; each would be another series
    host, _, port = name.rpartition(":")
    if not port.isdigit() or "," in name or "/" in name:
        return {"server.address": name}
    return {"server.address": host.strip("[]"), "server.port": int(port)}


def _observer(
    table: _Table, count: Callable[[_Totals], int]
) -> Callable[[metrics.CallbackOptions], Iterable[metrics.Observation]]:
    def observe(_: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
        for key, totals in table.totals().items():
            yield metrics.Observation(count(totals), dict(key))

    return observe
