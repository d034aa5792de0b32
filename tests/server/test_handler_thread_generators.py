"""`generate` as a plain generator function, in threads."""

import asyncio
import contextvars
import logging
import threading

import pytest
from attempts import for_a_while, until, workers_running
from generating import Answer, Generators, numbered, service_of
from turns_clock import SLACK, SLOW, Stalls, clock

from servestream_client import BytesCodec
from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.frames import Credit, Order
from servestream_client.server import Output, Replay, Resume
from servestream_client.server.handlers.thread_generators import MOST_AHEAD

__all__ = ["clock"]

CANCELLED, ENCODE, HANDLER, INTERRUPTED, TIMEOUT = (
    ItemErrorKind.CANCELLED,
    ItemErrorKind.ENCODE,
    ItemErrorKind.HANDLER,
    ItemErrorKind.INTERRUPTED,
    ItemErrorKind.TIMEOUT,
)


@pytest.fixture(autouse=True)
async def no_worker_stays():
    yield
    await until(lambda: not workers_running())


class Counting(Generators):
    """Gives as many outputs as its input says, from where it is to go on."""

    def generate(self, item, resume):
        self.began.append((item, resume))
        name, _, count = item.partition(b" ")
        assert threading.current_thread() is not threading.main_thread()
        try:
            for n in range(resume.index, int(count or 3)):
                self.made.append(item)
                yield name + b"%d" % n
        finally:
            self.closed.append(item)


class Held(Generators):
    """Gives an output each time that it is let go."""

    def __init__(self, places: int = 4) -> None:
        super().__init__(places)
        self.go = threading.Semaphore(0)
        self.running = 0

    def generate(self, item, resume):
        self.began.append((item, resume))
        n = resume.index
        try:
            while True:
                self.running += 1
                assert self.go.acquire(timeout=20)
                self.running -= 1
                yield item + b"%d" % n
                n += 1
        finally:
            self.closed.append(item)


async def finished(attempt) -> None:
    await until(lambda: attempt.done)


async def at_rest(service: Generators) -> None:
    """No generator has a place."""
    await until(lambda: service.workers._free == service.places)


# ------------------------------------------------------------------ outputs


@pytest.mark.parametrize("order", [Order.ANY, Order.INPUT])
async def test_an_input_has_its_outputs_and_then_its_end(order):
    service = Counting()
    attempt = service.attempt(order=order)
    attempt.send(b"a 300", b"b 0", b"c 1")
    await finished(attempt)
    assert [attempt.outputs(n) for n in (1, 2, 3)] == [
        numbered(b"a", 0, 300),
        [],
        numbered(b"c", 0, 1),
    ]
    assert [attempt.answers[n].index for n in (1, 2, 3)] == [300, 0, 1]
    await at_rest(service)


async def test_each_output_is_sent_while_the_next_one_is_made():
    service = Held()
    attempt = service.attempt()
    attempt.send(b"a")
    for count in range(1, 4):
        service.go.release()
        await until(lambda: len(attempt.outputs()) == count)  # noqa: B023
    attempt.go()
    service.go.release()


async def test_a_thread_is_kept_while_more_may_be_made():
    threads = []

    def generate(item, resume):
        for n in range(50):
            threads.append(threading.current_thread())
            go.acquire(timeout=20)
            yield b"%d" % n

    go = threading.Semaphore(0)
    service = service_of(generate)
    attempt = service.attempt()
    attempt.send(b"a")
    starts = []
    for count in range(1, 51):
        go.release()
        await until(lambda: len(attempt.outputs()) == count)  # noqa: B023
        starts.append(threads[-1])
    await finished(attempt)
    assert len(set(starts)) <= 2  # the first time it may make a single output


async def test_a_context_is_the_generators_own():
    variable = contextvars.ContextVar("variable", default=0)
    seen = []

    def generate(item, resume):
        for n in range(200):
            variable.set(variable.get() + 1)
            yield b"%d" % n
            seen.append(variable.get())

    service = service_of(generate)
    attempt = service.attempt(each=Credit(7, 1 << 20))
    attempt.send(b"a", b"b")
    for outputs in range(14, 300, 7):
        for number in (1, 2):
            attempt.grant(number, outputs)
        await for_a_while()
    await finished(attempt)
    assert sorted(seen) == sorted([*range(1, 201)] * 2)


# ------------------------------------------------------------------ what generators raise


RAISED = {
    "ValueError": ValueError("no"),
    "StopIteration": StopIteration(3),
    "StopAsyncIteration": StopAsyncIteration(),
    "CancelledError": asyncio.CancelledError("mine"),
    "GeneratorExit": GeneratorExit(),
    "SystemExit": SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt(),
}


