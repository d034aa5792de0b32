"""`generate` as an async generator function."""

import asyncio
import contextvars
import itertools
import logging
import time

import pytest
from attempts import for_a_while, until, workers_running
from generating import Answer, Generators, ManyAttempt, numbered, service_of
from turns_clock import SLACK, SLOW, Stalls, clock

from servestream_client import BytesCodec
from servestream_client import turns as turns_module
from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.frames import Credit, Order
from servestream_client.server import Output, Replay, Resume
from servestream_client.server import calls as calls_module
from servestream_client.server.handlers import generators as generators_module

__all__ = ["clock"]

CANCELLED, DECODE, ENCODE, HANDLER, INTERRUPTED, TIMEOUT = (
    ItemErrorKind.CANCELLED,
    ItemErrorKind.DECODE,
    ItemErrorKind.ENCODE,
    ItemErrorKind.HANDLER,
    ItemErrorKind.INTERRUPTED,
    ItemErrorKind.TIMEOUT,
)


@pytest.fixture(autouse=True)
async def no_worker_stays():
    yield
    await until(lambda: not workers_running())


@pytest.fixture
def short_grace(monkeypatch):
    """Seconds that no test should wait for."""
    for module in (calls_module, generators_module):
        monkeypatch.setattr(module, "GRACE_SECONDS", 0.05)


class Counting(Generators):
    """Gives as many outputs as its input says, from where it is to go on."""

    async def generate(self, item, resume):
        self.began.append((item, resume))
        name, _, count = item.partition(b" ")
        try:
            for n in range(resume.index, int(count or 3)):
                if name.endswith(b"w"):
                    await asyncio.sleep(0)
                self.made.append(item)
                yield name + b"%d" % n
        finally:
            self.closed.append(item)


class Held(Generators):
    """Gives an output each time that it is let go."""

    def __init__(self, places: int = 4) -> None:
        super().__init__(places)
        self.go = asyncio.Semaphore(0)
        self.running = 0

    async def generate(self, item, resume):
        self.began.append((item, resume))
        n = resume.index
        try:
            while True:
                self.running += 1
                try:
                    await self.go.acquire()
                finally:
                    self.running -= 1
                yield item + b"%d" % n
                n += 1
        finally:
            self.closed.append(item)


async def finished(attempt: ManyAttempt) -> None:
    await until(lambda: attempt.done)


async def at_rest(service: Generators) -> None:
    """No generator has a place."""
    await until(lambda: service.workers._free == service.places)


# ------------------------------------------------------------------ outputs


@pytest.mark.parametrize("name", [b"a", b"aw"], ids=["at once", "waits"])
async def test_an_input_has_its_outputs_and_then_its_end(name):
    service = Counting()
    attempt = service.attempt()
    attempt.send(name + b" 300", name + b" 0", name + b" 1")
    await finished(attempt)
    assert [attempt.outputs(n) for n in (1, 2, 3)] == [
        numbered(name, 0, 300),
        [],
        numbered(name, 0, 1),
    ]
    assert [attempt.answers[n].index for n in (1, 2, 3)] == [300, 0, 1]
    assert [resume for _, resume in service.began] == [Resume()] * 3
    await at_rest(service)


async def test_in_the_order_of_the_inputs_where_the_client_wants_that():
    service = Counting()
    attempt = service.attempt(order=Order.INPUT)
    attempt.send(b"aw 20", b"b 20", b"cw 20")
    await finished(attempt)
    assert attempt.order == [1] * 20 + [2] * 20 + [3] * 20


async def test_each_output_is_sent_before_the_generator_waits_for_the_next():
    service = Held()
    attempt = service.attempt()
    attempt.send(b"a")
    for count in range(1, 4):
        service.go.release()
        await until(lambda: len(attempt.outputs()) == count)  # noqa: B023
    attempt.go()


@pytest.mark.parametrize("features", [(), ("many",)])
async def test_a_client_of_before_is_served_as_well(features):
    service = Counting()
    attempt = service.attempt(features=features)
    attempt.send(b"a 500")
    await finished(attempt)
    assert attempt.outputs() == numbered(b"a", 0, 500)


