"""Clients in processes of their own, and what memory they and others have."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import psutil

from benchmarks.measure import MeasurementError
from benchmarks.servers import child_environment

MIB = 2**20


class Child:
    """A process that says words, a line each, and hears them."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def process(self) -> psutil.Process:
        """The process itself."""
        return psutil.Process(self._process.pid)

    def say(self, word: str) -> None:
        """A line for its standard input."""
        assert self._process.stdin is not None  # noqa: S101 — it is a pipe
        self._process.stdin.write(f"{word}\n".encode())

    async def line(self, within: float) -> str:
        """The next line of its standard output.

        Raises:
            TimeoutError: none came within so many seconds.
        """
        assert self._process.stdout is not None  # noqa: S101 — it is a pipe
        async with asyncio.timeout(within):
            return (await self._process.stdout.readline()).decode().strip()

    async def hear(self, word: str, within: float) -> None:
        """Wait for a word.

        Raises:
            MeasurementError: it said something else.
            TimeoutError: it said nothing within so many seconds.
        """
        line = await self.line(within)
        if line != word:
            raise MeasurementError(f"the client has not come to {word!r}, but said {line!r}")


@asynccontextmanager
async def child(
    module: str, arguments: Sequence[str], *, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Child]:
    """A module of this package as a process, killed in the end.

    Args:
        module: its name.
        arguments: its command line.
        environment: that it has besides.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", module, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**child_environment(), **(environment or {})},
        start_new_session=True,
    )
    try:
        yield Child(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def memory(processes: Sequence[psutil.Process]) -> float:
    """MiB of all of them: the sum of their proportional set sizes (PSS)."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):  # the client ends while it is looked at
            total += process.memory_full_info().pss
    return total / MIB
