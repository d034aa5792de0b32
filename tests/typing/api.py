"""The whole public surface as users write it. Nothing here runs: type checkers read it."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_type

import grpc
import grpc.aio
import numpy as np
import numpy.typing as npt
import pytest
from google.protobuf.wrappers_pb2 import Int64Value, StringValue

from servestream_client import (
    ArraySpec,
    Batch,
    BytesCodec,
    Codec,
    Cursor,
    Delivered,
    Endpoints,
    FlowControl,
    Generation,
    Hooks,
    ItemError,
    ItemErrorKind,
    JsonCodec,
    LaneStatistics,
    MsgpackCodec,
    NoOutput,
    Numbered,
    NumpyCodec,
    PredictionStream,
    ProtobufCodec,
    RetryPolicy,
    Seam,
    SeamKind,
    SeekableInputs,
    ServeStreamError,
    StreamClient,
    StreamError,
    StreamStatistics,
    SyncGeneration,
    SyncPredictionStream,
    SyncStreamClient,
    Watchdog,
)
from servestream_client.events import (
    AttemptEnded,
    AttemptOutcome,
    AttemptStarted,
    AttemptWelcomed,
    CallEnded,
    ItemFailed,
    OutputsArrived,
    ServerDraining,
    StreamEnded,
    StreamKind,
    StreamStarted,
)
from servestream_client.events import Event as StreamEvent
from servestream_client.metadata import Metadata
from servestream_client.opentelemetry import OpenTelemetryHooks
from servestream_client.server import (
    GRPC_SERVER_OPTIONS,
    GRPC_SERVICER_FUNCTIONS,
    Output,
    RefusalKind,
    Refuse,
    Replay,
    Resume,
    StatefulService,
    StreamRequest,
    StreamService,
    Tokens,
    add_to_server,
)
from servestream_client.testing import (
    AnyFault,
    Cut,
    CutKind,
    Deaf,
    Delay,
    Direction,
    Echo,
    Event,
    Fault,
    FaultHandle,
    FaultKind,
    FaultProxy,
    History,
    Slice,
    StreamServer,
    Throttle,
    assert_resumable,
)
from servestream_client.testing.ray_serve import Ingress, RayStreamServer


class LengthCodec:
    """A codec of one's own: it needs no base class."""

    id = "length"
    fingerprint = ""

    def encode_input(self, item: str, /) -> bytes:
        return item.encode()

    def decode_input(self, payload: bytes, /) -> str:
        return payload.decode()

    def encode_output(self, output: int, /) -> bytes:
        return str(output).encode()

    def decode_output(self, payload: bytes, /) -> int:
        return int(payload)


codec: Codec[str, int] = LengthCodec()
messages = ProtobufCodec(StringValue, Int64Value)


@dataclass
class Text:
    text: str


structured = JsonCodec(Text, list[float])
packed: Codec[Text, dict[str, bytes]] = MsgpackCodec(Text, dict[str, bytes])
arrays = NumpyCodec(ArraySpec(np.uint8, (None, 8, 8)), ArraySpec(np.dtype(np.float32), (10,)))


class Watching(Hooks):
    def on_event(self, event: StreamEvent, /) -> None:
        match event:
            case StreamStarted(kind=kind, statistics=statistics):
                assert_type(kind, StreamKind)
                assert_type(statistics(), StreamStatistics)
            case AttemptEnded(outcome=outcome, reason=reason):
                assert_type(outcome, AttemptOutcome)
                assert_type(reason, str)
            case AttemptWelcomed(resumed=resumed):
                assert_type(resumed, bool)
            case ServerDraining(grace=grace):
                assert_type(grace, float)
            case ItemFailed(kind=failure):
                assert_type(failure, ItemErrorKind)
            case CallEnded(kind=kind, seconds=seconds, outputs=outputs, error=error):
                assert_type(kind, StreamKind)
                assert_type(seconds, float)
                assert_type(outputs, int)
                assert_type(error, BaseException | None)
            case OutputsArrived(first_index=first, count=count, seconds=seconds):
                assert_type(first, int)
                assert_type(count, int)
                assert_type(seconds, float)
            case StreamEnded(error=error):
                assert_type(error, BaseException | None)
            case _:
                assert_type(event.stream_id, str)

    def metadata(self, attempt: AttemptStarted, /) -> Metadata:
        return [("attempt", str(attempt.attempt))]


# ------------------------------------------------------------------ the async client


