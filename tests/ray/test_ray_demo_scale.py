"""The demo of a deployment that scales, as a user runs it."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.timeout(900)]


def test_the_demo_of_scaling(tmp_path):
    plot = tmp_path / "scale.png"
    command = Path(sys.executable).with_name("servestream")
    done = subprocess.run(
        [command, "demo-scale", "--seconds", "120", "--plot", plot],
        capture_output=True,
        text=True,
        timeout=880,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "work went where the replicas are" in done.stdout
    assert plot.stat().st_size > 10_000
