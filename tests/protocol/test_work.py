"""The work of an event is bounded by what it concerns: steps are counted, not time.

What an event concerns is made four times as much, and the steps may become little more than four
times as many; what it does not concern is made four times as much, and they must not grow.
"""

import gc
import sys
from collections.abc import Callable, Iterable
from types import FrameType, FunctionType, ModuleType

import pytest

from servestream_client.config import FlowControl
from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.frames import ClientFrame, CodecId, Limits, NumberRange
from servestream_client.protocol.numbers import NumberSet
from servestream_client.protocol.runs import Run, RunQueue
from servestream_client.protocol.server import ServerOffer, ServerSession
from servestream_client.protocol.server.inputs import OpenInputs

CODEC = CodecId("bytes")
FEW, MANY = 400, 1600
ORDERS = pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])


def steps(code: Callable[[], object]) -> int:
    """How many lines of Python run, and how many functions written in C are called."""
    count = 0

    def line(frame: FrameType, event: str, argument: object) -> object:
        nonlocal count
        count += event == "line"
        return line

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "c_call"

    before = sys.gettrace(), sys.getprofile()
    sys.settrace(line)
    sys.setprofile(profile)
    try:
        code()
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])
    return count


def in_proportion(few: int, many: int) -> None:
    assert few > 0
    assert many <= 6 * few + 200, f"{few} steps, and {many} for four times as much"


class Pair:
    """Both ends of a stream, on a link that loses nothing."""

    def __init__(self, *, ordered: bool, window: int = 1 << 20) -> None:
        flow = FlowControl(
            window_items=window, window_bytes=1 << 30, output_items=window, output_bytes=1 << 30
        )
        limits = Limits(window_items=window, window_bytes=1 << 30)
        self.client = ClientSession(stream_id=bytes(16), codec=CODEC, flow=flow, ordered=ordered)
        self.server = ServerSession(ServerOffer(codec=CODEC, limits=limits))
        self.attempt = self.client.begin().number
        self.server.receive(self.client.next_frame())
        self.server.welcome()
        self.client.receive(self.attempt, self.server.next_frame())

    def push(self, count: int) -> None:
        payloads = [b"x"] * count
        self.client.push_all(payloads, payloads, count)

    def talk(self) -> None:
        """Until neither has anything to say."""
        while True:
            if (frame := self.client.next_frame()) is not None:
                self.server.receive(frame)
            elif (said := self.server.next_frame()) is not None:
                self.client.receive(self.attempt, said)
            else:
                return

    def start(self, count: int) -> None:
        while count and (run := self.server.intake.next_run(count)) is not None:
            count -= len(run.payloads)

    def take(self) -> int:
        count = 0
        while self.client.delivery.take() is not None:
            count += 1
        return count


def every_other(count: int) -> range:
    return range(2, 2 * count + 1, 2)


def far_apart(count: int) -> Iterable[int]:
    """Even numbers, such that neighbours come one after the other only seldom."""
    return (2 + 2 * (k * 367 % count) for k in range(count))


def frame_of(numbers: Iterable[int]) -> ClientFrame:
    return ClientFrame(cancelled=[NumberRange(number, number) for number in numbers])


# ------------------------------------------------------------------ cancelling


@ORDERS
@pytest.mark.parametrize("started", [True, False])
def test_one_frame_that_cancels_scattered_inputs(ordered, started):
    def counted(count: int) -> int:
        pair = Pair(ordered=ordered)
        pair.push(2 * count)
        pair.talk()
        if started:
            pair.start(2 * count)
        frame = frame_of(every_other(count))
        return steps(lambda: pair.server.receive(frame))

    in_proportion(counted(FEW), counted(MANY))


@ORDERS
@pytest.mark.parametrize("order", [every_other, far_apart, lambda n: reversed(every_other(n))])
def test_frames_that_cancel_one_input_each(ordered, order):
    """With a look at what may start after each of them, as a server takes it."""

    def counted(count: int) -> int:
        pair = Pair(ordered=ordered)
        pair.push(2 * count)
        pair.talk()
        frames = [frame_of([number]) for number in order(count)]

        def receive() -> None:
            for frame in frames:
                pair.server.receive(frame)
                assert pair.server.intake.startable

        return steps(receive)

    in_proportion(counted(FEW), counted(MANY))


@ORDERS
@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("order", [every_other, far_apart, lambda n: reversed(every_other(n))])
def test_a_client_cancels_scattered_inputs(ordered, sent, order):
    def counted(count: int) -> int:
        pair = Pair(ordered=ordered)
        pair.push(2 * count)
        if sent:
            pair.talk()

        def cancel() -> None:
            for number in order(count):
                pair.client.cancel(number)
            while pair.client.next_frame() is not None:
                pass

        return steps(cancel)

    in_proportion(counted(FEW), counted(MANY))


@ORDERS
@pytest.mark.parametrize("started", [True, False])
def test_the_answers_to_what_was_cancelled(ordered, started):
    def counted(count: int) -> int:
        pair = Pair(ordered=ordered)
        pair.push(2 * count)
        pair.talk()
        pair.start(2 * count if started else 0)
        for number in far_apart(count):
            pair.client.cancel(number)

        def answer() -> None:
            pair.talk()
            for number in pair.server.intake.take_cancelled():
                pair.server.outbox.fail(number, ItemErrorKind.CANCELLED, "cancelled")
            while (run := pair.server.intake.next_run(64)) is not None:
                pair.server.outbox.outputs(run.first, run.payloads)
            if started:
                for number in range(1, 2 * count, 2):
                    pair.server.outbox.output(number, b"o", last=True)
            pair.talk()
            assert pair.take() == 2 * count

        return steps(answer)

    in_proportion(counted(FEW), counted(MANY))


