"""User code that misbehaves, in inputs, codec or handler: nothing hangs, nothing
is lost, and the reason comes out where one looks for it.
"""

import asyncio
import sys
import threading
from dataclasses import dataclass

import pytest
from faces import only_async
from faulty import streams_running
from helpers import collect, failures, numbered, outputs, until

from servestream_client import (
    BytesCodec,
    ConfigurationError,
    FlowControl,
    InputEncodeError,
    ItemError,
    ItemErrorKind,
    OutputDecodeError,
    RetriesExhaustedError,
    RetryPolicy,
    StreamClient,
    StreamError,
    StreamTimeoutError,
)
from servestream_client.server import Refuse, StreamService
from servestream_client.server.kit import Interceptor
from servestream_client.usercode import type_name
from servestream_client.wire import stream_pb2 as pb

QUICK = RetryPolicy(attempts=3, connect_attempts=3, connect_timeout=0, initial=0.001, maximum=0.001)


@dataclass(frozen=True)
class FrozenError(Exception):
    """Takes no note."""


class UnspeakableError(Exception):
    """Cannot even say itself."""

    def __str__(self):
        raise RuntimeError


class BaseError(BaseException):
    """As pytest.fail() raises."""


# ------------------------------------------------------------------ inputs


class LyingError(Exception):
    """Raises whatever it is asked."""

    @property
    def __class__(self):
        raise SystemExit("class")

    def __bool__(self):
        raise SystemExit("bool")

    def __str__(self):
        raise SystemExit("text")

    def __setattr__(self, name, value):
        raise SystemExit("attribute")


async def test_an_exception_that_raises_whatever_it_is_asked_surfaces(client):
    def inputs():
        yield b"1"
        raise LyingError

    caught = None
    try:
        await collect(client.stream(inputs()))
    except BaseException as error:
        caught = error
    assert type(caught) is LyingError
    assert await client.predict(b"on") == b"on"


@pytest.mark.parametrize("part", ["stream", "predict"])
async def test_bytes_that_raise_when_they_are_measured_are_the_codecs_fault(echo, connect, part):
    class Payload(bytes):
        def __len__(self):
            raise GeneratorExit

    class Codec(BytesCodec):
        def encode_input(self, item, /):
            return Payload(item)

    async with connect(echo, codec=Codec()) as client:
        with pytest.raises(InputEncodeError, match="GeneratorExit"):
            await (client.predict(b"1") if part == "predict" else collect(client.stream([b"1"])))


@pytest.mark.parametrize("error", [FrozenError, UnspeakableError, BaseError])
async def test_whatever_the_inputs_raise_surfaces(client, error):
    def inputs():
        yield b"1"
        raise error

    seen = []
    with pytest.raises(error):
        async for output in client.stream(inputs()):
            seen.append(output)
    assert seen == [b"1"]


def raising(error, *, after=1):
    """A plain iterator that raises as it is, where a generator would wrap it."""

    class Inputs:
        left = after

        def __iter__(self):
            return self

        def __next__(self):
            if not self.left:
                raise error
            self.left -= 1
            return b"1"

    return Inputs()


def raising_later(error, *, after=1):
    """The same for asynchronous inputs."""
    plain = raising(error, after=after)

    class Inputs:
        def __aiter__(self):
            return self

        async def __anext__(self):
            await asyncio.sleep(0)
            return next(plain)

    return Inputs()


CONTROL_FLOW = [StopAsyncIteration(), GeneratorExit(), asyncio.CancelledError()]


@pytest.mark.parametrize("error", CONTROL_FLOW, ids=type_name)
@pytest.mark.parametrize("after", [0, 1, 5000])
async def test_control_flow_out_of_plain_inputs_is_no_end_of_the_stream(client, error, after):
    seen = []
    with pytest.raises(RuntimeError, match=f"the stream's inputs raised {type_name(error)}") as e:
        async for output in client.stream(raising(error, after=after)):
            seen.append(output)
    assert e.value.__cause__ is error
    assert len(seen) == after


@only_async
@pytest.mark.parametrize("error", [*CONTROL_FLOW[1:], StopIteration()], ids=type_name)
async def test_control_flow_out_of_asynchronous_inputs_is_none_either(client, error):
    seen = []
    with pytest.raises(RuntimeError):
        async for output in client.stream(raising_later(error)):
            seen.append(output)
    assert seen == [b"1"]


