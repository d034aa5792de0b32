"""`stream(numbered=True)`: every output says to what it belongs, whatever handler and order."""

import pytest
from helpers import collect

from servestream_client import (
    BytesCodec,
    FlowControl,
    ItemError,
    ItemErrorKind,
    NoOutput,
    Numbered,
    RetryPolicy,
)
from servestream_client.server import Replay, StreamService
from servestream_client.testing import Fault, FaultKind, StreamServer

QUICK = RetryPolicy(initial=0.001, maximum=0.01)


def outputs_of(item: bytes) -> list[bytes]:
    """What the services with many outputs give: as many as the item says."""
    return [b"%s.%d" % (item, index) for index in range(int(item) % 7)]


def fails(item: bytes) -> bool:
    return int(item) % 10 == 9


class Awaiting(StreamService[bytes, bytes]):
    async def predict(self, item):
        if fails(item):
            raise ValueError("no")
        return item


class Threaded(StreamService[bytes, bytes]):
    def predict(self, item):
        if fails(item):
            raise ValueError("no")
        return item


class Batched(StreamService[bytes, bytes]):
    def predict_batch(self, items):
        if any(map(fails, items)):
            raise ValueError("no")
        return items


class Generating(StreamService[bytes, bytes]):
    replay = Replay.SEEK

    async def generate(self, item, resume):
        for output in outputs_of(item)[resume.index :]:
            yield output
        if fails(item):
            raise ValueError("no")


class GeneratingInThreads(StreamService[bytes, bytes]):
    replay = Replay.SEEK

    def generate(self, item, resume):
        yield from outputs_of(item)[resume.index :]
        if fails(item):
            raise ValueError("no")


ONE_EACH = [Awaiting, Threaded, Batched]
ALL = [*ONE_EACH, Generating, GeneratingInThreads]

every_service = pytest.mark.parametrize("service", ALL, ids=lambda service: service.__name__)
both_orders = pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])


def items(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(1, count + 1)]


def answer(service: type, item: bytes) -> list[bytes]:
    return [item] if service in ONE_EACH else outputs_of(item)


def by_input(results: list) -> dict[int, list]:
    found: dict[int, list] = {}
    for each in results:
        found.setdefault(each.number, []).append(each)
    return found


def check(service: type, results: list, count: int, *, ordered: bool) -> None:
    """Each input's outputs once and in order, and then its end, or its failure."""
    found = by_input(results)
    assert sorted(found) == list(range(1, count + 1))
    if ordered:
        assert [each.number for each in results] == sorted(each.number for each in results)
    for number, ends in found.items():
        item, last = b"%d" % number, ends[-1]
        if isinstance(last, ItemError):
            assert fails(item)
            expected = [] if service in ONE_EACH else outputs_of(item)
            assert last.index == len(expected)
            ends.pop()
        else:
            assert not fails(item)
            expected = answer(service, item)
            assert last.last
            if last.output is None:
                assert last.index == len(expected)
                ends.pop()
        assert all(isinstance(each, Numbered) for each in ends)
        assert [each.output for each in ends] == expected
        assert [each.index for each in ends] == list(range(len(expected)))
        assert not any(each.last for each in ends[:-1])


@every_service
@both_orders
async def test_every_kind_of_service_in_both_orders(serve, connect, service, ordered):
    async with connect(await serve(service())) as client:
        stream = client.stream(items(100), numbered=True, ordered=ordered, return_exceptions=True)
        results = await collect(stream)
    check(service, results, 100, ordered=ordered)


@pytest.mark.parametrize("service", [Awaiting, Generating], ids=["one", "many"])
@both_orders
async def test_numbers_go_on_over_the_deaths_of_replicas(connect, service, ordered):
    with StreamServer(service) as server:
        faults = [Fault(kind, at) for kind, at in ((FaultKind.KILL, 31), (FaultKind.CLOSE, 76))]
        server.add_faults(*faults)
        async with connect(server.target, retry=QUICK) as client:
            stream = client.stream(
                items(100), numbered=True, ordered=ordered, return_exceptions=True
            )
            results = await collect(stream)
        assert len(server.fired) == 2
    check(service, results, 100, ordered=ordered)


async def test_ends_without_an_output_show_with_numbers_only(serve, connect):
    async with connect(await serve(Generating())) as client:
        assert await collect(client.stream([b"7", b"14"])) == []
        results = await collect(client.stream([b"7", b"14"], numbered=True))
    assert results == [NoOutput(1, 0, None, last=True), NoOutput(2, 0, None, last=True)]


@pytest.mark.parametrize("service", [Awaiting, Generating], ids=["one", "many"])
async def test_an_input_that_fails_is_raised_behind_its_outputs(serve, connect, service):
    seen = []
    async with connect(await serve(service())) as client:
        stream = client.stream([b"8", b"9", b"10"], numbered=True)
        with pytest.raises(ItemError) as caught:
            async for each in stream:
                seen.append(each)
    assert caught.value.number == 2
    assert caught.value.index == (0 if service is Awaiting else 2)
    assert [each.number for each in seen if each.output] == (
        [1] if service is Awaiting else [1, 2, 2]
    )


class Picky(BytesCodec):
    """Cannot decode the second output of any input, nor encode what is empty."""

    def encode_input(self, item, /):
        if not item:
            raise ValueError("empty")
        return item

    def decode_output(self, payload, /):
        if payload.endswith(b".1"):
            raise ValueError("no such word")
        return payload.decode()


@both_orders
async def test_failures_on_this_side_have_their_place_too(serve, connect, ordered):
    target = await serve(Generating())
    flow = FlowControl(max_item_bytes=100)
    async with connect(target, codec=Picky(), flow=flow) as client:
        stream = client.stream(
            [b"3", b"", b"4", b"1" * 101, b"2"],
            numbered=True,
            ordered=ordered,
            return_exceptions=True,
        )
        found = by_input(await collect(stream))
    decoded, encoded, again, large, last = (found[number] for number in range(1, 6))
    assert [type(each) for each in decoded[:3]] == [Numbered, type(decoded[1]), Numbered]
    assert (decoded[1].kind, decoded[1].index) == (ItemErrorKind.OUTPUT_DECODE, 1)
    assert [decoded[0].output, decoded[2].output] == ["3.0", "3.2"]
    assert [each.kind for each in encoded] == [ItemErrorKind.INPUT_ENCODE]
    assert [each.kind for each in large] == [ItemErrorKind.INPUT_TOO_LARGE]
    assert again[1].kind is last[1].kind is ItemErrorKind.OUTPUT_DECODE
