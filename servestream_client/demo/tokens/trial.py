"""Answers under fire: replicas are killed while they generate, and every token is compared."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce

from servestream_client.client import StreamClient
from servestream_client.demo.tokens.codec import Prompt, Token
from servestream_client.demo.tokens.tally import Tally, first_difference, tally
from servestream_client.events import AttemptEnded, AttemptWelcomed, Event, Hooks
from servestream_client.outputs import Seam, SeamKind

__all__ = ["Answer", "Joint", "Kill", "Report", "Trial", "WhoServes", "kinds", "median"]


@dataclass(slots=True)
class Answer:
    """One generation, as it comes.

    Attributes:
        prompt: what was asked.
        tokens: what came so far.
        times: when each did, in seconds of the monotonic clock.
        seams: where it was cut and went on.
    """

    prompt: Prompt
    tokens: list[Token] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    seams: tuple[Seam, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One replica that was killed.

    Attributes:
        replica: which.
        pid: its process.
        after: how many tokens had come by then, of all answers.
        at: when, in seconds of the monotonic clock.
    """

    replica: str
    pid: int
    after: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Joint:
    """A seam of an answer, and what became of it.

    Attributes:
        seam: as the client reports it.
        equal: tokens before and behind it, up to the next seam, were compared with the offline
            answer one by one, and are the same.
        pause: seconds from the cut to the next token; None: its replica was not killed.
    """

    seam: Seam
    equal: bool
    pause: float | None


