"""`cursor=`, `stream.cursor()` and `stream.batches()`: a consumer that dies and comes back, with
either face.
"""

import asyncio
import gc
import operator
import random
import weakref
from typing import Any

import pytest
from helpers import collect, until

from servestream_client import (
    BytesCodec,
    ConfigurationError,
    Cursor,
    CursorMismatchError,
    FlowControl,
    ItemError,
    JsonCodec,
    NoOutput,
    OutputDecodeError,
    RetryPolicy,
    SeekableInputs,
)
from servestream_client.cursor import BLOCK
from servestream_client.server import Replay, StreamService
from servestream_client.testing import Fault, FaultKind, StreamServer


class Doubling(StreamService[bytes, bytes]):
    async def predict(self, item):
        if item.endswith(b"3"):
            raise ValueError("no")
        return item * 2


class Several(StreamService[bytes, bytes]):
    """As many outputs as the last digit says."""

    replay = Replay.SEEK

    async def generate(self, item, resume):
        for index in range(resume.index, int(item[-1:])):
            if index == 2 and item.endswith(b"3"):
                raise ValueError("no")
            yield b"%s.%d" % (item, index)


both = pytest.mark.parametrize("service", [Doubling, Several])
OPTIONS = [{"ordered": ordered, "lanes": lanes} for ordered in (True, False) for lanes in (1, 3)]


def items(many: int) -> list[bytes]:
    return [b"%d" % number for number in range(1, many + 1)]


def told(results) -> list[tuple]:
    """What results say, to be compared. Whether an input's end comes with its last output or behind
    it is a matter of time.
    """
    return [
        (each.number, "failed", each.kind)
        if isinstance(each, ItemError)
        else (each.number, each.index, each.output)
        for each in results
        if not isinstance(each, NoOutput)
    ]


async def undisturbed(client, many: int, **options) -> list:
    stream = client.stream(items(many), numbered=True, return_exceptions=True, **options)
    return told(await collect(stream))


@both
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_what_is_kept_by_batches_is_whole(
    serve, connect, service, *, options, asynchronous, request
):
    """The consumer keeps outputs and cursor together, and dies at random in between."""
    if asynchronous and "blocking" in request.node.name:
        pytest.skip("asynchronous inputs")
    rng = random.Random(f"{service} {options}")
    ordered = options["ordered"]
    kept, cursor, deaths = [], bytes(Cursor()), 0

    async def later():
        for item in items(300):
            yield item

    async with connect(await serve(service())) as client:
        expected = await undisturbed(client, 300, **options)
        while True:
            stream = client.stream(
                later() if asynchronous else iter(items(300)),
                cursor=Cursor.from_bytes(cursor),
                numbered=True,
                return_exceptions=True,
                **options,
            )
            died = False
            async for batch in stream.batches(rng.randrange(1, 40)):
                kept += told(batch.outputs)
                cursor = bytes(batch.cursor)
                if rng.randrange(3) == 0:
                    died = True
                    break
            await stream.aclose()
            if not died:
                break
            deaths += 1
    assert deaths > 2
    if ordered:
        assert kept == expected
    else:
        assert sorted(kept, key=repr) == sorted(expected, key=repr)
        # An input's outputs are in their order.
        places = [each[:2] for each in kept if each[1] != "failed"]
        assert sorted(places, key=lambda place: place[0]) == sorted(places)
    assert Cursor.from_bytes(cursor).position == 300


@pytest.mark.parametrize("ordered", [True, False])
async def test_behind_any_output_the_rest_comes(serve, connect, ordered):
    async with connect(await serve(Doubling())) as client:
        options = {"ordered": ordered, "return_exceptions": True, "numbered": True}
        expected = await undisturbed(client, 30, ordered=ordered)
        for many in range(31):
            stream = client.stream(items(30), cursor=Cursor(), **options)
            first = told([await anext(stream) for _ in range(many)])
            cursor = stream.cursor()
            await stream.aclose()
            assert stream.cursor() == cursor, "it holds behind the end"
            rest = client.stream(items(30), cursor=cursor, **options)
            found = first + told(await collect(rest))
            assert sorted(found, key=repr) == sorted(expected, key=repr)
            assert rest.cursor().position == 30


