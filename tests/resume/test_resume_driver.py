"""What the task behind a call of a stub of one's own keeps to: bounds, endpoints, and its end."""

import asyncio
from contextlib import AsyncExitStack

import grpc
import grpc.aio
import pytest
from counting import LAST, Counting, CountingStub
from test_resumed_calls import ALL, QUICK, client_of, counting, served, values

from servestream_client import (
    Hooks,
    NotAServerError,
    RetriesExhaustedError,
    WrongEventLoopError,
)
from servestream_client.resume import ResumableClient, by_skip


@pytest.fixture
def service() -> Counting:
    return Counting()


@pytest.mark.parametrize("ahead", [1, 4, 16])
async def test_no_more_is_read_ahead_than_was_said(service, ahead):
    async with client_of(service) as client:
        slow = counting(client, ahead=ahead)
        first = (await anext(slow)).value
        for _ in range(3):  # what the server had sent of the first call has come with theirs
            assert await values(counting(client)) == ALL
        assert slow.statistics.received <= 1 + ahead
        assert [first, *await values(slow)] == ALL


async def test_a_call_that_is_closed_hands_out_nothing_more(service):
    async with client_of(service) as client:
        call = counting(client)
        await anext(call)
        while call.statistics.received < LAST // 4:
            await asyncio.sleep(0.001)
        await call.aclose()
        assert await values(call) == []


@pytest.mark.parametrize("last", [None, lambda reply: reply.value == LAST])
async def test_an_ok_before_all_that_was_delivered_is_not_the_end(service, last):
    service.fails = {20: grpc.StatusCode.UNAVAILABLE}

    class Cutting(Hooks):
        def metadata(self, attempt):
            service.early = 7 if attempt.attempt > 1 else 0
            return ()

    async with client_of(service, hooks=[Cutting()]) as client:
        with pytest.raises(RetriesExhaustedError, match="OK came before the last") as caught:
            await values(counting(client, by_skip(last=last)))
    assert caught.value.delivered.replies == 19


async def test_an_endpoint_that_is_none_is_left_for_another(service):
    async with AsyncExitStack() as stack:
        bare = grpc.aio.server()
        port = bare.add_insecure_port("127.0.0.1:0")
        await bare.start()
        stack.push_async_callback(bare.stop, None)
        right = await stack.enter_async_context(served(service))
        wrong = f"127.0.0.1:{port}"
        both = await stack.enter_async_context(
            ResumableClient([wrong, right], CountingStub, retry=QUICK)
        )
        calls = [values(counting(both)) for _ in range(8)]
        assert await asyncio.gather(*calls) == [ALL] * 8
        alone = await stack.enter_async_context(ResumableClient(wrong, CountingStub, retry=QUICK))
        with pytest.raises(NotAServerError):
            await values(counting(alone))


def test_a_client_belongs_to_the_event_loop_that_first_used_it():
    client = ResumableClient("127.0.0.1:1", CountingStub)
    asyncio.run(client.__aenter__())
    with pytest.raises(WrongEventLoopError, match="first used in another event loop"):
        asyncio.run(client.__aenter__())
