"""A very short run, end to end; and what ends badly."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.__main__ import main
from benchmarks.bench import Bench, Settings
from benchmarks.measure import MeasurementError
from benchmarks.results import Record
from benchmarks.servers import Mode, ServerError, running
from benchmarks.suites import SUITES, throughput

ROOT = Path(__file__).parents[2]


def test_a_short_run_measures_saves_draws_and_leaves_no_process(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.__main__.Settings", short)
    before = set(psutil.Process().children(recursive=True))
    arguments = ["--only", "throughput", "--modes", "plain", "--quick", "--output", str(tmp_path)]
    assert main(arguments) == 0
    (one,) = json.loads((tmp_path / "results.json").read_text())["records"]
    assert (one["suite"], one["mode"], one["quick"]) == ("throughput", "plain", True)
    figures = {each["name"]: each["values"] for each in one["measurements"]}
    assert set(figures) == {
        f"{ours} over {raw}" for ours in throughput.OURS for raw in throughput.RAW
    }
    assert all(len(values) == 2 and min(values) > 0 for values in figures.values())
    assert {name.partition(" [")[0] for name in one["samples"]} == {
        *throughput.OURS,
        *throughput.RAW,
    }
    assert (tmp_path / "throughput.png").exists()
    assert "predict over 256 by hand" in capsys.readouterr().out
    assert set(psutil.Process().children(recursive=True)) == before


def short(**_):
    return Settings(rounds=2, seconds=0.02, quick=True)


def test_a_server_that_does_not_start_is_reported_with_its_log():
    with (
        pytest.raises(ServerError, match="no_such_service"),
        running(Mode.PLAIN, ["no_such_service"]),
    ):
        pass


async def test_a_suite_that_fails_says_why():
    with running(Mode.PLAIN, ["echo"]) as servers:
        one = Record(suite="pause", mode="plain", quick=True, date="", environment={})
        with pytest.raises(MeasurementError, match="replicas"):
            await SUITES["pause"].run(Bench(servers, Settings(), one))


def test_a_plain_server_ends_with_whoever_started_it():
    script = (
        "import sys, os\n"
        "from benchmarks.servers import PlainServers\n"
        "servers = PlainServers()\n"
        "servers.require('echo')\n"
        "print(servers.carriers()[0].pid, flush=True)\n"
        "os._exit(9)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=False, env=environment, text=True
    )
    assert run.returncode == 9
    server = int(run.stdout)
    if psutil.pid_exists(server):
        psutil.Process(server).wait(timeout=10)


@pytest.mark.parametrize(
    "arguments", [["--only", "nothing"], ["--modes", ""], ["--rounds", "0"], ["--rounds", "some"]]
)
def test_wrong_arguments_are_refused_before_anything_starts(arguments, capsys):
    with pytest.raises(SystemExit) as refusal:
        main(arguments)
    assert refusal.value.code == 2
    assert "python -m benchmarks" in capsys.readouterr().err


def test_the_list_names_every_suite(capsys):
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in SUITES)
