"""One attempt: what belongs to its call dies with it, however it ends."""

import asyncio
import gc
import math
import weakref
from collections.abc import Callable

import pytest
from noting import Noting
from pools import pool_of
from test_exchange import after_welcome, answers, in_virtual_time, mute

from servestream_client import FlowControl, RetryPolicy
from servestream_client.events import AttemptEnded, AttemptOutcome, AttemptStarted
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.frames import (
    CodecId,
    Drain,
    OutputRun,
    RefusalKind,
    Refused,
    ServerFrame,
    Welcome,
)
from servestream_client.protocol.states import ClientState
from servestream_client.session.announcer import Announcer
from servestream_client.session.attempt import Attempt, StreamParts
from servestream_client.session.lanes import Inlet
from servestream_client.session.outage import Outage
from servestream_client.session.outcome import AttemptFailed
from servestream_client.signals import Signal
from servestream_client.transport.classify import Decision, Verdict
from servestream_client.transport.memory import CallFailed, MemoryLink, MemoryTransport

AWAY = Verdict(Decision.RESUME, "nobody answers", unreachable=True)
COMPLETE, BROKEN = AttemptOutcome.COMPLETE, AttemptOutcome.BROKEN
LEFT, CLOSED = AttemptOutcome.LEFT, AttemptOutcome.CLOSED


class BugError(Exception):
    """One in the package."""


class Link(MemoryLink):
    """Notes by name that it was cancelled: nothing may have to keep it for that."""

    def __init__(self, server: Callable, told: list[str]) -> None:
        super().__init__(server)
        self._told = told

    def cancel(self) -> None:
        self._told.append("cancelled")
        super().cancel()


class Transport(MemoryTransport):
    def __init__(self, server: Callable) -> None:
        super().__init__(server)
        self.links: list[weakref.ref[Link]] = []
        self.told: list[str] = []

    def open(self, metadata=(), *, apart=False) -> Link:
        link = Link(self._server, self.told)
        self.links.append(weakref.ref(link))
        return link


class Made:
    """An attempt of a stream with one input, at a scripted server."""

    def __init__(self, server: Callable, *, more: bool = False) -> None:
        self.hooks = Noting()
        self.transport = Transport(server)
        self.session = ClientSession(
            stream_id=bytes(16), codec=CodecId("bytes"), flow=FlowControl()
        )
        inlet = Inlet(self.session, self)
        inlet.push(b"x")
        if not more:
            inlet.finish()
        self.outage = Outage(10.0)
        self.endpoints = pool_of(lambda: self.transport)
        (self.endpoint,) = self.endpoints.endpoints
        self.changed: Callable[[], None] = lambda: None
        self.deadline = math.inf

    def wake_writer(self) -> None:
        """Nobody writes yet."""

    async def run(self) -> AttemptFailed | None:
        settings = StreamParts(
            session=self.session,
            pool=self.endpoints,
            apart=False,
            eager=True,
            retry=RetryPolicy(open_timeout=30),
            outage=self.outage,
            announcer=Announcer(self.session.stream_id.hex(), [self.hooks]),
            outbound=Signal(),
            notify=lambda: None,
            changed=self.changed,
            nothing_open=lambda: self.session.state is ClientState.ENDED,
            close_timeout=5.0,
        )
        self.admission = await self.endpoint.breaker.admit(RetryPolicy(), no_progress=False)
        self.attempt = Attempt(
            settings, self.endpoint, self.admission, alone=False, deadline=self.deadline
        )
        return await self.attempt.run()

    def assert_over(self, outcome: AttemptOutcome) -> None:
        assert self.attempt.exchange is None
        assert not self.admission.pending
        assert self.session.state is ClientState.IDLE
        assert self.transport.told == ["cancelled"] * len(self.transport.links)
        assert len(self.hooks.of(AttemptStarted)) == 1
        assert [event.outcome for event in self.hooks.of(AttemptEnded)] == [outcome]
        gc.collect()
        assert [link() for link in self.transport.links if link() is not None] == []


