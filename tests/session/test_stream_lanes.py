"""Lanes of one stream, at servers that say how many they are."""

import asyncio
from collections.abc import Callable, Sequence
from itertools import chain

import pytest
from session.memory_streams import memory_stream, rest
from virtual_time import connections, in_virtual_time

from servestream_client import (
    FlowControl,
    ItemError,
    ItemErrorKind,
    RetryPolicy,
    StreamError,
    StreamTimeoutError,
)
from servestream_client.protocol import hedge, load
from servestream_client.protocol.frames import (
    HandlerKind,
    ItemFailure,
    Load,
    OutputPart,
    OutputRun,
    ServerEnd,
    ServerFrame,
    Welcome,
)
from servestream_client.transport.memory import CallFailed

ITEMS = [b"%d" % number for number in range(1, 401)]
QUICK = RetryPolicy(attempts=3, initial=0.001, maximum=0.001)
SECONDS = 0.05


class Replica:
    """Answers one input after the other.

    Attributes:
        got: the inputs that came, in all its calls.
        fails: called with each input, may raise; what it returns is answered in its place.
        stalls: for how many seconds more an input keeps it.
        cancelled: how many inputs it was told that nobody waits for.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.got: list[bytes] = []
        self.calls = 0
        self.fails: Callable[[int, bytes], ServerFrame | None] = lambda *_: None
        self.stalls: Callable[[bytes], float] = lambda _: 0.0
        self.cancelled = 0


class Deployment:
    """Replicas, each call at the next one.

    Attributes:
        first: where the first calls come instead.
        features: what they can do.
        carried: how many inputs came on each call.
        kinds: what the handler is, by the number of the call.
        quick_from: from the n-th input of a call on handlers are quick, and servers say so.
    """

    def __init__(self, count: int, first: Sequence[int] = ()) -> None:
        self.replicas = [Replica(f"replica {number}") for number in range(count)]
        self.first = list(first)
        self.features = (load.FEATURE, hedge.FEATURE)
        self.turn = 0
        self.kinds: Callable[[int], HandlerKind] = lambda _: HandlerKind.ONE_TO_ONE
        self.carried: list[int] = []
        self.quick_from = 0

    async def __call__(self, requests):
        turn = self.turn
        replica = self.replicas[self.first.pop(0) if self.first else turn % len(self.replicas)]
        self.turn += 1
        self.carried.append(0)
        replica.calls += 1
        said = Load(servers=len(self.replicas), items=9, item_us=50_000, places=1)
        read = received = 0
        async for frame in requests:
            if frame.open is not None:
                kind = self.kinds(turn)
                welcome = Welcome(replica=replica.name, features=self.features, handler_kind=kind)
                yield ServerFrame(welcome=welcome, load=said)
            read += frame.paced
            replica.cancelled += sum(each.last - each.first + 1 for each in frame.cancelled)
            for run in frame.inputs:
                for number, payload in enumerate(run.payloads, run.first_number):
                    replica.got.append(payload)
                    self.carried[turn] += 1
                    received += 1
                    quick = 0 < self.quick_from <= received
                    seconds = SECONDS / 5 if quick else SECONDS
                    await asyncio.sleep(seconds + replica.stalls(payload))
                    instead = replica.fails(number, payload)
                    output = ServerFrame(outputs=[OutputRun(number, [payload])])
                    answer = output if instead is None else instead
                    answer.frames_read = read
                    if received == self.quick_from:
                        answer.load = Load(servers=len(self.replicas), items=9, item_us=1, places=1)
                    yield answer
            if frame.end is not None:
                counts = ServerEnd(frame.end.last_number, received, received)
                yield ServerFrame(end=counts, frames_read=read)


def stream_at(deployment: Deployment, inputs: Sequence[bytes] = ITEMS, **options):
    return memory_stream(deployment, inputs, **{"retry": QUICK, **options})


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("lanes", [None, 2, 4])
def test_each_output_comes_once_whatever_carries_it(lanes, ordered):
    async def main():
        deployment = Deployment(4)
        stream = stream_at(deployment, lanes=lanes, ordered=ordered)
        seen = stream.statistics().lanes
        assert [lane.received for lane in seen] == [0]
        outputs = await rest(stream)
        assert (outputs if ordered else sorted(outputs, key=int)) == ITEMS
        given = list(chain.from_iterable(replica.got for replica in deployment.replicas))
        assert sorted(given, key=int) == ITEMS  # nothing was computed twice
        assert sum(bool(replica.got) for replica in deployment.replicas) == (lanes or 4)
        statistics = stream.statistics()
        assert (statistics.accepted, statistics.received, statistics.sent) == (400, 400, 400)
        assert statistics.attempts == deployment.turn
        computed = {replica.name: len(replica.got) for replica in deployment.replicas}
        told = dict.fromkeys(computed, 0)
        for lane in statistics.lanes:
            told[lane.replica] += lane.received
        assert told == computed
        assert sum(lane.attempts for lane in statistics.lanes) == statistics.attempts
        assert [lane.under_way for lane in statistics.lanes] == [0] * len(statistics.lanes)
        assert {lane.endpoint for lane in statistics.lanes} == {"memory"}

    in_virtual_time(main())


def test_what_other_streams_heard_of_the_load_is_known_from_the_start():
    async def main():
        deployment = Deployment(2)
        first = stream_at(deployment)
        await rest(first)
        endpoint = first._driver.endpoints
        assert endpoint.load == Load(servers=2, items=9, item_us=50_000, places=1)
        slow = stream_at(deployment, connection=connections[0])
        assert slow._driver.session.ledger.share is not None
        endpoint.load = Load(servers=2, items=9, item_us=1, places=1)
        quick = stream_at(deployment, connection=connections[0])
        assert quick._driver.session.ledger.share is None

    in_virtual_time(main())


def test_one_lane_is_none():
    async def main():
        deployment = Deployment(4)
        assert await rest(stream_at(deployment, lanes=1)) == ITEMS
        assert deployment.turn == 1

    in_virtual_time(main())


def test_a_lane_that_comes_where_there_is_one_carries_nothing():
    async def main():
        deployment = Deployment(2, first=[0, 0, 0, 0, 1])
        assert await rest(stream_at(deployment)) == ITEMS
        assert [bool(carried) for carried in deployment.carried[:5]] == [
            True, False, False, False, True
        ]  # fmt: skip

    in_virtual_time(main())


def test_an_item_error_stands_in_its_place():
    async def main():
        deployment = Deployment(3)

        def fails(number: int, payload: bytes):
            if int(payload) % 10:
                return None
            failure = ItemFailure(number, ItemErrorKind.HANDLER, payload.decode())
            return ServerFrame(errors=[failure])

        for replica in deployment.replicas:
            replica.fails = fails
        outputs = await rest(stream_at(deployment, return_exceptions=True))
        for number, output in enumerate(outputs, 1):
            if number % 10:
                assert output == b"%d" % number
            else:
                assert isinstance(output, ItemError)
                assert (output.number, output.text) == (number, str(number))

    in_virtual_time(main())


@pytest.mark.parametrize("outputs", [0, 2, 3])
def test_what_has_not_one_output_fails_on_a_lane_too_and_once(outputs):
    async def main():
        deployment = Deployment(2)

        def several(number: int, payload: bytes):
            payloads = [payload] * outputs
            return ServerFrame(parts=[OutputPart(number, 0, payloads, last=True)])

        deployment.replicas[1].fails = several
        answers = await rest(stream_at(deployment, return_exceptions=True))
        assert len(answers) == len(ITEMS)
        for number, answer in enumerate(answers, 1):
            if b"%d" % number in deployment.replicas[0].got:
                assert answer == b"%d" % number
            else:
                assert isinstance(answer, ItemError)
                assert (answer.number, answer.text) == (number, "it has not exactly one output")

    in_virtual_time(main())


def test_a_lane_whose_server_breaks_goes_on():
    async def main():
        deployment = Deployment(3)
        left = [3]

        def breaks(*_):
            if left[0]:
                left[0] -= 1
                raise CallFailed("INTERNAL", "the actor died")

        deployment.replicas[1].fails = breaks
        assert await rest(stream_at(deployment)) == ITEMS

    in_virtual_time(main())


def test_what_a_lane_that_gives_up_had_goes_to_others():
    async def main():
        deployment = Deployment(3)
        left = [1]

        def is_refused(*_):
            if left[0]:
                left[0] -= 1
                raise CallFailed("PERMISSION_DENIED", "not any more")

        deployment.replicas[2].fails = is_refused
        assert await rest(stream_at(deployment)) == ITEMS
        assert not left[0]

    in_virtual_time(main())


@pytest.mark.parametrize("ordered", [True, False])
def test_what_the_last_lane_had_gets_another_though_there_is_one_server_left(ordered):
    """The stream's own attempts cannot carry it, and where they are every lane is one too many."""

    async def main():
        deployment = Deployment(2)

        def is_scaled_down(*_):
            del deployment.replicas[1:]
            raise CallFailed("PERMISSION_DENIED", "not any more")

        deployment.replicas[1].fails = is_scaled_down
        outputs = await rest(stream_at(deployment, ordered=ordered))
        assert (outputs if ordered else sorted(outputs, key=int)) == ITEMS
        assert deployment.turn < 20

    in_virtual_time(main())


