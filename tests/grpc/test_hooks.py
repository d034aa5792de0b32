"""What hooks and logs are told, by either face, of streams on real sockets."""

import asyncio
import logging
from collections import Counter

import pytest
from faulty import FaultyEcho
from helpers import numbered, until
from noting import Noting

from servestream_client import (
    ConfigurationError,
    FlowControl,
    Hooks,
    ItemError,
    RetryPolicy,
    StreamClient,
    UnreachableError,
    Watchdog,
)
from servestream_client.errors import ItemErrorKind
from servestream_client.events import (
    AttemptEnded,
    AttemptOutcome,
    AttemptStarted,
    AttemptWelcomed,
    ItemFailed,
    StreamEnded,
    StreamKind,
    StreamStarted,
)
from servestream_client.server import StreamService
from servestream_client.testing.faults import Fault, FaultKind
from servestream_client.transport.classify import Decision, Verdict


@pytest.fixture
def noting() -> Noting:
    return Noting()


async def test_a_stream_that_resumes_tells_each_step(connect, echo, plan, noting):
    plan.add(Fault(FaultKind.CLOSE, 10))
    async with connect(echo, hooks=[noting]) as client:
        stream = client.stream(numbered(20))
        assert [output async for output in stream] == numbered(20)
        await until(lambda: noting.ended)
    assert [type(event) for event in noting.events] == [
        StreamStarted,
        AttemptStarted,
        AttemptWelcomed,
        AttemptEnded,
        AttemptStarted,
        AttemptWelcomed,
        AttemptEnded,
        StreamEnded,
    ]
    assert {event.stream_id for event in noting.events} == {stream.statistics().stream_id}
    started, (broken, complete) = noting.of(StreamStarted)[0], noting.of(AttemptEnded)
    assert (started.target, started.kind, started.ordered) == (echo, StreamKind.STREAM, True)
    assert [event.resumed for event in noting.of(AttemptWelcomed)] == [False, True]
    assert [event.attempt for event in noting.of(AttemptStarted)] == [1, 2]
    assert (broken.outcome, complete.outcome) == (AttemptOutcome.BROKEN, AttemptOutcome.COMPLETE)
    assert broken.reason
    (ended,) = noting.of(StreamEnded)
    assert ended.error is None
    assert started.statistics() == stream.statistics()
    assert ended.statistics.received == 20
    assert ended.statistics.resumes == 1


async def test_an_item_that_fails_is_told_once(connect, echo, plan, noting):
    plan.add(Fault(FaultKind.RAISE, 3))
    async with connect(echo, hooks=[noting]) as client:
        outputs = [output async for output in client.stream(numbered(5), return_exceptions=True)]
        await until(lambda: noting.ended)
    assert isinstance(outputs[2], ItemError)
    (failed,) = noting.of(ItemFailed)
    assert (failed.number, failed.kind) == (3, ItemErrorKind.HANDLER)
    assert failed.text == outputs[2].text


async def test_an_item_that_does_not_fit_the_server_is_told_at_once(serve, noting):
    """Though others before it are not answered, and no frame comes."""

    class Small(StreamService[bytes, bytes]):
        flow = FlowControl(max_item_bytes=100)

        async def predict(self, item: bytes) -> bytes:
            await done.wait()
            return item

    done = asyncio.Event()

    async def inputs():
        yield b"1"
        await until(lambda: noting.of(AttemptWelcomed))
        yield bytes(101)
        await done.wait()

    quiet = Watchdog(heartbeat_interval=None)
    async with StreamClient(await serve(Small()), hooks=[noting], watchdog=quiet) as client:
        stream = client.stream(inputs(), return_exceptions=True)
        first = asyncio.ensure_future(anext(stream))
        await until(lambda: noting.of(ItemFailed))
        done.set()
        assert await first == b"1"
        assert [error.number async for error in stream] == [2]


async def test_an_attempt_that_moves_for_its_age_is_no_failure(echo, noting):
    async def inputs():
        for item in numbered(3):
            yield item
        await until(lambda: len(noting.of(AttemptWelcomed)) > 1)
        yield b"last"

    retry = RetryPolicy(max_attempt_age=0.01)
    async with StreamClient(echo, hooks=[noting], retry=retry) as client:
        assert [output async for output in client.stream(inputs())] == [*numbered(3), b"last"]
        await until(lambda: noting.ended)
    *moved, last = [event.outcome for event in noting.of(AttemptEnded)]
    assert set(moved) == {AttemptOutcome.LEFT}
    assert last is AttemptOutcome.COMPLETE


