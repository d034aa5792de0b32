"""Workers for batches: what is in a batch, and what waits for one."""

import contextvars

import pytest
from attempts import (
    for_a_while,
    until,
    workers_running,
)
from stand_ins import CANCELLED, LONG, Echo, Held, attempts, batches

from servestream_client.protocol.frames import Credit

pytestmark = pytest.mark.usefixtures("clock", "no_worker_stays")


WHOSE = contextvars.ContextVar("WHOSE", default="nobody's")


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


@pytest.mark.parametrize(("seconds", "together"), [(0.00012, 5), (0.0002, 3), (0.001, 1)])
async def test_quick_batches_are_answered_together_and_then_others_have_their_turn(
    clock, seconds, together
):
    clock.step = seconds / 2  # it is asked before, between and after
    handler, seen = Echo(), []
    (stream,) = attempts(batches(handler, max_batch=1), "a", window=30)

    def speak(answered=stream._speak):
        seen.append(len(handler.calls))
        answered()

    stream._speak = speak
    stream.send_many(30)
    await until(lambda: stream.done)
    assert sorted(set(seen)) == list(range(together, 31, together))


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
    assert not unread.session.intake.startable
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
    assert not unread.session.intake.startable
    assert 0 < unread.session.outbox.unanswered < 8
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
