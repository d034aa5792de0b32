"""Pin every dependency of development and tests, with hashes, for all supported Pythons.

The result is `requirements/*.txt`, which any installer reads. It names versions and hashes and no
addresses, so that it holds behind mirrors and private indexes alike (docs/decisions/0004).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

COMMON = (
    *("--universal", "--python-version", "3.11", "--generate-hashes", "--upgrade", "--quiet"),
    *("--no-emit-index-url", "--no-emit-find-links", "--no-annotate"),
    *("--custom-compile-command", "make lock"),
)


def compile_requirements(source: list[str], name: str, *, given: str | None = None) -> None:
    command = [sys.executable, "-m", "uv", "pip", "compile", *COMMON, *source]
    command += ["--output-file", f"requirements/{name}.txt"]
    subprocess.run(command, check=True, cwd=ROOT, input=given, text=True)


def main() -> None:
    (ROOT / "requirements").mkdir(exist_ok=True)
    compile_requirements(["-"], "uv", given="uv\n")
    compile_requirements(
        ["pyproject.toml", "--group", "dev", "--no-emit-package", "servestream-client"], "dev"
    )


if __name__ == "__main__":
    main()
