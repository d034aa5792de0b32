"""No service's code keeps the event loop for longer than the piece at hand, whatever was before."""

import asyncio
import random
from contextlib import suppress

import pytest
from attempts import FakeAttempt, until, workers_running
from turns_clock import SLACK, SLOW, Clock, Stalls, clock

from servestream_client import BytesCodec
from servestream_client.errors import ItemErrorKind
from servestream_client.server.batch_workers import BatchWorkers
from servestream_client.server.handlers import batch_handler, item_handler
from servestream_client.server.item_workers import ItemWorkers
from servestream_client.server.workers import Workers

__all__ = ["clock"]

COUNT = 12
PIECES = ("decode", "handle", "encode")


@pytest.fixture(autouse=True)
async def no_worker_stays():
    yield
    await until(lambda: not workers_running())


class Service:
    """Code that takes its time, on the clock, for inputs that say slow."""

    def __init__(self, clock: Clock, slow: tuple[str, ...]) -> None:
        self.clock = clock
        self.slow = slow
        self.computed: list[bytes] = []
        service = self

        class Codec(BytesCodec):
            def decode_input(self, payload, /):
                service.take("decode", payload)
                return payload

            def encode_output(self, output, /):
                service.take("encode", output)
                return output

        self.codec = Codec() if set(slow) - {"handle"} else BytesCodec()

    def take(self, piece: str, item: bytes) -> None:
        if item.startswith(b"slow"):
            self.clock.now += SLOW if piece in self.slow else 0
        else:
            self.clock.now += 1e-6

    async def predict(self, item):
        self.computed.append(item)
        self.take("handle", item)
        return item

    async def predict_and_wait(self, item):
        await asyncio.sleep(0)
        return await self.predict(item)

    def predict_in_thread(self, item):
        self.computed.append(item)
        return item

    def predict_later(self, item):
        return self.predict(item)

    async def predict_batch(self, items):
        self.computed += items
        for item in items[:1]:
            self.take("handle", item)
        return items

    async def predict_none(self, items):
        for item in items[:1]:
            self.take("handle", item)
        if len(items) > 1:
            raise ValueError("singly")
        self.computed += items
        return items

    def predict_batch_in_thread(self, items):
        self.computed += items
        return items

    async def predict_lazily(self, items):
        service, self_clock = self, self.clock

        class Lazy:
            def __len__(self):
                return len(items)

            def __getitem__(self, place):
                if place >= len(items):
                    raise IndexError
                self_clock.now += SLOW
                return items[place]

        service.computed += items
        return Lazy()

    def workers(self, name: str, places: int) -> Workers:
        function = getattr(self, name)
        if "batch" in name or "none" in name or "lazily" in name:
            handler = batch_handler(function, self.codec, places)
            return BatchWorkers(handler, places=places, max_batch=8, batch_wait=0.0)
        return ItemWorkers(item_handler(function, self.codec, places), places=places)


HANDLERS = (
    "predict",
    "predict_and_wait",
    "predict_in_thread",
    "predict_later",
    "predict_batch",
    "predict_none",
    "predict_lazily",
    "predict_batch_in_thread",
)


@pytest.mark.parametrize("quick", [0, 250], ids=["cold", "after quick ones"])
@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("slow", [("decode",), ("handle",), ("encode",), PIECES], ids="-".join)
@pytest.mark.parametrize("name", HANDLERS)
async def test_the_loop_turns_after_each_slow_piece(name, slow, streams, quick, clock):
    service = Service(clock, slow)
    workers = service.workers(name, places=4)
    attempts = [FakeAttempt(workers, str(number)) for number in range(streams)]
    stalls = Stalls(clock)
    with stalls.watched():
        for attempt in attempts:
            if quick:
                attempt.send(*(b"quick %d" % n for n in range(quick)))
        if quick:
            await until(lambda: all(attempt.done for attempt in attempts))
        for attempt in attempts:
            quicker = [b"quick"] * (quick and 99)  # it becomes slow in the middle of a run
            attempt.send(*quicker, *(b"slow %d" % n for n in range(COUNT)))
        await until(lambda: all(attempt.done for attempt in attempts))
    for attempt in attempts:
        assert attempt.outputs[-COUNT:] == [b"slow %d" % n for n in range(COUNT)]
    assert len(service.computed) == sum(len(attempt.answers) for attempt in attempts)
    assert stalls.longest <= 2 * SLOW + SLACK
    if not quick:
        assert stalls.longest <= SLOW + SLACK


