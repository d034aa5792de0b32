"""Three ways to the same deployment, one after the other: what each gets out of it as it scales."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

import grpc.aio
from google.protobuf.wrappers_pb2 import BytesValue

from servestream_client.client import StreamClient
from servestream_client.config import FlowControl
from servestream_client.demo.model import DigitsCodec, Image, Prediction, image_crc
from servestream_client.demo.scale.service import unary_method

__all__ = ["Sample", "Trial", "Way"]

SAMPLE_SECONDS = 1.0

_WINDOW = 200
_FIVE = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A second.

    Attributes:
        at: when it ended, in seconds since the way began.
        replicas: how many there were.
        rate: answers a second.
        latency: seconds from a call to its answer, the median; 0.0: none came, or of a stream.
    """

    at: float
    replicas: int
    rate: float
    latency: float


@dataclass(slots=True)
class Way:
    """One way to get images classified.

    Attributes:
        name: for people.
        application: which it uses.
        samples: one a second.
        answers: how many came.
        wrong: of these, those that differ from the offline run, or came out of order.
        seconds: how long it went on.
    """

    name: str
    application: str
    samples: list[Sample] = field(default_factory=list)
    answers: int = 0
    wrong: int = 0
    seconds: float = 0.0

    @property
    def most_replicas(self) -> int:
        """How many there were at the most."""
        return max((sample.replicas for sample in self.samples), default=0)

    def reached(self, replicas: int) -> float | None:
        """After how many seconds there were so many; None: never."""
        return next((each.at for each in self.samples if each.replicas >= replicas), None)

    def rates(self) -> tuple[float, float]:
        """Answers a second at first, and at best: medians of five seconds each."""
        rates = [sample.rate for sample in self.samples]
        if len(rates) < 2 * _FIVE:
            return 0.0, 0.0
        medians = [
            statistics.median(rates[first : first + _FIVE])
            for first in range(1, len(rates) - _FIVE + 1)
        ]
        return medians[0], max(medians)


class Trial:
    """Runs the ways one after the other.

    Args:
        target: of Ray Serve.
        images: what is classified, again and again.
        offline: what the same model says of each of them in this process.
        seconds: for each way.
        callers: so many calls at a time.
        count: how many replicas an application has; called in a thread.
    """

    def __init__(
        self,
        target: str,
        images: Sequence[Image],
        offline: Sequence[Prediction],
        *,
        seconds: float,
        callers: int,
        count: Callable[[str], int],
    ) -> None:
        self.ways: tuple[Way, Way, Way] = (
            Way("unary stubs", "unary"),
            Way("client.predict", "calls"),
            Way("client.stream", "stream"),
        )
        self.gone: float | None = None
        """Seconds after which the last way's replicas had gone but for one; None: they had not."""
        self._target = target
        self._images = images
        self._expected = {each.image_crc: each for each in offline}
        self._seconds = seconds
        self._callers = callers
        self._count = count
        self._latencies: list[float] = []
        self._began = 0.0

    async def run(self) -> None:
        """All three.

        Raises:
            StreamError: a call or the stream failed.
            grpc.aio.AioRpcError: a unary call did.
        """
        unary, calls, stream = self.ways
        await self._sampled(unary, self._unary)
        await self._sampled(calls, self._predict)
        await self._sampled(stream, self._stream)

    async def watch_them_go(self, limit: float) -> None:
        """Call once a second until one replica is left."""
        began = time.monotonic()
        way = self.ways[2]
        async with self._client(way) as client:
            for image in itertools.cycle(self._images):
                self._take(way, image, await client.predict(image))
                passed = time.monotonic() - began
                if await asyncio.to_thread(self._count, way.application) <= 1:
                    self.gone = passed
                    return
                if passed > limit:
                    return
                await asyncio.sleep(SAMPLE_SECONDS)

    # ---------------------------------------------------------------- the ways

    async def _unary(self, way: Way) -> None:
        codec = DigitsCodec()
        metadata = (("application", way.application),)
        async with grpc.aio.insecure_channel(self._target) as channel:
            classify = unary_method(channel)

            async def ask(image: Image) -> Prediction:
                request = BytesValue(value=codec.encode_input(image))
                reply = await classify(request, metadata=metadata)
                return codec.decode_output(reply.value)

            await self._call(way, ask)

    async def _predict(self, way: Way) -> None:
        async with self._client(way) as client:
            await self._call(way, client.predict)

    async def _stream(self, way: Way) -> None:
        expected = itertools.cycle(self._images)
        async with self._client(way) as client:
            async for answer in client.stream(self._until_time(self._images)):
                self._take(way, next(expected), answer)

    def _client(self, way: Way) -> StreamClient[Image, Prediction]:
        return StreamClient(
            self._target,
            application=way.application,
            codec=DigitsCodec(),
            flow=FlowControl(window_items=_WINDOW),  # what is pulled is still classified at the end
        )

    async def _call(self, way: Way, ask: Callable[[Image], Awaitable[Prediction]]) -> None:
        images = self._until_time(self._images)

        async def caller() -> None:
            for image in images:
                began = time.monotonic()
                answer = await ask(image)
                self._latencies.append(time.monotonic() - began)
                self._take(way, image, answer)

        await asyncio.gather(*(caller() for _ in range(self._callers)))

    def _until_time(self, images: Sequence[Image]) -> Iterator[Image]:
        for image in itertools.cycle(images):
            if time.monotonic() - self._began >= self._seconds:
                return
            yield image

    def _take(self, way: Way, image: Image, answer: Prediction) -> None:
        way.answers += 1
        way.wrong += answer != self._expected[image_crc(image)]

    # ---------------------------------------------------------------- what is seen of them

    async def _sampled(self, way: Way, run: Callable[[Way], Awaitable[None]]) -> None:
        self._began = time.monotonic()
        self._latencies.clear()
        sampling = asyncio.create_task(self._sample(way))
        try:
            await run(way)
        finally:
            sampling.cancel()
            way.seconds = time.monotonic() - self._began

    async def _sample(self, way: Way) -> None:
        before, last = 0, self._began
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            replicas = await asyncio.to_thread(self._count, way.application)
            now, answers, taken = time.monotonic(), way.answers, self._latencies[:]
            self._latencies.clear()
            way.samples.append(
                Sample(
                    at=now - self._began,
                    replicas=replicas,
                    rate=(answers - before) / (now - last),
                    latency=statistics.median(taken) if taken else 0.0,
                )
            )
            before, last = answers, now
