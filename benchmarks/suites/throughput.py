"""One stream of 100-byte items: how many in a second."""

from __future__ import annotations

from benchmarks.bench import Bench, Suite
from benchmarks.contenders import best_by_hand, by_hand, contender, one_message, ours

ITEM = bytes(range(100))

OURS = ("predict", "predict_batch")
RAW = ("one item a message", "64 by hand", "256 by hand")


async def run(bench: Bench) -> None:
    """Ours with either handler against the raw stub, batched by hand or not."""
    servers = bench.servers
    async with (
        servers.client("echo") as single,
        servers.client("echo_batch") as batch,
        servers.raw("echo") as raw,
    ):
        rates = await bench.rates(
            [
                contender("one item a message", one_message(raw), ITEM),
                contender("predict", ours(single), ITEM),
                *by_hand(raw, 64, ITEM),
                contender("predict_batch", ours(batch), ITEM),
                *by_hand(raw, 256, ITEM),
            ],
            cpu=("predict", "256 by hand, written", "256 by hand, pulled"),
        )
    for size in (64, 256):
        rates[f"{size} by hand"] = best_by_hand(rates, size)
    for mine in OURS:
        for theirs in RAW:
            bench.compare(f"{mine} over {theirs}", rates[mine], rates[theirs])


SUITE = Suite(
    name="throughput",
    about="one stream of 100-byte items against raw streams, batched by hand or not",
    run=run,
    applications=("echo", "echo_batch"),
)
