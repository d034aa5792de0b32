"""`predict_batch` over sockets: one call for what came on whatever stream."""

import asyncio

import pytest
from faces import only_async
from helpers import collect, failures, numbered, outputs, until

from servestream_client import FlowControl, ItemError, ItemErrorKind
from servestream_client.server import StreamService

LONG = 3600.0  # seconds that no test lasts


class Batches(StreamService[bytes, bytes]):
    """Says what it is told in capitals, and knows what each of its calls was for."""

    max_batch_size = 10

    def __init__(self) -> None:
        self.calls: list[list[bytes]] = []
        self.running = 0
        self.cancelled = 0
        self.hold = asyncio.Event()
        self.hold.set()

    async def predict_batch(self, items: list[bytes]) -> list[bytes]:
        self.calls.append(items)
        self.running += 1
        try:
            await self.hold.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        for item in items:
            if item.startswith(b"bad"):
                raise ValueError(f"no {item.decode()}")
        return [item.upper() for item in items]


class Waiting(Batches):
    """Waits for a full batch."""

    batch_wait = LONG


def waiting(service: StreamService) -> int:
    """How many inputs wait for a batch."""
    attempts = service._kit().workers._waiting.all()
    return sum(attempt.session.intake.startable_inputs for attempt in attempts)


def named(name: str, count: int) -> list[bytes]:
    return [f"{name}{number}".encode() for number in range(1, count + 1)]


def capitals(items: list[bytes]) -> list[bytes]:
    return [item.upper() for item in items]


async def test_one_call_sees_items_of_several_streams(serve, connect):
    service = Waiting()
    inputs = [named("a", 1), named("b", 2), named("c", 3), named("d", 4)]
    async with connect(await serve(service)) as client:
        results = await asyncio.gather(*(collect(client.stream(items)) for items in inputs))
    assert results == [capitals(items) for items in inputs]
    (call,) = service.calls
    assert sorted(call) == sorted(item for items in inputs for item in items)


async def test_one_call_sees_items_of_several_clients(serve, connect):
    service = Waiting()
    service.max_batch_size = 4
    target = await serve(service)
    async with connect(target) as one, connect(target) as other:
        results = await asyncio.gather(
            collect(one.stream(named("a", 2))), collect(other.stream(named("b", 2), ordered=False))
        )
    assert [sorted(result) for result in results] == [[b"A1", b"A2"], [b"B1", b"B2"]]
    assert len(service.calls) == 1


async def test_what_arrives_during_a_call_is_the_next_batch(serve, connect):
    service = Batches()
    service.hold.clear()
    async with connect(await serve(service)) as client:
        first = asyncio.ensure_future(collect(client.stream([b"first"])))
        await until(lambda: service.running == 1)
        streams = [asyncio.ensure_future(collect(client.stream([b"%d" % n]))) for n in range(9)]
        await until(lambda: waiting(service) == 9)
        assert service.calls == [[b"first"]]
        service.hold.set()
        assert await first == [b"FIRST"]
        assert await asyncio.gather(*streams) == [[b"%d" % n] for n in range(9)]
    assert sorted(service.calls[1]) == [b"%d" % n for n in range(9)]
    assert len(service.calls) == 2


async def test_no_batch_is_larger_than_it_may_be(serve, connect):
    service = Batches()
    async with connect(await serve(service)) as client:
        results = await asyncio.gather(
            *(collect(client.stream(named(name, 300))) for name in "abcde")
        )
    assert results == [capitals(named(name, 300)) for name in "abcde"]
    assert max(map(len, service.calls)) == service.max_batch_size
    assert sum(map(len, service.calls)) == 1500


