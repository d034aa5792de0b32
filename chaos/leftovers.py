"""What a run left behind: nothing may be."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from servestream_client.testing.ray_serve.cluster import members

__all__ = ["Census", "processes_left"]

_DESCRIPTORS = Path("/proc/self/fd")
_SETTLE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Census:
    """The tasks, threads and file descriptors of this process at one moment."""

    tasks: Counter[str]
    threads: Counter[str]
    descriptors: Counter[str]

    @classmethod
    def take(cls) -> Self:
        """Now, in a running event loop; the current task left out."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        return cls(
            Counter(getattr(task.get_coro(), "__qualname__", "?") for task in tasks),
            Counter(thread.name for thread in threading.enumerate()),
            Counter(_descriptors()),
        )

    async def left(self) -> list[str]:
        """What there is now and was not then. What is on its way out gets a moment."""
        deadline = asyncio.get_running_loop().time() + _SETTLE_SECONDS
        while True:
            gc.collect()
            found = self.compare(type(self).take())
            if not found or asyncio.get_running_loop().time() > deadline:
                return found
            await asyncio.sleep(0.2)

    def compare(self, now: Census) -> list[str]:
        """What there is then and was not at this moment."""
        pairs = (
            ("task", now.tasks - self.tasks),
            ("thread", now.threads - self.threads),
        )
        found = [f"{what} {name} ({n})" for what, names in pairs for name, n in names.items()]
        # Sockets have numbers of their own; a pool that closed one and opened another leaks none.
        more = now.descriptors.total() - self.descriptors.total()
        if more > 0:
            names = ", ".join(sorted((now.descriptors - self.descriptors).elements()))
            found.append(f"{more} file descriptors, of {names}")
        return found


def processes_left(cluster_id: str) -> list[str]:
    """The processes of a cluster that has been ended."""
    return [f"process {each.pid}" for each in members(cluster_id)]


def _descriptors() -> list[str]:
    found = []
    for name in os.listdir(_DESCRIPTORS):  # noqa: PTH208 — only names are wanted
        try:
            found.append(os.readlink(_DESCRIPTORS / name))  # noqa: PTH115 — most are no paths
        except OSError:  # that of the directory itself
            continue
    return found
