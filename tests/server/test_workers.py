"""Workers: who is served, when, and by how many."""

import asyncio
import contextvars

import pytest
from attempts import (
    echo,
    for_a_while,
    payloads_in,
    until,
    workers_running,
)
from stand_ins import Echo, Held, attempts, batches

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.frames import Credit
from servestream_client.server.item_workers import ItemWorkers

pytestmark = pytest.mark.usefixtures("clock", "no_worker_stays")


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
    assert stream.session.intake.startable_inputs == 0
    assert stream.session.outbox.unanswered == 4
    stream.grant(100)
    await until(lambda: stream.done)


# ------------------------------------------------------------------ around user code


@pytest.mark.parametrize("kind", ["items", "batches"])
async def test_a_handler_that_fails_fails_its_inputs_and_the_worker_goes_on(kind, caplog):
    class Failing(Echo):
        async def handle(self, call, parts):
            if payloads_in(parts)[0] == b"a1":
                parts[0].attempt.session.outbox.output(1, b"first", last=True)
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