@pytest.mark.parametrize("made", [0, 2])
@pytest.mark.parametrize("name", RAISED)
async def test_what_a_generator_raises_fails_its_input_behind_its_outputs(name, made):
    def generate(item, resume):
        for n in range(made):
            yield b"%d" % n
        if item == b"raises":
            raise RAISED[name]

    service = service_of(generate)
    attempt = service.attempt()
    attempt.send(b"raises", b"does not")
    await finished(attempt)
    answer = attempt.answers[1]
    assert (answer.error, answer.index) == (HANDLER, made)
    assert name in answer.text
    assert attempt.answers[2].outputs == numbered(b"", 0, made)
    await at_rest(service)


async def test_a_generator_whose_output_cannot_be_sent_is_closed():
    closed = []

    def generate(item, resume):
        try:
            yield b"good"
            yield 7
            while True:
                yield b"never"
        finally:
            closed.append(item)

    service = service_of(generate)
    attempt = service.attempt()
    attempt.send(b"x")
    await until(lambda: attempt.done and closed)
    assert (attempt.answers[1].error, attempt.answers[1].index) == (ENCODE, 1)


async def test_where_no_thread_can_be_started_the_input_fails(monkeypatch):
    from servestream_client.server.handlers import thread_generators

    async def run_sync(*args, **options):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(thread_generators.anyio.to_thread, "run_sync", run_sync)
    service = Counting()
    attempt = service.attempt()
    attempt.send(b"a")
    await finished(attempt)
    assert (attempt.answers[1].error, "new thread" in attempt.answers[1].text) == (HANDLER, True)


async def test_one_that_pauses_is_closed_though_no_thread_could_take_it_up_again(monkeypatch):
    from servestream_client.server.handlers import thread_generators

    closed, real = [], thread_generators.anyio.to_thread.run_sync

    def generate(item, resume):
        try:
            yield b"a"
            yield b"b"
        finally:
            closed.append(True)

    starts = []

    async def run_sync(function, *args, **options):
        if function.__name__ == "make":
            starts.append(function)
            if len(starts) > 1:
                raise RuntimeError("can't start new thread")
        return await real(function, *args, **options)

    monkeypatch.setattr(thread_generators.anyio.to_thread, "run_sync", run_sync)
    service = service_of(generate)
    attempt = service.attempt(each=Credit(1, 1 << 20))
    attempt.send(b"x")
    await until(lambda: attempt.answers[1].outputs == [b"a"])
    await at_rest(service)
    attempt.grant(1, 9)
    await until(lambda: attempt.done and closed)
    assert (attempt.answers[1].error, attempt.answers[1].index) == (HANDLER, 1)


# ------------------------------------------------------------------ going on after a cut


class Restarting(Counting):
    replay = Replay.RESTART


@pytest.mark.parametrize("cut", [1, 4, 5, 150, 199, 200])
async def test_what_restarts_gives_the_same_and_sends_the_rest(cut):
    service = Restarting()
    attempt = service.attempt()
    before = Answer(0, numbered(b"a", 0, cut))
    answer = attempt.go_on(b"a 200", cut, before.resume())
    await finished(attempt)
    assert before.outputs + answer.outputs == numbered(b"a", 0, 200)
    assert service.began == [(b"a 200", Resume())]


async def test_what_restarts_and_gives_other_outputs_or_fewer_is_interrupted():
    service = Restarting()
    attempt = service.attempt()
    other = attempt.go_on(b"a 5", 3, Answer(0, [b"a0", b"b1", b"a2"]).resume())
    fewer = attempt.go_on(b"a 2", 3, Answer(0, numbered(b"a", 0, 3)).resume())
    await finished(attempt)
    assert [(each.error, each.index) for each in (other, fewer)] == [(INTERRUPTED, 3)] * 2
    await until(lambda: len(service.closed) == 2)


async def test_what_is_made_again_needs_no_credit_and_what_follows_does():
    service = Restarting()
    attempt = service.attempt()
    cut = Answer(0, numbered(b"a", 0, 150))
    answer = attempt.go_on(b"a 160", 150, cut.resume(), Credit(150, 10))
    await at_rest(service)
    assert len(service.made) >= 150
    assert answer.outputs == []
    attempt.grant(1, 1000)
    await finished(attempt)
    assert len(answer.outputs) == 10


async def test_what_continues_is_given_what_was_delivered():
    service = Counting()
    attempt = service.attempt()
    answer = attempt.go_on(b"a 5", 2, Answer(0, [b"x", b"y"]).resume())
    await finished(attempt)
    assert answer.outputs == [b"a2", b"a3", b"a4"]
    assert service.began == [(b"a 5", Resume(2, (b"x", b"y"), 0, None))]


