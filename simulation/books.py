"""What calls carry and what strikes them, counted as it happens, and held against what may be."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

from servestream_client.client import StreamClient
from servestream_client.protocol.frames import ClientFrame
from servestream_client.protocol.pulse import SILENT_INTERVALS
from servestream_client.session.driver import StreamDriver
from servestream_client.transport.base import Link, LinkStatus
from servestream_client.wire import stream_pb2 as pb
from simulation.trace import Trace

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
        self._server_window = server_window
        self._sent_through: Counter[bytes] = Counter()
        self._unanswered: Counter[NotedCall] = Counter()

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
            exchange = driver.exchange
            if exchange is not None and exchange.link is call:
                return driver
        return None

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
        self._unanswered[call] += sum(len(run.payloads) for run in message.inputs)
        if self._unanswered[call] > self.window:
            self.violate(
                f"{call}: {self._unanswered[call]} inputs unanswered, in a window of {self.window}"
            )

    def note_answers(self, call: NotedCall, message: pb.ServerFrame) -> None:
        """The server answers."""
        count = sum(len(run.payloads) for run in message.outputs) + len(message.errors)
        if count:
            self._unanswered[call] -= count

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
        size = (flow.output_bytes + flow.max_item_bytes) * times
        if session.delivery.held_outputs > outputs:
            self.violate(f"{call}: {session.delivery.held_outputs} outputs held of {outputs}")
        if session.delivery.held_bytes > size:
            self.violate(f"{call}: {session.delivery.held_bytes} bytes held of {size}")
        if session.ledger.replay.size > max(flow.window_bytes, flow.max_item_bytes):
            self.violate(
                f"{call}: {session.ledger.replay.size} bytes to replay of {flow.window_bytes}"
            )

    def violate(self, text: str) -> None:
        """A promise is broken."""
        self.violations.append(text)
        self.trace.note("violation", text)
