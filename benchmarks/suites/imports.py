"""What importing the client costs, over what importing `grpc.aio` alone does."""

from __future__ import annotations

import asyncio
import statistics
import sys
from pathlib import Path

from benchmarks.bench import Bench, Suite
from benchmarks.measure import MeasurementError, Way
from benchmarks.servers import Mode

REPEATS = 5
"""Imports in a round; each in a process of its own."""

_ROOT = Path(__file__).resolve().parents[2]
_SCRIPT = """
import sys, time
sys.path.insert(0, sys.argv[2])
before, start = len(sys.modules), time.perf_counter()
exec(sys.argv[1])
print(time.perf_counter() - start, len(sys.modules) - before)
"""


_RAW = "import grpc.aio"
_OURS = {
    "": "import servestream_client",
    "StreamClient: ": "from servestream_client import StreamClient",
    "servestream_client.server: ": "import servestream_client.server",
}


async def _import(statement: str) -> tuple[float, float]:
    """Seconds, and modules that came along."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-c", _SCRIPT, statement, str(_ROOT)),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise MeasurementError(f"this fails: {statement}")
    seconds, modules = output.split()
    return float(seconds), float(modules)


async def run(bench: Bench) -> None:
    """Time and modules."""
    modules: dict[str, list[float]] = {each: [] for each in (_RAW, *_OURS.values())}

    def importing(statement: str) -> Way:
        async def once() -> float:
            taken = [await _import(statement) for _ in range(REPEATS)]
            modules[statement].append(taken[0][1])
            return statistics.median(seconds for seconds, _ in taken)

        return once

    times = await bench.alternate({each: importing(each) for each in modules}, unit="s")
    bench.sampled(modules, unit="modules")
    for what, statement in _OURS.items():
        bench.compare(f"{what}time", times[statement], times[_RAW])
        bench.compare(f"{what}modules", modules[statement], modules[_RAW])


SUITE = Suite(
    name="import",
    about="importing the package, its client and its server's side, over importing grpc.aio alone",
    run=run,
    modes=(Mode.PLAIN,),
    applications=(),
)
