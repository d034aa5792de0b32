"""Calls of stubs of one's own, over sockets: nothing twice, nothing missing, whatever breaks."""

import asyncio
import gc
import pickle
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
import grpc.aio
import pytest
from counting import LAST, Counting, CountingStub, handlers
from google.protobuf.wrappers_pb2 import Int64Value, StringValue
from ports import reserved_port

from servestream_client import (
    AccessDeniedError,
    ClientClosedError,
    ConfigurationError,
    Hooks,
    RetriesExhaustedError,
    RetryPolicy,
    StreamError,
    StreamTimeoutError,
)
from servestream_client.resume import (
    Decision,
    NotResumableError,
    ResumableClient,
    by_field,
    by_skip,
    by_state,
    by_token,
)

sys.path.append(str(Path(__file__).parents[1] / "grpc"))
from processes import restarted_server

ALL = list(range(1, LAST + 1))
QUICK = RetryPolicy(initial=0.01, maximum=0.05, attempts=6, connect_timeout=0)
FROM = by_field("value", into="value", last=lambda reply: reply.value == LAST)


@pytest.fixture
def service() -> Counting:
    return Counting()


@asynccontextmanager
async def served(service: Counting):
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handlers(service),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@asynccontextmanager
async def client_of(service: Counting, **options: object):
    options = {"retry": QUICK, **options}
    async with (
        served(service) as target,
        ResumableClient(target, CountingStub, **options) as client,
    ):
        yield client


def counting(client: ResumableClient, resume=FROM, **options: object):
    return client.call(lambda stub: stub.Count, Int64Value(), resume, **options)


async def values(call) -> list[int]:
    return [reply.value async for reply in call]


CUTS = dict.fromkeys((1, 2, 3, 17, LAST), grpc.StatusCode.UNAVAILABLE)


@pytest.mark.parametrize("resume", [FROM, by_skip(last=lambda reply: reply.value == LAST)])
async def test_each_reply_comes_once_and_in_its_order(service, resume):
    service.fails = dict(CUTS)
    async with client_of(service) as client:
        call = counting(client, resume)
        assert await values(call) == ALL
    assert len(service.calls) == 1 + len(CUTS)
    assert call.statistics.received == LAST
    assert call.statistics.resumes == len(CUTS)


async def test_the_next_server_begins_behind_what_came(service):
    service.fails = dict(CUTS)
    async with client_of(service) as client:
        await values(counting(client))
    assert service.calls == [0, 0, 2, 3, 17, LAST]


async def test_servers_that_are_killed_are_left_for_their_heirs():
    async with restarted_server(Path(__file__).with_name("counting.py")) as (target, lives):
        async with ResumableClient(target, CountingStub, retry=QUICK_FOR_PROCESSES) as client:
            got = []
            async for reply in counting(client):
                got.append(reply.value)
                if reply.value in (5, 20):
                    lives[-1].kill()
            assert got == ALL
        assert len(lives) == 3


QUICK_FOR_PROCESSES = RetryPolicy(initial=0.05, maximum=0.2, give_up_after=60)


async def test_what_waits_for_a_token_is_held_back_until_it_comes(service):
    service.fails = dict.fromkeys((2, 4, 9), grpc.StatusCode.UNAVAILABLE)
    async with client_of(service) as client:
        resume = by_token("type_url", into="value")
        call = client.call(lambda stub: stub.Tokens, StringValue(), resume)
        assert [int(reply.value) async for reply in call] == ALL[:39]
    assert service.calls == [1, 1, 4, 7]


async def test_no_more_is_held_back_than_may_be(service):
    async with client_of(service) as client:
        resume = by_token("type_url", into="value", most=2)
        call = client.call(lambda stub: stub.Tokens, StringValue(), resume)
        assert len([reply async for reply in call]) == 39
        resume = by_token("type_url", into="value", most=1)
        with pytest.raises(NotResumableError, match="2 replies came without a type_url"):
            await anext(client.call(lambda stub: stub.Tokens, StringValue(), resume))


