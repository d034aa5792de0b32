"""The command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from benchmarks import document, other_build
from benchmarks.bench import Settings, Suite
from benchmarks.results import Results, ResultsError
from benchmarks.runner import run
from benchmarks.servers import Mode
from benchmarks.suites import SUITES, against
from benchmarks.terminal import Terminal
from command_line import interrupt_on_sigterm, parser, positive, several

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "docs" / "benchmarks"
QUICK_OUTPUT = ROOT / "build" / "benchmarks"
AGAINST_OUTPUT = ROOT / "build" / "against"
RESULTS = "results.json"

_EPILOG = """\
examples:
  python -m benchmarks                                    everything; the better part of an hour
  python -m benchmarks --quick --modes plain              an idea of it, without Ray
  python -m benchmarks --only throughput,latency --modes proxy,haproxy
  python -m benchmarks --replot                           plots and tables of what is there
  python -m benchmarks --against ../before --modes plain  this build over that of a checkout

Nearly every figure is a ratio of this client to a raw generated gRPC stub, on the same deployment
and in the same run. Results of other suites and modes in the output directory are kept.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for. Returns the process's exit code."""
    options = _parser().parse_args(arguments)
    # Each once, and in their own order.
    options.modes = [mode for mode in Mode if mode in options.modes]
    suites = [SUITES[name] for name in SUITES if name in options.only]
    if options.against is not None:
        suites = [against.suite(options.against)]
    terminal = Terminal()
    if options.list:
        terminal.suites(list(SUITES.values()))
        return 0
    output = options.output or (
        AGAINST_OUTPUT if options.against is not None else QUICK_OUTPUT if options.quick else OUTPUT
    )
    try:
        results = Results.load(output / RESULTS)
        failures = [] if options.replot else _run(suites, options, results, output, terminal)
        _publish(results, output, terminal)
    except KeyboardInterrupt:
        terminal.line("interrupted; every server has been ended, what was measured is kept")
        return 130
    except (ResultsError, document.DocumentError, other_build.BuildError) as error:
        terminal.problem(str(error))
        return 1
    records = (results.get(suite.name, mode) for suite in suites for mode in options.modes)
    terminal.summary([record for record in records if record is not None])
    for failure in failures:
        terminal.problem(failure)
    return 1 if failures else 0


def _run(
    suites: Sequence[Suite],
    options: argparse.Namespace,
    results: Results,
    output: Path,
    terminal: Terminal,
) -> list[str]:
    settings = Settings(
        rounds=options.rounds or (3 if options.quick else 5),
        seconds=0.5 if options.quick else 1.5,
        quick=options.quick,
    )
    build = nullcontext() if options.against is None else other_build.offered(options.against)
    path = (output / RESULTS).resolve()
    with build:
        return run(suites, options.modes, settings, results, terminal=terminal, path=path)


def _publish(results: Results, output: Path, terminal: Terminal) -> None:
    # Not at the top: matplotlib's many objects would slow every garbage collection of a run.
    from benchmarks.plots import draw_all  # noqa: PLC0415

    drawn = draw_all(results, output)
    if output.resolve() == OUTPUT:
        document.write(results, list(SUITES))
    terminal.line(f"{RESULTS} and {len(drawn)} plots are in {output}")


def _parser() -> argparse.ArgumentParser:
    made = parser("benchmarks", "Measure the client against a raw gRPC stub.", _EPILOG)
    made.add_argument(
        "--modes",
        type=several(list(Mode)),
        default=list(Mode),
        metavar="MODE,...",
        help=f"of {', '.join(Mode)} (default: all)",
    )
    made.add_argument(
        "--only",
        type=several(list(SUITES)),
        default=list(SUITES),
        metavar="SUITE,...",
        help="the suites to run; --list tells which there are (default: all)",
    )
    made.add_argument(
        "--rounds",
        type=positive,
        metavar="N",
        help="in which the contenders take turns (default: 5; 3 if quick)",
    )
    made.add_argument(
        "--quick", action="store_true", help="fewer and shorter rounds, for trying; not to publish"
    )
    made.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where results and plots go (default: docs/benchmarks, whose results also go into"
        " docs/benchmarks.md; build/benchmarks if quick)",
    )
    made.add_argument(
        "--against",
        type=Path,
        metavar="PATH",
        help="measure this build beside that of another checkout, in the place of all suites:"
        " above 1 this one is faster (results: build/against)",
    )
    made.add_argument(
        "--replot", action="store_true", help="measure nothing, only draw and write what is there"
    )
    made.add_argument("--list", action="store_true", help="say which suites there are")
    return made


if __name__ == "__main__":
    interrupt_on_sigterm()
    sys.exit(main())
