"""`client.generate`: outputs as they come, over sockets, with either face."""

import asyncio
import gc

import pytest
from faces import only_async
from helpers import collect, until

from servestream_client import (
    BytesCodec,
    ClientClosedError,
    FlowControl,
    Hooks,
    InputEncodeError,
    InputTooLargeError,
    ItemError,
    ItemErrorKind,
    OutputDecodeError,
    RetryPolicy,
    SeamKind,
    StreamError,
    StreamTimeoutError,
    UnreachableError,
    Watchdog,
    WrongApplicationError,
)
from servestream_client.events import ItemFailed, StreamKind, StreamStarted
from servestream_client.server import Output, Replay, StreamService
from servestream_client.testing import Fault, FaultKind, StreamServer

QUICK = RetryPolicy(initial=0.001, maximum=0.01)


class Tokens(StreamService[bytes, bytes]):
    """As many as the item says, ``name:count``. A bad one fails behind the second, an endless one
    waits there, and says when it is closed.
    """

    application = "tokens"
    replay = Replay.SEEK

    def __init__(self):
        self.made: dict[str, int] = {}
        self.closed: list[str] = []

    async def generate(self, item, resume):
        name, count = item.decode().split(":")
        try:
            for index in range(resume.index, int(count)):
                if index == 2 and name == "bad":
                    raise ValueError("no such word")
                if index == 2 and name == "endless":
                    await asyncio.Event().wait()
                self.made[name] = index + 1
                yield b"%s %d" % (name.encode(), index)
        finally:
            self.closed.append(name)


class Restarting(StreamService[bytes, bytes]):
    replay = Replay.RESTART

    async def generate(self, item, resume):
        assert not resume
        name, count = item.decode().split(":")
        for index in range(int(count)):
            yield b"%s %d" % (name.encode(), index)


class Continuing(StreamService[bytes, bytes]):
    """Knows where it is by its checkpoint and the outputs since, and not by the index."""

    replay = Replay.CONTINUE

    async def generate(self, item, resume):
        name, count = item.decode().split(":")
        position = int(resume.checkpoint or 0) + len(resume.outputs)
        for index in range(position, int(count)):
            output = b"%s %d" % (name.encode(), index)
            yield Output(output, checkpoint=b"%d" % (index + 1)) if index % 50 == 49 else output


class InThreads(StreamService[bytes, bytes]):
    replay = Replay.SEEK

    def generate(self, item, resume):
        name, count = item.decode().split(":")
        for index in range(resume.index, int(count)):
            yield b"%s %d" % (name.encode(), index)


class Once(StreamService[bytes, bytes]):
    async def generate(self, item, resume):
        assert not resume
        name, count = item.decode().split(":")
        for index in range(int(count)):
            yield b"%s %d" % (name.encode(), index)


SERVICES = [Tokens, Restarting, Continuing, InThreads]
every_service = pytest.mark.parametrize("service", SERVICES, ids=lambda each: each.__name__)


def whole(name: str, count: int) -> list[bytes]:
    return [f"{name} {index}".encode() for index in range(count)]


@every_service
async def test_many_at_once_each_with_its_own(serve, connect, service):
    counts = [0, 1, 2, 1000, 300, 5, *range(10, 40)]
    async with connect(await serve(service())) as client:
        generations = [client.generate(b"g%d:%d" % each) for each in enumerate(counts)]
        found = await asyncio.gather(*map(collect, generations))
    assert found == [whole(f"g{n}", count) for n, count in enumerate(counts)]
    assert [generation.delivered for generation in generations] == counts
    assert not any(generation.seams for generation in generations)


