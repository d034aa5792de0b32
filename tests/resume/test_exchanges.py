"""Bidirectional calls of stubs of one's own: each request is answered once, whatever breaks."""

import asyncio

import grpc
import pytest
from counting import Counting
from google.protobuf.any_pb2 import Any
from google.protobuf.wrappers_pb2 import Int64Value
from test_resumed_calls import client_of

from servestream_client import ConfigurationError, InputsError, StreamTimeoutError
from servestream_client.resume import NotResumableError, by_key, in_order

NUMBERS = list(range(1, 101))
CUTS = (1, 2, 30, 31, 77, 100)


@pytest.fixture
def service() -> Counting:
    return Counting()


def requests(numbers=NUMBERS):
    return [Int64Value(value=number) for number in numbers]


def doubling(client, numbers=NUMBERS, answers=None, **options):
    asked = requests(numbers) if isinstance(numbers, list) else numbers
    return client.exchange(lambda stub: stub.Double, asked, answers or in_order(), **options)


async def doubled(exchange) -> list[tuple[int, int]]:
    return [(int(reply.type_url), int(reply.value)) async for reply in exchange]


EXPECTED = [(number, 2 * number) for number in NUMBERS]


@pytest.mark.parametrize("window", [1, 7, 64, 1000])
async def test_each_request_is_answered_once_and_in_order(service, window):
    service.fails = dict.fromkeys(CUTS, grpc.StatusCode.UNAVAILABLE)
    async with client_of(service) as client:
        assert await doubled(doubling(client, window=window)) == EXPECTED
    assert len(service.calls) == 1 + len(CUTS)


@pytest.mark.parametrize("swaps", [1, 3, 10])
async def test_replies_in_any_order_find_their_requests(service, swaps):
    service.swaps = swaps
    service.fails = dict.fromkeys(CUTS, grpc.StatusCode.UNAVAILABLE)
    # The field of the reply is text, and that of the request a number.
    answers = by_key("type_url", "value")

    def told(reply, unanswered):
        named = [Any(type_url=str(each.value)) for each in unanswered]
        return by_key("type_url", "type_url")(reply, named)

    async with client_of(service) as client:
        assert sorted(await doubled(doubling(client, answers=told))) == EXPECTED
        with pytest.raises(NotResumableError, match="type_url '1' answers none of the"):
            await doubled(doubling(client, [1], answers=answers))


async def test_no_more_are_under_way_than_the_window_has(service):
    service.silent_at = 5
    async with client_of(service) as client:
        exchange = doubling(client, window=3, idle_timeout=1.0)
        assert [await anext(exchange) for _ in range(4)]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await anext(exchange)
        assert len(exchange._driver._kind._unanswered) == 3
        service.silent_at = 0
        rest = await doubled(exchange)
        await exchange.aclose()
    assert [number for number, _ in rest] == NUMBERS[4:]


async def test_requests_may_come_late_and_from_anywhere(service):
    closed = []

    async def slowly():
        try:
            for each in requests([1, 2, 3]):
                await asyncio.sleep(0.01)
                yield each
        finally:
            closed.append(True)

    async with client_of(service) as client:
        assert await doubled(doubling(client, slowly())) == EXPECTED[:3]
        async with doubling(client, slowly()) as exchange:
            await anext(exchange)
    assert closed == [True, True]


async def test_what_the_requests_raise_comes_behind_the_replies(service):
    def failing():
        yield from requests([1, 2, 3])
        raise ZeroDivisionError("in the requests")

    async with client_of(service) as client:
        exchange = doubling(client, failing())
        assert [int((await anext(exchange)).value) for _ in range(3)] == [2, 4, 6]
        with pytest.raises(ZeroDivisionError, match="in the requests"):
            await anext(exchange)
        with pytest.raises(StopAsyncIteration):
            await anext(exchange)


async def test_a_request_may_be_changed_once_it_was_given(service):
    def reused():
        one = Int64Value()
        for number in NUMBERS:
            one.value = number
            yield one

    service.fails = dict.fromkeys(CUTS, grpc.StatusCode.UNAVAILABLE)
    async with client_of(service) as client:
        assert await doubled(doubling(client, reused())) == EXPECTED


async def test_without_requests_there_are_no_replies(service):
    async with client_of(service) as client:
        assert await doubled(doubling(client, [])) == []


async def test_an_ok_that_comes_early_is_not_the_end(service):
    service.early = 40
    async with client_of(service) as client:
        assert await doubled(doubling(client)) == EXPECTED
    assert len(service.calls) >= 3


@pytest.mark.parametrize("index", [-1, 100, None, True])
async def test_an_answer_to_no_request_is_told(service, index):
    async with client_of(service) as client:
        exchange = doubling(client, answers=lambda reply, unanswered: index)
        with pytest.raises(NotResumableError, match="is said to answer request"):
            await doubled(exchange)


@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit, StopAsyncIteration])
async def test_requests_that_raise_what_is_pythons_own_end_it_behind_the_replies(service, error):
    class Requests:
        def __init__(self):
            self.left = requests([1, 2])

        def __iter__(self):
            return self

        def __next__(self):
            if not self.left:
                raise error("their own")
            return self.left.pop(0)

    async with client_of(service) as client:
        exchange = doubling(client, Requests())
        assert [int((await anext(exchange)).value) for _ in range(2)] == [2, 4]
        with pytest.raises(RuntimeError, match=error.__name__):
            await anext(exchange)


async def test_slow_requests_are_no_silence_of_the_servers(service):
    async def slowly():
        for each in requests([1, 2, 3]):
            yield each
            await asyncio.sleep(0.5)

    async with client_of(service) as client:
        exchange = doubling(client, slowly(), idle_timeout=0.1)
        assert await doubled(exchange) == EXPECTED[:3]
        assert exchange.statistics.attempts == 1


async def test_a_request_without_a_reply_is_waited_for_so_long(service):
    service.silent_at = 3
    async with client_of(service) as client:
        exchange = doubling(client, [1, 2, 3, 4], idle_timeout=0.2, window=1)
        assert [(await anext(exchange)).type_url for _ in range(2)] == ["1", "2"]
        while 3 not in service.asked:
            await asyncio.sleep(0.001)
        service.silent_at = 0
        assert await doubled(exchange) == EXPECTED[2:4]
    assert len(service.calls) == 2


async def test_a_timeout_ends_it(service):
    service.silent_at = 5
    async with client_of(service) as client:
        with pytest.raises(StreamTimeoutError, match="delivered: 4 replies"):
            await doubled(doubling(client, timeout=0.3, window=4))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"numbers": 7}, InputsError, "must be an iterable"),
        ({"answers": "seq"}, ConfigurationError, "which request a reply answers"),
        ({"window": 0}, ConfigurationError, "window must be"),
    ],
)
async def test_what_cannot_work_is_said_at_once(service, arguments, error, text):
    async with client_of(service) as client:
        with pytest.raises(error, match=text):
            doubling(client, **arguments)


async def test_what_is_no_message_is_told(service):
    async with client_of(service) as client:
        with pytest.raises(InputsError, match="must be a protobuf message"):
            await doubled(doubling(client, iter([Int64Value(value=1), "x"])))