class WhoServes(Hooks):
    """Which replicas carry the client's streams at the moment."""

    def __init__(self) -> None:
        self._replicas: dict[str, str] = {}

    def on_event(self, event: Event) -> None:
        if isinstance(event, AttemptWelcomed):
            self._replicas[event.stream_id] = event.replica
        elif isinstance(event, AttemptEnded):
            self._replicas.pop(event.stream_id, None)

    def busiest(self) -> str | None:
        """The replica that has the most streams; None: no one has any."""
        counts = Counter(self._replicas.values())
        return max(counts, key=lambda replica: (counts[replica], replica), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of one trial.

    Attributes:
        answers: what came.
        offline: what the same prompts give offline, in the same order.
        kills: replicas that were killed.
        wanted_kills: how many were to be.
        seconds: from the first prompt to the last token.
    """

    answers: Sequence[Answer]
    offline: Sequence[Sequence[Token]]
    kills: Sequence[Kill]
    wanted_kills: int
    seconds: float

    @property
    def tokens(self) -> int:
        """How many came."""
        return sum(len(answer.tokens) for answer in self.answers)

    def tally(self) -> Tally:
        """How all answers compare with the offline ones."""
        return reduce(
            lambda so_far, each: so_far + each,
            (tally(offline, answer.tokens) for offline, answer in self._pairs()),
            Tally(),
        )

    def equal(self) -> int:
        """How many answers are the offline ones, token for token."""
        return sum(list(offline) == answer.tokens for offline, answer in self._pairs())

    def joints(self) -> list[Joint]:
        """Every seam of every answer."""
        return [
            joint
            for offline, answer in self._pairs()
            for joint in _joints(offline, answer, self.kills)
        ]

    def pauses(self) -> list[float]:
        """Seconds from each cut to the next token of each generation that it cut."""
        return [joint.pause for joint in self.joints() if joint.pause is not None]

    def problems(self) -> list[str]:
        """Everything that is wrong, in words; empty if all is well."""
        counts = self.tally()
        found = [
            f"{number} {what}"
            for number, what in (
                (counts.lost, "tokens lost"),
                (counts.duplicated, "tokens duplicated"),
                (counts.differing, "tokens differing from offline"),
                (counts.unended, "answers without their end"),
                (len(self.answers) - self.equal(), "answers that are not the offline ones"),
            )
            if number
        ]
        if len(self.kills) < self.wanted_kills:
            found.append(f"only {len(self.kills)} of {self.wanted_kills} kills")
        cut = {joint.seam.before for joint in self.joints()}
        found += [
            f"the death of replica {kill.replica} cut no generation"
            for kill in self.kills
            if kill.replica not in cut
        ]
        return found

    def _pairs(self) -> Iterator[tuple[Sequence[Token], Answer]]:
        return zip(self.offline, self.answers, strict=True)


def _joints(offline: Sequence[Token], answer: Answer, kills: Sequence[Kill]) -> Iterator[Joint]:
    same = first_difference(offline, answer.tokens)
    total = max(len(offline), len(answer.tokens))
    ends = [*(seam.index for seam in answer.seams), total][1:]
    died = {kill.replica: kill.at for kill in kills}
    for seam, end in zip(answer.seams, ends, strict=True):
        at = died.get(seam.before)
        pause = None
        if at is not None and seam.index < len(answer.times):
            pause = answer.times[seam.index] - at
        yield Joint(seam=seam, equal=same >= end, pause=pause)


def kinds(joints: Sequence[Joint]) -> dict[str, int]:
    """How many seams of which kind there are, in words.

    *Exact* is only what was compared: a seam that the client calls continued is exact if the tokens
    around it are those of the offline run, and one that it calls exact is not if they are others.
    """
    words = {
        (SeamKind.CONTINUED, True): "continued, and exact by comparison",
        (SeamKind.CONTINUED, False): "continued, and not the same",
        (SeamKind.EXACT, True): "exact, also by comparison",
        (SeamKind.EXACT, False): "called exact, and not the same",
    }
    return dict(Counter(words[joint.seam.kind, joint.equal] for joint in joints))


def median(seconds: Sequence[float]) -> float:
    """Of pauses; 0.0 without any."""
    return statistics.median(seconds) if seconds else 0.0


class Trial:
    """Generates answers to all prompts at once, kills who serves them, and reports.

    Args:
        prompts: what to ask.
        offline: what each of them gives offline.
        places: after how many tokens, of all answers together, to kill; ascending.
        who: has been told of the client's events.
        kill: kills the process of the replica with this name and returns its id; called in a
            thread.
        ready: returns once all replicas serve again; called in a thread before each kill but the
            first.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        offline: Sequence[Sequence[Token]],
        *,
        places: Sequence[int],
        who: WhoServes,
        kill: Callable[[str], int],
        ready: Callable[[], None],
    ) -> None:
        self.answers: list[Answer] = [Answer(prompt) for prompt in prompts]
        self.kills: list[Kill] = []
        self._offline = offline
        self._places = list(places)
        self._who = who
        self._kill = kill
        self._ready = ready
        self._came = asyncio.Event()

    @property
    def tokens(self) -> int:
        """How many came so far."""
        return sum(len(answer.tokens) for answer in self.answers)

    async def run(self, client: StreamClient[Prompt, Token]) -> Report:
        """Generate all answers once.

        Raises:
            StreamError: a generation failed.
            FixtureError: a replica could not be killed.
        """
        begin = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            reading = [tasks.create_task(self._read(client, answer)) for answer in self.answers]
            killing = tasks.create_task(self._kill_all())
            await asyncio.gather(*reading)
            killing.cancel()
        return Report(
            answers=self.answers,
            offline=self._offline,
            kills=self.kills,
            wanted_kills=len(self._places),
            seconds=max(answer.times[-1] for answer in self.answers if answer.times) - begin,
        )

    async def _read(self, client: StreamClient[Prompt, Token], answer: Answer) -> None:
        async with client.generate(answer.prompt) as generation:
            async for token in generation:
                answer.tokens.append(token)
                answer.times.append(time.monotonic())
                answer.seams = generation.seams
                self._came.set()
            answer.seams = generation.seams

    async def _kill_all(self) -> None:
        for number, place in enumerate(self._places):
            if number:
                await asyncio.to_thread(self._ready)
            while self.tokens < place or (replica := self._who.busiest()) is None:
                self._came.clear()
                await self._came.wait()
            after = self.tokens
            pid, at = await asyncio.to_thread(self._kill_now, replica)
            self.kills.append(Kill(replica=replica, pid=pid, after=after, at=at))

    def _kill_now(self, replica: str) -> tuple[int, float]:
        return self._kill(replica), time.monotonic()
