"""Every way to leave: nothing lost before it, nothing left after it, reasons where one looks."""

import asyncio
import gc

import grpc
import pytest
from effort import effort
from faces import only_async
from faulty import FaultyEcho, streams_running
from helpers import collect, numbered, until

from servestream_client import (
    ClientClosedError,
    RejectedError,
    StreamTimeoutError,
    WrongApplicationError,
)
from servestream_client.server import RefusalKind, Refuse, StreamService

pytestmark = pytest.mark.timeout(effort(180, 600))


class Waiting(StreamService[bytes, bytes]):
    """Answers 1 to 10, and then waits to be told. Knows who runs."""

    max_concurrency = 100

    def __init__(self) -> None:
        self.running = 0
        self.cancelled = 0
        self.go_on = asyncio.Event()

    async def predict(self, item: bytes) -> bytes:
        if int(item) > 10:
            self.running += 1
            try:
                await self.go_on.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            finally:
                self.running -= 1
        return item


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


@pytest.fixture
async def target(serve, waiting) -> str:
    return await serve(waiting)


async def gone(waiting: Waiting) -> None:
    """The server noticed: every handler that waited was cancelled."""
    await until(lambda: not streams_running())
    assert waiting.running == 0
    assert waiting.cancelled > 0


# ------------------------------------------------------------------ leaving early


async def test_break_ends_the_stream_once_it_is_dropped(target, waiting, connect):
    async with connect(target) as client:
        async for output in client.stream(numbered(50)):
            if output == b"10":
                await until(lambda: waiting.running == 40)
                break
        gc.collect()
        await until(lambda: waiting.cancelled == 40)
        await gone(waiting)


async def test_aclose_ends_the_stream_at_once(target, waiting, connect):
    async with connect(target) as client:
        stream = client.stream(numbered(50))
        for _ in range(10):
            await anext(stream)
        await until(lambda: waiting.running == 40)
        await stream.aclose()
        assert not [t for t in streams_running() if stream.statistics().stream_id in t.get_name()]
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        await stream.aclose()
        await gone(waiting)


async def test_async_with_ends_the_stream_at_once(target, waiting, connect):
    async with connect(target) as client:
        async with client.stream(numbered(50)) as stream:
            async for output in stream:
                if output == b"10":
                    await until(lambda: waiting.running == 40)
                    break
        await gone(waiting)


@only_async
async def test_cancelling_the_consumer_ends_everything(target, waiting, connect):
    async with connect(target) as client:
        consumer = asyncio.ensure_future(collect(client.stream(numbered(50))))
        await until(lambda: waiting.running == 40)
        consumer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consumer
        del consumer
        gc.collect()
        await gone(waiting)


@only_async
async def test_a_cancelled_wait_loses_nothing(target, waiting, connect):
    """A consumer that gave up waiting once can go on: what arrived meanwhile is still there."""
    async with connect(target) as client:
        stream = client.stream(numbered(50))
        seen = [await anext(stream) for _ in range(10)]
        for _ in range(5):
            step = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            step.cancel()
            await asyncio.wait({step})
        waiting.go_on.set()
        seen += await collect(stream)
        assert seen == numbered(50)


async def test_closing_the_client_ends_its_streams_and_says_so(target, waiting, connect):
    client = connect(target)
    consumer = asyncio.ensure_future(collect(client.stream(numbered(50))))
    await until(lambda: waiting.running == 40)
    await client.aclose()
    with pytest.raises(ClientClosedError):
        await consumer
    await client.aclose()
    await gone(waiting)


async def test_a_timeout_ends_the_stream_and_says_what_was_delivered(target, waiting, connect):
    async with connect(target) as client:
        seen = []
        with pytest.raises(StreamTimeoutError) as caught:
            async for output in client.stream(numbered(50), timeout=0.2):
                seen.append(output)
        # How far it came in that time is the machine's matter.
        assert seen == numbered(10)[: len(seen)]
        assert caught.value.delivered.taken_through == len(seen)
        assert isinstance(caught.value, TimeoutError)
        await until(lambda: not streams_running())


async def test_a_dropped_loop_leaves_no_task(target, waiting, connect):
    """A program that neither finishes its loop nor closes its client."""
    client = connect(target)
    stream = client.stream(numbered(50))
    await anext(stream)
    del stream
    gc.collect()
    await until(lambda: not streams_running())
    await client.aclose()


async def test_a_stream_that_was_never_iterated_leaves_nothing(target, connect):
    client = connect(target)
    client.stream(numbered(50))
    gc.collect()
    assert not streams_running()
    await client.aclose()


async def test_streams_cut_at_any_moment_give_back_their_places(serve, connect):
    class Single(StreamService[bytes, bytes]):
        max_concurrency = 1

        async def predict(self, item):
            await asyncio.sleep(0)
            return item

    async with connect(await serve(Single())) as client:
        for patience in range(200):
            step = asyncio.ensure_future(anext(stream := client.stream(numbered(3))))
            for _ in range(patience):
                await asyncio.sleep(0)
            await stream.aclose()
            await asyncio.gather(step, return_exceptions=True)
        assert await collect(client.stream(numbered(30))) == numbered(30)


