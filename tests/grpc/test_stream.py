"""The client against the kit over real sockets, while nothing goes wrong."""

import asyncio
import threading

import pytest
from faces import only_async
from helpers import collect, failures, numbered, outputs

from servestream_client import FlowControl, ItemErrorKind
from servestream_client.server import StreamService


async def test_outputs_come_in_the_order_of_their_inputs(client):
    assert await collect(client.stream(numbered(5000))) == numbered(5000)


@only_async
async def test_async_iterables_are_streamed(client):
    async def inputs():
        for item in numbered(100):
            await asyncio.sleep(0)
            yield item

    assert await collect(client.stream(inputs())) == numbered(100)


@only_async
async def test_an_output_arrives_while_the_inputs_wait_for_it(client):
    """A conversation: each input depends on the output before it."""
    answered = asyncio.Queue()

    async def inputs():
        item = b"1"
        for _ in range(20):
            yield item
            item = b"%d" % (int(await answered.get()) + 1)

    seen = []
    async for output in client.stream(inputs()):
        seen.append(output)
        answered.put_nowait(output)
    assert seen == numbered(20)


async def test_a_stream_without_inputs_has_no_outputs(client):
    assert await collect(client.stream([])) == []


async def test_items_may_be_empty_or_large(client):
    items = [b"", b"x" * 3_000_000, b"", b"y" * 2_000_000, b"z"]
    assert await collect(client.stream(items)) == items


async def test_many_streams_share_one_client(client):
    lengths = range(0, 400, 20)
    results = await asyncio.gather(*(collect(client.stream(numbered(n))) for n in lengths))
    assert results == [numbered(n) for n in lengths]


async def test_statistics_tell_what_happened(client):
    stream = client.stream(numbered(100))
    await collect(stream)
    statistics = stream.statistics()
    assert (statistics.accepted, statistics.sent, statistics.received) == (100, 100, 100)
    assert (statistics.replayed, statistics.duplicates, statistics.resumes) == (0, 0, 0)
    assert (statistics.attempts, statistics.taken_through) == (1, 100)
    assert statistics.replica
    assert len(statistics.stream_id) == 32


async def test_parameters_and_metadata_reach_the_service(serve, connect):
    seen = []

    class Curious(StreamService[bytes, bytes]):
        async def admit(self, request):
            seen.append(request)

        async def predict(self, item):
            return item

    target = await serve(Curious())
    async with connect(target, application="", metadata=[("who", "me")]) as client:
        await collect(client.stream([b"x"], parameters={"model": "small"}))
    assert seen[0].parameters == {"model": "small"}
    assert seen[0].metadata["who"] == "me"
    assert seen[0].attempt == 1


async def test_unordered_outputs_come_as_they_are_ready(serve, connect):
    class FirstLast(StreamService[bytes, bytes]):
        def __init__(self):
            self.others_done = asyncio.Event()
            self.left = 49

        async def predict(self, item):
            if item == b"1":
                await self.others_done.wait()
            else:
                self.left -= 1
                if not self.left:
                    self.others_done.set()
            return item

    async with connect(await serve(FirstLast())) as client:
        seen = await collect(client.stream(numbered(50), ordered=False))
    assert seen[-1] == b"1"
    assert sorted(seen) == sorted(numbered(50))


async def test_ordered_outputs_wait_for_their_turn(serve, connect):
    class Backwards(StreamService[bytes, bytes]):
        """Finishes the inputs of each full set of handlers in reverse."""

        max_concurrency = 10

        def __init__(self):
            self.waiting = []

        async def predict(self, item):
            turn = asyncio.Event()
            self.waiting.append(turn)
            if len(self.waiting) == self.max_concurrency:
                full, self.waiting = self.waiting, []
                for each in reversed(full):
                    each.set()
                    await asyncio.sleep(0)
            await turn.wait()
            return item

    async with connect(await serve(Backwards())) as client:
        assert await collect(client.stream(numbered(100))) == numbered(100)


async def test_a_plain_handler_runs_in_threads_and_does_not_block_the_event_loop(serve, connect):
    loop_ran = threading.Event()

    class Blocking(StreamService[bytes, bytes]):
        def predict(self, item):
            assert threading.current_thread() is not threading.main_thread()
            assert loop_ran.wait(timeout=30), "the event loop stood still"
            return item

    async with connect(await serve(Blocking())) as client:
        stream = client.stream(numbered(5))
        consumer = asyncio.ensure_future(collect(stream))
        for _ in range(100):
            await asyncio.sleep(0)
        loop_ran.set()
        assert await consumer == numbered(5)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_handlers_at_a_time_are_bounded_over_all_streams(serve, asynchronous, connect):
    class Counting(StreamService[bytes, bytes]):
        max_concurrency = 3

        def __init__(self):
            self.lock = threading.Lock()
            self.running = self.most = 0

        def enter(self):
            with self.lock:
                self.running += 1
                self.most = max(self.most, self.running)

        def leave(self):
            with self.lock:
                self.running -= 1

    class Sync(Counting):
        def predict(self, item):
            self.enter()
            threading.Event().wait(0.001)
            self.leave()
            return item

    class Async(Counting):
        async def predict(self, item):
            self.enter()
            await asyncio.sleep(0.001)
            self.leave()
            return item

    service = Async() if asynchronous else Sync()
    async with connect(await serve(service)) as client:
        await asyncio.gather(*(collect(client.stream(numbered(20))) for _ in range(4)))
    assert service.most == 3


