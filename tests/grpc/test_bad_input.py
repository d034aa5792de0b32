"""What cannot work says so at once, in an error of its own type, and loses nothing."""

import asyncio
import os
from collections.abc import Iterator

import grpc
import pytest
from faces import only_async
from helpers import collect, failures, numbered, outputs
from ports import reserved_port
from tcp import saying, tcp_server

from servestream_client import (
    BytesCodec,
    ClientClosedError,
    CodecMismatchError,
    ConfigurationError,
    FlowControl,
    Hooks,
    InputEncodeError,
    InputsError,
    InputTooLargeError,
    ItemError,
    ItemErrorKind,
    MessageTooLargeError,
    NotAServerError,
    OutputDecodeError,
    ProtobufCodec,
    RetriesExhaustedError,
    RetryPolicy,
    StreamClient,
    UnreachableError,
    VersionMismatchError,
    Watchdog,
    WrongApplicationError,
    WrongEventLoopError,
)
from servestream_client.server import StreamService
from servestream_client.wire import stream_pb2 as pb

QUICK = RetryPolicy(attempts=3, connect_timeout=0, initial=0.001, maximum=0.001)


@pytest.fixture
def nobody() -> Iterator[str]:
    """A target at which nobody listens."""
    with reserved_port() as port:
        yield f"127.0.0.1:{port}"


# ------------------------------------------------------------------ the target


async def test_an_unreachable_server(nobody, connect):
    async with connect(nobody, retry=QUICK) as client:
        with pytest.raises(UnreachableError) as caught:
            await collect(client.stream(numbered(5)))
    error = caught.value
    assert nobody in str(error)
    assert "no output" in str(error)
    assert "refused" in str(error)
    assert (error.attempts, error.last_number) == (3, 0)
    assert error.delivered.unsent == error.delivered.accepted


async def test_a_name_that_does_not_resolve(connect):
    async with connect("no-such-host.invalid:9000", retry=QUICK) as client:
        with pytest.raises(UnreachableError, match="no-such-host"):
            await collect(client.stream(numbered(5)))


