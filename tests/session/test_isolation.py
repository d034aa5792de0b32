"""Suspects: who is one, how they are tried, and that nothing else is lost."""

import asyncio
import random

import pytest
from pools import pool_of
from test_exchange import in_virtual_time

from servestream_client import (
    ClientClosedError,
    FlowControl,
    ItemErrorKind,
    RetriesExhaustedError,
    RetryPolicy,
)
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.frames import (
    CodecId,
    Drain,
    OutputRun,
    ServerEnd,
    ServerFrame,
    Welcome,
)
from servestream_client.session.driver import StreamDriver
from servestream_client.session.isolation import LONE_BREAKS, Isolation, pause_after
from servestream_client.transport.memory import CallFailed, MemoryTransport

POISON = b"poison"
QUICK = RetryPolicy(attempts=20, initial=0.001, maximum=0.001)


class Server:
    """Breaks on poison, and ends the first attempts as it is told.

    Attributes:
        got: the inputs that came in each attempt, and whether it was for suspects.
        most_suspects: that it ever got at once.
        breaks: how often it broke on poison.
        go: it answers no suspect before.
    """

    def __init__(self, *ends: str) -> None:
        self.ends = list(ends)
        self.got: list[tuple[bool, list[int]]] = []
        self.most_suspects = 0
        self.breaks = 0
        self.go = asyncio.Event()
        self.go.set()

    @property
    def tried(self) -> list[list[int]]:
        """What was tried on streams for suspects."""
        return [numbers for isolated, numbers in self.got if isolated]

    async def __call__(self, requests):
        read = received = 0
        numbers: list[int] = []
        async for frame in requests:
            if frame.open is not None:
                isolated = frame.open.isolated
                self.got.append((isolated, numbers))
                yield ServerFrame(welcome=Welcome())
            read += frame.paced
            pairs = [
                (number, payload)
                for run in frame.inputs
                for number, payload in enumerate(run.payloads, run.first_number)
            ]
            numbers += [number for number, _ in pairs]
            if pairs and not isolated and self.ends:
                if self.ends.pop(0) == "breaks":
                    raise CallFailed("INTERNAL", "broke by chance")
                yield ServerFrame(drain=Drain(0))
                return
            if isolated and pairs:
                self.most_suspects = max(self.most_suspects, len(pairs))
                await self.go.wait()
            for number, payload in pairs:
                if payload == POISON:
                    self.breaks += 1
                    raise CallFailed("INTERNAL", "broke")
                received += 1
                yield ServerFrame(outputs=[OutputRun(number, [payload])], frames_read=read)
            if frame.end is not None:
                counts = ServerEnd(frame.end.last_number, received, received)
                yield ServerFrame(end=counts, frames_read=read)


class Stream:
    """A stream at a server, and what stands by it."""

    def __init__(self, server: Server, *payloads: bytes) -> None:
        self.endpoints = pool_of(lambda: MemoryTransport(server))
        self.outcomes: dict[int, bytes | ItemErrorKind] = {}
        self.lanes: list[StreamDriver] = []
        self.driver = self._driver(isolated=False)
        self.isolation = self.driver.observer = Isolation(self.driver, self._open_lane)
        for payload in payloads:
            self.driver.inlet.push(payload)
        self.driver.inlet.finish()

    def _driver(self, *, isolated: bool, **hooks) -> StreamDriver:
        return StreamDriver(
            session=ClientSession(
                stream_id=bytes(16),
                codec=CodecId("bytes"),
                flow=FlowControl(),
                ordered=False,
                isolated=isolated,
            ),
            endpoints=self.endpoints,
            retry=QUICK,
            timeout=None,
            close_timeout=0.1,
            eager=not isolated,
            **hooks,
        )

    def _open_lane(self, **hooks) -> StreamDriver:
        lane = self._driver(isolated=True, **hooks)
        lane.start()
        self.lanes.append(lane)
        return lane

    async def run(self) -> dict[int, bytes | ItemErrorKind]:
        """What became of each input."""
        self.driver.start()
        while not self.driver.finished:
            await self.driver.arrived.wait()
            self.driver.outlet.deliver(self._take)
        self.driver.outlet.deliver(self._take)
        await self.driver.aclose()
        if self.driver.error is not None:
            raise self.driver.error
        return self.outcomes

    def _take(self, delivery) -> None:
        assert delivery.number not in self.outcomes
        failure = delivery.failure
        self.outcomes[delivery.number] = delivery.payload if failure is None else failure.kind


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(1, count + 1)]


