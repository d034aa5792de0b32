"""What users see of the types: the public surface under two checkers, and how complete it is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
API = HERE / "api.py"
BIN = Path(sys.executable).parent

pytestmark = pytest.mark.timeout(300)


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        # Pyright asks the first Python on the path where packages are.
        env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory from which the package is found as an installed one."""
    (tmp_path / "api.py").write_text(API.read_text())
    return tmp_path


def pyright_on(directory: Path) -> list[str]:
    (directory / "pyrightconfig.json").write_text(
        json.dumps(
            {
                "typeCheckingMode": "strict",
                "enableTypeIgnoreComments": False,  # which are mypy's
                "reportUnnecessaryTypeIgnoreComment": "error",
            }
        )
    )
    done = run(BIN / "pyright", "--outputjson", cwd=directory)
    return [
        f"{each['range']['start']['line'] + 1}: {each['message']}"
        for each in json.loads(done.stdout)["generalDiagnostics"]
    ]


def mypy_on(directory: Path) -> str:
    done = run(
        *(BIN / "mypy", "--strict", "--no-incremental", "--config-file", os.devnull, "api.py"),
        cwd=directory,
    )
    return done.stdout if done.returncode else ""


def test_the_public_surface_under_mypy(outside):
    assert mypy_on(outside) == ""


def test_the_public_surface_under_pyright(outside):
    assert pyright_on(outside) == []


def test_a_wrong_type_is_seen_by_both(outside):
    """That the two tests above can fail."""
    wrong = API.read_text().replace("assert_type(output, int)", "assert_type(output, str)")
    (outside / "api.py").write_text(wrong)
    assert "[assert-type]" in mypy_on(outside)
    assert any("assert_type" in message for message in pyright_on(outside))


def test_everything_that_is_exported_is_exercised():
    import servestream_client
    from servestream_client import server, testing

    text = API.read_text()
    errors = {
        name
        for name in servestream_client.__all__
        if isinstance(getattr(servestream_client, name), type)
        and issubclass(getattr(servestream_client, name), Exception)
    }
    for module in (servestream_client, server, testing):
        for name in set(module.__all__) - errors - {"__version__", "InjectedError", "NetworkFault"}:
            assert name in text, f"{module.__name__}.{name}"


def test_every_public_type_is_complete(tmp_path):
    """As installed, since that is where Pyright looks for ``py.typed``."""
    uv = (sys.executable, "-m", "uv")
    environment = tmp_path / "environment"
    for command in (
        (*uv, "venv", "--quiet", "--python", sys.executable, "--system-site-packages", environment),
        (
            *uv,
            "pip",
            "install",
            "--refresh-package=servestream-client",  # not one that was built before
            "--quiet",
            "--no-deps",
            "--python",
            environment / "bin/python",
            ROOT,
        ),
    ):
        done = run(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    # What the package needs is found where this test runs.
    (site,) = environment.glob("lib/python*/site-packages")
    (own,) = {path for path in map(Path, sys.path) if path.name == "site-packages"}
    needs = ["grpc", "grpc-stubs", "google", "google-stubs", "anyio", "tenacity", "pytest"]
    extras = ["matplotlib", "msgspec", "numpy", "opentelemetry", "rich", "typer"]
    for needed in [*needs, *extras]:
        for folder in (own / needed, own / f"_{needed}"):
            if folder.exists():
                (site / folder.name).symlink_to(folder)
    done = subprocess.run(
        [
            BIN / "pyright",
            "--verifytypes",
            "servestream_client",
            "--ignoreexternal",
            "--outputjson",
        ],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)["typeCompleteness"]
    incomplete = [
        f"{symbol['name']}: {problem['message']}"
        for symbol in report["symbols"]
        if not symbol["isTypeKnown"]
        for problem in symbol["diagnostics"]
        if "docstring" not in problem["message"] and "default value" not in problem["message"]
    ]
    assert report["packageName"] == "servestream_client"
    assert report["exportedSymbolCounts"]["withKnownType"] > 1000
    assert not incomplete, "\n".join(incomplete)
    assert report["completenessScore"] == 1
