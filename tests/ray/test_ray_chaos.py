"""A short run of `make chaos`, on the Ray Serve that the other tests have, too.

`make test-long` has longer ones, with a Ray Serve of their own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from chaos import __main__ as command
from server_fixture.fixture import ServeFixture
from servestream_client.testing.ray_serve import Ingress

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600), pytest.mark.application("chaos")]


class Lent:
    """A Ray Serve that runs already, and goes on."""

    def __init__(self, serve: ServeFixture) -> None:
        self._serve = serve

    def __getattr__(self, name: str) -> Any:
        return getattr(self._serve, name)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


@pytest.mark.parametrize("shared", [Ingress.PROXY], indirect=True)
def test_a_short_run_finds_nothing_and_leaves_nothing(
    serve: ServeFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def lend(applications: Sequence[str], *_: object, **__: object) -> Lent:
        assert set(applications) <= set(serve.applications)
        return Lent(serve)

    monkeypatch.setattr(command, "ServeFixture", lend)
    monkeypatch.setattr(command, "processes_left", lambda _: [])
    arguments = ["--seconds", "20", "--every", "2.5", "--rate", "3000", "--length", "1500"]
    kinds = ["--faults", "kill-replica,stop-replica,cut,deaf,redeploy", "--each-kind"]
    files = ["--json", str(tmp_path / "chaos.json"), "--plot", str(tmp_path / "chaos.png")]
    code = command.main([*arguments, *kinds, *files])
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