class Upper(BytesCodec):
    def decode_input(self, payload, /):
        if payload.startswith(b"bad"):
            raise ValueError("no such input")
        return payload.decode()

    def encode_output(self, output, /):
        if output == "bad":
            raise ValueError("no such output")
        return 7 if output == "seven" else output.upper().encode()

    def decode_output(self, payload, /):
        if payload == b"BAD":
            raise ValueError("no such output")
        return payload.decode().lower()


async def words(item, resume):
    for word in item.split():
        await asyncio.sleep(0)
        yield word


async def test_codecs_are_asked():
    service = service_of(words, codec=Upper())
    attempt = service.attempt()
    attempt.send(b"one two", b"bad", b"one bad two", b"one seven")
    await finished(attempt)
    assert attempt.outputs() == [b"ONE", b"TWO"]
    assert [(a.error, a.index) for a in attempt.answers.values()] == [
        (None, 2),
        (DECODE, 0),
        (ENCODE, 1),
        (ENCODE, 1),
    ]
    assert "the codec made a int" in attempt.answers[4].text


@pytest.mark.parametrize(
    ("bad", "error"), [(7, ENCODE), (bytes(4 * 1024 * 1024), ItemErrorKind.TOO_LARGE)]
)
async def test_a_generator_whose_output_cannot_be_sent_is_closed(bad, error):
    closed = []

    async def generate(item, resume):
        try:
            yield b"good"
            yield bad
            yield b"never"
        finally:
            closed.append(item)

    service = service_of(generate)
    attempt = service.attempt()
    attempt.send(b"x")
    await until(lambda: attempt.done and closed)
    answer = attempt.answers[1]
    assert (answer.error, answer.index, closed) == (error, 1, [b"x"])


# ------------------------------------------------------------------ what generators raise


class Odd(BaseException):
    def __str__(self):
        raise KeyError("no text")


RAISED = {
    "ValueError": ValueError("no"),
    "StopIteration": StopIteration(3),
    "StopAsyncIteration": StopAsyncIteration(),
    "CancelledError": asyncio.CancelledError("mine"),
    "GeneratorExit": GeneratorExit(),
    "SystemExit": SystemExit(3),
    "BaseException": Odd(),
    "TimeoutError": TimeoutError("mine"),
}


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("made", [0, 2])
@pytest.mark.parametrize("name", RAISED)
async def test_what_a_generator_raises_fails_its_input_behind_its_outputs(name, made, waits):
    async def generate(item, resume):
        for n in range(made):
            yield b"%d" % n
        if item == b"raises":
            if waits:
                await asyncio.sleep(0)
            raise RAISED[name]

    service = service_of(generate)
    attempt = service.attempt()
    attempt.send(b"raises", b"does not")
    await finished(attempt)
    answer = attempt.answers[1]
    # Python takes a StopAsyncIteration for a failure, and a GeneratorExit for the end.
    ends = name == "GeneratorExit" and not answer.error
    assert ends or (answer.error, answer.index) == (HANDLER, made)
    assert ends or name in answer.text or name == "BaseException"
    assert attempt.answers[2] == Answer(0, numbered(b"", 0, made), {}, True, None, made)
    await at_rest(service)


async def test_what_fails_while_it_is_begun_fails_its_input():
    def is_finished(item, resume):
        raise ValueError("not asked")

    service = service_of(words, is_finished=staticmethod(is_finished))
    attempt = service.attempt()
    answer = attempt.go_on(b"a", 2, Answer(0, [b"a0", b"a1"]).resume())
    await finished(attempt)
    assert (answer.error, answer.index, answer.text) == (HANDLER, 2, "ValueError: not asked")


# ------------------------------------------------------------------ going on after a cut


class Restarting(Counting):
    replay = Replay.RESTART


class Seeking(Counting):
    replay = Replay.SEEK


class Never(Counting):
    replay = Replay.NEVER