async def test_inputs_that_cannot_be_sent_have_their_place_in_a_cursor(serve, connect):
    class Plain(StreamService[object, object]):
        codec = JsonCodec(Any, Any)

        async def predict(self, item):
            return item

    flow = FlowControl(max_item_bytes=1000)
    inputs = [1, object(), "x" * 2000, 2, object(), 3, 4]
    async with connect(await serve(Plain()), codec=JsonCodec(Any, Any), flow=flow) as client:
        options = {"return_exceptions": True}
        for many in range(8):
            stream = client.stream(inputs, cursor=Cursor(), **options)
            first = [await anext(stream) for _ in range(many)]
            cursor = stream.cursor()
            await stream.aclose()
            assert cursor.position == many
            results = first + await collect(client.stream(inputs, cursor=cursor, **options))
            assert [each.number if isinstance(each, ItemError) else each for each in results] == [
                1,
                2,
                3,
                2,
                5,
                3,
                4,
            ]
        with pytest.raises(CursorMismatchError):
            await collect(client.stream([1, "y", *inputs[2:]], cursor=cursor, **options))


async def test_a_failure_that_was_raised_is_tried_again(connect):
    fails = [True]

    class Moody(StreamService[bytes, bytes]):
        async def predict(self, item):
            if item == b"5" and fails[0]:
                raise ValueError("no")
            return item

    with StreamServer(Moody) as server:
        async with connect(server.target) as client:
            stream = client.stream(items(9), cursor=Cursor())
            got, cursor = [], Cursor()
            with pytest.raises(ItemError, match="input 5 failed"):
                async for batch in stream.batches(3):
                    got += batch.outputs
                    cursor = batch.cursor
            assert got == items(4), "those before it come in a batch of their own"
            assert cursor == stream.cursor()
            assert cursor.position == 4
            with pytest.raises(ItemError, match="input 5 failed"):
                await collect(client.stream(items(9), cursor=cursor))
            fails[0] = False
            assert await collect(client.stream(items(9), cursor=cursor)) == items(9)[4:]


class Picky(BytesCodec):
    """Cannot decode some."""

    def decode_output(self, payload):
        if payload.endswith(b"7"):
            raise ValueError("no")
        return super().decode_output(payload)


async def test_an_output_that_cannot_be_decoded_is_that_alone(serve, connect):
    class Plain(StreamService[bytes, bytes]):
        async def predict(self, item):
            return item

    async with connect(await serve(Plain()), codec=Picky()) as client:
        stream = client.stream(items(40), cursor=Cursor(), return_exceptions=True)
        batches = [batch async for batch in stream.batches(15)]
        outputs = [output for batch in batches for output in batch.outputs]
        failed = [output.number for output in outputs if isinstance(output, ItemError)]
        assert failed == [7, 17, 27, 37]
        assert [o for o in outputs if not isinstance(o, ItemError)] == [
            item for item in items(40) if not item.endswith(b"7")
        ]
        assert [len(batch.outputs) for batch in batches] == [15, 15, 10]
        assert [batch.cursor.position for batch in batches] == [15, 30, 40]
        stream = client.stream(items(40), cursor=batches[0].cursor)
        with pytest.raises(OutputDecodeError, match="input 17 failed"):
            async for batch in stream.batches(15):
                assert batch.outputs == [b"16"]
        assert stream.cursor().position == 16


async def test_an_output_of_many_that_cannot_be_decoded_does_not_split_them(serve, connect):
    class Six(StreamService[bytes, bytes]):
        replay = Replay.SEEK

        async def generate(self, item, resume):
            for index in range(resume.index, 6):
                yield b"%s.%d" % (item, 7 if (item, index) == (b"2", 2) else index)

    async with connect(await serve(Six()), codec=Picky()) as client:
        stream = client.stream(items(3), cursor=Cursor(), return_exceptions=True)
        batches = [batch async for batch in stream.batches(1)]
    assert [batch.cursor.position for batch in batches] == [1, 2, 3]
    assert [len(batch.outputs) for batch in batches] == [6, 6, 6]
    assert isinstance(batches[1].outputs[2], ItemError)