async def test_a_stream_that_nobody_reads_does_not_block_the_others(serve, connect):
    service = Batches()
    service.flow = FlowControl(output_bytes=1000)
    unread_flow = FlowControl(output_items=4, window_items=2000)
    target = await serve(service)
    async with connect(target, flow=unread_flow) as client, connect(target) as other:
        unread = client.stream([b"unread" + bytes(90) for _ in range(500)])
        assert (await anext(unread)).startswith(b"UNREAD")
        for _ in range(5):
            assert await collect(other.stream(named("a", 50))) == capitals(named("a", 50))
        started = sum(item.startswith(b"unread") for call in service.calls for item in call)
        # Read or under way, waiting at the server, and the batch that went beyond that.
        assert started <= 1 + 4 + 10 + service.max_batch_size
        assert len(await collect(unread)) == 499


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_batch_that_fails_is_tried_singly_and_one_item_is_blamed(serve, ordered, connect):
    service = Waiting()
    async with connect(await serve(service)) as client:
        good = client.stream(named("a", 5), ordered=ordered)
        bad = client.stream([b"b1", b"b2", b"bad", b"b4", b"b5"], return_exceptions=True)
        results = await asyncio.gather(collect(good), collect(bad))
    assert sorted(results[0]) == capitals(named("a", 5))
    assert outputs(results[1]) == [b"B1", b"B2", b"B4", b"B5"]
    (failure,) = failures(results[1])
    assert (failure.number, failure.kind) == (3, ItemErrorKind.HANDLER)
    assert "no bad" in failure.text
    assert [len(call) for call in service.calls] == [10] + [1] * 10


async def test_a_failing_item_ends_only_the_stream_that_would_have_it_so(serve, connect):
    service = Waiting()
    service.max_batch_size = 4
    async with connect(await serve(service)) as client:
        results = await asyncio.gather(
            collect(client.stream([b"a1", b"bad"])),
            collect(client.stream(named("b", 2))),
            return_exceptions=True,
        )
    assert isinstance(results[0], ItemError)
    assert results[0].number == 2
    assert results[1] == [b"B1", b"B2"]


async def test_calls_of_predict_are_batched_together(serve, connect):
    service = Waiting()
    service.max_batch_size = 50
    async with connect(await serve(service)) as client:
        items = named("item", 100)
        assert await asyncio.gather(*map(client.predict, items)) == capitals(items)
    assert [len(call) for call in service.calls] == [50, 50]


async def test_calls_of_predict_and_streams_share_batches(serve, connect):
    service = Waiting()
    async with connect(await serve(service)) as client:
        *predicted, streamed = await asyncio.gather(
            *map(client.predict, named("p", 4)), collect(client.stream(named("s", 6)))
        )
    assert predicted == capitals(named("p", 4))
    assert streamed == capitals(named("s", 6))
    assert len(service.calls) == 1


async def test_a_failing_call_of_predict_fails_alone(serve, connect):
    service = Waiting()
    async with connect(await serve(service)) as client:
        items = [*named("a", 5), b"bad", *named("b", 4)]
        results = await asyncio.gather(*map(client.predict, items), return_exceptions=True)
    assert isinstance(results[5], ItemError)
    assert results[5].input == b"bad"
    assert results[:5] + results[6:] == capitals(named("a", 5) + named("b", 4))


@only_async
async def test_a_call_goes_on_for_those_who_stay_and_ends_with_the_last(serve, connect):
    service = Waiting()
    service.max_batch_size = 3
    service.hold.clear()
    async with connect(await serve(service)) as client:
        calls = [asyncio.ensure_future(client.predict(item)) for item in named("a", 3)]
        await until(lambda: service.running == 1)
        for call in calls[:2]:
            call.cancel()
        await asyncio.wait(calls[:2])
        # The server has heard of that once it has served what was sent later.
        others = [asyncio.ensure_future(client.predict(item)) for item in named("b", 3)]
        await until(lambda: waiting(service) == 3)
        assert (service.running, service.cancelled) == (1, 0)
        calls[2].cancel()
        await until(lambda: service.cancelled == 1)
        service.hold.set()
        assert await asyncio.gather(*others) == capitals(named("b", 3))
    assert sorted(map(sorted, service.calls)) == [named("a", 3), named("b", 3)]


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_a_long_stream_in_batches_keeps_its_order(serve, asynchronous, connect):
    class Plain(StreamService[bytes, bytes]):
        def predict_batch(self, items):
            return capitals(items)

    service = Batches() if asynchronous else Plain()
    async with connect(await serve(service)) as client:
        assert await collect(client.stream(numbered(3000))) == numbered(3000)
