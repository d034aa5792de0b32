"""What the demo does to a job, with a command that goes exactly as far as it is told."""

import os
import random
import sys

import pytest

from servestream_client.demo.restarts import (
    JobReport,
    JobTrial,
    Run,
    Shot,
    Victim,
    inputs_for,
    shots,
)

SIZE, RESULTS = 4, 100
EXPECTED = b"".join(b"%03d\n" % number for number in range(RESULTS))

JOB = """
import os, pathlib, signal, sys

output, pid, steps = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3].split(",")
pid.write_text(str(os.getpid()))
assert os.environ["STEPS"] == sys.argv[3] and os.environ["PATH"]
there = output.stat().st_size // 4 if output.exists() else 0
if there:
    print(f"resuming after {there:,} items", file=sys.stderr, flush=True)
until = next((int(step) for step in steps if int(step) > there), None)
with output.open("ab") as file:
    file.write(b"".join(b"%03d\\n" % number for number in range(there, until or 100)))
while until:
    signal.pause()
"""
"""Goes on to the next of its steps, and waits there to be killed; behind the last it ends."""


class Told:
    """Makes trials, and has what came of them."""

    def __init__(self, directory) -> None:
        self.output = directory / "out"
        self.pid = directory / "pid"
        self.lines: list[str] = []
        self.progress: list[int] = []

    def trial(self, *planned: Shot, steps="10", job=JOB, expected=EXPECTED, kill=None) -> JobTrial:
        return JobTrial(
            [sys.executable, "-c", job, str(self.output), str(self.pid), steps],
            self.output,
            size=SIZE,
            expected=expected,
            planned=planned,
            kill_replica=kill or (lambda: ("abc", 4711)),
            tell=self.lines.append,
            progress=self.progress.append,
            environment={"STEPS": steps},
        )


@pytest.fixture
def told(tmp_path) -> Told:
    return Told(tmp_path)


def client(after: int) -> Shot:
    return Shot(victim=Victim.CLIENT, after=after)


def replica(after: int) -> Shot:
    return Shot(victim=Victim.REPLICA, after=after)


def test_a_job_is_killed_where_it_was_planned_and_goes_on(told):
    planned = client(5), replica(20), client(20), client(60)
    report = told.trial(*planned, steps="10,30,60").run()
    assert report.problems() == []
    assert (report.inputs, report.kills, report.replicas) == (RESULTS, 3, [4711])
    assert report.kept == [10, 30, 60]
    assert [run.written for run in report.runs] == [10, 30, 60, RESULTS]
    assert len({run.pid for run in report.runs}) == 4
    assert told.output.read_bytes() == EXPECTED
    first, second, third, fourth, last = told.lines
    assert f"the client (process {report.runs[0].pid}): begun at 0, killed at 10" in first
    assert "replica abc (process 4711): the client is at 30" in second
    assert "begun at 10, killed at 30" in third
    assert "begun at 30, killed at 60" in fourth
    assert last == "resuming after 60 items"
    assert told.progress[:3] == [10, 30, 60]


def test_no_run_is_killed_for_what_an_earlier_one_has_written(told):
    report = told.trial(client(5), client(6), steps="10,30").run()
    assert report.problems() == []
    assert report.kept == [10, 30]


def test_a_job_that_ends_before_its_kills_is_a_problem(told):
    report = told.trial(client(5), replica(200), client(300), steps="10").run()
    assert report.identical
    assert report.problems() == [
        "only 1 of 2 kills of a client while the job ran",
        "only 0 of 1 kills of a replica while the job ran",
    ]


def test_an_output_that_differs_is_a_problem(told):
    report = told.trial(expected=EXPECTED[:-1] + b"x", steps="0").run()
    assert report.problems() == ["the job's output differs from offline"]


def test_a_job_that_fails_is_not_run_again(told):
    report = told.trial(client(5), job="raise SystemExit('nobody is there')").run()
    assert len(report.runs) == 1
    assert report.problems()[0] == "the job ended with 1: nobody is there"


def test_restarts_that_keep_nothing_are_a_problem():
    def report(*kept: int) -> JobReport:
        runs = [Run(pid=1, kept=each, written=9, code=-9, said="") for each in kept]
        runs.append(Run(pid=1, kept=kept[-1], written=9, code=0, said=""))
        return JobReport(inputs=9, runs=runs, replicas=[], planned=[], identical=True, seconds=1.0)

    assert report(0, 0, 3).problems() == []  # before the first record, it is what there is
    assert report(0, 0, 0).problems() == ["restarts of the job kept 0, 0, 0 results"]
    assert report(0, 5, 3).problems() == ["restarts of the job kept 5, 3, 3 results"]


def test_no_process_is_left_where_the_demo_fails(told):
    def kill() -> tuple[str, int]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        told.trial(replica(5), kill=kill).run()
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.pid.read_text()), 0)


def test_kills_are_spread_and_a_function_of_the_seed():
    orders = set()
    for seed in range(50):
        found = shots(random.Random(seed), inputs=1000, clients=3, replicas=1)
        assert found == shots(random.Random(seed), inputs=1000, clients=3, replicas=1)
        assert [(shot.after - 1) // 125 for shot in found] == [0, 1, 2, 3]
        victims = tuple(shot.victim for shot in found)
        assert victims.count(Victim.CLIENT) == 3
        orders.add(victims)
    assert len(orders) == 4
    with pytest.raises(ValueError, match="do not fit"):
        shots(random.Random(1), inputs=4, clients=3, replicas=1)


@pytest.mark.parametrize(
    ("inputs", "seconds", "pauses", "expected"),
    [
        (1800, 48.0, 18.0, 900),  # a slow machine
        (1800, 10.0, 4.0, 3000),  # a fast one
        (1800, 8.0, 12.0, 4500),
        (20, 2.0, 1.0, 1800),
    ],
)
def test_a_job_is_as_long_as_the_machine_is_fast(inputs, seconds, pauses, expected):
    assert inputs_for(inputs=inputs, seconds=seconds, pauses=pauses) == expected
