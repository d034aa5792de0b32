"""Suspects of which each may have many outputs: they go on apart, and come back into the stream."""

import asyncio
from functools import partial

import pytest
from session.generations import Harness, until, whole
from session.replicas import Replicas

from servestream_client import FlowControl, ItemErrorKind, RetriesExhaustedError, RetryPolicy
from servestream_client.protocol.client import ClientSession, Delivery, Part
from servestream_client.protocol.frames import CodecId, OutputRun, Replay
from servestream_client.session.apart import Apart
from servestream_client.session.driver import StreamDriver
from servestream_client.session.isolation import Isolation

RESUMABLE = [Replay.RESTART, Replay.SEEK, Replay.CONTINUE]
ORDERS = pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])


class Stream:
    """A stream at replicas, with what stands by it.

    Attributes:
        got: by number, the outputs that were taken.
        order: the numbers of what was taken, in that order, each once in a row.
        failed: by number, the kind and the index of its error.
    """

    def __init__(self, replicas, *items, ordered=True, flow=None, retry=None):
        self.replicas = replicas
        retry = retry or RetryPolicy(attempts=60, initial=0.0001, maximum=0.0001)
        self.harness = Harness(replicas, flow=flow, retry=retry)
        self.got = {number: [] for number in range(1, len(items) + 1)}
        self.order = []
        self.failed = {}
        self.driver = StreamDriver(
            session=ClientSession(
                stream_id=bytes(16), codec=CodecId("bytes"), flow=self.harness.flow, ordered=ordered
            ),
            endpoints=self.harness.endpoints,
            retry=retry,
            timeout=None,
            close_timeout=0.1,
        )
        self.apart = Apart(self.driver, lambda: self.harness.generator, self.harness.flow)
        open_lane = partial(self.harness._open, isolated=True)
        self.driver.observer = Isolation(self.driver, open_lane, self.apart)
        for item in items:
            self.driver.inlet.push(item.encode())
        self.driver.inlet.finish()

    async def run(self):
        """Take everything, and close."""
        if self.driver._task is None:
            self.driver.start()
        try:
            while not self.driver.finished:
                await self.driver.arrived.wait()
                self.take()
            self.take()
            if self.driver.error is not None:
                raise self.driver.error
            assert self.driver.session.delivery.held_outputs == 0
            assert self.apart._trying == {}
        finally:
            await self.driver.aclose()
            await self.harness.aclose()
        return self.got

    def take(self, limit=1000):
        while (found := self.driver.outlet.next(limit)) is not None:
            self._note(found)

    def _note(self, found):
        if isinstance(found, Delivery):
            self._came(found.number)
            if found.failure is not None:
                self.failed[found.number] = found.failure.kind, found.failure.index
            return
        if isinstance(found, Part):
            self._came(found.number)
            assert found.first_index == len(self.got[found.number])
            self.got[found.number] += [payload.decode() for payload in found.payloads]
        else:
            assert isinstance(found, OutputRun)
            for number, payload in enumerate(found.payloads, found.first_number):
                self._came(number)
                self.got[number].append(payload.decode())
        self.driver.outlet.ack_consumed(found)

    def _came(self, number):
        if self.order[-1:] != [number]:
            self.order.append(number)


def poisoned(index, **options):
    return Replicas(dies=lambda _, name, at: name == "poison" and at == index, **options)


@ORDERS
@pytest.mark.parametrize("replay", RESUMABLE, ids=lambda replay: replay.name)
@pytest.mark.parametrize("index", [0, 3])
async def test_what_breaks_its_servers_is_blamed_and_the_others_have_all_outputs(
    replay, index, ordered
):
    items = ["a:40", "b:0", "c:1", "poison:10", "d:600", "e:0", "f:30"]
    stream = Stream(poisoned(index, replay=replay), *items, ordered=ordered)
    got = await stream.run()
    assert stream.failed == {4: (ItemErrorKind.POISON, index)}
    assert got.pop(4) == whole("poison", index)
    whole_ones = [item.split(":") for item in items if not item.startswith("poison")]
    assert list(got.values()) == [whole(name, int(count)) for name, count in whole_ones]
    if ordered:
        assert stream.order == sorted(stream.order)
    assert stream.replicas.deaths <= 8


async def test_of_inputs_that_come_further_between_two_breaks_none_is_suspected():
    ends = [(1, 40), (2, 90), (3, 120)]
    replicas = Replicas(dies=lambda call, _, index: (call, index) in ends)
    stream = Stream(replicas, "a:200", ordered=False)
    assert await stream.run() == {1: whole("a", 200)}
    assert replicas.deaths == 3
    assert stream.apart.attempts == 0