@pytest.mark.parametrize("error", [SystemExit(3), BaseError()], ids=type_name)
@pytest.mark.parametrize("inputs", [raising, raising_later])
async def test_an_exit_in_the_inputs_comes_after_the_outputs_before_it(
    client, request, error, inputs
):
    if inputs is raising_later and "blocking" in request.node.name:
        pytest.skip("asynchronous inputs")
    seen = []
    with pytest.raises(type(error)) as caught:
        async for output in client.stream(inputs(error, after=10)):
            seen.append(output)
    assert caught.value is error
    assert seen == [b"1"] * 10
    assert not [task for task in streams_running() if "worker" not in task.get_name()]
    assert await client.predict(b"on") == b"on"


@pytest.mark.parametrize("face", ["StreamClient", "SyncStreamClient"])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_sys_exit_in_the_inputs_ends_a_script(echo, face, asynchronous):
    if face == "SyncStreamClient" and asynchronous:
        pytest.skip("asynchronous inputs")
    loop = "async for" if face == "StreamClient" else "for"
    entering = "async with" if face == "StreamClient" else "with"
    script = f"""
import asyncio, sys
from servestream_client import {face}

{"async " if asynchronous else ""}def inputs():
    yield b"1"
    sys.exit(3)

{"async " if face == "StreamClient" else ""}def main():
    {entering} {face}({echo!r}) as client:
        {loop} output in client.stream(inputs()):
            print(output.decode(), flush=True)

{"asyncio.run(main())" if face == "StreamClient" else "main()"}
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        script,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert (out, err, process.returncode) == (b"1\n", b"", 3)


@pytest.mark.parametrize("error", [*CONTROL_FLOW, SystemExit(2)], ids=type_name)
async def test_inputs_that_raise_as_they_begin_raise_there(client, error):
    class Inputs:
        def __iter__(self):
            raise error

    with pytest.raises(BaseException) as caught:
        client.stream(Inputs())
    assert error in (caught.value, caught.value.__cause__)
    assert not isinstance(caught.value, StopAsyncIteration | GeneratorExit | asyncio.CancelledError)


@pytest.mark.parametrize("error", [SystemExit(1), BaseError(), asyncio.CancelledError()])
async def test_a_generator_that_will_not_close_is_logged_and_harms_nothing(client, caplog, error):
    def inputs():
        try:
            while True:
                yield b"1"
        finally:
            raise error

    stream = client.stream(inputs())
    assert await anext(stream) == b"1"
    await stream.aclose()
    await until(lambda: "closing the inputs failed" in caplog.text)
    assert await client.predict(b"on") == b"on"


@only_async
async def test_inputs_without_aiter_of_their_own_are_streamed(client):
    class Bare:
        left = 3

        async def __anext__(self):
            self.left -= 1
            if self.left < 0:
                raise StopAsyncIteration
            return b"x"

    class Inputs:
        def __aiter__(self):
            return Bare()

    assert await collect(client.stream(Inputs())) == [b"x"] * 3


@only_async
async def test_an_async_generator_cleans_up_undisturbed(client):
    cleaned = []

    async def inputs():
        try:
            yield b"1"
            await asyncio.Event().wait()
        finally:
            for step in range(5):
                await asyncio.sleep(0)
                cleaned.append(step)

    stream = client.stream(inputs())
    assert await anext(stream) == b"1"
    await stream.aclose()
    assert cleaned == list(range(5))


@only_async
async def test_a_timeout_holds_although_the_inputs_will_not_be_cancelled(client):
    release = asyncio.Event()

    async def inputs():
        yield b"1"
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    stubborn = client.with_options(close_timeout=0.05)
    with pytest.raises(StreamTimeoutError):
        await collect(stubborn.stream(inputs(), timeout=0.05))
    release.set()


@only_async
async def test_a_conversation_goes_on_after_an_input_that_does_not_fit_the_server(serve, connect):
    class Small(StreamService[bytes, bytes]):
        flow = FlowControl(max_item_bytes=10)

        async def predict(self, item):
            return item

    answers = asyncio.Queue()

    async def inputs():
        for item in (b"1", b"x" * 11, b"3"):
            yield item
            await answers.get()

    async with connect(await serve(Small())) as client:
        results = []
        async for result in client.stream(inputs(), return_exceptions=True):
            results.append(result)
            answers.put_nowait(None)
    assert [failure.number for failure in failures(results)] == [2]


@only_async
async def test_an_item_error_is_not_lost_to_a_cancelled_wait(client):
    """The consumer is cancelled in the moment in which the stream closes for an item's failure."""
    cleaning = asyncio.Event()

    async def inputs():
        try:
            yield b"1"
            yield 2
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            for _ in range(20):
                await asyncio.sleep(0)

    stream = client.stream(inputs())
    assert await anext(stream) == b"1"
    step = asyncio.ensure_future(anext(stream))
    await cleaning.wait()
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    with pytest.raises(ItemError) as caught:
        await anext(stream)
    assert caught.value.number == 2
    assert await collect(stream) == []