@pytest.mark.parametrize("ends", [["breaks"], ["leaves"] * 3, ["breaks", "leaves"]], ids=str)
def test_a_single_break_or_a_server_that_leaves_makes_no_suspects(ends):
    async def main():
        server = Server(*ends)
        assert list((await Stream(server, *numbered(5)).run()).values()) == numbered(5)
        assert server.tried == []

    in_virtual_time(main)


def test_what_was_under_way_at_two_breaks_leaves_the_stream_and_is_tried_one_at_a_time():
    async def main():
        server = Server("breaks", "breaks")
        stream = Stream(server, *numbered(5))
        assert await stream.run() == dict(enumerate(numbered(5), 1))
        five = [1, 2, 3, 4, 5]
        assert server.got == [(False, five), (False, five), (True, five), (False, [])]
        assert server.most_suspects == 1
        assert stream.isolation.attempts == 1

    in_virtual_time(main)


def test_what_broke_alone_lets_four_others_go_first_and_what_it_explains_goes_together():
    async def main():
        server = Server()
        outcomes = await Stream(server, *numbered(3), POISON, *numbered(20)).run()
        assert outcomes.pop(4) is ItemErrorKind.POISON
        assert list(outcomes.values()) == [*numbered(3), *numbered(20)]
        rest = list(range(13, 25))
        assert server.tried == [[4], [5, 6, 7, 8], [4], [9, 10, 11, 12], [4], rest]
        assert server.most_suspects > 1  # of the rest

    in_virtual_time(main)


@pytest.mark.parametrize("seed", range(15))
def test_whatever_kills_is_blamed_within_a_few_breaks_and_nothing_else_is(seed):
    rng = random.Random(seed)
    payloads = numbered(rng.randint(4, 300))
    poisons = set(rng.sample(range(len(payloads)), rng.randint(1, 3)))
    payloads = [POISON if at in poisons else each for at, each in enumerate(payloads)]

    async def main():
        server = Server()
        assert await Stream(server, *payloads).run() == {
            number: ItemErrorKind.POISON if payload == POISON else payload
            for number, payload in enumerate(payloads, 1)
        }
        assert server.breaks <= 7 * len(poisons)  # docs/protocol.md, section 14

    in_virtual_time(main)


def test_with_nobody_else_left_one_that_was_answered_shows_whose_fault_it_is():
    async def main():
        server = Server()
        outcomes = await Stream(server, b"good", POISON).run()
        assert outcomes == {1: b"good", 2: ItemErrorKind.POISON}
        assert server.tried == [[2], [1, 2], [2]]
        assert server.breaks == 2 + LONE_BREAKS

    in_virtual_time(main)


def test_where_nobody_is_answered_no_input_is_blamed():
    async def main():
        stream = Stream(Server(), POISON, POISON)
        with pytest.raises(RetriesExhaustedError):
            await stream.run()
        assert stream.outcomes == {}

    in_virtual_time(main)


def test_a_suspect_that_nobody_wants_any_more_is_not_tried():
    async def main():
        server = Server("breaks", "breaks")
        server.go.clear()
        stream = Stream(server, *numbered(3))
        running = asyncio.ensure_future(stream.run())
        await asyncio.sleep(1)
        stream.driver.cancel(2)
        server.go.set()
        assert await running == {1: b"1", 2: ItemErrorKind.CANCELLED, 3: b"3"}
        assert server.tried == [[1, 3]]

    in_virtual_time(main)


def test_a_stream_that_ends_takes_what_is_tried_for_it_along():
    async def main():
        server = Server("breaks", "breaks")
        server.go.clear()
        stream = Stream(server, *numbered(3))
        running = asyncio.ensure_future(stream.run())
        await asyncio.sleep(1)
        await stream.driver.aclose(ClientClosedError("no"))
        with pytest.raises(ClientClosedError):
            await running
        (lane,) = stream.lanes
        assert lane.finished
        assert server.tried == [[1]]

    in_virtual_time(main)


def test_who_breaks_its_server_alone_stands_back_while_nobody_else_is_answered():
    assert [pause_after(lone_breaks) for lone_breaks in range(1, 9)] == [0, 1, 2, 4, 8, 0, 0, 0]
