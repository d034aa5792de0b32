"""Workers whose generators pause: who has a place, and who is next."""

import asyncio
import gc
import weakref
from random import Random

import pytest
from attempts import for_a_while, until, workers_running
from generating import Generators, ManyAttempt

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.frames import Credit, Order
from servestream_client.server.generator_workers import GeneratorWorkers
from servestream_client.server.stuck import STUCK

ONE = Credit(1, 1 << 20)


@pytest.fixture(autouse=True)
async def no_worker_stays():
    yield
    await until(lambda: not workers_running())


class Steps(Generators):
    """Gives an output each time that its input is let go."""

    def __init__(self, places: int) -> None:
        super().__init__(places)
        self.turns: dict[bytes, asyncio.Semaphore] = {}
        self.running: set[bytes] = set()
        self.most = 0

    def turn(self, item: bytes) -> asyncio.Semaphore:
        return self.turns.setdefault(item, asyncio.Semaphore(0))

    async def generate(self, item, resume):
        self.began.append((item, resume))
        try:
            while True:
                self.running.add(item)
                self.most = max(self.most, len(self.running))
                try:
                    await self.turn(item).acquire()
                finally:
                    self.running.discard(item)
                yield item
        finally:
            self.closed.append(item)

    def begun(self) -> list[bytes]:
        return [item for item, _ in self.began]


async def test_all_that_came_begin_at_once_as_far_as_there_are_places():
    service = Steps(places=5)
    attempt = service.attempt()
    attempt.send(*(b"%d" % n for n in range(8)))
    await until(lambda: len(service.running) == 5)
    assert service.begun() == [b"%d" % n for n in range(5)]
    attempt.go()
    await until(lambda: len(service.closed) == 5)
    assert service.most == 5


async def test_streams_take_turns():
    service = Steps(places=4)
    attempts = [service.attempt(name) for name in "ab"]
    blocker = service.attempt("c")
    blocker.send(b"c1", b"c2", b"c3", b"c4")
    await until(lambda: len(service.running) == 4)
    for attempt in attempts:
        attempt.send(*(f"{attempt.name}{n}".encode() for n in range(3)))
    blocker.go()
    await until(lambda: len(service.running) == 4 and len(service.began) == 8)
    assert service.begun()[4:] == [b"a0", b"b0", b"a1", b"b1"]
    for attempt in attempts:
        attempt.go()


async def test_what_may_go_on_goes_on_in_the_order_in_which_it_was_granted():
    service = Steps(places=1)
    attempt = service.attempt(each=ONE)
    names = [b"a", b"b", b"c"]
    for name in names:
        service.turn(name).release()
        attempt.send(name)
        await until(lambda: name in [i for i, _ in service.began] and service.workers._free == 1)  # noqa: B023
    attempt.send(b"d")
    await until(lambda: service.running == {b"d"})
    for number in (3, 1, 2):
        attempt.grant(number, 9)
    attempt.send(b"e")
    gone_on = []
    service.turn(b"d").release()
    for _ in names:
        await until(lambda: len(service.running - {b"d"}) == 1)
        (name,) = service.running
        gone_on.append(name)
        attempt.cancel(names.index(name) + 1)
        await until(lambda: name not in service.running)  # noqa: B023
    assert gone_on == [b"c", b"a", b"b"]
    assert b"e" not in service.begun()
    await until(lambda: service.running == {b"e"})
    attempt.go()


async def test_fewer_are_let_in_while_more_than_there_are_places_clean_up():
    release = asyncio.Event()
    closing = []

    class Cleaning(Steps):
        async def generate(self, item, resume):
            self.began.append((item, resume))
            try:
                yield item
                yield item
            finally:
                closing.append(item)
                await release.wait()

    service = Cleaning(places=2)
    attempt = service.attempt(each=ONE)
    attempt.send(b"a", b"b", b"c")
    await until(lambda: len(attempt.order) == 3 and service.workers._free == 2)
    attempt.cancel(1, 2, 3)
    await until(lambda: len(closing) == 3)
    assert service.workers._free == -1
    attempt.send(b"d")
    await for_a_while()
    assert len(service.began) == 3
    release.set()
    await until(lambda: len(service.began) == 4)
    attempt.go()


async def test_a_worker_is_come_for_again_behind_a_handler_that_never_waited():
    """As one that comes between, and fails inputs by plan."""

    class Refusing:
        async def handle(self, _, parts):
            for attempt, run in parts:
                attempt.session.outbox.fail(run.first, ItemErrorKind.HANDLER, "refused")

    attempt = ManyAttempt(GeneratorWorkers(Refusing(), places=1))
    attempt.send(b"a", b"b", b"c")
    await until(lambda: attempt.done)
    attempt.send(b"d")
    await until(lambda: attempt.done)
    attempt.go()


