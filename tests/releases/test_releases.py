"""A client of one release, a server of the other: docs/policy.md.

The release before is taken from the repository's history; where that is not there (an archive, a
shallow clone), nothing is said.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PEER = Path(__file__).with_name("peer.py")

BEFORE = "62ca2127f953932c57f6d14f102744967b78c945"
"""0.1.0."""

MANY = 500


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release before, as a folder to import it from."""
    archive = subprocess.run(
        ["git", "archive", BEFORE, "servestream_client"], cwd=ROOT, capture_output=True, check=False
    )
    if archive.returncode:
        pytest.skip("the history of the repository is not here")
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


def run(release: Path, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, PEER, *arguments],
        env=_environment(release),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def serving(release: Path, how: str = "serve") -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, PEER, how],
        env=_environment(release),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            assert process.wait(30) == 0


def _environment(release: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(release)}


def check(found: dict[str, object], client: Path) -> None:
    assert str(found.pop("from")).startswith(str(client))
    assert found == {
        "ordered": True,
        "resumes": 1,
        "large": True,
        "huge": True,
        "unordered": True,
        "predict": True,
        "errors": ["A", "ValueError: a bad item", "C"],
        "blocking": True,
    }


def test_the_release_before_calls_this_one(before: Path) -> None:
    with serving(ROOT) as target:
        check(run(before, "call", target), before)


def test_this_one_calls_the_release_before(before: Path) -> None:
    with serving(before) as target:
        found = run(ROOT, "call", target)
    assert found.pop("generate") is True
    check(found, ROOT)


def test_the_release_before_has_all_outputs_of_an_input(before: Path) -> None:
    with serving(ROOT, "serve-many") as target:
        assert run(before, "call-many", target) == [f"{number}" for number in range(MANY)]