async def test_a_server_that_is_no_grpc_server(connect):
    with tcp_server(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as target:
        async with connect(target, retry=QUICK) as client:
            with pytest.raises(UnreachableError):
                await collect(client.stream(numbered(5)))


async def test_a_server_that_accepts_and_stays_silent(listen, connect):
    """As Serve does with more streams than `max_ongoing_requests`."""

    async def silent(requests, context):
        await asyncio.Event().wait()
        yield

    policy = RetryPolicy(
        attempts=2,
        connect_attempts=2,
        connect_timeout=0,
        open_timeout=0.05,
        initial=0.001,
        maximum=0.001,
    )
    async with connect(await listen(silent), retry=policy) as client:
        with pytest.raises(UnreachableError, match="max_ongoing_requests"):
            await collect(client.stream(numbered(5)))


async def test_a_grpc_server_without_the_service(listen, connect):
    async def other(requests, context):
        yield pb.ServerFrame()

    async with connect(await listen(other, method="Other")) as client:
        with pytest.raises(NotAServerError, match="GRPC_SERVICER_FUNCTIONS") as caught:
            await collect(client.stream(numbered(5)))
    assert caught.value.attempts == 1


async def test_a_method_that_ends_without_a_word(listen, connect):
    async def polite(requests, context):
        async for _ in requests:
            return
        yield

    async with connect(await listen(polite)) as client:
        with pytest.raises(NotAServerError):
            await collect(client.stream(numbered(5)))


class Foreign:
    """A message of another protocol."""

    def SerializeToString(self):
        return b"\x0a\xff\xff\xff\xff\x0fhello"


@pytest.mark.parametrize("message", [pb.ServerFrame(), Foreign()])
async def test_a_server_that_speaks_another_protocol(listen, message, connect):
    async def foreign(requests, context):
        async for _ in requests:
            yield message

    async with connect(await listen(foreign)) as client:
        with pytest.raises(NotAServerError, match="does not speak this protocol"):
            await collect(client.stream(numbered(5)))


@pytest.mark.parametrize("by_refusal", [False, True])
async def test_another_protocol_version(listen, by_refusal, connect):
    async def newer(requests, context):
        async for _ in requests:
            if by_refusal:
                yield pb.ServerFrame(
                    refused=pb.Refused(kind=pb.REFUSAL_KIND_VERSION, text="I speak version 2")
                )
            else:
                yield pb.ServerFrame(welcome=pb.Welcome(protocol_version=2))

    async with connect(await listen(newer)) as client:
        with pytest.raises(VersionMismatchError, match="version 2") as caught:
            await collect(client.stream(numbered(5)))
    assert caught.value.attempts == 1


class Named(StreamService[bytes, bytes]):
    application = "sentiment"

    async def predict(self, item):
        return item


async def test_an_unknown_application_answered_by_another(serve, connect):
    """As Serve's default proxy does while one application is deployed."""
    async with connect(await serve(Named()), application="digits") as client:
        with pytest.raises(WrongApplicationError, match="sentiment"):
            await collect(client.stream(numbered(5)))


async def test_a_stream_without_inputs_notices_another_application(serve, connect):
    async with connect(await serve(Named()), application="digits") as client:
        with pytest.raises(WrongApplicationError, match="sentiment"):
            await collect(client.stream([]))


async def test_another_application_that_does_not_look_at_the_name(listen, connect):
    async def welcoming(requests, context):
        async for _ in requests:
            yield pb.ServerFrame(welcome=pb.Welcome(protocol_version=1, application="sentiment"))

    async with connect(await listen(welcoming), application="digits") as client:
        with pytest.raises(WrongApplicationError, match="sentiment"):
            await collect(client.stream(numbered(5)))


async def test_another_codec(echo, connect):
    codec = ProtobufCodec(pb.Open, pb.Welcome)
    async with connect(echo, codec=codec) as client:
        with pytest.raises(CodecMismatchError, match=r"'bytes'.*'protobuf'"):
            await collect(client.stream([pb.Open()]))


async def test_other_types_of_the_same_codec(serve, connect):
    class Service(StreamService[pb.Open, pb.Welcome]):
        codec = ProtobufCodec(pb.Open, pb.Welcome)

        async def predict(self, item):
            return pb.Welcome(application=item.application)

    target = await serve(Service())
    async with connect(target, codec=ProtobufCodec(pb.Open, pb.Welcome)) as client:
        results = await collect(client.stream([pb.Open(application="x")]))
        assert results == [pb.Welcome(application="x")]
    async with connect(target, codec=ProtobufCodec(pb.Open, pb.Open)) as client:
        with pytest.raises(CodecMismatchError, match=r"servestream\.v1\.Welcome"):
            await collect(client.stream([pb.Open()]))


async def test_retries_used_up(listen, connect):
    """It was welcomed once, and then never again."""
    calls = 0

    async def once(requests, context):
        nonlocal calls
        calls += 1
        async for _ in requests:
            if calls > 1:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "gone for good")
            yield pb.ServerFrame(
                welcome=pb.Welcome(protocol_version=1, handler_kind=pb.HANDLER_KIND_ONE_TO_ONE)
            )
            return

    async with connect(await listen(once), retry=QUICK) as client:
        with pytest.raises(RetriesExhaustedError, match="gone for good") as caught:
            await collect(client.stream(numbered(5)))
    assert caught.value.attempts == calls == 3


# ------------------------------------------------------------------ items


class Shouting(BytesCodec):
    """Cannot encode 7, nor decode 8."""

    def encode_input(self, item, /):
        if item == b"7":
            raise ValueError("seven")
        return super().encode_input(item)

    def decode_output(self, payload, /):
        if payload == b"8":
            raise ValueError("eight")
        return super().decode_output(payload)


async def test_items_that_the_codec_cannot_take(echo, connect):
    async with connect(echo, codec=Shouting()) as client:
        results = await collect(client.stream(numbered(20), return_exceptions=True))
    seven, eight = failures(results)
    assert (results.index(seven), results.index(eight)) == (6, 7)
    assert isinstance(seven, InputEncodeError)
    assert (seven.number, seven.input) == (7, b"7")
    assert isinstance(seven.__cause__, ValueError)
    assert isinstance(eight, OutputDecodeError)
    assert (eight.number, eight.kind) == (8, ItemErrorKind.OUTPUT_DECODE)
    assert outputs(results) == [item for item in numbered(20) if item not in (b"7", b"8")]


@pytest.mark.parametrize("ordered", [True, False])
async def test_an_item_of_the_wrong_type_is_raised_where_it_stands(client, ordered):
    seen = []
    with pytest.raises(InputEncodeError, match="BytesCodec takes bytes, not int") as caught:
        async for output in client.stream([b"1", b"2", 3, b"4"], ordered=ordered):
            seen.append(output)
    assert caught.value.number == 3
    assert caught.value.input == 3
    assert not ordered or seen == [b"1", b"2"]


