"""Faults by plan: what shall go wrong, at which input, each exactly once.

A fault is named by the number of an input in its stream, and by the index of one of its outputs
where there are many. After it fired, the input is sent again, maybe to another replica, and must
pass there: so a plan is kept outside of whatever the fault destroys, and firing it means claiming
it there.
"""

from __future__ import annotations

import enum
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

__all__ = [
    "FRAME_FAULTS",
    "HANDLER_FAULTS",
    "Fault",
    "FaultKind",
    "FaultPlan",
    "FilePlan",
    "InjectedError",
    "LocalPlan",
]


class FaultKind(enum.StrEnum):
    """What can go wrong. `at` is the input concerned; of a service that generates, `output` is the
    output before which it goes wrong.
    """

    KILL = "kill"
    """The process gets SIGKILL when the input reaches its handler."""
    RAISE = "raise"
    """The handler raises `InjectedError` for the input."""
    CLOSE = "close"
    """The call ends, with status OK and without an end frame, instead of sending the output."""
    DUPLICATE = "duplicate"
    """The run with the output stands twice in its frame."""
    SKIP = "skip"
    """The output is left out."""
    GARBAGE = "garbage"
    """Bytes that are no frame are sent instead of the frame with the output."""
    SLOW = "slow"
    """The input's handler starts `seconds` late."""
    HANG = "hang"
    """The input's handler never starts."""
    REFUSE = "refuse"
    """The stream is refused when it opens, with `seconds` as the delay to try again; `at` is the
    attempt."""


HANDLER_FAULTS: tuple[FaultKind, ...] = (
    FaultKind.KILL,
    FaultKind.RAISE,
    FaultKind.SLOW,
    FaultKind.HANG,
)
FRAME_FAULTS: tuple[FaultKind, ...] = (
    FaultKind.CLOSE,
    FaultKind.DUPLICATE,
    FaultKind.SKIP,
    FaultKind.GARBAGE,
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that shall go wrong, once.

    Attributes:
        kind: what.
        at: the number of the input, counted from 1 in its stream. A stream's lanes are streams of
            their own, and the input may be on one: where an exact input counts, open the stream
            with ``lanes=1``. One that goes to a single server has none.
        seconds: how slow, or how long to wait.
        stream: only in the stream that carries this as its parameter ``fault-key``; empty: in
            whichever comes first.
        output: the index, counted from 0, of one of the outputs that `generate` gives for the
            input; it strikes when that is to be made, or sent. As many as there are: before the
            end. None: at the input itself.
    """

    kind: FaultKind
    at: int
    seconds: float = 0.0
    stream: str = ""
    output: int | None = None

    @property
    def id(self) -> str:
        """Names the fault in its plan: the same fault planned twice is one fault."""
        output = f".{self.output}" if self.output is not None else ""
        return f"{self.kind}-{self.at}{output}-{quote(self.stream, safe='')}"

    def __str__(self) -> str:
        output = f", output {self.output}" if self.output is not None else ""
        seconds = f", {self.seconds:g} s" if self.seconds else ""
        stream = f", stream {self.stream!r}" if self.stream else ""
        return f"{self.kind} at {self.at}{output}{seconds}{stream}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Fault:
        """
        Raises:
            ValueError: it names no fault.
            TypeError: it lacks a part, or has one too many.
        """
        return cls(**{**values, "kind": FaultKind(values["kind"])})


class FaultPlan(Protocol):
    """Where faults are kept."""

    async def pending(self) -> Sequence[Fault]:
        """Faults that have not fired yet."""
        ...

    async def claim(self, fault: Fault) -> bool:
        """Fire a fault: True for exactly one caller."""
        ...


class LocalPlan:
    """A plan in this process; may be used from several threads.

    Args:
        faults: to begin with.
        on_fired: called with each fault as it fires.
    """

    def __init__(
        self, faults: Sequence[Fault] = (), *, on_fired: Callable[[Fault], None] = lambda _: None
    ) -> None:
        self._on_fired = on_fired
        self._lock = threading.Lock()
        self._pending = {fault.id: fault for fault in faults}
        self.fired: list[Fault] = []

    def add(self, *faults: Fault) -> None:
        with self._lock:
            self._pending.update({fault.id: fault for fault in faults})

    def clear(self) -> None:
        """Forget what has not fired yet, and what has."""
        with self._lock:
            self._pending.clear()
            self.fired.clear()

    def drop_pending(self) -> None:
        """Forget what has not fired yet."""
        with self._lock:
            self._pending.clear()

    def pending_now(self) -> list[Fault]:
        with self._lock:
            return list(self._pending.values())

    def claim_now(self, fault: Fault) -> bool:
        with self._lock:
            if self._pending.pop(fault.id, None) is None:
                return False
            self.fired.append(fault)
        self._on_fired(fault)
        return True

    async def pending(self) -> Sequence[Fault]:
        return self.pending_now()

    async def claim(self, fault: Fault) -> bool:
        return self.claim_now(fault)


class FilePlan:
    """A plan in a directory, which outlives any process: a fault fires by creating its file."""

    def __init__(self, directory: Path, faults: Sequence[Fault]) -> None:
        self._directory = directory
        self._faults = list(faults)

    async def pending(self) -> Sequence[Fault]:
        fired = self.fired()
        return [fault for fault in self._faults if fault.id not in fired]

    async def claim(self, fault: Fault) -> bool:
        try:
            os.close(os.open(self._directory / fault.id, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def fired(self) -> set[str]:
        """The ids of faults that have fired."""
        return {path.name for path in self._directory.iterdir()}


class InjectedError(Exception):
    """What a handler raises by plan."""
