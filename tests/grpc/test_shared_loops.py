"""Whose code runs on an event loop keeps it for one piece at a time, at both ends of a call."""

import asyncio

import pytest
from helpers import collect, numbered, outputs
from turns_clock import SLACK, SLOW, Clock, Stalls, clock

from servestream_client import BytesCodec, StreamClient, StreamTimeoutError, Watchdog
from servestream_client.server import StreamService

__all__ = ["clock"]


class Codec(BytesCodec):
    """The client's half takes its time, for what says slow."""

    def __init__(self, clock: Clock, encode: float = 0.0, decode: float = 0.0) -> None:
        self.clock = clock
        self.seconds = (encode, decode)
        self.decoded: list[bytes] = []

    def encode_input(self, item, /):
        self.clock.now += self.seconds[0] if item.startswith(b"slow") else 1e-6
        return item

    def decode_output(self, payload, /):
        self.decoded.append(payload)
        self.clock.now += self.seconds[1] if payload.startswith(b"slow") else 1e-6
        return payload


class Echo(StreamService[bytes, bytes]):
    async def predict(self, item):
        return item


def items(quick: int, slow: int) -> list[bytes]:
    return [b"quick"] * quick + [b"slow %d" % n for n in range(slow)]


@pytest.mark.parametrize("quick", [0, 300])
async def test_a_consumer_lets_the_loop_turn_after_each_slow_output(serve, clock, quick):
    target, stalls = await serve(Echo()), Stalls(clock)
    async with StreamClient(target, codec=Codec(clock, decode=SLOW)) as client:
        with stalls.watched():
            assert await collect(client.stream(items(quick, 50))) == items(quick, 50)
    assert stalls.longest <= SLOW + SLACK


async def test_consumers_on_one_loop_share_its_turns(serve, clock):
    target, stalls = await serve(Echo()), Stalls(clock)
    async with StreamClient(target, codec=Codec(clock, encode=SLOW, decode=SLOW)) as client:
        with stalls.watched():
            streams = [client.stream(items(20, 10)) for _ in range(8)]
            found = await asyncio.gather(*map(collect, streams))
    assert found == [items(20, 10)] * 8
    assert stalls.longest <= 2 * SLOW + SLACK


async def test_an_output_is_not_lost_to_a_consumer_that_is_cancelled_before_its_turn(serve, clock):
    async with StreamClient(await serve(Echo()), codec=Codec(clock, decode=SLOW)) as client:
        stream, got = client.stream(items(0, 40)), []
        while len(got) < 40:
            step = asyncio.ensure_future(anext(stream))
            for _ in range(2):
                await asyncio.sleep(0)
            step.cancel()
            try:
                got.append(await step)
            except asyncio.CancelledError:
                got.append(await anext(stream))
        assert got == items(0, 40)
        assert await collect(stream) == []


@pytest.mark.parametrize("slow", ["encode", "decode", "both"])
@pytest.mark.parametrize("before", [0, 3000], ids=["cold", "after quick ones"])
async def test_many_calls_that_wake_up_together_share_the_turns_of_the_loop(
    serve, clock, slow, before
):
    codec = Codec(
        clock,
        encode=SLOW * (slow in {"encode", "both"}),
        decode=SLOW * (slow in {"decode", "both"}),
    )
    stalls = Stalls(clock)
    async with StreamClient(await serve(Echo()), codec=codec) as client:
        await asyncio.gather(*(client.predict(b"quick") for _ in range(before)))
        with stalls.watched():
            answers = await asyncio.gather(*map(client.predict, items(0, 150)))
    assert answers == items(0, 150)
    # A slow one may slip in among quick ones, beside the one that spends the turn.
    assert stalls.longest <= (2 if before else 1) * SLOW + SLACK


async def test_waiting_for_a_turn_is_within_a_calls_timeout(serve, clock):
    loop = asyncio.get_running_loop()
    codec = Codec(clock, encode=SLOW)
    async with StreamClient(await serve(Echo()), codec=codec) as client:
        calls = [asyncio.ensure_future(client.predict(item)) for item in items(0, 200)]
        await asyncio.sleep(0)
        began = loop.time()
        with pytest.raises(StreamTimeoutError, match="other inputs") as caught:
            await client.predict(b"slow", timeout=0.001)
        assert caught.value.delivered.unsent == 1
        assert not all(call.done() for call in calls), f"it took {loop.time() - began} s"
        assert await asyncio.gather(*calls) == items(0, 200)


async def test_heartbeats_go_on_beside_a_handler_that_never_waits(serve, clock):
    """After many quick inputs, too: the loop turns between any two that are slow, so that no
    healthy server is taken for dead."""
    turns: list[int] = []
    stalls = Stalls(clock)

    class Service(StreamService[bytes, bytes]):
        async def predict(self, item):
            if item.startswith(b"slow"):
                turns.append(stalls.turns)
                clock.now += SLOW
            return item

    watchdog = Watchdog(heartbeat_interval=1.0)
    async with StreamClient(await serve(Service()), watchdog=watchdog) as client:
        assert len(await collect(client.stream(numbered(3000)))) == 3000
        with stalls.watched():
            stream = client.stream(items(100, 200))
            assert await collect(stream) == items(100, 200)
    assert stream.statistics().resumes == 0
    assert stalls.longest <= 2 * SLOW + SLACK
    together = [turns.count(turn) for turn in set(turns)]
    assert max(together) <= 2
    assert together.count(2) <= 1  # only where slow ones came after quick ones


async def test_a_server_whose_code_really_sleeps_goes_on_reading(serve):
    """20 ms of `time.sleep`: others on its loop have as many turns as there are inputs."""
    import time

    turns = [0]

    class Service(StreamService[bytes, bytes]):
        async def predict(self, item):
            if item == b"slow":
                turns.append(turns[0])
                time.sleep(0.02)  # noqa: ASYNC251 — what is tested
            return item

    async def others() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    other = asyncio.ensure_future(others())
    async with StreamClient(await serve(Service())) as client:
        results = await collect(client.stream([b"quick"] * 500 + [b"slow"] * 12))
    other.cancel()
    assert len(outputs(results)) == 512
    assert len(set(turns[1:])) >= 11
