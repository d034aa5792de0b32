"""`client.predict`: many calls on few streams, each call's outcome its own."""

import asyncio
import contextvars
import gc
import itertools

import pytest
from faces import only_async
from faulty import streams_running
from helpers import until

from servestream_client import (
    BytesCodec,
    ClientClosedError,
    ConfigurationError,
    FlowControl,
    InputEncodeError,
    InputTooLargeError,
    ItemError,
    ItemErrorKind,
    OutputDecodeError,
    RetryPolicy,
    StreamClient,
    StreamTimeoutError,
    UnreachableError,
    WrongApplicationError,
)
from servestream_client.server import StreamService
from servestream_client.testing.faults import Fault, FaultKind

QUICK = RetryPolicy(initial=0.001, maximum=0.01)


class Upper(StreamService[bytes, bytes]):
    """Says what it is told in capitals; knows what it was called for and what was cancelled."""

    max_concurrency = 2000

    def __init__(self) -> None:
        self.streams: set[str] = set()
        self.open = 0
        self.running: list[bytes] = []
        self.cancelled: list[bytes] = []
        self.release = asyncio.Event()

    async def admit(self, request) -> None:
        self.streams.add(request.stream_id)

    async def predict(self, item: bytes) -> bytes:
        if item.startswith(b"bad"):
            raise ValueError(f"no {item.decode()}")
        if item.startswith(b"slow"):
            self.running.append(item)
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled.append(item)
                raise
            finally:
                self.running.remove(item)
        return item.upper()


@pytest.fixture
def service() -> Upper:
    return Upper()


@pytest.fixture
async def connected(serve, service):
    async with StreamClient(await serve(service), retry=QUICK) as client:
        yield client


async def test_a_call_gets_its_own_answer(connected):
    assert await connected.predict(b"one") == b"ONE"


async def test_many_calls_share_few_streams_and_each_gets_its_own_answer(connected, service):
    items = [b"item %d" % n for n in range(2000)]
    answers = await asyncio.gather(*map(connected.predict, items))
    assert answers == [item.upper() for item in items]
    assert 1 <= len(service.streams) <= 4


async def test_few_calls_at_a_time_need_one_stream(connected, service):
    for n in range(50):
        await connected.predict(b"%d" % n)
    assert len(service.streams) == 1


async def test_calls_spread_over_as_many_streams_as_allowed(serve, service, connect):
    async with connect(await serve(service), predict_streams=3) as client:
        calls = [asyncio.ensure_future(client.predict(b"slow %d" % n)) for n in range(100)]
        await until(lambda: len(service.running) == 100)
        assert len(service.streams) == 3
        service.release.set()
        assert len(await asyncio.gather(*calls)) == 100


async def test_a_failing_item_fails_its_own_call_only(connected):
    good, bad = await asyncio.gather(
        connected.predict(b"good"), connected.predict(b"bad one"), return_exceptions=True
    )
    assert good == b"GOOD"
    assert isinstance(bad, ItemError)
    assert bad.kind is ItemErrorKind.HANDLER
    assert bad.input == b"bad one"
    assert bad.number == 1
    assert "no bad one" in bad.text


async def test_a_failing_item_leaves_calls_that_wait_alone(connected, service):
    slow = asyncio.ensure_future(connected.predict(b"slow"))
    await until(lambda: service.running == [b"slow"])
    with pytest.raises(ItemError):
        await connected.predict(b"bad one")
    service.release.set()
    assert await slow == b"SLOW"
    assert len(service.streams) == 1


async def test_a_slow_call_does_not_hold_up_others(connected, service):
    slow = asyncio.ensure_future(connected.predict(b"slow"))
    await until(lambda: service.running == [b"slow"])
    assert await connected.predict(b"fast") == b"FAST"
    service.release.set()
    assert await slow == b"SLOW"


async def test_a_cancelled_call_is_cancelled_at_the_server_and_others_go_on(connected, service):
    one, other = (asyncio.ensure_future(connected.predict(b"slow %d" % n)) for n in (1, 2))
    await until(lambda: len(service.running) == 2)
    one.cancel()
    with pytest.raises(asyncio.CancelledError):
        await one
    await until(lambda: service.cancelled == [b"slow 1"])
    service.release.set()
    assert await other == b"SLOW 2"


