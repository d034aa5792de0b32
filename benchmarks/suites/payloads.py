"""One stream of items from 10 bytes to 2 MB."""

from __future__ import annotations

from benchmarks.bench import Bench, Suite
from benchmarks.contenders import best_by_hand, by_hand, contender, one_message, ours
from benchmarks.services import LARGE_FLOW

SIZES = {"10 B": 10, "1 kB": 1_000, "10 kB": 10_000, "100 kB": 100_000, "2 MB": 2_000_000}
BY_HAND = {"10 B": 256, "1 kB": 256, "10 kB": 25}
"""How many small ones an expert would put into a message."""
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
            count = BY_HAND.get(name)
            if count:
                contenders += by_hand(raw, count, item)
            hands = tuple(each.name for each in contenders if "by hand" in each.name)
            rates = await bench.rates(contenders, where=name, cpu=("ours", *hands) if hands else ())
        bench.compare(name, rates["ours"], rates["one item a message"], at=size)
        if count:
            best = best_by_hand(rates, count)
            bench.compare(f"{name}, over {count} by hand", rates["ours"], best)


SUITE = Suite(
    name="payloads",
    about="one stream of items of 10 B, 1 kB, 10 kB, 100 kB and 2 MB",
    run=run,
    applications=("echo", "echo_large"),
)