async def test_an_item_larger_than_the_limit(client):
    large = b"x" * (FlowControl().max_item_bytes + 1)
    seen = []
    with pytest.raises(InputTooLargeError, match="max_item_bytes") as caught:
        async for output in client.stream([b"1", b"2", large, b"4"]):
            seen.append(output)
    assert seen == [b"1", b"2"]
    assert caught.value.number == 3


async def test_an_output_larger_than_the_client_accepts(serve, connect):
    class Inflating(StreamService[bytes, bytes]):
        async def predict(self, item):
            return item * int(item)

    small = FlowControl(max_item_bytes=20)
    async with connect(await serve(Inflating()), flow=small) as client:
        results = await collect(client.stream(numbered(12), return_exceptions=True))
    assert [failure.number for failure in failures(results)] == [11, 12]
    assert {failure.kind for failure in failures(results)} == {ItemErrorKind.TOO_LARGE}


async def test_a_server_that_accepts_only_small_messages(connect):
    """A plain grpc.aio server whose owner lowered the message limit below the kit's offer."""

    class Echo(StreamService[bytes, bytes]):
        async def predict(self, item):
            return item

    from servestream_client.server import add_to_server

    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 20_000)])
    add_to_server(Echo(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with connect(f"127.0.0.1:{port}") as client:
            with pytest.raises(MessageTooLargeError, match="max_item_bytes"):
                await collect(client.stream([b"x" * 200_000]))
    finally:
        await server.stop(None)


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        (lambda item: 1 / 0, ItemErrorKind.HANDLER),
        (lambda item: next(iter(())), ItemErrorKind.HANDLER),
        (lambda item: "not bytes", ItemErrorKind.ENCODE),
        (lambda item: None, ItemErrorKind.ENCODE),
    ],
    ids=["raises", "raises StopIteration", "returns a str", "returns nothing"],
)
async def test_handlers_that_misbehave_fail_their_item_only(serve, handler, kind, connect):
    class Service(StreamService[bytes, bytes]):
        def predict(self, item):
            return handler(item) if item == b"3" else item

    async with connect(await serve(Service())) as client:
        results = await collect(client.stream(numbered(5), return_exceptions=True))
    (failure,) = failures(results)
    assert (failure.number, failure.kind) == (3, kind)


async def test_a_handler_that_raises_cancelled_fails_its_item_only(serve, connect):
    class Service(StreamService[bytes, bytes]):
        async def predict(self, item):
            if item == b"3":
                raise asyncio.CancelledError
            return item

    async with connect(await serve(Service())) as client:
        results = await collect(client.stream(numbered(5), return_exceptions=True))
    assert [failure.number for failure in failures(results)] == [3]


# ------------------------------------------------------------------ arguments


@pytest.mark.parametrize("inputs", [None, 5, object(), "text", b"bytes", bytearray(b"x")])
async def test_inputs_that_are_no_iterable(client, inputs):
    with pytest.raises(InputsError, match="inputs"):
        client.stream(inputs)
    with pytest.raises(TypeError):
        client.stream(inputs)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "5", True])
async def test_a_timeout_that_is_none(client, timeout):
    with pytest.raises(ConfigurationError, match="timeout"):
        client.stream([], timeout=timeout)


class Unnamed(BytesCodec):
    id = None


class Methodical(BytesCodec):
    def fingerprint(self):
        return "forgot @property"


class Later(Hooks):
    async def on_event(self, event):
        pass


def kinds(options: dict) -> str:
    """A name for a case; not its value, which may have an address in it."""
    return ", ".join(f"{name}: {type(value).__name__}" for name, value in options.items())


@pytest.mark.parametrize("parameters", [["a"], "ab", {"a": 1}, {1: "a"}, {"a": "\udcff"}])
async def test_parameters_that_are_no_strings(client, parameters):
    with pytest.raises(ConfigurationError, match="parameters"):
        client.stream([], parameters=parameters)


@pytest.mark.parametrize(
    "options",
    [
        {"target": ""},
        {"target": None},
        {"target": 9000},
        {"target": ("localhost", 9000)},
        {"target": "http://localhost:9000"},
        {"application": None},
        {"codec": BytesCodec},
        {"codec": "bytes"},
        {"retry": 5},
        {"flow": {"window_items": 5}},
        {"watchdog": Watchdog},
        {"metadata": {"authorization": "x"}},
        {"metadata": ["authorization"]},
        {"metadata": [(1, "x")]},
        {"metadata": [("Authorization", "x")]},
        {"metadata": [("x-name", "Zo\u00eb")]},
        {"metadata": [("x-name", "a\nb")]},
        {"metadata": iter([("x-name", "a")])},
        {"metadata": None},
        {"application": "caf\u00e9"},
        {"codec": Unnamed()},
        {"codec": Methodical()},
        {"hooks": Hooks()},
        {"hooks": [print]},
        {"hooks": print},
        {"hooks": [Later()]},
        {"credentials": b"certificate"},
        {"close_timeout": 0},
        {"close_timeout": "5"},
        {"close_timeout": None},
        {"predict_streams": 0},
        {"streams_per_connection": True},
    ],
    ids=kinds,
)
def test_arguments_that_cannot_work(options, monkeypatch):
    monkeypatch.delenv("SERVESTREAM_TARGET", raising=False)
    (name,) = options
    with pytest.raises(ConfigurationError, match=name):
        StreamClient(**{"target": "127.0.0.1:9000", **options})


