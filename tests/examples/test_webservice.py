"""The downstream project's own tests, in an environment of its own with the package installed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "examples" / "webservice"


def run(*command: object, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{' '.join(map(str, command))}:\n{done.stdout}", pytrace=False)
    return done.stdout


def pins() -> str:
    """The versions that this checkout was tested with."""
    lock = (ROOT / "requirements" / "dev.txt").read_text()
    return "\n".join(re.findall(r"^([a-z0-9].*?==.*?) *\\?$", lock, re.MULTILINE))


@pytest.mark.timeout(300)  # it installs
def test_a_project_that_installs_the_package_tests_itself(tmp_path):
    uv = (sys.executable, "-m", "uv")
    wheels = tmp_path / "wheels"
    run(*uv, "build", "--quiet", "--wheel", "--out-dir", wheels, ROOT, cwd=tmp_path)
    (wheel,) = wheels.glob("servestream_client-*.whl")
    environment = tmp_path / "environment"
    python = environment / "bin" / "python"
    run(*uv, "venv", "--quiet", "--python", sys.executable, environment, cwd=tmp_path)
    (tmp_path / "pins.txt").write_text(pins())
    project = tmp_path / "webservice"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
    install = (*uv, "pip", "install", "--quiet", "--python", python, "-c", tmp_path / "pins.txt")
    run(*install, wheel, f"{project}[test]", cwd=tmp_path)

    own = "import servestream_client as s, digits_web as d; print(s.__file__, d.__file__)"
    for path in run(python, "-I", "-c", own, cwd=tmp_path).split():
        assert path.startswith(str(environment)), "it uses what is installed"
    shutil.rmtree(project / "digits_web")
    result = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=project)
    assert re.search(r"^\d+ passed", result, re.MULTILINE), result
    assert "failed" not in result
    assert "skipped" not in result