async def test_two_breaks_without_progress_move_what_was_under_way_and_it_all_comes_back():
    replicas = Replicas(dies=lambda call, _, index: call < 3 and index == 5)
    items = [f"{name}:{count}" for name, count in zip("abcdefgh", range(8, 88, 10), strict=True)]
    stream = Stream(replicas, *items)
    got = await stream.run()
    assert list(got.values()) == [whole(*_named(item)) for item in items]
    assert stream.order == list(range(1, 9))
    assert stream.driver.attempts > stream.driver.session.counters.attempts
    assert stream.driver.session.counters.isolated == 8


def _named(item):
    name, count = item.split(":")
    return name, int(count)


@ORDERS
async def test_what_cannot_go_on_fails_where_it_was_cut(ordered):
    replicas = poisoned(3, replay=Replay.NEVER)
    stream = Stream(replicas, "a:5", "poison:10", "b:400", ordered=ordered)
    got = await stream.run()
    kind, index = stream.failed[2]
    assert kind in (ItemErrorKind.INTERRUPTED, ItemErrorKind.POISON)
    assert got[2] == whole("poison", index)


async def test_no_more_are_tried_than_the_budget_of_outputs_has_room_for():
    flow = FlowControl(outputs_per_input=20, output_items=60)
    replicas = Replicas(dies=lambda call, _, index: call < 3 and index == 5)
    stream = Stream(replicas, *[f"{name}:100" for name in "abcdefgh"], flow=flow)
    stream.driver.start()
    await until(lambda: stream.apart._trying)
    queue, most = stream.driver.session.delivery, 0
    for _ in range(500):
        await asyncio.sleep(0)
        most = max(most, queue.held_outputs)
        assert len(stream.apart._trying) <= 3
    assert 0 < most <= 60
    assert list((await stream.run()).values()) == [whole(name, 100) for name in "abcdefgh"]


async def test_the_one_that_the_consumer_waits_for_is_tried_whatever_is_held():
    """Those behind it were suspected before it was, and hold all there is room for."""
    flow = FlowControl(outputs_per_input=20, output_items=40)
    breaks = {1: "b", 2: "b", 3: "a", 4: "a"}  # by the call, at whose turn to make an output
    replicas = Replicas(dies=lambda call, name, index: breaks.get(call) == name and index == 3)
    stream = Stream(replicas, "a:100", "b:100", "c:100", "d:100", flow=flow)
    stream.apart._suspected = frozenset([2, 3])
    assert list((await stream.run()).values()) == [whole(name, 100) for name in "abcd"]


async def test_what_its_consumer_has_not_taken_counts_where_it_goes_on():
    flow = FlowControl(outputs_per_input=8)
    cut = []
    replicas = Replicas(dies=lambda call, _, __: bool(cut) and call < 3)
    stream = Stream(replicas, "a:100", ordered=False, flow=flow)
    stream.apart._suspected = frozenset([1])
    stream.driver.start()
    queue = stream.driver.session.delivery
    await until(lambda: queue.held_outputs == 8)
    for _ in range(4):  # so that it is not parked
        stream._note(stream.driver.outlet.next(1))
    cut.append(True)
    await until(lambda: replicas.deaths == 2 and queue.held_outputs >= 8)
    for _ in range(300):
        await asyncio.sleep(0)
        assert queue.held_outputs == 8
    assert await stream.run() == {1: whole("a", 100)}


@ORDERS
async def test_a_consumer_who_takes_one_by_one_has_each_output_once(ordered):
    flow = FlowControl(outputs_per_input=2, output_items=4, bytes_per_input=12)
    stream = Stream(poisoned(2), "a:9", "poison:9", "b:9", "c:9", ordered=ordered, flow=flow)
    stream.driver.start()
    while not stream.driver.finished:
        await stream.driver.arrived.wait()
        found = stream.driver.outlet.next(1)
        if found is not None:
            stream._note(found)
            stream.driver.arrived.set()
    got = await stream.run()
    assert stream.failed == {2: (ItemErrorKind.POISON, 2)}
    assert [got[1], got[3], got[4]] == [whole(name, 9) for name in "abc"]


async def test_a_server_that_breaks_on_everything_ends_the_stream():
    retry = RetryPolicy(attempts=8, initial=0.0001, maximum=0.0001)
    stream = Stream(Replicas(dies=lambda *_: True), "a:5", "b:5", retry=retry)
    with pytest.raises(RetriesExhaustedError):
        await stream.run()
    assert stream.failed == {}


async def test_a_stream_that_is_left_ends_what_is_tried_apart():
    replicas = poisoned(0)
    stream = Stream(replicas, "poison:5", retry=RetryPolicy(attempts=10**6, initial=0.0001))
    stream.driver.start()
    await until(lambda: stream.apart._trying)
    stream.driver.abandon()
    assert stream.apart._trying == {}
    assert all(driver.finished for driver in stream.harness.drivers)
    await stream.driver.aclose()
    await stream.harness.aclose()
