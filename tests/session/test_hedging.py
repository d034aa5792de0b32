"""What is late by far goes to a second server as well: what, when, and how much of it."""

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import pytest
from session.memory_streams import rest
from test_stream_lanes import ITEMS, QUICK, Deployment, stream_at
from virtual_time import in_virtual_time

from servestream_client import ItemError, ItemErrorKind
from servestream_client.protocol import load
from servestream_client.protocol.frames import ItemFailure, ServerFrame
from servestream_client.session.hedging import Hedging
from servestream_client.transport.memory import CallFailed

ORDERS = pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
STALL = 300.0


def stalling(*items: bytes, count: int = 2, first: Sequence[int] = ()) -> Deployment:
    """Of its replicas whichever gets one of these items first stands still for five minutes."""
    deployment, stood = Deployment(count, first), set[bytes]()

    def stalls(payload: bytes) -> float:
        if payload not in items or payload in stood:
            return 0.0
        stood.add(payload)
        return STALL

    for each in deployment.replicas:
        each.stalls = stalls
    return deployment


def computed(deployment: Deployment) -> Counter[bytes]:
    """How often each item was."""
    return Counter(chain.from_iterable(replica.got for replica in deployment.replicas))


def now() -> float:
    return asyncio.get_running_loop().time()


@ORDERS
@pytest.mark.parametrize("item", [b"3", b"120", b"399", b"400"])
def test_a_server_that_stands_still_holds_up_nothing(item, ordered):
    async def main():
        deployment, began = stalling(item), now()
        outputs = await rest(stream_at(deployment, lanes=2, ordered=ordered))
        assert (outputs if ordered else sorted(outputs, key=int)) == ITEMS
        assert now() - began < 60

    in_virtual_time(main())


def test_a_lane_for_what_is_late_that_comes_to_the_late_server_makes_room_for_another():
    async def main():
        deployment, began = stalling(b"120", first=[0, 1, 1, 1, 0]), now()
        assert await rest(stream_at(deployment, lanes=2)) == ITEMS
        assert deployment.turn == 5
        assert now() - began < 60

    in_virtual_time(main())


def test_the_first_answer_counts_and_the_other_server_hears_so():
    async def main():
        deployment = stalling(b"3")
        stream = stream_at(deployment, lanes=2)
        assert await rest(stream) == ITEMS
        assert computed(deployment)[b"3"] == 2
        statistics = stream.statistics()
        assert statistics.received == 400
        assert 0 < statistics.hedged <= 64

    in_virtual_time(main())


@pytest.mark.parametrize("off", ["by the client", "by the service"])
def test_it_can_be_turned_off(off):
    async def main():
        deployment, began = stalling(b"3"), now()
        retry = replace(QUICK, hedge=0.0) if off == "by the client" else QUICK
        if off == "by the service":
            deployment.features = (load.FEATURE,)
        assert await rest(stream_at(deployment, lanes=2, retry=retry)) == ITEMS
        assert max(computed(deployment).values()) == 1
        assert now() - began > STALL

    in_virtual_time(main())


def test_no_more_than_the_budget_is_hedged():
    async def main():
        deployment = stalling(*ITEMS[::10])  # more often than it allows
        stream = stream_at(deployment, lanes=2)
        assert await rest(stream) == ITEMS
        assert 16 < stream.statistics().hedged <= 64

    in_virtual_time(main())


def test_what_was_under_way_at_a_break_is_not_hedged():
    async def main():
        deployment = stalling(b"3")
        broken = []

        def fails(_: int, payload: bytes) -> None:
            if payload == b"2" and not broken:
                broken.append(payload)
                raise CallFailed("INTERNAL", "the actor died")

        for each in deployment.replicas:
            each.fails = fails
        stream = stream_at(deployment, lanes=2)
        began = now()
        assert await rest(stream) == ITEMS
        assert now() - began > STALL
        assert stream.statistics().hedged == 0

    in_virtual_time(main())


def test_an_item_error_of_whoever_is_first_is_the_answer():
    async def main():
        deployment = stalling(b"3")
        first = []

        def fails(number: int, payload: bytes) -> ServerFrame | None:
            if payload != b"3":
                return None
            first.append(payload)
            if len(first) == 1:  # the copy, since the other stands still
                return ServerFrame(errors=[ItemFailure(number, ItemErrorKind.HANDLER, "no")])
            return None

        for each in deployment.replicas:
            each.fails = fails
        results = await rest(stream_at(deployment, lanes=2, return_exceptions=True))
        assert [each for each in results if not isinstance(each, ItemError)] == [
            item for item in ITEMS if item != b"3"
        ]
        assert isinstance(results[2], ItemError)

    in_virtual_time(main())


def test_on_a_deployment_where_nothing_is_late_nothing_is_hedged():
    async def main():
        deployment = Deployment(4)
        stream = stream_at(deployment)
        assert await rest(stream) == ITEMS
        assert stream.statistics().hedged == 0
        assert max(computed(deployment).values()) == 1

    in_virtual_time(main())


def test_nobody_is_late_whose_handlers_have_become_quick():
    """Its answers are not looked at any more to share out what comes next."""

    async def main():
        deployment = Deployment(2)
        deployment.quick_from = 20
        stream = stream_at(deployment, lanes=2)
        assert await rest(stream) == ITEMS
        assert len(stream.statistics().lanes) == 2
        assert stream.statistics().hedged == 0

    in_virtual_time(main())