@every_service
async def test_replicas_die_in_the_middle(connect, service):
    with StreamServer(service) as server:
        server.add_faults(
            Fault(FaultKind.KILL, at=1, output=120), Fault(FaultKind.CLOSE, at=1, output=300)
        )
        async with connect(server.target, retry=QUICK, predict_streams=1) as client:
            generations = [client.generate(b"g%d:500" % n) for n in range(8)]
            found = await asyncio.gather(*map(collect, generations))
        assert len(server.fired) == 2
        assert server.lives == 2
    assert found == [whole(f"g{n}", 500) for n in range(8)]
    kind = SeamKind.CONTINUED if service is Continuing else SeamKind.EXACT
    seams = [seam for generation in generations for seam in generation.seams]
    assert seams
    assert {seam.kind for seam in seams} == {kind}
    assert {(seam.before, seam.after) for seam in seams} <= {
        ("in-process-1", "in-process-2"),
        ("in-process-2", "in-process-2"),
    }


async def test_one_that_cannot_go_on_says_so_behind_what_came(connect):
    with StreamServer(Once) as server:
        server.add_faults(Fault(FaultKind.CLOSE, at=1, output=300))
        async with connect(server.target, retry=QUICK) as client:
            generation, seen = client.generate(b"g:500"), []
            with pytest.raises(ItemError) as caught:
                async for output in generation:
                    seen.append(output)
            assert await collect(client.generate(b"h:5")) == whole("h", 5)
    assert caught.value.kind is ItemErrorKind.INTERRUPTED
    assert seen == whole("g", caught.value.index)
    assert generation.delivered == len(seen)


# ---------------------------------------------------------------- leaving


async def test_to_close_it_closes_its_handler_at_once(serve, connect):
    service = Tokens()
    async with connect(await serve(service)) as client:
        generation = client.generate(b"endless:5")
        assert [await anext(generation) for _ in range(2)] == whole("endless", 2)
        assert service.closed == []
        await generation.aclose()
        await until(lambda: service.closed == ["endless"])
        assert await collect(generation) == []
        async with client.generate(b"endless:5") as entered:
            assert await anext(entered) == b"endless 0"
        await until(lambda: service.closed == ["endless"] * 2)
        assert await collect(client.generate(b"g:3")) == whole("g", 3)


async def test_to_drop_it_does_too(serve, connect):
    service = Tokens()
    async with connect(await serve(service)) as client:
        async for _ in client.generate(b"endless:5"):
            break
        gc.collect()
        await until(lambda: service.closed == ["endless"])


async def test_a_reader_who_stops_stops_its_handler_and_nobody_else(serve, connect):
    service = Tokens()
    flow = FlowControl(outputs_per_input=20)
    async with connect(await serve(service), flow=flow, predict_streams=1) as client:
        slow = client.generate(b"slow:1000")
        seen = [await anext(slow)]
        assert await collect(client.generate(b"quick:2000")) == whole("quick", 2000)
        assert service.made["slow"] <= 21
        seen += await collect(slow)
    assert seen == whole("slow", 1000)


async def test_a_client_that_is_closed_ends_them(serve, connect):
    service = Tokens()
    client = connect(await serve(service))
    async with client:
        begun, fresh = client.generate(b"endless:5"), client.generate(b"g:5")
        assert [await anext(begun) for _ in range(2)] == whole("endless", 2)
        waiting = asyncio.ensure_future(collect(begun))
        await until(lambda: begun_iterating(begun))
    with pytest.raises(ClientClosedError):
        await waiting
    with pytest.raises(ClientClosedError):
        await collect(fresh)
    with pytest.raises(ClientClosedError):
        client.generate(b"g:5")
    await until(lambda: service.closed == ["endless"])


def begun_iterating(generation) -> bool:
    return getattr(generation, "plain", generation)._iterating


async def test_a_timeout_ends_it_at_the_server_too(serve, connect):
    service, seen = Tokens(), []
    async with connect(await serve(service)) as client:
        with pytest.raises(StreamTimeoutError, match=r"0\.2 s") as caught:
            async for output in client.generate(b"endless:5", timeout=0.2):
                seen.append(output)
        await until(lambda: service.closed == ["endless"])
    assert seen == whole("endless", 2)
    assert (caught.value.delivered.accepted, caught.value.delivered.unsent) == (1, 0)


