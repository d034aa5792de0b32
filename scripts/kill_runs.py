"""Many streams in a row against one Ray Serve, with replicas killed in each of them.

    python scripts/kill_runs.py --runs 20 --inputs 2000 --kills 3 --ingress proxy --seed 1

Prints a line for each run and a summary. Exits with 0 only if no input was lost, duplicated, out
of order or answered differently than offline in any run.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import secrets
import sys
from collections.abc import Sequence

from server_fixture.fixture import FixtureError, ServeFixture
from servestream_client import StreamClient, StreamError
from servestream_client.demo.model import DigitsCodec, Image, Prediction, digits
from servestream_client.demo.trial import Report, Trial, answers_offline, kill_places
from servestream_client.testing.ray_serve.cluster import Ingress, members


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    seed = options.seed if options.seed is not None else secrets.randbelow(1_000_000)
    print(f"seed {seed}, ingress {options.ingress}", flush=True)
    every = list(digits()[0])
    images = [every[place % len(every)] for place in range(options.inputs)]
    offline = answers_offline(images)
    rng = random.Random(seed)  # noqa: S311
    fixture = ServeFixture(("digits",), options.ingress, on_phase=lambda text: print(f"{text} ..."))
    reports: list[Report] = []
    failures: list[str] = []
    try:
        with fixture:
            for run in range(1, options.runs + 1):
                places = kill_places(rng, inputs=len(images), kills=options.kills)
                fixture.wait_for_replicas()
                try:
                    report = asyncio.run(_run(fixture, images, offline, places))
                except (FixtureError, StreamError) as error:
                    failures.append(f"run {run}: {type(error).__name__}: {error}")
                    print(failures[-1], flush=True)
                    continue
                reports.append(report)
                failures += [f"run {run}: {problem}" for problem in report.problems()]
                print(f"run {run:>3}: {_line(report)}", flush=True)
    except KeyboardInterrupt:
        print("interrupted; everything that was started has been ended")
        return 130
    failures += [f"process {process.pid} is left" for process in members(fixture.id)]
    return _summary(reports, failures, options.runs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=20, metavar="N", help="default: 20")
    parser.add_argument(
        "--inputs", type=int, default=2000, metavar="N", help="of each run (default: 2000)"
    )
    parser.add_argument(
        "--kills", type=int, default=3, metavar="N", help="in each run (default: 3)"
    )
    parser.add_argument(
        "--ingress",
        type=Ingress,
        choices=list(Ingress),
        default=Ingress.PROXY,
        help="Serve's own proxy (default), or HAProxy",
    )
    parser.add_argument(
        "--seed", type=int, default=None, help="decides where to kill (default: a random one)"
    )
    return parser


async def _run(
    fixture: ServeFixture,
    images: Sequence[Image],
    offline: Sequence[Prediction],
    places: Sequence[int],
) -> Report:
    trial = Trial(images, offline, places=places, kill=fixture.kill_replica)
    async with StreamClient(fixture.target, application="digits", codec=DigitsCodec()) as client:
        return await trial.run(client)


def _line(report: Report) -> str:
    counts = report.tally
    return (
        f"{report.predictions}/{report.inputs} answers, lost {counts.lost}, duplicated"
        f" {counts.duplicated}, foreign {counts.foreign}, out of order {counts.out_of_order},"
        f" differing {counts.differing}; killed after"
        f" {', '.join(str(kill.after) for kill in report.kills)}; resumes"
        f" {report.statistics.resumes}, replayed {report.statistics.replayed}, longest pause"
        f" {report.longest_pause:.2f} s, {report.seconds:.1f} s"
    )


def _summary(reports: Sequence[Report], failures: Sequence[str], runs: int) -> int:
    tallies = [report.tally for report in reports]
    print(
        f"\n{len(reports)} of {runs} runs completed:"
        f" {sum(report.predictions for report in reports)} answers to"
        f" {sum(report.inputs for report in reports)} inputs,"
        f" lost {sum(each.lost for each in tallies)},"
        f" duplicated {sum(each.duplicated for each in tallies)},"
        f" foreign {sum(each.foreign for each in tallies)},"
        f" out of order {sum(each.out_of_order for each in tallies)},"
        f" differing {sum(each.differing for each in tallies)};"
        f" kills {sum(len(report.kills) for report in reports)},"
        f" resumes {sum(report.statistics.resumes for report in reports)},"
        f" longest pause {max((report.longest_pause for report in reports), default=0.0):.2f} s"
    )
    for failure in failures:
        print(f"wrong: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