def test_lanes_that_all_give_up_fail_the_stream_with_their_reason():
    async def main():
        deployment = Deployment(2)

        def is_refused(*_):
            raise CallFailed("PERMISSION_DENIED", "not any more")

        deployment.replicas[1].fails = is_refused
        with pytest.raises(StreamError, match="not any more"):
            await rest(stream_at(deployment))

    in_virtual_time(main())


def test_a_stream_that_is_left_leaves_no_lane():
    async def main():
        deployment = Deployment(4)
        stream = stream_at(deployment)
        async for output in stream:
            if output == b"50":
                break
        await stream.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    in_virtual_time(main())


def test_a_stream_that_fails_leaves_no_lane():
    async def main():
        with pytest.raises(StreamTimeoutError):
            await rest(stream_at(Deployment(4), timeout=2.0))
        await asyncio.sleep(1.0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    in_virtual_time(main())


@pytest.mark.parametrize("outputs", [1, 3, 50])
def test_what_lanes_bring_counts_in_the_budget(outputs):
    async def main():
        deployment = Deployment(4)
        flow = FlowControl(output_items=outputs)
        stream = stream_at(deployment, flow=flow)
        most, came = 0, []
        async for output in stream:
            most = max(most, stream._driver.session.delivery.held_outputs)
            came.append(output)
            await asyncio.sleep(0.03)
        assert came == ITEMS
        assert most <= outputs

    in_virtual_time(main())


def test_lanes_stay_in_the_budget_while_the_one_waited_for_is_tried_apart():
    """What the consumer waits for may come beyond the budget, and nothing else in its place."""

    async def main():
        deployment, outputs, times = Deployment(3), 16, [0]

        def breaks(_: int, payload: bytes):
            if payload == b"1" and times[0] < 2:
                times[0] += 1
                raise CallFailed("INTERNAL", "the actor died")

        def stalls(payload: bytes) -> float:
            return 60.0 if payload == b"1" and times[0] == 2 else 0.0

        for replica in deployment.replicas:
            replica.fails, replica.stalls = breaks, stalls
        flow = FlowControl(output_items=outputs)
        stream = stream_at(deployment, flow=flow)
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(50.0)
        assert times[0] == 2
        assert 1 in stream._driver.session.ledger.quarantined
        assert stream._driver.session.delivery.held_outputs == outputs
        assert [await first, *await rest(stream)] == ITEMS

    in_virtual_time(main())


def test_a_handler_that_becomes_one_of_many_outputs_loses_no_lanes_inputs():
    """Of a rolling update: the stream's own attempt reaches the new code first."""

    async def main():
        deployment = Deployment(3)
        deployment.kinds = lambda turn: (
            HandlerKind.ONE_TO_ONE if turn < 3 else HandlerKind.ONE_TO_MANY
        )
        left = [1]

        def breaks(number: int, _: bytes):
            if number == 10 and left:
                left.clear()
                raise CallFailed("UNAVAILABLE", "Socket closed")

        deployment.replicas[0].fails = breaks
        outputs = await rest(stream_at(deployment, return_exceptions=True))
        assert not left
        assert len(outputs) == len(ITEMS)

    in_virtual_time(main())