@pytest.mark.parametrize("name", [b"a", b"aw"], ids=["at once", "waits"])
@pytest.mark.parametrize("cut", [1, 4, 5])
async def test_what_restarts_gives_the_same_and_sends_the_rest(cut, name):
    service = Restarting()
    attempt = service.attempt()
    before = Answer(0, numbered(name, 0, cut))
    answer = attempt.go_on(name + b" 5", cut, before.resume())
    await finished(attempt)
    assert before.outputs + answer.outputs == numbered(name, 0, 5)
    assert (answer.error, answer.index) == (None, 5)
    assert service.began == [(name + b" 5", Resume())]
    assert len(service.made) == 5


async def test_what_restarts_and_gives_other_outputs_is_interrupted_at_the_start_index():
    service = Restarting()
    attempt = service.attempt()
    answer = attempt.go_on(b"a 5", 3, Answer(0, [b"a0", b"b1", b"a2"]).resume())
    await finished(attempt)
    assert (answer.error, answer.index, answer.outputs) == (INTERRUPTED, 3, [])
    assert "cut after 3 outputs" in answer.text
    assert "gave others" in answer.text
    assert service.closed == [b"a 5"]


async def test_what_restarts_and_ends_before_the_start_index_is_interrupted():
    service = Restarting()
    attempt = service.attempt()
    answer = attempt.go_on(b"a 2", 3, Answer(0, numbered(b"a", 0, 3)).resume())
    await finished(attempt)
    assert (answer.error, answer.index) == (INTERRUPTED, 3)
    assert "gave only 2" in answer.text


async def test_what_restarts_and_raises_before_the_start_index_fails_there():
    async def generate(item, resume):
        yield b"a0"
        raise ValueError("no")

    service = service_of(generate, replay=Replay.RESTART)
    attempt = service.attempt()
    answer = attempt.go_on(b"a", 3, Answer(0, numbered(b"a", 0, 3)).resume())
    await finished(attempt)
    assert (answer.error, answer.index) == (HANDLER, 3)


async def test_what_is_made_again_needs_no_credit():
    service = Restarting()
    attempt = service.attempt(each=Credit(2, 10))
    cut = Answer(0, numbered(b"a", 0, 50))
    answer = attempt.go_on(b"a 60", 50, cut.resume(), Credit(50, 10))
    await until(lambda: len(service.made) == 50)
    await for_a_while()
    assert answer.outputs == []
    attempt.grant(1, 55)
    await until(lambda: len(answer.outputs) == 5)
    await for_a_while()
    assert len(service.made) == 55
    attempt.grant(1, 100)
    await finished(attempt)


async def test_what_seeks_begins_at_the_start_index():
    service = Seeking()
    attempt = service.attempt()
    answer = attempt.go_on(b"a 5", 3, Answer(0, numbered(b"a", 0, 3)).resume())
    await finished(attempt)
    assert answer.outputs == [b"a3", b"a4"]
    assert service.began == [(b"a 5", Resume(3, (), 3))]


async def test_a_client_of_before_may_have_it_seek_and_no_more():
    for service, expected in (
        (Seeking(), None),
        (Restarting(), INTERRUPTED),
        (Never(), INTERRUPTED),
    ):
        attempt = service.attempt(features=())
        answer = attempt.go_on(b"a 5", 3, None)
        await finished(attempt)
        assert answer.error is expected
        assert answer.index == (5 if expected is None else 3)


async def test_what_never_goes_on_is_interrupted():
    service = Never()
    attempt = service.attempt()
    answer = attempt.go_on(b"a 5", 3, Answer(0, numbered(b"a", 0, 3)).resume())
    await finished(attempt)
    assert (answer.error, answer.index) == (INTERRUPTED, 3)
    assert service.began == []


async def test_what_continues_is_given_what_was_delivered():
    service = Counting()
    attempt = service.attempt()
    answer = attempt.go_on(b"a 5", 2, Answer(0, [b"x", b"y"]).resume())
    await finished(attempt)
    assert answer.outputs == [b"a2", b"a3", b"a4"]
    assert service.began == [(b"a 5", Resume(2, (b"x", b"y"), 0, None))]


