"""The examples that bring a deployment of their own, on a real Ray Serve."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from servestream_client.testing.ray_serve import Ingress, ServeFixture

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest):
    folder, application = request.param
    monkeypatch.syspath_prepend(str(EXAMPLES / folder))
    with ServeFixture([application], Ingress.PROXY) as fixture:
        yield fixture


def run(*command: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    print(done.stderr)
    return done


@pytest.mark.parametrize("serving", [("batching", "service:app")], indirect=True)
def test_a_batch_handler(serving: ServeFixture) -> None:
    done = run(EXAMPLES / "batching" / "client.py", serving.target)
    assert done.stdout.endswith("of 1797 are right\n")
    assert int(done.stdout.split()[0]) > 1600


@pytest.mark.parametrize("serving", [("cluster", "model:app")], indirect=True)
def test_a_deployment_and_the_command_line(serving: ServeFixture) -> None:
    items = '{"image": 7}\n{"image": 99999}\n{"image": 8}\n'
    command = ("-m", "servestream_client.cli", "call", serving.target, "--codec", "json", "-k")
    done = run(*command, stdin=items)
    first, failed, last = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 1
    assert (first["digit"], last["digit"]) == (7, 8)
    assert failed["error"]["kind"] == "handler"
