"""Asks Serve's own proxy whether it is there, without this project's client in between.

When streams stand still, this tells whose doing it was: a proxy that does not even answer to a
health check serves no stream either.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

__all__ = ["Probe"]

EVERY_SECONDS = 0.25
PATIENCE_SECONDS = 120.0
_METHOD = "/ray.serve.RayServeAPIService/Healthz"


class Probe:
    """Health checks in a row, each sent when the one before has been answered.

    Args:
        target: ``host:port`` of the proxy.
        clock: seconds since the run began.
    """

    def __init__(self, target: str, clock: Callable[[], float]) -> None:
        self._target = target
        self._clock = clock
        self._answers: list[tuple[float, float]] = []
        self._asked: float | None = None

    def silence(self, began: float, ended: float) -> float:
        """How long, in all, it owed an answer for more than a moment, between two times."""
        spans = list(self._answers)
        if self._asked is not None:
            spans.append((self._asked, self._clock()))
        late = [(max(asked, began), min(answered, ended)) for asked, answered in spans]
        return sum(end - begin for begin, end in late if end - begin > 2 * EVERY_SECONDS)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ask while the body runs."""
        asking = asyncio.create_task(self._ask())
        try:
            yield
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _ask(self) -> None:
        async with grpc.aio.insecure_channel(self._target) as channel:
            healthz: Any = channel.unary_unary(_METHOD)  # bytes as they are
            while True:
                asked = self._asked = self._clock()
                try:
                    await healthz(b"", timeout=PATIENCE_SECONDS)
                except grpc.aio.AioRpcError as error:
                    if error.code() is grpc.StatusCode.UNAVAILABLE:
                        await asyncio.sleep(EVERY_SECONDS)
                        continue  # as silent as if it did not answer
                self._asked = None
                self._answers.append((asked, self._clock()))
                await asyncio.sleep(EVERY_SECONDS)
