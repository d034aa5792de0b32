"""Plans, pauses, reports and command lines: what needs no server."""

import json
import random
import subprocess
import sys
from dataclasses import replace
from itertools import islice

import pytest
from rich.console import Console

from chaos import nodes
from chaos.__main__ import asked
from chaos.checker import Violations
from chaos.faults import Kind, kinds_for, plan
from chaos.nemesis import Fired
from chaos.network import why_not
from chaos.pauses import Pauses, quantiles
from chaos.plot import draw
from chaos.report import Report, save
from chaos.streams import Totals
from chaos.terminal import Terminal
from servestream_client.testing.ray_serve import Ingress


def a_report(violations=None):
    pauses = Pauses()
    pauses.note(1, 0.0, 0.3)
    pauses.fault(1.0, Kind.KILL_REPLICA)
    pauses.note(1, 0.9, 1.9)
    pauses.note(2, 1.2, 1.25)
    pauses.fault(2.0, Kind.CUT)
    pauses.note(1, 0.4, 2.4)
    found = violations or Violations()
    return Report(
        name="proxy",
        seed=5,
        seconds=3.0,
        watchdog=False,
        totals=Totals(streams=2, items=300, by_pid={1: 100, 2: 200}, by_version={1: 300}),
        fired=[Fired(Kind.KILL_REPLICA, 1.0, "process 7"), Fired(Kind.CUT, 2.0, "1 connections")],
        skipped={},
        deployments_failed=[],
        pauses=pauses.overall(),
        pauses_after=pauses.after(),
        calls=quantiles([0.1, 0.2]),
        notable=pauses.notable,
        timeline=[(0.0, 0), (1.0, 100), (3.0, 300)],
        violation_counts=dict(found.counts),
        violations=found.details,
        leftovers=[],
    )


def test_pauses_are_due_to_the_fault_before_them():
    report = a_report()
    assert report.pauses.count == 4
    assert set(report.pauses_after) == {"no fault yet", "kill-replica", "cut"} - {"cut"}
    killed = report.pauses_after["kill-replica"]
    assert (killed.count, round(killed.max, 3)) == (2, 1.0)
    # This one had begun before either.
    assert round(report.pauses_after["no fault yet"].max, 3) == 2.0


def test_quantiles():
    values = quantiles(number / 100 for number in range(101))
    assert (values.count, values.p50, values.p90, values.p99, values.max) == (
        101,
        0.5,
        0.9,
        0.99,
        1.0,
    )
    assert quantiles([]).count == 0


def test_a_report_adds_up_and_is_saved_and_drawn(tmp_path):
    report = a_report()
    assert report.good
    assert (report.kills, report.rate) == (1, 100.0)
    save([report], tmp_path / "chaos.json", options={"seed": 5})
    saved = json.loads((tmp_path / "chaos.json").read_text())
    (run,) = saved["runs"]
    assert run["faults"] == {"kill-replica": 1, "cut": 1}
    assert sum(run["totals"]["by_pid"].values()) == run["totals"]["items"] == 300
    assert run["good"] is True
    draw([report, report], tmp_path / "chaos.png")
    assert (tmp_path / "chaos.png").stat().st_size > 10_000


def test_a_violation_or_something_left_is_not_good():
    violations = Violations()
    violations.add("lost", "stream 1", "input 7 of 9", state={"driver.finished": "False"})
    assert not a_report(violations).good
    assert not replace(a_report(), leftovers=["process 9"]).good


def test_what_is_shown_names_every_violation(capsys):
    violations = Violations()
    violations.add("hung", "stream 1", "no progress", state={"driver.finished": "False"})
    report = replace(a_report(violations), leftovers=["process 9"])
    Terminal(Console(highlight=False, width=120)).report(report)
    shown = capsys.readouterr().out
    for text in ("hung: stream 1: no progress", "driver.finished = False", "left: process 9"):
        assert text in shown


def test_a_plan_follows_from_its_seed_and_has_every_kind_soon():
    kinds = kinds_for(Ingress.HAPROXY)
    assert kinds == list(Kind)
    first, again = (
        list(islice(plan(kinds, every=5.0, rng=random.Random(9)), 60)) for _ in range(2)
    )
    assert first == again
    assert {fault.kind for fault in first[: len(kinds)]} == set(Kind)
    assert all(2.0 <= fault.wait <= 8.0 for fault in first)


def test_the_default_proxy_has_no_haproxy_to_kill():
    assert Kind.KILL_HAPROXY not in kinds_for(Ingress.PROXY)
    assert kinds_for(Ingress.PROXY, [Kind.CUT, Kind.KILL_HAPROXY]) == [Kind.CUT]


def test_the_command_line_names_unknown_faults(capsys):
    with pytest.raises(SystemExit):
        asked().parse_args(["--faults", "kill-everything"])
    assert "kill-replica" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        nodes.asked().parse_args(["--scenarios", "flood"])
    assert "partition" in capsys.readouterr().err


def test_two_nodes_without_root_are_skipped_and_say_so(monkeypatch, capsys):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda _: "/sbin/ip")
    assert nodes.main([]) == nodes.SKIPPED
    assert capsys.readouterr().out == "skipped: network namespaces need root\n"


def test_two_nodes_without_ip_are_skipped_and_say_so():
    command = [sys.executable, "-m", "chaos.nodes"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PATH": "", "PYTHONPATH": "."}
    )
    assert done.returncode == nodes.SKIPPED
    assert "skipped: there is no `ip` command" in done.stdout


def test_namespaces_that_are_forbidden_are_named(monkeypatch, tmp_path):
    command = tmp_path / "ip"
    command.write_text("#!/bin/sh\necho 'Operation not permitted' >&2\nexit 1\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert "not allowed here" in why_not()
    assert "Operation not permitted" in why_not()