@only_async
async def test_an_answer_frees_the_place_of_a_cancelled_call(serve, service, connect):
    flow = FlowControl(window_items=2)
    target = await serve(service)
    async with connect(target, flow=flow, predict_streams=1) as client:
        for _ in range(5):
            calls = [asyncio.ensure_future(client.predict(b"slow")) for _ in range(4)]
            await until(lambda: len(service.running) == 2)
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
        assert await client.predict(b"next") == b"NEXT"


async def test_a_timeout_ends_the_call_and_tells_what_is_known(connected, service):
    with pytest.raises(StreamTimeoutError) as caught:
        await connected.predict(b"slow", timeout=0.05)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.delivered.accepted == 1
    await until(lambda: not service.running)
    assert await connected.predict(b"next", timeout=20) == b"NEXT"


async def test_more_calls_than_fit_wait_for_their_turn(serve, service, connect):
    flow = FlowControl(window_items=3, window_bytes=50)
    async with connect(await serve(service), flow=flow, predict_streams=2) as client:
        items = [b"%d" % n * (n % 40) for n in range(300)]
        answers = await asyncio.gather(*map(client.predict, items))
        assert answers == [item.upper() for item in items]


# ------------------------------------------------------------------ bad input


async def test_an_item_that_the_codec_refuses_fails_at_once(connected, service):
    with pytest.raises(InputEncodeError, match="BytesCodec takes bytes") as caught:
        await connected.predict("text")
    assert caught.value.input == "text"
    assert not service.streams


async def test_an_item_that_is_too_large_fails_at_once(serve, service, connect):
    async with connect(await serve(service), flow=FlowControl(max_item_bytes=10)) as client:
        with pytest.raises(InputTooLargeError):
            await client.predict(b"x" * 11)
        assert await client.predict(b"x" * 10) == b"X" * 10


async def test_an_item_that_is_too_large_for_the_server_fails_alone(serve, connect):
    class Small(Upper):
        flow = FlowControl(max_item_bytes=10)

    async with connect(await serve(Small())) as client:
        with pytest.raises(InputTooLargeError) as caught:
            await client.predict(b"x" * 11)
        assert caught.value.input == b"x" * 11
        assert await client.predict(b"x") == b"X"


async def test_an_output_that_cannot_be_decoded_fails_its_call(serve, service, connect):
    class Picky(BytesCodec):
        def decode_output(self, payload):
            if payload == b"ODD":
                raise ValueError("odd")
            return payload

    async with connect(await serve(service), codec=Picky()) as client:
        results = await asyncio.gather(
            *map(client.predict, (b"a", b"odd", b"b")), return_exceptions=True
        )
    assert results[::2] == [b"A", b"B"]
    assert isinstance(results[1], OutputDecodeError)
    assert results[1].input == b"odd"


@pytest.mark.parametrize("timeout", [0, -1])
async def test_a_timeout_that_cannot_work_is_refused(connected, timeout):
    with pytest.raises(ConfigurationError):
        await connected.predict(b"x", timeout=timeout)


@pytest.mark.parametrize("option", ["predict_streams", "streams_per_connection"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "4"])
async def test_options_that_cannot_work_are_refused(option, value, connect):
    with pytest.raises(ConfigurationError, match=option):
        connect("127.0.0.1:1", **{option: value})


async def test_every_call_at_an_unreachable_server_says_so(connect):
    retry = RetryPolicy(initial=0.001, maximum=0.002)
    async with connect("127.0.0.1:1", retry=retry) as client:
        results = await asyncio.gather(
            *(client.predict(b"%d" % n) for n in range(40)), return_exceptions=True
        )
    assert all(isinstance(result, UnreachableError) for result in results)
    assert len({id(result) for result in results}) == 40
    assert all(result.delivered.unsent == 1 for result in results)


async def test_a_stream_that_is_refused_fails_its_calls_and_the_next_call_asks_again(
    serve, connect
):
    class Named(Upper):
        application = "other"

    service = Named()
    async with connect(await serve(service), application="mine") as client:
        for _ in range(2):
            with pytest.raises(WrongApplicationError):
                await client.predict(b"x")


async def test_closing_the_client_fails_its_calls(serve, service, connect):
    client = connect(await serve(service))
    calls = [asyncio.ensure_future(client.predict(b"slow")) for _ in range(40)]
    await until(lambda: len(service.running) == 40)
    await client.aclose()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, ClientClosedError) for result in results)
    with pytest.raises(ClientClosedError):
        await client.predict(b"late")
    await until(lambda: not service.running)


