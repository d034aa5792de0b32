"""What comes between a service and its clients, and fails by plan."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Sequence
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.server import ServerSession
from servestream_client.server import Refuse, StreamRequest, StreamService
from servestream_client.server.calls import Call, Cancelled, Expired, Handler, Part
from servestream_client.server.kit import Frames, Interceptor, Requests
from servestream_client.testing.faults import (
    FRAME_FAULTS,
    HANDLER_FAULTS,
    Fault,
    FaultKind,
    FaultPlan,
    InjectedError,
)
from servestream_client.testing.output_faults import ThreadFaults, generate
from servestream_client.usercode import describe
from servestream_client.wire import stream_pb2 as pb

__all__ = ["FaultInjector", "FaultyService", "Garbage"]

In = TypeVar("In")
Out = TypeVar("Out")


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
        self._die = die if die is not None else _kill_process
        self._planned = _Planned(plan)

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
        return _FaultyHandler(handler, self._plan, self._planned, self._die)

    def generator(self, part: Part, index: int, generator: Any) -> Any:  # noqa: ANN401
        faults = [
            fault
            for fault in self._planned.now(part.attempt.session)
            if fault.at == part.run.first and fault.output is not None and fault.output >= index
        ]
        if not faults:
            return generator
        if isinstance(generator, AsyncGenerator):
            return generate(generator, index, faults, self._plan, self._die)
        loop = self._planned.loop(part.attempt.session)
        return ThreadFaults(part, faults, self._plan, self._die, loop).generate(generator, index)

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
                        if fault.kind in FRAME_FAULTS and fault.stream in ("", watched.fault_key)
                    ]
                for fault in [each for each in faults if _carries(frame, each)]:
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


def _carries(frame: pb.ServerFrame, fault: Fault) -> bool:
    """Whether a frame has the output that a fault is about."""
    if fault.output is None and any(
        run.first_number <= fault.at < run.first_number + len(run.payloads) for run in frame.outputs
    ):
        return True
    return any(_has(part, fault) for part in frame.parts)


def _has(part: pb.OutputPart, fault: Fault) -> bool:
    index = fault.output or 0
    within = part.first_index <= index < part.first_index + len(part.payloads)
    return part.number == fault.at and within


def _spoil(frame: pb.ServerFrame, fault: Fault) -> pb.ServerFrame:
    spoiled = pb.ServerFrame()
    spoiled.CopyFrom(frame)
    del spoiled.outputs[:]
    del spoiled.parts[:]
    for run in frame.outputs:
        spoiled.outputs.append(run)
        offset = fault.at - run.first_number
        if fault.output is not None or not 0 <= offset < len(run.payloads):
            continue
        if fault.kind is FaultKind.DUPLICATE:
            spoiled.outputs.append(run)
            continue
        spoiled.outputs.pop()
        for first, payloads, before in (
            (run.first_number, run.payloads[:offset], run.first_offset),
            (fault.at + 1, run.payloads[offset + 1 :], 0),
        ):
            if payloads:
                rest = pb.OutputRun(first_number=first, payloads=payloads, first_offset=before)
                spoiled.outputs.append(rest)
    for part in frame.parts:
        spoiled.parts.append(part)
        if not _has(part, fault):
            continue
        if fault.kind is FaultKind.DUPLICATE:
            spoiled.parts.append(part)
            continue
        spoiled.parts.pop()
        spoiled.parts.extend(_without(part, (fault.output or 0) - part.first_index))
    return spoiled


def _without(part: pb.OutputPart, offset: int) -> list[pb.OutputPart]:
    """A part without one of its outputs: what is before it, and what is behind it."""
    before = pb.OutputPart(
        number=part.number, first_index=part.first_index, first_offset=part.first_offset
    )
    before.payloads.extend(part.payloads[:offset])
    behind = pb.OutputPart()
    behind.CopyFrom(part)
    behind.first_index, behind.first_offset = part.first_index + offset + 1, 0
    del behind.payloads[: offset + 1]
    return [each for each in (before, behind) if each.payloads or each.last]


def _kill_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _Planned:
    """The faults of handlers, looked up once for each attempt."""

    def __init__(self, plan: FaultPlan) -> None:
        self._plan = plan
        self._looks: WeakKeyDictionary[ServerSession, asyncio.Task[list[Fault]]] = (
            WeakKeyDictionary()
        )

    async def of(self, session: ServerSession) -> Sequence[Fault]:
        """Those that concern an attempt."""
        # All calls wait for the same look: otherwise the inputs handled beside the first one would
        # slip through while it looks.
        look = self._looks.get(session)
        if look is None:
            look = self._looks[session] = asyncio.ensure_future(self._look())
        await asyncio.shield(look)
        return self.now(session)

    def now(self, session: ServerSession) -> Sequence[Fault]:
        """The same, once they were asked for; in any thread."""
        key = session.opened.parameters.get("fault-key", "") if session.opened else ""
        return [fault for fault in self._looks[session].result() if fault.stream in ("", key)]

    def loop(self, session: ServerSession) -> asyncio.AbstractEventLoop:
        """The attempt's."""
        return self._looks[session].get_loop()

    async def _look(self) -> list[Fault]:
        return [fault for fault in await self._plan.pending() if fault.kind in HANDLER_FAULTS]


class _FaultyHandler:
    """Answers as another handler does, but for what the plan says."""

    def __init__(
        self, inner: Handler, plan: FaultPlan, planned: _Planned, die: Callable[[], None]
    ) -> None:
        self._inner = inner
        self._plan = plan
        self._planned = planned
        self._die = die

    async def handle(self, call: Call, parts: Sequence[Part]) -> None:
        normal = [part for part in parts if not await self._struck(call, part)]
        if normal:
            await self._inner.handle(call, normal)

    async def _struck(self, call: Call, part: Part) -> bool:
        """Do what the plan says of a part's first input, and put those back that follow upon a
        normal one and that it speaks of; whether the part is answered.
        """
        session, run = part.attempt.session, part.run
        faults = [each for each in await self._planned.of(session) if each.output is None]
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
