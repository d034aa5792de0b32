"""What only the blocking client can do, or get wrong."""

import asyncio
import contextvars
import gc
import threading
from collections.abc import Callable

import pytest
from faces import in_thread
from helpers import numbered, until

from servestream_client import (
    ClientClosedError,
    ConfigurationError,
    FlowControl,
    InputEncodeError,
    InputsError,
    ItemError,
    SyncStreamClient,
)
from servestream_client.testing.faults import Fault, FaultKind


def own_threads() -> list[str]:
    """Names of threads of ours that are alive."""
    return [
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith(("servestream", "asyncio-portal"))
    ]


@pytest.fixture(autouse=True)
async def no_thread_left():
    before = set(own_threads())
    yield
    await until(lambda: set(own_threads()) <= before)


@pytest.fixture
async def plain(echo):
    """A blocking client; its methods are for `in_thread`."""
    client = SyncStreamClient(echo)
    yield client
    await in_thread(client.close)


async def test_inputs_may_block_while_outputs_arrive(plain):
    """A conversation: each input waits for the output before it, in plain code."""

    def talk():
        answered = threading.Semaphore(1)

        def inputs():
            for item in numbered(20):
                assert answered.acquire(timeout=30)
                yield item

        seen = []
        for output in plain.stream(inputs()):
            seen.append(output)
            answered.release()
        return seen

    assert await in_thread(talk) == numbered(20)


async def test_inputs_that_block_do_not_stop_other_streams(plain):
    go_on = threading.Event()

    def blocking():
        yield b"1"
        assert go_on.wait(30)
        yield b"2"

    def both():
        blocked = plain.stream(blocking())
        first = next(blocked)
        others = list(plain.stream(numbered(500)))
        assert plain.predict(b"x") == b"x"
        go_on.set()
        return first, others, list(blocked)

    assert await in_thread(both) == (b"1", numbered(500), [b"2"])


async def test_a_running_event_loop_is_no_hindrance(listen):
    """As in a notebook: plain code in a coroutine, while the server is elsewhere."""
    from servestream_client.testing.server import StreamServer  # on a thread of its own

    with StreamServer() as server, SyncStreamClient(server.target) as client:
        assert list(client.stream(numbered(100))) == numbered(100)
        assert client.predict(b"x") == b"x"


async def test_threads_share_a_client(plain):
    def stream(count: int) -> list:
        return list(plain.stream(numbered(count)))

    def predict(item: bytes) -> bytes:
        return plain.predict(item)

    streams = [in_thread(stream, count) for count in range(0, 400, 20)]
    calls = [in_thread(predict, item) for item in numbered(50)]
    results = await asyncio.gather(*streams, *calls)
    assert results[:20] == [numbered(count) for count in range(0, 400, 20)]
    assert results[20:] == numbered(50)


async def test_two_threads_iterating_one_stream_are_told(plain):
    release = threading.Event()

    def inputs():
        release.wait(30)
        yield from ()

    stream = plain.stream(inputs())
    first = asyncio.ensure_future(in_thread(next, stream, None))
    await until(lambda: stream._iterating)
    with pytest.raises(ConfigurationError, match="iterate one stream"):
        await in_thread(next, stream)
    release.set()
    assert await first is None


async def test_inputs_see_the_callers_context(plain):
    variable = contextvars.ContextVar("variable")

    def run():
        variable.set(b"mine")
        return list(plain.stream(variable.get() for _ in range(3)))

    assert await in_thread(run) == [b"mine"] * 3


@pytest.mark.parametrize("window", [1, 2, 64])
async def test_inputs_are_pulled_no_further_than_the_window(echo, window):
    pulled = 0

    def inputs():
        nonlocal pulled
        for item in numbered(200):
            pulled += 1
            yield item

    def run():
        client = SyncStreamClient(echo, flow=FlowControl(window_items=window))
        with client, client.stream(inputs()) as stream:
            for taken, _ in enumerate(stream):
                assert pulled <= taken + 1 + window
        return pulled

    assert await in_thread(run) == 200


async def test_bytes_bound_what_is_pulled_as_well(echo):
    """Of inputs as large as the window, one lies in it, and one waits."""
    flow = FlowControl(window_bytes=100_000, output_bytes=100_000)
    pulled = 0

    def inputs():
        nonlocal pulled
        for _ in range(50):
            pulled += 1
            yield bytes(100_000)

    def run():
        with SyncStreamClient(echo, flow=flow) as client:
            stream = client.stream(inputs())
            next(stream)
            for _ in range(5):  # others are served meanwhile
                assert len(list(client.stream(numbered(300)))) == 300
            held = pulled
            return held, 1 + sum(1 for _ in stream)

    held, outputs = await in_thread(run)
    assert held <= 6  # the one taken, one unread, one unanswered with one beyond, one waiting
    assert outputs == 50


@pytest.mark.parametrize("error", [ValueError("mine"), SystemExit(3), KeyboardInterrupt()])
async def test_what_the_inputs_raise_surfaces_after_the_outputs_before_it(plain, error):
    def inputs():
        yield from numbered(10)
        raise error

    seen: list[bytes] = []

    def run():
        for output in plain.stream(inputs()):
            seen.append(output)

    with pytest.raises(type(error)) as caught:
        await in_thread(run)
    assert caught.value is error
    assert seen == numbered(10)
    assert await in_thread(plain.predict, b"x") == b"x", "the loop thread is unharmed"


