"""What can be measured, a module for each."""

from __future__ import annotations

from benchmarks.bench import Suite
from benchmarks.suites import (
    batching,
    blocking,
    cuts,
    failover,
    growth,
    idle,
    imports,
    jobs,
    lanes,
    latency,
    memory,
    pause,
    payloads,
    predict,
    scaling,
    stateful,
    streams,
    stubs,
    throughput,
    tokens,
)

SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        throughput.SUITE,
        payloads.SUITE,
        streams.SUITE,
        latency.SUITE,
        predict.SUITE,
        pause.SUITE,
        failover.SUITE,
        lanes.SUITE,
        scaling.SUITE,
        stateful.SUITE,
        tokens.SUITE,
        cuts.SUITE,
        memory.SUITE,
        idle.SUITE,
        growth.SUITE,
        imports.SUITE,
        batching.SUITE,
        blocking.SUITE,
        jobs.SUITE,
        stubs.SUITE,
    )
}
"""In the order in which they run."""