async def clients() -> None:
    plain = StreamClient("localhost:9000")
    assert_type(plain, StreamClient[bytes, bytes])
    assert_type(StreamClient("localhost:9000", codec=BytesCodec()), StreamClient[bytes, bytes])
    assert_type(StreamClient("localhost:9000", codec=codec), StreamClient[str, int])
    protobuf = StreamClient("localhost:9000", codec=messages)
    assert_type(protobuf, StreamClient[StringValue, Int64Value])
    json = StreamClient("localhost:9000", codec=structured, hooks=[Watching()])
    assert_type(json, StreamClient[Text, list[float]])
    assert_type(await json.predict(Text("x")), list[float])
    numpy = SyncStreamClient("localhost:9000", codec=arrays, hooks=[OpenTelemetryHooks()])
    assert_type(numpy, SyncStreamClient[npt.NDArray[np.uint8], npt.NDArray[np.float32]])
    full = StreamClient(
        "localhost:9000",
        application="length",
        codec=LengthCodec(),
        retry=RetryPolicy(attempts=3, give_up_after=None),
        flow=FlowControl(window_items=10),
        watchdog=Watchdog(heartbeat_interval=5.0, item_timeout=None),
        metadata=[("authorization", "Bearer x"), ("key-bin", b"x")],
        credentials=grpc.ssl_channel_credentials(),
        close_timeout=1.0,
        predict_streams=2,
        streams_per_connection=10,
    )
    assert_type(full, StreamClient[str, int])
    assert_type(full.with_options(retry=RetryPolicy(), hooks=[]), StreamClient[str, int])
    assert_type(StreamClient(), StreamClient[bytes, bytes])
    several = Endpoints(["10.0.0.1:9000", "10.0.0.2:9000"], discover=False)
    assert_type(StreamClient(several), StreamClient[bytes, bytes])
    assert_type(StreamClient(["10.0.0.1:9000", "10.0.0.2:9000"]), StreamClient[bytes, bytes])
    async with full as entered:
        assert_type(entered, StreamClient[str, int])
    await full.aclose()


async def streams(client: StreamClient[str, int]) -> None:
    async for output in client.stream(["one"]):
        assert_type(output, int)
    async for either in client.stream(("one",), return_exceptions=True):
        assert_type(either, int | ItemError)

    async def inputs() -> AsyncIterator[str]:
        yield "one"

    stream = client.stream(inputs(), ordered=False, timeout=1.5, parameters={"model": "small"})
    assert_type(stream, PredictionStream[int])
    async with stream as entered:
        assert_type(await anext(entered), int)
    statistics = stream.statistics()
    assert_type(statistics, StreamStatistics)
    assert_type([*statistics.lanes], list[LaneStatistics])
    assert_type(statistics.resumes, int)
    await stream.aclose()
    assert_type(await client.predict("one", timeout=1), int)


async def numbered_streams(client: StreamClient[str, int], flag: bool) -> None:
    numbered = client.stream(["one"], numbered=True)
    assert_type(numbered, PredictionStream[Numbered[int]])
    async for each in numbered:
        assert_type(each.number, int)
        assert_type(each.index, int)
        assert_type(each.output, int | None)
        assert_type(each.last, bool)
    async for either in client.stream(("one",), numbered=True, return_exceptions=True):
        assert_type(either, Numbered[int] | ItemError)
        match either:
            case Numbered(number, index, output, last):
                assert_type((number, index, output, last), tuple[int, int, int | None, bool])
            case ItemError():
                assert_type(either.number, int)
    maybe = client.stream(["one"], numbered=True, return_exceptions=flag, ordered=flag)
    assert_type(maybe, PredictionStream[Numbered[int] | ItemError])
    assert_type(client.stream(["one"], numbered=False), PredictionStream[int])
    plain = client.stream(["one"], numbered=False, return_exceptions=True)
    assert_type(plain, PredictionStream[int | ItemError])
    either_way = client.stream(["one"], numbered=flag)
    assert_type(either_way, PredictionStream[int | Numbered[int] | ItemError])
    wider: Numbered[int | str] = Numbered(1, 0, 5, last=True)
    assert_type(wider.last, bool)
    end: Numbered[int] = NoOutput(1, 0, None, last=True)
    assert_type(end.output, int | None)


class Rows(SeekableInputs[str]):
    def after(self, count: int) -> Iterator[str]:
        return iter(["one", "two"][count:])


async def cursors(client: StreamClient[str, int], kept: bytes) -> None:
    stream = client.stream(Rows(), cursor=Cursor.from_bytes(kept))
    assert_type(stream, PredictionStream[int])
    async for batch in stream.batches(10):
        assert_type(batch, Batch[int])
        assert_type(batch.outputs, list[int])
        assert_type(bytes(batch.cursor), bytes)
    assert_type(stream.cursor(), Cursor)


