"""Servers that have nothing left to do: what was cancelled may keep them busy for a while."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

import psutil

from benchmarks.servers import Servers

INTERVAL_SECONDS = 0.25
IDLE_SHARE = 0.1
"""Of a core, by all of them together."""

MOST_SECONDS = 30.0


async def quiet(servers: Servers) -> None:
    """Wait until the servers do next to nothing, for half a minute at the most."""
    deadline = time.monotonic() + MOST_SECONDS
    processes = servers.carriers()
    used = _used(processes)
    while time.monotonic() < deadline:
        began = time.monotonic()
        await asyncio.sleep(INTERVAL_SECONDS)
        before, used = used, _used(processes)
        if used - before < IDLE_SHARE * (time.monotonic() - began):
            return


def _used(processes: Sequence[psutil.Process]) -> float:
    """Seconds of a core."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):  # one that was killed
            times = process.cpu_times()
            total += times.user + times.system
    return total
