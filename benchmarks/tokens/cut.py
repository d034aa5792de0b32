"""The time from a replica's death by SIGKILL to the next token.

The raw stub notices that its call broke, opens another one at once, and asks for the tokens from
the first that it lacks: the least that anybody can do. Both wait for the handler's prefill.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable

import grpc.aio

from benchmarks.measure import MeasurementError
from benchmarks.servers import RawConnection
from benchmarks.tokens.plan import Plan, Token
from benchmarks.tokens.readers import Read, Taken, raw

BEFORE = 50
"""Tokens before the kill."""
AFTER = 10
"""Tokens of another replica."""
CUT_SECONDS = 60.0
"""For all of a generation."""

PLAN = Plan(10_000, rate=100.0, prefill=0.05)


class _EnoughError(Exception):
    """All is known."""


class _Killer:
    """Kills the process that makes the tokens, once there are some.

    Attributes:
        pause: seconds from the kill to the next token of another process.
    """

    def __init__(self) -> None:
        self.pause: float | None = None
        self._next = 0
        self._killed = 0
        self._killed_at = 0.0
        self._after = 0

    def take(self, packed: bytes) -> None:
        """
        Raises:
            MeasurementError: a token is lost, or came twice.
            _EnoughError: there is nothing more to see.
        """
        now, token = time.perf_counter(), Token.unpack(packed)
        if token.place != self._next:
            raise MeasurementError(f"token {token.place} came where {self._next} was due")
        self._next += 1
        if self._next == BEFORE:
            self._killed, self._killed_at = token.pid, time.perf_counter()
            os.kill(token.pid, signal.SIGKILL)
        elif self._killed and token.pid != self._killed:
            if self.pause is None:
                self.pause = now - self._killed_at
            self._after += 1
            if self._after == AFTER:
                raise _EnoughError


async def pause(read: Read) -> float:
    """Seconds from the cut of a generation to its next token.

    Raises:
        MeasurementError: it did not go on, or not where it was cut.
    """
    killer = _Killer()
    try:
        async with asyncio.timeout(CUT_SECONDS):
            await read(PLAN, killer.take)
    except _EnoughError:
        pass
    except TimeoutError:
        raise MeasurementError(f"no token for {CUT_SECONDS:.0f} s after the kill") from None
    if killer.pause is None:
        raise MeasurementError("a replica was killed, and nothing came of another")
    return killer.pause


def reconnecting(connection: RawConnection) -> Read:
    """A raw stub that calls anew, at once, whenever its call breaks."""
    read_once = raw(connection)

    async def read(plan: Plan, taken: Taken) -> None:
        received, taking = _counted(taken)
        while True:
            try:
                await read_once(plan._replace(start=plan.start + received()), taking)
            except grpc.aio.AioRpcError:
                continue
            except asyncio.CancelledError:
                # HAProxy resets the call, which grpc.aio reports as if somebody had cancelled it.
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                continue
            return

    return read


def _counted(taken: Taken) -> tuple[Callable[[], int], Taken]:
    count = 0

    def taking(token: bytes) -> None:
        nonlocal count
        count += 1
        taken(token)

    return lambda: count, taking