async def test_other_hooks_on_the_same_connection(connect, echo, noting):
    others = Noting()
    async with connect(echo, hooks=[noting]) as client:
        assert await client.with_options(hooks=[others]).predict(b"a") == b"a"
        with pytest.raises(ConfigurationError, match="derived from Hooks"):
            client.with_options(hooks=["log"])
        await until(lambda: others.of(StreamStarted))
    assert not noting.events


async def test_a_stream_that_is_left_early_ends_once(connect, echo, noting):
    async with connect(echo, hooks=[noting]) as client:
        stream = client.stream(numbered(100_000))
        async for _ in stream:
            break
        await stream.aclose()
        await until(lambda: noting.ended)
    (attempt,), (ended,) = noting.of(AttemptEnded), noting.of(StreamEnded)
    assert attempt.outcome is AttemptOutcome.CLOSED
    assert type(ended.error).__name__ == "ClientClosedError"


async def test_calls_of_predict_share_a_stream(connect, echo, plan, noting):
    plan.add(Fault(FaultKind.RAISE, 2))
    async with connect(echo, hooks=[noting], predict_streams=1) as client:
        assert await client.predict(b"a") == b"a"
        with pytest.raises(ItemError):
            await client.predict(b"b")
        assert not noting.of(StreamEnded)
    (started,), (failed,) = noting.of(StreamStarted), noting.of(ItemFailed)
    assert started.kind is StreamKind.PREDICT
    assert failed.number == 2  # of the stream's, not of the call's
    await until(lambda: noting.ended)


async def test_a_stream_that_fails_says_so(connect, noting):
    retry = RetryPolicy(connect_timeout=0, initial=0.001, maximum=0.001)
    async with connect("127.0.0.1:1", hooks=[noting], retry=retry) as client:
        with pytest.raises(UnreachableError):
            async for _ in client.stream([b"x"]):
                pass
        await until(lambda: noting.ended)
    (ended,) = noting.of(StreamEnded)
    assert isinstance(ended.error, UnreachableError)
    assert Counter(event.outcome for event in noting.of(AttemptEnded)) == {
        AttemptOutcome.BROKEN: len(noting.of(AttemptStarted))
    }


async def test_hooks_that_fail_harm_nobody(connect, echo, noting, caplog):
    class Failing(Hooks):
        def on_event(self, event, /):
            raise ZeroDivisionError("a bug of the user's")

        def metadata(self, attempt, /):
            raise ZeroDivisionError("another one")

    class Invalid(Hooks):
        def metadata(self, attempt, /):
            return [("Upper-Case", "x")]

    async with connect(echo, hooks=[Failing(), Invalid(), noting]) as client:
        assert [output async for output in client.stream(numbered(5))] == numbered(5)
        await until(lambda: noting.ended)
    assert "a bug of the user's" in caplog.text
    assert "another one" in caplog.text
    assert "lower case, and not 'Upper-Case'" in caplog.text


def test_what_is_no_hook_is_refused(connect):
    with pytest.raises(ConfigurationError, match="derived from Hooks, not <function"):
        connect("127.0.0.1:1", hooks=[lambda event: None])


async def test_the_log_has_levels(connect, echo, plan, noting, caplog):
    caplog.set_level("DEBUG", "servestream_client")
    plan.add(Fault(FaultKind.CLOSE, 10))
    async with connect(echo, hooks=[noting]) as client:
        assert len([output async for output in client.stream(numbered(20))]) == 20
        await until(lambda: noting.ended)
    told = [(record.levelno, record.getMessage()) for record in caplog.records]
    levels = {
        level for level, text in told for part in ("resumed by", "attempt 1 failed") if part in text
    }
    assert levels == {logging.INFO}
    (ended,) = [level for level, text in told if "ended: 20 inputs sent, 20 answered" in text]
    assert ended == logging.DEBUG


class Unsendable(str):
    """Text whose methods are its own."""

    __slots__ = ()

    def encode(self, *_):
        raise SystemExit("encode")

    def __len__(self):
        raise SystemExit("length")

    __hash__ = str.__hash__


