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
__import__(sys.argv[1])
print(time.perf_counter() - start, len(sys.modules) - before)
"""


async def _import(module: str) -> tuple[float, float]:
    """Seconds, and modules that came along."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-c", _SCRIPT, module, str(_ROOT)),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise MeasurementError(f"{module} cannot be imported")
    seconds, modules = output.split()
    return float(seconds), float(modules)


async def run(bench: Bench) -> None:
    """Time and modules."""
    modules: dict[str, list[float]] = {"grpc.aio": [], "servestream_client": []}

    def importing(module: str) -> Way:
        async def once() -> float:
            taken = [await _import(module) for _ in range(REPEATS)]
            modules[module].append(taken[0][1])
            return statistics.median(seconds for seconds, _ in taken)

        return once

    times = await bench.alternate({name: importing(name) for name in modules}, unit="s")
    bench.sampled(modules, unit="modules")
    bench.compare("time", times["servestream_client"], times["grpc.aio"])
    bench.compare("modules", modules["servestream_client"], modules["grpc.aio"])


SUITE = Suite(
    name="import",
    about="importing servestream_client over importing grpc.aio alone",
    run=run,
    modes=(Mode.PLAIN,),
    applications=(),
)
