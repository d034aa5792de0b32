"""Half of many readers stop: what the others have meanwhile, and what memory it takes."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from benchmarks.children import MIB, child, memory
from benchmarks.measure import MeasurementError
from benchmarks.servers import Servers
from benchmarks.tokens.readers import APPLICATION
from servestream_client import FlowControl

TOKEN_BYTES = 1000
RATE = 50.0
"""Tokens in a second of each generation."""

INTERVAL_SECONDS = 0.1
SECONDS = 120.0
"""For each part, besides the stop."""

LANES = 4
"""Streams that a client's generations share, by default."""


class Stopped(NamedTuple):
    """What was seen.

    Attributes:
        before: tokens in a second of the readers that go on, before the others stop.
        during: while these stand.
        growth: the most that the memory of client and server grew meanwhile, in MiB.
    """

    before: float
    during: float
    growth: float


def bounds(readers: int, flow: FlowControl) -> float:
    """MiB: what is held of so many readers who stop, and of the streams that carry them."""
    return (readers * flow.bytes_per_input + LANES * flow.output_bytes) / MIB


async def stopped(servers: Servers, readers: int, usual: float, seconds: float) -> Stopped:
    """All of so many readers read for `usual` seconds; then half of them stop for so many seconds,
    and read on, all to their ends.

    Raises:
        MeasurementError: something was lost, or did not come to an end.
    """
    target = servers.require(APPLICATION)
    arguments = [target, *map(str, (readers, RATE, TOKEN_BYTES, usual, seconds))]
    async with child("benchmarks.stopping_readers", arguments) as client:
        await client.hear("ready", SECONDS)
        processes = [*servers.carriers(), client.process]
        baseline, growth = memory(processes), [0.0]

        async def sample() -> None:
            while True:
                growth.append(memory(processes) - baseline)
                await asyncio.sleep(INTERVAL_SECONDS)

        client.say("go")
        await client.hear("stopped", SECONDS)
        sampling = asyncio.create_task(sample())
        try:
            await client.hear("resumed", SECONDS + seconds)
        finally:
            sampling.cancel()
        try:  # what they missed takes as long as they stopped
            line = await client.line(SECONDS + seconds)
        except TimeoutError:
            client.process.terminate()  # it says where they stand
            raise MeasurementError(
                "the generations did not come to their ends, and stand at "
                + await client.line(SECONDS)
            ) from None
        if not line:
            raise MeasurementError("the client ended before its generations did")
        before, during, wrong = line.split()
        if int(wrong):
            raise MeasurementError(f"{wrong} tokens were lost, or came twice")
        return Stopped(float(before), float(during), max(growth))