class Way:
    """A lane, as far as hedging sees it."""

    def __init__(self, replica: str, has: range, *, seconds: float = 0.1) -> None:
        self.replica = replica
        self.has = list(has)
        self.cancelled: list[int] = []
        self.takes = seconds
        self.answered = math.inf  # until then

    def seconds(self, fastest: float) -> float:
        del fastest
        return self.takes

    def silent(self, now: float) -> float:
        return max(0.0, now - self.answered)

    def submit(self, first: int, payloads: list[bytes], now: float) -> None:
        del now
        self.has += range(first, first + len(payloads))

    def lend(self, number: int, count: int) -> int:
        return next((n for n in range(count) if number + n not in self.has), count)

    def cancel(self, number: int) -> None:
        if number in self.has:
            self.cancelled.append(number)


OWN = Way("own", range(0))


class Shared:
    """A stream of which lanes have some inputs, as far as hedging sees it."""

    def __init__(self, unanswered: range) -> None:
        self.quarantined = set(unanswered)
        self.oldest = min(unanswered)

    def payload(self, number: int) -> bytes:
        return b"%d" % number

    def owed(self, number: int) -> bool:
        return number in self.quarantined

    lanes_alone = owed

    def lend(self, number: int, count: int) -> int:
        del number, count
        return 0

    def take_back(self, number: int) -> None:
        """Nothing was lent."""


def hedging(shared: Shared, answered: int = 0) -> Hedging:
    return Hedging(shared, 0.05, lambda: answered)  # type: ignore[arg-type]  # all that it needs


def test_it_is_late_after_a_second_and_after_twice_what_another_would_take():
    shared, one = Shared(range(1, 9)), Way("a", range(1, 9))
    for other, late in ((Way("b", range(0)), 1.0), (Way("b", range(0), seconds=2.0), 4.0)):
        it = hedging(shared)
        assert not it.look(10.0, OWN, [one, other], 99, 0.0)
        assert not it.look(10.0 + late - 0.01, OWN, [one, other], 99, 0.0)
        assert it.look(10.0 + late, OWN, [one, other], 99, 0.0)
        assert other.has == list(range(1, 9))
        assert not it.look(99.0, OWN, [one, other], 99, 0.0)  # once


def test_whoever_answers_nothing_is_late_with_all_it_has():
    shared, one, other = Shared(range(1, 9)), Way("a", range(1, 9)), Way("b", range(0))
    it = hedging(shared)
    one.answered = 5.0
    assert it.look(10.0, OWN, [one, other], 99, 0.0)  # though nobody has waited for it before


def test_what_a_lane_had_at_a_break_no_other_gets():
    async def main():
        stream = stream_at(Deployment(2), lanes=2)
        assert await anext(stream) == b"1"
        (lane,) = stream._driver.lanes._lanes
        async with asyncio.timeout(60):
            while not lane.carried:
                await asyncio.sleep(0.1)
        part = lane._parts[-1]
        first = part._stream_first + part.last - part.first
        assert lane.lend(first, 1) == 1
        lane.driver.session.counters.attempts += 1  # as after one
        assert lane.lend(first, 1) == 0
        await stream.aclose()

    in_virtual_time(main())


def test_what_was_not_sent_yet_is_cancelled_in_turn_however_much_it_is():
    """Its cancelling answers it at once, which comes back to where answers are settled."""

    class Unsent(Way):
        def cancel(self, number: int) -> None:
            super().cancel(number)
            it.settle()

    numbers = range(1, 3001)
    shared, one, other = Shared(numbers), Unsent("a", numbers), Unsent("b", range(0))
    it = hedging(shared, answered=100_000)
    assert not it.look(10.0, OWN, [one, other], 5000, 0.0)
    assert it.look(12.0, OWN, [one, other], 5000, 0.0)
    assert it.hedged == len(numbers)
    shared.quarantined.clear()
    it.settle()
    assert one.cancelled == other.cancelled == list(numbers)


def test_no_copy_goes_to_the_same_server_or_where_nobody_knows_how_long_it_takes():
    shared, one = Shared(range(1, 9)), Way("a", range(1, 9))
    others = [Way("a", range(0)), Way("b", range(0), seconds=math.inf)]
    it = hedging(shared)
    for now in (0.0, 50.0):
        assert not it.look(now, OWN, [one, *others], 99, 0.0)
    assert it.hedged == 0


def test_the_budget_grows_with_what_was_answered_and_room_bounds_it():
    shared, one = Shared(range(1, 999)), Way("a", range(1, 999))
    for answered, room, count in ((0, 99, 64), (2000, 999, 100), (2000, 7, 7)):
        it, other = hedging(shared, answered), Way("b", range(0))
        it.look(0.0, OWN, [one, other], room, 0.0)
        assert it.look(1.0, OWN, [one, other], room, 0.0)
        assert len(other.has) == it.hedged == count


def test_what_was_answered_is_cancelled_at_whoever_else_has_it():
    shared, one, other = Shared(range(1, 4)), Way("a", range(1, 4)), Way("b", range(0))
    it = hedging(shared)
    it.look(0.0, OWN, [one, other], 99, 0.0)
    it.look(1.0, OWN, [one, other], 99, 0.0)
    shared.quarantined -= {1, 3}
    other.has.remove(1)
    one.has.remove(3)
    it.settle()
    it.settle()
    assert (one.cancelled, other.cancelled) == ([1], [3])


def test_what_both_have_let_go_of_goes_to_others():
    shared, one, other = Shared(range(1, 9)), Way("a", range(1, 9)), Way("b", range(0))
    it = hedging(shared)
    it.look(0.0, OWN, [one, other], 3, 0.0)
    it.look(1.0, OWN, [one, other], 3, 0.0)
    assert it.left([(1, 8)]) == [(4, 5)]
    shared.quarantined.discard(2)
    assert it.left([(1, 3)]) == [(1, 1), (3, 1)]
