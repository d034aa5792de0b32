"""The pump: how far it pulls the caller's inputs, and what it makes of each."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from random import Random
from typing import ClassVar

import pytest

from servestream_client import turns as turns_module
from servestream_client.codecs import BytesCodec
from servestream_client.config import FlowControl
from servestream_client.errors import ClientClosedError, ItemErrorKind, LocalProtocolError
from servestream_client.protocol.client import ClientSession, Delivery
from servestream_client.protocol.frames import CodecId, OutputRun, ServerFrame, Welcome
from servestream_client.session.lanes import Inlet
from servestream_client.session.pump import InputPump

ENCODE, TOO_LARGE = ItemErrorKind.INPUT_ENCODE, ItemErrorKind.INPUT_TOO_LARGE


class Clock:
    """Stands for the module `time`. It stands still unless a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(turns_module, "time", clock)
    return clock


class Plain:
    """An iterator that counts how often it was pulled."""

    def __init__(self, items: Sequence[object]) -> None:
        self.items = iter(items)
        self.pulled = 0

    def __iter__(self):
        return self

    def __next__(self):
        item = next(self.items)
        if isinstance(item, BaseException):
            raise item
        self.pulled += 1
        return item


class Asynchronous(Plain):
    """The same, to be awaited; now and then it waits."""

    __iter__ = None

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self.pulled % 2:
            await asyncio.sleep(0)
        try:
            return Plain.__next__(self)
        except StopIteration:
            raise StopAsyncIteration from None


BOTH = pytest.mark.parametrize("kind", [Plain, Asynchronous])


def sized(item: object) -> object:
    """Encodes a number as so many bytes; anything else is trouble."""
    if item.__class__ is str:
        raise ValueError(f"no {item}")
    return bytes(item) if isinstance(item, int) else item


class Harness:
    """A pump, the session that it fills, and a server that answers when it is told to."""

    all: ClassVar[list["Harness"]] = []
    """None is collected, with its task, before its test ends."""

    def __init__(
        self, inputs: object, *, encode: Callable[[object], object] = sized, **flow: int
    ) -> None:
        self.all.append(self)
        self.flow = FlowControl(**flow)
        self.session = ClientSession(stream_id=bytes(16), codec=CodecId("bytes"), flow=self.flow)
        self.inputs = inputs
        self.pushes: list[int] = []
        """How many inputs had been accepted whenever the pump said that it pushed."""
        self.refusals = 0
        self.delivered: list[Delivery] = []
        self.pump = InputPump(
            inlet=Inlet(self.session, self),
            inputs=inputs,
            encode=encode,
            max_item_bytes=self.flow.max_item_bytes,
            notify=self.notify,
        )
        self.attempt = self.session.begin().number
        self.session.next_frame()
        self.session.receive(self.attempt, ServerFrame(welcome=Welcome()))
        self._paced = 0
        self._sent: list[int] = []  # inputs that lack an answer
        self.task = asyncio.ensure_future(self.pump.run())

    finished = False

    def wake_writer(self) -> None:
        self.pushes.append(self.session.ledger.accepted)

    async def flush(self) -> None:
        self.pushes.append(self.session.ledger.accepted)

    def notify(self) -> None:
        self.refusals += 1

    def capacity_changed(self) -> None:
        self.pump.room.set()

    async def rest(self) -> tuple[int, int]:
        """Let the pump do what it can; how many inputs it has pulled, and pushed."""
        for _ in range(40):
            await asyncio.sleep(0)
        assert self.pump.pulled == getattr(self.inputs, "pulled", self.pump.pulled)
        return self.pump.pulled, self.session.ledger.accepted

    def _speak(self) -> None:
        while (frame := self.session.next_frame()) is not None:
            self._paced += frame.paced
            for run in frame.inputs:
                self._sent += range(run.first_number, run.first_number + len(run.payloads))
            if frame.paced:
                self.session.receive(self.attempt, ServerFrame(frames_read=self._paced))

    async def answer(self, count: int) -> tuple[int, int]:
        """The server answers so many inputs; then as `rest`."""
        self._speak()
        for number in self._sent[:count]:
            outputs = [OutputRun(number, [b"%d" % number])]
            self.session.receive(self.attempt, ServerFrame(outputs=outputs))
        del self._sent[:count]
        self.pump.room.set()
        return await self.rest()

    async def take(self, count: int) -> tuple[int, int]:
        """The consumer takes so many outputs; then as `rest`."""
        for _ in range(count):
            delivery = self.session.delivery.take()
            if delivery is not None:
                self.delivered.append(delivery)
        self.pump.room.set()
        return await self.rest()

    async def to_the_end(self) -> list[bytes | ItemErrorKind]:
        """Answer and take everything; what came for each input."""
        await self.rest()
        while not self.session.ledger.complete or self.session.delivery.ready:
            await self.answer(1000)
            await self.take(1000)
        await self.task
        assert [d.number for d in self.delivered] == list(range(1, len(self.delivered) + 1))
        return [d.failure.kind if d.failure else d.payload for d in self.delivered]


