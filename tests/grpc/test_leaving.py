"""Leaving in order: a server that drains, health checks that cease, attempts that are old."""

import asyncio

import pytest
from faces import only_async
from faulty import FaultyEcho
from helpers import collect, numbered, until

from servestream_client import ConfigurationError, RetryPolicy, Watchdog
from servestream_client.server import StreamService, add_to_server, stuck
from servestream_client.testing import FaultProxy
from servestream_client.testing.faults import Fault, FaultKind, LocalPlan

ITEMS = numbered(2000)


class Versioned(FaultyEcho):
    def __init__(self, version: str) -> None:
        super().__init__(LocalPlan())
        self.code_version = version


async def trickle(items, gate):
    """One by one, and the second half once the gate is open."""
    for number, item in enumerate(items):
        if number == len(items) // 2:
            await gate.wait()
        yield item


@only_async
async def test_streams_move_before_their_server_stops(connect):
    import grpc.aio

    servers = []
    for version in ("old", "new"):
        service, server = Versioned(version), grpc.aio.server()
        add_to_server(service, server)
        servers.append((service, server, server.add_insecure_port("127.0.0.1:0")))
        await server.start()
    (old, old_server, old_port), (_, new_server, new_port) = servers
    gate = asyncio.Event()
    async with FaultProxy(f"127.0.0.1:{old_port}") as proxy, connect(proxy.target) as client:
        streams = [client.stream(trickle(ITEMS, gate)) for _ in range(10)]
        firsts = [await anext(stream) for stream in streams]
        proxy.upstream = f"127.0.0.1:{new_port}"
        old.drain(5)
        stopping = asyncio.ensure_future(old_server.stop(5))
        await until(lambda: all(s.statistics().code_version == "new" for s in streams))
        await stopping  # in order, since nobody is left
        gate.set()
        rests = await asyncio.gather(*map(collect, streams))
        assert [[first, *rest] for first, rest in zip(firsts, rests, strict=True)] == [ITEMS] * 10
        assert {stream.statistics().resumes for stream in streams} == {1}
    await new_server.stop(None)


async def test_a_server_that_leaves_takes_no_further_streams(serve, connect):
    service = Versioned("1")
    target = await serve(service)
    service.drain(1)
    retry = RetryPolicy(
        attempts=2, connect_attempts=2, connect_timeout=0, initial=0.001, maximum=0.001
    )
    async with connect(target, retry=retry) as client:
        with pytest.raises(Exception, match=r"draining.*this server is leaving"):
            await collect(client.stream([b"x"]))


async def test_a_grace_that_is_over_ends_the_attempt(serve, connect):
    service = Versioned("1")
    service.plan.add(Fault(FaultKind.HANG, 2))
    # The client would wait for longer than this test lasts.
    async with connect(await serve(service), close_timeout=600.0) as client:
        stream = client.stream([b"1", b"2"])
        assert await anext(stream) == b"1"
        service.drain(0.05)
        waiting = asyncio.ensure_future(anext(stream))
        await until(lambda: stream.statistics().attempts > 1)
        await stream.aclose()
        waiting.cancel()
        await asyncio.wait({waiting})


@only_async
async def test_health_checks_that_cease_move_each_stream_once(serve, connect):
    service = Versioned("1")
    target = await serve(service)
    gate = asyncio.Event()

    async def check_until(done):
        while not done():
            await service.check_health()
            await asyncio.sleep(0)

    async with connect(target) as client:
        stream = client.stream(trickle(ITEMS, gate))
        assert await anext(stream) == b"1"
        await check_until(lambda: len(service._kits()._checks._periods) == 5)
        # Now they cease. The stream has nowhere else to go: it comes back, and is left alone.
        await until(lambda: stream.statistics().resumes == 1)
        gate.set()
        assert await collect(stream) == ITEMS[1:]
        assert stream.statistics().resumes == 1
        # They come again, and cease again: another sign, another move.
        gate.clear()
        stream = client.stream(trickle(ITEMS, gate))
        assert await anext(stream) == b"1"
        await service.check_health()
        await until(lambda: stream.statistics().resumes == 1)
        gate.set()
        assert await collect(stream) == ITEMS[1:]


@only_async
async def test_streams_of_a_replica_that_was_forgotten_are_asked_again(serve, connect, monkeypatch):
    monkeypatch.setattr("servestream_client.server.kits._AGAIN_SECONDS", 0.05)
    service = Versioned("1")
    target = await serve(service)
    gate = asyncio.Event()
    async with connect(target) as client:
        stream = client.stream(trickle(ITEMS, gate))
        assert await anext(stream) == b"1"
        for _ in range(3):
            await service.check_health()
        await until(lambda: stream.statistics().resumes >= 3)
        await service.check_health()
        gate.set()
        assert await collect(stream) == ITEMS[1:]


