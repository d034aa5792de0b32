"""What calls carry and what strikes them, counted as it happens, and held against what may be."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Protocol

from servestream_client.client import StreamClient
from servestream_client.config import FlowControl
from servestream_client.protocol.client.delivery import DeliveryQueue
from servestream_client.protocol.frames import ClientFrame
from servestream_client.protocol.pulse import SILENT_INTERVALS
from servestream_client.protocol.server.parts import HELD_OUTPUT_BYTES, PartsOutbox
from servestream_client.protocol.state import KEPT_WINDOWS
from servestream_client.server.kit import Kit
from servestream_client.session.driver import StreamDriver
from servestream_client.transport.base import Link, LinkStatus
from servestream_client.wire import stream_pb2 as pb
from simulation.trace import Trace

_LANES = 8
"""More than there are replicas."""

__all__ = ["OLD_ATTEMPT", "Books", "NotedCall"]

OLD_ATTEMPT = "(left)"
"""In the place of a client's state, for a call that its client has left already."""


class NotedCall(Link, Protocol):
    """What is noted of a call: the client's link, and whose it is."""

    name: str
    stream_id: bytes
    status_seen: LinkStatus | None


class Books:
    """Each input of a stream counts as sent once, and no server has more of them unanswered, no
    client holds more, than was agreed: else it stands in `violations`.

    Args:
        trace: where to note what happens.
        server_window: inputs that a server allows to be unanswered, of one stream.
    """

    def __init__(self, trace: Trace, server_window: Callable[[], int]) -> None:
        self.trace = trace
        self.client: StreamClient[bytes, bytes] | None = None
        """The one that is looked at."""
        self.faults: Counter[tuple[str, str]] = Counter()
        """How many, by kind and by the state of the client's attempt."""
        self.violations: list[str] = []
        self.sent: Counter[bytes] = Counter()
        """How many inputs each stream has sent, each counted once."""
        self.resumes: int = 0
        """How many inputs came of which a server was not to send the first outputs."""
        self._server_window = server_window
        self._of_each: set[bytes] = set()  # streams whose inputs have credit of their own
        self._sent_through: Counter[bytes] = Counter()
        self._unanswered: Counter[NotedCall] = Counter()
        self.folding: bool = False
        """Whether an input counts until a state covers it, or it has failed: in a window of its
        own."""
        self._emit_from: Counter[NotedCall] = Counter()
        self._uncovered: dict[NotedCall, set[int]] = defaultdict(set)

    def note_fault(self, kind: str, call: NotedCall) -> None:
        """A fault strikes a call."""
        state = self.state_of(call)
        self.faults[str(kind), state] += 1
        self.trace.note(call.name, f"fault: {kind}, client {state}")

    @property
    def patience(self) -> float:
        """Seconds of silence that the client bears for sure: it counts in ticks."""
        watchdog = self.client._streams.watchdog if self.client is not None else None
        interval = watchdog.heartbeat_interval if watchdog is not None else None
        return math.inf if interval is None else (SILENT_INTERVALS - 1) * interval

    def state_of(self, call: NotedCall) -> str:
        """The state of the client's attempt that a call is."""
        driver = self._driver(call)
        if call.status_seen is not None or driver is None:
            return OLD_ATTEMPT
        return driver.session.state.name

    def _driver(self, call: NotedCall) -> StreamDriver | None:
        drivers: Iterable[StreamDriver] = self.client._connection.drivers if self.client else ()
        for driver in drivers:
            exchange = driver._attempts.exchange
            if exchange is not None and exchange.link is call:
                return driver
        return None

    def leaves_by_itself(self, call: NotedCall) -> bool:
        """Whether the client goes elsewhere, though nothing is broken there."""
        driver = self._driver(call)
        exchange = driver._attempts.exchange if driver is not None else None
        return exchange is not None and exchange.ending.moved

    def note_inputs(self, call: NotedCall, frame: ClientFrame) -> None:
        """The client hands inputs over."""
        through = self._sent_through[call.stream_id]
        for run in frame.inputs:
            last = run.first_number + len(run.payloads) - 1
            self.sent[call.stream_id] += max(0, last - max(through, run.first_number - 1))
            through = max(through, last)
        self._sent_through[call.stream_id] = through

    def note_received(self, call: NotedCall, message: pb.ClientFrame) -> None:
        """The server reads inputs: there must not be more than fit."""
        if message.HasField("open"):
            self._emit_from[call] = message.open.emit_from.number
        for run in message.inputs:
            count = len(run.sizes or run.payloads)
            numbers = range(run.first_number, run.first_number + count)
            self._unanswered[call] += sum(n >= self._emit_from[call] for n in numbers)
            if self.folding:
                self._uncovered[call].update(numbers)
        if len(self._uncovered[call]) > self.window * KEPT_WINDOWS:
            self.violate(f"{call}: no state covers {len(self._uncovered[call])} inputs")
        self.resumes += sum(run.first_start_index > 0 for run in message.inputs)
        if self._unanswered[call] > self.window:
            self.violate(
                f"{call}: {self._unanswered[call]} inputs unanswered, in a window of {self.window}"
            )

    def note_answers(self, call: NotedCall, message: pb.ServerFrame) -> None:
        """The server answers."""
        outputs = sum(len(run.sizes or run.payloads) for run in message.outputs)
        count = outputs + len(message.errors)
        count += sum(part.last for part in message.parts)
        if count:
            self._unanswered[call] -= count
        if self.folding:
            uncovered = self._uncovered[call]
            uncovered.difference_update(error.number for error in message.errors)
            for token in message.tokens:
                uncovered.difference_update([n for n in uncovered if n <= token.number])

    @property
    def window(self) -> int:
        """Inputs that a server may have unanswered, of one stream."""
        client = self.client._streams.flow.window_items if self.client is not None else 0
        return min(client, self._server_window())

    def look_at_client(self, call: NotedCall) -> None:
        """The client has taken a frame in: it must not hold more than its budget."""
        driver = self._driver(call)
        if driver is None:
            return
        session, flow = driver.session, driver.session.flow
        # What was tried on another stream comes beside the credit that was given on this one.
        times = 2 if session.counters.isolated else 1
        outputs = flow.output_items * times
        if session.counters.by_lanes:
            outputs += 1  # the one that the consumer waits for comes beside what lanes bring
            times += _LANES  # how large an output will be is not known before: each has its credit
        size = (flow.output_bytes + flow.max_item_bytes) * times
        if session.attempt is not None and session.attempt.allowance.of_each:
            self._of_each.add(call.stream_id)
        adopted = session.delivery._held_of and not session.counters.received
        if adopted or call.stream_id in self._of_each:
            self._look_at_inputs(call, session.delivery, flow)
        elif session.delivery.held_outputs > outputs:
            self.violate(f"{call}: {session.delivery.held_outputs} outputs held of {outputs}")
        elif session.delivery.held_bytes > size:
            self.violate(f"{call}: {session.delivery.held_bytes} bytes held of {size}")
        ledger = session.ledger
        size = ledger.replay.size + (0 if ledger.fold is None else ledger.fold.size)
        if size > max(flow.window_bytes, flow.max_item_bytes):
            self.violate(f"{call}: {size} bytes to replay of {flow.window_bytes}")
        inputs = len(ledger.replay) + (0 if ledger.fold is None else len(ledger.fold))
        if len(ledger.replay) > flow.window_items:
            self.violate(f"{call}: {len(ledger.replay)} in a window of {flow.window_items}")
        if inputs > flow.window_items * (1 if ledger.fold is None else KEPT_WINDOWS):
            self.violate(f"{call}: {inputs} inputs to replay in a window of {flow.window_items}")

    def _look_at_inputs(self, call: NotedCall, delivery: DeliveryQueue, flow: FlowControl) -> None:
        """Of each input there is no more than its own bounds allow."""
        outputs, size = flow.outputs_per_input, flow.bytes_per_input + flow.max_item_bytes
        for number, held in delivery._held_of.items():
            if held.outputs > outputs or held.bytes >= size:
                self.violate(f"{call}: {held} is held of input {number}, of {outputs} and {size}")
        generator = self.client._generator if self.client is not None else None
        requests = () if generator is None else generator._parked
        if not self._of_each:  # servers of before: what holds is the credit of all inputs together
            outputs = max(outputs, flow.output_items)
            size = max(size, flow.output_bytes + flow.max_item_bytes)
        for request in requests:
            if request.held.outputs > outputs or request.held.bytes >= size:
                self.violate(f"{request.held} is held of a parked input, of {outputs} and {size}")

    def look_at_server(self, call: NotedCall, kit: Kit) -> None:
        """A server makes a frame: it must not hold more than may be sent, and one output."""
        for attempt in kit._active._here:
            parts = attempt.session.parts  # type: ignore[attr-defined]
            if parts is not None:
                self._look_at_parts(call, parts)

    def _look_at_parts(self, call: NotedCall, parts: PartsOutbox) -> None:
        largest = waiting = beside = 0
        for work in parts._works.values():
            beside += work.checkpoint_bytes
            if not work.outputs:
                continue
            waiting += 1
            largest = max(largest, *(len(output) + HELD_OUTPUT_BYTES for output in work.outputs))
            size = work.bytes_sent + work.size - len(work.outputs[-1])
            if work.end_index > work.credit.outputs or size >= work.credit.bytes:
                self.violate(
                    f"{call}: {work.end_index} outputs and {size} bytes made of input"
                    f" {work.number}, of {work.credit}"
                )
        if parts.held_bytes - beside > parts._ahead_bytes + (waiting + 1) * largest:
            self.violate(f"{call}: {parts.held_bytes} bytes wait, of {parts._ahead_bytes}")

    def violate(self, text: str) -> None:
        """A promise is broken."""
        self.violations.append(text)
        self.trace.note("violation", text)
