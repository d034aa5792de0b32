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
    """A directory from which the package is found as an installed one. Beside the file that is to
    be right it has one that is wrong in one place: so what checks them can fail.
    """
    text = API.read_text()
    (tmp_path / "api.py").write_text(text)
    wrong = text.replace("assert_type(output, int)", "assert_type(output, str)", 1)
    assert wrong != text
    (tmp_path / "wrong.py").write_text(wrong)
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
        f"{Path(each['file']).name}:{each['range']['start']['line'] + 1}: {each['message']}"
        for each in json.loads(done.stdout)["generalDiagnostics"]
    ]


def mypy_on(directory: Path) -> list[str]:
    options = ("--strict", "--no-incremental", "--no-error-summary", "--config-file", os.devnull)
    done = run(BIN / "mypy", *options, "api.py", "wrong.py", cwd=directory)
    return done.stdout.splitlines()


def test_the_public_surface_under_mypy(outside):
    (error,) = mypy_on(outside)
    assert error.startswith("wrong.py:")
    assert error.endswith("[assert-type]")


def test_the_public_surface_under_pyright(outside):
    (error,) = pyright_on(outside)
    assert error.startswith("wrong.py:")
    assert "assert_type" in error


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