async def refuses(_):
    yield ServerFrame(refused=Refused(RefusalKind.OVERLOADED, "busy"))


async def drains(requests):
    yield ServerFrame(welcome=Welcome())
    async for frame in requests:
        if frame.inputs:
            yield ServerFrame(outputs=[OutputRun(1, [b"x"])], frames_read=1)
            yield ServerFrame(drain=Drain(1000))
            return


def dies(requests):
    """Its exception is one of its own, which is not kept here."""
    return after_welcome(fails=CallFailed("INTERNAL", "it died"))(requests)


ENDS = {
    "complete": (answers, COMPLETE),
    "refused": (refuses, BROKEN),
    "drained": (drains, LEFT),
    "failed": (dies, BROKEN),
    "breach": (after_welcome(ServerFrame(outputs=[OutputRun(9, [b"never sent"])])), BROKEN),
    "unanswered": (mute, BROKEN),
}


@pytest.mark.parametrize("end", ENDS)
def test_whatever_the_server_does_nothing_is_left_of_the_attempt(end):
    async def main():
        server, outcome = ENDS[end]
        made = Made(server, more=end == "drained")
        failed = await made.run()
        assert (failed is None) == (end == "complete")
        assert made.attempt.welcomed == (end not in ("refused", "unanswered"))
        assert made.attempt.broke_protocol == (end == "breach")
        made.assert_over(outcome)

    in_virtual_time(main)


# ---------------------------------------------------------------- what it raises


def fails(*_: object, **__: object):
    raise BugError


BUGS = {
    "transport": lambda made: setattr(made.transport, "open", fails),
    "beginning": lambda made: setattr(made.session, "begin", fails),
    "traffic": lambda made: setattr(made.session, "next_frame", fails),
    "owner": lambda made: setattr(made, "changed", fails),
}


@pytest.mark.parametrize("where", BUGS)
def test_a_bug_leaves_nothing_of_it(where):
    async def main():
        made = Made(answers)
        BUGS[where](made)
        with pytest.raises(Exception) as caught:
            await made.run()
        assert BugError in (type(caught.value), type(caught.value.__cause__))
        if where in ("traffic", "owner"):
            del caught  # its traceback leads through the traffic
        made.assert_over(BROKEN)

    in_virtual_time(main)


def test_where_patience_ends_in_an_open_the_last_failure_is_told():
    async def main():
        made = Made(mute)
        made.outage.failed(asyncio.get_running_loop().time(), AWAY)
        with pytest.raises(AttemptFailed) as caught:
            await made.run()
        assert asyncio.get_running_loop().time() == pytest.approx(10)
        made.assert_over(BROKEN)
        assert caught.value.verdict is AWAY  # and it is kept until here

    in_virtual_time(main)


@pytest.mark.parametrize("welcome", [False, True])
def test_who_is_interrupted_closes_the_call(welcome):
    async def main():
        made = Made(after_welcome() if welcome else mute)
        running = asyncio.ensure_future(made.run())
        await asyncio.sleep(1)
        assert made.attempt.welcomed == welcome
        assert made.admission.pending != welcome
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        del running  # it knows where it was cancelled, and so does what woke this task up
        await asyncio.sleep(0)
        made.assert_over(CLOSED)

    in_virtual_time(main)


# ---------------------------------------------------------------- what it says


@pytest.mark.parametrize(
    ("deadline", "told"), [(math.inf, 0), (2.5, 2500), (0.0, 1), (1e30, 3_153_600_000_000)]
)
def test_the_open_says_how_long_the_stream_has(deadline, told):
    """In milliseconds; 0 is for those that have any time."""
    opens = []

    async def server(requests):
        opens.append((await anext(requests)).open)
        raise CallFailed("INTERNAL", "no")
        yield

    async def main():
        made = Made(server)
        made.deadline = deadline
        await made.run()

    in_virtual_time(main)
    (opened,) = opens
    assert opened.deadline_ms == told