# ------------------------------------------------------------------ the window


@BOTH
async def test_inputs_are_pulled_as_far_as_there_are_places(kind):
    harness = Harness(kind([1] * 20), window_items=5)
    assert await harness.rest() == (5, 5)
    assert await harness.answer(3) == (5, 5)  # a place is free only once its output is taken
    assert await harness.take(2) == (7, 7)
    assert await harness.take(1) == (8, 8)
    assert len(await harness.to_the_end()) == 20


@BOTH
async def test_inputs_are_pulled_until_one_does_not_fit_the_bytes(kind):
    harness = Harness(kind([4] * 10), window_bytes=10)
    assert await harness.rest() == (3, 2)
    assert await harness.answer(1) == (4, 3)  # bytes are free once the answer is there
    assert await harness.take(1) == (4, 3)
    assert await harness.answer(2) == (6, 5)
    assert len(await harness.to_the_end()) == 10


@BOTH
async def test_nothing_is_pulled_while_the_bytes_are_full(kind):
    harness = Harness(kind([5, 5, 0, 5]), window_bytes=10)
    assert await harness.rest() == (2, 2)
    assert await harness.answer(1) == (4, 4)
    harness = Harness(kind([4, 6, 1]), window_bytes=10)
    assert await harness.rest() == (2, 2)


@BOTH
async def test_an_input_larger_than_the_window_goes_alone(kind):
    harness = Harness(kind([50, 50, 4]), window_bytes=10)
    assert await harness.rest() == (1, 1)
    assert await harness.answer(1) == (2, 2)
    assert await harness.answer(1) == (3, 3)
    assert len(await harness.to_the_end()) == 3


@BOTH
async def test_an_input_larger_than_the_window_waits_for_those_before_it(kind):
    harness = Harness(kind([4, 4, 50, 1]), window_bytes=10)
    assert await harness.rest() == (3, 2)
    assert await harness.answer(1) == (3, 2)
    assert await harness.answer(1) == (3, 3)
    assert harness.pushes[-1] == 3
    assert await harness.answer(1) == (4, 4)
    assert len(await harness.to_the_end()) == 4


@BOTH
async def test_empty_inputs_are_held_to_the_places_only(kind):
    harness = Harness(kind([0] * 20), window_items=7, window_bytes=1)
    assert await harness.rest() == (7, 7)
    assert len(await harness.to_the_end()) == 20


@BOTH
async def test_an_input_that_failed_here_holds_a_place_until_it_is_taken(kind):
    harness = Harness(kind(["a", "b", "c"]), window_items=2)
    assert await harness.rest() == (2, 2)
    assert await harness.take(1) == (3, 3)
    assert await harness.to_the_end() == [ENCODE] * 3


@BOTH
async def test_an_input_that_waits_for_room_goes_on_from_there_when_it_comes(kind):
    """One that was pulled and not pushed is neither lost nor overtaken."""
    harness = Harness(kind([6, 7, 1, 8, 2, 9, 3]), window_bytes=10, window_items=3)
    assert await harness.rest() == (2, 1)
    assert await harness.to_the_end() == [b"%d" % number for number in range(1, 8)]


# ------------------------------------------------------------------ what cannot be sent

TROUBLES = {
    "unencodable": ("this", ENCODE, "ValueError: no this"),
    "too large": (21, TOO_LARGE, "21 bytes encoded, and FlowControl.max_item_bytes is 20"),
    "wrong type": (bytearray(3), ENCODE, "TypeError: the codec made a bytearray, not bytes"),
}


