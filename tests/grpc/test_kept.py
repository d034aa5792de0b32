"""What users may keep (an error, an event, a closed stream) keeps nothing else alive."""

import asyncio
import gc
import weakref
from types import FrameType, FunctionType, ModuleType

import pytest
from faces import in_thread, only_async
from helpers import collect, until
from noting import Noting

from servestream_client import (
    BytesCodec,
    FlowControl,
    ItemError,
    StreamTimeoutError,
    SyncStreamClient,
)
from servestream_client.server import StreamService
from servestream_client.turns import Turn

KIB = 1024


class Item:
    """An input that can be watched."""

    def __init__(self, number: int) -> None:
        self.number = number


class Watched(BytesCodec):
    """Encodes items, but for every fourth, and decodes outputs unless told otherwise."""

    decodes = True

    def encode_input(self, item, /):
        if item.number % 4 == 0:
            raise ValueError("the fourth")
        return b"%d" % item.number

    def decode_output(self, payload, /):
        if not self.decodes:
            raise ValueError("none of them")
        return payload


def inputs(count, made, *, asynchronous):
    def items():
        for number in range(1, count + 1):
            item = Item(number)
            made.append(weakref.ref(item))
            yield item

    async def later():
        for item in items():
            yield item

    return later() if asynchronous else items()


def alive(made):
    gc.collect()
    return [item.number for ref in made if (item := ref()) is not None]


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_an_error_that_is_kept_keeps_its_own_input_only(echo, connect, asynchronous):
    if asynchronous and connect.__name__ == "BlockingClient":
        pytest.skip("takes plain inputs only")
    made = []
    async with connect(echo, codec=Watched()) as client:
        given = inputs(40, made, asynchronous=asynchronous)
        results = await collect(client.stream(given, return_exceptions=True))
        kept = [each for each in results if isinstance(each, ItemError)]
        assert [error.number for error in kept] == list(range(4, 41, 4))
        del results, given
        assert alive(made) == [error.number for error in kept]


async def test_an_error_of_the_inputs_that_is_kept_keeps_none_of_them(echo, connect):
    made = []

    def failing():
        yield from inputs(3, made, asynchronous=False)
        raise KeyError("no more")

    async with connect(echo, codec=Watched()) as client:
        stream = client.stream(failing())
        for _ in range(3):
            await anext(stream)
        with pytest.raises(KeyError) as caught:
            await anext(stream)
        kept = caught.value
        del caught, stream
        await until(lambda: not alive(made))
        assert kept is not None


@only_async
async def test_a_decoding_error_that_is_kept_does_not_keep_its_stream(echo, connect):
    codec = Watched()
    codec.decodes = False
    async with connect(echo, codec=codec) as client:
        stream = client.stream((Item(1) for _ in range(10_000)), return_exceptions=True)
        problem = await anext(stream)
        assert isinstance(problem, ItemError)
        ref = weakref.ref(stream)
        del stream
        assert ref() is None


async def test_nor_does_one_of_a_blocking_stream(echo):
    codec = Watched()
    codec.decodes = False

    def first_of_a_stream(client):
        stream = client.stream((Item(1) for _ in range(10_000)), return_exceptions=True)
        problem, ref = next(stream), weakref.ref(stream)
        assert isinstance(problem, ItemError)
        del stream
        return ref() is None

    with SyncStreamClient(echo, codec=codec) as client:
        assert await in_thread(first_of_a_stream, client)
        await in_thread(client.close)


# ------------------------------------------------------------------ streams that are over


class Holding(StreamService[bytes, bytes]):
    """Answers some inputs and keeps the others."""

    async def predict(self, item: bytes) -> bytes:
        if item[:1] == b"h":
            await asyncio.Event().wait()
        return item


def payloads_in(*roots):
    """The bytes of all payloads that objects keep alive, code and what is shared left out."""
    seen, size, waiting = set(), 0, list(roots)
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(
            # The turn of the loop is everybody's, the server's handlers' in this process as well.
            each,
            type | ModuleType | FunctionType | FrameType | asyncio.AbstractEventLoop | Turn,
        ):
            continue
        seen.add(id(each))
        if isinstance(each, bytes) and len(each) >= KIB:
            size += len(each)
        waiting += gc.get_referents(each)
    return size


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("how", ["closed", "dropped", "failed"])
async def test_a_stream_that_is_over_keeps_no_payloads(serve, connect, how, ordered):
    target = await serve(Holding())
    hooks = Noting()
    answered = [b"a" * KIB] * 100  # of which one is taken
    flow = FlowControl(window_bytes=300 * KIB)
    async with connect(target, hooks=[hooks], flow=flow) as client:
        inputs = iter([*answered, *[b"h" * KIB] * 1000])
        del answered
        timeout = 1 if how == "failed" else None
        stream = client.stream(inputs, ordered=ordered, timeout=timeout)
        assert await anext(stream) == b"a" * KIB
        await until(lambda: stream.statistics().received == 100)
        statistics = stream.statistics
        if how == "closed":
            await stream.aclose()
        elif how == "dropped":
            del stream, statistics
        else:
            with pytest.raises(StreamTimeoutError) as caught:
                await collect(stream)
            assert caught.value.delivered.answered == 100
            assert caught.value.delivered.accepted > 200
            caught.value.with_traceback(None)
        del inputs
        await until(lambda: hooks.ended)
        await until(lambda: not payloads_in(hooks.events))
        if how != "dropped":
            assert not payloads_in(stream)
            assert statistics().accepted > 200
            assert statistics().received == 100
