"""The driver over links in memory: attempts in turn, as scripted servers end them."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from dataclasses import replace

import pytest
from noting import Noting
from pools import pool_of

from servestream_client import (
    AccessDeniedError,
    CodecMismatchError,
    FlowControl,
    Hooks,
    ItemErrorKind,
    NotAServerError,
    RetriesExhaustedError,
    RetryPolicy,
    ServerFailedError,
    StreamError,
    UnreachableError,
    VersionMismatchError,
    WrongApplicationError,
)
from servestream_client.events import (
    AttemptEnded,
    AttemptOutcome,
    AttemptStarted,
    ItemFailed,
    ServerDraining,
    StreamEnded,
    StreamStarted,
)
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.frames import (
    ClientFrame,
    CodecId,
    Drain,
    HandlerKind,
    OutputRun,
    RefusalKind,
    Refused,
    ServerFrame,
    StreamErrorKind,
    StreamFailure,
    Welcome,
)
from servestream_client.session.driver import StreamDriver
from servestream_client.session.pump import InputPump
from servestream_client.session.stream import PredictionStream
from servestream_client.transport.memory import CallFailed, MemoryLink, MemoryTransport
from simulation.loop import VirtualLoop, isolated

QUICK = RetryPolicy(
    attempts=3, connect_attempts=3, connect_timeout=0, initial=0.0001, maximum=0.0001
)
ITEMS = [b"%d" % number for number in range(1, 51)]


def drive(
    server: Callable, *, items=ITEMS, retry: RetryPolicy = QUICK, hooks: Sequence[Hooks] = ()
) -> StreamDriver:
    flow = FlowControl()
    driver = StreamDriver(
        session=ClientSession(stream_id=bytes(16), codec=CodecId("bytes"), flow=flow),
        endpoints=pool_of(lambda: MemoryTransport(server)),
        retry=retry,
        timeout=None,
        close_timeout=0.01,
        hooks=hooks,
    )
    driver.pump = InputPump(
        inlet=driver.inlet,
        inputs=items,
        encode=lambda item: item,
        max_item_bytes=flow.max_item_bytes,
        notify=driver.notify,
    )
    return driver


async def run(driver: StreamDriver) -> list[bytes]:
    """Every output until the stream's outcome; raises that if it is a failure."""
    driver.start()
    taken = []
    while True:
        driver.outlet.deliver(lambda delivery: taken.append(delivery.payload))
        if driver.finished:
            await driver.aclose()
            if driver.error is not None:
                raise driver.error
            return taken
        await driver.arrived.wait()


async def answers(requests: AsyncIterator[ClientFrame], limit: int) -> AsyncIterator[ServerFrame]:
    """Welcome, and echo so many inputs, one a frame."""
    read, left = 0, limit
    first = True
    async for frame in requests:
        if first:
            yield ServerFrame(welcome=Welcome())
            first = False
        read += frame.paced
        for run_of_inputs in frame.inputs:
            for number, payload in enumerate(run_of_inputs.payloads, run_of_inputs.first_number):
                if not left:
                    return
                left -= 1
                yield ServerFrame(outputs=[OutputRun(number, [payload])], frames_read=read)


async def silent(requests: AsyncIterator[ClientFrame]) -> AsyncIterator[ServerFrame]:
    """Never a word, so that whatever is told meanwhile comes from this side."""
    async for _ in requests:
        pass
    for frame in ():
        yield frame


async def test_hooks_hear_of_a_failure_on_this_side_when_it_happens():
    noting = Noting()

    def encode(item: bytes) -> bytes:
        if item == b"bad":
            raise ValueError("no")
        return item

    driver = drive(silent, items=[b"1", b"bad", b"x" * 4_000_000, b"2", b"3"], hooks=[noting])
    driver.pump._encode = encode
    driver.start()
    while driver.session.ledger.accepted < 5:
        await asyncio.sleep(0)
    told = [(event.number, event.kind) for event in noting.of(ItemFailed)]
    assert told == [(2, ItemErrorKind.INPUT_ENCODE), (3, ItemErrorKind.INPUT_TOO_LARGE)]
    driver.cancel(4)
    assert noting.of(ItemFailed)[-1].number == 4
    assert driver.session.delivery.failed == []
    assert not driver.session.delivery.ready  # in their turn, which has not come
    await driver.aclose()
    assert len(noting.of(ItemFailed)) == 3