@pytest.mark.parametrize("resume", [by_field("no", into="value"), by_field("value", into="no")])
async def test_a_field_that_is_not_there_is_named(service, resume):
    service.fails = {5: grpc.StatusCode.UNAVAILABLE}
    async with client_of(service) as client:
        with pytest.raises(ConfigurationError, match="Int64Value has no field 'no'; it has value"):
            await values(counting(client, resume))


async def test_a_state_that_is_known_is_not_told_again(service):
    async with client_of(service) as client:
        call = client.call(lambda stub: stub.Watch, StringValue(value="x"), by_state())
        seen = [(await anext(call)).value for _ in range(3)]
        await call.aclose()
    assert seen == ["NOT_SERVING", "SERVING", "NOT_SERVING"]


# ------------------------------------------------------------------ servers that do otherwise


async def test_a_server_that_begins_anew_is_found_out(service):
    service.ignores, service.fails = True, {10: grpc.StatusCode.UNAVAILABLE}
    async with client_of(service) as client:
        call = counting(client)
        got = []
        with pytest.raises(NotResumableError, match="does not go on from value") as caught:
            async for reply in call:
                got.append(reply.value)
        assert got == list(range(1, 10))
        assert "delivered: 9 replies" in str(caught.value)
        with pytest.raises(StopAsyncIteration):
            await anext(call)


async def test_an_ok_that_comes_early_is_not_the_end(service):
    service.early = 7
    async with client_of(service) as client:
        assert await values(counting(client)) == ALL
    assert service.calls == [0, 8, 15, 22, 29, 36]


async def test_one_that_gives_other_replies_than_before_is_found_out(service):
    service.drifts, service.fails = 100, {10: grpc.StatusCode.UNAVAILABLE}
    async with client_of(service) as client:
        with pytest.raises(NotResumableError, match="not deterministic"):
            await values(counting(client, by_skip()))


async def test_a_call_whose_last_reply_came_needs_no_further_attempt(service):
    async with client_of(service) as client:
        call = counting(client)
        got = [(await anext(call)).value for _ in ALL]
        call.interrupt()  # before its OK is read
        assert got + await values(call) == ALL
    assert len(service.calls) == 1


async def test_one_that_ignores_a_token_is_found_out(service):
    service.fails = {5: grpc.StatusCode.UNAVAILABLE}
    service.ignores = True
    async with client_of(service) as client:
        call = client.call(
            lambda stub: stub.Tokens, StringValue(), by_token("type_url", into="value")
        )
        with pytest.raises(NotResumableError, match="came again: the server does not go on"):
            await values(call)


@pytest.mark.parametrize("resume", [FROM, by_skip(last=lambda reply: reply.value == LAST)])
async def test_there_may_be_no_reply_at_all(service, resume):
    async with client_of(service) as client:
        begin = Int64Value(value=LAST + 1)
        assert await values(client.call(lambda stub: stub.Count, begin, resume)) == []
    assert len(service.calls) == 1


@pytest.mark.parametrize("at", ["observe", "request", "complete", "statuses"])
@pytest.mark.parametrize(
    ("error", "becomes"),
    [
        (TimeoutError, TimeoutError),
        (StopAsyncIteration, RuntimeError),
        (asyncio.CancelledError, RuntimeError),
        (ZeroDivisionError, ZeroDivisionError),
    ],
)
async def test_what_the_callers_code_raises_ends_the_call_with_that(service, at, error, becomes):
    def raising(*_):
        raise error("their own")

    seen = []

    class Noting(Hooks):
        def on_event(self, event):
            seen.append(event)

    class Own(type(FROM())):
        pass

    if at == "statuses":
        service.fails = {5: grpc.StatusCode.UNAVAILABLE}
    else:
        setattr(Own, at, raising)
    statuses = raising if at == "statuses" else None
    async with client_of(service, statuses=statuses, hooks=[Noting()]) as client:
        call = counting(client, lambda: Own("value", "value", step=1, last=None))
        with pytest.raises(becomes, match="own"):
            await values(call)
    assert isinstance(seen[-1].error, becomes)
    names = [type(event).__name__ for event in seen]
    assert names.count("AttemptStarted") == names.count("AttemptEnded")


