"""Attempts in turn: one at a time, and what each one owes to that before it."""

import asyncio
import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from pools import pool_of
from test_exchange import in_virtual_time

from servestream_client import FlowControl, RetriesExhaustedError, RetryPolicy, StreamError
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.frames import (
    CodecId,
    OutputRun,
    RefusalKind,
    Refused,
    ServerEnd,
    ServerFrame,
    Welcome,
)
from servestream_client.protocol.states import ClientState
from servestream_client.session import admissions
from servestream_client.session.announcer import Announcer
from servestream_client.session.attempt import StreamParts
from servestream_client.session.attempts import Attempts
from servestream_client.session.breaker import CircuitBreaker
from servestream_client.session.endpoints import Endpoint
from servestream_client.session.lanes import Inlet
from servestream_client.session.outage import Outage
from servestream_client.session.outcome import AttemptFailed
from servestream_client.signals import Signal
from servestream_client.transport.classify import Decision, Verdict
from servestream_client.transport.memory import CallFailed, MemoryLink, MemoryTransport

BREACH = ServerFrame(outputs=[OutputRun(999, [b"never sent"])])


class Row:
    """The attempts of a stream of so many inputs, at a server that ends them as it is told.

    Attributes:
        opens: whether each open carried inputs.
        at: when they came.
        no_progress: for each attempt, whether it took a token of the bucket.
        stands_back: by how many delays, after each.
    """

    def __init__(
        self,
        *ends: str,
        inputs: int = 20,
        nobody_waits: bool = False,
        nothing_open: Callable[[], bool] | None = None,
        places: tuple[str, ...] = ("memory",),
    ) -> None:
        self.ends = list(ends)
        self.opens: list[bool] = []
        self.at: list[float] = []
        self.stands_back = 0
        self.no_progress: list[bool] = []
        self.failed: list[AttemptFailed] = []
        self.session = ClientSession(
            stream_id=bytes(16), codec=CodecId("bytes"), flow=FlowControl()
        )
        inlet = Inlet(self.session, self)
        for _ in range(inputs):
            inlet.push(b"x")
        inlet.finish()
        self.endpoints = pool_of(lambda: Transport(self._serve, self), *places)
        self._admit = self.endpoints.endpoints[0].breaker.admit
        if len(places) == 1:
            self.endpoints.endpoints[0].breaker.admit = self._noting_admit
        outbound = Signal()
        settings = StreamParts(
            session=self.session,
            pool=self.endpoints,
            apart=False,
            eager=True,
            retry=RetryPolicy(attempts=5, connect_attempts=5, connect_timeout=0),
            outage=Outage(3600.0),
            announcer=Announcer(self.session.stream_id.hex()),
            outbound=outbound,
            notify=lambda: None,
            changed=outbound.set,
            nothing_open=nothing_open or (lambda: self.session.state is ClientState.ENDED),
            close_timeout=5.0,
        )
        self.attempts = Attempts(settings, on_failed=self._on_failed, nobody_waits=nobody_waits)

    def wake_writer(self) -> None:
        """Nobody writes yet."""

    async def _noting_admit(self, *args, no_progress, **kwargs):
        self.no_progress.append(no_progress)
        return await self._admit(*args, no_progress=no_progress, **kwargs)

    def _on_failed(self, failed: AttemptFailed) -> None:
        assert self.attempts.exchange is None  # it is called between two attempts
        assert self.session.state is ClientState.IDLE
        self.failed.append(failed)
        if self.stands_back:
            self.attempts.stand_back(self.stands_back)

    async def _serve(self, requests):
        """The ends in turn; beyond them all inputs are answered."""
        number = len(self.opens)
        end = self.ends[number] if number < len(self.ends) else "answers all"
        frame = await anext(requests)
        self.opens.append(bool(frame.inputs))
        self.at.append(asyncio.get_running_loop().time())
        if end == "wrong":
            yield ServerFrame(refused=Refused(RefusalKind.CODEC, "no"))
        if end == "refuses":
            yield ServerFrame(refused=Refused(RefusalKind.OVERLOADED, "busy"))
        if end in ("wrong", "refuses", "dies"):
            raise CallFailed("INTERNAL", "it died")
        yield ServerFrame(welcome=Welcome())
        if end == "welcomes":
            raise CallFailed("INTERNAL", "it died")
        read = received = 0
        while True:
            read += frame.paced
            for run in frame.inputs:
                received += len(run.payloads)
                if end == "answers one":
                    yield ServerFrame(outputs=[OutputRun(run.first_number, run.payloads[:1])])
                    raise CallFailed("INTERNAL", "it died")
                yield ServerFrame(
                    outputs=[OutputRun(run.first_number, run.payloads)], frames_read=read
                )
            if end == "breach":
                yield BREACH
            if frame.end is not None:
                counts = ServerEnd(frame.end.last_number, received, received)
                yield ServerFrame(end=counts, frames_read=read)
                return
            frame = await anext(requests)


