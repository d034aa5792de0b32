"""How long a stream, or a call, waits for a server: one deadline for all that it waits for. The
whole client above the transport, in virtual time.
"""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from pools import pool_of
from virtual_time import connections, in_virtual_time, now

from servestream_client import BytesCodec, FlowControl, RetryPolicy, StreamError, Watchdog
from servestream_client.protocol.frames import (
    ClientFrame,
    OutputRun,
    RefusalKind,
    Refused,
    ServerFrame,
    Welcome,
)
from servestream_client.session.connection import Connection
from servestream_client.session.factory import StreamFactory
from servestream_client.session.predictor import Predictor
from servestream_client.session.stream import PredictionStream
from servestream_client.transport.memory import CallFailed, MemoryTransport

ITEMS = [b"%d" % n for n in range(1, 6)]


class Server:
    """Answers while it is up.

    Args:
        up: whether it is at a time.
        how: what it does where it is down.
    """

    def __init__(self, up: Callable[[float], bool] = lambda now: False, how: str = "away") -> None:
        self.up = up
        self.how = how
        self.calls: list[float] = []

    async def __call__(self, requests: AsyncIterator[ClientFrame]) -> AsyncIterator[ServerFrame]:
        self.calls.append(now())
        await asyncio.sleep(0.001)
        if not self.up(now()):
            async for frame in self._down(requests):
                yield frame
            return
        read = 0
        async for frame in requests:
            if not self.up(now()):
                raise CallFailed("UNAVAILABLE", "connection reset")
            if frame.open is not None:
                yield ServerFrame(welcome=Welcome())
            read += frame.paced
            for run in frame.inputs:
                yield ServerFrame(
                    outputs=[OutputRun(run.first_number, run.payloads)], frames_read=read
                )

    async def _down(self, requests: AsyncIterator[ClientFrame]) -> AsyncIterator[ServerFrame]:
        match self.how:
            case "away":
                raise CallFailed("UNAVAILABLE", "connection refused")
            case "busy":
                yield ServerFrame(refused=Refused(RefusalKind.OVERLOADED, "busy", 0))
            case "mute":
                await asyncio.Event().wait()
            case "breaks":
                raise CallFailed("INTERNAL", "as it happens")


class Client:
    def __init__(
        self, server: Server, retry: RetryPolicy, *, flow: FlowControl | None = None, lanes: int = 1
    ) -> None:
        self.connection = Connection(pool_of(lambda: MemoryTransport(server)))
        connections.append(self.connection)
        self.factory = StreamFactory(
            connection=self.connection,
            codec=BytesCodec(),
            application="",
            retry=retry,
            flow=flow or FlowControl(),
            watchdog=Watchdog(heartbeat_interval=None),
            close_timeout=0.1,
            hooks=(),
        )
        self.predictor: Predictor = self.factory.predictor(lanes)

    def stream(self, inputs: Any = ITEMS) -> PredictionStream:
        driver = self.factory.stream(inputs, ordered=True, timeout=None, parameters=None)
        return PredictionStream(
            driver, start=self.connection.start, decode=bytes, return_exceptions=False
        )

    async def known(self) -> None:
        """Let it have answered once."""
        assert [output async for output in self.stream()] == ITEMS

    async def times(self, ones: list[Awaitable]) -> list[float]:
        """When each of them fails, after how many seconds."""
        began = now()

        async def one(awaitable: Awaitable) -> float:
            with pytest.raises(StreamError):
                await awaitable
            return now() - began

        return await asyncio.gather(*(one(each) for each in ones))


async def rest(stream: PredictionStream) -> list:
    return [output async for output in stream]


@pytest.mark.parametrize("how", ["away", "busy", "mute", "breaks"])
@pytest.mark.parametrize("streams", [1, 7, 400])
def test_patience_ends_when_it_says_whatever_a_stream_waits_for(how, streams):
    """For the bucket that all share, for the probe of another, for its turn, for an answer."""

    async def main():
        server = Server(lambda now: now < 1, how)
        retry = RetryPolicy(give_up_after=2, attempts=100_000, open_timeout=0.5)
        client = Client(server, retry)
        await client.known()
        await asyncio.sleep(1)
        return await client.times([rest(client.stream()) for _ in range(streams)]), server

    ended, server = in_virtual_time(main())
    first_failure = 0.5 if how == "mute" else 0.001
    # A stream that came only to hear of another's failure has its patience from then on.
    assert min(ended) >= 2
    assert max(ended) <= 2 + 2 * first_failure + 0.5 * (how == "mute") + 0.3
    assert len(server.calls) <= 1 + 50 + 10 * 3 + streams