@pytest.mark.parametrize(
    ("method", "error", "text"),
    [
        (lambda stub: stub.One, ConfigurationError, "one reply"),
        (lambda stub: stub.Cuont, AttributeError, "Cuont"),
    ],
)
async def test_a_method_that_has_one_reply_or_is_not_there_is_told(service, method, error, text):
    async with client_of(service) as client:
        with pytest.raises(error, match=text):
            await values(client.call(method, Int64Value(), FROM))


# ------------------------------------------------------------------ limits, and ends


async def test_a_server_that_falls_silent_is_left(service):
    service.silent_at = 12
    async with client_of(service) as client:
        assert await values(counting(client, idle_timeout=0.3)) == ALL
    assert service.calls == [0, 12]


async def test_a_timeout_holds_for_all_attempts(service):
    service.silent_at = 12
    async with client_of(service) as client:
        call = counting(client, timeout=0.5)
        with pytest.raises(StreamTimeoutError, match="delivered: 11 replies"):
            await values(call)


async def test_a_call_that_gets_on_may_break_at_any_time_and_goes_on_at_once(service):
    service.fails = dict.fromkeys(ALL[1:], grpc.StatusCode.UNAVAILABLE)
    slow = RetryPolicy(initial=600, maximum=600)  # after a failure without progress
    async with client_of(service, retry=slow) as client:
        assert await values(counting(client)) == ALL
    assert len(service.calls) == LAST


class From(dict):
    """Whatever is asked for from a number on fails."""

    def __init__(self, first: int) -> None:
        self.first = first

    def __contains__(self, number: object) -> bool:
        return number >= self.first

    def pop(self, number: object) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE


async def test_the_retry_policy_ends_it(service):
    service.fails = From(5)
    async with client_of(service) as client:
        with pytest.raises(RetriesExhaustedError, match="delivered: 4 replies") as caught:
            await values(counting(client))
    assert "6 in a row brought nothing new, RetryPolicy.attempts" in str(caught.value)
    assert len(service.calls) == 1 + QUICK.attempts


async def test_what_is_final_is_raised_at_once(service):
    service.fails = {5: grpc.StatusCode.PERMISSION_DENIED}
    async with client_of(service) as client:
        with pytest.raises(AccessDeniedError, match="delivered: 4 replies"):
            await values(counting(client))
    assert len(service.calls) == 1


async def test_the_caller_may_know_a_status_better(service):
    service.fails = {5: grpc.StatusCode.PERMISSION_DENIED, 6: grpc.StatusCode.UNAVAILABLE}

    def moved(code: grpc.StatusCode, details: str) -> Decision | None:
        assert details == "as planned"
        return Decision.RESUME if code is grpc.StatusCode.PERMISSION_DENIED else None

    async with client_of(service, statuses=moved) as client:
        assert await values(counting(client)) == ALL


async def test_metadata_goes_with_each_attempt(service):
    service.fails = {5: grpc.StatusCode.UNAVAILABLE}
    seen = []

    class Noting(Hooks):
        def on_event(self, event):
            seen.append(type(event).__name__)

        def metadata(self, attempt):
            return [("attempt", str(attempt.attempt))]

    options = {"application": "numbers", "metadata": [("who", "me")], "hooks": [Noting()]}
    async with client_of(service, **options) as client:
        await values(counting(client))
    assert [(each["application"], each["who"], each["attempt"]) for each in service.metadata] == [
        ("numbers", "me", "1"),
        ("numbers", "me", "2"),
    ]
    one = ["AttemptStarted", "AttemptWelcomed", "AttemptEnded"]
    assert seen == ["StreamStarted", *one, *one, "StreamEnded"]


async def test_a_slow_first_reply_keeps_no_other_call_from_a_server_that_is_back(service):
    with reserved_port() as port:
        retry = RetryPolicy(initial=0.05, maximum=0.1, attempts=1000, connect_timeout=60)
        async with ResumableClient(f"127.0.0.1:{port}", CountingStub, retry=retry) as client:
            service.silent_at = 1
            first = asyncio.ensure_future(values(counting(client)))
            await asyncio.sleep(0.3)  # it is refused
            server = grpc.aio.server()
            server.add_generic_rpc_handlers((handlers(service),))
            server.add_insecure_port(f"127.0.0.1:{port}")
            await server.start()
            while not service.calls:
                await asyncio.sleep(0.01)
            assert await values(counting(client)) == ALL
            assert not first.done()
            first.cancel()
            await asyncio.wait({first})
        await server.stop(None)


