"""Faults by plan: what shall go wrong, at which input, each exactly once.

A fault is named by the number of an input in its stream. After it fired, the input is sent
again, maybe to another replica, and must pass there: so a plan is kept outside of whatever the
fault destroys, and firing it means claiming it there.
"""

from __future__ import annotations

import asyncio
import enum
import os
import signal
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import quote
from weakref import WeakKeyDictionary

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.server import ServerSession
from servestream_client.server import Refuse, StreamRequest, StreamService
from servestream_client.server.calls import Call, Cancelled, Expired, Handler, Part
from servestream_client.server.kit import Frames, Interceptor, Requests
from servestream_client.usercode import describe
from servestream_client.wire import stream_pb2 as pb

__all__ = [
    "Fault",
    "FaultInjector",
    "FaultKind",
    "FaultPlan",
    "FaultyService",
    "FilePlan",
    "Garbage",
    "InjectedError",
    "LocalPlan",
]

In = TypeVar("In")
Out = TypeVar("Out")


class FaultKind(enum.StrEnum):
    """What can go wrong. `at` is the input concerned."""

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


_HANDLER_FAULTS = (FaultKind.KILL, FaultKind.RAISE, FaultKind.SLOW, FaultKind.HANG)
_FRAME_FAULTS = (FaultKind.CLOSE, FaultKind.DUPLICATE, FaultKind.SKIP, FaultKind.GARBAGE)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that shall go wrong, once.

    Attributes:
        kind: what.
        at: the number of the input, counted from 1 in its stream.
        seconds: how slow, or how long to wait.
        stream: only in the stream that carries this as its parameter ``fault-key``; empty: in
            whichever comes first.
    """

    kind: FaultKind
    at: int
    seconds: float = 0.0
    stream: str = ""

    @property
    def id(self) -> str:
        """Names the fault in its plan: the same fault planned twice is one fault."""
        return f"{self.kind}-{self.at}-{quote(self.stream, safe='')}"

    def __str__(self) -> str:
        seconds = f", {self.seconds:g} s" if self.seconds else ""
        stream = f", stream {self.stream!r}" if self.stream else ""
        return f"{self.kind} at {self.at}{seconds}{stream}"

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


class Garbage:
    """Stands for a response message, and serialises to bytes that are none."""

    def SerializeToString(self) -> bytes:  # noqa: N802 — protobuf's name
        return b"\xff\xff\xff\xff this is no frame"


class FaultInjector(Interceptor):
    """Comes between a service and its clients, and fails by plan.

    Args:
        plan: where the faults are kept.
        die: ends the server as `FaultKind.KILL` says; None: SIGKILL for this process.
    """

    def __init__(self, plan: FaultPlan, die: Callable[[], None] | None = None) -> None:
        self._plan = plan
        self._die = die

    async def admit(self, request: StreamRequest) -> None:
        for fault in await self._plan.pending():
            if (
                fault.kind is FaultKind.REFUSE
                and fault.at == request.attempt
                and fault.stream in ("", request.parameters.get("fault-key"))
                and await self._plan.claim(fault)
            ):
                raise Refuse("refused by plan", retry_after=fault.seconds)

    def handler(self, handler: Handler) -> Handler:
        return _FaultyHandler(handler, self._plan, self._die)

    async def frames(self, serve: Callable[[Requests], Frames], requests: Requests) -> Frames:
        watched = _Watched(requests)
        frames = serve(watched)
        faults: list[Fault] | None = None
        try:
            async for frame in frames:
                if faults is None:
                    faults = [
                        fault
                        for fault in await self._plan.pending()
                        if fault.kind in _FRAME_FAULTS and fault.stream in ("", watched.fault_key)
                    ]
                for fault in [each for each in faults if _carries(frame, each.at)]:
                    faults.remove(fault)
                    if not await self._plan.claim(fault):
                        continue
                    if fault.kind is FaultKind.CLOSE:
                        return
                    if fault.kind is FaultKind.GARBAGE:
                        yield Garbage()  # type: ignore[misc]  # serialises like a message
                        break
                    frame = _spoil(frame, fault)  # noqa: PLW2901 — one fault after the other
                else:
                    yield frame
        finally:
            await frames.aclose()


class FaultyService(StreamService[In, Out], Generic[In, Out]):
    """A `StreamService` that fails by plan. Set `plan`; otherwise use it as any other."""

    plan: FaultPlan

    def _interceptor(self) -> Interceptor:
        return FaultInjector(self.plan)


class _Watched:
    """Passes the client's messages on, and remembers what concerns the plan."""

    def __init__(self, messages: AsyncIterable[pb.ClientFrame]) -> None:
        self._messages = messages
        self.fault_key = ""

    async def __aiter__(self) -> AsyncIterator[pb.ClientFrame]:
        async for message in self._messages:
            if message is not None and message.HasField("open"):
                self.fault_key = message.open.parameters.get("fault-key", "")
            yield message