# ------------------------------------------------------------------ codec


async def test_a_codec_that_raises_what_cannot_be_said(echo, connect):
    class Codec(BytesCodec):
        def encode_input(self, item, /):
            raise UnspeakableError

    async with connect(echo, codec=Codec()) as client:
        with pytest.raises(InputEncodeError, match="UnspeakableError"):
            await collect(client.stream([b"1"]))


ANYTHING = [*CONTROL_FLOW, StopIteration(), SystemExit(3), BaseError(), UnspeakableError()]


def codec_raising(error, where):
    class Codec(BytesCodec):
        def encode_input(self, item, /):
            if where == "input" and item == b"3":
                raise error
            return item

        def decode_output(self, payload, /):
            if where == "output" and payload == b"3":
                raise error
            return payload

    return Codec()


@pytest.mark.parametrize("error", ANYTHING, ids=type_name)
@pytest.mark.parametrize("where", ["input", "output"])
async def test_whatever_a_codec_raises_is_its_items_error(echo, connect, error, where):
    kind = InputEncodeError if where == "input" else OutputDecodeError
    async with connect(echo, codec=codec_raising(error, where)) as client:
        results = await collect(client.stream(numbered(5), return_exceptions=True))
        (failure,) = failures(results)
        assert (type(failure), failure.number) == (kind, 3)
        assert error in (failure.__cause__, failure.__cause__.__cause__)
        assert outputs(results) == [b"1", b"2", b"4", b"5"]
        with pytest.raises(kind):
            await client.predict(b"3")
        assert await client.predict(b"4") == b"4"


@pytest.mark.parametrize("where", ["input", "output"])
async def test_a_codecs_cancelled_error_is_not_the_tasks_own(echo, connect, where):
    """Although that task is being cancelled, or was once and went on."""
    async with connect(echo, codec=codec_raising(asyncio.CancelledError(), where)) as client:

        async def consume():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return await collect(client.stream(numbered(5), return_exceptions=True))

        task = asyncio.ensure_future(consume())
        await asyncio.sleep(0)
        task.cancel()
        assert len(failures(await task)) == 1


# ------------------------------------------------------------------ handlers


def lazily(items):
    yield items[0]
    raise ValueError("late")


@pytest.mark.parametrize(
    "handler",
    [
        lambda item: (_ for _ in ()).throw(UnspeakableError()),
        lambda item: (_ for _ in ()).throw(BaseError()),
        lambda item: (_ for _ in ()).throw(asyncio.CancelledError()),
    ],
    ids=["UnspeakableError", "BaseError", "CancelledError"],
)
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_whatever_a_handler_raises_is_its_items_error(serve, handler, asynchronous, connect):
    class Sync(StreamService[bytes, bytes]):
        def predict(self, item):
            return handler(item) if item == b"3" else item

    class Async(StreamService[bytes, bytes]):
        async def predict(self, item):
            return handler(item) if item == b"3" else item

    async with connect(await serve(Async() if asynchronous else Sync())) as client:
        stream = client.stream(numbered(5), return_exceptions=True)
        results = await collect(stream)
        assert stream.statistics().attempts == 1
    (failure,) = failures(results)
    assert (failure.number, failure.kind) == (3, ItemErrorKind.HANDLER)
    assert outputs(results) == [b"1", b"2", b"4", b"5"]


async def test_a_handler_with_the_wrong_parameters_fails_its_items(serve, connect):
    class Service(StreamService[bytes, bytes]):
        async def predict(self):
            return b""

    async with connect(await serve(Service())) as client:
        results = await collect(client.stream(numbered(2), return_exceptions=True))
    assert [failure.kind for failure in results] == [ItemErrorKind.HANDLER] * 2


async def test_a_batch_handler_that_answers_lazily_is_told_so(serve, connect):
    class Service(StreamService[bytes, bytes]):
        def predict_batch(self, items):
            return lazily(items)

    async with connect(await serve(Service())) as client:
        results = await collect(client.stream(numbered(2), return_exceptions=True))
    assert [failure.number for failure in failures(results)] == [1, 2]
    assert "no sequence" in str(results[0])