def test_an_open_that_nobody_answers_is_cut_at_the_deadline_and_told_by_its_true_reason():
    async def main():
        server = Server(lambda now: now < 1)
        client = Client(server, RetryPolicy(give_up_after=5, open_timeout=1000, attempts=1000))
        await client.known()
        await asyncio.sleep(1)
        began = now()
        stream = asyncio.ensure_future(rest(client.stream()))
        await asyncio.sleep(1)
        server.how = "mute"
        with pytest.raises(StreamError, match="connection refused"):
            await stream
        assert now() - began == pytest.approx(5, abs=0.01)

    in_virtual_time(main())


def test_healthy_attempts_of_minutes_between_breaks_are_no_outage():
    """Each break is followed by a server that takes the stream, and answers nothing for a while."""
    calls = itertools.count(1)

    async def server(requests):
        call = next(calls)
        yield ServerFrame(welcome=Welcome())
        frame = await anext(requests)
        while not frame.inputs:
            frame = await anext(requests)
        if call < 6:
            await asyncio.sleep(180)
            raise CallFailed("UNAVAILABLE", "the replica died")
        yield ServerFrame(
            outputs=[OutputRun(1, [b"1"])],
            frames_read=1,
        )
        async for _ in requests:
            pass

    async def main():
        client = Client(server, RetryPolicy(give_up_after=120, attempts=30))
        client.factory.connection.endpoints.endpoints[0].known = True
        stream = client.stream([b"1"])
        assert await anext(stream) == b"1"
        assert now() > 3 * 180
        await stream.aclose()

    in_virtual_time(main())


def test_a_server_that_only_welcomes_and_dies_is_given_up():
    async def server(requests):
        yield ServerFrame(welcome=Welcome())
        raise CallFailed("UNAVAILABLE", "the replica died")

    async def main():
        client = Client(server, RetryPolicy(give_up_after=20, attempts=10**6))
        (ended,) = await client.times([rest(client.stream())])
        assert ended == pytest.approx(20, abs=1)

    in_virtual_time(main())


def last_words(server: Callable, retry: RetryPolicy, streams: int = 1) -> list[str]:
    """What streams say that give up, to a target that has answered the client before."""

    async def main():
        client = Client(server, retry)
        client.factory.connection.endpoints.endpoints[0].known = True
        ends = [rest(client.stream()) for _ in range(streams)]
        return [str(error) for error in await asyncio.gather(*ends, return_exceptions=True)]

    return in_virtual_time(main())


FOR_EVER = RetryPolicy(give_up_after=2, attempts=10**6, open_timeout=0.5)


@pytest.mark.parametrize("how", ["away", "busy", "mute", "breaks"])
@pytest.mark.parametrize("streams", [1, 30])
def test_where_patience_has_run_out_the_error_says_so(how, streams):
    for said in last_words(Server(how=how), FOR_EVER, streams):
        assert "(2 s without a server have passed, RetryPolicy.give_up_after): " in said
    retry = RetryPolicy(give_up_after=100, attempts=3)
    for said in last_words(Server(how=how), retry, streams):
        assert "(3 in a row brought nothing new, RetryPolicy.attempts): " in said


def test_attempts_that_others_made_for_a_stream_are_not_told_as_its_own():
    said = last_words(Server(), RetryPolicy(attempts=4), streams=3)
    own = [each.partition(" gave up after attempt ")[2].partition(" (")[0] for each in said]
    assert {text.partition(" ")[0] for text in own} == {"2", "3"}
    for text in own:
        first, _, shared = text.partition(" and ")
        made, _, whose = shared.partition(" ")
        assert whose == "that other streams made for it"
        assert int(first) + int(made) == 4


def test_attempts_of_others_before_progress_are_past():
    calls, served = itertools.count(1), set()

    async def server(requests):
        if next(calls) < 12:
            raise CallFailed("UNAVAILABLE", "connection refused")
        frame = await anext(requests)
        if frame.open.stream_id not in served:
            served.add(frame.open.stream_id)
            yield ServerFrame(welcome=Welcome())
            while not frame.inputs:
                frame = await anext(requests)
            yield ServerFrame(outputs=[OutputRun(1, [b"1"])])
        raise CallFailed("INTERNAL", "as it happens")

    for said in last_words(server, RetryPolicy(attempts=20), streams=3):
        assert "(20 in a row brought nothing new" in said
        assert "other streams" not in said


