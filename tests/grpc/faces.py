"""The blocking client with the async one's verbs, so that one suite runs over both.

Each step runs in a thread, since the servers of these tests run on the test's event loop.
"""

import asyncio
import threading
from collections.abc import Callable

import pytest

from servestream_client import (
    StreamClient,
    SyncGeneration,
    SyncPredictionStream,
    SyncStreamClient,
)

END = object()


async def in_thread(func: Callable, *args):
    """A result of plain code; the thread is a daemon, should it never end."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def settle(result, error):
        if done.done():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    def run():
        result = error = None
        try:
            result = func(*args)
        except BaseException as raised:
            error = raised
        loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, daemon=True).start()
    return await done


class Iterated:
    """What a plain iterator gives, each in a thread."""

    def __aiter__(self):
        return self

    async def __anext__(self):
        result = await in_thread(next, self.plain, END)
        if result is END:
            raise StopAsyncIteration
        return result


class BlockingStream(Iterated):
    def __init__(self, stream: SyncPredictionStream) -> None:
        self.plain = stream

    @property
    def _driver(self):
        return self.plain._driver

    async def rest(self) -> list:
        """All that comes, in one go."""
        return await in_thread(list, self.plain)

    async def aclose(self) -> None:
        await in_thread(self.plain.close)

    def statistics(self):
        return self.plain.statistics()

    def cursor(self):
        return self.plain.cursor()

    def batches(self, size):
        return BlockingBatches(self.plain.batches(size))

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.aclose()


class BlockingBatches(Iterated):
    def __init__(self, batches) -> None:
        self.plain = batches


class BlockingGeneration(Iterated):
    def __init__(self, generation: SyncGeneration) -> None:
        self.plain = generation

    @property
    def seams(self):
        return self.plain.seams

    @property
    def delivered(self):
        return self.plain.delivered

    async def rest(self) -> list:
        """All that comes, in one go."""
        return await in_thread(list, self.plain)

    async def aclose(self) -> None:
        await in_thread(self.plain.close)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.aclose()


class BlockingClient:
    def __init__(self, *args, **options) -> None:
        self.plain = SyncStreamClient(*args, **options)

    def stream(self, *args, **options) -> BlockingStream:
        return BlockingStream(self.plain.stream(*args, **options))

    def generate(self, *args, **options) -> BlockingGeneration:
        return BlockingGeneration(self.plain.generate(*args, **options))

    async def predict(self, *args, **options):
        return await in_thread(lambda: self.plain.predict(*args, **options))

    def with_options(self, **options) -> "BlockingClient":
        other = BlockingClient.__new__(BlockingClient)
        other.plain = self.plain.with_options(**options)
        return other

    async def aclose(self) -> None:
        await in_thread(self.plain.close)

    async def __aenter__(self):
        self.plain.__enter__()
        return self

    async def __aexit__(self, *_):
        await self.aclose()


FACES = {"async": StreamClient, "blocking": BlockingClient}

only_async = pytest.mark.parametrize("connect", ["async"], indirect=True)
"""For what the blocking client has no equivalent of."""