def blocking_cursors(client: SyncStreamClient[str, int]) -> None:
    stream = client.stream(Rows(), cursor=Cursor(), return_exceptions=True)
    for batch in stream.batches(10):
        assert_type(batch, Batch[int | ItemError])
    assert_type(stream.cursor().position, int)


async def generations(client: StreamClient[str, int]) -> None:
    generation = client.generate("one", timeout=1.5)
    assert_type(generation, Generation[int])
    async for output in generation:
        assert_type(output, int)
    async with client.generate("one") as entered:
        assert_type(entered, Generation[int])
        assert_type(await anext(entered), int)
    for seam in generation.seams:
        assert_type(seam, Seam)
        assert_type(seam.index, int)
        assert_type(seam.kind, SeamKind)
        assert_type((seam.before, seam.after), tuple[str, str])
    assert_type(generation.delivered, int)
    await generation.aclose()
    wider: Generation[int | str] = generation
    await wider.aclose()


async def mistakes(client: StreamClient[str, int]) -> None:
    client.stream([b"bytes"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    await client.predict(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.generate(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    StreamClient("localhost:9000", retries=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    StreamClient("localhost:9000", codec=5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    SyncStreamClient("localhost:9000").stream(nothing())  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


async def nothing() -> AsyncIterator[bytes]:
    yield b""


# ------------------------------------------------------------------ the blocking client


def blocking() -> None:
    assert_type(SyncStreamClient("localhost:9000"), SyncStreamClient[bytes, bytes])
    client = SyncStreamClient("localhost:9000", application="length", codec=codec)
    assert_type(client, SyncStreamClient[str, int])
    assert_type(client.with_options(flow=FlowControl()), SyncStreamClient[str, int])

    def inputs() -> Iterator[str]:
        yield "one"

    with client as entered:
        assert_type(entered, SyncStreamClient[str, int])
        for output in client.stream(inputs()):
            assert_type(output, int)
        for either in client.stream(inputs(), return_exceptions=True):
            assert_type(either, int | ItemError)
        with client.stream(inputs(), ordered=False, timeout=1.0, parameters={}) as stream:
            assert_type(stream, SyncPredictionStream[int])
            assert_type(next(stream), int)
            assert_type(stream.statistics(), StreamStatistics)
            stream.close()
        assert_type(client.predict("one", timeout=1.0), int)
    client.close()


def blocking_with_many_outputs(client: SyncStreamClient[str, int], flag: bool) -> None:
    for each in client.stream(["one"], numbered=True):
        assert_type(each, Numbered[int])
        assert_type(each.output, int | None)
    for either in client.stream(["one"], numbered=True, return_exceptions=True):
        assert_type(either, Numbered[int] | ItemError)
    assert_type(client.stream(["one"], numbered=False), SyncPredictionStream[int])
    plain = client.stream(["one"], numbered=False, return_exceptions=flag)
    assert_type(plain, SyncPredictionStream[int | ItemError])
    either_way = client.stream(["one"], numbered=flag)
    assert_type(either_way, SyncPredictionStream[int | Numbered[int] | ItemError])
    for output in client.generate("one", timeout=1.0):
        assert_type(output, int)
    with client.generate("one") as generation:
        assert_type(generation, SyncGeneration[int])
        assert_type(next(generation), int)
        assert_type(generation.seams, tuple[Seam, ...])
        assert_type(generation.delivered, int)
        generation.close()


# ------------------------------------------------------------------ errors


def errors(error: ServeStreamError) -> None:
    if isinstance(error, ItemError):
        assert_type(error.number, int)
        assert_type(error.kind, ItemErrorKind)
        assert_type(error.retryable, bool)
        assert_type(error.input, object)
    if isinstance(error, StreamError):
        assert_type(error.delivered, Delivered)
        assert_type(error.attempts, int)
        assert_type(error.last_number, int)
        assert_type(error.stream_id, str)
        assert_type(error.reason, str)


# ------------------------------------------------------------------ services


class Length(StreamService[str, int]):
    codec = LengthCodec()
    application = "length"
    code_version = "1"
    max_concurrency = 4

    async def admit(self, request: StreamRequest) -> None:
        if "model" not in request.parameters:
            raise Refuse("which model?", kind=RefusalKind.BAD_OPEN, retry_after=1.0)

    def predict(self, item: str) -> int:
        return len(item)


class AsyncLength(StreamService[str, int]):
    codec = LengthCodec()

    async def predict(self, item: str) -> int:
        return len(item)


class Lengths(StreamService[str, int]):
    codec = LengthCodec()
    max_batch_size = 16
    batch_wait = 0.01

    def predict_batch(self, items: list[str]) -> Sequence[int]:
        return [len(item) for item in items]


class Words(StreamService[str, int]):
    codec = LengthCodec()
    replay = Replay.CONTINUE
    fingerprint = "words 1"

    async def generate(self, item: str, resume: Resume[int]) -> AsyncIterator[int | Output[int]]:
        assert_type(resume.index, int)
        assert_type(resume.outputs, Sequence[int])
        assert_type(resume.outputs_from, int)
        assert_type(resume.checkpoint, bytes | None)
        for word in item.split()[resume.index :]:
            yield Output(len(word), checkpoint=word.encode())
            yield len(word)

    def is_finished(self, item: str, resume: Resume[int]) -> bool:
        return bool(resume) and resume.index == len(item.split())


class PlainWords(StreamService[str, int]):
    codec = LengthCodec()
    replay = Replay.SEEK

    def generate(self, item: str, resume: Resume[int]) -> Iterator[int]:
        yield from (len(word) for word in item.split()[resume.index :])


class Running(StatefulService[str, int, bytes]):
    codec = LengthCodec()
    tokens = Tokens(inputs=5, payload_bytes=1000, seconds=1.0, share=0.1)
    state_version = 2

    def begin(self, parameters: Mapping[str, str]) -> bytes:
        return b""

    def step(self, state: bytes, item: str) -> tuple[bytes, int]:
        return state + item.encode(), len(item)

    def upgrade(self, version: int, raw: bytes) -> bytes:
        return raw


def try_it() -> None:
    assert_resumable(Running, ["a", "b"], parameters={"x": "y"})
    assert_resumable(Running(), ["a"])


def serve() -> None:
    server = grpc.aio.server(options=GRPC_SERVER_OPTIONS)
    add_to_server(Length(), server)
    assert_type(GRPC_SERVICER_FUNCTIONS, list[str])


# ------------------------------------------------------------------ tests of services


@pytest.mark.stream_faults(Fault(FaultKind.KILL, at=3), Cut(after_bytes=100))
async def with_plugin(
    stream_server: StreamServer,
    make_stream_server: Callable[..., StreamServer],
    stream_client: StreamClient[str, int],
    sync_stream_client: SyncStreamClient[str, int],
) -> None:
    assert_type(stream_server.target, str)
    assert_type(stream_server.fired, list[AnyFault])
    assert_type(stream_server.history, History)
    assert_type(stream_server.history.events, Sequence[Event])
    stream_server.add_faults(Fault(FaultKind.SLOW, at=1, seconds=0.5), Deaf(Direction.UP))
    stream_server.clear_faults()
    stream_server.add_faults(Fault(FaultKind.KILL, at=1, output=40))
    assert_type(Fault(FaultKind.KILL, at=1).output, int | None)
    stream_server.kill()
    assert_type(stream_server.lives, int)
    assert_type(stream_server.proxy, FaultProxy)
    make_stream_server(Length)
    async for output in stream_client.stream(["one"]):
        assert_type(output, int)
    assert_type(sync_stream_client.predict("one"), int)


def with_ray(ray_stream_server: RayStreamServer) -> None:
    handle: FaultHandle = ray_stream_server
    handle.add_faults(Fault(FaultKind.KILL, at=1), Delay(0.1))
    assert_type(handle.target, str)
    assert_type(ray_stream_server.application, str)
    assert_type(ray_stream_server.serve.ingress, Ingress)
    ray_stream_server.kill("replica")


def without_pytest() -> None:
    with StreamServer() as server, StreamServer(Length) as second:
        handle: FaultHandle = server
        handle.kill()
        assert_type(second, StreamServer)
    with StreamServer(Echo(), seed=5) as server:
        assert_type(server.replica, str)


def proxies() -> None:
    with FaultProxy("localhost:9000", seed=1) as proxy:
        proxy.add(
            Cut(after_bytes=10, how=CutKind.CLOSE, direction=Direction.DOWN, times=None),
            Deaf(),
            Delay(0.1, jitter=0.05),
            Throttle(1000),
            Slice(10),
        )
        proxy.remove(Deaf())
        assert_type(proxy.cut(), int)
        assert_type(proxy.target, str)
        threading.Thread(target=proxy.clear)


async def proxies_in_async_code() -> None:
    async with FaultProxy("localhost:9000") as proxy:
        assert_type(proxy, FaultProxy)