def _carries(frame: pb.ServerFrame, number: int) -> bool:
    return any(
        run.first_number <= number < run.first_number + len(run.payloads) for run in frame.outputs
    )


def _spoil(frame: pb.ServerFrame, fault: Fault) -> pb.ServerFrame:
    spoiled = pb.ServerFrame()
    spoiled.CopyFrom(frame)
    del spoiled.outputs[:]
    for run in frame.outputs:
        spoiled.outputs.append(run)
        offset = fault.at - run.first_number
        if not 0 <= offset < len(run.payloads):
            continue
        if fault.kind is FaultKind.DUPLICATE:
            spoiled.outputs.append(run)
            continue
        spoiled.outputs.pop()
        for first, payloads in (
            (run.first_number, run.payloads[:offset]),
            (fault.at + 1, run.payloads[offset + 1 :]),
        ):
            if payloads:
                spoiled.outputs.append(pb.OutputRun(first_number=first, payloads=payloads))
    return spoiled


def _kill_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _FaultyHandler:
    """Answers as another handler does, but for what the plan says."""

    def __init__(self, inner: Handler, plan: FaultPlan, die: Callable[[], None] | None) -> None:
        self._inner = inner
        self._plan = plan
        self._die = die if die is not None else _kill_process
        self._planned: WeakKeyDictionary[ServerSession, asyncio.Task[list[Fault]]] = (
            WeakKeyDictionary()
        )

    async def handle(self, call: Call, parts: Sequence[Part]) -> None:
        normal = [part for part in parts if not await self._struck(call, part)]
        if normal:
            await self._inner.handle(call, normal)

    async def _struck(self, call: Call, part: Part) -> bool:
        """Do what the plan says of a part's first input, and put those back that follow upon a
        normal one and that it speaks of; whether the part is answered.
        """
        session, run = part.attempt.session, part.run
        faults = await self._faults(session)
        if session.over:
            return True  # it ended meanwhile, and nobody would stop what begins now
        planned = [fault.at for fault in faults if run.first <= fault.at <= run.last]
        if not planned:
            return False
        rest = min(planned) - run.first or 1
        if rest < len(run.payloads):
            session.intake.put_back(run.split(rest))
        for fault in faults:
            if fault.at == run.first and await self._plan.claim(fault):
                if fault.kind is FaultKind.RAISE:
                    text = describe(InjectedError("by plan"))
                    session.outbox.fail(run.first, ItemErrorKind.HANDLER, text)
                    return True
                if await self._strike(call, part, fault):
                    return True
        return False

    async def _strike(self, call: Call, part: Part, fault: Fault) -> bool:
        """Whether that has answered the input."""
        if fault.kind is FaultKind.KILL:
            self._die()
        outbox = part.attempt.session.outbox
        waiting = (
            asyncio.sleep(fault.seconds) if fault.kind is FaultKind.SLOW else asyncio.Event().wait()
        )
        try:
            await call.run(waiting, [part])
        except Cancelled:
            outbox.fail(part.run.first, ItemErrorKind.CANCELLED, "cancelled")
        except Expired as expired:
            outbox.fail(part.run.first, ItemErrorKind.TIMEOUT, str(expired))
        else:
            return False
        return True

    async def _faults(self, session: ServerSession) -> Sequence[Fault]:
        # Looked up once an attempt. All calls wait for the same look: otherwise the inputs handled
        # beside the first one would slip through while it looks.
        planned = self._planned.get(session)
        if planned is None:
            planned = self._planned[session] = asyncio.ensure_future(self._look())
        key = session.opened.parameters.get("fault-key", "") if session.opened else ""
        return [f for f in await asyncio.shield(planned) if f.stream in ("", key)]

    async def _look(self) -> list[Fault]:
        return [fault for fault in await self._plan.pending() if fault.kind in _HANDLER_FAULTS]