async def test_threads_whose_clients_left_still_count(serve, connect):
    """A handler in a thread cannot be stopped: its place stays taken until it ends."""
    go_on = threading.Event()

    class Service(StreamService[bytes, bytes]):
        max_concurrency = 1
        running = most = 0

        def predict(self, item):
            type(self).running += 1
            type(self).most = max(self.most, self.running)
            go_on.wait(30)
            type(self).running -= 1
            return item

    target = await serve(Service())
    for _ in range(3):
        async with connect(target) as client:
            stream = client.stream([b"1"])
            step = asyncio.ensure_future(anext(stream))
            await until(lambda: Service.running == 1)
            await stream.aclose()
            await asyncio.gather(step, return_exceptions=True)
    go_on.set()
    async with connect(target) as client:
        assert await collect(client.stream(numbered(5))) == numbered(5)
    assert Service.most == 1


async def test_a_handler_that_will_not_be_cancelled_does_not_hold_the_call(serve, connect):
    release = asyncio.Event()

    class Service(StreamService[bytes, bytes]):
        async def predict(self, item):
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue
            return item

    async with connect(await serve(Service())) as client:
        stream = client.stream([b"1"])
        step = asyncio.ensure_future(anext(stream))
        await until(lambda: any("worker" in t.get_name() for t in streams_running()))
        await stream.aclose()
        await asyncio.gather(step, return_exceptions=True)
        await until(lambda: all("worker" in t.get_name() for t in streams_running()))
        release.set()


# ------------------------------------------------------------------ admit


async def test_a_plain_admit_will_do(serve, connect):
    class Service(StreamService[bytes, bytes]):
        def admit(self, request):
            pass

        async def predict(self, item):
            return item

    async with connect(await serve(Service())) as client:
        assert await collect(client.stream(numbered(3))) == numbered(3)


async def test_an_admit_that_raises_fails_the_attempt_and_says_so(serve, connect):
    class Service(StreamService[bytes, bytes]):
        async def admit(self, request):
            raise ValueError("a bug in admit")

        async def predict(self, item):
            return item

    async with connect(await serve(Service()), retry=QUICK) as client:
        with pytest.raises(RetriesExhaustedError, match="a bug in admit") as caught:
            await collect(client.stream(numbered(3)))
    assert caught.value.__cause__ is not None


class Nameless(type):
    @property
    def __name__(cls):
        raise RuntimeError("no name")


class UnsayableError(Exception, metaclass=Nameless):
    def __str__(self):
        raise SystemExit("no text")


ANYTHING = [
    SystemExit(3),
    asyncio.CancelledError(),
    StopAsyncIteration(),
    StopIteration(1),
    GeneratorExit(),
    BaseError(),
    UnsayableError(),
]


@pytest.mark.parametrize("raised", ANYTHING, ids=lambda error: type(error).__mro__[0].__qualname__)
@pytest.mark.parametrize("plain", [False, True])
async def test_whatever_admit_raises_is_said_at_once(serve, connect, raised, plain):
    def refuse(self, request):
        raise raised

    async def refuse_later(self, request):
        await asyncio.sleep(0)
        raise raised

    class Service(StreamService[bytes, bytes]):
        admit = refuse if plain else refuse_later

        async def predict(self, item):
            return item

    once = RetryPolicy(attempts=1, connect_attempts=1, connect_timeout=0)
    async with connect(await serve(Service()), retry=once) as client:
        with pytest.raises(RetriesExhaustedError, match=r"admit\(\) raised") as caught:
            await collect(client.stream(numbered(3)))
    name = (
        type(raised).__qualname__ if isinstance(raised, UnsayableError) else type(raised).__name__
    )
    assert name in str(caught.value)