async def test_inputs_without_outputs_move_the_cursor(serve, connect):
    class First(StreamService[bytes, bytes]):
        replay = Replay.SEEK

        async def generate(self, item, resume):
            if item == b"1":
                yield item

    async with connect(await serve(First())) as client:
        stream = client.stream(items(500), cursor=Cursor())
        batches = [batch async for batch in stream.batches(10)]
        assert [output for batch in batches for output in batch.outputs] == [b"1"]
        positions = [batch.cursor.position for batch in batches]
        assert len(positions) > 3
        assert positions[-1] == 500
        rest = client.stream(items(500), cursor=batches[1].cursor)
        assert rest.cursor() == batches[1].cursor, "before it has begun"
        await rest.aclose()
        unordered = Cursor(0, ((2, 3),), b"", b"x" * 16, batches[0].cursor.job)
        stream = client.stream(items(5), cursor=unordered, ordered=False)
        with pytest.raises(CursorMismatchError):
            await collect(stream)
        assert stream.cursor() == unordered


async def test_outputs_that_are_nothing_are_outputs(serve, connect):
    class Null(StreamService[int, object]):
        codec = JsonCodec(int, object)

        async def predict(self, item):
            return None

    async with connect(await serve(Null()), codec=JsonCodec(int, object)) as client:
        stream = client.stream([1, 2, 3], cursor=Cursor())
        batches = [batch.outputs async for batch in stream.batches(2)]
    assert batches == [[None, None], [None]]


@pytest.mark.parametrize("service", [Doubling, Several])
async def test_numbers_go_on_over_processes_and_replicas(connect, service):
    with StreamServer(service) as server:
        server.add_faults(Fault(FaultKind.KILL, at=40), Fault(FaultKind.CLOSE, at=70))
        quick = RetryPolicy(initial=0.001, maximum=0.01)
        async with connect(server.target, retry=quick) as client:
            options = {"numbered": True, "return_exceptions": True}
            stream = client.stream(items(100), cursor=Cursor(), **options)
            first = [await anext(stream) for _ in range(25)]
            cursor = stream.cursor()
            await stream.aclose()
            rest = await collect(client.stream(items(100), cursor=cursor, **options))
    assert [each.number for each in first] == sorted(each.number for each in first)
    assert {each.number for each in rest} == {*range(cursor.position + 1, 101)}
    assert rest[0].number == cursor.position + 1


# ---------------------------------------------------------------- what does not fit


async def test_another_job_is_refused_before_anything_is_sent(serve, connect):
    async with connect(await serve(Doubling())) as client:
        stream = client.stream(items(5), cursor=Cursor(), parameters={"a": "1"})
        await collect_failing(stream)
        cursor = stream.cursor()
        with pytest.raises(CursorMismatchError, match="the parameter 'a' is missing"):
            client.stream(items(5), cursor=cursor)
        with pytest.raises(CursorMismatchError, match="the parameter 'a' has another value"):
            client.stream(items(5), cursor=cursor, parameters={"a": "2"})


async def collect_failing(stream) -> None:
    with pytest.raises(ItemError):
        await collect(stream)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_other_inputs_are_told_and_none_is_sent(serve, connect, asynchronous, request):
    if asynchronous and "blocking" in request.node.name:
        pytest.skip("asynchronous inputs")
    seen = []

    class Noting(StreamService[bytes, bytes]):
        async def predict(self, item):
            seen.append(item)
            return item

    async def later(inputs):
        for item in inputs:
            yield item

    async with connect(await serve(Noting())) as client:
        stream = client.stream(items(5), cursor=Cursor())
        assert await collect(stream) == items(5)
        cursor = stream.cursor()
        seen.clear()
        for other in ([*items(4), b"x", b"6"], items(3)):
            stream = client.stream(later(other) if asynchronous else other, cursor=cursor)
            with pytest.raises(CursorMismatchError, match="the inputs"):
                await collect(stream)
        assert seen == []
        assert await collect(client.stream(items(7), cursor=cursor)) == items(7)[5:]


async def test_what_makes_no_sense_is_refused(serve, connect):
    async with connect(await serve(Doubling())) as client:
        with pytest.raises(ConfigurationError, match="from_bytes makes one"):
            client.stream([], cursor=bytes(Cursor()))
        with pytest.raises(CursorMismatchError, match="ordered=False"):
            client.stream([], cursor=Cursor(0, ((2, 3),)))
        stream = client.stream([b"1"])
        with pytest.raises(ConfigurationError, match="made without cursor="):
            stream.cursor()
        with pytest.raises(ConfigurationError, match="cursor="):
            stream.batches(2)
        stream = client.stream([b"1", b"2"], cursor=Cursor())
        with pytest.raises(ConfigurationError, match="size"):
            stream.batches(0)
        await anext(stream)
        with pytest.raises(ConfigurationError, match="not iterated yet"):
            stream.batches(2)
        await stream.aclose()