class Checkpointing(Generators):
    """Gives a checkpoint with every third output."""

    async def generate(self, item, resume):
        self.began.append((item, resume))
        for n in range(resume.index, 8):
            value = item + b"%d" % n
            yield Output(value, b"at %d" % (n + 1)) if n % 3 == 2 else Output(value)


@pytest.mark.parametrize("cut", range(1, 9))
async def test_what_continues_is_given_its_last_checkpoint_and_what_came_since(cut):
    service = Checkpointing()
    attempt = service.attempt(each=Credit(cut, 1 << 20))
    attempt.send(b"a")
    await until(lambda: len(attempt.outputs()) == cut)
    resume = attempt.answers[1].resume()
    attempt.go()
    other = service.attempt()
    answer = other.go_on(b"a", cut, resume)
    await finished(other)
    assert answer.outputs == numbered(b"a", cut, 8 - cut)
    at = cut // 3 * 3
    given = Resume(cut, tuple(numbered(b"a", at, cut - at)), at, b"at %d" % at if at else None)
    assert service.began == [(b"a", Resume()), (b"a", given)]
    # The second one's checkpoints are as good as the first one's.
    for index, checkpoint in answer.checkpoints.items():
        whole = Answer(0, numbered(b"a", 0, index), {index: checkpoint})
        third = service.attempt()
        last = third.go_on(b"a", index, whole.resume())
        await finished(third)
        assert last.error is None


async def test_a_checkpoint_of_other_outputs_is_not_used():
    service = Checkpointing()
    attempt = service.attempt(each=Credit(5, 1 << 20))
    attempt.send(b"a")
    await until(lambda: len(attempt.outputs()) == 5)
    answer = attempt.answers[1]
    answer.outputs[0] = b"other"  # before the checkpoint
    attempt.go()
    other = service.attempt()
    again = other.go_on(b"a", 5, answer.resume())
    await finished(other)
    assert (again.error, again.index) == (INTERRUPTED, 5)
    assert len(service.began) == 1


async def test_a_checkpoint_that_is_none_of_the_kits_is_not_used():
    service = Checkpointing()
    attempt = service.attempt()
    answer = attempt.go_on(b"a", 1, Answer(0, [b"a0"], {1: b"short"}).resume())
    await finished(attempt)
    assert (answer.error, answer.index) == (INTERRUPTED, 1)
    assert "5 bytes" in answer.text


async def test_outputs_with_another_digest_are_the_clients_error():
    service = Counting()
    attempt = service.attempt()
    resume = Answer(0, [b"x", b"y"]).resume()
    attempt.go_on(b"a", 2, type(resume)(bytes(8), None, 0, (b"x", b"y")))
    await until(lambda: attempt.left)
    assert attempt.left == ["PROTOCOL: the resume of input 1 has outputs with another digest"]
    assert service.began == []


async def test_outputs_that_cannot_be_decoded_interrupt():
    service = service_of(words, codec=Upper())
    attempt = service.attempt()
    answer = attempt.go_on(b"one two three", 2, Answer(0, [b"ONE", b"BAD"]).resume())
    await finished(attempt)
    assert (answer.error, answer.index) == (INTERRUPTED, 2)
    assert "no such output" in answer.text


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("outputs", [[b"a0"], [b"a0", b"end"]])
async def test_what_says_that_it_is_finished_is_not_called(outputs, later):
    class Finishing(Counting):
        def is_finished(self, item, resume):
            assert resume.index == len(resume.outputs) == len(outputs)
            found = resume.outputs[-1] == b"end"

            async def found_later():
                await asyncio.sleep(0)
                return found

            return found_later() if later else found

    service = Finishing()
    attempt = service.attempt(credit=Credit(0, 0))
    answer = attempt.go_on(b"a 9", len(outputs), Answer(0, outputs).resume(), Credit(0, 0))
    if outputs[-1] == b"end":
        await finished(attempt)  # which needs no credit
        assert (answer.error, answer.index, answer.outputs) == (None, 2, [])
        assert service.began == []
    else:
        await for_a_while()
        assert not answer.ended
        attempt.go()


