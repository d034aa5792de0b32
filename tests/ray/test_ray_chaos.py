"""A short run on a real Ray Serve."""

import json

import pytest

from chaos.__main__ import main

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


def test_a_short_run_finds_nothing_and_leaves_nothing(tmp_path, capsys):
    arguments = ["--seconds", "20", "--every", "2.5", "--rate", "3000", "--length", "1500"]
    kinds = ["--faults", "kill-replica,stop-replica,cut,deaf,redeploy"]
    files = ["--json", str(tmp_path / "chaos.json"), "--plot", str(tmp_path / "chaos.png")]
    code = main([*arguments, *kinds, *files])
    shown = capsys.readouterr().out
    assert code == 0, shown
    (run,) = json.loads((tmp_path / "chaos.json").read_text())["runs"]
    assert run["violation_counts"] == {}
    assert run["leftovers"] == []
    assert set(run["faults"]) == {"kill-replica", "stop-replica", "cut", "deaf", "redeploy"}
    assert run["totals"]["resumes"] > 0
    assert run["totals"]["items"] > 0
    assert run["totals"]["predictions"] > 0
    assert len(run["totals"]["by_version"]) > 1
    assert (tmp_path / "chaos.png").exists()