@pytest.mark.parametrize("error", [ValueError("mine"), SystemExit(3)])
@pytest.mark.parametrize("part", ["encode_input", "decode_output"])
async def test_codecs_that_raise_harm_nobody_else(echo, part, error):
    from servestream_client import BytesCodec

    class Codec(BytesCodec):
        def encode_input(self, item, /):
            if part == "encode_input" and item == b"3":
                raise error
            return item

        def decode_output(self, payload, /):
            if part == "decode_output" and payload == b"3":
                raise error
            return payload

    def run():
        with SyncStreamClient(echo, codec=Codec()) as client:
            seen = []
            with pytest.raises(ItemError):
                for output in client.stream(numbered(5)):
                    seen.append(output)
            assert seen == numbered(2)
            with pytest.raises(ItemError):
                client.predict(b"3")
            assert client.predict(b"4") == b"4"
            assert list(client.stream([b"1"])) == [b"1"]

    await in_thread(run)


async def test_a_generator_is_closed_in_its_own_thread(plain):
    threads = []

    def inputs():
        try:
            while True:
                threads.append(threading.current_thread())
                yield b"x"
        finally:
            threads.append(threading.current_thread())

    def run():
        with plain.stream(inputs()) as stream:
            next(stream)
        return threads[:]

    seen = await in_thread(run)  # what it did after the close is not waited for any more
    assert len(set(seen)) == 1
    assert seen == threads


async def test_a_stream_that_was_never_iterated_leaves_nothing(plain):
    closed = []

    def inputs():
        try:
            yield b"x"
        finally:
            closed.append(True)

    stream = plain.stream(inputs())
    await in_thread(stream.close)
    assert list(stream) == []


async def test_break_and_garbage_collection_end_a_stream(plain, plan):
    closed = threading.Event()

    def inputs():
        try:
            while True:
                yield b"x"
        finally:
            closed.set()

    def run():
        for _ in plain.stream(inputs()):
            break
        gc.collect()
        assert closed.wait(30), "the stream was not ended"

    await in_thread(run)


async def test_a_client_that_is_dropped_gives_its_thread_back(echo):
    def run():
        client = SyncStreamClient(echo)
        assert list(client.stream(numbered(10))) == numbered(10)
        assert client.predict(b"x") == b"x"

    gc.disable()  # it must not be a garbage collector's turn that does it
    try:
        await in_thread(run)
        await until(lambda: not own_threads())
    finally:
        gc.enable()


async def test_clients_share_one_thread_and_the_last_ends_it(echo):
    before = set(own_threads())  # another test's may be on their way to their end

    def run():
        with SyncStreamClient(echo) as one, SyncStreamClient(echo) as two:
            one.predict(b"x")
            two.predict(b"x")
            ours = set(own_threads()) - before
            shared = [name for name in ours if name.startswith("asyncio-portal")]
            one.close()
            assert two.predict(b"y") == b"y"
            return shared

    assert len(await in_thread(run)) == 1
    assert set(own_threads()) <= before


async def test_closing_ends_what_other_threads_wait_for(plain, plan):
    plan.add(Fault(FaultKind.HANG, 1))
    waiting = asyncio.ensure_future(in_thread(list, plain.stream(numbered(3))))
    await until(lambda: plan.fired)
    await in_thread(plain.close)
    with pytest.raises(ClientClosedError):
        await waiting


async def test_everything_after_the_end_says_so(plain):
    stream = plain.stream(numbered(3))
    assert await in_thread(list, stream) == numbered(3)
    await in_thread(plain.close)
    await in_thread(plain.close)
    uses: list[Callable] = [
        lambda: plain.stream([b"x"]),
        lambda: plain.predict(b"x"),
        plain.__enter__,
    ]
    for use in uses:
        with pytest.raises(ClientClosedError, match="closed"):
            await in_thread(use)
    assert list(stream) == []
    assert stream.statistics().taken_through == 3
    stream.close()


async def test_a_stream_left_open_by_its_client_ends_with_it(plain):
    stream = plain.stream(b"x" for _ in iter(int, 1))
    assert await in_thread(next, stream) == b"x"
    await in_thread(plain.close)
    with pytest.raises(ClientClosedError):
        await in_thread(list, stream)
    assert stream.statistics().accepted > 0


async def test_a_client_that_was_never_used_starts_no_thread(echo):
    before = own_threads()
    with SyncStreamClient(echo):
        assert own_threads() == before


@pytest.mark.parametrize("inputs", [b"bytes", "text", 5, None])
async def test_inputs_that_are_none(plain, inputs):
    with pytest.raises(InputsError):
        plain.stream(inputs)


async def test_async_inputs_are_for_the_other_client(plain):
    async def inputs():
        yield b"x"

    with pytest.raises(InputsError, match="async iterables are for StreamClient"):
        plain.stream(inputs())


async def test_an_item_that_cannot_be_encoded_is_its_own_error(plain):
    def run():
        return list(plain.stream([b"1", "two", b"3"], return_exceptions=True))

    first, failed, third = await in_thread(run)
    assert (first, third) == (b"1", b"3")
    assert isinstance(failed, InputEncodeError)
    assert (failed.number, failed.input) == (2, "two")


async def test_options_are_shared_with_the_client(plain):
    other = plain.with_options(close_timeout=1.0)
    assert isinstance(other, SyncStreamClient)
    assert await in_thread(other.predict, b"x") == b"x"
    await in_thread(other.close)
    with pytest.raises(ClientClosedError):
        await in_thread(plain.predict, b"x")