@pytest.mark.parametrize("name", ["predict", "predict_batch"])
async def test_what_is_cancelled_between_two_turns_is_not_computed(name, clock):
    service = Service(clock, ("decode", "handle"))
    attempt = FakeAttempt(service.workers(name, places=1), ordered=False)
    attempt.send(*(b"slow %d" % n for n in range(8)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    attempt.cancel(1, 8)
    await until(lambda: attempt.done)
    assert len(service.computed) <= 2
    assert attempt.outputs.count(ItemErrorKind.CANCELLED) >= 6


@pytest.mark.parametrize("name", HANDLERS)
async def test_a_client_that_leaves_between_two_turns_costs_no_more(name, clock):
    service = Service(clock, PIECES)
    workers = service.workers(name, places=2)
    leaving, staying = FakeAttempt(workers, "a"), FakeAttempt(workers, "b")
    leaving.send(*(b"slow %d" % n for n in range(50)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    leaving.go()
    staying.send(b"slow")
    await until(lambda: staying.done)
    assert staying.outputs == [b"slow"]
    assert len(service.computed) <= 20


async def test_what_a_abandoned_thread_has_computed_is_encoded_in_turns(clock):
    import threading

    go = threading.Event()
    service = Service(clock, ("encode",))

    def predict(item):
        if item == b"slow 7":
            go.wait(20)
        return item

    workers = ItemWorkers(item_handler(predict, service.codec, 1), places=1)
    workers._run_length = 64
    attempt, stalls = FakeAttempt(workers), Stalls(clock)
    attempt.may_take(0.2)
    with stalls.watched():
        attempt.send(*(b"slow %d" % n for n in range(12)))
        await until(lambda: len(attempt.answers) >= 8)
        go.set()
        await until(lambda: attempt.done)
    expected = [b"slow %d" % n for n in range(12)]
    expected[7] = ItemErrorKind.TIMEOUT
    assert attempt.outputs == expected
    assert stalls.longest <= SLOW + SLACK


class Ailing:
    """Code that does what its input says: which of its pieces are slow (D, H, E) or fail (d, h, e),
    slowly or not, and whether the handler waits before (w), or for what fails (x).
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        service = self

        class Codec(BytesCodec):
            def decode_input(self, payload, /):
                return service.take("D", payload)

            def encode_output(self, output, /):
                return service.take("E", output)

        self.codec = Codec()

    def take(self, piece: str, item: bytes) -> bytes:
        says = item.split(b" ")[0].decode()
        self.clock.now += SLOW if piece in says else 1e-6
        if piece.lower() in says:
            raise ValueError(piece)
        return item

    async def predict(self, item):
        if b"w" in item:
            await asyncio.sleep(0)
        if b"x" in item:
            failing = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(failing.set_exception, KeyError("x"))
            with suppress(KeyError):  # and then it does something else
                await failing
        return self.take("H", item)

    async def predict_batch(self, items):
        for item in items[:-1]:
            if b"h" in item:
                raise ValueError("singly")
        await self.predict(items[-1])
        return items

    def predict_in_thread(self, item):
        if b"h" in item:
            raise ValueError("h")
        return item

    def predict_later(self, item):
        return self.predict(item)

    def workers(self, name: str, places: int) -> Workers:
        function = getattr(self, name)
        if "batch" in name:
            handler = batch_handler(function, self.codec, places)
            return BatchWorkers(handler, places=places, max_batch=8, batch_wait=0.0)
        return ItemWorkers(item_handler(function, self.codec, places), places=places)


def ailments(rng: random.Random) -> str:
    """Nothing, for the most part: what is slow then comes in the middle of a long run."""
    if rng.random() < rng.choice([0.0, 0.9]):
        return "q"
    slow = [piece for piece in "DHE" if rng.random() < 0.6]
    rest = [rng.choice("dhe")] * (rng.random() < 0.2) + [rng.choice("wx")] * (rng.random() < 0.2)
    return "".join(slow + rest) or "q"


@pytest.mark.parametrize("seed", [*range(12), 145, 150])  # the last two once came to a third piece
@pytest.mark.parametrize("name", ["predict", "predict_batch", "predict_in_thread", "predict_later"])
async def test_two_pieces_keep_the_loop_at_the_most_wherever_and_whenever_they_are_slow(
    name, seed, clock
):
    rng = random.Random(seed)
    service, stalls = Ailing(clock), Stalls(clock)
    workers = service.workers(name, places=rng.choice([1, 4]))
    workers._adapt_run_length = lambda *_: (
        None
    )  # it would learn how long runs are from the real clock
    attempts = [FakeAttempt(workers, str(number)) for number in range(rng.choice([1, 1, 3]))]
    with stalls.watched():
        for _ in range(rng.randrange(1, 4)):
            workers._run_length = rng.choice([1, 2, 5, 64, 1024])
            for attempt in attempts:
                # Each that is handled later crosses into a thread by itself.
                quick = ["q"] * rng.choice([0, 20 if name == "predict_later" else 300])
                says = [*quick, *(ailments(rng) for _ in range(30)), *quick]
                attempt.send(*(f"{each} {n}".encode() for n, each in enumerate(says)))
            await until(lambda: all(attempt.done for attempt in attempts))
    assert stalls.longest <= 2 * SLOW + SLACK


@pytest.mark.parametrize("history", [0, 100])
@pytest.mark.parametrize("says", [b"wH", b"xH"], ids=["what-comes", "what-fails"])
async def test_handlers_that_wait_for_the_first_time_do_not_go_on_together(says, history, clock):
    service, stalls = Ailing(clock), Stalls(clock)
    workers = service.workers("predict", places=8)
    workers._adapt_run_length = lambda *_: None
    workers._run_length = 64
    attempts = [FakeAttempt(workers, str(number)) for number in range(8)]
    with stalls.watched():
        for items in ([b"q", *[b"q"] * history], [says, b"q"]):
            for attempt in attempts:
                attempt.send(*items)
            await until(lambda: all(attempt.done for attempt in attempts))
    assert stalls.longest <= 2 * SLOW + SLACK