@pytest.mark.parametrize("places", [[1], [3], [5], [1, 2], [4, 5], [1, 2, 3, 4, 5]], ids=str)
@pytest.mark.parametrize("trouble", TROUBLES)
@BOTH
async def test_an_input_that_cannot_be_sent_fails_in_its_place(kind, trouble, places):
    item, error, text = TROUBLES[trouble]
    items = [item if number in places else number for number in range(1, 6)]
    harness = Harness(kind(items), max_item_bytes=20)
    assert await harness.rest() == (5, 5)
    waiting = dict(harness.session.ledger.replay)
    assert all(harness.session.ledger.replay.item(n) == items[n - 1] for n in waiting)
    assert await harness.to_the_end() == [
        error if number in places else b"%d" % number for number in range(1, 6)
    ]
    for number in places:
        delivery = harness.delivered[number - 1]
        assert delivery.item is item
        assert delivery.failure.text == text
        assert (delivery.cause is None) == (trouble == "too large")
    assert harness.refusals >= len(places)


@BOTH
async def test_an_input_of_the_largest_size_is_sent(kind):
    harness = Harness(kind([20, 1, 20, 21]), max_item_bytes=20)
    assert await harness.to_the_end() == [b"1", b"2", b"3", TOO_LARGE]


@BOTH
async def test_what_cannot_be_sent_counts_until_it_is_taken(kind):
    harness = Harness(kind([5, 21, 4, 1, "x", "x" * 9, "x"]), max_item_bytes=20, window_bytes=10)
    assert await harness.rest() == (2, 1)
    assert await harness.answer(1) == (2, 2)  # its failure is known, and not taken yet
    assert await harness.take(1) == (2, 2)
    assert await harness.take(1) == (6, 5)
    assert len(await harness.to_the_end()) == 7


@BOTH
async def test_an_input_is_what_the_caller_gets_back_with_its_failure(kind):
    items = [bytes([number]) for number in range(5)]
    harness = Harness(kind(items), encode=lambda item: item * 2, window_bytes=5)
    assert await harness.rest() == (3, 2)
    assert [harness.session.ledger.replay.item(number) for number in (1, 2)] == items[:2]


async def test_a_codec_that_raises_cancelled_fails_its_input():
    def encode(item):
        if item == 2:
            raise asyncio.CancelledError
        return bytes(item)

    harness = Harness(Plain([1, 2, 3]), encode=encode)
    assert await harness.to_the_end() == [b"1", ENCODE, b"3"]


# ------------------------------------------------------------------ the end of the inputs


@pytest.mark.parametrize("count", [0, 1, 5])
@BOTH
async def test_the_inputs_are_finished_when_they_are_exhausted(kind, count):
    harness = Harness(kind([1] * count))
    await harness.task
    assert harness.pump.error is None
    assert harness.pump.pulled == count
    with pytest.raises(LocalProtocolError, match="finish"):
        harness.session.push(b"x")
    assert harness.pushes[-1] == count
    assert harness.refusals >= 1
    assert len(await harness.to_the_end()) == count


@pytest.mark.parametrize("place", [0, 1, 3])
@BOTH
async def test_what_came_before_an_error_of_the_inputs_is_pushed(kind, place):
    error = ValueError("no more")
    harness = Harness(kind([*[1] * place, error, 1]))
    await harness.task
    assert harness.pump.error is error
    assert error.__notes__ == [f"raised by the stream's inputs, after {place} of them"]
    assert harness.pump.pulled == harness.session.ledger.accepted == place
    assert await harness.to_the_end() == [b"%d" % n for n in range(1, place + 1)]


@BOTH
async def test_inputs_that_raise_cancelled_are_at_fault_and_nobody_is_cancelled(kind):
    harness = Harness(kind([1, asyncio.CancelledError()]))
    await harness.task
    assert type(harness.pump.error) is RuntimeError
    assert isinstance(harness.pump.error.__cause__, asyncio.CancelledError)
    assert await harness.to_the_end() == [b"1"]


@pytest.mark.parametrize("where", ["window", "bytes", "inputs"])
async def test_a_pump_may_be_cancelled_wherever_it_waits(where):
    closed = []

    async def inputs():
        try:
            for _ in range(5):
                yield 4
            if where == "inputs":
                await asyncio.Event().wait()
        finally:
            closed.append(True)

    flow = {"window_items": 4} if where == "window" else {"window_bytes": 10}
    harness = Harness(inputs(), **({} if where == "inputs" else flow))
    await harness.rest()
    harness.task.cancel()
    await asyncio.wait({harness.task})
    assert harness.task.cancelled()
    assert isinstance(harness.pump.error, ClientClosedError)  # and not as if all had come
    with pytest.raises(LocalProtocolError, match="finish"):
        harness.session.push(b"x")
    await harness.pump.aclose()
    assert closed == [True]