@pytest.mark.parametrize("replay", [Replay.NEVER, Replay.RESTART, Replay.SEEK])
async def test_a_checkpoint_that_no_one_could_use_is_the_handlers_error(replay):
    async def generate(item, resume):
        yield Output(b"a")
        yield Output(b"b", b"checkpoint")

    service = service_of(generate, replay=replay)
    attempt = service.attempt()
    attempt.send(b"x")
    await finished(attempt)
    answer = attempt.answers[1]
    assert (answer.error, answer.index) == (HANDLER, 1)
    assert "Replay.CONTINUE" in answer.text


async def test_a_checkpoint_that_is_too_large_fails_its_input():
    async def generate(item, resume):
        yield Output(b"a", bytes(12))
        yield Output(b"b", bytes(13))

    attempt = service_of(generate).attempt(token_bytes=20)
    attempt.send(b"x")
    await finished(attempt)
    assert (attempt.answers[1].error, attempt.answers[1].index) == (ItemErrorKind.TOO_LARGE, 1)


# ------------------------------------------------------------------ pauses


async def test_a_generator_without_credit_is_not_asked_and_its_place_is_anothers():
    service = Counting(places=1)
    attempt = service.attempt(each=Credit(2, 1 << 20))
    attempt.send(b"a 5", b"b 5", b"c 2")
    await until(lambda: attempt.answers[3].outputs == [b"c0", b"c1"])
    await for_a_while()
    assert service.made == [b"a 5", b"a 5", b"b 5", b"b 5", b"c 2", b"c 2"]
    assert service.workers._free == 1
    attempt.grant(2, 9)
    await until(lambda: attempt.answers[2].ended)
    assert service.made[6:] == [b"b 5"] * 3
    attempt.grant(1, 9)
    attempt.grant(3, 9)
    await finished(attempt)
    assert attempt.outputs(1) == numbered(b"a", 0, 5)


async def test_what_may_go_on_has_a_place_before_what_begins():
    service = Held(places=1)
    attempt = service.attempt(each=Credit(1, 1 << 20))
    attempt.send(b"a")
    service.go.release()
    await until(lambda: service.workers._free == 1)
    attempt.send(b"b", b"c")
    await until(lambda: len(service.began) == 2)
    attempt.grant(1, 2)  # while b has the only place
    service.go.release()
    await until(lambda: attempt.outputs(2) == [b"b0"])
    await until(lambda: service.running == 1)
    assert len(service.began) == 2
    service.go.release()
    await until(lambda: attempt.outputs(1) == [b"a0", b"a1"])
    await until(lambda: len(service.began) == 3)
    attempt.go()


async def test_a_generator_goes_on_in_its_own_task_and_context():
    variable = contextvars.ContextVar("variable", default=0)
    seen = []

    async def generate(item, resume):
        task = asyncio.current_task()
        for n in range(4):
            variable.set(variable.get() + 1)
            yield b"%d" % n
            seen.append((asyncio.current_task() is task, variable.get()))

    service = service_of(generate)
    attempt = service.attempt(each=Credit(1, 1 << 20))
    attempt.send(b"a")
    for outputs in range(2, 6):
        await at_rest(service)
        attempt.grant(1, outputs)
    await finished(attempt)
    assert seen == [(True, n) for n in range(1, 5)]


async def test_readers_that_stop_stop_nobody_else():
    service = Counting(places=2)
    attempt = service.attempt(each=Credit(10, 1 << 20))
    attempt.send(*(b"s 100" for _ in range(50)), *(b"g 100" for _ in range(50)))
    for outputs in range(10, 120, 10):
        for number in range(51, 101):
            attempt.grant(number, outputs)
        await for_a_while()
    await until(lambda: all(attempt.answers[n].ended for n in range(51, 101)))
    assert {len(attempt.outputs(n)) for n in range(1, 51)} == {10}
    for number in range(1, 51):
        attempt.grant(number, 200)
    await finished(attempt)
    assert {len(attempt.outputs(n)) for n in range(1, 101)} == {100}