async def test_checkpoints_travel():
    def generate(item, resume):
        yield Output(b"a", b"A")
        yield b"b"

    service = service_of(generate)
    attempt = service.attempt()
    attempt.send(b"x")
    await finished(attempt)
    (index,) = attempt.answers[1].checkpoints
    assert index == 1


@pytest.mark.parametrize("outputs", [[b"a0"], [b"a0", b"end"]])
async def test_whether_it_is_finished_is_asked_in_the_thread(outputs):
    class Finishing(Counting):
        def is_finished(self, item, resume):
            assert threading.current_thread() is not threading.main_thread()
            return resume.outputs[-1] == b"end"

    service = Finishing()
    attempt = service.attempt()
    answer = attempt.go_on(b"a 4", len(outputs), Answer(0, outputs).resume())
    await finished(attempt)
    assert answer.error is None
    assert len(answer.outputs) == (3 if len(outputs) == 1 else 0)


# ------------------------------------------------------------------ pauses, and what may be made


async def test_a_generator_without_credit_has_no_thread_and_no_place():
    service = Counting(places=1)
    attempt = service.attempt(each=Credit(2, 1 << 20))
    attempt.send(b"a 5", b"b 5", b"c 2")
    await until(lambda: attempt.answers[3].outputs == [b"c0", b"c1"])
    await at_rest(service)
    assert service.made == [b"a 5"] * 2 + [b"b 5"] * 2 + [b"c 2"] * 2
    for number in (2, 1, 3):
        attempt.grant(number, 9)
    await finished(attempt)


@pytest.mark.parametrize("outputs", [1, 3, 70, 500])
async def test_no_more_are_made_than_have_credit(outputs):
    service = Counting()
    attempt = service.attempt(each=Credit(outputs, 1 << 20))
    attempt.send(b"a 1000")
    await until(lambda: len(attempt.outputs()) == outputs)
    await at_rest(service)
    assert len(service.made) == outputs
    attempt.go()


async def test_large_outputs_do_not_pile_up():
    made = []

    def generate(item, resume):
        for n in range(100):
            made.append(n)
            yield bytes(1000)

    service = service_of(generate)
    attempt = service.attempt(each=Credit(1000, 5500), ahead_bytes=3000, credit=Credit(0, 0))
    attempt.send(b"a")
    await at_rest(service)
    await for_a_while()
    assert len(made) <= 4
    attempt.grant_all(1000)
    await until(lambda: len(attempt.outputs()) == 6)
    await at_rest(service)
    assert len(made) == 6
    attempt.grant(1, 1000)
    await finished(attempt)


async def test_a_thread_is_no_more_than_a_few_outputs_ahead(clock):
    ahead = []

    class Codec(BytesCodec):
        def encode_output(self, output, /):
            ahead.append(len(made) - len(ahead))
            return output

    def generate(item, resume):
        for n in range(3000):
            made.append(n)
            yield b"%d" % n

    made = []
    attempt = service_of(generate, codec=Codec()).attempt()
    attempt.send(b"a")
    await finished(attempt)
    assert max(ahead) <= 2 * MOST_AHEAD
    assert len(made) == 3000


# ------------------------------------------------------------------ nobody wants it


@pytest.mark.parametrize("how", ["cancel", "go"])
async def test_a_generator_is_told_at_its_next_output_and_closed_in_its_thread(how):
    service = Held()
    attempt = service.attempt()
    attempt.send(b"a")
    service.go.release()
    await until(lambda: len(attempt.outputs()) == 1 and service.running == 1)
    if how == "go":
        attempt.go()
    else:
        attempt.cancel(1)
        assert attempt.answers[1].error is CANCELLED  # at once
    await for_a_while()
    assert service.closed == []
    service.go.release()
    await until(lambda: service.closed == [b"a"])
    await at_rest(service)


@pytest.mark.parametrize("how", ["cancel", "go"])
async def test_a_generator_that_pauses_is_closed_though_there_is_no_place(how):
    service = Held(places=1)
    attempt, other = service.attempt(each=Credit(1, 1 << 20)), service.attempt()
    attempt.send(b"a")
    service.go.release()
    await at_rest(service)
    other.send(b"b")
    await until(lambda: service.running == 1)
    if how == "go":
        attempt.go()
    else:
        attempt.cancel(1)
    await until(lambda: service.closed == [b"a"])
    other.go()
    service.go.release()
    await until(lambda: service.closed == [b"a", b"b"])
    await at_rest(service)