@pytest.mark.parametrize("raised", ANYTHING, ids=lambda error: type(error).__mro__[0].__qualname__)
@pytest.mark.parametrize("where", ["plain", "async", "batch", "plain batch", "decode", "encode"])
async def test_whatever_a_services_code_raises_is_one_items_error(serve, where, raised):
    def check(value, at):
        if at == where and b"3" in (value if isinstance(value, list) else [value]):
            raise raised
        return value

    class Codec(BytesCodec):
        def decode_input(self, payload, /):
            return check(payload, "decode")

        def encode_output(self, output, /):
            return check(output, "encode")

    class Plain(StreamService[bytes, bytes]):
        def predict(self, item):
            return check(item, "plain")

    class Async(StreamService[bytes, bytes]):
        codec = Codec()

        async def predict(self, item):
            return check(item, "async")

    class Batch(StreamService[bytes, bytes]):
        async def predict_batch(self, items):
            return check(items, "batch")

    class PlainBatch(StreamService[bytes, bytes]):
        def predict_batch(self, items):
            return check(items, "plain batch")

    kinds = {"plain": Plain, "batch": Batch, "plain batch": PlainBatch}
    async with StreamClient(await serve(kinds.get(where, Async)())) as client:
        stream = client.stream(numbered(45), return_exceptions=True)
        results = await collect(stream)
    (failure,) = failures(results)
    assert failure.number == 3
    assert outputs(results) == [item for item in numbered(45) if item != b"3"]
    assert stream.statistics().attempts == 1
    if isinstance(raised, SystemExit):
        assert "called sys.exit()" in str(failure)


class Lies:
    """A result with whatever length and contents."""

    def __init__(self, items, *, length=None, contents=None):
        self.items = items
        self.length = length
        self.contents = contents

    def __len__(self):
        return len(self.items) if self.length is None else self.length(self.items)

    def __getitem__(self, place):
        return self.items[place]

    def __iter__(self):
        return iter(self.items) if self.contents is None else self.contents(self.items)

    @property
    def __class__(self):
        raise SystemExit("not even its class")


def cancelling(*_):
    raise asyncio.CancelledError


def endless(items):
    while True:
        yield items[0]


def breaking(items):
    yield items[0]
    raise KeyError("in its middle")


@pytest.mark.parametrize(
    "lie",
    [
        {"length": cancelling},
        {"length": lambda _: -1},
        {"contents": cancelling},
        {"contents": lambda items: iter(items[1:])},
        {"contents": endless},
        {"contents": breaking},
        {"contents": lambda _: 5},
    ],
    ids=["no length", "negative", "no contents", "too few", "endless", "breaks", "no iterator"],
)
@pytest.mark.parametrize("plain", [False, True])
async def test_a_batch_result_that_lies_fails_its_own_inputs(serve, lie, plain):
    def answer(self, items):
        return Lies(items, **lie) if b"3" in items else items

    async def answer_later(self, items):
        return answer(self, items)

    class Service(StreamService[bytes, bytes]):
        predict_batch = answer if plain else answer_later

    async with StreamClient(await serve(Service())) as client:
        results = await collect(client.stream(numbered(9), return_exceptions=True))
    assert [failure.number for failure in failures(results)] == [3]
    assert outputs(results) == [item for item in numbered(9) if item != b"3"]


class Awaits:
    def __init__(self, code):
        self.code = code

    def __await__(self):
        return self.code()


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("plain", [False, True])
async def test_a_handlers_exception_that_lies_is_its_items_error(serve, plain, batch):
    def answer(self, given):
        if b"3" in (given if batch else [given]):
            raise LyingError
        return given

    async def answer_later(self, given):
        return answer(self, given)

    handler = {"predict_batch" if batch else "predict": answer if plain else answer_later}
    service = type("Service", (StreamService,), handler)()

    async with StreamClient(await serve(service)) as client:
        results = await collect(client.stream(numbered(45), return_exceptions=True))
    (failure,) = failures(results)
    assert (failure.number, failure.kind) == (3, ItemErrorKind.HANDLER)
    assert "LyingError" in failure.text
    assert outputs(results) == [item for item in numbered(45) if item != b"3"]


async def test_an_admits_exception_that_lies_is_said(serve, connect):
    class Service(StreamService[bytes, bytes]):
        async def admit(self, request):
            raise LyingError

        async def predict(self, item):
            return item

    async with connect(await serve(Service()), retry=QUICK) as client:
        with pytest.raises(RetriesExhaustedError, match=r"admit\(\) raised LyingError"):
            await collect(client.stream(numbered(3)))


class Unhashable(type):
    """Of classes that are equal by what they say, and lack a hash since."""

    def __eq__(cls, other):
        raise SystemExit("equal")

    __hash__ = None


class Result(metaclass=Unhashable):
    pass


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("plain", [False, True])
async def test_an_output_whose_class_has_no_hash_is_its_items_error(serve, plain, batch):
    def answer(self, given):
        if batch:
            return [Result() if item == b"3" else item for item in given]
        return Result() if given == b"3" else given

    async def answer_later(self, given):
        return answer(self, given)

    handler = {"predict_batch" if batch else "predict": answer if plain else answer_later}
    service = type("Service", (StreamService,), handler)()

    async with StreamClient(await serve(service)) as client:
        results = await collect(client.stream(numbered(45), return_exceptions=True))
    (failure,) = failures(results)
    assert (failure.number, failure.kind) == (3, ItemErrorKind.ENCODE)
    assert outputs(results) == [item for item in numbered(45) if item != b"3"]