async def test_an_output_that_does_not_come_is_told_by_the_watchdog(serve, connect):
    service = Tokens()
    watchdog = Watchdog(item_timeout=0.1)
    async with connect(await serve(service), watchdog=watchdog) as client:
        with pytest.raises(ItemError) as caught:
            await collect(client.generate(b"endless:5"))
    assert (caught.value.kind, caught.value.index) == (ItemErrorKind.TIMEOUT, 2)


# ---------------------------------------------------------------- what fails


async def test_a_handler_that_raises_fails_it_behind_its_outputs(serve, connect):
    async with connect(await serve(Tokens())) as client:
        generation, seen = client.generate(b"bad:5"), []
        with pytest.raises(ItemError, match="no such word") as caught:
            async for output in generation:
                seen.append(output)
        assert (caught.value.number, caught.value.index) == (1, 2)
        assert caught.value.input == b"bad:5"
        assert seen == whole("bad", 2)
        assert await collect(generation) == []


class Picky(BytesCodec):
    def encode_input(self, item, /):
        if not item:
            raise ValueError("empty")
        return item

    def decode_output(self, payload, /):
        if payload.endswith(b" 3"):
            raise ValueError("no such word")
        return payload


async def test_what_the_codec_cannot_do_fails_it(serve, connect):
    service = Tokens()
    flow = FlowControl(max_item_bytes=100)
    async with connect(await serve(service), codec=Picky(), flow=flow) as client:
        with pytest.raises(InputEncodeError, match="empty"):
            await collect(client.generate(b""))
        with pytest.raises(InputTooLargeError):
            await collect(client.generate(b"x" * 101))
        generation = client.generate(b"g:100000")
        with pytest.raises(OutputDecodeError, match="no such word") as caught:
            await collect(generation)
        assert (caught.value.index, generation.delivered) == (3, 3)
        assert isinstance(caught.value.__cause__, ValueError)
        await until(lambda: service.closed == ["g"])


async def test_who_is_not_there_and_who_is_another(serve, connect):
    retry = RetryPolicy(attempts=2, initial=0.001, maximum=0.001)
    async with connect("127.0.0.1:1", retry=retry) as client:
        with pytest.raises(UnreachableError):
            await collect(client.generate(b"g:3"))
    async with connect(await serve(Tokens()), application="other") as client:
        with pytest.raises(WrongApplicationError):
            await collect(client.generate(b"g:3"))


async def test_predict_of_such_a_service_says_what_to_use(serve, connect):
    async with connect(await serve(Tokens())) as client:
        with pytest.raises(StreamError, match=r"use generate\(\), not predict\(\)"):
            await client.predict(b"g:3")


async def test_a_service_with_one_output_gives_one(echo, connect):
    async with connect(echo) as client:
        assert await collect(client.generate(b"only")) == [b"only"]


async def test_hooks_hear_of_its_streams_and_may_raise(serve, connect):
    events = []

    class Loud(Hooks):
        def on_event(self, event, /):
            events.append(event)
            raise StopAsyncIteration

    async with connect(await serve(Tokens()), hooks=[Loud()]) as client:
        assert await collect(client.generate(b"g:3")) == whole("g", 3)
        with pytest.raises(ItemError):
            await collect(client.generate(b"bad:3"))
    kinds = {event.kind for event in events if isinstance(event, StreamStarted)}
    assert kinds == {StreamKind.GENERATE}
    assert [event.index for event in events if isinstance(event, ItemFailed)] == [2]


@only_async
async def test_one_of_a_client_for_a_single_call_outlives_it(serve, connect):
    async with connect(await serve(Tokens())) as client:
        generation = client.with_options(watchdog=Watchdog(item_timeout=10)).generate(b"g:700")
        gc.collect()
        assert await collect(generation) == whole("g", 700)