async def test_a_batch_handler_gets_what_has_arrived_and_no_more_than_it_may(serve, connect):
    sizes = []

    class Batches(StreamService[bytes, bytes]):
        max_batch_size = 16
        max_concurrency = 1

        async def predict_batch(self, items):
            sizes.append(len(items))
            return [item * 2 for item in items]

    async with connect(await serve(Batches())) as client:
        assert await collect(client.stream(numbered(1000))) == [i * 2 for i in numbered(1000)]
    assert max(sizes) == 16
    assert sum(sizes) == 1000


async def test_a_batch_that_raises_is_tried_singly_and_only_one_item_is_to_blame(serve, connect):
    class Picky(StreamService[bytes, bytes]):
        def predict_batch(self, items):
            if b"13" in items:
                raise ValueError("thirteen")
            return items

    async with connect(await serve(Picky())) as client:
        results = await collect(client.stream(numbered(40), return_exceptions=True))
    (failure,) = failures(results)
    assert (failure.number, failure.kind) == (13, ItemErrorKind.HANDLER)
    assert "ValueError: thirteen" in str(failure)
    assert outputs(results) == [item for item in numbered(40) if item != b"13"]


# The list is longer than any batch of these inputs: how many come together is not said.
@pytest.mark.parametrize("answer", [None, [], [b"one"] * 4, 7])
async def test_a_batch_handler_that_answers_otherwise_fails_its_items(serve, answer, connect):
    class Wrong(StreamService[bytes, bytes]):
        def predict_batch(self, items):
            return answer

    async with connect(await serve(Wrong())) as client:
        results = await collect(client.stream(numbered(3), return_exceptions=True))
    assert [failure.number for failure in failures(results)] == [1, 2, 3]
    assert "predict_batch returned" in str(results[0])


async def test_small_windows_and_credits_still_let_everything_through(echo, connect):
    tight = FlowControl(
        window_items=2, window_bytes=10, output_items=1, output_bytes=5, max_unacknowledged_frames=2
    )
    async with connect(echo, flow=tight) as client:
        assert await collect(client.stream(numbered(300))) == numbered(300)


async def test_a_servers_lower_limits_are_obeyed(serve, connect):
    class Small(StreamService[bytes, bytes]):
        flow = FlowControl(window_items=3, window_bytes=100, max_item_bytes=50)

        async def predict(self, item):
            return item

    items = numbered(200)
    items[99] = b"x" * 51
    async with connect(await serve(Small())) as client:
        results = await collect(client.stream(items, return_exceptions=True))
    (failure,) = failures(results)
    assert (failure.number, failure.kind) == (100, ItemErrorKind.INPUT_TOO_LARGE)
    assert outputs(results) == items[:99] + items[100:]


async def test_the_inputs_are_pulled_no_further_than_the_window(client):
    pulled = 0

    def inputs():
        nonlocal pulled
        for item in numbered(1000):
            pulled += 1
            yield item

    small = client.with_options(flow=FlowControl(window_items=10))
    stream = small.stream(inputs())
    for taken in range(1, 200):
        await anext(stream)
        assert pulled <= taken + 10
    await stream.aclose()


async def test_a_second_stream_sends_inputs_with_its_open(client):
    """Once the target has welcomed this client, a stream needs no round trip before its first
    input; that the results are right is what can be seen from outside.
    """
    for _ in range(3):
        assert await collect(client.stream(numbered(50))) == numbered(50)


@pytest.mark.parametrize("allowed", [True, False])
async def test_a_service_says_whether_it_may_be_hedged(serve, connect, allowed):
    class Echo(StreamService[bytes, bytes]):
        hedging = allowed

        async def predict(self, item):
            return item

    async with connect(await serve(Echo())) as client:
        stream = client.stream([b"x"])
        assert await collect(stream) == [b"x"]
        assert ("hedge" in stream._driver.session.welcome.features) is allowed


async def test_an_application_name_is_checked_on_both_sides(serve, connect):
    class Named(StreamService[bytes, bytes]):
        application = "named"
        code_version = "7"

        async def predict(self, item):
            return item

    target = await serve(Named())
    for application in ("named", ""):
        async with connect(target, application=application) as client:
            stream = client.stream([b"x"])
            assert await collect(stream) == [b"x"]
            assert stream.statistics().code_version == "7"
