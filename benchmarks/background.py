"""Endless work in the background of a measurement."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager

import grpc.aio

from benchmarks.measure import MeasurementError

BEGIN_SECONDS = 60.0


class Beginning:
    """Tells when each of some workers has begun.

    Args:
        workers: how many there are.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.begun = 0
        self._all = asyncio.Event()

    def has_begun(self) -> None:
        """One of them has."""
        self.begun += 1
        if self.begun == self.workers:
            self._all.set()

    async def wait(self) -> None:
        """For all of them."""
        await self._all.wait()


@asynccontextmanager
async def in_background(
    work: Sequence[Coroutine[None, None, None]], beginning: Beginning, what: str
) -> AsyncIterator[None]:
    """Do endless work; the body runs once all of it has begun, and what is left is cancelled.

    Args:
        work: that never ends by itself.
        beginning: told by each when it has begun.
        what: the workers are, in words.

    Raises:
        MeasurementError: some did not begin in time, or ended.
    """
    tasks = [asyncio.create_task(each) for each in work]
    begun = asyncio.create_task(beginning.wait())
    try:
        await asyncio.wait(
            [begun, *tasks], timeout=BEGIN_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        _all_run(tasks, what)
        if not begun.done():
            raise MeasurementError(
                f"only {beginning.begun} of {beginning.workers} {what} had begun after"
                f" {BEGIN_SECONDS:.0f} s"
            )
        yield
        _all_run(tasks, what)
    finally:
        for task in (begun, *tasks):
            task.cancel()
        await asyncio.gather(begun, *tasks, return_exceptions=True)


def _all_run(tasks: Sequence[asyncio.Task[None]], what: str) -> None:
    ended = [task for task in tasks if task.done()]
    if ended:
        error = None if ended[0].cancelled() else ended[0].exception()
        why = f"first of all {_in_words(error)}" if error else "without an error"
        raise MeasurementError(f"{len(ended)} of {len(tasks)} {what} ended, {why}") from error


def _in_words(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return f"{type(error).__name__}: {error}"