def test_a_server_that_asks_for_more_time_than_there_is_is_told():
    async def server(requests):
        yield ServerFrame(refused=Refused(RefusalKind.OVERLOADED, "busy", 60_000))

    (said,) = last_words(server, FOR_EVER)
    assert "gave up after attempt 1 (the server asks for 60 s, more than" in said
    assert "RetryPolicy.give_up_after leaves): " in said


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("window", [1, 5])
def test_calls_wait_once_and_not_once_for_each_lane(lanes, window):
    async def main():
        server = Server(lambda now: now < 1)
        retry = RetryPolicy(give_up_after=2, attempts=100_000)
        client = Client(server, retry, lanes=lanes, flow=FlowControl(window_items=window))
        await client.predictor.predict(b"x", timeout=None)
        await asyncio.sleep(1)
        calls = [client.predictor.predict(b"%d" % n, timeout=None) for n in range(40)]
        return await client.times(calls)

    ended = in_virtual_time(main())
    assert min(ended) >= 1.9
    assert max(ended) <= 2.5


@pytest.mark.parametrize(
    ("window", "delays"),
    [
        (1, (0, 0.1, 1, 1.9, 2.5, 4, 10)),
        (2, (0, 0, 1, 2.5)),  # the last comes while the third's lane has a place and a second left
    ],
)
def test_a_call_made_later_has_its_patience_whole(window, delays):
    """Also one that waits for a place behind others that give up meanwhile."""

    async def main():
        server = Server(lambda now: now < 1)
        retry = RetryPolicy(give_up_after=2, attempts=100_000)
        client = Client(server, retry, lanes=1, flow=FlowControl(window_items=window))
        await client.predictor.predict(b"x", timeout=None)
        await asyncio.sleep(1)

        async def call(delay):
            await asyncio.sleep(delay)
            (ended,) = await client.times([client.predictor.predict(b"x", timeout=None)])
            return ended

        for took in await asyncio.gather(*(call(delay) for delay in delays)):
            assert took == pytest.approx(2, abs=0.3)

    in_virtual_time(main())


def test_calls_that_waited_behind_a_lane_that_gave_up_are_served_when_the_server_is_back():
    async def main():
        server = Server(lambda now: now < 1 or now > 2.5)
        retry = RetryPolicy(give_up_after=1.2, attempts=100_000)
        client = Client(server, retry, lanes=1, flow=FlowControl(window_items=1))
        await client.predictor.predict(b"x", timeout=None)
        await asyncio.sleep(1)

        async def call(delay):
            await asyncio.sleep(delay)
            return await client.predictor.predict(b"y", timeout=None)

        calls = [call(delay) for delay in (0, 0.0, 1, 1.1, 1.15)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [isinstance(result, StreamError) for result in results] == [True] * 2 + [False] * 3

    in_virtual_time(main())


@pytest.mark.parametrize("late", [0.5, 3, 4.9])
@pytest.mark.parametrize("streams", [1, 30])
@pytest.mark.parametrize("how", ["away", "breaks"])
def test_a_server_that_comes_up_late_is_found(late, streams, how):
    for seed in range(8 if streams == 1 else 2):
        random.seed(seed)

        async def main():
            client = Client(Server(lambda now: now >= late, how), RetryPolicy())
            return await asyncio.gather(*(rest(client.stream()) for _ in range(streams)))

        assert in_virtual_time(main()) == [ITEMS] * streams


@pytest.mark.parametrize("streams", [1, 30])
def test_one_that_does_not_is_given_up_soon_after(streams):
    async def main():
        client = Client(Server(), RetryPolicy())
        return await client.times([rest(client.stream()) for _ in range(streams)])

    ended = in_virtual_time(main())
    assert min(ended) >= 5
    assert max(ended) < 5.5


def test_streams_that_begin_one_after_another_are_each_given_up_in_their_time():
    async def main():
        client = Client(Server(), RetryPolicy())

        async def one(delay):
            await asyncio.sleep(delay)
            (ended,) = await client.times([rest(client.stream())])
            return ended

        return await asyncio.gather(*(one(delay) for delay in range(20)))

    ended = in_virtual_time(main())
    assert min(ended) >= 5
    assert max(ended) < 5.5


def test_what_is_final_is_told_at_once():
    async def server(requests):
        yield ServerFrame(refused=Refused(RefusalKind.APPLICATION, "another", 0))

    async def main():
        client = Client(server, RetryPolicy())
        (ended,) = await client.times([rest(client.stream())])
        assert ended < 0.1

    in_virtual_time(main())