class Link(MemoryLink):
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True
        super().cancel()


class Transport(MemoryTransport):
    def __init__(self, server: Callable, row: Row) -> None:
        super().__init__(server)
        self.links: list[Link] = []
        self.row = row

    def open(self, metadata=(), *, apart=False) -> Link:
        assert all(link.cancelled for link in self.links)  # there is one at a time
        if self.row.endpoints.single:
            assert len(self.row.no_progress) == len(self.links) + 1  # each was admitted
        self.links.append(Link(self._server))
        return self.links[-1]

    async def probe(self) -> str | None:
        return "nobody answers"


WELCOMED = {"welcomes", "answers one"}


@pytest.mark.parametrize("seed", range(10))
def test_each_one_depends_on_the_one_before_it(seed):
    rng = random.Random(seed)
    ends = []
    while len(ends) < 12:  # never so many in a row without progress that it gives up
        ends += rng.choices(["dies", "refuses", "welcomes"], k=rng.randrange(4))
        ends.append("answers one")

    async def main():
        row = Row(*ends)
        assert await row.attempts.run() is None
        assert row.opens == [False, *(end in WELCOMED for end in ends)]
        assert row.no_progress == [False, *(end != "answers one" for end in ends)]
        assert [failed.progressed for failed in row.failed] == [
            end == "answers one" for end in ends
        ]

    in_virtual_time(main)


@pytest.mark.parametrize(("nobody_waits", "calls"), [(False, 2), (True, 1)])
def test_a_breach_by_who_had_answered_all_is_looked_into_for_whoever_waits(nobody_waits, calls):
    async def main():
        row = Row(
            "breach", inputs=1, nobody_waits=nobody_waits, nothing_open=lambda: bool(row.opens)
        )
        assert await row.attempts.run() is None
        assert len(row.opens) == calls
        assert len(row.failed) == 1
        assert row.attempts.last.broke_protocol == nobody_waits

    in_virtual_time(main)


@pytest.mark.parametrize(
    ("ends", "error", "gave_up"),
    [
        (["answers one", *["dies"] * 9], RetriesExhaustedError, True),
        (["answers one", "wrong"], StreamError, False),
    ],
)
def test_the_end_says_whether_it_is_the_policys(ends, error, gave_up):
    async def main():
        row = Row(*ends)
        raised = await row.attempts.run()
        assert isinstance(raised, error)
        assert raised.__cause__ is row.failed[-1]
        assert row.attempts.gave_up == gave_up
        assert len(row.failed) == len(row.opens) == (6 if gave_up else 2)

    in_virtual_time(main)


def test_who_stands_back_comes_later_than_any_retry():
    async def main():
        row = Row("answers one", "welcomes")
        assert await row.attempts.run() is None
        longest = RetryPolicy().maximum
        assert max(later - at for at, later in pairwise(row.at)) <= longest
        row = Row("answers one", "welcomes")
        row.stands_back = 8
        assert await row.attempts.run() is None
        assert min(later - at for at, later in pairwise(row.at)) >= 4 * longest

    in_virtual_time(main)


def test_whoever_waits_at_an_endpoint_hears_of_one_that_is_back():
    async def main():
        row = Row(places=("a", "b"))
        endpoints = row.endpoints.endpoints
        for endpoint in endpoints:
            endpoint.unproven = False
            endpoint.breaker.trip(Verdict(Decision.RESUME, "down", unreachable=True))
        waits_at: list[Endpoint] = []

        def held(endpoint, admit):
            async def admits(*args, **kwargs):
                waits_at.append(endpoint)
                if len(waits_at) == 1:
                    await asyncio.sleep(3600)
                return await admit(*args, **kwargs)

            return admits

        for endpoint in endpoints:
            endpoint.breaker.admit = held(endpoint, endpoint.breaker.admit)
        running = asyncio.ensure_future(row.attempts.run())
        await asyncio.sleep(60)
        assert len(waits_at) == 1
        (other,) = set(endpoints) - set(waits_at)
        other.breaker.half_open()
        assert await running is None
        assert waits_at[1:] == [other]
        assert asyncio.get_running_loop().time() < 120

    in_virtual_time(main)


async def test_an_admission_that_comes_too_late_for_its_stream_is_given_back():
    """Or nobody would ever probe again."""
    breaker = CircuitBreaker()
    breaker.trip(Verdict(Decision.RESUME, "nobody answers", unreachable=True))
    task = asyncio.ensure_future(breaker.admit(RetryPolicy(), no_progress=False))
    admission = await task
    admissions._give_back(task)
    assert not admission.pending
    failed = asyncio.get_running_loop().create_future()
    failed.set_exception(TimeoutError())
    admissions._give_back(failed)
