"""What hooks are told of calls of `predict` and `generate`."""

import asyncio
import contextvars
import gc
import re
import time
import weakref

import pytest
from noting import Noting

from servestream_client import (
    BytesCodec,
    FlowControl,
    Hooks,
    ItemError,
    OutputDecodeError,
    StreamClient,
    StreamTimeoutError,
    SyncStreamClient,
    UnreachableError,
)
from servestream_client.events import (
    AttemptEnded,
    CallEnded,
    OutputsArrived,
    StreamKind,
    StreamStarted,
)
from servestream_client.server import Replay, StreamService

WHOSE: contextvars.ContextVar[str] = contextvars.ContextVar("WHOSE", default="nobody's")


class Upper(StreamService[bytes, bytes]):
    async def predict(self, item: bytes) -> bytes:
        if item == b"fails":
            raise ValueError("no")
        if item == b"waits":
            await asyncio.Event().wait()
        return item.upper()


class Letters(StreamService[bytes, bytes]):
    async def generate(self, item, resume):
        for letter in item.decode():
            if letter == "!":
                raise ValueError("no")
            yield letter.encode()


class Asking(Hooks):
    """Notes the context in which it is told of calls."""

    def __init__(self) -> None:
        self.whose: list[str] = []

    def on_event(self, event, /):
        if isinstance(event, CallEnded | OutputsArrived):
            self.whose.append(WHOSE.get())


async def test_of_a_prediction(make_stream_server):
    server, noting = make_stream_server(Upper), Noting()
    async with StreamClient(server.target, application="a", hooks=[noting]) as client:
        assert await client.predict(b"x") == b"X"
    (ended,) = noting.of(CallEnded)
    (stream,) = noting.of(StreamStarted)
    assert ended.stream_id == stream.stream_id
    assert (ended.kind, ended.outputs, ended.error) == (StreamKind.PREDICT, 1, None)
    assert (ended.target, ended.application) == (server.target, "a")
    assert ended.seconds > 0
    assert re.fullmatch(r"a call of predict ended after [\d.e-]+ s", str(ended))


