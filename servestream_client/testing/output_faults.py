"""Faults by plan between the outputs of one input: what stands around a service's generator."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from typing import Any

from servestream_client.server.calls import Part
from servestream_client.testing.faults import Fault, FaultKind, FaultPlan, InjectedError

__all__ = ["ThreadFaults", "generate"]

_LOOK_SECONDS = 0.01
"""How often a thread that hangs by plan looks whether anybody still waits for it."""


async def generate(
    generator: AsyncGenerator[Any, None],
    index: int,
    faults: Sequence[Fault],
    plan: FaultPlan,
    die: Callable[[], None],
) -> AsyncGenerator[Any, None]:
    """The outputs of a generator on the event loop, from that index on, with faults among them."""
    try:
        while True:
            for fault in faults:
                if fault.output != index or not await plan.claim(fault):
                    continue
                if fault.kind is FaultKind.RAISE:
                    raise InjectedError("by plan")
                if fault.kind is FaultKind.KILL:
                    die()
                if fault.kind is FaultKind.SLOW:
                    await asyncio.sleep(fault.seconds)
                else:
                    await asyncio.Event().wait()
            try:
                output = await anext(generator)
            except StopAsyncIteration:
                return
            yield output
            index += 1
    finally:
        await generator.aclose()


class ThreadFaults:
    """The same for a plain generator, whose thread may not wait for ever: it would keep the process
    from ending.
    """

    def __init__(
        self,
        part: Part,
        faults: Sequence[Fault],
        plan: FaultPlan,
        die: Callable[[], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._part = part
        self._faults = faults
        self._plan = plan
        self._die = die
        self._loop = loop

    def generate(self, generator: Generator[Any, None, Any], index: int) -> Iterator[Any]:
        """The outputs of a generator, from that index on."""
        try:
            while True:
                for fault in self._faults:
                    if fault.output == index and self._claim(fault):
                        self._strike(fault)
                try:
                    output = next(generator)
                except StopIteration:
                    return
                yield output
                index += 1
        finally:
            generator.close()

    def _wanted(self) -> bool:
        outbox = self._part.attempt.session.parts
        return outbox is not None and outbox.wants(self._part.run.first)

    def _claim(self, fault: Fault) -> bool:
        async def claim() -> bool:
            return await self._plan.claim(fault)

        return asyncio.run_coroutine_threadsafe(claim(), self._loop).result()

    def _strike(self, fault: Fault) -> None:
        if fault.kind is FaultKind.RAISE:
            raise InjectedError("by plan")
        if fault.kind is FaultKind.KILL:
            self._loop.call_soon_threadsafe(self._die)
        self._wait(fault.seconds if fault.kind is FaultKind.SLOW else math.inf)

    def _wait(self, seconds: float) -> None:
        """Or until nobody waits for the input's answer."""
        ends = time.monotonic() + seconds
        while self._wanted() and time.monotonic() < ends:
            time.sleep(min(_LOOK_SECONDS, max(0.0, ends - time.monotonic())))