async def test_credit_of_the_lane_pauses_generators_at_what_may_wait():
    service = Counting()
    attempt = service.attempt(credit=Credit(0, 0), ahead_bytes=10)
    attempt.send(b"a 50", b"b 50", b"c 50")
    await until(lambda: len(service.began) == 3 or service.workers._free == service.places)
    await for_a_while()
    assert len(service.made) <= 10 + 3
    attempt.grant_all(1000)
    await finished(attempt)
    assert len(service.made) == 150


async def test_in_order_the_head_goes_on_though_later_ones_fill_what_may_wait():
    service = Counting(places=3)
    attempt = service.attempt(order=Order.INPUT, ahead_bytes=10)
    attempt.send(b"aw 50", b"b 50", b"c 50")
    await finished(attempt)
    assert [attempt.outputs(n) for n in (1, 2, 3)] == [
        numbered(name, 0, 50) for name in (b"aw", b"b", b"c")
    ]


# ------------------------------------------------------------------ nobody wants it


@pytest.mark.parametrize("how", ["cancel", "go"])
async def test_a_generator_that_waits_is_cancelled_and_closed(how):
    service = Held()
    attempt = service.attempt()
    attempt.send(b"a", b"b")
    service.go.release()
    await until(lambda: attempt.order and service.running == 2)
    if how == "go":
        attempt.go()
        await until(lambda: sorted(service.closed) == [b"a", b"b"])
        return
    attempt.cancel(1)
    answer = attempt.answers[1]
    assert (answer.error, answer.index) == (CANCELLED, len(answer.outputs))
    await until(lambda: service.closed == [b"a"])
    assert not attempt.answers[2].ended
    attempt.go()


@pytest.mark.parametrize("how", ["cancel", "go"])
async def test_a_generator_that_pauses_is_closed_though_there_is_no_place(how):
    service = Held(places=1)
    attempt, other = service.attempt(each=Credit(1, 1 << 20)), service.attempt()
    attempt.send(b"a")
    service.go.release()
    await until(lambda: service.workers._free == 1)
    other.send(b"b", b"c")
    await until(lambda: service.running == 1)
    if how == "go":
        attempt.go()
    else:
        attempt.cancel(1)
        assert attempt.answers[1].error is CANCELLED
    await until(lambda: service.closed == [b"a"])
    await for_a_while()
    assert service.workers._free == 0
    assert [item for item, _ in service.began] == [b"a", b"b"]
    assert not service.workers._paused
    other.go()


async def test_a_generator_that_never_waits_is_closed():
    service = Counting(places=1)
    attempt = service.attempt()
    attempt.send(b"a 1000000000")
    await until(lambda: len(attempt.outputs()) > 0)
    attempt.cancel(1)
    await until(lambda: service.closed == [b"a 1000000000"])


async def test_what_comes_to_be_cancelled_in_the_moment_in_which_it_may_go_on_is_closed():
    service = Held(places=1)
    attempt = service.attempt(each=Credit(1, 1 << 20))
    attempt.send(b"a")
    service.go.release()
    await until(lambda: service.workers._free == 1)
    attempt.grant(1, 5)
    attempt.cancel(1)
    await until(lambda: service.closed == [b"a"])
    await until(lambda: service.workers._free == 1)


async def test_cleaning_up_has_its_moment_and_no_more(short_grace, caplog):
    cleaned = []

    async def generate(item, resume):
        try:
            yield b"a"
            yield b"b"
        finally:
            await asyncio.sleep(0)
            cleaned.append(item)
            await asyncio.Event().wait()

    service = service_of(generate)
    attempt = service.attempt(each=Credit(1, 1 << 20))
    attempt.send(b"x")
    await at_rest(service)
    attempt.cancel(1)
    await until(lambda: "was not closed in time" in caplog.text)
    assert cleaned == [b"x"]
    await at_rest(service)