@pytest.mark.parametrize("status", ["OK", "UNAVAILABLE", "INTERNAL", "CANCELLED", "ABORTED"])
async def test_progress_carries_a_stream_through_any_number_of_breaks(status):
    """One output an attempt, with a policy of three attempts: 50 times it is enough."""
    calls = 0

    async def server(requests):
        nonlocal calls
        calls += 1
        async for frame in answers(requests, 1):
            yield frame
        if status != "OK":
            raise CallFailed(status, "as it happens")

    assert await run(drive(server)) == ITEMS
    assert calls == len(ITEMS)


async def test_connecting_is_not_progress():
    """A server that answers three inputs, and then only ever welcomes."""
    calls = itertools.count()

    async def server(requests):
        async for frame in answers(requests, 3 if next(calls) == 0 else 0):
            yield frame

    driver = drive(server)
    with pytest.raises(RetriesExhaustedError):
        await run(driver)
    assert driver.session.counters.attempts == 1 + QUICK.attempts
    assert driver.delivered().taken_through == 3


async def test_what_had_arrived_comes_before_the_failure():
    calls = itertools.count()

    async def server(requests):
        async for frame in answers(requests, 3 if next(calls) == 0 else 0):
            yield frame

    tasks: list[asyncio.Task] = []
    stream = PredictionStream(
        drive(server),
        start=lambda driver: tasks.append(driver.start()),
        decode=bytes,
        return_exceptions=False,
    )
    seen = [await anext(stream)]
    await asyncio.wait(tasks)  # the consumer looks away until all is over
    with pytest.raises(RetriesExhaustedError):
        async for output in stream:
            seen.append(output)
    assert seen == ITEMS[:3]


async def test_after_a_refusal_that_passes_another_application_is_no_wrong_address():
    """Its port may have been given to a replica of another application meanwhile."""
    refusals = iter([RefusalKind.OVERLOADED, RefusalKind.APPLICATION])

    async def server(requests):
        kind = next(refusals, None)
        if kind is not None:
            yield ServerFrame(refused=Refused(kind, "not now"))
            return
        async for frame in answers(requests, len(ITEMS)):
            yield frame

    assert await run(drive(server)) == ITEMS


@pytest.mark.parametrize(
    "unfit",
    [
        Welcome(protocol_version=2),
        Welcome(handler_kind=HandlerKind.STATEFUL),
        Welcome(handler_kind=HandlerKind.UNSPECIFIED),
    ],
    ids=["version", "stateful", "unknown kind"],
)
async def test_a_welcome_that_does_not_fit_is_not_called_a_refusal(unfit):
    async def server(requests):
        await anext(requests)
        yield ServerFrame(welcome=unfit)
        async for _ in requests:
            pass

    with pytest.raises(VersionMismatchError) as raised:
        await run(drive(server))
    assert "not served there (version)" in raised.value.reason
    assert "refused" not in raised.value.reason


async def test_a_server_that_only_fails_is_not_said_to_have_been_silent():
    async def server(requests):
        await anext(requests)
        yield ServerFrame(error=StreamFailure(StreamErrorKind.INTERNAL, "admit() raised"))

    policy = replace(QUICK, connect_attempts=2, connect_timeout=0)
    with pytest.raises(
        RetriesExhaustedError, match=r"never completed a handshake.*: .*admit\(\) raised"
    ):
        await run(drive(server, retry=policy))


async def test_a_refusal_that_passes_makes_the_server_known():
    """It is asked as often as the policy says, not only as often as a new target."""
    calls = itertools.count(1)

    async def server(requests):
        call = next(calls)
        if call == 1:
            yield ServerFrame(refused=Refused(RefusalKind.OVERLOADED, "busy", 0))
            return
        if call <= 5:
            raise CallFailed("INTERNAL", "as it happens")
        async for frame in answers(requests, len(ITEMS)):
            yield frame

    policy = RetryPolicy(
        attempts=10, connect_attempts=2, connect_timeout=0, initial=0.0001, maximum=0.0001
    )
    assert await run(drive(server, retry=policy)) == ITEMS


@pytest.mark.parametrize("welcomed", [True, False])
async def test_another_application_is_passing_only_where_the_stream_was_welcome(welcomed):
    """Behind HAProxy another application's replica may have got the port of one that died."""
    calls = itertools.count(0 if welcomed else 1)

    async def server(requests):
        call = next(calls)
        if 1 <= call <= 2:
            yield ServerFrame(refused=Refused(RefusalKind.APPLICATION, "this is another"))
            return
        async for frame in answers(requests, 3 if call == 0 else len(ITEMS)):
            yield frame

    driver = drive(server)
    if welcomed:
        assert await run(driver) == ITEMS
    else:
        with pytest.raises(WrongApplicationError):
            await run(driver)


