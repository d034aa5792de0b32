"""Calls of `predict` at a rate, each of them checked."""

from __future__ import annotations

import asyncio
import random

from chaos.checker import StreamCheck
from chaos.items import payload
from chaos.streams import Shared
from servestream_client import ServeStreamError, StreamClient

__all__ = ["Caller"]


class Caller:
    """Calls one after the other has begun, however long each takes.

    Args:
        name: in words.
        client: whose.
        rate: calls a second.
        limit: seconds that one may take.
        rng: decides tags.
        shared: of the run.
    """

    def __init__(
        self,
        name: str,
        client: StreamClient[bytes, bytes],
        *,
        rate: float,
        limit: float,
        rng: random.Random,
        shared: Shared,
    ) -> None:
        self.waits: list[float] = []
        """Of each call, how long it took."""
        self._name = name
        self._client = client
        self._rate = rate
        self._limit = limit
        self._rng = rng
        self._shared = shared
        self._calls: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until the run stops, and every call has come back."""
        while not self._shared.stopping:
            call = asyncio.create_task(self._call())
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
            await asyncio.sleep(self._rng.expovariate(self._rate))
        if self._calls:
            await asyncio.wait(self._calls)

    async def _call(self) -> None:
        """One call is a stream of one input."""
        shared = self._shared
        tag, began = self._rng.getrandbits(64), shared.clock()
        check = StreamCheck(tag, self._name, ordered=True, violations=shared.violations)
        item = payload(tag, 1)
        try:
            async with asyncio.timeout(self._limit):
                output = await self._client.predict(item)
        except TimeoutError:
            shared.violations.add("hung", self._name, f"no answer for {self._limit:.0f} s")
            return
        except ServeStreamError as error:
            shared.violations.add("failed", self._name, f"{type(error).__name__}: {error}")
            return
        self.waits.append(shared.clock() - began)
        shared.totals.predictions += 1
        if check.take(output, pulled=1) is None:
            return
        check.end(pulled=1)