def odd():
    yield 5


@pytest.mark.parametrize("code", [cancelling, odd, lambda: 7, lambda: next(iter(()))])
async def test_a_strange_awaitable_is_its_items_error(serve, code):
    class Service(StreamService[bytes, bytes]):
        def predict(self, item):
            return Awaits(code) if item == b"3" else item

    async with StreamClient(await serve(Service())) as client:
        results = await collect(client.stream(numbered(5), return_exceptions=True))
    assert [failure.number for failure in failures(results)] == [3]
    assert outputs(results) == [b"1", b"2", b"4", b"5"]


async def test_a_refusal_that_cannot_be_sent_is_said(serve, connect):
    class Strange(Refuse):
        text = property(cancelling, lambda *_: None)

    class Service(StreamService[bytes, bytes]):
        async def admit(self, request):
            raise Strange("x")

        async def predict(self, item):
            return item

    async with connect(await serve(Service()), retry=QUICK) as client:
        with pytest.raises(RetriesExhaustedError, match=r"admit\(\) raised"):
            await collect(client.stream(numbered(3)))


async def test_a_refusal_in_any_letters_and_for_ever_arrives(serve, connect):
    class Service(StreamService[bytes, bytes]):
        async def admit(self, request):
            raise Refuse("no \ud800", retry_after=1e300)

        async def predict(self, item):
            return item

    async with connect(await serve(Service())) as client:
        with pytest.raises(RetriesExhaustedError, match=r"no \\ud800"):
            await collect(client.stream(numbered(3)))


@pytest.mark.parametrize("raised", [SystemExit(3), asyncio.CancelledError(), BaseError()])
async def test_what_comes_between_may_raise_anything(serve, connect, raised):
    class Between(Interceptor):
        def frames(self, serve, requests):
            raise raised

    class Service(StreamService[bytes, bytes]):
        async def predict(self, item):
            return item

        def _interceptor(self):
            return Between()

    async with connect(await serve(Service()), retry=QUICK) as client:
        with pytest.raises(StreamError, match="the service raised"):
            await collect(client.stream(numbered(3)))


async def test_a_delay_beyond_the_patience_fails_at_once(serve, connect):
    class Service(StreamService[bytes, bytes]):
        async def admit(self, request):
            raise Refuse("much later", retry_after=1e9)

        async def predict(self, item):
            return item

    async with connect(await serve(Service())) as client:
        with pytest.raises(RetriesExhaustedError, match="much later"):
            await collect(client.stream(numbered(3)))


@pytest.mark.parametrize("delay", [-1, float("inf"), float("nan")])
def test_a_delay_that_is_none(delay):
    with pytest.raises(ConfigurationError):
        Refuse("x", retry_after=delay)


# ------------------------------------------------------------------ other kinds of handlers


async def test_inputs_without_outputs_free_their_places(listen, connect):
    """A server whose handler has any number of outputs: here none, and then two."""

    async def serve(requests, context):
        credit = pb.Credit()
        async for frame in requests:
            if frame.HasField("open"):
                yield pb.ServerFrame(
                    welcome=pb.Welcome(protocol_version=1, handler_kind=pb.HANDLER_KIND_ONE_TO_MANY)
                )
            parts = []
            for run in frame.inputs:
                for number, payload in enumerate(run.payloads, run.first_number):
                    outputs = [] if number % 3 else [payload, payload]
                    parts.append(
                        pb.OutputPart(number=number, first_index=0, payloads=outputs, last=True)
                    )
            credit = frame.credit
            reply = pb.ServerFrame(parts=parts, frames_read=0)
            serve.read += bool(frame.inputs)
            reply.frames_read = serve.read
            serve.answered += len(parts)
            if frame.HasField("end"):
                reply.end.last_number = frame.end.last_number
                reply.end.inputs_received = reply.end.inputs_answered = serve.answered
            if parts or frame.HasField("end"):
                yield reply
        assert credit.outputs

    serve.read = serve.answered = 0
    async with connect(await listen(serve), flow=FlowControl(window_items=4)) as client:
        results = await collect(client.stream(numbered(30)))
    assert results == [item for item in numbered(30) if not int(item) % 3 for _ in "ab"]