async def test_cleaning_up_is_not_broken_off_by_the_end_of_the_attempt():
    steps = []

    async def generate(item, resume):
        try:
            yield b"a"
            await asyncio.Event().wait()
        finally:
            for step in range(5):
                await asyncio.sleep(0)
                steps.append(step)

    service = service_of(generate)
    for each in (Credit(1, 1 << 20), Credit(9, 1 << 20)):  # it pauses, or waits
        steps.clear()
        attempt = service.attempt(each=each)
        attempt.send(b"x")
        await until(attempt.outputs)
        await for_a_while()
        attempt.cancel(1)
        await until(lambda: steps == [0])
        attempt.go()
        await until(lambda: steps == [0, 1, 2, 3, 4])


@pytest.mark.parametrize("error", [ValueError("no"), asyncio.CancelledError(), SystemExit(1)])
async def test_what_is_raised_while_it_is_closed_is_logged(error, caplog):
    async def generate(item, resume):
        try:
            yield b"a"
            yield b"b"
        finally:
            raise error

    caplog.set_level(logging.WARNING, "servestream_client")
    service = service_of(generate)
    attempt = service.attempt(each=Credit(1, 1 << 20))
    attempt.send(b"x")
    await until(attempt.outputs)
    await at_rest(service)
    attempt.cancel(1)
    await until(lambda: "a generator failed while it was closed" in caplog.text)
    assert attempt.answers[1].error is CANCELLED
    await until(lambda: not workers_running())
    await at_rest(service)


# ------------------------------------------------------------------ how long it takes


async def test_the_time_of_an_output_counts_from_the_last_one():
    """Each takes a tenth of what it may, and all of them more than that."""
    service = Held()
    attempt = service.attempt()
    attempt.may_take(0.5)
    attempt.send(b"a")
    loop = asyncio.get_running_loop()
    began = loop.time()
    while loop.time() < began + 0.8:
        count = len(attempt.outputs())
        loop.call_later(0.05, service.go.release)
        await until(lambda: len(attempt.outputs()) > count)  # noqa: B023
    assert not attempt.answers[1].ended
    await finished(attempt)
    answer = attempt.answers[1]
    assert (answer.error, answer.index) == (TIMEOUT, len(answer.outputs))
    assert service.closed == [b"a"]


class Relabelled(BytesCodec):
    """Not taken for the codec of bytes, which is never called."""


async def busy(item, resume):
    """Makes outputs without waiting, each of which takes its time."""
    for _ in range(24):
        end = time.perf_counter() + 0.05
        while time.perf_counter() < end:
            pass
        yield b"x"


@pytest.mark.parametrize("codec", [BytesCodec(), Relabelled()])
async def test_the_time_of_an_output_counts_from_the_last_one_where_nothing_is_waited_for(codec):
    attempt = service_of(busy, codec=codec).attempt()
    attempt.may_take(0.6)
    attempt.send(b"a")
    await finished(attempt)
    answer = attempt.answers[1]
    assert (answer.error, len(answer.outputs)) == (None, 24)


async def test_the_time_of_a_pause_does_not_count():
    service = Counting()
    attempt = service.attempt(each=Credit(1, 1 << 20))
    attempt.may_take(0.05)
    attempt.send(b"aw 3")
    await at_rest(service)
    passed = asyncio.Event()
    asyncio.get_running_loop().call_later(0.2, passed.set)
    await passed.wait()
    assert not attempt.answers[1].ended
    attempt.grant(1, 9)
    await finished(attempt)
    assert attempt.answers[1].error is None


@pytest.mark.parametrize("goes_on", [False, True])
async def test_one_that_will_not_be_cancelled_is_answered_all_the_same(goes_on, short_grace):
    release = asyncio.Event()

    async def generate(item, resume):
        yield b"a"
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                if goes_on:
                    yield b"late"

    service = service_of(generate)
    attempt = service.attempt()
    attempt.may_take(0.05)
    attempt.send(b"x")
    await finished(attempt)
    answer = attempt.answers[1]
    assert (answer.error, answer.outputs) == (TIMEOUT, [b"a"])
    assert service.workers._free == service.places - (not goes_on)
    release.set()
    await at_rest(service)


