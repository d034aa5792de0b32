"""A client above the transport in virtual time, closed in the end, however the test ends."""

import asyncio
import random
from collections.abc import Awaitable
from contextlib import closing
from typing import Any

from servestream_client.session.connection import Connection
from simulation.loop import VirtualLoop, isolated

__all__ = ["connections", "in_virtual_time", "now"]

connections: list[Connection] = []
"""Those of the run, to be closed in its end."""


def now() -> float:
    """The running loop's time, in seconds."""
    return asyncio.get_running_loop().time()


def in_virtual_time(main: Awaitable[Any], *, limit: float = 100_000) -> Any:
    """Run it; `limit` is in virtual seconds."""

    async def whole() -> Any:
        try:
            async with asyncio.timeout(limit):
                return await main
        finally:
            while connections:
                await connections.pop().aclose()

    rng = random.Random(7)
    connections.clear()
    with closing(VirtualLoop(rng)) as loop, isolated(loop, rng):
        return loop.run_until_complete(whole())
