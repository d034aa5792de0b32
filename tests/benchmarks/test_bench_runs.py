"""A very short run, end to end; and what ends badly."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks import other_build
from benchmarks.__main__ import main
from benchmarks.background import Beginning, in_background
from benchmarks.bench import Bench, Settings
from benchmarks.measure import MeasurementError
from benchmarks.results import Record
from benchmarks.servers import Mode, ServerError, running
from benchmarks.suites import SUITES, against, throughput

ROOT = Path(__file__).parents[2]


def test_a_short_run_measures_saves_draws_and_leaves_no_process(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.__main__.Settings", short)
    before = set(psutil.Process().children(recursive=True))
    arguments = ["--only", "throughput", "--modes", "plain", "--quick", "--output", str(tmp_path)]
    assert main(arguments) == 0
    (one,) = json.loads((tmp_path / "results.json").read_text())["records"]
    assert (one["suite"], one["mode"], one["quick"]) == ("throughput", "plain", True)
    figures = {each["name"]: each["values"] for each in one["measurements"]}
    ratios = {f"{ours} over {raw}" for ours in throughput.OURS for raw in throughput.RAW}
    assert {name for name in figures if not name.startswith("CPU of the ")} == ratios
    assert all(len(values) == 2 for values in figures.values())
    assert all(min(figures[name]) > 0 for name in ratios)
    assert {f"CPU of the {role}, predict" for role in ("client", "replica")} <= set(figures)
    sampled = {name.partition(" [")[0] for name in one["samples"]}
    assert {*throughput.OURS, "one item a message", "64 by hand, pulled"} <= sampled
    assert (tmp_path / "throughput.png").exists()
    assert "predict over 256 by hand" in capsys.readouterr().out
    # Other tests' servers may come and go beside it.
    assert not set(psutil.Process().children(recursive=True)) - before


def short(**_):
    return Settings(rounds=2, seconds=0.02, quick=True)


def test_a_server_that_does_not_start_is_reported_with_its_log():
    with (
        pytest.raises(ServerError, match="no_such_service"),
        running(Mode.PLAIN, ["no_such_service"]),
    ):
        pass


def test_two_builds_run_side_by_side_each_with_its_own_server(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.__main__.Settings", short)
    monkeypatch.setattr(against, "WAYS", ["one stream, 100 B"])
    there = tmp_path / "checkout"
    shutil.copytree(ROOT / "servestream_client", there / "servestream_client")
    ours = ["--modes", "plain", "--output", str(tmp_path / "out")]
    assert main(["--against", str(there), *ours]) == 0, capsys.readouterr().out
    (one,) = json.loads((tmp_path / "out" / "results.json").read_text())["records"]
    (figure,) = one["measurements"]
    assert (figure["name"], len(figure["values"])) == ("one stream, 100 B", 2)
    assert one["samples"].keys() >= {
        f"one stream, 100 B, {which} [items/s]" for which in (against.HERE, against.THERE)
    }


def test_a_client_of_the_wrong_build_is_noticed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.__main__.Settings", short)
    monkeypatch.setattr(other_build, "environment", dict)
    there = tmp_path / "checkout"
    shutil.copytree(ROOT / "servestream_client", there / "servestream_client")
    ours = ["--modes", "plain", "--output", str(tmp_path / "out")]
    assert main(["--against", str(there), *ours]) == 1
    assert "client and server were to import" in " ".join(capsys.readouterr().out.split())


def test_a_place_without_the_package_is_refused_in_words(tmp_path, capsys):
    assert main(["--against", str(tmp_path), "--modes", "plain"]) == 1
    assert "give a checkout of this project" in " ".join(capsys.readouterr().out.split())


async def test_a_suite_that_fails_says_why():
    with running(Mode.PLAIN, ["echo"]) as servers:
        one = Record(suite="pause", mode="plain", quick=True, date="", environment={})
        with pytest.raises(MeasurementError, match="replicas"):
            await SUITES["pause"].run(Bench(servers, Settings(), one))


async def test_what_fails_is_measured_again_and_noted():
    one = Record(suite="streams", mode="plain", quick=True, date="", environment={})
    bench = Bench(NotImplemented, Settings(rounds=1), one)
    failures = [MeasurementError("too slow"), MeasurementError("too slow")]

    async def way():
        if failures:
            raise failures.pop()
        return 1.0

    assert await bench.alternate({"raw": way}, unit="items/s", where="500 streams") == {
        "raw": [1.0]
    }
    assert one.samples == {"500 streams, raw [items/s]": [1.0]}
    assert one.notes == ["500 streams, raw: too slow; measured again"] * 2


async def test_what_fails_again_and_again_is_given_up():
    one = Record(suite="streams", mode="plain", quick=True, date="", environment={})

    async def way():
        raise MeasurementError("too slow")

    with pytest.raises(MeasurementError, match="too slow"):
        await Bench(NotImplemented, Settings(), one).alternate({"raw": way}, unit="s")


async def test_endless_work_that_ends_is_an_error_and_what_is_left_is_cancelled():
    beginning = Beginning(2)
    ended = []

    async def endless():
        beginning.has_begun()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def ending():
        beginning.has_begun()
        await asyncio.sleep(0)
        raise OSError("gone")

    with pytest.raises(MeasurementError, match=r"1 of 2 streams ended, .* OSError: gone"):
        async with in_background([endless(), ending()], beginning, "streams"):
            await asyncio.sleep(0.01)
    assert ended


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
        psutil.Process(server).wait(timeout=60)


def test_a_run_that_is_told_to_end_ends_in_order(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "--only", "throughput", "--modes", "plain"]
    run = subprocess.Popen(
        [*command, "--output", str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        text=True,
    )
    lines = iter(run.stdout.readline, "")
    assert any("(1 of 1)" in line for line in lines)
    servers = psutil.Process(run.pid).children(recursive=True)
    assert servers
    run.send_signal(signal.SIGTERM)
    assert any("interrupted" in line for line in lines)
    assert run.wait(timeout=60) == 130
    run.stdout.close()
    psutil.wait_procs(servers, timeout=60)
    assert not [server for server in servers if server.is_running()]


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
