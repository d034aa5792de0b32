"""Generations over links in memory, for tests of what they are made of."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from pools import pool_of

from servestream_client import FlowControl, RetryPolicy
from servestream_client.errors import ClientClosedError
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.frames import CodecId
from servestream_client.session.driver import StreamDriver
from servestream_client.session.generation import Generation, batch_of
from servestream_client.session.generator import Generator
from servestream_client.session.spread import Spread
from servestream_client.transport.memory import MemoryTransport

__all__ = ["LONG", "QUICK", "Harness", "everything", "until", "whole"]

QUICK = RetryPolicy(initial=0.0001, maximum=0.0001)
LONG = 3600.0  # seconds that no test lasts


class Harness:
    """A generator whose lanes all go to the same replicas."""

    def __init__(self, replicas, *, lanes=1, retry=QUICK, flow=None):
        self.flow = flow or FlowControl()
        self.drivers = []
        self.closed = False
        self.endpoints = pool_of(lambda: MemoryTransport(replicas))
        self.retry = retry
        self.generator = Generator(
            partial(self._open, isolated=False),
            partial(self._open, isolated=True),
            lambda: self.endpoints.answered,
            flow=self.flow,
            spread=Spread(lanes, lanes),
            idle_seconds=LONG,
        )

    def _open(self, *, isolated, on_arrival, on_break, outage):
        if self.closed:
            raise ClientClosedError("the client is closed")
        driver = StreamDriver(
            session=ClientSession(
                stream_id=bytes([len(self.drivers)] * 16),
                codec=CodecId("bytes"),
                flow=self.flow,
                ordered=False,
                isolated=isolated,
                frees_places=True,
            ),
            endpoints=self.endpoints,
            retry=self.retry,
            timeout=None,
            close_timeout=0.1,
            eager=not isolated,
            on_arrival=on_arrival,
            on_break=on_break,
            outage=outage,
        )
        driver.start()
        self.drivers.append(driver)
        return driver

    def generate(
        self,
        item: object,
        *,
        timeout: float | None = None,
        encode: Callable[[Any], bytes] = str.encode,
        decode: Callable[[bytes], str] = bytes.decode,
    ) -> Generation[str]:
        return Generation(
            item,
            lambda: self.generator,
            encode=encode,
            decode=decode,
            timeout=timeout,
            batch=batch_of(self.flow),
        )

    async def aclose(self):
        self.closed = True
        for driver in self.drivers:
            await driver.aclose(ClientClosedError("the client is closed"))


async def everything(generation):
    return [output async for output in generation]


def whole(name, count):
    return [f"{name} {index}" for index in range(count)]


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)
