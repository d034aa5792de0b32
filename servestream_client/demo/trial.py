"""A stream under fire: replicas are killed on the way, and every answer is held to account."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from servestream_client.client import StreamClient
from servestream_client.demo.model import DigitsModel, Image, Prediction, image_crc
from servestream_client.events import StreamStatistics
from servestream_client.session.stream import PredictionStream

__all__ = [
    "Report",
    "Tally",
    "Trial",
    "answers_offline",
    "kill_places",
    "tally",
]

_KILLED_UP_TO = 0.8
"""The share of the way on which replicas are killed: one that dies when everything is on its way
to the client is not missed."""


def kill_places(
    rng: random.Random, *, inputs: int, kills: int, up_to: float = _KILLED_UP_TO
) -> list[int]:
    """After how many answers to kill: one place in each of as many equal stretches of the way.

    Args:
        rng: decides.
        inputs: how long the way is.
        kills: how many places.
        up_to: on which share of the way.

    Raises:
        ValueError: there are too few inputs for so many kills.
    """
    stretch = int(inputs * up_to) // max(1, kills)
    if stretch < 1:
        raise ValueError(f"{kills} kills do not fit into {inputs} inputs")
    return [number * stretch + rng.randint(1, stretch) for number in range(kills)]


def answers_offline(images: Sequence[Image]) -> list[Prediction]:
    """What the same model says in this process, one image after the other."""
    model = DigitsModel()
    return [model.predict(image) for image in images]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How a sequence of answers compares with the inputs.

    An answer carries the checksum of the image that was classified, which says whose answer it
    is. Where an image occurs several times among the inputs, its first answer belongs to its
    first occurrence, and so on.

    Attributes:
        lost: inputs that no answer belongs to.
        duplicated: answers to an image beyond the number of its occurrences.
        foreign: answers to an image that was never sent.
        out_of_order: answers that came after an answer to a later input.
        differing: answers that differ from the offline run of their image, in digit or votes.
    """

    lost: int = 0
    duplicated: int = 0
    foreign: int = 0
    out_of_order: int = 0
    differing: int = 0

    def __bool__(self) -> bool:
        """Whether anything is wrong."""
        return any((self.lost, self.duplicated, self.foreign, self.out_of_order, self.differing))


def tally(
    images: Sequence[Image], offline: Sequence[Prediction], answers: Sequence[Prediction]
) -> Tally:
    """Attribute every answer to its input, and count what is wrong.

    Args:
        images: the inputs, in order.
        offline: what each of them gives offline.
        answers: what came, in order.
    """
    places: dict[int, deque[int]] = defaultdict(deque)
    expected: dict[int, Prediction] = {}
    for place, (image, prediction) in enumerate(zip(images, offline, strict=True)):
        crc = image_crc(image)
        places[crc].append(place)
        expected[crc] = prediction
    duplicated = foreign = out_of_order = differing = 0
    furthest = -1
    for answer in answers:
        waiting = places.get(answer.image_crc)
        if waiting is None:
            foreign += 1
            continue
        differing += answer != expected[answer.image_crc]
        if not waiting:
            duplicated += 1
            continue
        place = waiting.popleft()
        out_of_order += place < furthest
        furthest = max(furthest, place)
    return Tally(
        lost=sum(map(len, places.values())),
        duplicated=duplicated,
        foreign=foreign,
        out_of_order=out_of_order,
        differing=differing,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One replica that was killed.

    Attributes:
        after: how many answers had been taken by then.
        replica: which one served the stream.
        pid: its process.
    """

    after: int
    replica: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of one trial.

    Attributes:
        inputs: how many were to be sent.
        predictions: how many answers were taken.
        tally: how they compare with the inputs.
        wanted_kills: how many replicas were to be killed.
        kills: those that were.
        statistics: the stream's own account.
        longest_pause: seconds between two answers, or before the first.
        seconds: for the whole stream.
    """

    inputs: int
    predictions: int
    tally: Tally
    wanted_kills: int
    kills: Sequence[Kill]
    statistics: StreamStatistics
    longest_pause: float
    seconds: float

    def problems(self) -> list[str]:
        """Everything that is wrong, in words; empty if all is well."""
        counts = self.tally
        found = [
            f"{number} {what}"
            for number, what in (
                (counts.lost, "lost"),
                (counts.duplicated, "duplicated"),
                (counts.foreign, "to an image that was never sent"),
                (counts.out_of_order, "out of order"),
                (counts.differing, "differing from offline"),
            )
            if number
        ]
        if self.predictions != self.inputs:
            found.append(f"{self.predictions} predictions for {self.inputs} inputs")
        if len(self.kills) < self.wanted_kills:
            found.append(f"only {len(self.kills)} of {self.wanted_kills} kills")
        if self.statistics.resumes < len(self.kills):
            found.append(f"only {self.statistics.resumes} resumes for {len(self.kills)} kills")
        return found


class Trial:
    """Streams images, kills the replica that serves them, and reports.

    Args:
        images: the inputs.
        offline: what each of them gives offline.
        places: after how many answers to kill, ascending. A place that is reached before the
            stream has resumed from the kill before it waits for that.
        kill: kills the process of the replica with this name and returns its id; called in a
            thread.
    """

    def __init__(
        self,
        images: Sequence[Image],
        offline: Sequence[Prediction],
        *,
        places: Sequence[int],
        kill: Callable[[str], int],
    ) -> None:
        self.kills: list[Kill] = []
        self.answers: list[Prediction] = []
        self._images = images
        self._offline = offline
        self._places = list(places)
        self._kill = kill
        self._stream: PredictionStream[Prediction] | None = None

    def statistics(self) -> StreamStatistics | None:
        """The stream's own account; None before it has begun."""
        return self._stream.statistics() if self._stream is not None else None

    async def run(self, client: StreamClient[Image, Prediction]) -> Report:
        """Stream every image once.

        Raises:
            StreamError: the stream failed.
            FixtureError: the replica could not be killed.
        """
        begin = last = time.monotonic()
        longest = 0.0
        # With lanes, others may have done the work of a replica that was killed, before the stream
        # has come back itself; here each kill is to be met by a resume.
        async with client.stream(self._images, lanes=1) as stream:
            self._stream = stream
            async for answer in stream:
                now = time.monotonic()
                longest, last = max(longest, now - last), now
                self.answers.append(answer)
                await self._fire(stream)
            statistics = stream.statistics()
        return Report(
            inputs=len(self._images),
            predictions=len(self.answers),
            tally=tally(self._images, self._offline, self.answers),
            wanted_kills=len(self._places),
            kills=self.kills,
            statistics=statistics,
            longest_pause=longest,
            seconds=last - begin,
        )

    async def _fire(self, stream: PredictionStream[Prediction]) -> None:
        done = len(self.kills)
        if done == len(self._places) or len(self.answers) < self._places[done]:
            return
        now = stream.statistics()
        # The last one killed is still not replaced. To count resumes is not enough: a stream that
        # leaves a replica in good order resumes, too.
        if now.resumes < done or now.replica in [kill.replica for kill in self.kills]:
            return
        pid = await asyncio.to_thread(self._kill, now.replica)
        self.kills.append(Kill(after=len(self.answers), replica=now.replica, pid=pid))