async def test_inputs_travel_with_the_open_only_to_who_welcomed_before():
    opens: list[ClientFrame] = []

    async def server(requests):
        first = await anext(requests)
        opens.append(first)
        if len(opens) == 3:
            yield ServerFrame(refused=Refused(RefusalKind.OVERLOADED, "", 0))
            return
        yield ServerFrame(welcome=Welcome())
        frame = first if first.inputs else await anext(requests)
        (inputs, *_) = frame.inputs
        yield ServerFrame(
            outputs=[OutputRun(inputs.first_number, inputs.payloads[:1])], frames_read=1
        )

    driver = drive(server, items=ITEMS[:4])
    assert await run(driver) == ITEMS[:4]
    assert [bool(frame.inputs) for frame in opens] == [False, True, True, False, True]


@pytest.mark.parametrize("greets", [False, True])
async def test_only_a_call_without_any_answer_speaks_against_its_connection(greets):
    avoided: list[MemoryLink] = []
    links: list[MemoryLink] = []

    class Noting(MemoryLink):
        def avoid_connection(self) -> None:
            avoided.append(self)

    class Transport(MemoryTransport):
        def open(self, metadata=(), *, apart=False) -> MemoryLink:
            links.append(Noting(self._server))
            return links[-1]

    async def server(requests):
        if len(links) > 1:
            async for frame in answers(requests, len(ITEMS)):
                yield frame
        elif greets:
            yield ServerFrame(refused=Refused(RefusalKind.OVERLOADED, "", 0))
        else:
            await asyncio.Event().wait()

    policy = RetryPolicy(open_timeout=0.01, initial=0.0001, maximum=0.0001)
    driver = drive(server, retry=policy)
    driver.endpoints.endpoints[0].transport = Transport(server)
    assert await run(driver) == ITEMS
    assert avoided == ([] if greets else links[:1])


async def test_a_bug_in_the_transport_surfaces_and_does_not_hang():
    class Broken(MemoryTransport):
        def open(self, metadata=(), *, apart=False):
            raise ZeroDivisionError("a bug")

    driver = drive(lambda requests: None)
    driver.endpoints.endpoints[0].transport = Broken(lambda requests: None)
    with pytest.raises(StreamError, match="did not foresee") as caught:
        await run(driver)
    assert type(caught.value.__cause__) is ZeroDivisionError


async def test_an_error_tells_what_was_never_sent():
    async def server(requests):
        raise CallFailed("UNAVAILABLE", "nobody home")
        yield

    driver = drive(server)
    with pytest.raises(StreamError):
        await run(driver)
    delivered = driver.delivered()
    assert (delivered.accepted, delivered.unsent, delivered.answered) == (50, 50, 0)
    assert "50 inputs were pulled and never sent" in str(delivered)


async def test_a_farewell_is_not_given_the_time_of_a_drain():
    """A server that leaves with much grace, and then never ends the call."""
    calls = 0
    left = asyncio.Event()

    async def inputs():
        for item in ITEMS:
            if item == ITEMS[10]:
                await left.wait()
            yield item

    async def server(requests):
        nonlocal calls
        calls += 1
        first = calls == 1
        async for frame in answers(requests, len(ITEMS)):
            last = first and frame.outputs and frame.outputs[0].first_number == 10
            if last:
                yield ServerFrame(drain=Drain(grace_ms=3_600_000))
            yield frame
            if last:
                left.set()
                await asyncio.Event().wait()

    noting = Noting()
    async with asyncio.timeout(20):
        assert await run(drive(server, items=inputs(), hooks=[noting])) == ITEMS
    assert calls == 2
    assert [(event.attempt, event.grace) for event in noting.of(ServerDraining)] == [(1, 3600.0)]
    outcomes = [event.outcome for event in noting.of(AttemptEnded)]
    assert outcomes == [AttemptOutcome.LEFT, AttemptOutcome.COMPLETE]