async def test_a_plain_generator_is_closed():
    closed = []

    def inputs():
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    harness = Harness(inputs(), window_items=3)
    await harness.rest()
    harness.task.cancel()
    await asyncio.wait({harness.task})
    await harness.pump.aclose()
    assert closed == [True]


# ------------------------------------------------------------------ runs


async def test_runs_are_long_while_items_come_fast():
    harness = Harness(Plain([0] * 4000))
    await harness.task
    runs = [0, *harness.pushes]
    assert [b - a for a, b in itertools.pairwise(runs) if b > a] == [1024, 1024, 1024, 928]


class Slow:
    """Items that take so long to pull or to encode, on the clock."""

    def __init__(self, clock: Clock, *, pull: float, encode: float, kind: type) -> None:
        self.clock = clock
        self.pull = pull
        self.seconds = encode
        self.kind = kind
        self.quick = 0  # so many first

    def inputs(self, count: int) -> object:
        def plain():
            for number in range(count):
                self.clock.now += self.pull if number >= self.quick else 1e-7
                yield b"%d" % number

        async def asynchronous():
            for item in plain():
                yield item

        return plain() if self.kind is Plain else asynchronous()

    def encode(self, item: bytes) -> bytes:
        self.clock.now += self.seconds if int(item) >= self.quick else 1e-7
        return item


@pytest.mark.parametrize("quick", [0, 500])
@pytest.mark.parametrize("codec", ["bytes", "any"])
@BOTH
async def test_slow_inputs_come_one_in_a_turn_of_the_event_loop(kind, codec, quick, clock):
    """However quick the ones before them were."""
    slow = Slow(clock, pull=0.02, encode=0.02, kind=kind)
    slow.quick = quick
    encode = BytesCodec().encode_input if codec == "bytes" else slow.encode
    turns = []

    async def watching():
        while True:
            turns.append(clock.now)
            await asyncio.sleep(0)

    watcher = asyncio.ensure_future(watching())
    harness = Harness(slow.inputs(quick + 10), encode=encode)
    await harness.task
    watcher.cancel()
    assert harness.pump.pulled == quick + 10
    longest = max(b - a for a, b in itertools.pairwise(turns))
    # 20 ms for each thing, and at most two of them.
    assert longest <= 0.04 + turns_module.BUDGET_SECONDS + turns_module.STRETCH_SECONDS


async def test_a_run_ends_where_the_places_do():
    harness = Harness(Plain([1] * 100), window_items=10)
    assert await harness.rest() == (10, 10)
    await harness.answer(10)
    assert await harness.take(4) == (14, 14)
    assert await harness.take(6) == (20, 20)


# ------------------------------------------------------------------ all of it


def random_item(random: Random) -> object:
    return random.choice([0, 0, 1, 3, 5, 9, 15, 15, 20, 21, "x", bytearray(2)])


@pytest.mark.parametrize("seed", range(40))
@BOTH
async def test_no_window_is_overrun_and_no_input_lost(kind, seed):
    random = Random(seed)
    items = [random_item(random) for _ in range(60)]
    harness = Harness(
        kind(items),
        max_item_bytes=20,
        window_items=random.choice([1, 2, 7]),
        window_bytes=random.choice([1, 12, 30, 200]),
    )
    session, flow = harness.session, harness.flow
    while not (harness.task.done() and session.ledger.complete and not session.delivery.ready):
        step = harness.answer if random.random() < 0.5 else harness.take
        pulled, accepted = await step(random.randint(1, 4))
        sizes = [len(payload) for _, payload in session.ledger.replay]
        assert len(sizes) <= flow.window_items
        assert sum(sizes) <= flow.window_bytes or len(sizes) == 1
        assert accepted <= pulled <= accepted + 1
        assert pulled - len(harness.delivered) <= flow.window_items
        # And it is never pulled less than it may be.
        if not harness.task.done():
            assert pulled > accepted or not session.ledger.has_place
    assert harness.pump.error is None
    assert len(harness.delivered) == len(items)
    for number, (item, delivery) in enumerate(zip(items, harness.delivered, strict=True), 1):
        assert delivery.number == number
        if isinstance(item, int) and item <= 20:
            assert delivery.payload == b"%d" % number
        else:
            assert delivery.failure.kind is (TOO_LARGE if item == 21 else ENCODE)
            assert delivery.item is item