@pytest.mark.parametrize("pair", [("key", Unsendable("a")), (Unsendable("key"), "a")])
@pytest.mark.parametrize("from_hook", [False, True])
async def test_metadata_are_sent_without_asking_them(connect, echo, from_hook, pair):
    class Sending(Hooks):
        def metadata(self, attempt, /):
            return [pair]

    how = {"hooks": [Sending()]} if from_hook else {"metadata": [pair]}
    async with connect(echo, **how) as client:
        assert await client.predict(b"1") == b"1"


async def test_metadata_of_hooks_goes_with_each_call(connect, serve, plan):
    seen: list[dict] = []

    class Seeing(FaultyEcho):
        async def Stream(self, request_stream, grpc_context=None):
            seen.append(dict(grpc_context.invocation_metadata()))
            async for frame in super().Stream(request_stream, grpc_context):
                yield frame

    class Numbering(Hooks):
        def metadata(self, attempt, /):
            return [("attempt", str(attempt.attempt))]

    plan.add(Fault(FaultKind.CLOSE, 10))
    own = [("own", "x")]
    async with connect(await serve(Seeing(plan)), metadata=own, hooks=[Numbering()]) as client:
        assert [output async for output in client.stream(numbered(20))] == numbered(20)
    assert [(each["own"], each["attempt"]) for each in seen] == [("x", "1"), ("x", "2")]


class Unspeakable(Hooks):
    """Raises, and cannot be printed."""

    def __init__(self, error: BaseException, only: type | None = None) -> None:
        self.error = error
        self.only = only
        self.raised = 0

    def on_event(self, event, /):
        if self.only is None or isinstance(event, self.only):
            self.raised += 1
            raise self.error

    def metadata(self, attempt, /):
        return self.on_event(attempt)

    def __repr__(self):
        raise RuntimeError("no text")


DOWN = Verdict(Decision.RESUME, "nobody answers", unreachable=True)
ANYTHING = [
    asyncio.CancelledError(),
    GeneratorExit(),
    StopIteration(1),
    StopAsyncIteration(),
    SystemExit(3),
    BaseException("mine"),
    ExceptionGroup("several", [ValueError(1), ValueError(2)]),
]
EVENTS = [
    None,
    StreamStarted,
    AttemptStarted,
    AttemptWelcomed,
    AttemptEnded,
    ItemFailed,
    StreamEnded,
]


@pytest.mark.parametrize("error", ANYTHING, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("only", EVENTS, ids=lambda kind: getattr(kind, "__name__", "all"))
async def test_whatever_a_hook_raises_harms_nothing(  # noqa: PLR0917
    connect, echo, plan, caplog, noting, error, only
):
    # A break may undo the failure of an input, which happens once only.
    plan.add(Fault(FaultKind.RAISE, 3) if only is ItemFailed else Fault(FaultKind.CLOSE, 10))
    bad = Unspeakable(error, only)
    async with connect(echo, hooks=[bad, noting]) as client:
        results = [r async for r in client.stream(numbered(20), return_exceptions=True)]
        await until(lambda: noting.ended)
        assert await client.predict(b"x") == b"x"
    assert len(results) == 20
    assert bad.raised
    assert "the hook Unspeakable failed" in caplog.text
    assert len(noting.of(StreamStarted)) == len(noting.of(StreamEnded)) == 2


@pytest.mark.parametrize("error", ANYTHING, ids=lambda error: type(error).__name__)
async def test_a_hook_that_raises_at_the_attempt_that_probes_for_all_stops_nobody(
    connect, serve, plan, error
):
    """Every stream of the client waits for what that attempt finds out."""

    class AtTheProbe(Unspeakable):
        def on_event(self, event, /):
            if isinstance(event, AttemptStarted) and event.attempt > 1:
                self.raised += 1
                raise self.error

    bad = AtTheProbe(error)
    plan.add(*(Fault(FaultKind.CLOSE, at) for at in (5, 6, 7)))
    async with connect(await serve(FaultyEcho(plan)), hooks=[bad]) as client:
        client_target = client.plain if hasattr(client, "plain") else client
        streams = [client.stream(numbered(20)) for _ in range(5)]
        firsts = [await anext(stream) for stream in streams]
        client_target._connection.endpoints.endpoints[0].breaker.trip(DOWN)
        for first, stream in zip(firsts, streams, strict=True):
            assert [first, *[output async for output in stream]] == numbered(20)
        assert [output async for output in client.stream(numbered(20))] == numbered(20)
    assert bad.raised
