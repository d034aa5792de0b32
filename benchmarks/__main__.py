"""The command line."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TypeVar

from benchmarks import document
from benchmarks.bench import Settings
from benchmarks.results import Results, ResultsError
from benchmarks.runner import run
from benchmarks.servers import Mode
from benchmarks.suites import SUITES
from benchmarks.terminal import Terminal

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "docs" / "benchmarks"
QUICK_OUTPUT = ROOT / "build" / "benchmarks"
RESULTS = "results.json"

_EPILOG = """\
examples:
  python -m benchmarks                                    everything; the better part of an hour
  python -m benchmarks --quick --modes plain              an idea of it, without Ray
  python -m benchmarks --only throughput,latency --modes proxy,haproxy
  python -m benchmarks --replot                           plots and tables of what is there

Nearly every figure is a ratio of this client to a raw generated gRPC stub, on the same deployment
and in the same run. Results of other suites and modes in the output directory are kept.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for. Returns the process's exit code."""
    options = _parser().parse_args(arguments)
    terminal = Terminal()
    if options.list:
        terminal.suites(list(SUITES.values()))
        return 0
    output = options.output or (QUICK_OUTPUT if options.quick else OUTPUT)
    try:
        results = Results.load(output / RESULTS)
        failures = [] if options.replot else _run(options, results, output, terminal)
        _publish(results, output, terminal)
    except KeyboardInterrupt:
        terminal.line("interrupted; every server has been ended, what was measured is kept")
        return 130
    except (ResultsError, document.DocumentError) as error:
        terminal.problem(str(error))
        return 1
    records = (results.get(suite, mode) for suite in options.only for mode in options.modes)
    terminal.summary([record for record in records if record is not None])
    for failure in failures:
        terminal.problem(failure)
    return 1 if failures else 0


def _run(
    options: argparse.Namespace, results: Results, output: Path, terminal: Terminal
) -> list[str]:
    settings = Settings(
        rounds=options.rounds or (3 if options.quick else 5),
        seconds=0.5 if options.quick else 1.5,
        quick=options.quick,
    )
    suites = [SUITES[name] for name in options.only]
    return run(suites, options.modes, settings, results, terminal=terminal, path=output / RESULTS)


def _publish(results: Results, output: Path, terminal: Terminal) -> None:
    # Not at the top: matplotlib's many objects would slow every garbage collection of a run.
    from benchmarks.plots import draw_all  # noqa: PLC0415

    drawn = draw_all(results, output)
    if output.resolve() == OUTPUT:
        document.write(results, list(SUITES))
    terminal.line(f"{RESULTS} and {len(drawn)} plots are in {output}")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM ends it in order, as Ctrl-C does."""
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure the client against a raw gRPC stub.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--modes",
        type=_several(list(Mode)),
        default=list(Mode),
        metavar="MODE,...",
        help=f"of {', '.join(Mode)} (default: all)",
    )
    parser.add_argument(
        "--only",
        type=_several(list(SUITES)),
        default=list(SUITES),
        metavar="SUITE,...",
        help="the suites to run; --list tells which there are (default: all)",
    )
    parser.add_argument(
        "--rounds",
        type=_positive,
        metavar="N",
        help="in which the contenders take turns (default: 5; 3 if quick)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer and shorter rounds, for trying; not to publish"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where results and plots go (default: docs/benchmarks, whose results also go into"
        " docs/benchmarks.md; build/benchmarks if quick)",
    )
    parser.add_argument(
        "--replot", action="store_true", help="measure nothing, only draw and write what is there"
    )
    parser.add_argument("--list", action="store_true", help="say which suites there are")
    return parser


def _several(known: Sequence[T]) -> Callable[[str], list[T]]:
    def parse(text: str) -> list[T]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            raise argparse.ArgumentTypeError(
                f"of {', '.join(map(str, known))}, with commas between, not {text!r}"
            )
        return [each for each in known if each in names]

    return parse


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text!r}")
    return int(text)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(main())