@pytest.mark.parametrize(
    "options",
    [
        {"retry": 5},
        {"flow": 5},
        {"watchdog": 5},
        {"hooks": 5},
        {"close_timeout": "5"},
        {"close_timeout": 0},
    ],
    ids=kinds,
)
async def test_other_options_that_cannot_work(client, options):
    (name,) = options
    with pytest.raises(ConfigurationError, match=name):
        client.with_options(**options)


def test_everything_behind_the_target_is_keyword_only():
    with pytest.raises(TypeError):
        StreamClient("127.0.0.1:9000", "digits")


@pytest.mark.parametrize(
    ("policy", "options"),
    [
        (RetryPolicy, {"attempts": 0}),
        (RetryPolicy, {"initial": 2, "maximum": 1}),
        (RetryPolicy, {"open_timeout": 0}),
        (FlowControl, {"window_items": 0}),
        (FlowControl, {"max_item_bytes": 2**40}),
        (FlowControl, {"max_unacknowledged_frames": 1}),
        (RetryPolicy, {"attempts": "3"}),
        (RetryPolicy, {"attempts": 1.5}),
        (RetryPolicy, {"attempts": None}),
        (RetryPolicy, {"give_up_after": "120"}),
        (RetryPolicy, {"open_timeout": None}),
        (FlowControl, {"window_bytes": 1e6}),
        (FlowControl, {"window_items": True}),
        (Watchdog, {"item_timeout": "1"}),
        (Watchdog, {"heartbeat_interval": 0}),
    ],
)
def test_policies_that_cannot_work(policy, options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        policy(**options)


async def test_a_connection_cannot_be_made_for_larger_items_later(client):
    with pytest.raises(ConfigurationError, match="max_item_bytes"):
        client.with_options(flow=FlowControl(max_item_bytes=100 * 2**20))


async def test_a_client_used_after_its_end(echo, connect):
    client = connect(echo)
    waiting = client.stream(numbered(5))
    async with client:
        assert await collect(client.stream(numbered(5))) == numbered(5)
    with pytest.raises(ClientClosedError):
        client.stream(numbered(5))
    with pytest.raises(ClientClosedError):
        await collect(waiting)
    with pytest.raises(ClientClosedError):
        async with client:
            pass


@only_async
async def test_a_client_used_in_another_event_loop(client):
    assert await collect(client.stream(numbered(5))) == numbered(5)

    def elsewhere():
        asyncio.run(collect(client.stream(numbered(5))))

    with pytest.raises(WrongEventLoopError):
        await asyncio.to_thread(elsewhere)
    assert await collect(client.stream(numbered(5))) == numbered(5)


@only_async
async def test_two_tasks_iterating_one_stream(client):
    stream = client.stream(numbered(5))
    first, second = await asyncio.gather(anext(stream), anext(stream), return_exceptions=True)
    assert first == b"1"
    assert isinstance(second, ConfigurationError)
    assert await collect(stream) == numbered(5)[1:]


async def test_a_stream_raises_its_error_once_and_is_over(client):
    stream = client.stream([b"1", 2, b"3"])
    with pytest.raises(ItemError):
        await collect(stream)
    assert await collect(stream) == []


@only_async
async def test_a_stream_that_has_begun_belongs_to_its_event_loop_and_process(client, monkeypatch):
    stream = client.stream(iter(numbered(3000)), ordered=False)
    await anext(stream)
    stream._rest = iter(())  # so that there is something to wait for

    def elsewhere() -> None:
        async def iterate() -> None:
            await anext(stream)

        asyncio.run(iterate())

    with pytest.raises(WrongEventLoopError, match="another event loop"):
        await asyncio.to_thread(elsewhere)
    with monkeypatch.context() as child:
        child.setattr(os, "getpid", lambda: -1)
        with pytest.raises(ClientClosedError, match="forked"):
            await anext(stream)
    await stream.aclose()
