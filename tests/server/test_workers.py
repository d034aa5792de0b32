"""Workers: who is served, when, by how many, and what ends a call."""

import asyncio
import contextvars
import math
from collections.abc import Awaitable, Callable, Sequence

import pytest
from attempts import (
    FakeAttempt,
    echo,
    for_a_while,
    payloads_in,
    until,
    workers_running,
)

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.frames import Credit
from servestream_client.server import workers as workers_module
from servestream_client.server.workers import BatchWorkers, Call, ItemWorkers, NonCancellable, Part

CANCELLED = ItemErrorKind.CANCELLED
LONG = 3600.0  # seconds that no test lasts


class Clock:
    """Stands for the module `time`. At first calls take so long that runs keep their length."""

    def __init__(self) -> None:
        self.now = 0.0
        self.step = 0.00075

    def perf_counter(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(workers_module, "time", clock)
    return clock


@pytest.fixture(autouse=True)
async def no_worker_stays():
    """Once there is nothing to do, every worker ends."""
    yield
    await until(lambda: not workers_running())


class Echo:
    """Answers at once, or after a turn of the event loop."""

    def __init__(self, *, waits: bool = False) -> None:
        self.waits = waits
        self.calls: list[list[bytes]] = []

    async def handle(self, call: Call, parts: Sequence[Part]) -> None:
        self.calls.append(payloads_in(parts))
        if self.waits:
            await call.run(asyncio.sleep(0), parts)
        echo(parts)


class Thread:
    """Stands for a thread's work."""

    began = math.inf
    done = 0
    finished = False

    def abandon(self, text: str, since: float) -> bool:
        raise AssertionError(text)


class Held:
    """Holds each call until it is let go; then it echoes."""

    def __init__(self, thread: NonCancellable | None = None) -> None:
        self.thread = thread
        self.calls: list[list[bytes]] = []
        self.running = 0
        self.most = 0
        self.go = asyncio.Event()

    def code(self) -> Awaitable[object]:
        return self.go.wait()

    async def handle(self, call: Call, parts: Sequence[Part]) -> None:
        self.calls.append(payloads_in(parts))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await call.run(self.code(), parts, non_cancellable=self.thread)
        finally:
            self.running -= 1
        echo(parts)


class Running(Held):
    """Runs code of the test's in each call, until it is let go."""

    def __init__(self, code: Callable[[], Awaitable[object]]) -> None:
        super().__init__()
        self.code = code


def batches(handler, *, places: int = 1, max_batch: int = 64, wait: float = 0.0) -> BatchWorkers:
    return BatchWorkers(handler, places=places, max_batch=max_batch, batch_wait=wait)


def attempts(workers, names: str, **options) -> list[FakeAttempt]:
    return [FakeAttempt(workers, name, **options) for name in names]


# ------------------------------------------------------------------ places and turns


@pytest.mark.parametrize("places", [1, 3])
async def test_no_more_calls_run_at_a_time_than_there_are_places(places):
    handler = Held()
    workers = ItemWorkers(handler, places=places)
    streams = attempts(workers, "abcd")
    for stream in streams:
        stream.send_many(3)
    await until(lambda: handler.running == places)
    await for_a_while()
    assert handler.running == places
    handler.go.set()
    await until(lambda: all(stream.done for stream in streams))
    assert handler.most == places
    assert [stream.outputs for stream in streams] == [
        [f"{name}{n}".encode() for n in (1, 2, 3)] for name in "abcd"
    ]


async def test_one_stream_may_have_all_places():
    handler = Held()
    workers = ItemWorkers(handler, places=4)
    (stream,) = attempts(workers, "a")
    stream.send_many(3)
    await until(lambda: handler.running == 3)
    stream.send_many(3)
    await until(lambda: handler.running == 4)
    handler.go.set()
    await until(lambda: stream.done)
    assert len(handler.calls) == 6


@pytest.mark.parametrize("waits", [False, True])
async def test_streams_take_turns_when_all_places_are_taken(waits):
    handler = Echo(waits=waits)
    workers = ItemWorkers(handler, places=1)
    streams = attempts(workers, "abc")
    for stream in streams:
        stream.send_many(3)
    await until(lambda: all(stream.done for stream in streams))
    order = [b"a1", b"b1", b"c1", b"a2", b"b2", b"c2", b"a3", b"b3", b"c3"]
    assert [payload for (payload,) in handler.calls] == order


async def test_a_stream_that_was_served_waits_behind_those_that_came_meanwhile():
    handler = Echo()
    workers = ItemWorkers(handler, places=1)
    first, second = attempts(workers, "ab")
    for count in (1, 2):
        first.send_many(count)
    second.send_many(2)
    await until(lambda: first.done and second.done)
    assert [payload for (payload,) in handler.calls] == [b"a1", b"b1", b"a2", b"b2", b"a3"]


@pytest.mark.parametrize("kind", ["items", "batches"])
async def test_inputs_are_handled_although_nothing_can_be_sent_yet(kind):
    handler = Echo()
    workers = batches(handler, max_batch=2) if kind == "batches" else ItemWorkers(handler, places=1)
    streams = attempts(workers, "ab", credit=Credit(0, 0))
    for stream in streams:
        stream.send_many(3)
    await until(lambda: sum(map(len, handler.calls)) == 6)
    for stream in streams:
        stream.grant(3)
    assert all(stream.done for stream in streams)


async def test_a_stream_that_comes_later_does_not_wait_for_the_end_of_the_first():
    handler = Echo()
    workers = ItemWorkers(handler, places=1)
    first, second = attempts(workers, "ab")
    first.send_many(50)
    await until(lambda: len(handler.calls) >= 3)
    second.send_many(1)
    await until(lambda: second.done)
    assert not first.done
    await until(lambda: first.done)


async def test_a_stream_alone_keeps_its_worker():
    handler = Echo()
    workers = ItemWorkers(handler, places=1)
    tasks = set()

    async def handle(call, parts):
        tasks.add(asyncio.current_task())
        echo(parts)

    handler.handle = handle
    (stream,) = attempts(workers, "a")
    stream.send_many(20)
    await until(lambda: stream.done)
    assert len(tasks) == 1


async def test_what_comes_after_a_while_is_served_too():
    workers = ItemWorkers(Echo(), places=2)
    (stream,) = attempts(workers, "a")
    for count in (2, 1, 3):
        stream.send_many(count)
        await until(lambda: stream.done and not workers_running())
    assert stream.outputs == [b"a%d" % n for n in range(1, 7)]


async def test_what_comes_during_a_call_is_served_after_it():
    handler = Held()
    workers = ItemWorkers(handler, places=1)
    (stream,) = attempts(workers, "a")
    stream.send_many(1)
    await until(lambda: handler.running == 1)
    stream.send_many(2)
    handler.go.set()
    await until(lambda: stream.done)


async def test_what_has_credit_again_is_served_again():
    """A stream whose outputs nobody reads is not served; once they are read, it is."""
    workers = ItemWorkers(Echo(), places=1)
    (stream,) = attempts(workers, "a", credit=Credit(0, 0), ahead_bytes=4)
    stream.send_many(4)
    await until(lambda: not workers_running())
    assert stream.session.startable_inputs == 0
    assert stream.session.unanswered == 4
    stream.grant(100)
    await until(lambda: stream.done)


# ------------------------------------------------------------------ the length of runs


class Timed(Echo):
    """Takes so many seconds an input, on the workers' clock."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__()
        self.clock = clock
        clock.step = 0.0
        self.seconds = seconds

    async def handle(self, call, parts):
        self.clock.now += len(payloads_in(parts)) * self.seconds
        await super().handle(call, parts)

    @property
    def lengths(self) -> list[int]:
        return [len(payloads) for payloads in self.calls]


async def test_runs_grow_while_inputs_are_fast(clock):
    handler = Timed(clock, 0.0)
    (stream,) = attempts(ItemWorkers(handler, places=1), "a")
    stream.send_many(2100)
    await until(lambda: stream.done)
    assert handler.lengths == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 53]


async def test_runs_grow_only_as_long_as_they_take_well_below_a_millisecond(clock):
    handler = Timed(clock, 0.0001)
    (stream,) = attempts(ItemWorkers(handler, places=1), "a")
    stream.send_many(30)
    await until(lambda: stream.done)
    assert handler.lengths == [1, 2, 4, 8, 8, 7]


async def test_runs_shrink_where_inputs_are_slow(clock):
    handler = Timed(clock, 0.0001)
    (stream,) = attempts(ItemWorkers(handler, places=1), "a")
    stream.send_many(15)
    await until(lambda: stream.done)
    handler.seconds = 0.001
    stream.send_many(18)
    await until(lambda: stream.done)
    assert handler.lengths == [1, 2, 4, 8, *[8, 4, 2, 1, 1, 1, 1]]


async def test_inputs_that_come_alone_let_no_run_grow(clock):
    handler = Timed(clock, 0.0)
    (stream,) = attempts(ItemWorkers(handler, places=1), "a")
    for _ in range(5):
        stream.send_many(1)
        await until(lambda: stream.done)
    stream.send_many(10)
    await until(lambda: stream.done)
    assert handler.lengths[5:7] == [2, 4]


# ------------------------------------------------------------------ cancelling


async def started(handler: Held, *streams: FakeAttempt) -> None:
    """A batch of three inputs from each stream runs."""
    for stream in streams:
        stream.send_many(3)
    await until(lambda: handler.running == 1)
    assert len(handler.calls[-1]) == 3 * len(streams)


async def test_a_call_goes_on_while_one_of_its_inputs_is_wanted():
    handler = Held()
    (stream,) = attempts(batches(handler), "a")
    await started(handler, stream)
    stream.cancel(2)
    stream.cancel(3)
    await for_a_while()
    assert handler.running == 1
    handler.go.set()
    await until(lambda: stream.done)
    assert stream.outputs == [b"a1", b"a2", b"a3"]


@pytest.mark.parametrize("steps", [[(1, 3)], [(2, 2), (1, 3)], [(3, 3), (1, 1), (2, 2)]])
async def test_a_call_none_of_whose_inputs_is_wanted_is_cancelled(steps):
    handler = Held()
    (stream,) = attempts(batches(handler), "a")
    await started(handler, stream)
    for first, last in steps:
        assert handler.running == 1
        stream.cancel(first, last)
        await for_a_while()
    assert handler.running == 0
    assert stream.outputs == [CANCELLED] * 3


async def test_a_call_for_several_streams_goes_on_while_one_of_them_wants_it():
    handler = Held()
    one, other = attempts(batches(handler), "ab")
    await started(handler, one, other)
    one.go()
    await for_a_while()
    assert handler.running == 1
    handler.go.set()
    await until(lambda: other.done)
    assert other.outputs == [b"b1", b"b2", b"b3"]
    assert one.answers == []


async def test_a_call_ends_when_all_its_streams_have_left():
    handler = Held()
    one, other = attempts(batches(handler), "ab")
    await started(handler, one, other)
    one.go()
    other.cancel(1, 3)
    await until(lambda: handler.running == 0)
    await until(lambda: other.done)
    assert other.outputs == [CANCELLED] * 3
    assert one.answers == []


async def test_a_stream_that_leaves_takes_only_its_own_calls_along():
    handler = Held()
    workers = ItemWorkers(handler, places=8)
    one, other = attempts(workers, "ab")
    one.send_many(3)
    other.send_many(2)
    await until(lambda: handler.running == 5)
    one.go()
    await until(lambda: handler.running == 2)
    handler.go.set()
    await until(lambda: other.done)
    assert other.outputs == [b"b1", b"b2"]


async def test_a_call_that_cannot_be_interrupted_runs_to_its_end():
    handler = Held(Thread())
    one, other = attempts(batches(handler), "ab")
    await started(handler, one, other)
    one.go()
    other.cancel(1, 3)
    await for_a_while()
    assert handler.running == 1
    handler.go.set()
    await until(lambda: other.done)
    assert other.outputs == [b"b1", b"b2", b"b3"]


async def test_a_place_comes_back_however_its_call_ended():
    handler = Held()
    workers = ItemWorkers(handler, places=2)
    for _ in range(5):
        leaving, cancelling = attempts(workers, "ab")
        for stream in (leaving, cancelling):
            stream.send_many(1)
        await until(lambda: handler.running == 2)
        leaving.go()
        cancelling.cancel(1)
        await until(lambda: handler.running == 0)
    (stream,) = attempts(workers, "c")
    stream.send_many(4)
    await until(lambda: handler.running == 2)
    handler.go.set()
    await until(lambda: stream.done)
    assert handler.most == 2


async def test_what_waits_for_a_place_is_not_started_once_its_stream_has_left():
    handler = Held()
    workers = ItemWorkers(handler, places=1)
    one, other = attempts(workers, "ab")
    one.send_many(1)
    other.send_many(2)
    await until(lambda: handler.running == 1)
    other.go()
    handler.go.set()
    await until(lambda: one.done)
    await for_a_while()
    assert handler.calls == [[b"a1"]]


async def test_user_code_is_cancelled_once_and_has_its_time_to_clean_up():
    cleaned = []

    async def code():
        try:
            await asyncio.Event().wait()
        finally:
            for step in range(5):
                await asyncio.sleep(0)
                cleaned.append(step)

    handler = Running(code)
    (stream,) = attempts(ItemWorkers(handler, places=1), "a")
    stream.send_many(1)
    await until(lambda: handler.running == 1)
    stream.cancel(1)
    await until(lambda: cleaned == [0])
    stream.go()
    await until(lambda: handler.running == 0)
    assert cleaned == [0, 1, 2, 3, 4]


async def test_user_code_that_will_not_be_cancelled_answers():
    async def code():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)

    handler = Running(code)
    (stream,) = attempts(ItemWorkers(handler, places=1), "a")
    stream.send_many(2)
    await until(lambda: handler.running == 1)
    stream.cancel(1)
    await until(lambda: handler.running == 1 and len(handler.calls) == 2)
    assert stream.outputs == [b"a1"]
    stream.cancel(2)
    await until(lambda: stream.done)


async def test_the_call_after_a_cancelled_one_is_not_cancelled():
    handler = Held()
    seen = []

    async def handle(call, parts):
        seen.append(asyncio.current_task().cancelling())
        await Held.handle(handler, call, parts)

    handler.handle = handle
    (stream,) = attempts(ItemWorkers(handler, places=1), "a")
    stream.send_many(3)
    for number in (1, 2):
        await until(lambda: len(seen) == number and handler.running == 1)  # noqa: B023
        stream.cancel(number)
    await until(lambda: len(seen) == 3)
    handler.go.set()
    await until(lambda: stream.done)
    assert stream.outputs == [CANCELLED, CANCELLED, b"a3"]
    assert seen == [0, 0, 0]


async def test_a_call_may_be_cancelled_after_one_that_was_answered():
    handler = Running(lambda: asyncio.sleep(0) if len(handler.calls) == 1 else handler.go.wait())
    (stream,) = attempts(ItemWorkers(handler, places=1), "a")
    stream.send_many(2)
    await until(lambda: len(handler.calls) == 2 and len(stream.answers) == 1)
    stream.cancel(2)
    await until(lambda: stream.done)
    assert stream.outputs == [b"a1", CANCELLED]


# ------------------------------------------------------------------ around user code


@pytest.mark.parametrize("kind", ["items", "batches"])
async def test_a_handler_that_fails_fails_its_inputs_and_the_worker_goes_on(kind, caplog):
    class Failing(Echo):
        async def handle(self, call, parts):
            if payloads_in(parts)[0] == b"a1":
                parts[0].attempt.session.output(1, b"first", last=True)
                raise ZeroDivisionError("a bug")
            await super().handle(call, parts)

    handler = Failing()
    workers = batches(handler, max_batch=2) if kind == "batches" else ItemWorkers(handler, places=1)
    (stream,) = attempts(workers, "a")
    stream.send_many(4)
    await until(lambda: stream.done)
    failed = ItemErrorKind.HANDLER
    second = failed if kind == "batches" else b"a2"
    assert stream.outputs == [b"first", second, b"a3", b"a4"]
    assert "the kit failed around a handler" in caplog.text
    if kind == "batches":
        assert stream.texts[2] == "ZeroDivisionError: a bug"


WHOSE = contextvars.ContextVar("WHOSE", default="nobody's")


async def test_user_code_runs_in_the_context_of_its_stream():
    seen = {}

    class Asking(Echo):
        async def handle(self, call, parts):
            await call.run(asyncio.sleep(0), parts)
            seen[payloads_in(parts)[0]] = WHOSE.get()
            WHOSE.set("changed")
            echo(parts)

    workers = ItemWorkers(Asking(), places=1)
    streams = attempts(workers, "ab")
    for stream in streams:
        stream.context.run(WHOSE.set, stream.name)
        stream.send_many(1)
    await until(lambda: all(stream.done for stream in streams))
    assert seen == {b"a1": "a", b"b1": "b"}
    assert [stream.context[WHOSE] for stream in streams] == ["a", "b"]
    assert WHOSE.get() == "nobody's"


async def test_a_batch_runs_in_the_context_of_the_stream_that_waited_longest():
    seen = []

    class Asking(Echo):
        async def handle(self, call, parts):
            seen.append(WHOSE.get())
            await super().handle(call, parts)

    workers = batches(Asking())
    streams = attempts(workers, "ab")
    for stream in streams:
        stream.context.run(WHOSE.set, stream.name)
        stream.send_many(1)
    await until(lambda: all(stream.done for stream in streams))
    assert seen == ["a"]


# ------------------------------------------------------------------ batches


async def test_a_batch_is_gathered_from_all_streams_that_have_something():
    handler = Echo(waits=True)
    streams = attempts(batches(handler, max_batch=10), "abc")
    for count, stream in enumerate(streams, 1):
        stream.send_many(count)
    await until(lambda: all(stream.done for stream in streams))
    assert handler.calls == [[b"a1", b"b1", b"b2", b"c1", b"c2", b"c3"]]


async def test_a_batch_has_at_most_max_batch_inputs():
    handler = Echo(waits=True)
    streams = attempts(batches(handler, max_batch=4), "ab")
    for stream in streams:
        stream.send_many(5)
    await until(lambda: all(stream.done for stream in streams))
    assert [len(call) for call in handler.calls] == [4, 4, 2]


async def test_who_gave_last_is_asked_last_for_the_next_batch():
    handler = Echo(waits=True)
    streams = attempts(batches(handler, max_batch=2), "abc")
    for stream in streams:
        stream.send_many(4)
    await until(lambda: all(stream.done for stream in streams))
    assert [call[0][:1] for call in handler.calls] == [b"a", b"b", b"c", b"a", b"b", b"c"]


async def test_what_arrives_during_a_batch_is_the_next_one():
    handler = Held()
    streams = attempts(batches(handler), "abc")
    streams[0].send_many(1)
    await until(lambda: handler.running == 1)
    for stream in streams:
        stream.send_many(2)
    await for_a_while()
    assert handler.calls == [[b"a1"]]
    handler.go.set()
    await until(lambda: all(stream.done for stream in streams))
    assert handler.calls[1:] == [[b"a2", b"a3", b"b1", b"b2", b"c1", b"c2"]]


async def test_a_stream_that_may_not_start_is_passed_over_and_blocks_nobody():
    handler = Echo(waits=True)
    workers = batches(handler, max_batch=3)
    (unread,) = attempts(workers, "u", credit=Credit(0, 0), ahead_bytes=2)
    unread.send_many(3)
    await until(lambda: not workers_running())
    unread.send_many(5)
    assert unread.session.full
    (stream,) = attempts(workers, "a")
    stream.send_many(7)
    unread.send_many(1)
    await until(lambda: stream.done)
    assert handler.calls == [
        [b"u1", b"u2", b"u3"],
        [b"a1", b"a2", b"a3"],
        [b"a4", b"a5", b"a6"],
        [b"a7"],
    ]
    unread.grant(100)
    await until(lambda: unread.done)
    assert len(unread.answers) == 9


async def test_a_stream_whose_inputs_are_cancelled_while_it_waits_is_passed_over():
    handler = Echo()
    one, cancelled, other = attempts(batches(handler), "abc")
    for stream in (one, cancelled, other):
        stream.send_many(2)
    cancelled.cancel(1, 2)
    await until(lambda: one.done and other.done and cancelled.done)
    assert handler.calls == [[b"a1", b"a2", b"c1", b"c2"]]


async def test_a_stream_that_fills_up_while_it_waits_is_passed_over():
    handler = Echo(waits=True)
    workers = batches(handler, max_batch=2)
    unread, stream = attempts(workers, "ua", credit=Credit(2, 1000), ahead_bytes=2)
    for each in (unread, stream):
        each.send_many(8)
    stream.grant(100)
    await until(lambda: stream.done)
    await until(lambda: not workers_running())
    assert unread.session.full
    assert 0 < unread.session.unanswered < 8
    unread.grant(100)
    await until(lambda: unread.done)


@pytest.mark.parametrize("places", [1, 2, 3])
async def test_as_many_batches_run_at_a_time_as_there_are_places(places):
    handler = Held()
    (stream,) = attempts(batches(handler, places=places, max_batch=2), "a")
    stream.send_many(10)
    await until(lambda: handler.running == places)
    await for_a_while()
    assert handler.running == places
    handler.go.set()
    await until(lambda: stream.done)
    assert handler.most == places
    assert len(handler.calls) == 5


async def test_an_incomplete_batch_waits_for_more():
    handler = Echo()
    one, other = attempts(batches(handler, max_batch=4, wait=LONG), "ab")
    one.send_many(2)
    await for_a_while()
    other.send_many(1)
    await for_a_while()
    assert handler.calls == []
    other.send_many(1)
    await until(lambda: one.done and other.done)
    assert handler.calls == [[b"a1", b"a2", b"b1", b"b2"]]


async def test_an_incomplete_batch_waits_only_so_long():
    handler = Echo()
    (stream,) = attempts(batches(handler, max_batch=4, wait=0.001), "a")
    stream.send_many(3)
    await until(lambda: stream.done)
    assert handler.calls == [[b"a1", b"a2", b"a3"]]


async def test_a_full_batch_does_not_wait():
    handler = Echo(waits=True)
    one, other = attempts(batches(handler, max_batch=4, wait=LONG), "ab")
    one.send_many(3)
    other.send_many(5)
    await until(lambda: one.done and other.done)
    assert [len(call) for call in handler.calls] == [4, 4]


async def test_a_batch_of_one_never_waits():
    handler = Echo(waits=True)
    (stream,) = attempts(batches(handler, max_batch=1, wait=LONG), "a")
    stream.send_many(3)
    await until(lambda: stream.done)
    assert [len(call) for call in handler.calls] == [1, 1, 1]


async def test_what_waits_for_a_batch_and_is_cancelled_is_in_none():
    handler = Echo()
    one, other = attempts(batches(handler, max_batch=3, wait=LONG), "ab")
    one.send_many(2)
    await for_a_while()
    one.cancel(1)
    await until(lambda: one.answers == [(1, CANCELLED)])
    other.send_many(1)
    await for_a_while()
    assert handler.calls == []
    other.send_many(1)
    await until(lambda: one.done and other.done)
    assert handler.calls == [[b"a2", b"b1", b"b2"]]


async def test_nobody_waits_for_more_when_nothing_waits_any_longer():
    workers = batches(Echo(), max_batch=3, wait=LONG)
    (stream,) = attempts(workers, "a")
    stream.send_many(1)
    stream.cancel(1)
    await until(lambda: stream.done and not workers_running())
    assert stream.outputs == [CANCELLED]


async def test_what_waits_for_a_batch_and_leaves_is_in_none():
    handler = Echo()
    one, other = attempts(batches(handler, max_batch=3, wait=LONG), "ab")
    one.send_many(2)
    await for_a_while()
    one.go()
    other.send_many(3)
    await until(lambda: other.done)
    assert handler.calls == [[b"b1", b"b2", b"b3"]]
