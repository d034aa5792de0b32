"""Traces and metrics through OpenTelemetry, from the extra ``opentelemetry``.

    client = StreamClient(target, hooks=[OpenTelemetryHooks()])

Spans: one a stream, and in it one an attempt, whose context goes to Serve as ``traceparent``. A
stream of `stream` belongs to the trace in which it was first iterated; those that carry calls of
`predict` belong to no call's trace, since many share one, and each begins its own.

Metrics, in seconds or in counts:

==================================  ===============  =========================================
servestream.client.active_streams   up-down counter  streams under way
servestream.client.stream.duration  histogram        of streams that ended, by `error.type`
servestream.client.attempts         counter          calls that ended, by `outcome`
servestream.client.resumes          counter          attempts that took over from a broken one
servestream.client.item_failures    counter          inputs that failed, by `kind`
servestream.client.inputs           counter          inputs sent, each counted once
servestream.client.replayed         counter          inputs sent again
servestream.client.outputs          counter          outputs and item errors received
==================================  ===============  =========================================

All of them carry `server.address`, `servestream.application` and `servestream.kind`.
"""

from __future__ import annotations

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
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from servestream_client.errors import ClientClosedError
from servestream_client.events import (
    AttemptEnded,
    AttemptOutcome,
    AttemptStarted,
    AttemptWelcomed,
    Event,
    Hooks,
    ItemFailed,
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
_Attributes = dict[str, str]


@dataclass(slots=True)
class _Live:
    """A stream under way."""

    span: Span
    attributes: _Attributes
    statistics: Callable[[], StreamStatistics]
    began: float
    context: otel_context.Context
    attempt: Span | None = None


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


_Key = tuple[int, str]
"""Whose stream it is, and its id."""


@dataclass(slots=True)
class _Table:
    """What the metrics read, in a thread of the exporter's."""

    live: dict[_Key, _Live] = field(default_factory=dict)
    ended: defaultdict[tuple[tuple[str, str], ...], _Totals] = field(
        default_factory=lambda: defaultdict(_Totals)
    )
    lock: threading.Lock = field(default_factory=threading.Lock)

    def totals(self) -> dict[tuple[tuple[str, str], ...], _Totals]:
        with self.lock:
            found: defaultdict[tuple[tuple[str, str], ...], _Totals] = defaultdict(_Totals)
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
            "servestream.client.stream.duration", "s", "How long streams took"
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
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer(_NAME, __version__, tracer_provider)
        self._metrics = _Instruments.of(meter_provider)
        self._table = self._metrics.table
        self._recent: OrderedDict[str, _Attributes] = OrderedDict()  # of streams that ended

    def on_event(self, event: Event, /) -> None:
        if isinstance(event, StreamStarted):
            self._started(event)
            return
        live = self._table.live.get((id(self), event.stream_id))
        if live is None:
            if isinstance(event, ItemFailed):  # an output, taken late, that cannot be decoded
                attributes = self._recent.get(event.stream_id, {})
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
        attributes = {
            "server.address": event.target,
            "servestream.application": event.application,
            "servestream.kind": event.kind.value,
        }
        # What many callers share belongs to none of them.
        own = event.kind is StreamKind.STREAM
        context = otel_context.get_current() if own else otel_context.Context()
        span = self._tracer.start_span(
            f"servestream {event.kind.value}",
            context,
            kind=SpanKind.CLIENT,
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
        self._recent[event.stream_id] = live.attributes
        if len(self._recent) > _MOST_RECENT:
            self._recent.popitem(last=False)

    def _item_failed(self, live: _Live, event: ItemFailed) -> None:
        kind = event.kind.name.lower()
        self._metrics.failures.add(1, {**live.attributes, "kind": kind})
        live.span.add_event(
            "item failed",
            {"servestream.number": event.number, "kind": kind, "message": event.text},
        )

    # ---------------------------------------------------------------- attempts

    def _attempt_started(self, live: _Live, event: AttemptStarted) -> None:
        live.attempt = self._tracer.start_span(
            "servestream attempt",
            trace.set_span_in_context(live.span, live.context),
            kind=SpanKind.CLIENT,
            attributes={
                "rpc.system": "grpc",
                "rpc.service": "servestream.v1.StreamService",
                "rpc.method": "Stream",
                "server.address": live.attributes["server.address"],
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
        if span is not None:
            span.set_attribute("servestream.outcome", event.outcome.value)
            if event.outcome is AttemptOutcome.BROKEN:
                span.set_status(Status(StatusCode.ERROR, event.reason))
            span.end()


def _observer(
    table: _Table, count: Callable[[_Totals], int]
) -> Callable[[metrics.CallbackOptions], Iterable[metrics.Observation]]:
    def observe(_: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
        for key, totals in table.totals().items():
            yield metrics.Observation(count(totals), dict(key))

    return observe
