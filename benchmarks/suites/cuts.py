"""The time from a cut to the next token, beyond what a raw stub needs that reconnects at once.

The replica that makes a generation's tokens is killed with SIGKILL; there is another one.
"""

from __future__ import annotations

from benchmarks.bench import Bench, Suite
from benchmarks.measure import MeasurementError, Way
from benchmarks.results import Measurement, Unit
from benchmarks.servers import Mode, ServeServers
from benchmarks.suites.pause import settle
from benchmarks.tokens.cut import pause, reconnecting
from benchmarks.tokens.readers import Read, ours

APPLICATION = "tokens_twice"
"""With two replicas."""


async def run(bench: Bench) -> None:
    """Kill by kill."""
    servers = bench.servers
    if not isinstance(servers, ServeServers):
        raise MeasurementError("only Serve starts a replica again")
    fixture = servers.fixture
    async with servers.client(APPLICATION) as client, servers.raw(APPLICATION) as connection:

        def killing(read: Read) -> Way:
            async def once() -> float:
                await settle(fixture, APPLICATION)
                return await pause(read)

            return once

        ways = {"raw": killing(reconnecting(connection)), "ours": killing(ours(client))}
        pauses = await bench.alternate(ways, unit="s", where="cut")
    beyond = [1000 * (ours - raw) for ours, raw in zip(pauses["ours"], pauses["raw"], strict=True)]
    name = "from the cut to the next token, beyond raw"
    bench.measured(Measurement(name=name, unit=Unit.MILLISECONDS, values=beyond))


SUITE = Suite(
    name="cuts",
    about="from a replica's death to the next token, against a raw stub that reconnects",
    run=run,
    modes=(Mode.PROXY, Mode.HAPROXY),
    applications=(APPLICATION,),
)