async def test_what_is_cancelled_before_its_turn_is_not_begun(clock):
    service = Counting()
    attempt = service.attempt()
    attempt.send(b"a")
    attempt.cancel(1)
    await for_a_while()
    await at_rest(service)
    assert service.began == []


async def test_what_fails_while_it_is_closed_is_logged(caplog):
    def generate(item, resume):
        try:
            yield b"a"
            yield b"b"
        finally:
            raise ValueError("no")

    caplog.set_level(logging.WARNING, "servestream_client")
    service = service_of(generate)
    attempt = service.attempt(each=Credit(1, 1 << 20))
    attempt.send(b"x")
    await until(attempt.outputs)
    await at_rest(service)
    attempt.cancel(1)
    await until(lambda: "a generator failed while it was closed" in caplog.text)
    await at_rest(service)


# ------------------------------------------------------------------ how long it takes


async def test_one_that_takes_too_long_is_answered_and_keeps_its_place_until_it_ends():
    service = Held(places=1)
    attempt = service.attempt()
    attempt.may_take(0.1)
    attempt.send(b"a", b"b")
    service.go.release()
    await until(lambda: attempt.answers[1].ended)
    answer = attempt.answers[1]
    assert (answer.error, answer.index) == (TIMEOUT, 1)
    await for_a_while()
    assert service.workers._free == 0
    assert len(service.workers._kept._abandoned) == 1
    assert not attempt.answers[2].ended
    service.go.release()
    await until(lambda: service.closed == [b"a"])
    await until(lambda: not service.workers._kept._abandoned)
    await until(lambda: len(service.began) == 2)
    attempt.go()
    service.go.release()
    await until(lambda: service.closed == [b"a", b"b"])


async def test_the_time_of_an_output_counts_from_the_last_one():
    service = Held()
    attempt = service.attempt()
    attempt.may_take(1.5)
    attempt.send(b"a")
    loop = asyncio.get_running_loop()
    began = loop.time()
    while loop.time() < began + 1.8:
        count = len(attempt.outputs())
        loop.call_later(0.05, service.go.release)
        await until(lambda: len(attempt.outputs()) > count)  # noqa: B023
    assert not attempt.answers[1].ended
    await finished(attempt)
    assert attempt.answers[1].error is TIMEOUT
    service.go.release()


async def test_the_time_of_a_pause_does_not_count():
    service = Counting()
    attempt = service.attempt(each=Credit(1, 1 << 20))
    attempt.may_take(0.3)
    attempt.send(b"a 3")
    await at_rest(service)
    passed = asyncio.Event()
    asyncio.get_running_loop().call_later(0.5, passed.set)
    await passed.wait()
    assert not attempt.answers[1].ended
    attempt.grant(1, 9)
    await finished(attempt)
    assert attempt.answers[1].error is None


async def test_what_is_told_is_the_longest_time_since_an_output():
    service = Held(places=2)
    attempt = service.attempt()
    attempt.send(b"a")
    await until(lambda: service.running == 1)
    attempt.send(b"b")
    await until(lambda: service.running == 2)
    assert service.workers.running(attempt).oldest_number == 1
    assert service.workers.running(attempt).count == 2
    service.go.release()
    await until(lambda: len(attempt.order) == 1 and service.running == 2)
    assert service.workers.running(attempt).oldest_number == 3 - attempt.order[0]
    attempt.go()
    service.go.release(2)


# ------------------------------------------------------------------ turns


class Slow(BytesCodec):
    """Its pieces take their time, on the clock."""

    def __init__(self, clock, slow: str) -> None:
        self.clock = clock
        self.slow = slow

    def take(self, piece: str) -> None:
        self.clock.now += SLOW if self.slow in (piece, "all") else 1e-6

    def decode_input(self, payload, /):
        self.take("decode")
        return payload

    def encode_output(self, output, /):
        self.take("encode")
        return output

    def decode_output(self, payload, /):
        self.take("again")
        return payload


@pytest.mark.parametrize("slow", ["decode", "encode", "again", "all"])
async def test_the_loop_turns_after_each_slow_piece_of_a_generator_in_a_thread(slow, clock):
    def generate(item, resume):
        for n in range(resume.index, 20):
            yield item + b"%d" % n

    service, stalls = service_of(generate, codec=Slow(clock, slow)), Stalls(clock)
    attempts = [service.attempt() for _ in range(3)]
    with stalls.watched():
        for attempt in attempts:
            attempt.send(b"a", b"b")
            attempt.go_on(b"a", 5, Answer(0, numbered(b"a", 0, 5)).resume())
        await until(lambda: all(attempt.done for attempt in attempts))
    assert stalls.longest <= SLOW + SLACK