async def test_an_error_counts_what_was_pulled_to_the_last():
    """The inputs' iterator yields another one while it is told to end."""
    pulled = 0

    async def inputs():
        nonlocal pulled
        try:
            while pulled < 20:
                pulled += 1
                yield b"x"
            failing.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            for _ in range(20):
                await asyncio.sleep(0)
            pulled += 1
            yield b"last"

    failing = asyncio.Event()

    async def server(requests):
        async for frame in answers(requests, 10):
            yield frame
        await failing.wait()
        yield ServerFrame(error=StreamFailure(StreamErrorKind.STATE, "no more", None))

    driver = drive(server, items=inputs())
    stream = PredictionStream(
        driver, start=lambda driver: driver.start(), decode=bytes, return_exceptions=False
    )
    with pytest.raises(StreamError) as caught:
        async for _ in stream:
            pass
    assert caught.value.delivered.accepted == pulled == 21


@pytest.mark.parametrize("steps", [0, 1, 5])
async def test_every_stream_that_is_told_to_start_is_told_to_end(steps):
    """Wherever it is abandoned; one that never came to run is not told of at all."""

    async def server(requests):
        async for frame in answers(requests, 10):
            yield frame

    noting = Noting()
    driver = drive(server, hooks=[noting])
    driver.start()
    for _ in range(steps):
        await asyncio.sleep(0)
    await driver.aclose()
    assert len(noting.of(StreamStarted)) == len(noting.of(StreamEnded)) == bool(steps)
    assert len(noting.of(AttemptStarted)) == len(noting.of(AttemptEnded))


def test_an_attempt_that_was_welcomed_late_still_moves_for_its_age():
    """It was older than that before the server said a word, when there was nobody to leave."""
    retry = RetryPolicy(max_attempt_age=1)
    called, moved = asyncio.Event(), asyncio.Event()

    async def server(requests):
        if called.is_set():
            moved.set()
        else:
            called.set()
            await asyncio.sleep(10)  # of virtual time
        async for frame in answers(requests, len(ITEMS)):
            yield frame

    async def inputs():
        yield ITEMS[0]
        await moved.wait()
        yield ITEMS[1]

    async def main():
        return await run(drive(server, items=inputs(), retry=retry))

    with closing(VirtualLoop(random.Random(1))) as loop, isolated(loop, random.Random(1)):
        assert loop.run_until_complete(main()) == ITEMS[:2]


# ---------------------------------------------------------------- streams without inputs

MISTAKES = {
    "credentials": (CallFailed("UNAUTHENTICATED", "who are you?"), AccessDeniedError),
    "another application": (CallFailed("NOT_FOUND", "no such application"), WrongApplicationError),
    "nobody there": (CallFailed("UNAVAILABLE", "connection refused"), UnreachableError),
    "refused": (Refused(RefusalKind.CODEC, "I speak json"), CodecMismatchError),
    "given up": (StreamFailure(StreamErrorKind.STATE, "no more", None), ServerFailedError),
    "no server of this protocol": (CallFailed("OK"), NotAServerError),
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_stream_without_inputs_learns_what_is_wrong_with_its_target(mistake):
    what, expected = MISTAKES[mistake]

    async def server(requests):
        async for _ in requests:
            if isinstance(what, CallFailed):
                raise what
            if isinstance(what, Refused):
                yield ServerFrame(refused=what)
            else:
                yield ServerFrame(error=what)

    with pytest.raises(expected):
        await run(drive(server, items=[]))


async def test_a_stream_without_inputs_is_complete_once_it_was_welcomed():
    calls = 0

    async def server(requests):
        nonlocal calls
        calls += 1
        async for _ in requests:
            if calls < 3:
                raise CallFailed("UNAVAILABLE", "not yet")
            yield ServerFrame(welcome=Welcome())
            raise CallFailed("INTERNAL", "The actor died")

    assert await run(drive(server, items=[])) == []
    assert calls == 3


async def test_inputs_that_fail_at_once_are_what_is_wrong_with_a_stream():
    def inputs():
        raise LookupError("no such file")
        yield b"never"

    async def server(requests):
        async for _ in requests:
            raise CallFailed("UNAVAILABLE", "nobody there")
        yield ServerFrame()

    with pytest.raises(LookupError):
        await run(drive(server, items=inputs()))


async def test_two_that_have_one_id_do_not_drive_each_other_away_for_ever():
    calls = 0

    async def server(requests):
        nonlocal calls
        calls += 1
        async for frame in answers(requests, 1):
            yield frame
            if frame.outputs:
                yield ServerFrame(error=StreamFailure(StreamErrorKind.SUPERSEDED, "a twin", None))

    with pytest.raises(RetriesExhaustedError, match="superseded"):
        await run(drive(server))
    assert calls == QUICK.attempts
