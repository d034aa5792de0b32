"""A generation as its lanes see it; they never know the object that the user iterates."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from servestream_client.config import FlowControl
from servestream_client.errors import Delivered, StreamTimeoutError
from servestream_client.outputs import Seam, SeamKind
from servestream_client.protocol.client import Part, Partial
from servestream_client.protocol.frames import Credit, Replay
from servestream_client.session.driver import StreamDriver
from servestream_client.session.telling import CallTeller, Timing
from servestream_client.signals import Signal
from servestream_client.usercode import as_value

__all__ = ["Carrier", "Owner", "Request"]


class Carrier(Protocol):
    """A lane that carries requests."""

    driver: StreamDriver

    def cancel(self, request: Request) -> None:
        """Nobody reads its outputs any more."""
        ...

    def taken(self, request: Request, count: int, size: int) -> None:
        """Its reader has so many outputs more, of so many bytes together."""
        ...


class Owner(Protocol):
    """Who finds a lane for each request."""

    teller: CallTeller | None
    """Tells hooks of them; None: there are none."""

    def submit(self, request: Request) -> None:
        """Have it answered."""
        ...

    def forget(self, request: Request) -> None:
        """It waits for a lane, or is parked, and nobody reads its outputs any more."""
        ...

    def reads_on(self, request: Request) -> None:
        """The reader of one that no lane carries has taken something."""
        ...


class Request:
    """One input that is to be answered, and what came of it.

    Invariant: its outputs are in `queue` in their order, each once, whatever lanes they came by.
    What its reader has not acknowledged counts against the credit of the lane that carries it.

    Attributes:
        item: the input.
        payload: it, encoded.
        queue: outputs that its reader has not taken.
        ended: nothing further comes.
        error: why, if it failed; raised behind the outputs that came.
        seams: where it was cut, and went on.
        arrived: raised when there may be something to take, or the end.
        owner: who finds a lane for it; None: nobody was asked.
        lane: what carries it; None: it waits for one, or is parked.
        number: its own there.
        made: since when it waits for a server, by the event loop's clock.
        sent: whether a server of an earlier lane may have got it.
        partial: what it takes to go on, while no lane has it.
        held: outputs, and their bytes, that came and were not acknowledged.
        received: how many outputs came.
        timing: when its outputs came; None: nobody asked.
    """

    __slots__ = (
        "answered_before",
        "arrived",
        "breaks",
        "broke_at",
        "ended",
        "error",
        "held",
        "item",
        "lane",
        "lone_breaks",
        "made",
        "number",
        "owner",
        "partial",
        "payload",
        "queue",
        "received",
        "seams",
        "sent",
        "timing",
    )

    def __init__(self, item: object, payload: bytes) -> None:
        self.item: object = item
        self.payload: bytes = payload
        self.made: float = asyncio.get_running_loop().time()
        self.queue: deque[bytes] = deque()
        self.ended: bool = False
        self.error: BaseException | None = None
        self.seams: tuple[Seam, ...] = ()
        self.arrived: Signal = Signal()
        self.owner: Owner | None = None
        self.lane: Carrier | None = None
        self.number: int = 0
        self.sent: bool = False
        self.partial: Partial | None = None
        self.held: Credit = Credit()
        self.received: int = 0
        self.timing: Timing | None = None
        self.breaks: int = 0
        """In a row, of attempts that carried it and brought few of its outputs."""
        self.lone_breaks: int = 0
        """Of these, while nothing else was carried."""
        self.broke_at: int = 0
        """How many outputs had come at the last one."""
        self.answered_before: int = 0
        """By the target, at the first of the lone ones."""

    def add(self, part: Part) -> None:
        """Outputs came."""
        payloads, seam = part.payloads, part.seam
        self.queue.extend(payloads)
        self.received += len(payloads)
        held = self.held
        self.held = Credit(held.outputs + len(payloads), held.bytes + sum(map(len, payloads)))
        if seam is not None:
            kind = SeamKind.CONTINUED if seam.replay is Replay.CONTINUE else SeamKind.EXACT
            self.seams = (*self.seams, Seam(seam.index, kind, seam.before, seam.after))
        if self.timing is not None:
            self.timing.came(len(payloads))
        self.arrived.set()

    def end(self, error: BaseException | None = None) -> None:
        """Nothing further comes; the first word on that holds."""
        if not self.ended:
            self.ended = True
            if self.timing is not None:
                self.timing.ended()
            self.error = None if error is None else as_value(error, "the stream")
            self.item, self.payload, self.partial = None, b"", None
            self.arrived.set()

    def cancel(self, error: BaseException | None = None) -> None:
        """Nothing further is wanted: `end`, also at its server, and wherever it waits for one."""
        if self.ended:
            return
        self.end(error)
        if self.lane is not None:
            self.lane.cancel(self)
        elif self.owner is not None:
            self.owner.forget(self)

    def drop(self) -> None:
        """Nobody reads its outputs any more."""
        self.queue.clear()
        self.cancel()
        self.acknowledge(self.held.outputs, self.held.bytes)

    def expire(self, timeout: float) -> None:
        """It has taken so many seconds, which is too long; if it has not ended."""
        if not self.ended:
            text = f"the generation did not end within its timeout of {timeout:g} s"
            self.cancel(StreamTimeoutError(text, self.delivered()))

    def acknowledge(self, count: int, size: int) -> None:
        """Its reader has so many outputs more, of so many bytes together."""
        if not count:
            return
        self.held = Credit(self.held.outputs - count, self.held.bytes - size)
        if self.lane is not None:
            self.lane.taken(self, count, size)
        elif self.owner is not None:
            self.owner.reads_on(self)

    def lacks_credit(self, flow: FlowControl) -> bool:
        """Whether its reader has stopped, with as much held as may be."""
        return (
            self.held.outputs >= flow.outputs_per_input or self.held.bytes >= flow.bytes_per_input
        )

    def reads(self, flow: FlowControl) -> bool:
        """Whether its reader has taken enough for a server to go on with it."""
        return (
            self.held.outputs * 2 <= flow.outputs_per_input
            and self.held.bytes * 2 <= flow.bytes_per_input
        )

    def take_error(self) -> BaseException | None:
        """Why it failed, if it did; for the one who raises it."""
        error, self.error = self.error, None
        return error

    def delivered(self) -> Delivered:
        """What became of the input, as far as it is known."""
        driver = self.lane.driver if self.lane is not None else None
        sent = self.sent or (
            driver is not None and self.number <= driver.session.ledger.sent_through
        )
        return Delivered(
            accepted=1,
            unsent=0 if sent else 1,
            stream_id=driver.stream_id if driver is not None else "",
            attempts=driver.attempts if driver is not None else 0,
        )
