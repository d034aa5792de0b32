"""Regenerate the protobuf code from the protos, or check that it is current.

`servestream_client/wire/stream_pb2*` comes from `protos/`, `benchmarks/wire/raw_pb2*` from
`benchmarks/protos/`.

The generator is old on purpose: what grpcio-tools 1.62.3 generates loads on every protobuf from
4.25 to 7, and newer generators refuse older runtimes (docs/decisions/0002). It runs in a
throw-away environment of its own, since it needs a protobuf that the project must not be tied to.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")
TOOLS = ("grpcio-tools==1.62.3", "mypy-protobuf==3.6.0", "setuptools<81")


class Proto(NamedTuple):
    """A proto file and the package that its code belongs into.

    Attributes:
        directory: where the file lies.
        package: where its code goes to; both relative to the root.
        name: the file's, without its suffix.
    """

    directory: Path
    package: Path
    name: str

    def generated(self) -> Iterator[Path]:
        """The four files, relative to the root."""
        return (self.package / f"{self.name}{suffix}" for suffix in SUFFIXES)


PROTOS = (
    Proto(Path("protos/servestream/v1"), Path("servestream_client/wire"), "stream"),
    Proto(Path("benchmarks/protos/servestream/bench/v1"), Path("benchmarks/wire"), "raw"),
)


def generate(into: Path) -> None:
    """Write the generated files below `into`."""
    uv = [sys.executable, "-m", "uv", "run", "--quiet", "--no-project", "--isolated"]
    uv += ["--python", ">=3.11,<3.13"]
    for tool in TOOLS:
        uv += ["--with", tool]
    # The virtual paths give the generated modules their places in their packages.
    command = [
        *uv,
        *("python", "-m", "grpc_tools.protoc"),
        *(f"-I{proto.package}={ROOT / proto.directory}" for proto in PROTOS),
        *(f"--{kind}_out={into}" for kind in ("python", "grpc_python")),
        *(f"--{kind}_out=quiet:{into}" for kind in ("mypy", "mypy_grpc")),
        *(str(proto.package / f"{proto.name}.proto") for proto in PROTOS),
    ]
    subprocess.run(command, check=True)
    for proto in PROTOS:
        stub = into / proto.package / f"{proto.name}_pb2_grpc.pyi"
        stub.write_text(_with_arguments(stub.read_text()))


def _with_arguments(stub: str) -> str:
    """A stub with the type arguments that the generator is too old to know of."""
    bare = "grpc.aio.ServicerContext):"
    return stub.replace(bare, "grpc.aio.ServicerContext[typing.Any, typing.Any]):")


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
            path
            for proto in PROTOS
            for path in proto.generated()
            if not (ROOT / path).exists()
            or (Path(fresh) / path).read_bytes() != (ROOT / path).read_bytes()
        ]
    if stale:
        print(f"out of date: {', '.join(map(str, stale))}; run `make protos`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
