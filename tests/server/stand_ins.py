"""What stands for user code and for the clock in tests of workers."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence

from attempts import (
    FakeAttempt,
    echo,
    payloads_in,
)

from servestream_client.errors import ItemErrorKind
from servestream_client.server.batch_workers import BatchWorkers
from servestream_client.server.calls import Call, NonCancellable, Part

CANCELLED = ItemErrorKind.CANCELLED
LONG = 3600.0  # seconds that no test lasts


class Clock:
    """Stands for the module `time`. At first calls take so long that runs keep their length."""

    def __init__(self) -> None:
        self.now = 0.0
        self.step = 0.00075

    def perf_counter(self) -> float:
        self.now += self.step
        return self.now


class Echo:
    """Answers at once, or after a turn of the event loop."""

    def __init__(self, *, waits: bool = False) -> None:
        self.waits = waits
        self.calls: list[list[bytes]] = []

    async def handle(self, call: Call, parts: Sequence[Part]) -> None:
        self.calls.append(payloads_in(parts))
        if self.waits:
            await call.run(asyncio.sleep(0), parts)
        echo(parts)


class Thread:
    """Stands for a thread's work."""

    began = math.inf
    done = 0
    finished = False

    def unwanted(self) -> None:
        """It goes on."""

    def abandon(self, text: str, since: float) -> bool:
        raise AssertionError(text)


class Held:
    """Holds each call until it is let go; then it echoes."""

    def __init__(self, thread: NonCancellable | None = None) -> None:
        self.thread = thread
        self.calls: list[list[bytes]] = []
        self.running = 0
        self.most = 0
        self.go = asyncio.Event()

    def code(self) -> Awaitable[object]:
        return self.go.wait()

    async def handle(self, call: Call, parts: Sequence[Part]) -> None:
        self.calls.append(payloads_in(parts))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await call.run(self.code(), parts, non_cancellable=self.thread)
        finally:
            self.running -= 1
        echo(parts)


class Running(Held):
    """Runs code of the test's in each call, until it is let go."""

    def __init__(self, code: Callable[[], Awaitable[object]]) -> None:
        super().__init__()
        self.code = code


def batches(handler, *, places: int = 1, max_batch: int = 64, wait: float = 0.0) -> BatchWorkers:
    return BatchWorkers(handler, places=places, max_batch=max_batch, batch_wait=wait)


def attempts(workers, names: str, **options) -> list[FakeAttempt]:
    return [FakeAttempt(workers, name, **options) for name in names]
