"""Streams under fire: replicas are killed while they listen, and every probability is compared."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from servestream_client.client import StreamClient
from servestream_client.demo.tokens.trial import Kill, WhoServes
from servestream_client.events import StreamStatistics

__all__ = ["Listening", "Report", "Trial"]


@dataclass(slots=True)
class Listening:
    """One stream, as it comes.

    Attributes:
        chunks: of its recording.
        offline: what they give offline.
        outputs: what came so far.
        statistics: of the stream, once it has ended.
    """

    chunks: Sequence[bytes]
    offline: Sequence[bytes]
    outputs: list[bytes] = field(default_factory=list)
    statistics: StreamStatistics | None = None

    @property
    def differing(self) -> int:
        """Probabilities that are not bit for bit the offline ones, or are missing, or too many."""
        same = sum(one == other for one, other in zip(self.outputs, self.offline, strict=False))
        return max(len(self.outputs), len(self.offline)) - same


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of one trial.

    Attributes:
        streams: all of them.
        kills: replicas that were killed.
        wanted_kills: how many were to be.
        seconds: from the first chunk to the last probability.
    """

    streams: Sequence[Listening]
    kills: Sequence[Kill]
    wanted_kills: int
    seconds: float

    def total(self, of: Callable[[StreamStatistics], int]) -> int:
        """A figure of all streams together."""
        return sum(of(each.statistics) for each in self.streams if each.statistics is not None)

    @property
    def chunks(self) -> int:
        """How many there were."""
        return sum(len(each.chunks) for each in self.streams)

    @property
    def traffic(self) -> int:
        """Bytes of chunks and probabilities."""
        return sum(len(chunk) for each in self.streams for chunk in each.chunks) + 4 * self.chunks

    @property
    def token_share(self) -> float:
        """Which part of all bytes states were."""
        states = self.total(lambda each: each.token_bytes)
        return states / (states + self.traffic)

    def problems(self) -> list[str]:
        """Everything that is wrong, in words; empty if all is well."""
        differing = sum(each.differing for each in self.streams)
        found = list[str]()
        if differing:
            found.append(f"{differing} probabilities that are not those of the offline run")
        if len(self.kills) < self.wanted_kills:
            found.append(f"only {len(self.kills)} of {self.wanted_kills} kills")
        if self.kills and not self.total(lambda each: each.resumes):
            found.append("no kill has cut a stream")
        return found


class Trial:
    """Sends all recordings at once, kills who serves them, and reports.

    Args:
        streams: what to send, and what it must give.
        speed: how many times as fast as it was spoken.
        places: after how many probabilities, of all streams together, to kill; ascending.
        who: has been told of the client's events.
        kill: kills the process of the replica with this name and returns its id; called in a
            thread.
        ready: returns once all replicas serve again; called in a thread before each kill but the
            first.
    """

    def __init__(
        self,
        streams: Sequence[Listening],
        *,
        speed: float,
        places: Sequence[int],
        who: WhoServes,
        kill: Callable[[str], int],
        ready: Callable[[], None],
    ) -> None:
        self.streams: Sequence[Listening] = streams
        self.kills: list[Kill] = []
        self._speed = speed
        self._places = list(places)
        self._who = who
        self._kill = kill
        self._ready = ready
        self._came = asyncio.Event()

    @property
    def outputs(self) -> int:
        """How many came so far."""
        return sum(len(each.outputs) for each in self.streams)

    async def run(self, client: StreamClient[bytes, bytes], seconds_a_chunk: float) -> Report:
        """Send all of it once.

        Raises:
            StreamError: a stream failed.
            FixtureError: a replica could not be killed.
        """
        begin = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            pause = seconds_a_chunk / self._speed
            reading = [
                tasks.create_task(self._listen(client, each, pause)) for each in self.streams
            ]
            killing = tasks.create_task(self._kill_all())
            await asyncio.gather(*reading)
            killing.cancel()
        return Report(
            streams=self.streams,
            kills=self.kills,
            wanted_kills=len(self._places),
            seconds=time.monotonic() - begin,
        )

    async def _listen(
        self, client: StreamClient[bytes, bytes], one: Listening, pause: float
    ) -> None:
        async with client.stream(_spoken(one.chunks, pause)) as stream:
            async for output in stream:
                one.outputs.append(output)
                self._came.set()
            one.statistics = stream.statistics()

    async def _kill_all(self) -> None:
        for number, place in enumerate(self._places):
            if number:
                await asyncio.to_thread(self._ready)
            while self.outputs < place or (replica := self._who.busiest()) is None:
                self._came.clear()
                await self._came.wait()
            after = self.outputs
            pid = await asyncio.to_thread(self._kill, replica)
            self.kills.append(Kill(replica=replica, pid=pid, after=after, at=time.monotonic()))


async def _spoken(chunks: Sequence[bytes], pause: float) -> AsyncIterator[bytes]:
    """Chunks as they are spoken, at the soonest."""
    begin = time.monotonic()
    for number, chunk in enumerate(chunks):
        ahead = begin + number * pause - time.monotonic()
        if ahead > 0:
            await asyncio.sleep(ahead)
        yield chunk
