"""Several endpoints on real sockets: one that refuses, swallows, says nothing, or is another
application costs its own streams one attempt, and the others nothing.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import pytest
from helpers import until
from ports import reserved_port
from tcp import saying, tcp_server

from servestream_client import (
    Endpoints,
    PredictionStream,
    StreamClient,
    WrongApplicationError,
)
from servestream_client.server import StreamService
from servestream_client.testing import StreamServer

ITEMS = [b"%d" % n for n in range(200)]


class Echo(StreamService[bytes, bytes]):
    """Says where it is."""

    def __init__(self, application: str = "echo") -> None:
        self.application = application
        self.served = 0

    async def predict(self, item: bytes) -> bytes:
        self.served += 1
        return item


@contextmanager
def refusing() -> Iterator[str]:
    """A port where nobody listens, and nobody will."""
    with reserved_port() as port:
        yield f"127.0.0.1:{port}"


@contextmanager
def swallowing() -> Iterator[str]:
    """A port whose queue of connections is full: what comes is dropped."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        place = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(place)
        try:
            yield f"127.0.0.1:{place[1]}"
        finally:
            for filler in fillers:
                filler.close()


@contextmanager
def silent() -> Iterator[str]:
    """It accepts, and says nothing."""
    with tcp_server(saying(None)) as target:
        yield target


BAD = {"refusing": refusing, "swallowing": swallowing, "silent": silent}


async def collect(stream: PredictionStream[bytes]) -> list[bytes]:
    return [output async for output in stream]


@pytest.mark.parametrize("bad", BAD)
async def test_one_that_cannot_be_reached_costs_no_stream_a_thing(
    serve: Callable, bad: str
) -> None:
    with BAD[bad]() as dead:
        alive = await serve(Echo())
        async with StreamClient([dead, alive]) as client:
            streams = [client.stream(ITEMS) for _ in range(10)]
            assert await asyncio.gather(*map(collect, streams)) == [ITEMS] * 10
            for stream in streams:
                statistics = stream.statistics()
                assert (statistics.attempts, statistics.endpoint) == (1, alive)
            assert await client.predict(b"one") == b"one"


async def test_streams_spread_over_endpoints(serve: Callable) -> None:
    services = [Echo() for _ in range(3)]
    targets = [await serve(service) for service in services]
    gate = asyncio.Event()

    async def inputs() -> AsyncIterator[bytes]:
        yield b"first"
        await gate.wait()
        yield b"last"

    async with StreamClient(targets) as client:
        await collect(client.stream(ITEMS))
        endpoints = client._connection.endpoints.endpoints
        await until(lambda: not any(each.unproven or each.live for each in endpoints))
        streams = [client.stream(inputs()) for _ in range(9)]
        tasks = [asyncio.ensure_future(collect(stream)) for stream in streams]
        while any(stream.statistics().received == 0 for stream in streams):
            await asyncio.sleep(0)
        gate.set()
        assert await asyncio.gather(*tasks) == [[b"first", b"last"]] * 9
        places = Counter(stream.statistics().endpoint for stream in streams)
    assert places == dict.fromkeys(targets, 3)


async def test_another_application_is_left_out_and_the_right_one_serves(serve: Callable) -> None:
    other, right = Echo("other"), Echo("echo")
    targets = [await serve(other), await serve(right)]
    async with StreamClient(targets, application="echo") as client:
        streams = [client.stream(ITEMS) for _ in range(10)]
        assert await asyncio.gather(*map(collect, streams)) == [ITEMS] * 10
        before = {stream: stream.statistics().attempts for stream in streams}
        assert {*before.values()} <= {1, 2}
        later = [client.stream(ITEMS) for _ in range(10)]
        assert await asyncio.gather(*map(collect, later)) == [ITEMS] * 10
        assert [stream.statistics().attempts for stream in later] == [1] * 10
    assert other.served == 0


async def test_where_all_are_wrong_the_error_tells_of_each(serve: Callable) -> None:
    targets = [await serve(Echo("other")), await serve(Echo("third"))]
    async with StreamClient(targets, application="echo") as client:
        with pytest.raises(WrongApplicationError) as caught:
            await collect(client.stream(ITEMS))
    for each in (*targets, "'other'", "'third'"):
        assert each in str(caught.value)


async def test_a_stream_goes_on_at_another_when_its_own_dies() -> None:
    with StreamServer(Echo) as first, StreamServer(Echo) as second:
        servers = {first.target: first, second.target: second}
        async with StreamClient([*servers]) as client:
            stream = client.stream(ITEMS)
            found = [await anext(stream)]
            servers.pop(stream.statistics().endpoint).stop()
            found += await collect(stream)
            (left,) = servers
            assert (found, stream.statistics().endpoint) == (ITEMS, left)
            now = asyncio.get_running_loop().time
            endpoints = client._connection.endpoints.endpoints
            await until(lambda: any(each.against(now()) for each in endpoints))
            streams = [client.stream(ITEMS) for _ in range(5)]
            assert await asyncio.gather(*map(collect, streams)) == [ITEMS] * 5
            assert [each.statistics().attempts for each in streams] == [1] * 5


async def test_what_servers_tell_of_is_used(serve: Callable) -> None:
    second = await serve(Echo())

    class Telling(Echo):
        endpoints = (second, "nowhere")

    first = await serve(Telling())
    async with StreamClient(first) as client:
        await collect(client.stream(ITEMS))
        places = set()
        while places != {first, second}:
            stream = client.stream(ITEMS)
            assert await collect(stream) == ITEMS
            places.add(stream.statistics().endpoint)
    async with StreamClient(Endpoints([first], discover=False)) as client:
        for _ in range(20):
            stream = client.stream(ITEMS)
            assert await collect(stream) == ITEMS
            assert stream.statistics().endpoint == first
