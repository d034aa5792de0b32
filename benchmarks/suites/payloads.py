"""One stream of items from 10 bytes to 2 MB."""

from __future__ import annotations

from benchmarks.bench import Bench, Suite
from benchmarks.contenders import batches, contender, one_message, ours
from benchmarks.services import LARGE_FLOW

SIZES = {"10 B": 10, "1 kB": 1_000, "100 kB": 100_000, "2 MB": 2_000_000}
SMALL = 1_000
"""Up to here, batching by hand is compared as well."""
LARGE = 2_000_000
"""From here on, both ends get windows for several items."""


async def run(bench: Bench) -> None:
    """Size by size, against one item a message; small ones also against batches by hand."""
    for name, size in SIZES.items():
        item = bytes(size)
        application, flow = ("echo_large", LARGE_FLOW) if size >= LARGE else ("echo", None)
        async with (
            bench.servers.client(application, flow=flow) as client,
            bench.servers.raw(application) as raw,
        ):
            contenders = [
                contender("one item a message", one_message(raw), item),
                contender("ours", ours(client), item),
            ]
            if size <= SMALL:
                contenders.append(contender("256 by hand", batches(raw, 256), item, least=256))
            rates = await bench.rates(contenders, where=name)
        bench.compare(name, rates["ours"], rates["one item a message"], at=size)
        if size <= SMALL:
            bench.compare(f"{name}, over 256 by hand", rates["ours"], rates["256 by hand"])


SUITE = Suite(
    name="payloads",
    about="one stream of items of 10 B, 1 kB, 100 kB and 2 MB",
    run=run,
    applications=("echo", "echo_large"),
)
