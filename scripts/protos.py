"""Regenerate `servestream_client/wire/stream_pb2*` from `protos/`, or check that they are current.

The generator is old on purpose: what grpcio-tools 1.62.3 generates loads on every protobuf from
4.25 to 7, and newer generators refuse older runtimes (docs/decisions/0002). It runs in a
throw-away environment of its own, since it needs a protobuf that the project must not be tied to.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos" / "servestream" / "v1"
PACKAGE = Path("servestream_client/wire")
NAMES = ("stream_pb2.py", "stream_pb2.pyi", "stream_pb2_grpc.py", "stream_pb2_grpc.pyi")
TOOLS = ("grpcio-tools==1.62.3", "mypy-protobuf==3.6.0", "setuptools<81")


def generate(into: Path) -> None:
    """Write the four generated files below `into`."""
    uv = [sys.executable, "-m", "uv", "run", "--quiet", "--no-project", "--isolated"]
    uv += ["--python", ">=3.11,<3.13"]
    for tool in TOOLS:
        uv += ["--with", tool]
    # The virtual path gives the generated modules their place in the package.
    command = [
        *uv,
        *("python", "-m", "grpc_tools.protoc", f"-I{PACKAGE}={PROTOS}"),
        *(f"--{kind}_out={into}" for kind in ("python", "grpc_python")),
        *(f"--{kind}_out=quiet:{into}" for kind in ("mypy", "mypy_grpc")),
        str(PACKAGE / "stream.proto"),
    ]
    subprocess.run(command, check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail if out of date")
    arguments = parser.parse_args()
    if not arguments.check:
        generate(ROOT)
        return 0
    with tempfile.TemporaryDirectory() as fresh:
        generate(Path(fresh))
        stale = [
            name
            for name in NAMES
            if (Path(fresh) / PACKAGE / name).read_bytes() != (ROOT / PACKAGE / name).read_bytes()
        ]
    if stale:
        print(f"out of date: {', '.join(stale)}; run `make protos`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