class Rows(SeekableInputs[bytes]):
    """The rows of a table."""

    def __init__(self, many: int) -> None:
        self.many = many
        self.begun: list[int] = []

    def after(self, count):
        self.begun.append(count)
        return iter(items(self.many)[count:])


class LaterRows(Rows):
    def after(self, count):
        rows = super().after(count)

        async def later():
            for row in rows:
                yield row

        return later()


@pytest.mark.parametrize("kind", [Rows, LaterRows])
async def test_inputs_that_can_seek_are_not_read_again(serve, connect, kind, request):
    if kind is LaterRows and "blocking" in request.node.name:
        pytest.skip("asynchronous inputs")
    async with connect(await serve(Several())) as client:
        rows = kind(1_200)
        options = {"return_exceptions": True, "numbered": True}
        stream = client.stream(rows, cursor=Cursor(), **options)
        while (found := await anext(stream)).number < 1_100:
            pass
        assert found.number == 1_100
        cursor = stream.cursor()
        await stream.aclose()
        kept = Cursor.from_bytes(bytes(cursor))
        rest = client.stream(rows, cursor=kept, **options)
        numbers = {each.number for each in await collect(rest)}
        assert rows.begun == [0, BLOCK]
        assert numbers == {*range(cursor.position + 1, 1_201)}
        assert rest.cursor().position == 1_200
        with pytest.raises(TypeError) if kind is LaterRows else pytest.raises(StopIteration):
            next(iter(kind(0)))


async def test_an_unordered_stream_does_not_run_away_from_its_oldest_input(serve, connect):
    """The cursor lists what is done behind it, so that must be bounded."""
    pulled, gate = [], []

    class Stuck(StreamService[bytes, bytes]):
        async def predict(self, item):
            if item == b"1":
                await gate[0].wait()
            return item

    def endless():
        for number in range(1, 100_000):
            pulled.append(number)
            yield b"%d" % number

    gate.append(asyncio.Event())
    flow = FlowControl(window_items=8)
    async with connect(await serve(Stuck()), flow=flow) as client:
        stream = client.stream(endless(), ordered=False, cursor=Cursor(), lanes=1)
        got = [await anext(stream) for _ in range(4 * 8 - 1)]
        assert b"1" not in got
        cursor = stream.cursor()
        assert (cursor.position, cursor.through) == (0, 4 * 8)
        assert len(pulled) == 4 * 8
        gate[0].set()
        assert await anext(stream) == b"1"
        for _ in range(1000):
            await anext(stream)
        await stream.aclose()


async def test_a_numbered_stream_that_is_dropped_ends_at_once(serve, connect):
    async with connect(await serve(Doubling())) as client:
        stream = client.stream(iter(items(2)), numbered=True, cursor=Cursor())
        await anext(stream)
        kept = weakref.ref(getattr(stream, "plain", stream))
        gc.disable()
        try:
            del stream
            await until(lambda: kept() is None)  # a thread may just be letting go of it
        finally:
            gc.enable()


async def test_digests_of_what_is_done_are_not_kept(serve, connect):
    class Plain(StreamService[bytes, bytes]):
        async def predict(self, item):
            return item

    async with connect(await serve(Plain()), flow=FlowControl(window_items=256)) as client:
        stream = client.stream(items(5_001), cursor=Cursor())
        inner = getattr(stream, "plain", stream)
        most = 0
        for _ in range(5_000):
            await anext(stream)
            most = max(most, len(inner._track._marks))
        assert 0 < most < 1_000
        await stream.aclose()


async def test_how_many_are_left_is_a_hint(serve, connect):
    class Plain(StreamService[bytes, bytes]):
        async def predict(self, item):
            return item

    def hint(stream) -> int:
        return operator.length_hint(getattr(stream, "plain", stream), -1)

    async with connect(await serve(Plain())) as client:
        stream = client.stream(items(10), cursor=Cursor())
        assert hint(stream) == 10
        async for batch in stream.batches(4):
            assert hint(stream) == 10 - batch.cursor.position
            break
        await stream.aclose()
        assert hint(client.stream(items(10), cursor=batch.cursor)) == 6
        assert hint(client.stream(items(10))) == 10
        assert hint(client.stream(iter(items(10)))) == -1
