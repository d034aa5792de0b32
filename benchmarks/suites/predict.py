"""Single requests by many callers at once: `StreamClient.predict` against a unary RPC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import TypeVar

from benchmarks.background import Beginning, in_background
from benchmarks.bench import Bench, Suite
from benchmarks.measure import MeasurementError, Way
from benchmarks.servers import RawConnection
from benchmarks.wire import raw_pb2 as pb
from servestream_client import StreamClient

In = TypeVar("In")
Out = TypeVar("Out")

ITEM = bytes(range(100))
CALLERS = (1, 10, 100, 1000)
ON_A_CONNECTION = 100
"""Unary calls; HAProxy lets no more through."""

Request = Callable[[], Awaitable[None]]
"""A request and its answer."""


def predicting(client: StreamClient[In, Out], item: In) -> Request:
    """The client's."""

    async def request() -> None:
        await client.predict(item)

    return request


def unary(raw: RawConnection) -> Request:
    """The raw stub's."""

    async def request() -> None:
        await raw.stub.Single(pb.SingleRequest(payload=ITEM), metadata=raw.metadata)

    return request


class Callers(Beginning):
    """Callers that ask again as soon as they are answered.

    Args:
        requests: what they do, spread over these.
        count: of the callers.

    Attributes:
        seconds: how long each request took, as they were answered.
    """

    def __init__(self, requests: Sequence[Request], count: int) -> None:
        super().__init__(count)
        self.seconds: list[float] = []
        self._requests = requests

    async def measure(self, seconds: float) -> float:
        """Requests in a second, once every caller has been answered.

        Raises:
            MeasurementError: a request failed, or some are never answered.
        """
        work = [
            self._call(self._requests[number % len(self._requests)])
            for number in range(self.workers)
        ]
        async with in_background(work, self, "callers"):
            self.seconds.clear()
            start = time.perf_counter()
            await asyncio.sleep(seconds)
            taken = time.perf_counter() - start
            if not self.seconds:
                raise MeasurementError(f"no request was answered in {taken:.1f} s")
            return len(self.seconds) / taken

    async def _call(self, request: Request) -> None:
        first = True
        while True:
            start = time.perf_counter()
            await request()
            self.seconds.append(time.perf_counter() - start)
            if first:
                first = False
                self.has_begun()


def rate(requests: Sequence[Request], callers: int, seconds: float) -> Way:
    """Requests in a second of so many callers."""

    async def once() -> float:
        return await Callers(requests, callers).measure(seconds)

    return once


async def run(bench: Bench) -> None:
    """By the number of callers."""
    for callers in CALLERS:
        name = "1 caller" if callers == 1 else f"{callers} callers"
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(bench.servers.client("echo"))
            raws = [
                await stack.enter_async_context(bench.servers.raw("echo"))
                for _ in range(-(-callers // ON_A_CONNECTION))
            ]
            rates = await bench.alternate(
                {
                    "unary": rate([unary(raw) for raw in raws], callers, bench.settings.seconds),
                    "ours": rate([predicting(client, ITEM)], callers, bench.settings.seconds),
                },
                unit="requests/s",
                where=name,
            )
        bench.compare(name, rates["ours"], rates["unary"], at=callers)


SUITE = Suite(
    name="predict",
    about="single requests by 1, 10, 100 and 1000 callers at once, against unary RPCs",
    run=run,
)
