"""Many streams, one outage: all of them finish, and nobody storms the server."""

import asyncio

import grpc.aio
import pytest
from faces import only_async
from faulty import FaultyEcho
from ports import reserved_port

from servestream_client import RetryPolicy, StreamTimeoutError
from servestream_client.server import GRPC_SERVER_OPTIONS, StreamService, add_to_server
from servestream_client.server.admission import Refuse
from servestream_client.testing.faults import Fault, FaultKind

pytestmark = pytest.mark.timeout(300)

STREAMS = 500


class Outage:
    """A server that goes and comes back on the same port."""

    def __init__(self, service: StreamService, port: int) -> None:
        self.service = service
        self.port = port
        self.server: grpc.aio.Server | None = None

    async def begin(self) -> None:
        self.server = grpc.aio.server(options=GRPC_SERVER_OPTIONS)
        add_to_server(self.service, self.server)
        self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self.server.start()

    async def end(self) -> None:
        if self.server is not None:
            await self.server.stop(None)


@only_async
async def test_500_streams_come_back_after_one_outage(plan, connect):
    with reserved_port() as port:
        await come_back(Outage(FaultyEcho(plan), port), connect)


async def come_back(outage, connect):
    await outage.begin()
    gate = asyncio.Event()
    begun = 0

    async def inputs():
        nonlocal begun
        yield b"before"
        begun += 1
        await gate.wait()
        yield b"after"

    async with connect(f"127.0.0.1:{outage.port}") as client:
        streams = [client.stream(inputs()) for _ in range(STREAMS)]
        firsts = await asyncio.gather(*(anext(stream) for stream in streams))
        assert firsts == [b"before"] * STREAMS
        await outage.end()
        gate.set()
        rests = [asyncio.ensure_future(anext(stream)) for stream in streams]
        breaker = streams[0]._driver.endpoints.endpoints[0].breaker
        async with asyncio.timeout(60):
            while breaker._failures < 6:
                await asyncio.sleep(0)
        await outage.begin()
        assert await asyncio.gather(*rests) == [b"after"] * STREAMS
        attempts = sum(stream.statistics().attempts for stream in streams)
        await outage.end()
    # One to begin with and one to come back, for each; and the probes. A slow machine may break
    # some of those that come back. If each stream had probed, there would be six for each.
    assert 2 * STREAMS <= attempts <= 3 * STREAMS


async def test_an_overall_deadline_crosses_attempts(serve, connect, plan):
    """Each attempt fails at once, and asks for patience; the stream's time runs on."""

    class Busy(FaultyEcho):
        async def admit(self, request):
            raise Refuse("busy", retry_after=0.05)

    async with connect(await serve(Busy(plan))) as client:
        with pytest.raises(StreamTimeoutError) as caught:
            async for _ in client.stream([b"x"], timeout=3):
                pass
        assert caught.value.attempts > 1


async def test_a_stream_that_waits_for_a_place_says_so(listen, connect):
    """As behind Ray Serve's max_ongoing_requests: the call is there, and nobody answers."""

    async def never(requests, context):
        await asyncio.Event().wait()
        yield

    retry = RetryPolicy(open_timeout=0.2, attempts=2, connect_attempts=2, connect_timeout=0)
    async with connect(await listen(never), retry=retry) as client:
        with pytest.raises(Exception, match="max_ongoing_requests"):
            async for _ in client.stream([b"x"]):
                pass


async def test_refusals_of_many_streams_are_kept_apart(client, plan):
    plan.add(*(Fault(FaultKind.REFUSE, attempt, seconds=0.01) for attempt in (1, 2, 3)))
    streams = [client.stream([b"1", b"2"]) for _ in range(20)]
    for stream in streams:
        assert [output async for output in stream] == [b"1", b"2"]
