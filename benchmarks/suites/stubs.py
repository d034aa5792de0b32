"""A resumed call of a stub of one's own beside the stub itself, on one server-streaming RPC."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.bench import Bench, Suite
from benchmarks.measure import Contender, MeasurementError
from benchmarks.servers import RawConnection
from benchmarks.tokens.plan import Plan
from benchmarks.wire import raw_pb2 as pb
from benchmarks.wire import raw_pb2_grpc
from servestream_client.resume import ResumableClient

APPLICATION = "echo"


class _Counted:
    """A position by the number of replies, as a service's own would be."""

    def __init__(self) -> None:
        self._plan: Plan | None = None
        self._came = 0

    def observe(self, reply: pb.TokensResponse) -> Sequence[pb.TokensResponse]:
        self._came += 1
        return (reply,)

    def request(self, first: pb.TokensRequest) -> pb.TokensRequest | None:
        self._plan = Plan.unpack(first.payload)
        if self._came >= self._plan.length:
            return None
        return pb.TokensRequest(payload=self._plan._replace(start=self._came).pack())

    def complete(self) -> bool:
        return self._plan is not None and self._came >= self._plan.length


def _request(items: int) -> pb.TokensRequest:
    return pb.TokensRequest(payload=Plan(items).pack())


def bare(raw: RawConnection) -> Contender:
    """The stub itself."""

    async def run(items: int) -> None:
        came = 0
        async for _ in raw.stub.Tokens(_request(items), metadata=raw.metadata):
            came += 1
        if came != items:
            raise MeasurementError(f"{came} of {items} replies came")

    return Contender("the stub", run)


def resumed(client: ResumableClient[raw_pb2_grpc.RawServiceStub]) -> Contender:
    """The same, resumed."""

    async def run(items: int) -> None:
        came = 0
        async for _ in client.call(lambda stub: stub.Tokens, _request(items), _Counted):
            came += 1
        if came != items:
            raise MeasurementError(f"{came} of {items} replies came")

    return Contender("resumed", run)


async def run(bench: Bench) -> None:
    """Replies of 30 bytes, as fast as they come."""
    target = bench.servers.require(APPLICATION)
    async with (
        RawConnection(target, APPLICATION) as raw,
        ResumableClient(
            target,
            raw_pb2_grpc.RawServiceStub,
            application=APPLICATION,
        ) as client,
    ):
        rates = await bench.rates([bare(raw), resumed(client)])
    bench.compare("replies of one call", rates["resumed"], rates["the stub"])


SUITE = Suite(
    name="stubs",
    about="a resumed call of a stub of one's own over the stub alone",
    run=run,
    applications=(APPLICATION,),
)