# ------------------------------------------------------------------ the inputs' own end


async def test_an_exception_in_the_inputs_surfaces_after_the_outputs_before_it(client):
    def inputs():
        yield from numbered(100)
        raise ZeroDivisionError("in the inputs")

    seen = []
    with pytest.raises(ZeroDivisionError, match="in the inputs") as caught:
        async for output in client.stream(inputs()):
            seen.append(output)
    assert seen == numbered(100)
    assert caught.value.__notes__ == ["raised by the stream's inputs, after 100 of them"]


@only_async
async def test_an_exception_in_async_inputs_surfaces_likewise(client):
    async def inputs():
        for item in numbered(100):
            yield item
        await asyncio.sleep(0)
        raise ZeroDivisionError

    seen = []
    with pytest.raises(ZeroDivisionError):
        async for output in client.stream(inputs()):
            seen.append(output)
    assert seen == numbered(100)


async def test_an_exception_before_the_first_input_surfaces(client):
    def inputs():
        raise ZeroDivisionError
        yield b""

    with pytest.raises(ZeroDivisionError):
        await collect(client.stream(inputs()))


@only_async
async def test_cancellation_from_within_the_inputs_surfaces(client):
    async def inputs():
        yield b"1"
        raise asyncio.CancelledError

    seen = []
    with pytest.raises(RuntimeError, match="inputs raised CancelledError") as caught:
        async for output in client.stream(inputs()):
            seen.append(output)
    assert seen == [b"1"]
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)


@pytest.mark.parametrize(
    ("asynchronous", "connect"),
    [(False, "async"), (True, "async"), (False, "blocking")],
    indirect=["connect"],
)
async def test_generators_are_closed_with_the_stream(target, asynchronous, connect):
    closed = []

    def plain():
        try:
            while True:
                yield b"1"
        finally:
            closed.append("plain")

    async def asynchronously():
        try:
            while True:
                yield b"1"
        finally:
            await asyncio.sleep(0)
            closed.append("async")

    async with connect(target) as client:
        stream = client.stream(asynchronously() if asynchronous else plain())
        await anext(stream)
        await stream.aclose()
    assert closed == ["async" if asynchronous else "plain"]


@only_async
async def test_inputs_that_wait_for_ever_do_not_hang_the_close(target, connect):
    class Stubborn:
        def __aiter__(self):
            return self

        async def __anext__(self):
            await asyncio.Event().wait()

    async with connect(target) as client:
        stream = client.stream(Stubborn())
        step = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        await stream.aclose()
        with pytest.raises(ClientClosedError):
            await step
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


# ------------------------------------------------------------------ hundreds of times

ROUNDS = range(effort(30, 300))
"""Of ten streams each."""


async def test_clean_ends_lose_no_frame(echo, connect):
    """Each stream ends in one attempt, with every output: no write raced the server's close."""
    async with connect(echo) as client:
        for _ in ROUNDS:
            streams = [client.stream(numbered(count)) for count in range(10)]
            results = await asyncio.gather(*map(collect, streams))
            assert results == [numbered(count) for count in range(10)]
            assert [stream.statistics().attempts for stream in streams] == [1] * 10


async def test_refusals_by_the_protocol_hide_no_reason(serve, connect):
    class Refusing(StreamService[bytes, bytes]):
        async def admit(self, request):
            raise Refuse("because of reasons", kind=RefusalKind.BAD_OPEN)

        async def predict(self, item):
            return item

    async def one(client):
        with pytest.raises(RejectedError, match="because of reasons") as caught:
            await collect(client.stream(numbered(5)))
        assert caught.value.attempts == 1

    async with connect(await serve(Refusing())) as client:
        for _ in ROUNDS:
            await asyncio.gather(*(one(client) for _ in range(10)))


async def test_refusals_by_status_hide_no_reason(listen, connect):
    """As HAProxy refuses an unknown application: NOT_FOUND at once, before anything is read."""

    async def refuse(requests, context):
        await context.abort(grpc.StatusCode.NOT_FOUND, "Application 'x' not found")
        yield

    async def one(client):
        with pytest.raises(WrongApplicationError, match="Application 'x' not found"):
            await collect(client.stream(numbered(5)))

    async with connect(await listen(refuse)) as client:
        for _ in ROUNDS:
            await asyncio.gather(*(one(client) for _ in range(10)))


async def test_servers_that_end_without_lingering_lose_no_answer(listen, plan, connect):
    """A server that returns right after its end, as an implementation that forgot to linger."""
    service = FaultyEcho(plan)

    async def hasty(requests, context):
        async for frame in service.Stream(requests, context):
            yield frame
            if frame.HasField("end"):
                return

    async with connect(await listen(hasty)) as client:
        for _ in range(50):
            streams = [client.stream(numbered(20)) for _ in range(10)]
            assert await asyncio.gather(*map(collect, streams)) == [numbered(20)] * 10