async def test_whoever_is_closed_makes_no_further_attempt(service):
    seen = []

    class Noting(Hooks):
        def on_event(self, event):
            seen.append(event)

    service.pause = 0.5
    async with client_of(service, hooks=[Noting()]) as client:
        call = counting(client)
        waiting = asyncio.ensure_future(values(call))
        while not service.calls:
            await asyncio.sleep(0.01)
        await call.aclose()
        await asyncio.wait({waiting})
        await asyncio.sleep(0.1)
    assert len(service.calls) == 1
    names = [type(event).__name__ for event in seen]
    assert names[0] == "StreamStarted"
    assert names[-2:] == ["AttemptEnded", "StreamEnded"]
    assert isinstance(seen[-1].error, ClientClosedError)


async def test_a_client_that_is_closed_does_not_seem_to_have_all(service):
    service.pause = 0.01
    async with client_of(service) as client:
        call, unbegun = counting(client), counting(client)
        got = [(await anext(call)).value for _ in range(5)]
        await client.aclose()
        for each in (call, unbegun):
            with pytest.raises(ClientClosedError):
                got += await values(each)
    assert got == ALL[:5]


async def test_a_caller_who_polls_changes_nothing_of_the_retry_policy(service):
    service.fails = From(1)
    async with client_of(service) as client:
        call = counting(client)
        with pytest.raises(StreamError):
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.005):
                        await anext(call)
        assert len(service.calls) <= QUICK.attempts


async def test_its_error_can_be_sent_to_another_process(service):
    service.fails = {5: grpc.StatusCode.PERMISSION_DENIED}
    async with client_of(service) as client:
        with pytest.raises(AccessDeniedError) as caught:
            await values(counting(client))
    copied = pickle.loads(pickle.dumps(caught.value))
    assert str(copied) == str(caught.value)
    assert copied.delivered.replies == 4


@pytest.mark.parametrize("how", ["closed", "left", "dropped", "client closed"])
async def test_whoever_leaves_cancels_at_the_server(service, how):
    service.pause = 0.5  # it takes longer than anybody waits here
    async with client_of(service) as client:
        call = counting(client)
        assert (await anext(call)).value == 1
        if how == "closed":
            await call.aclose()
        elif how == "left":
            async with call:
                pass
        elif how == "dropped":
            del call
            gc.collect()
        else:
            await client.aclose()
        async with asyncio.timeout(15):
            while not service.cancelled:
                await asyncio.sleep(0.001)
        if how == "client closed":
            with pytest.raises(ClientClosedError, match="is closed; make a new one"):
                counting(client)


async def test_a_consumer_who_is_cancelled_may_go_on(service):
    service.pause = 0.02
    async with client_of(service) as client:
        call = counting(client)
        got = [(await anext(call)).value]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                while True:
                    got.append((await anext(call)).value)
        assert got + await values(call) == ALL
    assert len(service.calls) == 1  # to cancel a read of gRPC's would cancel the call


async def test_the_request_may_be_used_again(service):
    request = Int64Value(value=38)
    service.fails = {39: grpc.StatusCode.UNAVAILABLE}
    async with client_of(service) as client:
        call = client.call(lambda stub: stub.Count, request, FROM)
        request.value = 1
        assert await values(call) == [38, 39, 40]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"request": "x"}, "request must be a protobuf message"),
        ({"resume": object}, "has no observe"),
        ({"timeout": -1}, "timeout"),
        ({"idle_timeout": 0}, "idle_timeout must be positive"),
    ],
)
async def test_what_cannot_work_is_said_at_once(arguments, text):
    arguments = {"request": Int64Value(), "resume": FROM, **arguments}
    request, resume = arguments.pop("request"), arguments.pop("resume")
    async with ResumableClient("127.0.0.1:1", CountingStub) as client:
        with pytest.raises(ConfigurationError, match=text):
            client.call(lambda stub: stub.Count, request, resume, **arguments)
    with pytest.raises(ConfigurationError, match="stub must be"):
        ResumableClient("127.0.0.1:1", None)