async def test_a_worker_that_is_cancelled_while_it_pauses_leaves_its_place():
    """As an event loop that closes does."""
    service = Steps(places=2)
    attempt = service.attempt(each=ONE)
    service.turn(b"a").release()
    attempt.send(b"a")
    await until(lambda: attempt.order == [1] and service.workers._free == 2)
    (worker,) = workers_running()
    worker.cancel()
    await until(lambda: service.workers._free == 2 and not service.workers._paused)


async def test_attempts_leave_if_what_may_go_on_finds_all_places_stuck():
    service = Steps(places=1)
    attempt = service.attempt(each=ONE)
    service.turn(b"a").release()
    attempt.send(b"a")
    await until(lambda: attempt.order == [1] and service.workers._free == 1)
    other = service.attempt()
    other.send(b"b")
    await until(lambda: service.running == {b"b"})
    attempt.grant(1, 5)
    assert attempt.left == []
    service.workers._on_stuck()
    assert attempt.left == [STUCK]
    third = service.attempt(each=ONE)
    service.workers._kept.stuck = True
    attempt.grant(1, 9)
    service.workers._kept.stuck = False
    attempt.go()
    other.go()
    third.go()


async def test_an_attempt_that_is_over_is_let_go():
    service = Steps(places=2)

    async def served() -> weakref.ref[ManyAttempt]:
        attempt = service.attempt(each=ONE)
        service.turn(b"a").release()
        attempt.send(b"a", b"b", b"c")
        await until(lambda: attempt.order == [1])
        attempt.go()
        await until(lambda: not workers_running() and service.workers._free == 2)
        return weakref.ref(attempt)

    kept = await served()
    await for_a_while()
    gc.collect()
    assert kept() is None
    assert not service.workers._coming
    assert not service.workers._comes
    assert not service.workers._in_flight


class Chance(Generators):
    """Waits, and is as long as its input says."""

    def __init__(self, places: int, random: Random) -> None:
        super().__init__(places)
        self.random = random
        self.running = 0
        self.most = 0

    async def generate(self, item, resume):
        for n in range(resume.index, int(item)):
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                for _ in range(self.random.choice([0, 0, 1, 3])):
                    await asyncio.sleep(0)
            finally:
                self.running -= 1
            yield item + b"/%d" % n


class Walk:
    """Streams whose clients do this and that."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.service = Chance(random.choice([1, 2, 5]), random)
        self.attempts = [self.attempt(name) for name in "abc"]
        self.cancelled: set[tuple[str, int]] = set()

    def attempt(self, name: str) -> ManyAttempt:
        return self.service.attempt(
            name,
            order=self.random.choice([Order.ANY, Order.INPUT]),
            credit=Credit(self.random.choice([2, 1000]), 1 << 20),
            each=Credit(self.random.choice([1, 3, 1000]), 1 << 20),
            ahead_bytes=30,
        )

    def send(self, attempt: ManyAttempt) -> None:
        count = self.random.randrange(1, 5)
        attempt.send(*(b"%d" % self.random.randrange(9) for _ in range(count)))

    def grant(self, attempt: ManyAttempt) -> None:
        for number, answer in attempt.answers.items():
            if self.random.random() < 0.5:
                attempt.grant(number, answer.next_index + self.random.randrange(1, 4))

    def grant_all(self, attempt: ManyAttempt) -> None:
        attempt.grant_all(len(attempt.order) + self.random.randrange(1, 9))

    def cancel(self, attempt: ManyAttempt) -> None:
        if attempt.answers:
            number = self.random.choice(list(attempt.answers))
            self.cancelled.add((attempt.name, number))
            attempt.cancel(number)

    async def step(self) -> None:
        does = self.random.choice([self.send, self.grant, self.grant, self.grant_all, self.cancel])
        does(self.random.choice(self.attempts))
        for _ in range(self.random.randrange(5)):
            await asyncio.sleep(0)

    def check(self, attempt: ManyAttempt) -> None:
        for number, answer in attempt.answers.items():
            if answer.error is None:
                count = len(answer.outputs)
                assert answer.outputs == [b"%d/%d" % (count, n) for n in range(count)]
            else:
                assert (attempt.name, number) in self.cancelled


@pytest.mark.parametrize("seed", range(30))
async def test_everything_is_answered_whatever_pauses_and_is_cancelled(seed):
    walk = Walk(Random(seed))
    for _ in range(80):
        await walk.step()
    for attempt in walk.attempts:
        attempt.grant_all(1_000_000)
        for number in attempt.answers:
            attempt.grant(number, 1_000_000)
    await until(lambda: all(attempt.done for attempt in walk.attempts))
    for attempt in walk.attempts:
        walk.check(attempt)
    service = walk.service
    await until(lambda: service.workers._free == service.places)
    assert service.most <= service.places
    assert not service.workers._coming
    assert not service.workers._paused
    assert not service.workers._resumable