def test_inputs_that_come_back_from_a_worker_after_they_were_cancelled():
    def counted(count: int) -> int:
        pair = Pair(ordered=False)
        pair.push(2 * count)
        pair.talk()
        runs = []
        while (run := pair.server.intake.next_run(10)) is not None:
            runs.append(run)
        pair.server.receive(frame_of(every_other(count)))

        def put_back() -> None:
            for run in reversed(runs):
                pair.server.intake.put_back(run)

        found = steps(put_back)
        assert pair.server.intake.startable_inputs == count
        return found

    in_proportion(counted(FEW), counted(MANY))


@pytest.mark.parametrize("cancelled", ["sent", "unsent"])
def test_one_cancellation_behind_a_slow_input_does_not_walk_what_came_since(cancelled):
    def counted(behind: int) -> int:
        pair = Pair(ordered=False)
        pair.push(1)
        pair.talk()
        pair.start(1)
        for _ in range(behind // 100):
            pair.push(100)
            pair.talk()
            while (run := pair.server.intake.next_run(100)) is not None:
                pair.server.outbox.outputs(run.first, run.payloads)
            pair.talk()
            pair.take()
        pair.push(2)
        if cancelled == "sent":
            pair.talk()

        def cancel() -> None:
            pair.client.cancel(pair.client.ledger.accepted)
            pair.talk()

        return steps(cancel)

    assert counted(20_000) <= counted(5000) + 50


def test_a_cancelled_range_counts_for_the_open_inputs_in_it():
    def counted(width: int) -> int:
        pair = Pair(ordered=False)
        pair.push(10)
        pair.talk()
        frame = ClientFrame(cancelled=[NumberRange(3, 3 + width)] * 5)
        return steps(lambda: pair.server.receive(frame))

    assert counted(2**60) <= counted(3) + 100


def test_no_frame_names_more_ranges_than_the_server_takes_and_all_are_named():
    pair = Pair(ordered=False)
    pair.push(20_000)
    pair.talk()
    for number in far_apart(10_000):
        pair.client.cancel(number)
    frames = []
    while (frame := pair.client.next_frame()) is not None:
        frames.append(frame)
    ranges = [len(frame.cancelled) for frame in frames]
    assert len(ranges) > 1
    assert max(ranges) * 24 <= 64 * 1024
    named = [n for f in frames for each in f.cancelled for n in range(each.first, each.last + 1)]
    assert sorted(named) == list(every_other(10_000))


# ------------------------------------------------------------------ what is kept meanwhile


def sizes(root: object) -> int:
    """How many entries all lists, sets, dicts and queues of a session have."""
    seen: dict[int, object] = {}
    waiting, entries = [root], 0
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, type | ModuleType | FunctionType):
            continue
        seen[id(each)] = each
        if hasattr(each, "__len__") and not isinstance(each, str | bytes):
            entries += len(gc.get_referents(each))
        waiting += gc.get_referents(each)
    return entries


@pytest.mark.parametrize("run", [1, 7, 100])
@pytest.mark.parametrize("ending", ["answered", "failed", "cancelled unstarted", "cancelled"])
def test_neither_end_grows_behind_one_slow_input(run, ending):
    pair = Pair(ordered=False, window=4096)
    pair.push(1)
    pair.talk()
    pair.start(1)

    def more(count: int) -> tuple[int, int]:
        for _ in range(count // run):
            first = pair.client.ledger.accepted + 1
            pair.push(run)
            if ending == "cancelled unstarted":
                pair.talk()
            if "cancelled" in ending:
                for number in range(first, first + run):
                    pair.client.cancel(number)
            pair.talk()
            while (started := pair.server.intake.next_run(run)) is not None:
                if ending == "answered":
                    pair.server.outbox.outputs(started.first, started.payloads)
                else:
                    for number in range(started.first, started.last + 1):
                        pair.server.outbox.fail(number, ItemErrorKind.HANDLER, "no")
            pair.talk()
            pair.take()
            pair.client.delivery.failed.clear()
        return sizes(pair.client), sizes(pair.server)

    client, server = more(3000)
    later_client, later_server = more(5000)
    assert later_client <= client + 1500
    assert later_server <= server + 1500


# ------------------------------------------------------------------ containers


def test_numbers_in_a_scattered_order():
    def counted(count: int) -> int:
        numbers = NumberSet()

        def add() -> None:
            for number in far_apart(count):
                numbers.add(number)
            for number in range(1, 2 * count, 2):
                numbers.add(number)

        found = steps(add)
        assert (numbers.through, numbers.ranges) == (2 * count, 1)
        return found

    in_proportion(counted(FEW), counted(MANY))


def test_inputs_closed_in_a_scattered_order():
    def counted(count: int) -> int:
        inputs = OpenInputs()
        inputs.append(1, [1] * (2 * count))

        def close() -> None:
            for number in far_apart(count):
                assert inputs.close(number)

        found = steps(close)
        assert (len(inputs), inputs.size) == (count, count)
        return found

    in_proportion(counted(FEW), counted(MANY))


def test_a_queue_that_is_taken_from_while_payloads_are_removed():
    def counted(count: int) -> int:
        queue = RunQueue()
        payloads = [b""] * (4 * count)
        queue.append(Run(1, payloads, 0))
        scattered = list(far_apart(2 * count))

        def work() -> None:
            for number in scattered:
                queue.remove(number)
                if number % 3 == 0 and queue:
                    queue.take(1)

        return steps(work)

    in_proportion(counted(FEW), counted(MANY))