async def test_what_is_told_is_the_longest_time_since_an_output_of_those_that_run():
    service = Held(places=3)
    attempt = service.attempt(each=Credit(2, 1 << 20))
    attempt.send(b"a")
    await until(lambda: service.running == 1)
    attempt.send(b"b")
    await until(lambda: service.running == 2)
    running = service.workers.running(attempt)
    assert (running.oldest_number, running.count) == (1, 2)
    service.go.release()  # of the one that waits longest
    await until(lambda: attempt.outputs() == [b"a0"])
    running = service.workers.running(attempt)
    assert (running.oldest_number, running.count) == (2, 2)
    service.go.release()
    await until(lambda: attempt.outputs(2) == [b"b0"])
    assert service.workers.running(attempt).oldest_number == 1
    service.go.release()
    await until(lambda: attempt.outputs() == [b"a0", b"a1"])
    await for_a_while()  # it pauses
    running = service.workers.running(attempt)
    assert (running.oldest_number, running.count) == (2, 1)
    attempt.go()


# ------------------------------------------------------------------ turns


async def test_generators_that_never_wait_begin_together(clock):
    began = []

    async def generate(item, resume):
        began.append(item)
        for _ in range(100):
            clock.now += 1e-4
            yield item if len(set(began)) < 50 else b"all there"

    attempt = service_of(generate, places=50).attempt()
    attempt.send(*(b"%d" % n for n in range(50)))
    await finished(attempt)
    # The first one is alone for a moment; and then everybody has a turn before others have two.
    alone = [len(attempt.outputs(n)) - attempt.outputs(n).count(b"all there") for n in range(1, 51)]
    assert sorted(alone)[-2] <= 20


async def test_generators_that_never_wait_share_the_loop(clock):
    made = []

    async def generate(item, resume):
        for _ in range(500):
            clock.now += 1e-4
            made.append(item)
            yield item

    attempt = service_of(generate).attempt()
    attempt.send(b"a", b"b")
    await finished(attempt)
    alone = [len(list(group)) for _, group in itertools.groupby(made)]
    most = (turns_module.BUDGET_SECONDS + turns_module.STRETCH_SECONDS) / 1e-4
    assert len(alone) > 10
    assert max(alone[1:-1]) <= most + 1  # but for when there is one of them


class Slow(Generators):
    """Its pieces take their time, on the clock."""

    def __init__(self, clock, slow: str) -> None:
        self.clock = clock
        self.slow = slow
        service = self

        class Codec(BytesCodec):
            def decode_input(self, payload, /):
                service.take("decode")
                return payload

            def encode_output(self, output, /):
                service.take("encode")
                return output

            def decode_output(self, payload, /):
                service.take("again")
                return payload

        self.codec = Codec() if slow != "make" else BytesCodec()
        super().__init__(4)

    def take(self, piece: str) -> None:
        self.clock.now += SLOW if self.slow in (piece, "all") else 1e-6

    def is_finished(self, item, resume):
        self.take("finished")
        return False

    async def generate(self, item, resume):
        try:
            for n in range(resume.index, 8):
                if b"w" in item:
                    await asyncio.sleep(0)
                self.take("make")
                yield item + b"%d" % n
        finally:
            self.take("close")


@pytest.mark.parametrize("slow", ["decode", "encode", "again", "finished", "make", "close", "all"])
@pytest.mark.parametrize("name", [b"a", b"aw"], ids=["at once", "waits"])
async def test_the_loop_turns_after_each_slow_piece_of_a_generator(name, slow, clock):
    service, stalls = Slow(clock, slow), Stalls(clock)
    attempts = [service.attempt(), service.attempt(each=Credit(3, 1 << 20)), service.attempt()]
    with stalls.watched():
        for attempt in attempts:
            attempt.send(name, name, name)
            attempt.go_on(name, 5, Answer(0, numbered(name, 0, 5)).resume())
        await until(lambda: attempts[0].done and attempts[2].done)
        await at_rest(service)
        attempts[1].go()
        await until(lambda: not workers_running())
    assert stalls.longest <= SLOW + SLACK
