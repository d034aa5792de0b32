"""Many generations of which half the readers stop for a while, in a process of its own.

Started by `benchmarks.tokens.stopped`, which looks at everybody's memory meanwhile. Says ``ready``
once all read steadily, waits for a line on standard input, and then says ``stopped``, ``resumed``
and, once all have come to their ends, what the others had meanwhile: tokens in a second before and
during the stop, and how many tokens were not the next ones of their generation.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence

from benchmarks.tokens.plan import Plan, Token
from benchmarks.tokens.readers import APPLICATION
from servestream_client import StreamClient

AFTER_SECONDS = 2.0
"""That generations last beyond the stop, at their rate."""


class Reader:
    """Reads a generation to its end, and stops in its middle if it is told to.

    Attributes:
        begun: whether it has a token.
        count: tokens that it has taken.
        wrong: of those, how many were not the next one.
    """

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.count = 0
        self.wrong = 0
        self.going = asyncio.Event()
        self.going.set()

    async def read(self, client: StreamClient[bytes, bytes], plan: Plan) -> None:
        async with client.generate(plan.pack()) as generation:
            async for packed in generation:
                self.begun.set()
                if not self.going.is_set():
                    await self.going.wait()
                self.wrong += Token.unpack(packed).place != self.count
                self.count += 1
        self.wrong += plan.length - self.count


async def run(target: str, readers: int, plan: Plan, usual: float, stop: float) -> None:
    """All of it."""
    crowd = [Reader() for _ in range(readers)]
    stopping, others = crowd[: readers // 2], crowd[readers // 2 :]
    async with (
        StreamClient(target, application=APPLICATION) as client,
        asyncio.TaskGroup() as tasks,
    ):
        for reader in crowd:
            tasks.create_task(reader.read(client, plan))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _say_where, crowd)
        for reader in crowd:
            await reader.begun.wait()
        gc.collect()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        before = await _rate(others, usual)
        for reader in stopping:
            reader.going.clear()
        print("stopped", flush=True)
        during = await _rate(others, stop)
        for reader in stopping:
            reader.going.set()
        print("resumed", flush=True)
    print(before, during, sum(reader.wrong for reader in crowd), flush=True)


def _say_where(crowd: Sequence[Reader]) -> None:
    """How many generations have had how many tokens."""
    print(sorted(Counter(reader.count for reader in crowd).items()), flush=True)


async def _rate(readers: Sequence[Reader], seconds: float) -> float:
    """Tokens in a second of all of these, in so many seconds or until there is one."""
    start, before = time.perf_counter(), _count(readers)
    await asyncio.sleep(seconds)
    while _count(readers) == before:  # noqa: ASYNC110 — the event would be each reader's cost
        await asyncio.sleep(0.01)
    return (_count(readers) - before) / (time.perf_counter() - start)


def _count(readers: Sequence[Reader]) -> int:
    return sum(reader.count for reader in readers)


def main() -> None:
    """Its arguments: target, readers, tokens a second of each, their size, and for how many
    seconds all read, and half of them stop.
    """
    target, readers, *numbers = sys.argv[1:]
    rate, size, usual, stop = map(float, numbers)
    plan = Plan(int((usual + stop + AFTER_SECONDS) * rate), rate=rate, size=int(size))
    asyncio.run(run(target, int(readers), plan, usual, stop))


if __name__ == "__main__":
    main()