# ------------------------------------------------------------------ failures


@pytest.mark.parametrize("kind", [FaultKind.CLOSE, FaultKind.GARBAGE])
async def test_calls_survive_a_break_of_their_stream(echo, plan, kind, connect):
    plan.add(*(Fault(kind, at=at) for at in (1, 30, 70)))
    async with connect(echo, retry=QUICK, predict_streams=1) as client:
        items = [b"%d" % n for n in range(200)]
        assert await asyncio.gather(*map(client.predict, items)) == items


BROKEN = contextvars.ContextVar("BROKEN")
"""The call that a handler runs for: each runs in the context of its stream."""


class Breaking(Upper):
    """Ends the whole call when it sees poison, unless it is told not to."""

    def __init__(self) -> None:
        super().__init__()
        self.breaks = 0
        self.isolated: list[bool] = []
        self.poison = b"poison"

    async def predict(self, item: bytes) -> bytes:
        if item == self.poison:
            self.breaks += 1
            BROKEN.get().set()
        return await super().predict(item)

    async def Stream(self, request_stream, grpc_context=None):
        broken = asyncio.Event()
        BROKEN.set(broken)

        async def watched():
            async for message in request_stream:
                if message.HasField("open"):
                    self.isolated.append(message.open.isolated)
                yield message

        async for frame in super().Stream(watched(), grpc_context):
            if broken.is_set():
                raise RuntimeError("broken")
            yield frame


async def test_a_poisonous_input_is_blamed_and_the_others_are_answered(serve, connect):
    service = Breaking()
    async with connect(await serve(service), retry=QUICK, predict_streams=1) as client:
        assert await client.predict(b"first") == b"FIRST"
        poisoned = asyncio.ensure_future(client.predict(b"poison"))
        n = 0
        while not poisoned.done():  # others are served meanwhile
            n += 1
            assert await client.predict(b"%d" % n) == b"%d" % n
        with pytest.raises(ItemError) as caught:
            await poisoned
    assert caught.value.kind is ItemErrorKind.POISON
    assert caught.value.input == b"poison"
    assert True in service.isolated
    assert service.breaks <= 8


async def test_where_nothing_is_answered_it_is_the_server_that_is_broken(serve, connect):
    service = Breaking()
    retry = RetryPolicy(initial=0.001, maximum=0.002, attempts=6)
    async with connect(await serve(service), retry=retry) as client:
        with pytest.raises(Exception, match="broken") as caught:
            await client.predict(b"poison")
    assert not isinstance(caught.value, ItemError)


# ------------------------------------------------------------------ leaving


async def test_an_idle_stream_is_given_back_and_a_new_one_is_opened_when_needed(
    serve, service, monkeypatch, connect
):
    monkeypatch.setattr("servestream_client.session.factory.LANE_IDLE_SECONDS", 0.01)
    async with connect(await serve(service)) as client:
        assert await client.predict(b"one") == b"ONE"
        await until(lambda: not streams_running())
        assert await client.predict(b"two") == b"TWO"
        assert len(service.streams) == 2


async def test_calls_from_other_options_have_streams_of_their_own(connected, service):
    other = connected.with_options(retry=RetryPolicy(attempts=3))
    assert await connected.predict(b"a") == b"A"
    assert await other.predict(b"b") == b"B"
    assert len(service.streams) == 2


async def test_a_client_that_is_dropped_leaves_no_stream_behind(
    serve, service, monkeypatch, connect
):
    def served() -> int:
        return sum(task.get_name() == "servestream reader" for task in streams_running())

    monkeypatch.setattr("servestream_client.session.factory.LANE_IDLE_SECONDS", 3600)
    async with connect(await serve(service)) as client:
        assert await client.predict(b"own") == b"OWN"
        for _ in range(20):  # as in a handler that makes one for each of its requests
            other = client.with_options(retry=QUICK)
            assert await other.predict(b"a") == b"A"
            del other
            await until(lambda: served() == 1)
        with pytest.raises(StreamTimeoutError):  # its lane ends once the server has let go
            await client.with_options(retry=QUICK).predict(b"slow", timeout=0.1)
        # The error is in a cycle with the frames that it came through, and keeps the client. What
        # looks for such takes its time, and not at each turn.
        turns = itertools.count()
        await until(lambda: (next(turns) % 200 or gc.collect() >= 0) and served() == 1)
        assert await client.predict(b"own") == b"OWN"
        assert len(service.streams) == 22
