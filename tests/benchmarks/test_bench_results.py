"""Results are kept, merged, and shown in the document."""

import json
import re
import socket
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import document
from benchmarks.goals import figure
from benchmarks.machine import environment
from benchmarks.plots import PLOTS, draw_all
from benchmarks.results import Measurement, Record, Results, ResultsError, Unit
from benchmarks.suites import SUITES

ROOT = Path(__file__).parents[2]


def record(suite="throughput", mode="plain", values=(2.0, 1.0, 3.0), **more):
    name = {"latency": "stream of one item"}.get(suite, "predict over one item a message")
    one = Record(
        suite=suite, mode=mode, quick=False, date="2026-01-01", environment={"cores": "2"}, **more
    )
    one.measurements.append(Measurement(name=name, values=list(values)))
    return one


def test_what_was_saved_is_loaded(tmp_path):
    one = record(samples={"ours [items/s]": [1.5, 2.5]}, notes=["it rained"])
    one.measurements.append(Measurement(name="growth", unit=Unit.MEBIBYTES, values=[1.0], at=10.0))
    path = tmp_path / "below" / "results.json"
    Results({one.key: one}).save(path)
    assert Results.load(path).records == {one.key: one}
    assert Results.load(path).get("throughput", "plain").get("growth").unit is Unit.MEBIBYTES


def test_a_partial_run_replaces_its_part_and_keeps_the_others(tmp_path):
    path = tmp_path / "results.json"
    earlier = [record(mode="plain"), record(mode="proxy"), record("latency", "plain")]
    Results({each.key: each for each in earlier}).save(path)
    results = Results.load(path)
    results.add(record(mode="plain", values=[9.0]))
    results.save(path)
    after = Results.load(path).records
    assert list(after) == ["latency/plain", "throughput/plain", "throughput/proxy"]
    assert after["throughput/plain"].measurements[0].values == [9.0]
    assert after["throughput/proxy"] == earlier[1]


def test_no_results_yet_are_no_error(tmp_path):
    assert not Results.load(tmp_path / "results.json").records


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "records": [1]}'])
def test_a_file_that_is_no_file_of_results_is_said_to_be_none(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(ResultsError, match=r"results\.json"):
        Results.load(path)


def test_digits_behind_the_noise_are_not_kept(tmp_path):
    path = tmp_path / "results.json"
    Results({"": record(values=[1.23456789012])}).save(path)
    assert json.loads(path.read_text())["records"][0]["measurements"][0]["values"] == [1.23457]


def test_the_machine_has_no_name_and_no_paths():
    said = environment()
    assert {"cpu", "cores", "kernel", "python", "grpcio", "protobuf", "ray"} <= set(said)
    text = " ".join(said.values())
    assert socket.gethostname() not in text
    assert str(ROOT) not in text


TEXT = """before
<!-- table: goals -->
old
<!-- end -->
between
<!-- table: throughput -->
<!-- end -->
<!-- table: latency -->
<!-- end -->
<!-- table: machine -->
old
<!-- end -->
after
"""


def test_the_tables_of_the_document_are_those_of_the_results():
    results = Results({each.key: each for each in (record(), record(mode="proxy", values=[500.0]))})
    text = document.with_tables(TEXT, results, ["throughput", "latency"])
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    times = figure(0.0, Unit.TIMES)[-1]
    rows = [re.sub(rf"[*{times} ]", "", line) for line in text.splitlines() if line.startswith("|")]
    assert "|throughput|predictoveroneitemamessage|noServe|2.00(1.00to3.00)|≥100|missed|" in rows
    assert "|throughput|predictoveroneitemamessage|Serve,proxy|500|≥200|reached|" in rows
    assert "|predictoveroneitemamessage|500|2.00(1.00to3.00)|" in rows
    assert "|cores|2|" in rows
    assert text.count("Not measured yet.") == 1  # latency


def test_tables_written_twice_are_the_same():
    results = Results({each.key: each for each in (record(), record("latency"))})
    suites = ["throughput", "latency"]
    once = document.with_tables(TEXT, results, suites)
    assert document.with_tables(once, results, suites) == once


def test_a_document_without_a_place_for_a_suite_is_refused():
    with pytest.raises(document.DocumentError, match="predict"):
        document.with_tables(TEXT, Results(), ["throughput", "latency", "predict"])


def test_the_document_shows_the_results_that_lie_beside_it():
    text = document.DOCUMENT.read_text()
    results = Results.load(command.OUTPUT / command.RESULTS)
    assert document.with_tables(text, results, list(SUITES)) == text, "make bench BENCH=--replot"
    measured = {each.suite for each in results.records.values()}
    for name in re.findall(r"\]\(benchmarks/(.+?)\.png\)", text):
        assert name in PLOTS
        assert name not in measured or (command.OUTPUT / f"{name}.png").exists()


def test_plots_are_drawn_of_what_there_is(tmp_path):
    one = record()
    assert draw_all(Results({one.key: one}), tmp_path) == ["throughput.png"]
    assert (tmp_path / "throughput.png").read_bytes().startswith(b"\x89PNG")
