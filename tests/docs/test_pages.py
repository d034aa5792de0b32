"""What the pages show is run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from inner_pytest import OPTIONS

from servestream_client.server import StreamService
from servestream_client.testing import StreamServer

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    "README.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
]


RAY = (
    "ray_stream_server",
    "import ray",
    "ServeFixture",
    "serve.run",
    "from words import",
    "example.com",
)
"""Of blocks that need more than the server here: Ray (tests/ray), or a name that is not theirs."""


class Upper(StreamService[bytes, bytes]):
    application = "upper"

    def predict(self, item: bytes) -> bytes:
        return item.upper()


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def cases(kind: str) -> list:
    """The blocks of one kind; the rest is for Ray (tests/ray), or is no program of its own."""
    found = []
    for page in PAGES:
        for number, block in enumerate(blocks(page), start=1):
            if any(word in block for word in RAY) or "import" not in block:
                continue
            if (kind == "tests") == ("def test_" in block):
                found.append(pytest.param(block, id=f"{page}-{number}"))
    return found


@pytest.mark.parametrize("block", cases("scripts"))
def test_scripts_run(block, tmp_path):
    # Ray's own warnings are Ray's.
    with StreamServer(Upper) as server:
        script = tmp_path / "script.py"
        script.write_text(block.replace("127.0.0.1:9000", server.target))
        done = subprocess.run(
            [sys.executable, *(() if "ray" in block else ("-W", "error")), script],
            env={**os.environ, "SERVESTREAM_TARGET": server.target},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
    # gRPC's own log lines say that a server went away, which it did.
    errors = [line for line in done.stderr.splitlines() if not re.match(r"[IW]\d{4} ", line)]
    assert (done.returncode, errors) == (0, [])


@pytest.mark.parametrize("block", cases("tests"))
def test_tests_pass(block, pytester):
    pytester.makepyfile(block)
    result = pytester.runpytest_subprocess(*OPTIONS, "-Werror::ResourceWarning")
    result.assert_outcomes(passed=block.count("def test_"))


def test_every_kind_was_found():
    assert len(cases("scripts")) >= 6
    assert len(cases("tests")) >= 4


def test_no_merge_was_left_half_done():
    texts = [*PAGES, *(path.name for path in ROOT.glob("*.md"))]
    texts += [str(path.relative_to(ROOT)) for path in (ROOT / "protos").rglob("*.proto")]
    for name in texts:
        marks = re.findall(r"^(?:<{7}|={7}|>{7})(?: .*)?$", (ROOT / name).read_text(), re.MULTILINE)
        assert marks == [], name


def test_fixtures_and_faults_are_all_described():
    import _servestream_pytest as plugin
    from servestream_client.testing import FaultKind

    page = (ROOT / "docs" / "pytest.md").read_text()
    public = [name for name in vars(plugin) if "stream" in name and name.islower()]
    for name in public:
        if not name.startswith("_"):
            assert f"`{name}`" in page, name
    for kind in FaultKind:
        assert re.search(rf"\b{kind.name}\b", page), kind


def test_every_failure_names_a_test_that_is_there():
    page = (ROOT / "docs" / "failures.md").read_text()
    named = re.findall(r"`([a-z_]+/test_\w+\.py)(?:::(\w+))?`", page)
    assert len(named) > 25
    for module, test in named:
        assert f"def {test or 'test_'}" in (ROOT / "tests" / module).read_text(), (module, test)