class Overriding(Versioned):
    async def check_health(self) -> None:
        await super().check_health()
        raise RuntimeError("the model is gone")


async def test_a_health_check_of_ones_own_calls_ours():
    service = Overriding("1")
    for _ in range(3):
        with pytest.raises(RuntimeError, match="the model is gone"):
            await service.check_health()
    assert len(service._kits()._checks._periods) == 2


class Kept(StreamService[bytes, bytes]):
    max_concurrency = 1

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def predict(self, item: bytes) -> bytes:
        while not self.go.is_set():
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                continue
        return item


async def test_a_replica_whose_places_are_all_kept_is_not_well(serve, connect, monkeypatch):
    monkeypatch.setattr(stuck, "STUCK_SECONDS", 0.1)
    service = Kept()
    watchdog = Watchdog(item_timeout=0.05)
    async with connect(await serve(service), watchdog=watchdog) as client:
        await service.check_health()
        results = await collect(client.stream([b"x"], return_exceptions=True))
        assert "longer than" in str(results[0])
        await until(lambda: service._kit().workers.stuck)
        with pytest.raises(RuntimeError, match="all handler slots"):
            await service.check_health()
        service.go.set()
        await until(lambda: not service._kit().workers.stuck)
        await service.check_health()


@only_async
async def test_old_attempts_move_by_themselves(echo, connect):
    gate = asyncio.Event()
    retry = RetryPolicy(max_attempt_age=0.05)
    async with connect(echo, retry=retry) as client:
        stream = client.stream(trickle(ITEMS, gate))
        first = await anext(stream)
        await until(lambda: stream.statistics().resumes >= 3)
        gate.set()
        assert [first, *await collect(stream)] == ITEMS
        assert stream.statistics().duplicates == 0


@only_async
async def test_an_idle_stream_that_moves_for_its_age_fails_never(echo, connect):
    gate = asyncio.Event()
    retry = RetryPolicy(max_attempt_age=0.05, attempts=3, give_up_after=0.5)
    async with connect(echo, retry=retry) as client:
        stream = client.stream(trickle(ITEMS, gate))
        results = [await anext(stream) for _ in range(len(ITEMS) // 2)]
        await until(lambda: stream.statistics().resumes >= 20)
        gate.set()
        assert [*results, *await collect(stream)] == ITEMS


@only_async
async def test_a_stream_is_asked_to_leave_once(serve, connect, caplog):
    service = Versioned("1")
    service.plan.add(Fault(FaultKind.HANG, 2))
    async with connect(await serve(service)) as client:
        stream = client.stream([b"1", b"2", b"3"])
        assert await anext(stream) == b"1"
        (runner,) = service._kit()._active._streams.values()
        for _ in range(5):
            runner.leave("every place is kept")
        assert [record.message for record in caplog.records].count("every place is kept") == 1
        await stream.aclose()


@only_async
async def test_a_stream_that_is_asked_to_leave_while_it_is_admitted_moves(serve, connect):
    inside, go = asyncio.Event(), asyncio.Event()

    class Admitting(Versioned):
        async def admit(self, request):
            inside.set()
            await go.wait()

    service = Admitting("1")
    gate = asyncio.Event()
    async with connect(await serve(service)) as client:
        stream = client.stream(trickle(ITEMS, gate))
        first = asyncio.ensure_future(anext(stream))
        await inside.wait()
        service._kit().ask_to_leave(60)
        go.set()
        await until(lambda: stream.statistics().resumes == 1)
        gate.set()
        assert [await first, *await collect(stream)] == ITEMS


@only_async
async def test_a_stream_that_is_admitted_when_its_server_drains_goes_elsewhere(connect):
    import grpc.aio

    inside, go = asyncio.Event(), asyncio.Event()

    class Admitting(Versioned):
        async def admit(self, request):
            inside.set()
            await go.wait()

    servers = []
    for service in (Admitting("old"), Versioned("new")):
        server = grpc.aio.server()
        add_to_server(service, server)
        servers.append((service, server, server.add_insecure_port("127.0.0.1:0")))
        await server.start()
    (old, old_server, old_port), (_, new_server, new_port) = servers
    async with FaultProxy(f"127.0.0.1:{old_port}") as proxy, connect(proxy.target) as client:
        stream = client.stream(ITEMS)
        results = asyncio.ensure_future(collect(stream))
        await inside.wait()
        proxy.upstream = f"127.0.0.1:{new_port}"
        old.drain(5)
        go.set()
        stopping = asyncio.ensure_future(old_server.stop(5))
        assert await results == ITEMS
        assert stream.statistics().code_version == "new"
        await stopping
    await new_server.stop(None)


def test_ages_that_cannot_be():
    with pytest.raises(ConfigurationError, match="max_attempt_age"):
        RetryPolicy(max_attempt_age=0)
