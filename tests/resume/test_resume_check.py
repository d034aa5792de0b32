"""`assert_resumable` passes servers that go on, and finds those that do not."""

import pytest
from counting import LAST, Counting
from google.protobuf.wrappers_pb2 import Int64Value
from test_resumed_calls import FROM, client_of

from servestream_client.resume import assert_resumable, by_field, by_skip


def check(client, resume=FROM, **options):
    return assert_resumable(client, lambda stub: stub.Count, Int64Value(), resume, **options)


@pytest.mark.parametrize("resume", [FROM, by_field("value", into="value"), by_skip()])
async def test_one_that_goes_on_passes(resume):
    service = Counting()
    async with client_of(service) as client:
        replies = await check(client, resume)
    assert [reply.value for reply in replies] == list(range(1, LAST + 1))
    assert len(service.calls) >= 2 * LAST


async def test_one_that_ignores_where_to_begin_is_found():
    service = Counting()
    service.ignores = True
    async with client_of(service) as client:
        with pytest.raises(AssertionError, match="cut behind reply 1: a reply with value 1 came"):
            await check(client)


async def test_one_that_repeats_its_last_reply_is_found():
    async with client_of(Counting()) as client:
        with pytest.raises(AssertionError, match="came after one with 1"):
            await check(client, by_field("value", into="value", step=0))


async def test_one_that_leaves_one_out_is_found():
    text = "behind reply 1, the call gave 39 replies, and 40 undisturbed: reply 2 is value: 3"
    async with client_of(Counting()) as client:
        with pytest.raises(AssertionError, match=text):
            await check(client, by_field("value", into="value", step=2))


async def test_one_whose_ok_comes_early_is_found():
    service = Counting()
    service.early = 30  # which nobody notices without last=
    async with client_of(service) as client:
        with pytest.raises(AssertionError, match="the call gave 31 replies, and 30 undisturbed"):
            await check(client, by_field("value", into="value"))


async def test_one_that_is_not_deterministic_is_found():
    service = Counting()
    service.drifts = 1
    async with client_of(service) as client:
        with pytest.raises(AssertionError, match="cut behind reply"):
            await check(client, by_skip())


async def test_cuts_are_spread_where_there_are_many_replies():
    service = Counting()
    async with client_of(service) as client:
        await check(client, most_cuts=4)
    assert len(service.calls) == 1 + 2 * 4


async def test_a_call_without_replies_is_no_proof():
    async with client_of(Counting()) as client:
        request = Int64Value(value=LAST + 1)
        resume = by_field("value", into="value")
        with pytest.raises(AssertionError, match="no reply"):
            await assert_resumable(client, lambda stub: stub.Count, request, resume)