async def test_of_predictions_that_fail(make_stream_server):
    noting = Noting()
    async with StreamClient(make_stream_server(Upper).target, hooks=[noting]) as client:
        with pytest.raises(ItemError):
            await client.predict(b"fails")
        with pytest.raises(StreamTimeoutError):
            await client.predict(b"waits", timeout=0.05)
        task = asyncio.create_task(client.predict(b"waits"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    kinds = [type(ended.error) for ended in noting.of(CallEnded)]
    assert kinds == [ItemError, StreamTimeoutError, asyncio.CancelledError]
    assert {ended.outputs for ended in noting.of(CallEnded)} == {0}


async def test_of_a_prediction_that_no_stream_has_carried():
    noting = Noting()
    async with StreamClient("127.0.0.1:1", hooks=[noting]) as client:
        with pytest.raises(UnreachableError):
            await client.predict(b"x")
    (ended,) = noting.of(CallEnded)
    assert type(ended.error) is UnreachableError


async def test_of_a_generation(make_stream_server):
    server, noting = make_stream_server(Letters), Noting()
    async with StreamClient(server.target, hooks=[noting]) as client:
        assert [output async for output in client.generate(b"abc")] == [b"a", b"b", b"c"]
    arrived, (ended,) = noting.of(OutputsArrived), noting.of(CallEnded)
    assert sum(each.count for each in arrived) == 3
    assert [each.first_index for each in arrived] == [
        sum(before.count for before in arrived[:place]) for place in range(len(arrived))
    ]
    assert (ended.kind, ended.outputs, ended.error) == (StreamKind.GENERATE, 3, None)
    assert sum(each.seconds for each in arrived) <= ended.seconds
    assert {each.stream_id for each in arrived} == {noting.of(StreamStarted)[0].stream_id}
    assert str(arrived[0]).endswith("outputs from 0 on")


async def test_of_generations_that_fail_and_that_are_left(make_stream_server):
    noting = Noting()
    async with StreamClient(make_stream_server(Letters).target, hooks=[noting]) as client:
        with pytest.raises(ItemError):
            [output async for output in client.generate(b"ab!")]
        async with client.generate(b"x" * 10_000) as generation:
            told = len(noting.of(OutputsArrived))
            await anext(generation)
            assert len(noting.of(OutputsArrived)) > told  # at once, not in the end
        failed, left = noting.of(CallEnded)
    assert (type(failed.error), failed.outputs) == (ItemError, 2)
    assert (left.left, left.error) == (True, None)
    assert str(left).startswith("a call of generate was left after")
    assert 0 < left.outputs < 10_000


@pytest.mark.parametrize("hooks", [[], [Hooks()]], ids=["no-hooks", "hooks"])
async def test_a_generation_that_its_own_context_refers_to_goes_at_once(make_stream_server, hooks):
    """Nothing that a lane knows may lead to the caller's context."""
    mine: contextvars.ContextVar = contextvars.ContextVar("mine")
    server = make_stream_server(Letters)

    class Mark:
        pass

    mark = Mark()
    gone = weakref.ref(mark)

    async def call(client) -> None:
        nonlocal mark
        mine.set(mark)
        del mark
        async for _ in client.generate(b"abc"):
            pass

    gc.disable()
    try:
        async with StreamClient(server.target, hooks=hooks) as client:
            await asyncio.create_task(call(client))
        assert gone() is None
    finally:
        gc.enable()


async def test_of_a_generation_that_is_dropped(make_stream_server):
    noting = Noting()
    async with StreamClient(make_stream_server(Letters).target, hooks=[noting]) as client:
        async for _ in client.generate(b"x" * 10_000):
            break
        while not noting.of(CallEnded):
            await asyncio.sleep(0)
    (ended,) = noting.of(CallEnded)
    assert ended.left


@pytest.mark.parametrize("end", ["async", "blocking"])
async def test_of_outputs_that_cannot_be_decoded(make_stream_server, end):
    class Undecodable(BytesCodec):
        def decode_output(self, payload: bytes, /) -> bytes:
            raise ValueError(payload)

    server, noting = make_stream_server(Letters), Noting()
    if end == "async":
        async with StreamClient(server.target, codec=Undecodable(), hooks=[noting]) as client:
            with pytest.raises(OutputDecodeError):
                [output async for output in client.generate(b"abc")]
    else:

        def call() -> None:
            with (
                SyncStreamClient(server.target, codec=Undecodable(), hooks=[noting]) as client,
                pytest.raises(OutputDecodeError),
            ):
                list(client.generate(b"abc"))

        await asyncio.to_thread(call)
    (ended,) = noting.of(CallEnded)
    assert type(ended.error) is OutputDecodeError
    assert not ended.left


async def test_a_generation_that_is_parked_and_goes_on_is_one_call(make_stream_server):
    class Ones(StreamService[bytes, bytes]):
        replay = Replay.SEEK

        async def generate(self, item: bytes, resume):
            for index in range(resume.index, 20):
                yield b"%d" % index

    server, noting = make_stream_server(Ones), Noting()
    flow = FlowControl(outputs_per_input=4)
    async with StreamClient(server.target, hooks=[noting], flow=flow) as client:
        generation = client.generate(b"x")
        outputs = [await anext(generation)]
        server.kill()
        while len(noting.of(AttemptEnded)) < 1:
            await asyncio.sleep(0.001)
        outputs += [output async for output in generation]
    assert outputs == [b"%d" % index for index in range(20)]
    (ended,) = noting.of(CallEnded)
    assert ended.outputs == 20
    assert [each.first_index for each in noting.of(OutputsArrived)].count(0) == 1


async def test_of_predictions_that_wait_in_vain_for_a_codec(make_stream_server):
    class Slow(BytesCodec):
        def encode_input(self, item: bytes, /) -> bytes:
            time.sleep(0.02)  # it computes
            return item

    noting = Noting()
    async with StreamClient(
        make_stream_server(Upper).target, codec=Slow(), hooks=[noting]
    ) as client:
        calls = [client.predict(b"x", timeout=0.1) for _ in range(40)]
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(each) for each in results} >= {StreamTimeoutError}
    assert len(noting.of(CallEnded)) == 40


async def test_they_are_told_in_the_callers_context(make_stream_server):
    upper, letters = make_stream_server(Upper), make_stream_server(Letters)
    asking = Asking()
    async with (
        StreamClient(upper.target, hooks=[asking]) as one,
        StreamClient(letters.target, hooks=[asking]) as many,
    ):
        WHOSE.set("the caller's")
        await one.predict(b"x")
        [output async for output in many.generate(b"x")]
    assert set(asking.whose) == {"the caller's"}
    assert len(asking.whose) == 3


def test_blocking_callers_too(make_stream_server):
    asking = Asking()

    def call() -> None:
        WHOSE.set("the caller's")
        with SyncStreamClient(make_stream_server(Upper).target, hooks=[asking]) as client:
            client.predict(b"x")
        with SyncStreamClient(make_stream_server(Letters).target, hooks=[asking]) as client:
            list(client.generate(b"x"))

    contextvars.copy_context().run(call)
    assert asking.whose == ["the caller's"] * 3


@pytest.mark.loop_errors
async def test_a_hook_that_raises_costs_no_call(make_stream_server, caplog):
    class Broken(Hooks):
        def on_event(self, event, /):
            raise RuntimeError("a bug of its own")

    async with StreamClient(make_stream_server(Upper).target, hooks=[Broken()]) as client:
        assert await client.predict(b"x") == b"X"
    assert "the hook Broken failed" in caplog.text
